/* Arguments, levels, apx_store and apx_load: what the kernels' cases do not go through. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drivers.h"

static int num_failures;

static void expect(bool holds, const char *what)
{
    if (holds)
        return;
    num_failures += 1;
    (void)printf("FAIL interface: %s (%s)\n", what, apx_last_error());
}

static apx_cache valid_cache(void)
{
    apx_cache cache = {.base = NULL,
                       .num_blocks = 3,
                       .num_layers = 2,
                       .kv_dtype = APX_I8,
                       .scale_dtype = APX_F16,
                       .block_size = 16,
                       .head_dim = 80,
                       .num_kv_heads = 3};
    cache.layer_bytes = 3 * apx_block_bytes(&cache) + APX_LINE;
    return cache;
}

static void check_geometry(void)
{
    static const int32_t bad_blocks[] = {0, -16, 4, 24, 144};
    static const int32_t bad_dims[] = {0, -16, 8, 40, 272};
    apx_cache good = valid_cache();
    expect(apx_tile_bytes(&good) == 2 * 64 + 2 * 16 * 80, "tile bytes: scales padded to 64");
    expect(apx_block_bytes(&good) == 3 * apx_tile_bytes(&good), "a block is its heads' tiles");
    for (size_t i = 0; i < sizeof bad_blocks / sizeof bad_blocks[0]; ++i) {
        apx_cache bad = good;
        bad.block_size = bad_blocks[i];
        expect(apx_tile_bytes(&bad) == 0, "a block size that cannot be");
        bad = good;
        bad.head_dim = bad_dims[i];
        expect(apx_tile_bytes(&bad) == 0, "a head_dim that cannot be");
    }
    apx_cache bad = good;
    bad.kv_dtype = APX_F8E4M3 + 1;
    expect(apx_tile_bytes(&bad) == 0, "a kv_dtype that cannot be");
    bad = good;
    bad.scale_dtype = APX_BF16;
    expect(apx_tile_bytes(&bad) == 0, "a scale_dtype that cannot be");
    bad = good;
    bad.num_kv_heads = 0;
    expect(apx_tile_bytes(&bad) == 0, "no heads");
    expect(apx_tile_bytes(NULL) == 0, "no cache");
    expect(strlen(apx_last_error()) > 0, "a reason");
}

/* Each of these must be refused before any memory is touched. */
static void check_refusals(apx_cache good)
{
    const int32_t table[] = {2, 0};
    const int32_t wrong_table[] = {2, 3};
    const int32_t negative_table[] = {-1, 0};
    float row[3 * 80] = {0};
    expect(apx_store(&good, 2, table, 0, 1, row, row, 240, APX_F32) == APX_E_ARGUMENT, "layer");
    expect(apx_store(&good, -1, table, 0, 1, row, row, 240, APX_F32) == APX_E_ARGUMENT, "layer");
    expect(apx_store(&good, 0, table, -1, 1, row, row, 240, APX_F32) == APX_E_ARGUMENT, "first");
    expect(apx_store(&good, 0, table, 0, -1, row, row, 240, APX_F32) == APX_E_ARGUMENT, "count");
    expect(apx_store(&good, 0, table, 0, 1, row, row, 240, APX_I8) == APX_E_ARGUMENT, "dtype");
    expect(apx_store(&good, 0, table, 0, 1, NULL, row, 240, APX_F32) == APX_E_ARGUMENT, "k");
    expect(apx_store(&good, 0, NULL, 0, 1, row, row, 240, APX_F32) == APX_E_ARGUMENT, "table");
    expect(apx_store(&good, 0, wrong_table, 0, 17, row, row, 0, APX_F32) == APX_E_BLOCK_ID,
           "a block beyond the cache");
    expect(apx_load(&good, 0, negative_table, 0, 1, row, row) == APX_E_BLOCK_ID,
           "a negative block");
    expect(apx_store(&good, 0, NULL, 5, 0, NULL, NULL, 0, APX_F32) == APX_OK, "nothing to store");
    apx_cache bad = good;
    bad.base = (uint8_t *)good.base + 32;
    expect(apx_load(&bad, 0, table, 0, 1, row, row) == APX_E_ARGUMENT, "an unaligned base");
    bad = good;
    bad.layer_bytes = 2 * APX_LINE;
    expect(apx_load(&bad, 0, table, 0, 1, row, row) == APX_E_ARGUMENT, "layers that overlap");
    bad = good;
    bad.num_blocks = INT64_MAX;
    expect(apx_load(&bad, 0, table, 0, 1, row, row) == APX_E_ARGUMENT, "too many blocks");
}

/* Tokens 13..19 of layer 1, over a block edge, from rows further apart than their width. */
static void check_round_trip(const apx_cache *cache)
{
    enum { FIRST = 13, COUNT = 7, ROW = 3 * 80, STRIDE = ROW + 5 };
    static float k[COUNT * STRIDE];
    static float v[COUNT * STRIDE];
    static float k_back[COUNT * ROW];
    static float v_back[COUNT * ROW];
    const int32_t table[] = {2, 0};
    bool is_close = true;
    for (int i = 0; i < COUNT * STRIDE; ++i) {
        k[i] = sinf((float)i);
        v[i] = cosf((float)i);
    }
    expect(apx_store(cache, 1, table, FIRST, COUNT, k, v, STRIDE, APX_F32) == APX_OK, "store");
    expect(apx_load(cache, 1, table, FIRST, COUNT, k_back, v_back) == APX_OK, "load");
    for (int t = 0; t < COUNT; ++t)
        for (int d = 0; d < ROW; ++d) {
            /* Half a step of 1/127, and the rounding of the scale to fp16. */
            float k_error = fabsf(k_back[t * ROW + d] - k[t * STRIDE + d]);
            float v_error = fabsf(v_back[t * ROW + d] - v[t * STRIDE + d]);
            is_close = is_close && k_error < 0.0046f && v_error < 0.0046f;
        }
    expect(is_close, "what was stored comes back");
}

static void check_levels(void)
{
    apx_isa before = apx_isa_now();
    expect(apx_force_isa((apx_isa)99) == APX_E_UNSUPPORTED, "a level that is none");
    expect(apx_isa_now() == before, "a refused level changes nothing");
    expect(apx_force_isa(APX_ISA_REFERENCE) == APX_OK, "the reference is everywhere");
    expect(apx_kernels_now() == apx_kernels_reference(), "the forced level is in use");
    expect(apx_force_isa(before) == APX_OK, "back");
    expect(strcmp(apx_isa_name(APX_ISA_AVX512X), "avx512x") == 0, "names");
    expect(strcmp(apx_isa_name((apx_isa)-1), "unknown") == 0, "names of nothing");
#if defined(__x86_64__)
    expect(!apx_isa_is_supported(APX_ISA_NEON), "another architecture's level");
#endif
}

int check_interface(void)
{
    apx_cache cache = valid_cache();
    guarded memory = guarded_new((size_t)(cache.num_layers * cache.layer_bytes), 0);
    cache.base = memory.data;
    check_geometry();
    check_levels();
    check_refusals(cache);
    check_round_trip(&cache);
    expect(is_intact(&memory), "apx_store writes outside the cache");
    guarded_free(&memory);
    return num_failures;
}
