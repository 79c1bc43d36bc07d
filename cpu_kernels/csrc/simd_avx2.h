/* Sixteen float lanes in two AVX2 registers: what attend_template.h is written in. */
#ifndef APX_SIMD_AVX2_H
#define APX_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "apx.h"

#define SIMD_INLINE static inline __attribute__((always_inline))

enum {
    SIMD_MAX_ACC = 4,      /* sums in registers: 8 of 16 */
    SIMD_MAX_GROUP = 4,    /* query heads at once */
    SIMD_MAX_GROUP_I8 = 2, /* the same with int8, which has two sums each */
    SIMD_CHAINS = 2        /* registers that a v16 takes */
};

typedef struct v16 {
    __m256 a, b;
} v16;
typedef struct i16 {
    __m256i a, b;
} i16;

#define EACH(x, y) ((v16){(x), (y)})
#define EACH_I(x, y) ((i16){(x), (y)})

SIMD_INLINE v16 v_all(float x) { return EACH(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
SIMD_INLINE v16 v_zero(void) { return EACH(_mm256_setzero_ps(), _mm256_setzero_ps()); }
SIMD_INLINE v16 v_load(const float *p) { return EACH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
SIMD_INLINE void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
SIMD_INLINE v16 v_add(v16 x, v16 y)
{
    return EACH(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
SIMD_INLINE v16 v_sub(v16 x, v16 y)
{
    return EACH(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
SIMD_INLINE v16 v_mul(v16 x, v16 y)
{
    return EACH(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
SIMD_INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
    return EACH(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
/* Where either is NaN: y. */
SIMD_INLINE v16 v_max(v16 x, v16 y)
{
    return EACH(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
SIMD_INLINE v16 v_abs(v16 x)
{
    const __m256 bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return EACH(_mm256_and_ps(x.a, bits), _mm256_and_ps(x.b, bits));
}
SIMD_INLINE float v_max_across(v16 x)
{
    __m256 m = _mm256_max_ps(x.a, x.b);
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}
SIMD_INLINE float v_sum_across(v16 x)
{
    __m256 m = _mm256_add_ps(x.a, x.b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

/* Lanes [begin, end) of x, `other` in the rest. */
SIMD_INLINE __m256 keep_8(__m256 x, __m256i lane, int32_t begin, int32_t end, __m256 other)
{
    __m256i in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane),
                                     _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(in));
}
SIMD_INLINE v16 v_keep(v16 x, int32_t begin, int32_t end, v16 other)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return EACH(keep_8(x.a, lane, begin, end, other.a),
                keep_8(x.b, lane, begin - 8, end - 8, other.b));
}

SIMD_INLINE int v_any_above(v16 x, v16 limit)
{
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_GT_OQ),
                                           _mm256_cmp_ps(x.b, limit.b, _CMP_GT_OQ)));
}

/* 2^x for x <= 8; -inf gives 0, NaN stays. Cut into a whole and a fraction in [-1/2, 1/2]; the
 * polynomial is a minimax fit with a relative error of 2e-7 in fp32. */
SIMD_INLINE __m256 exp2_8(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-160.0f), x); /* NaN stays: the second operand is returned */
    __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_sub_ps(x, whole);
    __m256 y = _mm256_set1_ps(0.001326472731307149f);
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.009671512991189957f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.05550733581185341f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.24022242426872253f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.6931470036506653f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1.0f));
    /* 2^whole in two factors, so that results below the normal range come out right. */
    __m256i n = _mm256_cvtps_epi32(whole);
    __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half);
    const __m256i bias = _mm256_set1_epi32(127);
    y = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
SIMD_INLINE v16 v_exp2(v16 x) { return EACH(exp2_8(x.a), exp2_8(x.b)); }

SIMD_INLINE __m128i load_8_words(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
SIMD_INLINE v16 v_load_f16(const void *p)
{
    return EACH(_mm256_cvtph_ps(load_8_words(p)),
                _mm256_cvtph_ps(load_8_words((const uint8_t *)p + 16)));
}
SIMD_INLINE __m256 widen_bf16(__m128i words)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}
SIMD_INLINE v16 v_load_bf16(const void *p)
{
    return EACH(widen_bf16(load_8_words(p)), widen_bf16(load_8_words((const uint8_t *)p + 16)));
}

SIMD_INLINE void v_store_f16(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

/* To nearest even; NaN stays NaN. */
SIMD_INLINE __m256i narrow_8(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i words = _mm256_srli_epi32(up, 16);
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(words, _mm256_set1_epi32(0x7fc0), is_nan);
}
SIMD_INLINE void v_narrow_bf16(uint16_t *p, v16 x)
{
    __m256i words = _mm256_packus_epi32(narrow_8(x.a), narrow_8(x.b));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(words, 0xd8));
}

/* e4m3 as fp16 bits is the value / 256, denormals included; 0x7f and 0xff are NaN. */
SIMD_INLINE v16 v_load_f8(const uint8_t *p)
{
    __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i magnitude = _mm256_and_si256(w, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_sub_epi16(w, magnitude), 8);
    __m256i half = _mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign);
    __m256i is_nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
    half = _mm256_or_si256(half, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7e00)));
    return EACH(_mm256_cvtph_ps(_mm256_castsi256_si128(half)),
                _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)));
}
#define SIMD_F8_SCALE 256.0f /* what values of v_load_f8 are to be multiplied with */

