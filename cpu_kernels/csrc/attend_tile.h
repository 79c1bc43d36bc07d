/* Attention of a few query heads to at most 64 tokens of one tile, for any dtype and SIMD level.
 *
 * Included after a simd_*.h. K and V are the same computation: 16 lanes of results, a sum over the
 * lines of a tile, weights broadcast from memory. For K the lanes are tokens, the sum runs over
 * dimensions and the weights are q; for V the lanes are dimensions, the sum runs over tokens and
 * the weights are p. `group` query heads share each line that is loaded, `wide` sets of lanes
 * share each weight. All loops over group and wide have constant bounds and unroll, so that the
 * sums stay in registers.
 */
#ifndef APX_ATTEND_TILE_H
#define APX_ATTEND_TILE_H

#include <float.h>
#include <math.h>

#include "kernels.h"

#define UNROLL _Pragma("GCC unroll 16")

enum {
    STRIP_TOKENS = 64,      /* tokens that go through together */
    Q_STRIDE = 256,         /* floats from one head's q to the next: a constant, so an offset */
    P_STRIDE = 64           /* floats from one head's scores to the next */
};

/* Weights may grow to 2^8 before the base is raised: rescaling is rare, and a stripe's weights do
 * not wait for the maximum of anything, so that they are computed while memory is read. */
#define BASE_MARGIN 8.0f
#define DIGIT_RANGE 8255.0f /* the largest 128 * hi + lo with hi, lo in [-64, 64) */

/* One run of memory, a block's tiles, and where the next block's begins. */
typedef struct run {
    const uint8_t *end;
    ptrdiff_t jump;     /* from end to the next run */
    ptrdiff_t distance; /* how far ahead lines are asked for; 0: by nobody but the hardware */
} run;

/* `group` query heads of one KV head and up to 64 tokens of a tile. */
typedef struct strip {
    const apx_shape *shape;
    const uint8_t *k;        /* K and V of the tile */
    const uint8_t *v;
    const uint8_t *k_scales; /* of the strip's first slot */
    const uint8_t *v_scales;
    int32_t slot;            /* the strip's first slot in the block, a multiple of 64 */
    int32_t begin;           /* tokens seen, counted from there */
    int32_t end;
    run memory;
    const float *q;        /* [group][Q_STRIDE]: floats, or bf16 (hi, lo), or digits (hi, lo) */
    const float *q_scale;  /* [group]: score per unit of the sum */
    const int32_t *q_sum;  /* [group]: sum of the digits (int8) */
    float *base;           /* [group]: weights are 2^(score - base) */
    float *limit;          /* [group]: scores above it raise the base; -inf before any score */
    float *sums;           /* [group][16]: sums of weights, lane by lane */
    float *acc;            /* [group][head_dim] */
    float *p;              /* [group][P_STRIDE], scratch: weights (scores on their way) */
    uint16_t *p_bf16;      /* [group][2 * P_STRIDE] */
    int8_t *p_digits;      /* [group][4 * P_STRIDE]: hi, then lo at P_STRIDE */
} strip;

/* Lines of one stripe, from the first that is summed. */
typedef struct lines {
    const uint8_t *x;
    const uint8_t *next; /* what to prefetch meanwhile */
    ptrdiff_t row;       /* bytes of a stripe's width of elements */
} lines;

SIMD_INLINE const uint8_t *ahead(const run *memory, const uint8_t *p)
{
    const uint8_t *next = p + memory->distance;
    return next < memory->end ? next : next + memory->jump;
}

SIMD_INLINE lines stripe_lines(const strip *s, const uint8_t *part, int32_t begin,
                               int32_t num_lanes, int32_t first, int32_t num_summed)
{
    const int32_t bytes = apx_element_bytes(s->shape->kv_dtype);
    const int32_t width = num_lanes - begin < APX_STRIPE ? num_lanes - begin : APX_STRIPE;
    lines found;
    found.row = (ptrdiff_t)width * bytes;
    found.x = part + (ptrdiff_t)begin * num_summed * bytes + first * found.row;
    found.next = ahead(&s->memory, found.x);
    return found;
}

/* Lines of K for the stripe of tokens at `token` of the strip, all dimensions. */
SIMD_INLINE lines key_lines(const strip *s, int32_t token)
{
    return stripe_lines(s, s->k, s->slot + token, s->shape->block_size, 0, s->shape->head_dim);
}

/* Lines of V for the stripe of dimensions at `dim`, from the strip's token `first`. */
SIMD_INLINE lines value_lines(const strip *s, int32_t dim, int32_t first)
{
    return stripe_lines(s, s->v, dim, s->shape->head_dim, s->slot + first, s->shape->block_size);
}

/* The second 16 lanes (half 1) of a stripe of 32. */
SIMD_INLINE lines half_of(lines all, const int32_t dtype, const int half)
{
    const int bytes = APX_LANES * (dtype == APX_F32 || dtype == APX_BF16 || dtype == APX_I8 ? 4
                                   : dtype == APX_F16                                      ? 2
                                                                                            : 1);
    all.x += half * bytes; /* 16 lanes of `pack` elements */
    return all;
}

