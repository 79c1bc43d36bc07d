/* A strip: a few query heads of one KV head and at most 64 tokens of one tile; where its lines are.
 *
 * Included after a simd_*.h, like everything named attend_*.h. K and V are the same computation: 16
 * lanes of results, a sum over the lines of a tile, weights broadcast from memory. For K the lanes
 * are tokens, the sum runs over dimensions and the weights are q; for V the lanes are dimensions,
 * the sum runs over tokens and the weights are p. `group` query heads share each line that is
 * loaded, `wide` sets of lanes share each weight. All loops over group and wide have constant
 * bounds and unroll, so that the sums stay in registers.
 */
#ifndef APX_ATTEND_STRIP_H
#define APX_ATTEND_STRIP_H

#include "kernels.h"

#define UNROLL _Pragma("GCC unroll 16")

enum {
    STRIP_TOKENS = 64, /* tokens that go through together */
    /* Floats from one head's q to the next: a constant, so an offset; a line more than the longest
     * q, so that heads do not meet in the same sets of the first-level cache. */
    Q_STRIDE = 256 + 16,
    P_STRIDE = 64 /* weights from one head's to the next */
};

/* Weights may grow to 2^8 before the base is raised: rescaling is rare, and a stripe's weights do
 * not wait for the maximum of anything, so that they are computed while memory is read. */
#define BASE_MARGIN 8.0f
#define DIGIT_RANGE 8255.0f /* the largest 128 * hi + lo with hi, lo in [-64, 64) */

/* One run of memory, a tile or all tiles of a block, and where the next one begins. */
typedef struct run {
    const uint8_t *end;
    ptrdiff_t jump;     /* from end to the next run */
    ptrdiff_t distance; /* how far ahead lines are asked for; 0: each just before it is read */
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
    uint16_t *p_bf16;      /* [group][P_STRIDE]: weights where they are bf16 */
    int8_t *p_digits;      /* [group][2 * P_STRIDE]: hi, then lo at P_STRIDE */
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

/* The second 16 lanes (half 1) of a stripe of 32; each half asks for half of the lines. */
SIMD_INLINE lines half_of(lines all, const int32_t dtype, const int half)
{
    const int bytes = APX_LANES * (dtype == APX_F32 || dtype == APX_BF16 || dtype == APX_I8 ? 4
                                   : dtype == APX_F16                                      ? 2
                                                                                            : 1);
    all.x += half * bytes; /* 16 lanes of `pack` elements */
    all.next += half * (dtype == APX_F32 ? 128 : dtype == APX_F8E4M3 ? 32 : 64);
    return all;
}

SIMD_INLINE v16 load_scales(const strip *s, const uint8_t *scales, int32_t token)
{
    if (s->shape->scale_dtype == APX_F32)
        return v_load((const float *)(const void *)scales + token);
    return v_load_f16(scales + 2 * token);
}
#endif
