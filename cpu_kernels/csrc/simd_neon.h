/* Sixteen float lanes in four NEON registers: what attend_template.h is written in. */
#ifndef APX_SIMD_NEON_H
#define APX_SIMD_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stdint.h>

#include "apx.h"

#define SIMD_INLINE static inline __attribute__((always_inline))

enum {
    SIMD_MAX_ACC = 4,      /* sums in registers: 16 of 32 */
    SIMD_MAX_GROUP = 4,    /* query heads at once */
    SIMD_MAX_GROUP_I8 = 2, /* the same with int8, which has two sums each */
    SIMD_CHAINS = 4        /* registers that a v16 takes */
};

typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;
typedef struct i16 {
    int32x4_t a, b, c, d;
} i16;

/* The same instruction on each quarter. */
#define V_EACH1(f, x) {f((x).a), f((x).b), f((x).c), f((x).d)}
#define V_EACH2(f, x, y) {f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)}

#define DEFINE_UNARY(name, to, from, f)                                                           \
    SIMD_INLINE to name(from x)                                                                   \
    {                                                                                             \
        to y = V_EACH1(f, x);                                                                     \
        return y;                                                                                 \
    }
#define DEFINE_BINARY(name, type, f)                                                              \
    SIMD_INLINE type name(type x, type y)                                                         \
    {                                                                                             \
        type z = V_EACH2(f, x, y);                                                                \
        return z;                                                                                 \
    }

DEFINE_BINARY(v_add, v16, vaddq_f32)
DEFINE_BINARY(v_sub, v16, vsubq_f32)
DEFINE_BINARY(v_mul, v16, vmulq_f32)
DEFINE_BINARY(v_max, v16, vmaxnmq_f32) /* where one is NaN: the other */
DEFINE_UNARY(v_abs, v16, v16, vabsq_f32)

SIMD_INLINE v16 v_all(float x)
{
    float32x4_t y = vdupq_n_f32(x);
    v16 z = {y, y, y, y};
    return z;
}

SIMD_INLINE v16 v_zero(void) { return v_all(0.0f); }

SIMD_INLINE v16 v_load(const float *p)
{
    v16 x = {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
    return x;
}

SIMD_INLINE void v_store(float *p, v16 x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

SIMD_INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
    v16 sum = {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
               vfmaq_f32(z.d, x.d, y.d)};
    return sum;
}

SIMD_INLINE float v_max_across(v16 x)
{
    return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.a, x.b), vmaxnmq_f32(x.c, x.d)));
}

SIMD_INLINE float v_sum_across(v16 x)
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(x.a, x.b), vaddq_f32(x.c, x.d)));
}

SIMD_INLINE float32x4_t keep_quarter(float32x4_t x, int32_t begin, int32_t end, float32x4_t other)
{
    static const int32_t lanes[4] = {0, 1, 2, 3};
    int32x4_t lane = vld1q_s32(lanes);
    uint32x4_t is_kept =
        vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
    return vbslq_f32(is_kept, x, other);
}

/* Lanes [begin, end) of x, `other` in the rest. */
SIMD_INLINE v16 v_keep(v16 x, int32_t begin, int32_t end, v16 other)
{
    v16 kept = {keep_quarter(x.a, begin, end, other.a),
                keep_quarter(x.b, begin - 4, end - 4, other.b),
                keep_quarter(x.c, begin - 8, end - 8, other.c),
                keep_quarter(x.d, begin - 12, end - 12, other.d)};
    return kept;
}

SIMD_INLINE int v_any_above(v16 x, v16 limit)
{
    uint32x4_t low = vorrq_u32(vcgtq_f32(x.a, limit.a), vcgtq_f32(x.b, limit.b));
    uint32x4_t high = vorrq_u32(vcgtq_f32(x.c, limit.c), vcgtq_f32(x.d, limit.d));
    return vmaxvq_u32(vorrq_u32(low, high)) != 0;
}

/* See v_exp2 of simd_avx512.h: the same polynomial. 2^whole is two factors, because the result may
 * be denormal where 2^whole no longer is a float. */
