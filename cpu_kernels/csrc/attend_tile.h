/* Scores and values of a strip, for any dtype: its K summed with q, its V with the weights. */
#ifndef APX_ATTEND_TILE_H
#define APX_ATTEND_TILE_H

#include <float.h>

#include "attend_softmax.h"
#include "attend_sums.h"

/* ------------------------------------------------- scores: q_scale[g] * q[g] . k[t] */

/* Of 16 * wide tokens from `token` of the strip; half 1: the second 16 of a stripe of 32, where
 * registers do not hold both. */
SIMD_INLINE void scores_wide(const int32_t dtype, const int group, const int wide, const strip *s,
                             int32_t token, const int half)
{
    v16 acc[SIMD_MAX_ACC];
    UNROLL for (int i = 0; i < group * wide; i++) acc[i] = v_zero();
    sum_pairs(dtype, group, wide, acc, half_of(key_lines(s, token), dtype, half),
              s->shape->head_dim / 2, s->q, Q_STRIDE);
    weigh(dtype, group, wide, acc, s, token + half * APX_LANES);
}

#ifdef SIMD_HAS_BF16
SIMD_INLINE void scores_bf16_wide(const int two, const int group, const int wide, const strip *s,
                                  int32_t token)
{
    v16 acc[SIMD_MAX_ACC];
    UNROLL for (int i = 0; i < group * wide; i++) acc[i] = v_zero();
    sum_bf16(group, wide, two, acc, key_lines(s, token), s->shape->head_dim / 2,
             (const uint16_t *)(const void *)s->q, 2 * Q_STRIDE, Q_STRIDE);
    UNROLL for (int i = 0; i < group * wide; i++)
        acc[i] = v_mul(acc[i], v_all(s->q_scale[i / wide]));
    weigh(APX_BF16, group, wide, acc, s, token);
}
#endif

SIMD_INLINE void scores_i8_wide(const int group, const int wide, const strip *s, int32_t token,
                                const int half)
{
    i16 hi[SIMD_MAX_ACC], lo[SIMD_MAX_ACC];
    v16 score[SIMD_MAX_ACC];
    const lines k = half_of(key_lines(s, token), APX_I8, half);
    token += half * APX_LANES;
    UNROLL for (int i = 0; i < group * wide; i++) {
        hi[i] = i_zero();
        lo[i] = i_all(-128 * s->q_sum[i / wide]); /* stored with 128 added */
    }
    sum_quads(group, wide, hi, lo, k, s->shape->head_dim / 4,
              (const int8_t *)(const void *)s->q, 4 * Q_STRIDE, Q_STRIDE);
    UNROLL for (int n = 0; n < wide; n++) {
        v16 scale = load_scales(s, s->k_scales, token + n * APX_LANES);
        UNROLL for (int g = 0; g < group; g++) {
            i16 whole = i_add(i_times_128(hi[g * wide + n]), lo[g * wide + n]);
            score[g * wide + n] = v_mul(v_mul(v_from_i(whole), v_all(s->q_scale[g])), scale);
        }
    }
    weigh(APX_I8, group, wide, score, s, token);
}

/* ------------------------------------------------- values: acc[g] += sum_t p[g][t] * v[t] */

/* The weight of one token in all lanes, as the sums over pairs see it. */
SIMD_INLINE v16 one_weight(const int32_t dtype, const strip *s, const int g, int32_t token)
{
#ifdef SIMD_HAS_BF16
    if (dtype == APX_BF16) return v_all_bf16(s->p_bf16[g * P_STRIDE + token]);
#endif
    (void)dtype;
    return v_all(s->p[g * P_STRIDE + token]);
}

/* A token whose neighbour in the pair is not seen: one of at most two at the ends of a strip. */
SIMD_INLINE void add_token(const int32_t dtype, const int group, const int wide, v16 *acc,
                           const strip *s, int32_t dim, const int half, int32_t token)
{
    const lines v = half_of(value_lines(s, dim, token / 2 * 2), dtype, half);
    UNROLL for (int n = 0; n < wide; n++) {
        v16 x0, x1;
        load_pair(dtype, v.x, v.row, n, &x0, &x1);
        v16 x = token % 2 ? x1 : x0;
        UNROLL for (int g = 0; g < group; g++)
            acc[g * wide + n] = v_fma(x, one_weight(dtype, s, g, token), acc[g * wide + n]);
    }
}

SIMD_INLINE void add_ends(const int32_t dtype, const int group, const int wide, v16 *acc,
                          const strip *s, int32_t dim, const int half)
{
    if (s->begin % 2) add_token(dtype, group, wide, acc, s, dim, half, s->begin);
    if (s->end % 2) add_token(dtype, group, wide, acc, s, dim, half, s->end - 1);
}

SIMD_INLINE void load_acc(const int group, const int wide, v16 *acc, const strip *s,
                          int32_t dim)
{
    UNROLL for (int g = 0; g < group; g++)
        UNROLL for (int n = 0; n < wide; n++)
            acc[g * wide + n] = v_load(s->acc + (ptrdiff_t)g * s->shape->head_dim + dim
                                       + n * APX_LANES);
}

