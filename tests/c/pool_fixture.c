#define _GNU_SOURCE
#include "pool_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_Q_HEADS = 4, NUM_KV_HEADS = 2, HEAD_DIM = 16, BLOCK_SIZE = 16 };

static _Atomic int num_failures;

void report_failure(const char *file, int line, const char *what)
{
    (void)printf("%s:%d: does not hold: %s (last error: %s)\n", file, line, what, apx_last_error());
    atomic_fetch_add(&num_failures, 1);
}

int count_failures(void)
{
    return atomic_load(&num_failures);
}

uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *need(void *memory)
{
    if (memory == NULL) {
        (void)printf("no memory\n");
        exit(2);
    }
    return memory;
}

static float *random_floats(int64_t count, uint32_t *seed)
{
    float *values = need(malloc((size_t)count * sizeof *values + 1));
    for (int64_t i = 0; i < count; ++i)
        values[i] = (float)(next_random(seed) % 2001) / 1000.0f - 1.0f;
    return values;
}

static void fill_tables(workload *w, int64_t table_stride, uint32_t *seed)
{
    int32_t num_blocks = 0;
    w->tables = need(malloc((size_t)(w->batch.num_rows * table_stride + 1) * sizeof *w->tables));
    for (int64_t i = 0; i < w->batch.num_rows * table_stride; ++i) {
        bool is_used = i % table_stride * BLOCK_SIZE < w->lens[i / table_stride];
        w->tables[i] = is_used ? num_blocks++ : -1;
    }
    w->cache.num_blocks = num_blocks > 0 ? num_blocks : 1;
    int32_t first = (int32_t)(next_random(seed) % (uint32_t)w->cache.num_blocks);
    /* A step without a factor in common with the number of blocks visits all of them. */
    int32_t step = num_blocks % 7 == 0 ? 1 : 7;
    for (int64_t i = 0; i < w->batch.num_rows * table_stride; ++i)
        if (w->tables[i] >= 0)
            w->tables[i] = (first + w->tables[i] * step) % num_blocks;
}

static void fill_cache(workload *w, uint32_t *seed)
{
    w->cache.layer_bytes = w->cache.num_blocks * apx_block_bytes(&w->cache);
    w->memory_bytes = w->cache.layer_bytes * NUM_LAYERS;
    EXPECT(posix_memalign(&w->memory, APX_LINE, (size_t)w->memory_bytes) == 0);
    w->cache.base = need(w->memory);
    for (int64_t i = 0; i < w->memory_bytes / 4; ++i)
        ((float *)w->memory)[i] = (float)(next_random(seed) % 2001) / 1000.0f - 1.0f;
}

static void fill_tensors(workload *w, uint32_t *seed)
{
    int64_t rows = w->batch.num_rows;
    w->out_elements = rows * NUM_Q_HEADS * HEAD_DIM;
    w->q = random_floats(w->out_elements, seed);
    w->k_new = random_floats(rows * NUM_KV_HEADS * HEAD_DIM, seed);
    w->v_new = random_floats(rows * NUM_KV_HEADS * HEAD_DIM, seed);
    w->out = random_floats(w->out_elements, seed);
    w->lse = random_floats(rows * NUM_Q_HEADS, seed);
    w->io = (apx_io){.q = w->q,
                     .k_new = w->k_new,
                     .v_new = w->v_new,
                     .out = w->out,
                     .lse = w->lse,
                     .q_stride = NUM_Q_HEADS * HEAD_DIM,
                     .kv_stride = NUM_KV_HEADS * HEAD_DIM,
                     .out_stride = NUM_Q_HEADS * HEAD_DIM,
                     .lse_stride = NUM_Q_HEADS};
}

