/* Geometry of a cache: what can be, and how many bytes it takes. */
#include "kernels.h"

static bool refuse(const char *what, int32_t value, const char *expected)
{
    (void)apx_fail(APX_E_ARGUMENT, "%s is %d; expected %s", what, value, expected);
    return false;
}

static bool is_block_size(int32_t tokens)
{
    return tokens == 8 || (tokens >= 16 && tokens <= APX_MAX_BLOCK && tokens % 16 == 0);
}

static bool is_geometry(const apx_cache *cache)
{
    int32_t dim = cache->head_dim;
    bool has_scales = cache->kv_dtype == APX_I8;
    if (cache->kv_dtype < APX_F32 || cache->kv_dtype > APX_F8E4M3)
        return refuse("kv_dtype", cache->kv_dtype, "one of apx_dtype");
    if (has_scales && cache->scale_dtype != APX_F32 && cache->scale_dtype != APX_F16)
        return refuse("scale_dtype", cache->scale_dtype, "APX_F32 or APX_F16");
    if (!is_block_size(cache->block_size))
        return refuse("block_size", cache->block_size, "8 or a multiple of 16 up to 128");
    if (dim < APX_LANES || dim > APX_MAX_HEAD_DIM || dim % APX_LANES != 0)
        return refuse("head_dim", dim, "a multiple of 16 up to 256");
    if (cache->num_kv_heads < 1)
        return refuse("num_kv_heads", cache->num_kv_heads, "at least 1");
    return true;
}

static int64_t padded(int64_t num_bytes)
{
    return (num_bytes + APX_LINE - 1) / APX_LINE * APX_LINE;
}

bool apx_shape_of(const apx_cache *cache, apx_shape *shape)
{
    if (cache == NULL)
        return refuse("the cache pointer", 0, "the address of a cache");
    if (!is_geometry(cache))
        return false;
    int64_t elements = (int64_t)cache->block_size * cache->head_dim;
    shape->kv_dtype = cache->kv_dtype;
    shape->scale_dtype = cache->scale_dtype;
    shape->block_size = cache->block_size;
    shape->head_dim = cache->head_dim;
    shape->num_kv_heads = cache->num_kv_heads;
    shape->group = 1;
    shape->pack = cache->kv_dtype == APX_I8 ? 4 : cache->kv_dtype == APX_BF16 ? 2 : 1;
    shape->scale_bytes = 0;
    if (cache->kv_dtype == APX_I8)
        shape->scale_bytes = padded(cache->block_size * apx_element_bytes(cache->scale_dtype));
    shape->kv_bytes = padded(elements * apx_element_bytes(cache->kv_dtype));
    shape->tile_bytes = 2 * (shape->scale_bytes + shape->kv_bytes);
    shape->block_bytes = shape->tile_bytes * cache->num_kv_heads;
    return true;
}

bool apx_cache_is_valid(const apx_cache *cache, apx_shape *shape)
{
    if (!apx_shape_of(cache, shape))
        return false;
    if (cache->base == NULL || (uintptr_t)cache->base % APX_LINE != 0)
        return refuse("the cache's base modulo 64", (int32_t)((uintptr_t)cache->base % APX_LINE),
                      "0, and not NULL");
    if (cache->num_layers < 1)
        return refuse("num_layers", cache->num_layers, "at least 1");
    /* By division: a product with a wrong num_blocks could overflow. */
    if (cache->num_blocks < 1 || cache->layer_bytes % APX_LINE != 0 ||
        cache->layer_bytes / shape->block_bytes < cache->num_blocks) {
        (void)apx_fail(APX_E_ARGUMENT,
                       "layer_bytes is %lld; expected a multiple of 64 with room for num_blocks "
                       "(%lld, at least 1) of %lld bytes each",
                       (long long)cache->layer_bytes, (long long)cache->num_blocks,
                       (long long)shape->block_bytes);
        return false;
    }
    return true;
}

int64_t apx_tile_bytes(const apx_cache *cache)
{
    apx_shape shape;
    return apx_shape_of(cache, &shape) ? shape.tile_bytes : 0;
}

int64_t apx_block_bytes(const apx_cache *cache)
{
    apx_shape shape;
    return apx_shape_of(cache, &shape) ? shape.block_bytes : 0;
}

int64_t apx_scratch_bytes(const apx_shape *shape)
{
    /* For each query head: q in up to four forms (floats, digits, pairs), each as long as the
     * longest, and sums. Then the scores and weights of as many heads as are computed together. */
    enum { HEAD_BYTES = 4 * APX_MAX_HEAD_DIM * 4 + 4 * APX_LINE, SCORES_BYTES = 64 * 1024 };
    return (int64_t)shape->group * shape->num_kv_heads * HEAD_BYTES + SCORES_BYTES;
}