SIMD_INLINE float32x4_t exp2_quarter(float32x4_t x)
{
    x = vmaxq_f32(x, vdupq_n_f32(-160.0f)); /* NaN stays */
    float32x4_t whole = vrndnq_f32(x);
    float32x4_t f = vsubq_f32(x, whole);
    float32x4_t y = vdupq_n_f32(0.001326472731307149f);
    y = vfmaq_f32(vdupq_n_f32(0.009671512991189957f), y, f);
    y = vfmaq_f32(vdupq_n_f32(0.05550733581185341f), y, f);
    y = vfmaq_f32(vdupq_n_f32(0.24022242426872253f), y, f);
    y = vfmaq_f32(vdupq_n_f32(0.6931470036506653f), y, f);
    y = vfmaq_f32(vdupq_n_f32(1.0f), y, f);
    int32x4_t exponent = vcvtq_s32_f32(whole);
    int32x4_t half = vshrq_n_s32(exponent, 1);
    int32x4_t bias = vdupq_n_s32(127);
    int32x4_t first = vshlq_n_s32(vaddq_s32(half, bias), 23);
    int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(exponent, half), bias), 23);
    y = vmulq_f32(y, vreinterpretq_f32_s32(first));
    return vmulq_f32(y, vreinterpretq_f32_s32(second));
}
DEFINE_UNARY(v_exp2, v16, v16, exp2_quarter)

/* ------------------------------------------------- narrow formats */

SIMD_INLINE v16 widen_f16(uint16x8_t low, uint16x8_t high)
{
    float16x8_t l = vreinterpretq_f16_u16(low);
    float16x8_t h = vreinterpretq_f16_u16(high);
    v16 x = {vcvt_f32_f16(vget_low_f16(l)), vcvt_high_f32_f16(l), vcvt_f32_f16(vget_low_f16(h)),
             vcvt_high_f32_f16(h)};
    return x;
}

SIMD_INLINE v16 v_load_f16(const void *p)
{
    const uint16_t *words = (const uint16_t *)p;
    return widen_f16(vld1q_u16(words), vld1q_u16(words + 8));
}

SIMD_INLINE float32x4_t widen_bf16(uint16x4_t x)
{
    return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
}

SIMD_INLINE v16 v_load_bf16(const void *p)
{
    const uint16_t *words = (const uint16_t *)p;
    v16 x = {widen_bf16(vld1_u16(words)), widen_bf16(vld1_u16(words + 4)),
             widen_bf16(vld1_u16(words + 8)), widen_bf16(vld1_u16(words + 12))};
    return x;
}

/* e4m3 as fp16 bits is the value / 256, denormals included; 0x7f and 0xff are NaN. */
SIMD_INLINE uint16x8_t f8_to_f16_bits(uint8x8_t bytes)
{
    uint16x8_t word = vmovl_u8(bytes);
    uint16x8_t magnitude = vandq_u16(word, vdupq_n_u16(0x7f));
    uint16x8_t sign = vshlq_n_u16(vsubq_u16(word, magnitude), 8);
    uint16x8_t is_nan = vceqq_u16(magnitude, vdupq_n_u16(0x7f));
    uint16x8_t half = vorrq_u16(vshlq_n_u16(magnitude, 7), sign);
    return vbslq_u16(is_nan, vdupq_n_u16(0x7e00), half);
}

SIMD_INLINE v16 v_load_f8(const uint8_t *p)
{
    uint8x16_t bytes = vld1q_u8(p);
    return widen_f16(f8_to_f16_bits(vget_low_u8(bytes)), f8_to_f16_bits(vget_high_u8(bytes)));
}
#define SIMD_F8_SCALE 256.0f /* what values of v_load_f8 are to be multiplied with */

SIMD_INLINE void split_bf16(const uint8_t *p, float32x4_t *even, float32x4_t *odd)
{
    uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(p));
    *even = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    *odd = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
}

/* bf16 pairs as two vectors of floats. */
SIMD_INLINE void v_load2_bf16(const uint8_t *p, v16 *x0, v16 *x1)
{
    split_bf16(p, &x0->a, &x1->a);
    split_bf16(p + 16, &x0->b, &x1->b);
    split_bf16(p + 32, &x0->c, &x1->c);
    split_bf16(p + 48, &x0->d, &x1->d);
}