void make_workload(workload *w, int32_t num_rows, const int32_t *lens, uint32_t seed,
                   int32_t flags)
{
    int32_t longest = 0;
    *w = (workload){.cache = {.num_layers = NUM_LAYERS,
                              .kv_dtype = APX_F32,
                              .block_size = BLOCK_SIZE,
                              .head_dim = HEAD_DIM,
                              .num_kv_heads = NUM_KV_HEADS}};
    w->lens = need(malloc((size_t)num_rows * sizeof *w->lens + 1));
    for (int32_t row = 0; row < num_rows; ++row) {
        w->lens[row] = lens[row];
        longest = lens[row] > longest ? lens[row] : longest;
    }
    int64_t table_stride = (longest + BLOCK_SIZE - 1) / BLOCK_SIZE;
    w->batch = (apx_batch){.num_rows = num_rows,
                           .num_q_heads = NUM_Q_HEADS,
                           .q_dtype = APX_F32,
                           .flags = flags,
                           .table_stride = table_stride,
                           .context_lens = w->lens,
                           .softmax_scale = 0.25f};
    fill_tables(w, table_stride, &seed);
    w->batch.block_tables = w->tables;
    fill_cache(w, &seed);
    fill_tensors(w, &seed);
    EXPECT(apx_job_create(&w->cache, &w->job) == APX_OK);
    EXPECT(apx_job_prepare(w->job, &w->batch) == APX_OK);
    w->job->kernels = apx_kernels_reference();
}

void free_workload(workload *w)
{
    void *parts[] = {w->memory, w->lens, w->tables, w->q, w->k_new, w->v_new, w->out, w->lse};
    apx_job_destroy(w->job);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i)
        free(parts[i]);
}

apx_submission submission_of(const workload *w, int32_t layer, int32_t priority)
{
    return (apx_submission){.job = w->job, .layer = layer, .priority = priority, .io = w->io};
}

apx_pool *make_pool(int32_t num_threads, int32_t max_in_flight, int64_t spin_ns)
{
    apx_pool *pool = NULL;
    apx_pool_options options = {.num_threads = num_threads,
                                .is_pinned = 0,
                                .max_in_flight = max_in_flight,
                                .spin_ns = spin_ns};
    EXPECT(apx_pool_create(&options, &pool) == APX_OK);
    return need(pool);
}

/* ------------------------------------------------------------------ kernels behind a gate */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static event log_of_events[MAX_EVENTS];
static int32_t num_events;
static int32_t gate;

static void write_down(int32_t job, bool is_end)
{
    (void)pthread_mutex_lock(&lock);
    if (num_events < MAX_EVENTS)
        log_of_events[num_events++] = (event){job, is_end};
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

static void pass_gate(int32_t job)
{
    (void)pthread_mutex_lock(&lock);
    while (gate == job)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
}

static void attend_at_gate(const apx_shape *shape, const apx_piece *piece, apx_state state,
                           void *scratch)
{
    int32_t job = (int32_t)piece->softmax_scale;
    write_down(job, false);
    apx_kernels_reference()->attend(shape, piece, state, scratch);
    pass_gate(job);
    if (piece->poll != NULL)
        piece->poll(piece->poll_context);
    write_down(job, true);
}

static void finish_plainly(const apx_shape *shape, int32_t num_states, const apx_state *states,
                           int32_t head_begin, int32_t head_end, const float *sink_logits,
                           void *out, int32_t out_dtype, float *lse)
{
    apx_kernels_reference()->finish(shape, num_states, states, head_begin, head_end, sink_logits,
                                    out, out_dtype, lse);
}

static void append_plainly(const apx_shape *shape, uint8_t *layer, int64_t block, int32_t slot,
                           int32_t head_begin, int32_t head_end, const void *k, const void *v,
                           int32_t dtype)
{
    apx_kernels_reference()->append(shape, layer, block, slot, head_begin, head_end, k, v, dtype);
}

void use_gated_kernels(workload *w, int32_t number)
{
    static const apx_kernels gated = {attend_at_gate, finish_plainly, append_plainly};
    w->job->kernels = &gated;
    w->job->batch.softmax_scale = (float)number;
}

void set_gate(int32_t number)
{
    (void)pthread_mutex_lock(&lock);
    gate = number;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

void wait_for_events(int32_t count)
{
    (void)pthread_mutex_lock(&lock);
    while (num_events < count)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
}

int32_t read_events(event *events)
{
    (void)pthread_mutex_lock(&lock);
    int32_t count = num_events;
    memcpy(events, log_of_events, sizeof log_of_events);
    (void)pthread_mutex_unlock(&lock);
    return count;
}

void clear_events(void)
{
    (void)pthread_mutex_lock(&lock);
    num_events = 0;
    (void)pthread_mutex_unlock(&lock);
}
