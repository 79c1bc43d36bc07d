/* Whole runs of tokens into the cache and back, on the calling thread. */
#include "kernels.h"
#include "reference.h"

typedef struct token_run {
    const apx_cache *cache;
    const int32_t *block_table;
    int64_t first;
    int64_t count;
} token_run;

static bool is_run(const token_run *run, int32_t layer)
{
    const apx_cache *cache = run->cache;
    if (layer < 0 || layer >= cache->num_layers) {
        (void)apx_fail(APX_E_ARGUMENT, "layer is %d; the cache has %d", layer, cache->num_layers);
        return false;
    }
    if (run->first < 0 || run->count < 0) {
        (void)apx_fail(APX_E_ARGUMENT, "tokens begin at %lld and are %lld; neither may be negative",
                       (long long)run->first, (long long)run->count);
        return false;
    }
    return true;
}

/* All of them before anything is written. */
static apx_status check_blocks(const token_run *run)
{
    int64_t size = run->cache->block_size;
    for (int64_t i = run->first / size; i * size < run->first + run->count; ++i) {
        int32_t block = run->block_table[i];
        if (block < 0 || block >= run->cache->num_blocks)
            return apx_fail(APX_E_BLOCK_ID,
                            "entry %lld of the block table is %d; the cache has %lld blocks",
                            (long long)i, block, (long long)run->cache->num_blocks);
    }
    return APX_OK;
}

static apx_status check_run(const token_run *run, int32_t layer, const void *k, const void *v,
                            apx_shape *shape)
{
    if (!apx_cache_is_valid(run->cache, shape) || !is_run(run, layer))
        return APX_E_ARGUMENT;
    if (run->count == 0)
        return APX_OK;
    if (run->block_table == NULL || k == NULL || v == NULL)
        return apx_fail(APX_E_ARGUMENT, "block_table, k and v must not be NULL");
    return check_blocks(run);
}

apx_status apx_store(const apx_cache *cache, int32_t layer, const int32_t *block_table,
                     int64_t first_token, int64_t num_tokens, const void *k, const void *v,
                     int64_t token_stride, int32_t dtype)
{
    apx_shape shape;
    token_run run = {cache, block_table, first_token, num_tokens};
    if (dtype != APX_F32 && dtype != APX_F16 && dtype != APX_BF16)
        return apx_fail(APX_E_ARGUMENT, "dtype is %d; expected APX_F32, APX_F16 or APX_BF16",
                        dtype);
    apx_status status = check_run(&run, layer, k, v, &shape);
    if (status != APX_OK)
        return status;
    const apx_kernels *kernels = apx_kernels_now();
    uint8_t *tiles = (uint8_t *)cache->base + layer * cache->layer_bytes;
    int64_t stride_bytes = token_stride * apx_element_bytes(dtype);
    for (int64_t i = 0; i < num_tokens; ++i) {
        int64_t token = first_token + i;
        kernels->append(&shape, tiles, block_table[token / shape.block_size],
                        (int32_t)(token % shape.block_size), 0, shape.num_kv_heads,
                        (const uint8_t *)k + i * stride_bytes,
                        (const uint8_t *)v + i * stride_bytes, dtype);
    }
    return APX_OK;
}

static void load_head(const apx_shape *shape, const uint8_t *tile, int32_t slot, float *k,
                      float *v)
{
    const uint8_t *k_part = tile + 2 * shape->scale_bytes;
    const uint8_t *v_part = k_part + shape->kv_bytes;
    float k_scale = 1.0f;
    float v_scale = 1.0f;
    if (shape->kv_dtype == APX_I8) {
        k_scale = apx_scale_reference(tile, slot, shape->scale_dtype);
        v_scale = apx_scale_reference(tile + shape->scale_bytes, slot, shape->scale_dtype);
    }
    for (int32_t d = 0; d < shape->head_dim; ++d) {
        int32_t dtype = shape->kv_dtype;
        k[d] = k_scale * apx_element_reference(k_part, apx_k_index(shape, slot, d), dtype);
        v[d] = v_scale * apx_element_reference(v_part, apx_v_index(shape, slot, d), dtype);
    }
}

apx_status apx_load(const apx_cache *cache, int32_t layer, const int32_t *block_table,
                    int64_t first_token, int64_t num_tokens, float *k, float *v)
{
    apx_shape shape;
    token_run run = {cache, block_table, first_token, num_tokens};
    apx_status status = check_run(&run, layer, k, v, &shape);
    if (status != APX_OK)
        return status;
    uint8_t *tiles = (uint8_t *)cache->base + layer * cache->layer_bytes;
    for (int64_t i = 0; i < num_tokens; ++i) {
        int64_t token = first_token + i;
        int32_t slot = (int32_t)(token % shape.block_size);
        for (int32_t head = 0; head < shape.num_kv_heads; ++head) {
            int64_t row = (i * shape.num_kv_heads + head) * shape.head_dim;
            const uint8_t *tile =
                apx_tile(&shape, tiles, block_table[token / shape.block_size], head);
            load_head(&shape, tile, slot, k + row, v + row);
        }
    }
    return APX_OK;
}
