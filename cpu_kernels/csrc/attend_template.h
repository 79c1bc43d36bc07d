/* attend() of one SIMD level: walks a piece's blocks and hands strips of tiles to attend_tile.h.
 *
 * Included after a simd_*.h by a file that then defines its table with ATTEND_FUNCTION.
 */
#ifndef APX_ATTEND_TEMPLATE_H
#define APX_ATTEND_TEMPLATE_H

#include <string.h>

#include "attend_tile.h"
#include "finish.h"
#include "reference.h"

/* ------------------------------------------------- one strip, by dtype and group */

/* Calls TWO(lane) for the stripes of 32 lanes in [begin, end) of `all`, ONE(lane) for a stripe of 16
 * and where only the first 16 lanes are wanted. */
#define OVER_STRIPES(begin, end, all, TWO, ONE)                                                    \
    for (int32_t lane_ = (begin) / APX_STRIPE * APX_STRIPE; lane_ < (end); lane_ += APX_STRIPE) {  \
        if ((end) - lane_ > APX_LANES && (all) - lane_ > APX_LANES) {                              \
            TWO(lane_);                                                                            \
        } else {                                                                                   \
            ONE(lane_);                                                                            \
        }                                                                                          \
    }

/* A stripe of 32 at once where its sums fit the registers, else in halves. */
SIMD_INLINE void strip_floats(const int32_t dtype, const int group, const strip *s)
{
    const int32_t dim = s->shape->head_dim, left = s->shape->block_size - s->slot;
    const int fits = group * 2 <= SIMD_MAX_ACC;
#define TWO(i)                                                                                     \
    if (fits) scores_wide(dtype, group, 2, s, i, 0);                                               \
    else { scores_wide(dtype, group, 1, s, i, 0); scores_wide(dtype, group, 1, s, i, 1); }
#define ONE(i) scores_wide(dtype, group, 1, s, i, 0)
    OVER_STRIPES(s->begin, s->end, left, TWO, ONE)
#undef TWO
#undef ONE
#define TWO(i)                                                                                     \
    if (fits) values_wide(dtype, group, 2, s, i, 0);                                               \
    else { values_wide(dtype, group, 1, s, i, 0); values_wide(dtype, group, 1, s, i, 1); }
#define ONE(i) values_wide(dtype, group, 1, s, i, 0)
    OVER_STRIPES(0, dim, dim, TWO, ONE)
#undef TWO
#undef ONE
}

#ifdef SIMD_HAS_BF16
SIMD_INLINE void strip_bf16(const int two, const int group, const strip *s)
{
    const int32_t dim = s->shape->head_dim, left = s->shape->block_size - s->slot;
#define TWO(i) scores_bf16_wide(two, group, 2, s, i)
#define ONE(i) scores_bf16_wide(two, group, 1, s, i)
    OVER_STRIPES(s->begin, s->end, left, TWO, ONE)
#undef TWO
#undef ONE
#define TWO(i) values_bf16_wide(group, 2, s, i)
#define ONE(i) values_bf16_wide(group, 1, s, i)
    OVER_STRIPES(0, dim, dim, TWO, ONE)
#undef TWO
#undef ONE
}
#endif

/* Two sets of sums, hi and lo: more than half the registers' query heads take a stripe in halves. */
SIMD_INLINE void strip_i8(const int group, const strip *s)
{
    const int32_t dim = s->shape->head_dim, left = s->shape->block_size - s->slot;
    const int fits = group * 4 <= SIMD_MAX_ACC;
    float unit[SIMD_MAX_GROUP];
    int32_t offset[SIMD_MAX_GROUP];
#define TWO(i)                                                                                     \
    if (fits) scores_i8_wide(group, 2, s, i, 0);                                                   \
    else { scores_i8_wide(group, 1, s, i, 0); scores_i8_wide(group, 1, s, i, 1); }
#define ONE(i) scores_i8_wide(group, 1, s, i, 0)
    OVER_STRIPES(s->begin, s->end, left, TWO, ONE)
#undef TWO
#undef ONE
    weights_to_digits(group, s, unit, offset);
#define TWO(i)                                                                                     \
    if (fits) values_i8_wide(group, 2, s, i, 0, unit, offset);                              \
    else {                                                                                         \
        values_i8_wide(group, 1, s, i, 0, unit, offset);                                    \
        values_i8_wide(group, 1, s, i, 1, unit, offset);                                    \
    }
#define ONE(i) values_i8_wide(group, 1, s, i, 0, unit, offset)
    OVER_STRIPES(0, dim, dim, TWO, ONE)
#undef TWO
#undef ONE
}