/* ------------------------------------------------- sums over pairs, converted to fp32 */

/* Two neighbours in the summed dimension, the n-th 16 lanes of a stripe. */
SIMD_INLINE void load_pair(const int32_t dtype, const uint8_t *x, ptrdiff_t row, const int n,
                           v16 *x0, v16 *x1)
{
    if (dtype == APX_F32) {
        *x0 = v_load((const float *)(const void *)(x + n * 64));
        *x1 = v_load((const float *)(const void *)(x + row + n * 64));
    } else if (dtype == APX_F16) {
        *x0 = v_load_f16(x + n * 32);
        *x1 = v_load_f16(x + row + n * 32);
    } else if (dtype == APX_BF16) {
        v_load2_bf16(x + n * 64, x0, x1);
    } else {
        *x0 = v_load_f8(x + n * 16);
        *x1 = v_load_f8(x + row + n * 16);
    }
}

SIMD_INLINE void prefetch_lines(const uint8_t *next, const int num_bytes)
{
    UNROLL for (int i = 0; i < num_bytes; i += APX_LINE) v_prefetch(next + i);
}

/* acc[n][g] += sum over pairs of x[n] * w[g]; a second set of sums where one set is too short a
 * queue for the latency of a fused multiply-add. */
SIMD_INLINE void sum_pairs(const int32_t dtype, const int group, const int wide, v16 *acc, lines k,
                           int32_t num_pairs, const float *w, const int w_stride)
{
    const int is_short = group * wide * SIMD_CHAINS < 8;
    const int bytes = wide * 32 * (dtype == APX_F32 ? 4 : dtype == APX_F8E4M3 ? 1 : 2);
    v16 odd[SIMD_MAX_ACC];
    UNROLL for (int i = 0; i < group * wide; i++) odd[i] = v_zero();
    for (int32_t i = 0; i < num_pairs; i++) {
        v16 x0[2], x1[2];
        UNROLL for (int n = 0; n < wide; n++) load_pair(dtype, k.x, k.row, n, &x0[n], &x1[n]);
        prefetch_lines(k.next, bytes);
        UNROLL for (int g = 0; g < group; g++) {
            v16 w0 = v_all(w[g * w_stride]);
            UNROLL for (int n = 0; n < wide; n++)
                acc[g * wide + n] = v_fma(x0[n], w0, acc[g * wide + n]);
        }
        UNROLL for (int g = 0; g < group; g++) {
            v16 w1 = v_all(w[g * w_stride + 1]);
            UNROLL for (int n = 0; n < wide; n++)
                if (is_short) odd[g * wide + n] = v_fma(x1[n], w1, odd[g * wide + n]);
                else acc[g * wide + n] = v_fma(x1[n], w1, acc[g * wide + n]);
        }
        k.x += 2 * k.row;
        k.next += 2 * k.row;
        w += 2;
    }
    if (is_short)
        UNROLL for (int i = 0; i < group * wide; i++) acc[i] = v_add(acc[i], odd[i]);
}

#ifdef SIMD_HAS_BF16
/* The same with the bf16 dot product; `two` also adds the low parts of the weights. */
SIMD_INLINE void sum_bf16(const int group, const int wide, const int two, v16 *acc, lines k,
                          int32_t num_pairs, const uint16_t *w, const int w_stride, const int low)
{
    v16 odd[SIMD_MAX_ACC];
    UNROLL for (int i = 0; i < group * wide; i++) odd[i] = v_zero();
    for (int32_t i = 0; i < num_pairs; i++) {
        v16 x[2];
        UNROLL for (int n = 0; n < wide; n++)
            x[n] = v_load((const float *)(const void *)(k.x + n * APX_LINE));
        prefetch_lines(k.next, wide * APX_LINE);
        UNROLL for (int g = 0; g < group; g++) {
            const uint16_t *pair = w + g * w_stride;
            UNROLL for (int n = 0; n < wide; n++) {
                acc[g * wide + n] = v_dot2(acc[g * wide + n], x[n], pair);
                if (two) odd[g * wide + n] = v_dot2(odd[g * wide + n], x[n], pair + low);
            }
        }
        k.x += 2 * k.row;
        k.next += 2 * k.row;
        w += 2;
    }
    if (two) /* where hi gave -inf or NaN, lo could only turn it into NaN */
        UNROLL for (int i = 0; i < group * wide; i++) acc[i] = v_add_if_finite(acc[i], odd[i]);
}
#endif

