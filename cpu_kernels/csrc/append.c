/* Writing tokens into tiles: conversion, int8 scales, and the scatter into the layout. Shared by
 * all levels. The loops over a row are plain so that any compiler vectorises them. */
#include "reference.h"

#include "numbers.h"

/* ------------------------------------------------------------------ a row as it is stored */

/* The scale is rounded to its type first, so that elements are quantised with what will be read. */
static float write_scale(float maximum, uint8_t *scales, int32_t slot, int32_t scale_dtype)
{
    float scale = maximum / (float)APX_I8_MAX;
    if (scale_dtype == APX_F32) {
        memcpy(scales + (int64_t)slot * 4, &scale, sizeof scale);
        return scale;
    }
    uint16_t half = apx_f32_to_f16(scale > APX_F16_MAX ? APX_F16_MAX : scale);
    memcpy(scales + (int64_t)slot * 2, &half, sizeof half);
    return apx_f16_to_f32(half);
}

static void quantise_row(const float *values, int32_t count, float scale, uint8_t *codes)
{
    if (!(scale > 0.0f)) { /* all zeros, or not finite */
        memset(codes, APX_I8_ZERO, (size_t)count);
        return;
    }
    for (int32_t i = 0; i < count; ++i)
        codes[i] = apx_quantise(values[i], scale);
}

/* One head's row of K or V as elements of the cache; the scale, with int8, goes to its place. */
static void encode_row(const apx_shape *shape, const void *source, int32_t dtype, uint8_t *scales,
                       int32_t slot, uint8_t *codes)
{
    int32_t dim = shape->head_dim;
    float values[APX_MAX_HEAD_DIM];
    if (dtype == shape->kv_dtype) {
        memcpy(codes, source, (size_t)(dim * apx_element_bytes(dtype)));
        return;
    }
    apx_widen_reference(source, dim, values, dtype);
    if (shape->kv_dtype == APX_I8) {
        float maximum = apx_finite_maximum(values, dim);
        quantise_row(values, dim, write_scale(maximum, scales, slot, shape->scale_dtype), codes);
    } else if (shape->kv_dtype == APX_F8E4M3) {
        for (int32_t i = 0; i < dim; ++i)
            codes[i] = apx_f32_to_f8(values[i]);
    } else {
        apx_narrow_reference(values, dim, codes, shape->kv_dtype);
    }
}

/* ------------------------------------------------------------------ into the layout */

#define DEFINE_SCATTER(BYTES)                                                                     \
    static void scatter_##BYTES(const uint8_t *units, int32_t count, uint8_t *to, int64_t step)   \
    {                                                                                             \
        for (int32_t i = 0; i < count; ++i)                                                       \
            memcpy(to + i * step, units + (int64_t)i * BYTES, BYTES);                             \
    }

DEFINE_SCATTER(1)
DEFINE_SCATTER(2)
DEFINE_SCATTER(4)

/* `count` units of 1, 2 or 4 bytes, `step` bytes from one to the next. */
static void scatter(const uint8_t *units, int32_t count, int32_t unit_bytes, uint8_t *to,
                    int64_t step)
{
    if (step == unit_bytes)
        memcpy(to, units, (size_t)(count * unit_bytes));
    else if (unit_bytes == 4)
        scatter_4(units, count, to, step);
    else if (unit_bytes == 2)
        scatter_2(units, count, to, step);
    else
        scatter_1(units, count, to, step);
}

/* K: the `pack` elements of a lane are adjacent and go as one, a stripe's width of lanes apart. */
static void scatter_key(const apx_shape *shape, const uint8_t *codes, int32_t slot, uint8_t *part)
{
    int32_t bytes = apx_element_bytes(shape->kv_dtype);
    int64_t first = apx_k_index(shape, slot, 0) * bytes;
    int64_t step = apx_k_index(shape, slot, shape->pack) * bytes - first;
    scatter(codes, shape->head_dim / shape->pack, shape->pack * bytes, part + first, step);
}

/* V: the dimensions of a stripe lie `pack` elements apart. */
static void scatter_value(const apx_shape *shape, const uint8_t *codes, int32_t slot,
                          uint8_t *part)
{
    int32_t bytes = apx_element_bytes(shape->kv_dtype);
    for (int32_t dim = 0; dim < shape->head_dim; dim += APX_STRIPE) {
        int32_t left = shape->head_dim - dim;
        scatter(codes + dim * bytes, left < APX_STRIPE ? left : APX_STRIPE, bytes,
                part + apx_v_index(shape, slot, dim) * bytes, shape->pack * bytes);
    }
}

void apx_append_reference(const apx_shape *shape, uint8_t *layer, int64_t block, int32_t slot,
                          int32_t head_begin, int32_t head_end, const void *k, const void *v,
                          int32_t dtype)
{
    _Alignas(APX_LINE) uint8_t codes[4 * APX_MAX_HEAD_DIM];
    int64_t row_bytes = (int64_t)shape->head_dim * apx_element_bytes(dtype);
    for (int32_t head = head_begin; head < head_end; ++head) {
        uint8_t *k_scales = apx_tile(shape, layer, block, head);
        uint8_t *v_scales = k_scales + shape->scale_bytes;
        uint8_t *k_part = v_scales + shape->scale_bytes;
        encode_row(shape, (const uint8_t *)k + head * row_bytes, dtype, k_scales, slot, codes);
        scatter_key(shape, codes, slot, k_part);
        encode_row(shape, (const uint8_t *)v + head * row_bytes, dtype, v_scales, slot, codes);
        scatter_value(shape, codes, slot, k_part + shape->kv_bytes);
    }
}
