/* The online softmax of a strip: scores become weights relative to a base that rarely rises.
 */
#ifndef APX_ATTEND_SOFTMAX_H
#define APX_ATTEND_SOFTMAX_H

#include "attend_strip.h"

SIMD_INLINE void store_weights(const int32_t dtype, v16 x, const strip *s, const int g,
                               int32_t token)
{
#ifdef SIMD_HAS_BF16
    if (dtype == APX_BF16) {
        v_store_bf16(s->p_bf16 + g * P_STRIDE + token, x);
        return;
    }
#endif
    if (dtype == APX_F8E4M3) x = v_mul(x, v_all(SIMD_F8_SCALE));
    v_store(s->p + g * P_STRIDE + token, x);
}

SIMD_INLINE v16 load_weights(const int32_t dtype, const strip *s, const int g, int32_t token)
{
#ifdef SIMD_HAS_BF16
    if (dtype == APX_BF16) return v_load_bf16(s->p_bf16 + g * P_STRIDE + token);
#endif
    v16 x = v_load(s->p + g * P_STRIDE + token);
    return dtype == APX_F8E4M3 ? v_mul(x, v_all(1.0f / SIMD_F8_SCALE)) : x;
}

/* A new base for one head, from `count` scores in s->p at `token`: what was summed with the old
 * base shrinks, and so do the strip's weights before `token`, whose values are not summed yet. */
SIMD_INLINE void raise_base(const int32_t dtype, const strip *s, const int g, int32_t token,
                            int32_t count)
{
    const float *p = s->p + g * P_STRIDE;
    v16 most = v_all(s->limit[g] - BASE_MARGIN);
    for (int32_t i = 0; i < count; i += APX_LANES) most = v_max(v_load(p + token + i), most);
    const float base = v_max_across(most);
    if (!(base > s->limit[g])) return; /* another head's scores were above their limit */
    const int is_first = s->limit[g] == -INFINITY; /* no sums yet, and no old base */
    const v16 shrink = is_first ? v_zero() : v_exp2(v_all(s->base[g] - base));
    s->base[g] = base;
    s->limit[g] = base + BASE_MARGIN;
    v_store(s->sums + g * APX_LANES, v_mul(v_load(s->sums + g * APX_LANES), shrink));
    for (int32_t d = 0; d < s->shape->head_dim; d += APX_LANES) {
        float *acc = s->acc + (ptrdiff_t)g * s->shape->head_dim + d;
        v_store(acc, v_mul(v_load(acc), shrink));
    }
    for (int32_t t = s->begin / APX_LANES * APX_LANES; t < token; t += APX_LANES)
        store_weights(dtype, v_mul(load_weights(dtype, s, g, t), shrink), s, g, t);
}

static __attribute__((noinline)) void raise_bases(int32_t dtype, const strip *s, int group,
                                                  int32_t token, int32_t count)
{
    for (int g = 0; g < group; g++) raise_base(dtype, s, g, token, count);
}

/* Turns scores of 16 * wide tokens into weights 2^(score - base) and adds them to the sums. */
SIMD_INLINE void weigh(const int32_t dtype, const int group, const int wide, v16 *score,
                       const strip *s, int32_t token)
{
    if (token < s->begin || token + wide * APX_LANES > s->end)
        UNROLL for (int i = 0; i < group * wide; i++) {
            const int32_t at = token + i % wide * APX_LANES;
            score[i] = v_keep(score[i], s->begin - at, s->end - at, v_all(-INFINITY));
        }
    int is_above = 0;
    UNROLL for (int g = 0; g < group; g++)
        UNROLL for (int n = 0; n < wide; n++)
            is_above |= v_any_above(score[g * wide + n], v_all(s->limit[g]));
    if (__builtin_expect(is_above, 0)) {
        UNROLL for (int g = 0; g < group; g++)
            UNROLL for (int n = 0; n < wide; n++)
                v_store(s->p + g * P_STRIDE + token + n * APX_LANES, score[g * wide + n]);
        raise_bases(dtype, s, group, token, wide * APX_LANES);
    }
    UNROLL for (int g = 0; g < group; g++) {
        v16 total = v_load(s->sums + g * APX_LANES);
        UNROLL for (int n = 0; n < wide; n++) {
            v16 x = v_exp2(v_sub(score[g * wide + n], v_all(s->base[g])));
#ifdef SIMD_HAS_BF16
            if (dtype == APX_BF16) x = v_round_bf16(x);
#endif
            total = v_add(total, x);
            store_weights(dtype, x, s, g, token + n * APX_LANES);
        }
        v_store(s->sums + g * APX_LANES, total);
    }
}
#endif