/* ------------------------------------------------- whole numbers */

#define TIMES_128(x) vshlq_n_s32(x, 7)
#define OVER_128(x) vshrq_n_s32(x, 7)
DEFINE_UNARY(i_round, i16, v16, vcvtnq_s32_f32) /* to the nearest, ties to even */
DEFINE_UNARY(v_from_i, v16, i16, vcvtq_f32_s32)
DEFINE_UNARY(i_times_128, i16, i16, TIMES_128)
DEFINE_UNARY(i_over_128, i16, i16, OVER_128)
DEFINE_BINARY(i_add, i16, vaddq_s32)
DEFINE_BINARY(i_sub, i16, vsubq_s32)

SIMD_INLINE i16 i_all(int32_t x)
{
    int32x4_t y = vdupq_n_s32(x);
    i16 z = {y, y, y, y};
    return z;
}

SIMD_INLINE i16 i_zero(void) { return i_all(0); }

/* A line of int8 elements: without the 128 that is added in memory, because NEON multiplies signed
 * bytes with signed ones. */
SIMD_INLINE int32x4_t load_signed(const uint8_t *p)
{
    return vreinterpretq_s32_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128)));
}

SIMD_INLINE i16 i_load(const void *p)
{
    const uint8_t *bytes = (const uint8_t *)p;
    i16 x = {load_signed(bytes), load_signed(bytes + 16), load_signed(bytes + 32),
             load_signed(bytes + 48)};
    return x;
}

/* The sum of weights that the 128 were multiplied with, which the template takes away again. Here
 * i_load has done so. */
SIMD_INLINE int32_t i_sum_across(i16 x)
{
    (void)x;
    return 0;
}

SIMD_INLINE void i_store_bytes(int8_t *p, i16 x)
{
    int16x8_t low = vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b));
    int16x8_t high = vcombine_s16(vmovn_s32(x.c), vmovn_s32(x.d));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

/* acc + four bytes of x in each lane times four signed bytes w. */
SIMD_INLINE int32x4_t dot4_quarter(int32x4_t acc, int32x4_t x, int8x16_t w)
{
    int8x16_t bytes = vreinterpretq_s8_s32(x);
#ifdef SIMD_HAS_DOTPROD
    return vdotq_s32(acc, bytes, w);
#else
    /* |w| <= 64, so that the sum of two products fits 16 bits. */
    int16x8_t low = vmull_s8(vget_low_s8(bytes), vget_low_s8(w));
    int16x8_t high = vmull_high_s8(bytes, w);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}

SIMD_INLINE i16 i_dot4(i16 acc, i16 x, const int8_t *w)
{
    int32_t four;
    __builtin_memcpy(&four, w, sizeof four);
    int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
    i16 sum = {dot4_quarter(acc.a, x.a, all), dot4_quarter(acc.b, x.b, all),
               dot4_quarter(acc.c, x.c, all), dot4_quarter(acc.d, x.d, all)};
    return sum;
}

SIMD_INLINE void v_prefetch(const void *p) { __builtin_prefetch(p); }

/* ------------------------------------------------- output */

SIMD_INLINE uint16x4_t narrow_bf16(float32x4_t x)
{
    uint32x4_t bits = vreinterpretq_u32_f32(x);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t quiet_nan = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet_nan), 16);
}

/* To nearest even; NaN stays NaN. */
SIMD_INLINE void v_narrow_bf16(uint16_t *p, v16 x)
{
    vst1_u16(p, narrow_bf16(x.a));
    vst1_u16(p + 4, narrow_bf16(x.b));
    vst1_u16(p + 8, narrow_bf16(x.c));
    vst1_u16(p + 12, narrow_bf16(x.d));
}

SIMD_INLINE void v_store_f16(uint16_t *p, v16 x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.a)));
    vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.b)));
    vst1_u16(p + 8, vreinterpret_u16_f16(vcvt_f16_f32(x.c)));
    vst1_u16(p + 12, vreinterpret_u16_f16(vcvt_f16_f32(x.d)));
}

#endif
