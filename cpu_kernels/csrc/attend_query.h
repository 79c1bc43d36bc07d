/* The scratch memory of a piece, and q in it as the strips want it. */
#ifndef APX_ATTEND_QUERY_H
#define APX_ATTEND_QUERY_H

#include <float.h>
#include <string.h>

#include "attend_strip.h"
#include "numbers.h"

typedef struct attend_scratch {
    float *q;         /* [heads][Q_STRIDE] */
    float *q_scale;   /* [heads] */
    int32_t *q_sum;   /* [heads] */
    float *base;      /* [heads] */
    float *limit;     /* [heads] */
    float *sums;      /* [heads][16] */
    float *p;         /* [SIMD_MAX_GROUP][P_STRIDE] */
    uint16_t *p_bf16; /* [SIMD_MAX_GROUP][P_STRIDE] */
    int8_t *p_digits; /* [SIMD_MAX_GROUP][2 * P_STRIDE] */
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
    at += SIMD_MAX_GROUP * P_STRIDE * sizeof(uint16_t);
    parts.p_digits = (int8_t *)at;
    at += SIMD_MAX_GROUP * 2 * P_STRIDE;
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
#endif
