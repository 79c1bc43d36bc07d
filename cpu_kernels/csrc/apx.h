/* Paged decode attention on the CPU: the public C interface.
 *
 * A plain shared library. It never prints, never exits, keeps no global state but the table of
 * kernels chosen for this CPU, and allocates only in the functions named *_create, *_prepare
 * (when a capacity grows) and apx_memory_map. All functions may be called from any thread.
 *
 * Terms: a *row* is one sequence's decode token; its *context* are the tokens it attends to,
 * itself included; a *tile* is one KV head of one block (K and V side by side, see layout.h);
 * a *job* is the attention of a batch of rows in one layer; a *ticket* is one submission of a job.
 */
#ifndef APX_H
#define APX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define APX_API __attribute__((visibility("default")))
#else
#define APX_API
#endif

enum { APX_ABI_VERSION = 1 };

typedef enum apx_dtype {
    APX_F32 = 0,
    APX_F16 = 1,
    APX_BF16 = 2,
    APX_I8 = 3,    /* KV only: symmetric, one scale per token and head */
    APX_F8E4M3 = 4 /* KV only: OCP e4m3fn, saturating at 448, no scale */
} apx_dtype;

typedef enum apx_status {
    APX_OK = 0,
    APX_E_ARGUMENT = 1,    /* a shape, dtype or pointer that cannot be; apx_last_error says which */
    APX_E_BLOCK_ID = 2,    /* a block id outside the cache (checked when APX_CHECK_BLOCKS is set) */
    APX_E_BUSY = 3,        /* the job is in flight; a job may be submitted again once it is done */
    APX_E_MEMORY = 4,      /* the system has no memory to give */
    APX_E_UNSUPPORTED = 5, /* an ISA level this CPU or this build does not have */
    APX_E_FORKED = 6,      /* the pool belongs to the parent process: threads do not survive fork */
    APX_E_TIMEOUT = 7,     /* apx_wait: not done yet */
    APX_E_CANCELLED = 8,   /* the ticket was cancelled before it began */
    APX_E_TICKET = 9,      /* not a ticket of this pool, or one too old to be known */
    APX_E_FULL = 10,       /* as many tickets in flight as the pool was created for */
    APX_E_STOPPED = 11     /* the pool is shutting down */
} apx_status;

/* One sentence on what the calling thread's last failing call did not accept; never NULL. */
APX_API const char *apx_last_error(void);
APX_API int32_t apx_abi_version(void);

/* ------------------------------------------------------------------ instruction sets */

/* Levels in order: a CPU that has one has all before it on the same architecture. */
typedef enum apx_isa {
    APX_ISA_REFERENCE = 0, /* plain C, one token after the other: the specification */
    APX_ISA_AVX2 = 1,      /* AVX2, FMA, F16C */
    APX_ISA_AVX512 = 2,    /* F, BW, DQ, VL */
    APX_ISA_AVX512X = 3,   /* and BF16, VNNI, VBMI: Zen 4, Cooper Lake and later */
    APX_ISA_NEON = 4       /* aarch64 with FP16 conversion */
} apx_isa;

/* The level in use. Chosen once: APEXBENCH_ISA (reference, avx2, avx512, avx512x, neon), else the
 * best this CPU has. An unknown or unsupported name in the environment leaves the reference level
 * in place and apx_isa_error() says so; callers must check it once after loading. */
APX_API apx_isa apx_isa_now(void);
APX_API const char *apx_isa_name(apx_isa isa);
APX_API bool apx_isa_is_supported(apx_isa isa);
APX_API const char *apx_isa_error(void); /* NULL: none */
/* For jobs prepared afterwards. APX_E_UNSUPPORTED leaves the level as it was. */
APX_API apx_status apx_force_isa(apx_isa isa);

/* ------------------------------------------------------------------ KV cache */

/* The KV cache of all layers: [layer][block][kv_head] tiles (see layout.h), blocks of a layer
 * adjacent, so that neighbouring block ids are neighbouring memory. */