typedef void (*strip_function)(const strip *);

#define STRIP(name, group, call)                                                                   \
    static __attribute__((noinline)) void name##_##group(const strip *s) { call; }
#define STRIPS_4(name, CALL)                                                                       \
    STRIP(name, 1, CALL(1)) STRIP(name, 2, CALL(2)) STRIP(name, 3, CALL(3)) STRIP(name, 4, CALL(4))
#define NAMES_4(name) name##_1, name##_2, name##_3, name##_4

#define CALL_F32(group) strip_floats(APX_F32, group, s)
#define CALL_F16(group) strip_floats(APX_F16, group, s)
#define CALL_F8(group) strip_floats(APX_F8E4M3, group, s)
#define CALL_I8(group) strip_i8(group, s)
#ifdef SIMD_HAS_BF16
#define CALL_BF16(group) strip_bf16(0, group, s)
#define CALL_BF16_TWO(group) strip_bf16(1, group, s)
#else
#define CALL_BF16(group) strip_floats(APX_BF16, group, s)
#endif

/* Groups of 5 to 7 go as two of 3 or 4: each function costs a second of compile time. */
#ifdef SIMD_HAS_GROUP_8
#define STRIPS(name, CALL) STRIPS_4(name, CALL) STRIP(name, 8, CALL(8))
#define NAMES(name) NAMES_4(name), [7] = name##_8
#else
#define STRIPS(name, CALL) STRIPS_4(name, CALL)
#define NAMES(name) NAMES_4(name)
#endif

STRIPS(strip_f32, CALL_F32)
STRIPS(strip_f16, CALL_F16)
STRIPS(strip_bf16, CALL_BF16)
STRIPS_4(strip_i8, CALL_I8) /* twice the sums: never more than four heads */
STRIPS(strip_f8, CALL_F8)
#ifdef SIMD_HAS_BF16
STRIPS(strip_bf16_two, CALL_BF16_TWO)
#endif

enum { BF16_TWO_TERMS = APX_F8E4M3 + 1 }; /* bf16 KV with q as hi + lo, after the dtypes */

static const strip_function strip_functions[][SIMD_MAX_GROUP] = {
    [APX_F32] = {NAMES(strip_f32)},   [APX_F16] = {NAMES(strip_f16)},
    [APX_BF16] = {NAMES(strip_bf16)}, [APX_I8] = {NAMES_4(strip_i8)},
    [APX_F8E4M3] = {NAMES(strip_f8)},
#ifdef SIMD_HAS_BF16
    [BF16_TWO_TERMS] = {NAMES(strip_bf16_two)},
#endif
};

/* ------------------------------------------------- q, as the strips want it */

typedef struct attend_scratch {
    float *q;         /* [heads][Q_STRIDE] */
    float *q_scale;   /* [heads] */
    int32_t *q_sum;   /* [heads] */
    float *base;      /* [heads] */
    float *limit;     /* [heads] */
    float *sums;      /* [heads][16] */
    float *p;         /* [SIMD_MAX_GROUP][P_STRIDE] */
    uint16_t *p_bf16; /* [SIMD_MAX_GROUP][2 * P_STRIDE] */
    int8_t *p_digits; /* [SIMD_MAX_GROUP][4 * P_STRIDE] */
} attend_scratch;

