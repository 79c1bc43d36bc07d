/* The one table of tolerances: how far a level may be from double precision, by KV format. */
#ifndef TOLERANCES_H
#define TOLERANCES_H

#include <float.h>

#include "apx.h"

/* score: relative to the largest sum of |q k|, before the softmax.
 * weight: of the output, relative to the largest |v|: weights, their sum, and sums of products.
 * floor: of the output, absolute: where denormals end. */
typedef struct tolerance {
    double score;
    double weight;
    double floor;
} tolerance;

static inline tolerance tolerance_of(int32_t kv_dtype, apx_isa isa)
{
    static const tolerance by_dtype[] = {
        [APX_F32] = {1e-6, 2e-6, 1e-42},
        [APX_F16] = {1e-6, 2e-6, 1e-42},
        [APX_BF16] = {1e-6, 2e-6, 1e-42},
        /* Weights are whole numbers up to 8255; their steps are never below FLT_MIN. */
        [APX_I8] = {1e-6, 3e-4, 64.0 * 127.0 * FLT_MIN},
        [APX_F8E4M3] = {1e-6, 2e-6, 1e-42},
    };
    /* q as two bf16 (2^-17), weights as one (2^-9), denormals flushed. */
    static const tolerance bf16_products = {0x1p-16, 0x1p-8, 4.0 * FLT_MIN};
    return isa == APX_ISA_AVX512X && kv_dtype == APX_BF16 ? bf16_products : by_dtype[kv_dtype];
}

/* Half a unit in the last place of the output, relative, and half its smallest step. */
static inline double output_error(double value, int32_t dtype)
{
    static const double relative[] = {0x1p-23, 0x1p-11, 0x1p-8};
    static const double step[] = {0x1p-149, 0x1p-25, 0x1p-133};
    return relative[dtype] * value + step[dtype];
}

#endif
