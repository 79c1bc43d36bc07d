/* Attention one token after the other, in plain C: the specification of every other level. */
#include "reference.h"

#include "finish.h"
#include "numbers.h"

/* One query head against one tile: what attend_tile() works on. */
typedef struct query_head {
    const float *q;  /* [head_dim]; with int8 KV whole numbers, see apx_digits */
    float to_log2;   /* from q.k to log2 units: softmax_scale, log2(e), and the digits' scale */
    float *max;      /* the state, this head's part */
    float *sum;
    float *acc;
} query_head;

typedef struct tile {
    const uint8_t *k_scales;
    const uint8_t *v_scales;
    const uint8_t *k;
    const uint8_t *v;
} tile;

float apx_element_reference(const uint8_t *part, int64_t index, int32_t kv_dtype)
{
    uint16_t half;
    float single;
    switch (kv_dtype) {
    case APX_F32:
        memcpy(&single, part + index * 4, sizeof single);
        return single;
    case APX_F16:
        memcpy(&half, part + index * 2, sizeof half);
        return apx_f16_to_f32(half);
    case APX_BF16:
        memcpy(&half, part + index * 2, sizeof half);
        return apx_bf16_to_f32(half);
    case APX_I8:
        return (float)(part[index] - APX_I8_ZERO);
    default:
        return apx_f8_to_f32(part[index]);
    }
}

float apx_scale_reference(const uint8_t *scales, int32_t slot, int32_t scale_dtype)
{
    return apx_element_reference(scales, slot, scale_dtype);
}

void apx_widen_reference(const void *source, int32_t count, float *values, int32_t dtype)
{
    const uint16_t *halves = source;
    if (dtype == APX_F32) {
        memcpy(values, source, (size_t)count * sizeof *values);
    } else if (dtype == APX_F16) {
        for (int32_t i = 0; i < count; ++i)
            values[i] = apx_f16_to_f32(halves[i]);
    } else {
        for (int32_t i = 0; i < count; ++i)
            values[i] = apx_bf16_to_f32(halves[i]);
    }
}

void apx_narrow_reference(const float *values, int32_t count, void *out, int32_t dtype)
{
    uint16_t *halves = out;
    if (dtype == APX_F32) {
        memcpy(out, values, (size_t)count * sizeof *values);
    } else if (dtype == APX_F16) {
        for (int32_t i = 0; i < count; ++i)
            halves[i] = apx_f32_to_f16(values[i]);
    } else {
        for (int32_t i = 0; i < count; ++i)
            halves[i] = apx_f32_to_bf16(values[i]);
    }
}

/* ------------------------------------------------------------------ attend */

static float score_of(const apx_shape *shape, const tile *t, const query_head *head, int32_t slot)
{
    float dot = 0.0f;
    int32_t exact_dot = 0; /* at most 256 * 127 * 8255: fits */
    for (int32_t d = 0; d < shape->head_dim; ++d) {
        float k = apx_element_reference(t->k, apx_k_index(shape, slot, d), shape->kv_dtype);
        if (shape->kv_dtype == APX_I8)
            exact_dot += (int32_t)head->q[d] * (int32_t)k;
        else
            dot += head->q[d] * k;
    }
    if (shape->kv_dtype != APX_I8)
        return dot * head->to_log2;
    float scale = apx_scale_reference(t->k_scales, slot, shape->scale_dtype);
    return (float)exact_dot * (head->to_log2 * scale);
}

/* NaN and +inf make the head NaN, and it stays so. */
static float new_maximum(float old, const float *scores, int32_t count)
{
    float largest = old;
    for (int32_t i = 0; i < count; ++i) {
        if (isnan(scores[i]) || scores[i] == INFINITY)
            return NAN;
        largest = scores[i] > largest ? scores[i] : largest;
    }
    return largest;
}

static void rescale(const query_head *head, int32_t head_dim, float max)
{
    float shrink = *head->max == max ? 1.0f : exp2f(*head->max - max);
    *head->sum *= shrink;
    for (int32_t d = 0; d < head_dim; ++d)
        head->acc[d] *= shrink;
    *head->max = max;
}

static void add_values(const apx_shape *shape, const tile *t, const query_head *head, int32_t slot,
                       const float *weights, int32_t count)
{
    for (int32_t i = 0; i < count; ++i)
        for (int32_t d = 0; d < shape->head_dim; ++d) {
            int64_t index = apx_v_index(shape, slot + i, d);
            head->acc[d] += weights[i] * apx_element_reference(t->v, index, shape->kv_dtype);
        }
}

/* The same for int8: weights times scales as two digits of a scale common to all, so that the sum
 * over tokens is a whole number. A scale of NaN makes all of the head's output NaN. */
static void add_quantised_values(const apx_shape *shape, const tile *t, const query_head *head,
                                 int32_t slot, const float *weights, int32_t count)
{
    float scaled[APX_DIGIT_TOKENS];
    int32_t digits[APX_DIGIT_TOKENS];
    for (int32_t i = 0; i < count; ++i)
        scaled[i] = weights[i] * apx_scale_reference(t->v_scales, slot + i, shape->scale_dtype);
    float scale = apx_digits_scale(apx_finite_maximum(scaled, count));
    for (int32_t i = 0; i < count; ++i)
        digits[i] = isnan(scale) ? 0 : apx_digits(scaled[i], scale);
    for (int32_t d = 0; d < shape->head_dim; ++d) {
        int32_t total = 0; /* at most 64 * 127 * 8255: fits */
        for (int32_t i = 0; i < count; ++i)
            total += digits[i] * (t->v[apx_v_index(shape, slot + i, d)] - APX_I8_ZERO);
        head->acc[d] += scale * (float)total;
    }
}