/* bf16 pairs as two vectors of floats. */
SIMD_INLINE void v_load2_bf16(const uint8_t *p, v16 *x0, v16 *x1)
{
    const __m256i high = _mm256_set1_epi32(-65536);
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
    *x0 = EACH(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
               _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
    *x1 = EACH(_mm256_castsi256_ps(_mm256_and_si256(a, high)),
               _mm256_castsi256_ps(_mm256_and_si256(b, high)));
}

/* Rounded to the nearest integer. */
SIMD_INLINE i16 i_round(v16 x)
{
    return EACH_I(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
}
SIMD_INLINE v16 v_from_i(i16 x)
{
    return EACH(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b));
}
SIMD_INLINE i16 i_zero(void) { return EACH_I(_mm256_setzero_si256(), _mm256_setzero_si256()); }
SIMD_INLINE i16 i_all(int32_t x) { return EACH_I(_mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
SIMD_INLINE i16 i_add(i16 x, i16 y)
{
    return EACH_I(_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b));
}
SIMD_INLINE i16 i_sub(i16 x, i16 y)
{
    return EACH_I(_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b));
}
SIMD_INLINE i16 i_times_128(i16 x)
{
    return EACH_I(_mm256_slli_epi32(x.a, 7), _mm256_slli_epi32(x.b, 7));
}
SIMD_INLINE i16 i_over_128(i16 x)
{
    return EACH_I(_mm256_srai_epi32(x.a, 7), _mm256_srai_epi32(x.b, 7));
}
SIMD_INLINE int32_t i_sum_across(i16 x)
{
    __m256i m = _mm256_add_epi32(x.a, x.b);
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}
SIMD_INLINE i16 i_load(const uint8_t *p)
{
    return EACH_I(_mm256_loadu_si256((const __m256i *)(const void *)p),
                  _mm256_loadu_si256((const __m256i *)(const void *)(p + 32)));
}
/* Values in [-128, 127]; packing works in 128-bit halves, the permutation puts them in order. */
SIMD_INLINE void i_store_bytes(int8_t *p, i16 x)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words),
                                    _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
}

/* acc + unsigned bytes of x times four signed bytes at w, the same for all lanes. |w| <= 64, so
 * that two products fit 16 bits: 2 * 255 * 64 < 2^15. */
SIMD_INLINE i16 i_dot4(i16 acc, i16 x, const int8_t *w)
{
    int32_t four;
    __builtin_memcpy(&four, w, sizeof four);
    const __m256i weights = _mm256_set1_epi32(four), one = _mm256_set1_epi16(1);
    __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(x.a, weights), one);
    __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(x.b, weights), one);
    return EACH_I(_mm256_add_epi32(acc.a, a), _mm256_add_epi32(acc.b, b));
}

/* Into the second-level cache: the first has no room for what is still being read. */
SIMD_INLINE void v_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
#endif
