/* Decode attention with AVX2, FMA and F16C: see attend_template.h. */
#include "simd_avx2.h"

#include "attend_template.h"

ATTEND_FUNCTION(apx_kernels_avx2)