static attend_scratch divide_scratch(const apx_shape *shape, void *memory)
{
    const size_t heads = (size_t)shape->num_kv_heads * (size_t)shape->group;
    const size_t small = (heads * sizeof(float) + APX_LINE - 1) / APX_LINE * APX_LINE;
    uint8_t *at = memory;
    attend_scratch parts;
    parts.p = (float *)(void *)at;
    at += SIMD_MAX_GROUP * P_STRIDE * sizeof(float);
    parts.p_bf16 = (uint16_t *)(void *)at;
    at += SIMD_MAX_GROUP * 2 * P_STRIDE * sizeof(uint16_t);
    parts.p_digits = (int8_t *)at;
    at += SIMD_MAX_GROUP * 4 * P_STRIDE;
    parts.q_scale = (float *)(void *)at;
    at += small;
    parts.q_sum = (int32_t *)(void *)at;
    at += small;
    parts.base = (float *)(void *)at;
    at += small;
    parts.limit = (float *)(void *)at;
    at += small;
    parts.sums = (float *)(void *)at;
    at += heads * APX_LANES * sizeof(float);
    parts.q = (float *)(void *)at;
    return parts;
}

/* Sixteen values of q as floats. */
static v16 load_q(const void *q, int32_t dtype, ptrdiff_t i)
{
    if (dtype == APX_F32) return v_load((const float *)q + i);
    const uint16_t *words = (const uint16_t *)q + i;
    return dtype == APX_F16 ? v_load_f16(words) : v_load_bf16(words);
}

static void q_to_floats(const void *q, int32_t q_dtype, int32_t dim, float factor, float *out)
{
    for (int32_t c = 0; c < dim; c += APX_LANES)
        v_store(out + c, v_mul(load_q(q, q_dtype, c), v_all(factor)));
}

#ifdef SIMD_HAS_BF16
/* q = hi + lo, both bf16; an infinite hi has no rest. With q of bf16 nobody reads lo. */
static void q_to_bf16(const void *q, int32_t q_dtype, int32_t dim, float *out)
{
    if (q_dtype == APX_BF16) {
        memcpy(out, q, (size_t)dim * sizeof(uint16_t));
        return;
    }
    uint16_t *hi = (uint16_t *)(void *)out, *lo = hi + Q_STRIDE;
    for (int32_t c = 0; c < dim; c += APX_LANES) {
        v16 x = load_q(q, q_dtype, c), rounded = v_round_bf16(x);
        v_store_bf16(hi + c, x);
        v_store_bf16(lo + c, v_finite_or_zero(v_sub(x, rounded)));
    }
}
#endif

/* q = step * (128 * hi + lo); the step is NaN where an element is not finite. */
static float q_to_digits(const void *q, int32_t q_dtype, int32_t dim, float *out, int32_t *sum)
{
    int8_t *hi = (int8_t *)(void *)out, *lo = hi + Q_STRIDE;
    v16 most = v_zero(), taint = v_zero();
    i16 total = i_zero();
    for (int32_t c = 0; c < dim; c += APX_LANES) {
        v16 x = load_q(q, q_dtype, c);
        most = v_max(v_abs(x), most);
        taint = v_fma(x, v_zero(), taint); /* NaN if any is infinite or NaN */
    }
    float step = v_max_across(most) / DIGIT_RANGE;
    step = step > FLT_MIN ? step : FLT_MIN;
    for (int32_t c = 0; c < dim; c += APX_LANES) {
        /* v_max: a NaN becomes a small number, not one that overflows; `taint` keeps it */
        v16 steps = v_max(v_mul(load_q(q, q_dtype, c), v_all(1.0f / step)), v_all(-DIGIT_RANGE));
        i16 n = i_round(steps);
        i16 high = i_over_128(i_add(n, i_all(64)));
        i_store_bytes(hi + c, high);
        i_store_bytes(lo + c, i_sub(n, i_times_128(high)));
        total = i_add(total, n);
    }
    *sum = i_sum_across(total);
    return step + v_sum_across(taint);
}