/* Slots [first, last) of a tile, at most APX_DIGIT_TOKENS of them. */
static void attend_slots(const apx_shape *shape, const tile *t, const query_head *head,
                         int32_t first, int32_t last)
{
    float weights[APX_DIGIT_TOKENS];
    int32_t count = last - first;
    for (int32_t i = 0; i < count; ++i)
        weights[i] = score_of(shape, t, head, first + i);
    float max = new_maximum(*head->max, weights, count);
    if (isnan(*head->max) || max == -INFINITY)
        return;
    rescale(head, shape->head_dim, max);
    for (int32_t i = 0; i < count; ++i) {
        weights[i] = exp2f(weights[i] - max);
        *head->sum += weights[i];
    }
    if (shape->kv_dtype == APX_I8)
        add_quantised_values(shape, t, head, first, weights, count);
    else
        add_values(shape, t, head, first, weights, count);
}

/* Splits at multiples of APX_DIGIT_TOKENS of the block, so that every level groups alike. */
static void attend_tile(const apx_shape *shape, const uint8_t *memory, const query_head *head,
                        int32_t first, int32_t last)
{
    const uint8_t *k = memory + 2 * shape->scale_bytes;
    tile t = {memory, memory + shape->scale_bytes, k, k + shape->kv_bytes};
    while (first < last) {
        int32_t edge = (first / APX_DIGIT_TOKENS + 1) * APX_DIGIT_TOKENS;
        int32_t end = edge < last ? edge : last;
        attend_slots(shape, &t, head, first, end);
        first = end;
    }
}

/* With int8 KV, q becomes whole numbers; returns their scale (1 otherwise). NaN, with q zeroed,
 * where an element of q is not finite. */
static float prepare_query(const apx_shape *shape, float *q)
{
    if (shape->kv_dtype != APX_I8)
        return 1.0f;
    float scale = apx_digits_scale(apx_finite_maximum(q, shape->head_dim));
    for (int32_t d = 0; d < shape->head_dim; ++d)
        q[d] = isnan(scale) ? 0.0f : (float)apx_digits(q[d], scale);
    return scale;
}

/* q of the piece's `count` heads, widened, and each head's to_log2; the state of no tokens. */
static void begin_piece(const apx_shape *shape, const apx_piece *piece, apx_state state,
                        int32_t count, float *q, float *to_log2)
{
    int32_t dim = shape->head_dim;
    int64_t first = (int64_t)piece->head_begin * shape->group * dim;
    const uint8_t *source = piece->q;
    apx_widen_reference(source + first * apx_element_bytes(piece->q_dtype), count * dim, q,
                        piece->q_dtype);
    for (int32_t i = 0; i < count; ++i) {
        float scale = prepare_query(shape, q + (int64_t)i * dim);
        to_log2[i] = piece->softmax_scale * APX_LOG2_E * scale;
        state.max[i] = -INFINITY;
        state.sum[i] = 0.0f;
    }
    memset(state.acc, 0, (size_t)count * (size_t)dim * sizeof *state.acc);
}

static void attend(const apx_shape *shape, const apx_piece *piece, apx_state state, void *scratch)
{
    int32_t dim = shape->head_dim;
    int32_t count = (piece->head_end - piece->head_begin) * shape->group;
    float *q = scratch;
    float *to_log2 = q + (int64_t)count * dim;
    begin_piece(shape, piece, state, count, q, to_log2);
    int32_t token = piece->token_begin;
    while (token < piece->token_end) {
        int32_t block = token / shape->block_size;
        int32_t start = block * shape->block_size;
        int32_t left = piece->token_end - start;
        int32_t last = left < shape->block_size ? left : shape->block_size;
        const uint8_t *tiles = piece->layer + piece->blocks[block] * shape->block_bytes;
        for (int32_t i = 0; i < count; ++i) {
            query_head head = {q + (int64_t)i * dim, to_log2[i], state.max + i, state.sum + i,
                               state.acc + (int64_t)i * dim};
            int32_t kv_head = piece->head_begin + i / shape->group;
            attend_tile(shape, tiles + kv_head * shape->tile_bytes, &head, token - start, last);
        }
        token = start + last;
        if (token < piece->token_end && piece->poll != NULL)
            piece->poll(piece->poll_context);
    }
}

/* ------------------------------------------------------------------ finish, append */

static void finish(const apx_shape *shape, int32_t num_states, const apx_state *states,
                   int32_t head_begin, int32_t head_end, const float *sink_logits, void *out,
                   int32_t out_dtype, float *lse)
{
    apx_finish_with(apx_narrow_reference, shape, num_states, states, head_begin, head_end,
                    sink_logits, out, out_dtype, lse);
}

const apx_kernels *apx_kernels_reference(void)
{
    static const apx_kernels kernels = {attend, finish, apx_append_reference};
    return &kernels;
}
