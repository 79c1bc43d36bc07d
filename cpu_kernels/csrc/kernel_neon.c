/* Decode attention with NEON: see attend_template.h. kernel_dotprod_neon.c has int8 for CPUs with
 * dot products. */
#include "simd_neon.h"

#include <sys/auxv.h>

#include "attend_template.h"
#include "neon.h"

#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1UL << 20)
#endif

static ATTEND_FUNCTION(kernels_without_dotprod)

const apx_kernels *apx_kernels_neon(void)
{
    bool has_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    return has_dotprod ? apx_kernels_dotprod() : kernels_without_dotprod();
}