/* Exact sums of bytes times digits: hi and lo apart. */
SIMD_INLINE void sum_quads(const int group, const int wide, i16 *hi, i16 *lo, lines k,
                           int32_t num_quads, const int8_t *w, const int w_stride, const int low)
{
    for (int32_t i = 0; i < num_quads; i++) {
        i16 x[2];
        UNROLL for (int n = 0; n < wide; n++) x[n] = i_load(k.x + n * APX_LINE);
        prefetch_lines(k.next, wide * APX_LINE);
        UNROLL for (int g = 0; g < group; g++) {
            const int8_t *four = w + g * w_stride;
            UNROLL for (int n = 0; n < wide; n++) {
                hi[g * wide + n] = i_dot4(hi[g * wide + n], x[n], four);
                lo[g * wide + n] = i_dot4(lo[g * wide + n], x[n], four + low);
            }
        }
        k.x += 4 * k.row;
        k.next += 4 * k.row;
        w += 4;
    }
}

SIMD_INLINE v16 load_scales(const strip *s, const uint8_t *scales, int32_t token)
{
    if (s->shape->scale_dtype == APX_F32)
        return v_load((const float *)(const void *)scales + token);
    return v_load_f16(scales + 2 * token);
}

/* ------------------------------------------------- softmax, online */

SIMD_INLINE void store_weights(const int32_t dtype, v16 x, const strip *s, const int g,
                               int32_t token)
{
#ifdef SIMD_HAS_BF16
    if (dtype == APX_BF16) v_store_bf16(s->p_bf16 + g * 2 * P_STRIDE + token, x);
#endif
    if (dtype == APX_F8E4M3) x = v_mul(x, v_all(SIMD_F8_SCALE));
    v_store(s->p + g * P_STRIDE + token, x);
}

/* A new base for one head, from `count` scores in s->p at `token`: what was summed with the old
 * base shrinks, and so do the strip's weights before `token`, whose values are not summed yet. */
SIMD_INLINE void raise_base(const int32_t dtype, const strip *s, const int g, int32_t token,
                            int32_t count)
{
    float *p = s->p + g * P_STRIDE;
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
    for (int32_t t = s->begin / APX_LANES * APX_LANES; t < token; t += APX_LANES) {
        v16 x = v_mul(v_load(p + t), shrink);
        if (dtype == APX_F8E4M3) x = v_mul(x, v_all(1.0f / SIMD_F8_SCALE));
        store_weights(dtype, x, s, g, t);
    }
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
    UNROLL for (int i = 0; i < group * wide; i++) hi[i] = lo[i] = i_zero();
    sum_quads(group, wide, hi, lo, k, s->shape->head_dim / 4,
              (const int8_t *)(const void *)s->q, 4 * Q_STRIDE, Q_STRIDE);
    UNROLL for (int n = 0; n < wide; n++) {
        v16 scale = load_scales(s, s->k_scales, token + n * APX_LANES);
        UNROLL for (int g = 0; g < group; g++) {
            i16 whole = i_add(i_times_128(hi[g * wide + n]), lo[g * wide + n]);
            whole = i_sub(whole, i_all(128 * s->q_sum[g])); /* stored with 128 added */
            score[g * wide + n] = v_mul(v_mul(v_from_i(whole), v_all(s->q_scale[g])), scale);
        }
    }
    weigh(APX_I8, group, wide, score, s, token);
}

/* ------------------------------------------------- values: acc[g] += sum_t p[g][t] * v[t] */

/* A token whose neighbour in the pair is not seen: one of at most two at the ends of a strip. */
SIMD_INLINE void add_token(const int32_t dtype, const int group, const int wide, v16 *acc,
                           const strip *s, int32_t dim, const int half, int32_t token)
{
    const lines v = half_of(value_lines(s, dim, token / 2 * 2), dtype, half);
    const float *p = s->p + token;
    UNROLL for (int n = 0; n < wide; n++) {
        v16 x0, x1;
        load_pair(dtype, v.x, v.row, n, &x0, &x1);
        v16 x = token % 2 ? x1 : x0;
        UNROLL for (int g = 0; g < group; g++)
            acc[g * wide + n] = v_fma(x, v_all(p[g * P_STRIDE]), acc[g * wide + n]);
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
             s->p_bf16 + 2 * first, 2 * P_STRIDE, 0);
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
        int8_t *digits = s->p_digits + g * 4 * P_STRIDE;
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
    UNROLL for (int i = 0; i < group * wide; i++) hi[i] = lo[i] = i_zero();
    sum_quads(group, wide, hi, lo, v, (s->end - first + 3) / 4, s->p_digits + first, 4 * P_STRIDE,
              P_STRIDE);
    load_acc(group, wide, acc, s, dim);
    UNROLL for (int g = 0; g < group; g++)
        UNROLL for (int n = 0; n < wide; n++) {
            i16 whole = i_add(i_times_128(hi[g * wide + n]), lo[g * wide + n]);
            whole = i_add(whole, i_all(offset[g]));
            acc[g * wide + n] = v_fma(v_from_i(whole), v_all(unit[g]), acc[g * wide + n]);
        }
    store_acc(group, wide, acc, s, dim);
}
#endif
