/* How fast this machine reads memory, and what a call of the pool takes: for the bench alone.
 *
 * The readers are the yardstick of the kernels: they touch every byte once and do nothing else.
 * Threads are started here, meet at a barrier, and are timed from the first that leaves it to the
 * last that is done, so that starting them costs nothing.
 */
#ifndef APX_READERS_H
#define APX_READERS_H

#include "apx.h"

typedef enum apx_reader {
    APX_READ_PLAIN = 0,   /* vector loads in address order, the CPU's own prefetchers alone */
    APX_READ_PREFETCH = 1 /* several places at once, each with software prefetch */
} apx_reader;

typedef struct apx_read_options {
    int32_t reader;         /* apx_reader */
    int32_t num_threads;
    const int32_t *cpus;    /* [num_threads], to pin them to; NULL: not pinned */
    int64_t distance_bytes; /* APX_READ_PREFETCH: how far ahead; it may run past the memory */
    int32_t num_streams;    /* APX_READ_PREFETCH: places that a thread reads in turn */
} apx_read_options;

/* Reads equal whole pages per thread and stream; *bytes_read says how many bytes that were. */
APX_API apx_status apx_read_memory(const void *memory, int64_t num_bytes,
                                   const apx_read_options *options, double *seconds,
                                   int64_t *bytes_read);
/* The vectors in use: "avx512", "avx2" or "portable". */
APX_API const char *apx_reader_vectors(void);

typedef struct apx_call_plan {
    apx_pool *pool;                    /* NULL: apx_run_inline on the calling thread */
    const apx_submission *submissions; /* [num_submissions], taken in turn from the first */
    int64_t num_submissions;
    int64_t num_calls;
    int64_t pause_ns;                  /* slept before each call; workers sleep meanwhile too */
    const apx_submission *warm_up;     /* run before each call, not timed: wakes workers; or NULL */
    int64_t first;                     /* index of the first submission to take */
} apx_call_plan;

/* Submits and waits num_calls times; seconds[num_calls] are those of each call alone. */
APX_API apx_status apx_time_calls(const apx_call_plan *plan, double *seconds);
/* Submits `background` (deferred) and, until it is done, `urgent` (in-layer) again and again.
 * *num_calls: in, how many seconds[] has room for; out, how many calls fell into that time. */
APX_API apx_status apx_time_urgent(apx_pool *pool, const apx_submission *background,
                                   const apx_submission *urgent, double *seconds,
                                   int64_t *num_calls);

/* Reads num_streams * stream_bytes (whole pages each), a page of every stream in turn, and folds
 * them into one number that depends on all of them. distance 0: no software prefetch. */
enum { APX_READ_PAGE = 4096 };
typedef uint64_t (*apx_read_function)(const uint8_t *memory, int64_t stream_bytes,
                                      int32_t num_streams, int64_t distance_bytes);

/* NULL where this build has no such level. */
apx_read_function apx_read_function_avx2(void);
apx_read_function apx_read_function_avx512(void);

double apx_seconds_now(void);
#endif
