/* Where an element of K and V lies in a tile; not how it is computed with.
 *
 * A block holds the tiles of all its KV heads side by side, so that a walk over a block's heads is
 * one run of memory. A tile holds, each part padded to 64 bytes:
 *
 *   [k scales][v scales]   int8 only: block_size values of scale_dtype each
 *   [K][V]                 block_size * head_dim elements each
 *
 * K lies so that lanes are tokens: scores need no horizontal sums, q is broadcast.
 * V lies so that lanes are dimensions: P.V needs none either, p is broadcast.
 * Lanes come in stripes of 32 (the last one narrower: 8 or 16), one stripe after the other, so that
 * a kernel walks memory in one direction while two registers share each broadcast weight.
 * `pack` elements of the summed dimension stand together in a lane, as the dot-product
 * instructions take them: bf16 pairs, int8 quads; fp32, fp16 and fp8 are converted, pack 1.
 *
 *   lane x of n, element s of the m that are summed: with b = 32 (x / 32), w = min(32, n - b)
 *   b m + ((s / pack) w + x - b) pack + s % pack
 *
 * K: x = token, n = block_size, s = dimension, m = head_dim. V: the other way round.
 * int8 elements are stored with 128 added (1..255; 128 is zero), as unsigned x signed dot products
 * want them. Token slots beyond a sequence's length hold anything, NaN included: kernels mask them.
 */
#ifndef APX_LAYOUT_H
#define APX_LAYOUT_H

#include "apx.h"

enum { APX_LANES = 16, APX_STRIPE = 32, APX_LINE = 64, APX_MAX_BLOCK = 128, APX_MAX_HEAD_DIM = 256 };

typedef struct apx_shape {
    int32_t kv_dtype;
    int32_t scale_dtype;
    int32_t block_size;
    int32_t head_dim;
    int32_t num_kv_heads;
    int32_t group;       /* query heads per KV head */
    int32_t pack;        /* elements of the summed dimension in a lane */
    int64_t scale_bytes; /* of k's or v's scales, padded; 0 without */
    int64_t kv_bytes;    /* of K or V in a tile */
    int64_t tile_bytes;
    int64_t block_bytes;
} apx_shape;

/* False when the geometry cannot be; apx_last_error then says why. group is set to 1. */
bool apx_shape_of(const apx_cache *cache, apx_shape *shape);
/* The same, and the memory is there: base, layers, blocks. */
bool apx_cache_is_valid(const apx_cache *cache, apx_shape *shape);

static inline int32_t apx_element_bytes(int32_t dtype)
{
    return dtype == APX_F32 ? 4 : dtype == APX_F16 || dtype == APX_BF16 ? 2 : 1;
}

static inline int64_t apx_striped_index(int32_t lane, int32_t num_lanes, int32_t summed,
                                        int32_t num_summed, int32_t pack)
{
    int32_t begin = lane / APX_STRIPE * APX_STRIPE;
    int32_t width = num_lanes - begin < APX_STRIPE ? num_lanes - begin : APX_STRIPE;
    int64_t line = (int64_t)(summed / pack) * width + lane - begin;
    return (int64_t)begin * num_summed + line * pack + summed % pack;
}

static inline int64_t apx_k_index(const apx_shape *s, int32_t token, int32_t dim)
{
    return apx_striped_index(token, s->block_size, dim, s->head_dim, s->pack);
}

static inline int64_t apx_v_index(const apx_shape *s, int32_t token, int32_t dim)
{
    return apx_striped_index(dim, s->head_dim, token, s->block_size, s->pack);
}

static inline uint8_t *apx_tile(const apx_shape *s, uint8_t *layer, int64_t block, int32_t head)
{
    return layer + block * s->block_bytes + head * s->tile_bytes;
}
#endif
