/* Decode attention with AVX-512 BF16, VNNI and VBMI on top: see attend_template.h. */
#define SIMD_HAS_GROUP_8
#define SIMD_HAS_BF16
#define SIMD_HAS_VNNI
#include "simd_avx512.h"

#include "attend_template.h"

ATTEND_FUNCTION(apx_kernels_avx512x)
