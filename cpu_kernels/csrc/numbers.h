/* Number formats as scalar C: how fp16, bf16, fp8 and int8 are read and written, one value at a
 * time. Every rounding is to nearest, ties to even. Free of branches where the compiler can then
 * vectorise a loop over them, and right even where the CPU is told to flush denormals. */
#ifndef APX_NUMBERS_H
#define APX_NUMBERS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define APX_LOG2_E 1.44269504088896340736f
#define APX_LN_2 0.693147180559945309417f

/* Largest finite values of the narrow formats. */
#define APX_F16_MAX 65504.0f
#define APX_F8_MAX 448.0f

enum {
    APX_I8_ZERO = 128,      /* what is added to int8 elements in memory */
    APX_I8_MAX = 127,
    APX_DIGITS_MAX = 8255,  /* the most that 128 * hi + lo can say with hi, lo in [-64, 64] */
    APX_DIGIT_TOKENS = 64   /* tokens whose weights share one scale */
};

static inline uint32_t apx_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float apx_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A choice as bit masks: gcc vectorises no conditional over floating-point operations. */
static inline uint32_t apx_choose(bool condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

static inline float apx_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t exponent = magnitude & 0x0f800000u;
    uint32_t normal = magnitude + (112u << 23);
    uint32_t infinite = magnitude + (224u << 23);
    /* Denormal: as mantissa bits of 2^-14, which is then taken away again. */
    uint32_t denormal = apx_bits(apx_float(magnitude + (113u << 23)) - 0x1p-14f);
    uint32_t value = apx_choose(exponent == 0x0f800000u, infinite, normal);
    return apx_float(sign | apx_choose(exponent == 0, denormal, value));
}

static inline uint16_t apx_f32_to_f16(float value)
{
    uint32_t bits = apx_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t odd = (magnitude >> 13) & 1u;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
    /* Below 2^-14: adding 0.5 leaves multiples of 2^-24 in the low bits, rounded. */
    uint32_t denormal = apx_bits(apx_float(magnitude) + 0.5f) - apx_bits(0.5f);
    uint32_t finite = apx_choose(magnitude < (113u << 23), denormal, normal);
    uint32_t special = apx_choose(magnitude > 0x7f800000u, 0x7e00u, 0x7c00u);
    /* 65520 lies half way between the largest fp16 and the next: it rounds to infinity. */
    return (uint16_t)(sign | apx_choose(magnitude >= 0x477ff000u, special, finite));
}

static inline float apx_bf16_to_f32(uint16_t half)
{
    return apx_float((uint32_t)half << 16);
}

static inline uint16_t apx_f32_to_bf16(float value)
{
    uint32_t bits = apx_bits(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet_nan = (bits >> 16) | 0x40u;
    return (uint16_t)apx_choose((bits & 0x7fffffffu) > 0x7f800000u, quiet_nan, rounded);
}

static inline float apx_f8_to_f32(uint8_t byte)
{
    uint32_t sign = (uint32_t)(byte & 0x80) << 24;
    uint32_t magnitude = (uint32_t)(byte & 0x7f) << 20;
    uint32_t normal = magnitude + (120u << 23);
    uint32_t denormal = apx_bits(apx_float(magnitude + (121u << 23)) - 0x1p-6f);
    uint32_t finite = apx_choose(magnitude < (1u << 23), denormal, normal);
    return apx_float(sign | apx_choose(magnitude == (0x7fu << 20), 0x7fc00000u, finite));
}

/* Saturates, infinities too; NaN is 0x7f whatever its sign. */
static inline uint8_t apx_f32_to_f8(float value)
{
    uint32_t bits = apx_bits(value);
    uint32_t sign = (bits >> 24) & 0x80u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t odd = (magnitude >> 20) & 1u;
    uint32_t normal = (magnitude - (120u << 23) + 0x7ffffu + odd) >> 20;
    /* Below 2^-6: adding 2^14 leaves multiples of 2^-9 in the low bits, rounded. */
    uint32_t denormal = apx_bits(apx_float(magnitude) + 0x1p14f) - apx_bits(0x1p14f);
    uint32_t finite = apx_choose(magnitude < (121u << 23), denormal, normal);
    uint32_t saturated = apx_choose(magnitude >= apx_bits(APX_F8_MAX), 0x7eu, finite);
    return (uint8_t)apx_choose(magnitude > 0x7f800000u, 0x7fu, sign | saturated);
}

/* Round to nearest even for |value| < 2^22, without a call that SSE2 lacks. */
static inline float apx_round(float value)
{
    const float magic = 0x1.8p23f;
    return (value + magic) - magic;
}

/* Brings a magnitude down to `limit`: as integers, which order as the magnitudes of floats do. */
static inline float apx_clamp(float value, float limit)
{
    uint32_t bits = apx_bits(value);
    uint32_t magnitude = bits & 0x7fffffffu;
    bool is_above = magnitude > apx_bits(limit);
    return apx_float((bits & 0x80000000u) | apx_choose(is_above, apx_bits(limit), magnitude));
}

/* The element in memory of x / scale; scale is above zero and not NaN. */
static inline uint8_t apx_quantise(float value, float scale)
{
    float whole = apx_round(apx_clamp(value / scale, (float)APX_I8_MAX));
    return (uint8_t)((int32_t)whole + APX_I8_ZERO);
}

/* Largest magnitude; NaN where an element is not finite. */
static inline float apx_finite_maximum(const float *values, int32_t count)
{
    uint32_t largest = 0; /* magnitudes of floats order as their bits do, NaN above infinity */
    for (int32_t i = 0; i < count; ++i) {
        uint32_t magnitude = apx_bits(values[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest >= 0x7f800000u ? NAN : apx_float(largest);
}

/* Scale of the two-digit form value = scale * (128 * hi + lo) of values up to `maximum`: always a
 * normal number, so that dividing by it cannot overflow. NaN stays NaN. */
static inline float apx_digits_scale(float maximum)
{
    float scale = maximum / (float)APX_DIGITS_MAX;
    return scale < FLT_MIN ? FLT_MIN : scale;
}

/* 128 * hi + lo, hi = floor((n + 64) / 128). scale is not NaN. */
static inline int32_t apx_digits(float value, float scale)
{
    return (int32_t)apx_round(value / scale);
}

#endif
