/* What the two NEON files share. */
#ifndef APX_NEON_H
#define APX_NEON_H

#include "kernels.h"

/* For CPUs with the dot-product instructions of ARMv8.2. */
const apx_kernels *apx_kernels_dotprod(void);

#endif
