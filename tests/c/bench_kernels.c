/* Time of one attend() per level, KV in cache: arithmetic, not memory. A look, not a result. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drivers.h"

enum { TOKENS = 1024, BLOCK = 64, DIM = 128, KV_HEADS = 1, REPEATS = 25 };

typedef struct bench {
    apx_shape shape;
    apx_piece piece;
    apx_state state;
    guarded layer, table, q, scratch, max, sum, acc, out;
} bench;

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static bench new_bench(int32_t kv_dtype, int32_t group)
{
    apx_cache cache = {.kv_dtype = kv_dtype, .scale_dtype = APX_F16, .block_size = BLOCK,
                       .head_dim = DIM, .num_kv_heads = KV_HEADS};
    bench b;
    memset(&b, 0, sizeof b);
    (void)apx_shape_of(&cache, &b.shape);
    b.shape.group = group;
    size_t heads = (size_t)(KV_HEADS * group);
    b.layer = guarded_new((size_t)(TOKENS / BLOCK * b.shape.block_bytes), 0);
    b.table = guarded_new(TOKENS / BLOCK * sizeof(int32_t), 0);
    b.q = guarded_new(heads * DIM * sizeof(uint16_t), 0);
    b.scratch = guarded_new((size_t)apx_scratch_bytes(&b.shape), 0);
    b.max = guarded_new(heads * sizeof(float), 0);
    b.sum = guarded_new(heads * sizeof(float), 0);
    b.acc = guarded_new(heads * DIM * sizeof(float), 0);
    b.out = guarded_new(heads * DIM * sizeof(float), 0);
    b.state = (apx_state){(float *)(void *)b.max.data, (float *)(void *)b.sum.data,
                          (float *)(void *)b.acc.data};
    b.piece = (apx_piece){.layer = b.layer.data,
                          .blocks = (const int32_t *)(const void *)b.table.data,
                          .token_end = TOKENS,
                          .head_end = KV_HEADS,
                          .q = b.q.data,
                          .q_dtype = APX_F16,
                          .softmax_scale = 0.1f};
    return b;
}

static void fill_bench(bench *b)
{
    uint64_t random = 1;
    float row[KV_HEADS * DIM];
    for (int32_t i = 0; i < TOKENS / BLOCK; ++i)
        memcpy(b->table.data + (size_t)i * sizeof i, &i, sizeof i);
    for (size_t i = 0; i < b->q.num_bytes / sizeof(uint16_t); ++i)
        put_value(b->q.data, (int64_t)i, random_unit(&random), APX_F16);
    for (int32_t token = 0; token < TOKENS; ++token) {
        for (int32_t d = 0; d < KV_HEADS * DIM; ++d)
            row[d] = (float)random_unit(&random);
        apx_kernels_reference()->append(&b->shape, b->layer.data, token / BLOCK, token % BLOCK, 0,
                                        KV_HEADS, row, row, APX_F32);
    }
}

static void free_bench(bench *b)
{
    guarded *buffers[] = {&b->layer, &b->table, &b->q, &b->scratch, &b->max, &b->sum, &b->acc,
                          &b->out};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        guarded_free(buffers[i]);
}

typedef enum bench_step { ATTEND, FINISH, APPEND, NUM_STEPS } bench_step;

static void run_step(const apx_kernels *kernels, bench *b, bench_step step)
{
    if (step == ATTEND)
        kernels->attend(&b->shape, &b->piece, b->state, b->scratch.data);
    else if (step == FINISH)
        kernels->finish(&b->shape, 1, &b->state, 0, KV_HEADS, NULL, b->out.data, APX_F16, NULL);
    else
        kernels->append(&b->shape, b->layer.data, 0, 0, 0, KV_HEADS, b->q.data, b->q.data,
                        APX_F16);
}

/* The shortest of several: what interrupts a run only makes it longer. */
static double shortest_ns(const apx_kernels *kernels, bench *b, bench_step step)
{
    int32_t inner = step == ATTEND ? 1 : 1000;
    double shortest = 1e30;
    for (int i = 0; i < REPEATS; ++i) {
        double begin = now_ns();
        for (int32_t j = 0; j < inner; ++j)
            run_step(kernels, b, step);
        double elapsed = (now_ns() - begin) / inner;
        shortest = elapsed < shortest ? elapsed : shortest;
    }
    return shortest;
}

static void bench_level(const level *l, int32_t kv_dtype, int32_t group)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "f8"};
    double ns[NUM_STEPS];
    bench b = new_bench(kv_dtype, group);
    fill_bench(&b);
    for (int step = 0; step < NUM_STEPS; ++step)
        ns[step] = shortest_ns(l->kernels, &b, (bench_step)step);
    (void)printf("%-9s %-4s group %d: attend %8.0f ns, %6.2f GB/s; finish %5.0f ns per head; "
                 "append %5.0f ns per KV head\n",
                 apx_isa_name(l->isa), names[kv_dtype], group, ns[ATTEND],
                 (double)b.layer.num_bytes / ns[ATTEND], ns[FINISH] / group, ns[APPEND]);
    free_bench(&b);
}

void bench_levels(const level *levels, int32_t num_levels)
{
    static const int32_t group_sizes[] = {1, 4, 8};
    for (int32_t l = 0; l < num_levels; ++l)
        for (int32_t dtype = APX_F32; dtype <= APX_F8E4M3; ++dtype)
            for (size_t i = 0; i < sizeof group_sizes / sizeof group_sizes[0]; ++i)
                bench_level(levels + l, dtype, group_sizes[i]);
}
