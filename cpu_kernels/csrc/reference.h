/* What other levels may take from the reference one. */
#ifndef APX_REFERENCE_H
#define APX_REFERENCE_H

#include "kernels.h"

/* Reads `count` elements of F32, F16 or BF16, aligned to their size. */
void apx_widen_reference(const void *source, int32_t count, float *values, int32_t dtype);
/* Writes them; see apx_narrow in finish.h. */
void apx_narrow_reference(const float *values, int32_t count, void *out, int32_t dtype);

/* Element of K or V at `index` of its part of a tile, without its scale. */
float apx_element_reference(const uint8_t *part, int64_t index, int32_t kv_dtype);
/* Scale of the token in `slot`; `scales` are those of K or of V in a tile. */
float apx_scale_reference(const uint8_t *scales, int32_t slot, int32_t scale_dtype);

void apx_append_reference(const apx_shape *shape, uint8_t *layer, int64_t block, int32_t slot,
                          int32_t head_begin, int32_t head_end, const void *k, const void *v,
                          int32_t dtype);

#endif
