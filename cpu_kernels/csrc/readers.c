/* Threads that read memory and are timed together; the loop with the plainest vectors. */
#define _GNU_SOURCE
#include "readers.h"

#include "kernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { READER_BYTES = 16, SPINS_BEFORE_YIELD = 10000 };
static const double NS_TO_S = 1e-9;

/* Two words: any compiler makes of it the vectors that every CPU of the architecture has. */
typedef struct reader_vector {
    uint64_t low;
    uint64_t high;
} reader_vector;

static inline reader_vector reader_zero(void)
{
    return (reader_vector){0, 0};
}

static inline reader_vector reader_load(const uint8_t *from)
{
    reader_vector loaded;
    memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

static inline reader_vector reader_xor(reader_vector a, reader_vector b)
{
    return (reader_vector){a.low ^ b.low, a.high ^ b.high};
}

static inline uint64_t reader_fold(reader_vector sum)
{
    return sum.low + sum.high;
}

#include "readers_loop.h"

/* Shared by the threads of one measurement. */
typedef struct reading {
    apx_read_function read;
    int64_t stream_bytes;
    int32_t num_streams;
    int64_t distance_bytes;
    int32_t num_threads;
    atomic_int arrived;
    atomic_bool is_given_up; /* not all threads could be started */
} reading;

typedef struct reader_thread {
    pthread_t id;
    reading *shared;
    const uint8_t *memory;
    double began;
    double ended;
    volatile uint64_t folded; /* somebody must want the sum, or nothing would be read */
} reader_thread;

double apx_seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * NS_TO_S;
}

static apx_read_function best_function(const char **name)
{
#if defined(__x86_64__)
    if (apx_isa_is_supported(APX_ISA_AVX512) && apx_read_function_avx512() != NULL) {
        *name = "avx512";
        return apx_read_function_avx512();
    }
    if (apx_isa_is_supported(APX_ISA_AVX2) && apx_read_function_avx2() != NULL) {
        *name = "avx2";
        return apx_read_function_avx2();
    }
#endif
    *name = "portable";
    return reader_read;
}

const char *apx_reader_vectors(void)
{
    const char *name;
    best_function(&name);
    return name;
}

static bool meet(reading *shared)
{
    atomic_fetch_add(&shared->arrived, 1);
    for (int spins = 0; atomic_load(&shared->arrived) < shared->num_threads; spins++) {
        if (atomic_load(&shared->is_given_up)) {
            return false;
        }
        if (spins > SPINS_BEFORE_YIELD) { /* more threads than CPUs: let the others arrive */
            sched_yield();
        }
    }
    return true;
}

static void *read_share(void *argument)
{
    reader_thread *self = argument;
    reading *shared = self->shared;
    if (meet(shared)) {
        self->began = apx_seconds_now();
        self->folded = shared->read(self->memory, shared->stream_bytes, shared->num_streams,
                                    shared->distance_bytes);
        self->ended = apx_seconds_now();
    }
    return NULL;
}

static int start_thread(reader_thread *thread, const int32_t *cpu)
{
    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes);
    if (failed) {
        return failed;
    }
    if (cpu != NULL) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)*cpu, &set);
        failed = pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    }
    if (!failed) {
        failed = pthread_create(&thread->id, &attributes, read_share, thread);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

/* How many could be started; those wait for the rest, or give up. */
static int32_t start_threads(reader_thread *threads, reading *shared, const uint8_t *memory,
                             const int32_t *cpus)
{
    int64_t share_bytes = shared->stream_bytes * shared->num_streams;
    for (int32_t index = 0; index < shared->num_threads; index++) {
        threads[index].shared = shared;
        threads[index].memory = memory + index * share_bytes;
        if (start_thread(&threads[index], cpus == NULL ? NULL : &cpus[index])) {
            atomic_store(&shared->is_given_up, true);
            return index;
        }
    }
    return shared->num_threads;
}

static double join_threads(reader_thread *threads, int32_t num_started)
{
    double began = 0.0;
    double ended = 0.0;
    for (int32_t index = 0; index < num_started; index++) {
        pthread_join(threads[index].id, NULL);
        if (index == 0 || threads[index].began < began) {
            began = threads[index].began;
        }
        if (index == 0 || threads[index].ended > ended) {
            ended = threads[index].ended;
        }
    }
    return ended - began;
}

static apx_status check_options(const apx_read_options *options, int64_t stream_bytes)
{
    if (options->reader != APX_READ_PLAIN && options->reader != APX_READ_PREFETCH) {
        return apx_fail(APX_E_ARGUMENT, "there is no reader %d", (int)options->reader);
    }
    if (stream_bytes <= 0) {
        return apx_fail(APX_E_ARGUMENT, "the memory is less than a page for every thread");
    }
    for (int32_t index = 0; options->cpus != NULL && index < options->num_threads; index++) {
        if (options->cpus[index] < 0 || options->cpus[index] >= CPU_SETSIZE) {
            return apx_fail(APX_E_ARGUMENT, "there is no CPU %d", (int)options->cpus[index]);
        }
    }
    return APX_OK;
}

apx_status apx_read_memory(const void *memory, int64_t num_bytes, const apx_read_options *options,
                           double *seconds, int64_t *bytes_read)
{
    if (options->num_threads < 1 || options->num_streams < 1 || options->distance_bytes < 0) {
        return apx_fail(APX_E_ARGUMENT, "readers need at least one thread and one stream");
    }
    bool is_plain = options->reader == APX_READ_PLAIN;
    const char *name;
    reading shared = {
        .read = best_function(&name),
        .num_streams = is_plain ? 1 : options->num_streams,
        .distance_bytes = is_plain ? 0 : options->distance_bytes,
        .num_threads = options->num_threads,
    };
    int64_t num_shares = (int64_t)shared.num_threads * shared.num_streams;
    shared.stream_bytes = num_bytes / num_shares / APX_READ_PAGE * APX_READ_PAGE;
    apx_status status = check_options(options, shared.stream_bytes);
    if (status != APX_OK) {
        return status;
    }
    reader_thread *threads = calloc((size_t)shared.num_threads, sizeof *threads);
    if (threads == NULL) {
        return apx_fail(APX_E_MEMORY, "there is no memory for %d readers", (int)shared.num_threads);
    }
    int32_t num_started = start_threads(threads, &shared, memory, options->cpus);
    *seconds = join_threads(threads, num_started);
    *bytes_read = shared.stream_bytes * num_shares;
    free(threads);
    return num_started == shared.num_threads
               ? APX_OK
               : apx_fail(APX_E_MEMORY, "only %d of %d readers could be started", (int)num_started,
                          (int)shared.num_threads);
}
