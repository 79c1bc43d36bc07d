/* Results have the same bits inline, on one thread and on several, whatever the priority. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "pool_fixture.h"

typedef struct results {
    float *out;
    float *lse;
    size_t out_bytes;
    size_t lse_bytes;
} results;

static results take_results(workload *w)
{
    results r = {.out_bytes = (size_t)w->out_elements * sizeof(float)};
    r.lse_bytes = r.out_bytes / 16;
    r.out = malloc(r.out_bytes);
    r.lse = malloc(r.lse_bytes);
    if (r.out == NULL || r.lse == NULL)
        abort();
    memcpy(r.out, w->out, r.out_bytes);
    memcpy(r.lse, w->lse, r.lse_bytes);
    memset(w->out, 0xff, r.out_bytes);
    memset(w->lse, 0xff, r.lse_bytes);
    return r;
}

static void check_same(workload *w, const results *expected)
{
    EXPECT(memcmp(w->out, expected->out, expected->out_bytes) == 0);
    EXPECT(memcmp(w->lse, expected->lse, expected->lse_bytes) == 0);
    memset(w->out, 0xff, expected->out_bytes);
    memset(w->lse, 0xff, expected->lse_bytes);
}

static void check_bits_of(int32_t flags, int32_t window, int32_t sinks)
{
    static const int32_t lens[] = {6000, 1, 16, 17, 700, 31, 300, 64};
    static const int32_t threads[] = {1, 2, 5};
    workload w;
    make_workload(&w, 8, lens, 5, flags);
    w.batch.window = window;
    w.batch.sink_tokens = sinks;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_OK);
    w.job->kernels = apx_kernels_reference();
    EXPECT(w.job->num_merges > 0);
    apx_submission submission = submission_of(&w, 1, APX_IN_LAYER);
    EXPECT(apx_run_inline(&submission) == APX_OK);
    results expected = take_results(&w);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; ++i) {
        apx_pool *pool = make_pool(threads[i], 0, -1);
        for (int32_t again = 0; again < 2; ++again) {
            submission.priority = again % 2;
            EXPECT(apx_run(pool, &submission) == APX_OK);
            check_same(&w, &expected);
        }
        apx_pool_destroy(pool);
    }
    EXPECT(apx_run_inline(&submission) == APX_OK);
    check_same(&w, &expected);
    free(expected.out);
    free(expected.lse);
    free_workload(&w);
}

/* A row's results are the same in any batch: alone, it is divided among workers otherwise than
 * among many, but its sums are in the same order. */
static void check_rows_alone(void)
{
    static const int32_t lens[] = {6000, 40, 6000, 3500, 700, 6000};
    workload w;
    make_workload(&w, 6, lens, 12, 0);
    apx_submission submission = submission_of(&w, 0, APX_IN_LAYER);
    EXPECT(apx_run_inline(&submission) == APX_OK);
    results expected = take_results(&w);
    size_t row_bytes = expected.out_bytes / 6;
    for (int32_t row = 0; row < 6; ++row) {
        apx_batch alone = w.batch;
        alone.num_rows = 1;
        alone.context_lens += row;
        alone.block_tables += row * alone.table_stride;
        EXPECT(apx_job_prepare(w.job, &alone) == APX_OK);
        w.job->kernels = apx_kernels_reference();
        submission.io.q = w.q + row * w.io.q_stride;
        EXPECT(apx_run_inline(&submission) == APX_OK);
        EXPECT(memcmp(w.out, (char *)expected.out + row * (int64_t)row_bytes, row_bytes) == 0);
    }
    free(expected.out);
    free(expected.lse);
    free_workload(&w);
}

/* The token is in the layer of the submission, at each row's last position, and nowhere else. */
static void check_append(void)
{
    enum { LAYER = 1, KV_ELEMENTS = 32 };
    static const int32_t lens[] = {6000, 1, 16, 17};
    float k[KV_ELEMENTS];
    float v[KV_ELEMENTS];
    workload w;
    make_workload(&w, 4, lens, 6, APX_APPEND);
    size_t layer_bytes = (size_t)w.cache.layer_bytes;
    void *others = malloc(layer_bytes);
    if (others == NULL)
        abort();
    memcpy(others, w.memory, layer_bytes);
    apx_submission submission = submission_of(&w, LAYER, APX_IN_LAYER);
    apx_pool *pool = make_pool(3, 0, -1);
    EXPECT(apx_run(pool, &submission) == APX_OK);
    apx_pool_destroy(pool);
    for (int32_t row = 0; row < 4; ++row) {
        const int32_t *table = w.tables + row * w.batch.table_stride;
        EXPECT(apx_load(&w.cache, LAYER, table, lens[row] - 1, 1, k, v) == APX_OK);
        EXPECT(memcmp(k, w.k_new + row * KV_ELEMENTS, sizeof k) == 0);
        EXPECT(memcmp(v, w.v_new + row * KV_ELEMENTS, sizeof v) == 0);
    }
    EXPECT(memcmp(others, w.memory, layer_bytes) == 0);
    free(others);
    free_workload(&w);
}

#if defined(__x86_64__)
/* A thread that flushes denormals to zero, as other libraries leave them, changes no result:
 * neither in the pool that it makes nor inline. */
static void check_denormals(void)
{
    static const int32_t lens[] = {20};
    workload w;
    make_workload(&w, 1, lens, 8, 0);
    for (int64_t i = 0; i < w.memory_bytes / 4; ++i)
        ((float *)w.memory)[i] *= 1e-39f;
    apx_submission submission = submission_of(&w, 0, APX_IN_LAYER);
    EXPECT(apx_run_inline(&submission) == APX_OK);
    results expected = take_results(&w);
    EXPECT(expected.out[0] != 0.0f);
    const unsigned int flush_to_zero = 0x8040;
    unsigned int before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | flush_to_zero);
    apx_pool *pool = make_pool(1, 0, -1);
    EXPECT(apx_run(pool, &submission) == APX_OK);
    check_same(&w, &expected);
    EXPECT(apx_run_inline(&submission) == APX_OK);
    check_same(&w, &expected);
    EXPECT(__builtin_ia32_stmxcsr() == (before | flush_to_zero)); /* and is left as it was */
    __builtin_ia32_ldmxcsr(before);
    apx_pool_destroy(pool);
    free(expected.out);
    free(expected.lse);
    free_workload(&w);
}
#endif

void check_bits(void)
{
    check_append();
    check_rows_alone();
#if defined(__x86_64__)
    check_denormals();
#endif
    check_bits_of(APX_CHECK_BLOCKS, 0, 0);
    check_bits_of(APX_CHECK_BLOCKS | APX_APPEND, 0, 0);
    check_bits_of(APX_APPEND, 4000, 20);
    check_bits_of(APX_APPEND, 5, 9); /* sinks and window in one block */
}