typedef struct apx_cache {
    void *base;            /* aligned to 64 bytes */
    int64_t layer_bytes;   /* from one layer to the next; at least num_blocks * block bytes */
    int64_t num_blocks;
    int32_t num_layers;
    int32_t kv_dtype;      /* apx_dtype */
    int32_t scale_dtype;   /* APX_F32 or APX_F16, for APX_I8 only */
    int32_t block_size;    /* tokens: 8, or a multiple of 16 up to 128 */
    int32_t head_dim;      /* a multiple of 16 up to 256 */
    int32_t num_kv_heads;
} apx_cache;

/* Bytes of one tile and of one block (all KV heads); 0 for a geometry that cannot be. */
APX_API int64_t apx_tile_bytes(const apx_cache *cache);
APX_API int64_t apx_block_bytes(const apx_cache *cache);

/* Writes `num_tokens` tokens at positions first_token.. of one sequence into one layer, converting
 * and quantising. k and v: [num_tokens][num_kv_heads][head_dim] of `dtype` (F32, F16, BF16), with
 * token_stride elements from one token to the next. block_table covers all those positions. */
APX_API apx_status apx_store(const apx_cache *cache, int32_t layer, const int32_t *block_table,
                             int64_t first_token, int64_t num_tokens, const void *k, const void *v,
                             int64_t token_stride, int32_t dtype);
/* The reverse, dequantised: what attention sees. k and v: float32 [num_tokens][heads][head_dim]. */
APX_API apx_status apx_load(const apx_cache *cache, int32_t layer, const int32_t *block_table,
                            int64_t first_token, int64_t num_tokens, float *k, float *v);

/* Anonymous memory for a cache: 2 MiB aligned, huge pages asked for by madvise (without is no
 * error), not yet touched. `*huge_fraction` of apx_memory_huge_fraction is read from the kernel. */
APX_API apx_status apx_memory_map(int64_t num_bytes, void **memory);
APX_API void apx_memory_unmap(void *memory, int64_t num_bytes);
/* Bytes the machine can give without swapping (MemAvailable, capped by the cgroup); -1: unknown. */
APX_API int64_t apx_memory_available(void);
/* Share of the mapping that huge pages back, from smaps; negative: unknown. */
APX_API double apx_memory_huge_fraction(const void *memory, int64_t num_bytes);

/* ------------------------------------------------------------------ worker pool */

typedef struct apx_pool apx_pool;
typedef struct apx_job apx_job;
typedef uint64_t apx_ticket; /* never 0 */

typedef struct apx_pool_options {
    int32_t num_threads;     /* 0: the CPUs this process may use (affinity and cgroup quota) */
    int32_t is_pinned;       /* 1: one CPU each, of those this process may use, node after node */
    int32_t max_in_flight;   /* tickets at once, up to 32768; 0: 64. A cancelled one counts until
                                those before it in its class have been claimed */
    int64_t spin_ns;         /* how long an idle worker polls before it sleeps; <0: 50 us */
} apx_pool_options;

APX_API apx_status apx_pool_create(const apx_pool_options *options, apx_pool **pool);
/* Ends jobs that run, cancels those that have not begun, joins the threads. Safe after fork. */
APX_API void apx_pool_destroy(apx_pool *pool);
APX_API int32_t apx_pool_num_threads(const apx_pool *pool);
/* CPU the worker is pinned to, -1: not pinned. */
APX_API int32_t apx_pool_cpu(const apx_pool *pool, int32_t worker);
/* First touch: every worker zeroes its share of the memory (whole 2 MiB pages, so that pages lie
 * on the node of the worker that will read them where there is more than one node). */
APX_API apx_status apx_pool_touch(apx_pool *pool, void *memory, int64_t num_bytes);

/* ------------------------------------------------------------------ jobs */

enum {
    APX_CHECK_BLOCKS = 1, /* check every block id that will be read or written */
    APX_APPEND = 2        /* k_new and v_new are written at position context_len - 1 first */
};

