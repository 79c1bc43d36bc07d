/* kernel_neon.c with int8 dot products, which most CPUs since ARMv8.2 have. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define SIMD_HAS_DOTPROD
#include "simd_neon.h"

#include "attend_template.h"
#include "neon.h"

ATTEND_FUNCTION(apx_kernels_dotprod)

#if defined(__clang__)
#pragma clang attribute pop
#endif
