/* Sixteen float lanes in one AVX-512 register: what attend_template.h is written in. */
#ifndef APX_SIMD_AVX512_H
#define APX_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "apx.h"

#define SIMD_INLINE static inline __attribute__((always_inline))

enum {
    SIMD_MAX_ACC = 16,     /* sums in registers, of 32 */
    SIMD_MAX_GROUP = 8,    /* query heads at once */
    SIMD_MAX_GROUP_I8 = 4, /* the same with int8, which has two sums each */
    SIMD_CHAINS = 1        /* registers that a v16 takes */
};

typedef __m512 v16;
typedef __m512i i16;

SIMD_INLINE v16 v_zero(void) { return _mm512_setzero_ps(); }
SIMD_INLINE v16 v_all(float x) { return _mm512_set1_ps(x); }
SIMD_INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
SIMD_INLINE void v_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
SIMD_INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
SIMD_INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
SIMD_INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
SIMD_INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
/* Where either is NaN: b. */
SIMD_INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
SIMD_INLINE v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
SIMD_INLINE float v_max_across(v16 a) { return _mm512_reduce_max_ps(a); }
SIMD_INLINE float v_sum_across(v16 a) { return _mm512_reduce_add_ps(a); }

/* Lanes [begin, end) of x, `other` in the rest. */
SIMD_INLINE v16 v_keep(v16 x, int32_t begin, int32_t end, v16 other)
{
    uint32_t below_end = end >= 16 ? 0xffffu : (1u << end) - 1u;
    uint32_t below_begin = begin <= 0 ? 0u : (1u << begin) - 1u;
    return _mm512_mask_mov_ps(other, (__mmask16)(below_end & ~below_begin), x);
}

SIMD_INLINE int v_any_above(v16 x, v16 limit)
{
    return _mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ) != 0;
}

/* 2^x for x <= 8; -inf gives 0, NaN stays. Cut into a whole and a fraction in [-1/2, 1/2]; the
 * polynomial is a minimax fit with a relative error of 2e-7 in fp32. */
SIMD_INLINE v16 v_exp2(v16 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-160.0f), x); /* NaN stays: the second operand is returned */
    v16 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    v16 f = _mm512_sub_ps(x, whole);
    v16 y = _mm512_set1_ps(0.001326472731307149f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.009671512991189957f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.05550733581185341f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.24022242426872253f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.6931470036506653f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, whole);
}

SIMD_INLINE v16 v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

SIMD_INLINE v16 v_load_bf16(const void *p)
{
    __m256i words = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}

SIMD_INLINE void v_store_f16(uint16_t *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* To nearest even, denormals included (the instruction would flush them); NaN stays NaN. */
SIMD_INLINE void v_narrow_bf16(uint16_t *p, v16 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i words = _mm512_srli_epi32(up, 16);
    __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    words = _mm512_mask_mov_epi32(words, is_nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(words));
}

/* e4m3 as fp16 bits is the value / 256, denormals included; 0x7f and 0xff are NaN. */
SIMD_INLINE v16 v_load_f8(const uint8_t *p)
{
    __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i magnitude = _mm256_and_si256(w, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_sub_epi16(w, magnitude), 8);
    __m256i half = _mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign);
    __mmask16 is_nan = _mm256_cmpeq_epi16_mask(magnitude, _mm256_set1_epi16(0x7f));
    return _mm512_cvtph_ps(_mm256_mask_mov_epi16(half, is_nan, _mm256_set1_epi16(0x7e00)));
}
#define SIMD_F8_SCALE 256.0f /* what values of v_load_f8 are to be multiplied with */

/* bf16 pairs as two vectors of floats. */
SIMD_INLINE void v_load2_bf16(const uint8_t *p, v16 *x0, v16 *x1)
{
    __m512i pairs = _mm512_loadu_si512((const void *)p);
    *x0 = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *x1 = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

/* Rounded to the nearest integer. */
SIMD_INLINE i16 i_round(v16 x) { return _mm512_cvtps_epi32(x); }
SIMD_INLINE v16 v_from_i(i16 x) { return _mm512_cvtepi32_ps(x); }
SIMD_INLINE i16 i_zero(void) { return _mm512_setzero_si512(); }
SIMD_INLINE i16 i_all(int32_t x) { return _mm512_set1_epi32(x); }
SIMD_INLINE i16 i_add(i16 a, i16 b) { return _mm512_add_epi32(a, b); }
SIMD_INLINE i16 i_sub(i16 a, i16 b) { return _mm512_sub_epi32(a, b); }
SIMD_INLINE i16 i_times_128(i16 a) { return _mm512_slli_epi32(a, 7); }
SIMD_INLINE i16 i_over_128(i16 a) { return _mm512_srai_epi32(a, 7); }
SIMD_INLINE int32_t i_sum_across(i16 a) { return _mm512_reduce_add_epi32(a); }
SIMD_INLINE i16 i_load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
SIMD_INLINE void i_store_bytes(int8_t *p, i16 x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(x));
}

/* acc + unsigned bytes of x times four signed bytes at w, the same for all lanes. */
SIMD_INLINE i16 i_dot4(i16 acc, i16 x, const int8_t *w)
{
    int32_t four;
    __builtin_memcpy(&four, w, sizeof four);
#ifdef SIMD_HAS_VNNI
    return _mm512_dpbusd_epi32(acc, x, _mm512_set1_epi32(four));
#else
    /* |w| <= 64, so that two products fit 16 bits: 2 * 255 * 64 < 2^15. */
    __m512i pairs = _mm512_maddubs_epi16(x, _mm512_set1_epi32(four));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
}

#ifdef SIMD_HAS_BF16
/* Rounded to bf16, as floats. */
SIMD_INLINE v16 v_round_bf16(v16 x)
{
    __m256i words = (__m256i)_mm512_cvtneps_pbh(x);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}
SIMD_INLINE v16 v_all_bf16(uint16_t x)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)((uint32_t)x << 16)));
}
SIMD_INLINE void v_store_bf16(uint16_t *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(x));
}
/* x + y, or x where that is infinite or NaN. */
SIMD_INLINE v16 v_add_if_finite(v16 x, v16 y)
{
    return _mm512_mask_add_ps(x, (__mmask16)~_mm512_fpclass_ps_mask(x, 0x99), x, y);
}
SIMD_INLINE v16 v_finite_or_zero(v16 x)
{
    /* 0x99: quiet NaN, +inf, -inf, signalling NaN */
    return _mm512_mask_mov_ps(x, _mm512_fpclass_ps_mask(x, 0x99), _mm512_setzero_ps());
}
/* acc + bf16 pairs of x times the pair at w, the same for all lanes. */
SIMD_INLINE v16 v_dot2(v16 acc, v16 x, const uint16_t *w)
{
    int32_t two;
    __builtin_memcpy(&two, w, sizeof two);
    return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)_mm512_set1_epi32(two));
}
#endif

/* Into the second-level cache: the first has no room for what is still being read. */
SIMD_INLINE void v_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
#endif
