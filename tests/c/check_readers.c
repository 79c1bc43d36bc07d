/* The readers and the timed calls of the bench, for the sanitizers: bounds, races, errors. */
#include "readers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUM_PAGES = 72, /* equal shares for all the numbers of threads and streams below */
    BLOCK_SIZE = 16,
    HEAD_DIM = 32,
    NUM_LAYERS = 3,
    NUM_TOKENS = 40,
    NUM_BLOCKS = 4,
    NUM_CALLS = 7
};

static int num_failures;

static void expect(bool holds, const char *what)
{
    if (!holds) {
        num_failures += 1;
        (void)printf("FAIL: %s (%s)\n", what, apx_last_error());
    }
}

/* Memory of exactly as many bytes as are read: one more would be seen by AddressSanitizer. */
static void check_reads(void)
{
    static const int32_t streams[] = {1, 2, 3};
    uint8_t *memory = calloc(NUM_PAGES, APX_READ_PAGE);
    for (int32_t threads = 1; threads <= 4; threads++) {
        for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
            for (int32_t reader = APX_READ_PLAIN; reader <= APX_READ_PREFETCH; reader++) {
                apx_read_options options = {.reader = reader,
                                            .num_threads = threads,
                                            .distance_bytes = 2 * APX_READ_PAGE,
                                            .num_streams = streams[i]};
                double seconds = -1.0;
                int64_t num_read = 0;
                apx_status status = apx_read_memory(memory, (int64_t)NUM_PAGES * APX_READ_PAGE,
                                                    &options, &seconds, &num_read);
                expect(status == APX_OK && seconds >= 0.0, "memory can be read");
                expect(num_read == (int64_t)NUM_PAGES * APX_READ_PAGE, "all of it is read");
            }
        }
    }
    free(memory);
}

/* A CPU that does not exist: the threads that were started must neither wait nor leak. */
static void check_giving_up(void)
{
    uint8_t *memory = calloc(NUM_PAGES, APX_READ_PAGE);
    int32_t cpus[] = {0, 0, 1023};
    apx_read_options options = {.num_threads = 3, .num_streams = 1, .cpus = cpus};
    double seconds;
    int64_t num_read;
    expect(apx_read_memory(memory, (int64_t)NUM_PAGES * APX_READ_PAGE, &options, &seconds,
                           &num_read) == APX_E_MEMORY,
           "an impossible CPU is an error");
    free(memory);
}

static apx_job *new_job(const apx_cache *cache)
{
    static const int32_t table[] = {2, 0, 3};
    static const int32_t lengths[] = {NUM_TOKENS};
    apx_job *job = NULL;
    apx_batch batch = {.num_rows = 1,
                       .num_q_heads = 2,
                       .q_dtype = APX_F32,
                       .block_tables = table,
                       .table_stride = 3,
                       .context_lens = lengths,
                       .softmax_scale = 1.0F};
    expect(apx_job_create(cache, &job) == APX_OK, "a job can be created");
    expect(apx_job_prepare(job, &batch) == APX_OK, "a job can be prepared");
    return job;
}

static void check_calls(const apx_cache *cache, apx_pool *pool)
{
    static float q[2 * HEAD_DIM];
    static float out[2][2 * HEAD_DIM];
    apx_job *jobs[2] = {new_job(cache), new_job(cache)};
    apx_submission calls[NUM_LAYERS];
    double seconds[NUM_CALLS];
    for (int32_t layer = 0; layer < NUM_LAYERS; layer++) {
        calls[layer] = (apx_submission){.job = jobs[0], .layer = layer};
        calls[layer].io = (apx_io){.q = q, .out = out[0]};
    }
    apx_submission urgent = {.job = jobs[1], .io = {.q = q, .out = out[1]}};
    apx_call_plan plan = {.pool = pool,
                          .submissions = calls,
                          .num_submissions = NUM_LAYERS,
                          .num_calls = NUM_CALLS,
                          .warm_up = &urgent,
                          .first = 2};
    expect(apx_time_calls(&plan, seconds) == APX_OK, "calls can be timed");
    plan.pause_ns = 100;
    plan.pool = NULL;
    expect(apx_time_calls(&plan, seconds) == APX_OK, "inline calls can be timed");
    plan.num_submissions = 0;
    expect(apx_time_calls(&plan, seconds) == APX_E_ARGUMENT, "nothing cannot be timed");
    calls[0].priority = APX_DEFERRED;
    for (int turn = 0; turn < 20; turn++) {
        int64_t num_calls = NUM_CALLS;
        expect(apx_time_urgent(pool, &calls[0], &urgent, seconds, &num_calls) == APX_OK,
               "urgent calls can be timed");
        expect(num_calls >= 0 && num_calls <= NUM_CALLS, "no more than there is room for");
    }
    calls[0].layer = NUM_LAYERS; /* refused at once: there is no ticket to wait for */
    int64_t num_calls = NUM_CALLS;
    expect(apx_time_urgent(pool, &calls[0], &urgent, seconds, &num_calls) != APX_OK,
           "a background that is refused is an error");
    expect(num_calls == 0, "no urgent call was made");
    apx_job_destroy(jobs[0]);
    apx_job_destroy(jobs[1]);
}

int main(void)
{
    apx_cache cache = {.num_blocks = NUM_BLOCKS,
                       .num_layers = NUM_LAYERS,
                       .kv_dtype = APX_F32,
                       .block_size = BLOCK_SIZE,
                       .head_dim = HEAD_DIM,
                       .num_kv_heads = 1};
    cache.layer_bytes = NUM_BLOCKS * apx_block_bytes(&cache);
    int64_t num_bytes = NUM_LAYERS * cache.layer_bytes;
    void *memory = aligned_alloc(64, (size_t)num_bytes);
    memset(memory, 0, (size_t)num_bytes);
    cache.base = memory;
    apx_pool_options options = {.num_threads = 2};
    apx_pool *pool = NULL;
    expect(apx_pool_create(&options, &pool) == APX_OK, "a pool can be created");
    check_reads();
    check_giving_up();
    check_calls(&cache, pool);
    apx_pool_destroy(pool);
    free(memory);
    (void)printf("%d failures\n", num_failures);
    return num_failures > 0;
}
