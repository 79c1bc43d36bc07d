/* Tensors of a case: the library's cache as it must look, built without the library. */
#include "cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct magnitudes {
    double q, k, v;
} magnitudes;

static magnitudes magnitudes_of(const test_case *c)
{
    static const double huge[] = {1e30, 3e4, 1e30, 1e7, 1000.0};
    static const double least[] = {1e-39, 1e-6, 1e-39, 1e-7, 0.03};
    double largest_input = c->q_dtype == APX_F16 ? 6e4 : 1e30;
    double big = fmin(huge[c->shape.kv_dtype], largest_input);
    double small = least[c->shape.kv_dtype];
    switch (c->kind) {
    case LARGE:
        return (magnitudes){30.0, 30.0, 100.0};
    case HUGE_KV: /* the softmax scale is 1e-6 */
        return (magnitudes){1e6 / big, big, big};
    case TINY:
        return (magnitudes){1e-3, 1e-4, 1e-5};
    case DENORMAL:
        return (magnitudes){100.0, small, small};
    case ZEROS:
        return (magnitudes){1.0, 0.0, 0.0};
    default:
        return (magnitudes){1.0, 1.0, 1.0};
    }
}

static void draw_row(uint64_t *random, int32_t count, double magnitude, double *row)
{
    for (int32_t i = 0; i < count; ++i)
        row[i] = magnitude * random_unit(random);
}

/* What a kind does to one head's row of K or V beyond its magnitude. */
static void disturb_row(const test_case *c, uint64_t *random, int32_t token, bool is_key,
                        double *row)
{
    int32_t dim = c->shape.head_dim;
    int32_t chosen = random_below(random, dim);
    bool is_picked = random_below(random, 5) == 0;
    bool is_last = token == c->length - 1; /* always visible */
    if (c->kind == OUTLIERS)
        row[chosen] *= 1000.0;
    if (c->kind == V_NAN && !is_key && is_last)
        row[chosen] = NAN;
    if (!is_key)
        return;
    if (c->kind == RISING)
        for (int32_t d = 0; d < dim; ++d)
            row[d] = 0.02 * token + 0.1 * row[d];
    if (c->kind == ALL_MINUS_INF || (c->kind == K_MINUS_INF && is_picked && !is_last))
        row[0] = -INFINITY;
    if (c->kind == K_PLUS_INF && is_last)
        row[0] = INFINITY;
    if (c->kind == K_NAN && is_last)
        row[chosen] = NAN;
}

static void write_code(const test_case *c, uint8_t *part, int64_t index, uint32_t code)
{
    int32_t bytes = apx_element_bytes(c->shape.kv_dtype);
    memcpy(part + index * bytes, &code, (size_t)bytes); /* little endian */
}

static void write_stored(const test_case *c, uint8_t *tile, int32_t slot, const stored_row *k,
                         const stored_row *v)
{
    const apx_shape *s = &c->shape;
    uint8_t *k_part = tile + 2 * s->scale_bytes;
    if (s->kv_dtype == APX_I8) {
        put_value(tile, slot, k->scale, s->scale_dtype);
        put_value(tile + s->scale_bytes, slot, v->scale, s->scale_dtype);
    }
    for (int32_t d = 0; d < s->head_dim; ++d) {
        write_code(c, k_part, apx_k_index(s, slot, d), k->codes[d]);
        write_code(c, k_part + s->kv_bytes, apx_v_index(s, slot, d), v->codes[d]);
    }
}

int32_t slot_of(const test_case *c, const test_data *data, int32_t token)
{
    const int32_t *table = (const int32_t *)(const void *)data->table.data;
    int32_t size = c->shape.block_size;
    return table[token / size] * size + token % size;
}

