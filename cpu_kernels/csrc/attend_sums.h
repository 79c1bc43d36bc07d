/* The loops over a stripe's lines, where the time goes: sums of lines times weights, for any dtype.
 */
#ifndef APX_ATTEND_SUMS_H
#define APX_ATTEND_SUMS_H

#include "attend_strip.h"

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
#endif
