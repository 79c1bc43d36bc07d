#include "cases.h"

#include <math.h>
#include <stdio.h>

/* Every combination of these, in this order, the last fastest. */
static const int32_t kv_kinds[][2] = {{APX_F32, 0},      {APX_F16, 0},      {APX_BF16, 0},
                                      {APX_I8, APX_F32}, {APX_I8, APX_F16}, {APX_F8E4M3, 0}};
static const int32_t head_dims[] = {64, 80, 96, 128, 256, 16};
static const int32_t block_sizes[] = {8, 16, 32, 48, 64, 128};
static const int32_t groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12};

enum {
    NUM_KV = sizeof kv_kinds / sizeof kv_kinds[0],
    NUM_DIMS = sizeof head_dims / sizeof head_dims[0],
    NUM_SIZES = sizeof block_sizes / sizeof block_sizes[0],
    NUM_GROUPS = sizeof groups / sizeof groups[0],
    ROUNDS = 4 /* draws of everything else */
};

static const char *const dtype_names[] = {"f32", "f16", "bf16", "i8", "f8"};

const char *kind_name(data_kind kind)
{
    static const char *const names[NUM_KINDS] = {
        "plain",    "large",   "huge",          "tiny",          "denormal",
        "rising",   "outliers", "zeros",        "k_minus_inf",   "all_minus_inf",
        "k_plus_inf", "k_nan",  "v_nan",        "q_nan",         "q_inf"};
    return names[kind];
}

int32_t num_test_cases(void)
{
    return NUM_KV * NUM_DIMS * NUM_SIZES * NUM_GROUPS * ROUNDS;
}

static int32_t draw_length(uint64_t *random, int32_t block_size)
{
    const int32_t edges[] = {0,  1,  2,  7,  15, 16, 17, 31, 63, 64, 65, block_size - 1,
                             block_size, block_size + 1, 2 * block_size, 2 * block_size + 1};
    int32_t num_edges = (int32_t)(sizeof edges / sizeof edges[0]);
    int32_t drawn = random_below(random, 2 * num_edges);
    return drawn < num_edges ? edges[drawn] : random_below(random, MAX_CASE_TOKENS + 1);
}

/* No window, mostly; else one that begins anywhere, with or without attention sinks before it. */
static void draw_window(uint64_t *random, test_case *c)
{
    c->begin = 0;
    c->sinks = 0;
    if (c->length < 2 || random_below(random, 3) != 0)
        return;
    c->begin = 1 + random_below(random, c->length - 1);
    c->sinks = random_below(random, 2) * random_below(random, c->begin + 1);
}

/* Scores near one, whatever the format holds: formats differ in what they call large. */
static float draw_scale(const test_case *c)
{
    float even = 1.0f / sqrtf((float)c->shape.head_dim);
    if (c->kind == HUGE_KV)
        return even * 1e-6f;
    if (c->kind != DENORMAL)
        return even;
    bool is_wide = c->shape.kv_dtype == APX_F32 || c->shape.kv_dtype == APX_BF16;
    return even * (is_wide ? 1e34f : 1e5f);
}

test_case test_case_of(int32_t number)
{
    test_case c = {.seed = FIRST_SEED + (uint64_t)number, .kind = PLAIN};
    uint64_t random = c.seed;
    int32_t rest = number / ROUNDS;
    int32_t group = groups[rest % NUM_GROUPS];
    rest /= NUM_GROUPS;
    c.cache.block_size = block_sizes[rest % NUM_SIZES];
    rest /= NUM_SIZES;
    c.cache.head_dim = head_dims[rest % NUM_DIMS];
    c.cache.kv_dtype = kv_kinds[rest / NUM_DIMS][0];
    c.cache.scale_dtype = kv_kinds[rest / NUM_DIMS][1];
    /* Many heads where they are small: what is kept per head must not depend on their size. */
    int32_t most_heads = c.cache.head_dim == 16 ? 20 : group <= 2 ? 4 : 2;
    c.cache.num_kv_heads = 1 + random_below(&random, most_heads);
    c.cache.num_layers = 1;
    (void)apx_shape_of(&c.cache, &c.shape);
    c.shape.group = group;
    c.q_dtype = random_below(&random, 3);
    c.length = draw_length(&random, c.cache.block_size);
    draw_window(&random, &c);
    if (random_below(&random, 3) != 0)
        c.kind = (data_kind)random_below(&random, NUM_KINDS);
    c.softmax_scale = draw_scale(&c);
    c.has_sink_logits = random_below(&random, 3) == 0;
    c.has_lse = random_below(&random, 3) != 0;
    c.repeats_blocks = random_below(&random, 8) == 0;
    return c;
}

void describe_case(const test_case *c, char *text, size_t num_bytes)
{
    (void)snprintf(text, num_bytes,
                   "kv=%s%s q=%s dim=%d block=%d heads=%dx%d tokens=%d visible=[0,%d)+[%d,) %s%s%s",
                   dtype_names[c->shape.kv_dtype],
                   c->shape.kv_dtype != APX_I8         ? ""
                   : c->shape.scale_dtype == APX_F16 ? "/f16"
                                                     : "/f32",
                   dtype_names[c->q_dtype], c->shape.head_dim, c->shape.block_size,
                   c->shape.num_kv_heads, c->shape.group, c->length, c->sinks, c->begin,
                   kind_name(c->kind), c->has_sink_logits ? " sink_logits" : "",
                   c->repeats_blocks ? " repeated_blocks" : "");
}