/* Draws one side of a token, keeps it as the input row and as what the cache then holds. */
static void draw_side(const test_case *c, uint64_t *random, int32_t token, bool is_key,
                      guarded *input, stored_row *stored)
{
    const apx_shape *s = &c->shape;
    magnitudes m = magnitudes_of(c);
    double row[APX_MAX_HEAD_DIM];
    size_t bytes = (size_t)(s->num_kv_heads * s->head_dim * apx_element_bytes(c->q_dtype));
    *input = guarded_new(bytes, (size_t)apx_element_bytes(c->q_dtype));
    for (int32_t head = 0; head < s->num_kv_heads; ++head) {
        draw_row(random, s->head_dim, is_key ? m.k : m.v, row);
        disturb_row(c, random, token, is_key, row);
        for (int32_t d = 0; d < s->head_dim; ++d) {
            put_value(input->data, (int64_t)head * s->head_dim + d, row[d], c->q_dtype);
            row[d] = nearest(row[d], c->q_dtype);
        }
        store_exactly(row, s->head_dim, s->kv_dtype, s->scale_dtype, stored + head);
    }
}

static void draw_tokens(const test_case *c, uint64_t *random, test_data *data)
{
    const apx_shape *s = &c->shape;
    for (int32_t token = 0; token < c->length; ++token) {
        int32_t slot = slot_of(c, data, token);
        stored_row *k = data->k + (int64_t)slot * s->num_kv_heads;
        stored_row *v = data->v + (int64_t)slot * s->num_kv_heads;
        draw_side(c, random, token, true, data->k_rows + token, k);
        draw_side(c, random, token, false, data->v_rows + token, v);
        for (int32_t head = 0; head < s->num_kv_heads; ++head)
            write_stored(c, apx_tile(s, data->expected.data, slot / s->block_size, head),
                         slot % s->block_size, k + head, v + head);
    }
}

static void draw_query(const test_case *c, uint64_t *random, test_data *data)
{
    int32_t heads = c->shape.num_kv_heads * c->shape.group;
    int32_t dim = c->shape.head_dim;
    double row[APX_MAX_HEAD_DIM];
    for (int32_t head = 0; head < heads; ++head) {
        draw_row(random, dim, magnitudes_of(c).q, row);
        if (c->kind >= RISING) /* so that infinities in K have the sign that was meant */
            row[0] = 1.0;
        if (c->kind == Q_NAN && head % 2 == 0)
            row[random_below(random, dim)] = NAN;
        if (c->kind == Q_INF && head % 2 == 0)
            row[random_below(random, dim)] = random_below(random, 2) ? INFINITY : -INFINITY;
        for (int32_t d = 0; d < dim; ++d)
            put_value(data->q.data, (int64_t)head * dim + d, row[d], c->q_dtype);
    }
}

