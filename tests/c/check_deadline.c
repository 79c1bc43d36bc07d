/* Waiting for deadlines from several threads at once, and stamps of jobs; for the sanitizers. */
#define _GNU_SOURCE
#include "deadline.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "futex.h"

enum {
    NUM_THREADS = 3,
    NUM_WAITS = 40,
    SHORT_NS = 30000,
    SPIN_NS = 20000,
    BLOCK_SIZE = 16,
    HEAD_DIM = 32,
    NUM_LAYERS = 5
};

static _Atomic int num_failures;

static void expect(bool holds, const char *what)
{
    if (!holds) {
        num_failures++;
        (void)printf("FAIL: %s\n", what);
    }
}

/* Half of the deadlines are slept for, half only polled; none is woken before. */
static void *wait_often(void *unused)
{
    for (int i = 0; i < NUM_WAITS; ++i) {
        int64_t begin_ns = apx_now_ns();
        int64_t deadline_ns = begin_ns + SHORT_NS * (1 + i % 4);
        int64_t woke_ns = apx_wait_until(deadline_ns, i % 2 == 0 ? 0 : SPIN_NS);
        expect(woke_ns >= deadline_ns, "nobody wakes before the deadline");
        expect(woke_ns <= apx_now_ns(), "what it returns is not in the future");
    }
    return unused;
}

static void check_waits(void)
{
    pthread_t threads[NUM_THREADS];
    for (int i = 0; i < NUM_THREADS; ++i)
        expect(pthread_create(&threads[i], NULL, wait_often, NULL) == 0, "a thread starts");
    for (int i = 0; i < NUM_THREADS; ++i)
        (void)pthread_join(threads[i], NULL);
    int64_t begin_ns = apx_now_ns();
    expect(apx_wait_until(begin_ns - 1, SPIN_NS) >= begin_ns, "a past deadline says when it is");
    expect(apx_wait_until(0, 0) >= begin_ns, "the oldest deadline is a past one");
    expect(apx_wait_until(begin_ns + 1, INT64_MAX) > begin_ns, "one may poll all the time");
}

/* Each layer's stamp lies after its submission and before the end of waiting for it. */
static void check_stamps(const apx_cache *cache, apx_pool *pool)
{
    static const int32_t table[] = {1, 0};
    static const int32_t lengths[] = {2 * BLOCK_SIZE};
    float q[HEAD_DIM] = {1.0F};
    float out[HEAD_DIM];
    apx_batch batch = {.num_rows = 1,
                       .num_q_heads = 1,
                       .block_tables = table,
                       .table_stride = 2,
                       .context_lens = lengths,
                       .softmax_scale = 1.0F};
    apx_job *job = NULL;
    expect(apx_job_create(cache, &job) == APX_OK, "a job can be created");
    expect(apx_job_prepare(job, &batch) == APX_OK, "a job can be prepared");
    for (int32_t layer = 0; layer < NUM_LAYERS; ++layer) {
        int64_t when_ns = 0;
        apx_submission submission = {.job = job, .layer = layer, .callback = apx_stamp};
        submission.io = (apx_io){.q = q, .out = out};
        submission.user = &when_ns;
        int64_t before_ns = apx_now_ns();
        expect(apx_run(pool, &submission) == APX_OK, "a job runs");
        expect(when_ns >= before_ns && when_ns <= apx_now_ns(), "a stamp says when it was done");
    }
    apx_job_destroy(job);
}

int main(void)
{
    apx_cache cache = {.num_blocks = 2,
                       .num_layers = NUM_LAYERS,
                       .kv_dtype = APX_F32,
                       .block_size = BLOCK_SIZE,
                       .head_dim = HEAD_DIM,
                       .num_kv_heads = 1};
    cache.layer_bytes = cache.num_blocks * apx_block_bytes(&cache);
    size_t num_bytes = (size_t)(NUM_LAYERS * cache.layer_bytes);
    cache.base = aligned_alloc(64, num_bytes);
    memset(cache.base, 0, num_bytes);
    apx_pool_options options = {.num_threads = 2};
    apx_pool *pool = NULL;
    expect(apx_pool_create(&options, &pool) == APX_OK, "a pool can be created");
    check_waits();
    check_stamps(&cache, pool);
    apx_pool_destroy(pool);
    free(cache.base);
    (void)printf("%d failures\n", num_failures);
    return num_failures > 0;
}
