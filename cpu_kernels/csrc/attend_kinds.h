/* A function for each kind of strip: by dtype and by how many query heads go together. */
#ifndef APX_ATTEND_KINDS_H
#define APX_ATTEND_KINDS_H

#include "attend_tile.h"

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
#endif