static void prepare_q(const apx_shape *shape, const apx_piece *piece, const attend_scratch *to)
{
    const int32_t dim = shape->head_dim;
    const int32_t first = piece->head_begin * shape->group;
    const int32_t count = (piece->head_end - piece->head_begin) * shape->group;
    const float factor = piece->softmax_scale * APX_LOG2_E;
    const uint8_t *q = (const uint8_t *)piece->q;
    const ptrdiff_t bytes = (ptrdiff_t)dim * apx_element_bytes(piece->q_dtype);
    for (int32_t h = 0; h < count; h++) {
        const void *row = q + (first + h) * bytes;
        float *out = to->q + (ptrdiff_t)h * Q_STRIDE;
        to->q_scale[h] = factor;
        if (shape->kv_dtype == APX_I8)
            to->q_scale[h] *= q_to_digits(row, piece->q_dtype, dim, out, &to->q_sum[h]);
#ifdef SIMD_HAS_BF16
        else if (shape->kv_dtype == APX_BF16)
            q_to_bf16(row, piece->q_dtype, dim, out);
#endif
        else
            q_to_floats(row, piece->q_dtype, dim,
                        shape->kv_dtype == APX_F8E4M3 ? factor * SIMD_F8_SCALE : factor, out);
    }
}

/* ------------------------------------------------- the walk over blocks, heads and strips */

typedef struct walk {
    const apx_shape *shape;
    const apx_piece *piece;
    apx_state state;
    attend_scratch scratch;
    const strip_function *functions;
    int32_t most_heads; /* query heads that go through a tile together */
    ptrdiff_t distance; /* of prefetches */
} walk;

/* The query heads of one KV head, as many at a time as registers hold, in equal parts. */
static void attend_group(const walk *w, strip *s, int32_t kv_head)
{
    const int32_t group = w->shape->group;
    const int32_t fewer = w->most_heads < 4 ? w->most_heads : 4;
    const int32_t most = group % w->most_heads == 0 ? w->most_heads : fewer;
    const int32_t parts = (group + most - 1) / most;
    for (int32_t i = 0; i < parts; i++) {
        const int32_t from = i * group / parts, to = (i + 1) * group / parts;
        const int32_t h = (kv_head - w->piece->head_begin) * group + from;
        s->q = w->scratch.q + (ptrdiff_t)h * Q_STRIDE;
        s->q_scale = w->scratch.q_scale + h;
        s->q_sum = w->scratch.q_sum + h;
        s->base = w->scratch.base + h;
        s->limit = w->scratch.limit + h;
        s->sums = w->scratch.sums + (ptrdiff_t)h * APX_LANES;
        s->acc = w->state.acc + (ptrdiff_t)h * w->shape->head_dim;
        w->functions[to - from - 1](s);
    }
}

/* Tokens [begin, end) of a tile, in strips of 64. */
static void attend_tile(const walk *w, const uint8_t *tile, int32_t kv_head, int32_t begin,
                        int32_t end, run memory)
{
    const apx_shape *shape = w->shape;
    const uint8_t *k = tile + 2 * shape->scale_bytes, *v = k + shape->kv_bytes;
    const int32_t scale_bytes = apx_element_bytes(shape->scale_dtype);
    for (int32_t at = begin / STRIP_TOKENS * STRIP_TOKENS; at < end; at += STRIP_TOKENS) {
        strip s = {
            .shape = shape,
            .k = k,
            .v = v,
            .k_scales = tile + (ptrdiff_t)at * scale_bytes,
            .v_scales = tile + shape->scale_bytes + (ptrdiff_t)at * scale_bytes,
            .slot = at,
            .begin = begin > at ? begin - at : 0,
            .end = end - at < STRIP_TOKENS ? end - at : STRIP_TOKENS,
            .memory = memory,
            .p = w->scratch.p,
            .p_bf16 = w->scratch.p_bf16,
            .p_digits = w->scratch.p_digits,
        };
        attend_group(w, &s, kv_head);
    }
}