SIMD_INLINE void store_acc(const int group, const int wide, const v16 *acc, const strip *s,
                           int32_t dim)
{
    UNROLL for (int g = 0; g < group; g++)
        UNROLL for (int n = 0; n < wide; n++)
            v_store(s->acc + (ptrdiff_t)g * s->shape->head_dim + dim + n * APX_LANES,
                    acc[g * wide + n]);
}

/* Of 16 * wide dimensions from `dim`. */
SIMD_INLINE void values_wide(const int32_t dtype, const int group, const int wide, const strip *s,
                             int32_t dim, const int half)
{
    const int32_t first = (s->begin + 1) / 2, last = s->end / 2;
    v16 acc[SIMD_MAX_ACC];
    load_acc(group, wide, acc, s, dim + half * APX_LANES);
    sum_pairs(dtype, group, wide, acc, half_of(value_lines(s, dim, 2 * first), dtype, half),
              last - first, s->p + 2 * first, P_STRIDE);
    add_ends(dtype, group, wide, acc, s, dim, half);
    store_acc(group, wide, acc, s, dim + half * APX_LANES);
}

#ifdef SIMD_HAS_BF16
SIMD_INLINE void values_bf16_wide(const int group, const int wide, const strip *s, int32_t dim)
{
    const int32_t first = (s->begin + 1) / 2, last = s->end / 2;
    v16 acc[SIMD_MAX_ACC];
    load_acc(group, wide, acc, s, dim);
    sum_bf16(group, wide, 0, acc, value_lines(s, dim, 2 * first), last - first,
             s->p_bf16 + 2 * first, P_STRIDE, 0);
    add_ends(APX_BF16, group, wide, acc, s, dim, 0);
    store_acc(group, wide, acc, s, dim);
}
#endif

/* Writes weights as whole numbers 128 * hi + lo of `unit[g]`, tokens not seen as zero, and -128
 * times their sum: what the 128 added to every stored value comes to. */
SIMD_INLINE void weights_to_digits(const int group, const strip *s, float *unit, int32_t *offset)
{
    const int32_t first = s->begin / APX_LANES, vectors = (s->end + APX_LANES - 1) / APX_LANES;
    UNROLL for (int g = 0; g < group; g++) {
        float *p = s->p + g * P_STRIDE;
        v16 most = v_zero(), taint = v_zero();
        for (int32_t i = first; i < vectors; i++) {
            v16 scales = load_scales(s, s->v_scales, i * APX_LANES);
            scales = v_keep(scales, s->begin - i * APX_LANES, s->end - i * APX_LANES, v_zero());
            v16 x = v_mul(v_load(p + i * APX_LANES), scales);
            v_store(p + i * APX_LANES, x);
            most = v_max(x, most);
            taint = v_fma(x, v_zero(), taint); /* NaN if any is NaN */
        }
        float step = v_max_across(most) / DIGIT_RANGE;
        step = step > FLT_MIN ? step : FLT_MIN;
        v16 per_step = v_all(1.0f / step);
        i16 total = i_zero();
        int8_t *digits = s->p_digits + g * 2 * P_STRIDE;
        for (int32_t i = first; i < vectors; i++) {
            /* v_max: a NaN becomes 0, not an integer that overflows; `taint` keeps it */
            i16 n = i_round(v_max(v_mul(v_load(p + i * APX_LANES), per_step), v_zero()));
            i16 hi = i_over_128(i_add(n, i_all(64)));
            i_store_bytes(digits + i * APX_LANES, hi);
            i_store_bytes(digits + P_STRIDE + i * APX_LANES, i_sub(n, i_times_128(hi)));
            total = i_add(total, n);
        }
        unit[g] = step + v_sum_across(taint);
        offset[g] = -128 * i_sum_across(total);
    }
}

/* As values_wide; half 1: the second 16 dimensions of a stripe of 32. */
SIMD_INLINE void values_i8_wide(const int group, const int wide, const strip *s, int32_t dim,
                                const int half, const float *unit, const int32_t *offset)
{
    const int32_t first = s->begin / APX_LANES * APX_LANES; /* digits before begin are zero */
    const lines v = half_of(value_lines(s, dim, first), APX_I8, half);
    i16 hi[SIMD_MAX_ACC], lo[SIMD_MAX_ACC];
    v16 acc[SIMD_MAX_ACC];
    dim += half * APX_LANES;
    UNROLL for (int i = 0; i < group * wide; i++) {
        hi[i] = i_zero();
        lo[i] = i_all(offset[i / wide]);
    }
    sum_quads(group, wide, hi, lo, v, (s->end - first + 3) / 4, s->p_digits + first, 2 * P_STRIDE,
              P_STRIDE);
    load_acc(group, wide, acc, s, dim);
    UNROLL for (int g = 0; g < group; g++)
        UNROLL for (int n = 0; n < wide; n++) {
            i16 whole = i_add(i_times_128(hi[g * wide + n]), lo[g * wide + n]);
            acc[g * wide + n] = v_fma(v_from_i(whole), v_all(unit[g]), acc[g * wide + n]);
        }
    store_acc(group, wide, acc, s, dim);
}
#endif