/* A permutation of the cache's blocks, or with repetitions. */
static void draw_table(const test_case *c, uint64_t *random, int32_t num_blocks, int32_t entries,
                       int32_t *table)
{
    int32_t order[MAX_CASE_TOKENS + SPARE_BLOCKS];
    for (int32_t i = 0; i < num_blocks; ++i)
        order[i] = i;
    for (int32_t i = num_blocks - 1; i > 0; --i) {
        int32_t j = random_below(random, i + 1);
        int32_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (int32_t i = 0; i < entries; ++i)
        table[i] = c->repeats_blocks ? order[random_below(random, num_blocks)] : order[i];
}

/* All ones is NaN in every format and a scale of NaN; random bytes are anything. */
static void draw_background(uint64_t *random, guarded *layer)
{
    bool is_random = random_below(random, 2) == 0;
    for (size_t i = 0; i < layer->num_bytes; ++i)
        layer->data[i] = is_random ? (uint8_t)random_bits(random) : 0xff;
}

void make_data(const test_case *c, test_data *data)
{
    const apx_shape *s = &c->shape;
    uint64_t random = c->seed ^ 0xda7a;
    int32_t entries = (c->length + s->block_size - 1) / s->block_size;
    int32_t num_blocks = entries + SPARE_BLOCKS;
    int32_t heads = s->num_kv_heads * s->group;
    size_t layer_bytes = (size_t)(num_blocks * s->block_bytes);
    size_t q_bytes = (size_t)(heads * s->head_dim * apx_element_bytes(c->q_dtype));
    size_t rows = (size_t)c->length + 1;
    data->num_slots = num_blocks * s->block_size;
    data->background = guarded_new(layer_bytes, 0);
    data->expected = guarded_new(layer_bytes, 0);
    data->q = guarded_new(q_bytes, (size_t)apx_element_bytes(c->q_dtype));
    data->table = guarded_new((size_t)entries * sizeof(int32_t), sizeof(int32_t));
    data->sink_logits = guarded_new((size_t)heads * sizeof(float), sizeof(float));
    data->k_rows = calloc(rows, sizeof *data->k_rows);
    data->v_rows = calloc(rows, sizeof *data->v_rows);
    data->k = calloc((size_t)(data->num_slots * s->num_kv_heads), sizeof *data->k);
    data->v = calloc((size_t)(data->num_slots * s->num_kv_heads), sizeof *data->v);
    if (data->k_rows == NULL || data->v_rows == NULL || data->k == NULL || data->v == NULL)
        exit(2);
    draw_background(&random, &data->background);
    memcpy(data->expected.data, data->background.data, layer_bytes);
    draw_table(c, &random, num_blocks, entries, (int32_t *)(void *)data->table.data);
    for (int32_t head = 0; head < heads; ++head) {
        float logit = head == 1 ? -INFINITY : (float)(4.0 * random_unit(&random));
        memcpy(data->sink_logits.data + (size_t)head * sizeof logit, &logit, sizeof logit);
    }
    draw_tokens(c, &random, data);
    draw_query(c, &random, data);
}

void free_data(const test_case *c, test_data *data)
{
    guarded *single[] = {&data->background, &data->expected, &data->q, &data->table,
                         &data->sink_logits};
    for (size_t i = 0; i < sizeof single / sizeof single[0]; ++i)
        guarded_free(single[i]);
    for (int32_t token = 0; token < c->length; ++token) {
        guarded_free(data->k_rows + token);
        guarded_free(data->v_rows + token);
    }
    free(data->k_rows);
    free(data->v_rows);
    free(data->k);
    free(data->v);
}

static void unify_part(const test_case *c, uint8_t *part, int64_t index)
{
    int32_t dtype = c->shape.kv_dtype;
    int32_t bytes = apx_element_bytes(dtype);
    uint32_t code = 0;
    memcpy(&code, part + index * bytes, (size_t)bytes);
    if (isnan(value_of(code, dtype)))
        write_code(c, part, index, bits_of(NAN, dtype));
}

static void unify_scale(const test_case *c, uint8_t *scales, int32_t slot)
{
    if (isnan(get_value(scales, slot, c->shape.scale_dtype)))
        put_value(scales, slot, NAN, c->shape.scale_dtype);
}

void unify_nans(const test_case *c, const test_data *data, uint8_t *layer)
{
    const apx_shape *s = &c->shape;
    for (int32_t token = 0; token < c->length; ++token) {
        int32_t place = slot_of(c, data, token);
        int32_t slot = place % s->block_size;
        for (int32_t head = 0; head < s->num_kv_heads; ++head) {
            uint8_t *tile = apx_tile(s, layer, place / s->block_size, head);
            uint8_t *k_part = tile + 2 * s->scale_bytes;
            if (s->kv_dtype == APX_I8) {
                unify_scale(c, tile, slot);
                unify_scale(c, tile + s->scale_bytes, slot);
                continue;
            }
            for (int32_t d = 0; d < s->head_dim; ++d) {
                unify_part(c, k_part, apx_k_index(s, slot, d));
                unify_part(c, k_part + s->kv_bytes, apx_v_index(s, slot, d));
            }
        }
    }
}