/* All heads of block number `index` of the row: one run of memory. */
static void attend_block(const walk *w, int32_t index, int32_t last_index)
{
    const apx_piece *piece = w->piece;
    const apx_shape *shape = w->shape;
    const int32_t size = shape->block_size;
    const uint8_t *block = piece->layer + piece->blocks[index] * shape->block_bytes;
    const ptrdiff_t from = piece->head_begin * shape->tile_bytes;
    const int32_t begin = piece->token_begin - index * size, end = piece->token_end - index * size;
    run memory = {block + piece->head_end * shape->tile_bytes, -w->distance, w->distance};
    if (index < last_index)
        memory.jump =
            piece->layer + piece->blocks[index + 1] * shape->block_bytes + from - memory.end;
    for (int32_t head = piece->head_begin; head < piece->head_end; head++)
        attend_tile(w, block + head * shape->tile_bytes, head, begin > 0 ? begin : 0,
                    end < size ? end : size, memory);
}

static strip_function const *functions_for(const apx_shape *shape, int32_t q_dtype)
{
#ifdef SIMD_HAS_BF16
    if (shape->kv_dtype == APX_BF16 && q_dtype != APX_BF16)
        return strip_functions[BF16_TWO_TERMS];
#endif
    (void)q_dtype;
    return strip_functions[shape->kv_dtype];
}

static void attend(const apx_shape *shape, const apx_piece *piece, apx_state state, void *scratch)
{
    if (shape->block_size < APX_LANES) { /* blocks of 8 tokens: half a vector */
        apx_kernels_reference()->attend(shape, piece, state, scratch);
        return;
    }
    const int32_t heads = (piece->head_end - piece->head_begin) * shape->group;
    const int32_t first = piece->token_begin / shape->block_size;
    const int32_t last = (piece->token_end - 1) / shape->block_size;
    walk w = {shape, piece, state, divide_scratch(shape, scratch),
              functions_for(shape, piece->q_dtype),
              shape->kv_dtype == APX_I8 ? SIMD_MAX_GROUP_I8 : SIMD_MAX_GROUP,
              apx_prefetch_bytes(shape->group)};
    for (int32_t h = 0; h < heads; h++) {
        w.scratch.base[h] = 0.0f;
        w.scratch.limit[h] = -INFINITY;
    }
    memset(w.scratch.sums, 0, (size_t)heads * APX_LANES * sizeof(float));
    memset(state.acc, 0, (size_t)heads * (size_t)shape->head_dim * sizeof(float));
    prepare_q(shape, piece, &w.scratch);
    for (int32_t index = first; index <= last; index++) {
        attend_block(&w, index, last);
        if (piece->poll != NULL && index < last) piece->poll(piece->poll_context);
    }
    for (int32_t h = 0; h < heads; h++) {
        const float sum = v_sum_across(v_load(w.scratch.sums + (ptrdiff_t)h * APX_LANES));
        const bool is_zero = w.scratch.limit[h] == -INFINITY; /* no score above -inf, or all NaN */
        state.sum[h] = sum;
        state.max[h] = isnan(sum) ? NAN : is_zero ? -INFINITY : w.scratch.base[h];
    }
}

/* ------------------------------------------------- finish */

static void narrow(const float *values, int32_t count, void *out, int32_t dtype)
{
    for (int32_t i = 0; i < count; i += APX_LANES) {
        if (dtype == APX_F32) v_store((float *)out + i, v_load(values + i));
        else if (dtype == APX_F16) v_store_f16((uint16_t *)out + i, v_load(values + i));
        else v_narrow_bf16((uint16_t *)out + i, v_load(values + i));
    }
}

static void finish(const apx_shape *shape, int32_t num_states, const apx_state *states,
                   int32_t head_begin, int32_t head_end, const float *sink_logits, void *out,
                   int32_t out_dtype, float *lse)
{
    apx_finish_with(narrow, shape, num_states, states, head_begin, head_end, sink_logits, out,
                    out_dtype, lse);
}

#define ATTEND_FUNCTION(name)                                                                      \
    const apx_kernels *name(void)                                                                  \
    {                                                                                              \
        static const apx_kernels kernels = {attend, finish, apx_append_reference};                 \
        return &kernels;                                                                           \
    }
#endif