/* A batch of rows; copied by apx_job_prepare, so the caller may change it afterwards.
 *
 * out[r, h] = sum_t softmax_t(softmax_scale * q[r, h] . k[t]) v[t] over the visible tokens t of row
 * r: the first `sink_tokens`, and the last `window` (0: all) of context_lens[r]. sink_logits adds
 * exp(sink_logits[h]) to the denominator, and to lse: with it, scores of -inf alone give zeros;
 * without, NaN. A row of no tokens gives zeros and lse -inf. The block of an appended slot may stand
 * in no other row's table. */
typedef struct apx_batch {
    int32_t num_rows;
    int32_t num_q_heads;         /* a multiple of num_kv_heads */
    int32_t q_dtype;             /* F32, F16, BF16: of q, k_new, v_new and out */
    int32_t flags;               /* APX_CHECK_BLOCKS | APX_APPEND */
    const int32_t *block_tables; /* [num_rows][table_stride] */
    int64_t table_stride;        /* entries from one row's table to the next */
    const int32_t *context_lens; /* [num_rows], the appended token included */
    float softmax_scale;
    int32_t window;              /* tokens; 0: none */
    int32_t sink_tokens;         /* counted only with a window */
    const float *sink_logits;    /* [num_q_heads] or NULL */
} apx_batch;

/* Tensors of one submission: row-major, head_dim contiguous, heads adjacent; strides in elements
 * from one row to the next. They stay the caller's and must live until the ticket is done. */
typedef struct apx_io {
    const void *q;      /* [num_rows][num_q_heads][head_dim] */
    const void *k_new;  /* [num_rows][num_kv_heads][head_dim], with APX_APPEND */
    const void *v_new;
    void *out;          /* [num_rows][num_q_heads][head_dim] */
    float *lse;         /* [num_rows][num_q_heads] or NULL: natural log-sum-exp of scaled scores */
    int64_t q_stride;
    int64_t kv_stride;
    int64_t out_stride;
    int64_t lse_stride;
} apx_io;

/* An empty job on a cache, which must outlive it (the struct is copied, its memory is not). */
APX_API apx_status apx_job_create(const apx_cache *cache, apx_job **job);
APX_API void apx_job_destroy(apx_job *job); /* waits when it is in flight */
/* Plans the work. Allocates only when rows, table or partial results outgrow what the job has.
 * After APX_E_MEMORY the job is unprepared; after other errors it keeps its old plan. */
APX_API apx_status apx_job_prepare(apx_job *job, const apx_batch *batch);

enum { APX_IN_LAYER = 0, APX_DEFERRED = 1 }; /* priorities: the lower goes first */

/* Called once by the worker that ends the job, not for cancelled tickets; must be short. It may
 * submit, the same job too, but must not wait or destroy the pool. */
typedef void (*apx_callback)(void *user);

typedef struct apx_submission {
    apx_job *job;
    int32_t layer;
    int32_t priority;      /* APX_IN_LAYER or APX_DEFERRED */
    apx_io io;
    uint32_t *flag;        /* or NULL: set to 1 with release order when done (also if cancelled) */
    apx_callback callback; /* or NULL; called before flag is set and before apx_done is true */
    void *user;
} apx_submission;

/* FIFO within a priority; in-layer work goes before deferred work that has not begun, and deferred
 * work that has begun gives way between blocks. The struct is copied. */
APX_API apx_status apx_submit(apx_pool *pool, const apx_submission *submission, apx_ticket *ticket);
APX_API bool apx_done(apx_pool *pool, apx_ticket ticket);
/* timeout_ns < 0: for ever. Spins as long as the pool's spin_ns, then sleeps. */
APX_API apx_status apx_wait(apx_pool *pool, apx_ticket ticket, int64_t timeout_ns);
/* APX_OK: cancelled, nothing was or will be written. APX_E_BUSY: it has begun or is done. */
APX_API apx_status apx_cancel(apx_pool *pool, apx_ticket ticket);
/* Submit and wait in one call. */
APX_API apx_status apx_run(apx_pool *pool, const apx_submission *submission);
/* The whole job on the calling thread, no pool. */
APX_API apx_status apx_run_inline(const apx_submission *submission);

#ifdef __cplusplus
}
#endif
#endif
