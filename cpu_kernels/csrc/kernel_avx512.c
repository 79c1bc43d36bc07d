/* Decode attention with AVX-512 F, BW, DQ and VL: see attend_template.h. */
#define SIMD_HAS_GROUP_8
#include "simd_avx512.h"

#include "attend_template.h"

ATTEND_FUNCTION(apx_kernels_avx512)
