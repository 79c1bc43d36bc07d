/* attend() of one SIMD level: walks a piece's blocks, hands strips of their tiles on.
 *
 * Included after a simd_*.h by a file that then defines its table with ATTEND_FUNCTION.
 */
#ifndef APX_ATTEND_TEMPLATE_H
#define APX_ATTEND_TEMPLATE_H

#include <math.h>
#include <string.h>

#include "attend_kinds.h"
#include "attend_query.h"
#include "finish.h"
#include "reference.h"

typedef struct walk {
    const apx_shape *shape;
    const apx_piece *piece;
    int32_t last; /* number of the piece's last block */
    apx_state state;
    attend_scratch scratch;
    const strip_function *functions;
    int32_t most_heads; /* query heads that go through a tile together */
    ptrdiff_t distance; /* of prefetches */
} walk;

/* The query heads of one KV head, as many at a time as registers hold, in equal parts. */
static void attend_group(const walk *w, strip *s, int32_t kv_head)
{
    const int32_t group = w->shape->group;
    const int32_t fewer = w->most_heads < 4 ? w->most_heads : 4;
    const int32_t most = group % w->most_heads == 0 ? w->most_heads : fewer;
    const int32_t parts = (group + most - 1) / most;
    for (int32_t i = 0; i < parts; i++) {
        const int32_t from = i * group / parts, to = (i + 1) * group / parts;
        const int32_t h = (kv_head - w->piece->head_begin) * group + from;
        s->q = w->scratch.q + (ptrdiff_t)h * Q_STRIDE;
        s->q_scale = w->scratch.q_scale + h;
        s->q_sum = w->scratch.q_sum + h;
        s->base = w->scratch.base + h;
        s->limit = w->scratch.limit + h;
        s->sums = w->scratch.sums + (ptrdiff_t)h * APX_LANES;
        s->acc = w->state.acc + (ptrdiff_t)h * w->shape->head_dim;
        w->functions[to - from - 1](s);
        s->memory.distance = 0; /* the next part reads the same lines */
    }
}

/* Tokens [begin, end) of a tile, in strips of 64. */
static void attend_tile(const walk *w, const uint8_t *tile, int32_t kv_head, int32_t begin,
                        int32_t end, run memory)
{
    const apx_shape *shape = w->shape;
    const uint8_t *k = tile + 2 * shape->scale_bytes, *v = k + shape->kv_bytes;
    const int32_t scale_bytes = apx_element_bytes(shape->scale_dtype);
    const uint8_t *next_scales = ahead(&memory, tile);
    for (ptrdiff_t i = 0; memory.distance > 0 && i < 2 * shape->scale_bytes; i += APX_LINE)
        v_prefetch(next_scales + i);
    for (int32_t at = begin / STRIP_TOKENS * STRIP_TOKENS; at < end; at += STRIP_TOKENS) {
        strip s = {
            .shape = shape,
            .k = k,
            .v = v,
            .k_scales = tile + (ptrdiff_t)at * scale_bytes,
            .v_scales = tile + shape->scale_bytes + (ptrdiff_t)at * scale_bytes,
            .slot = at,
            .begin = begin > at ? begin - at : 0,
            .end = end - at < STRIP_TOKENS ? end - at : STRIP_TOKENS,
            .memory = memory,
            .p = w->scratch.p,
            .p_bf16 = w->scratch.p_bf16,
            .p_digits = w->scratch.p_digits,
        };
        attend_group(w, &s, kv_head);
    }
}

static const uint8_t *tile_of(const walk *w, int32_t index, int32_t head)
{
    const int64_t block = w->piece->blocks[index];
    return w->piece->layer + block * w->shape->block_bytes + head * w->shape->tile_bytes;
}

/* The run that a tile of block `index` belongs to. One block: the tiles of all heads are a run, the
 * next block's follow. Several, [first, last]: each tile is a run, followed by the same head's in
 * the next block, or by the next head's. */
static run run_of(const walk *w, int32_t index, int32_t head, int32_t first, int32_t last)
{
    const apx_piece *piece = w->piece;
    const uint8_t *next = NULL;
    run memory = {.distance = w->distance};
    if (first == last) {
        memory.end = tile_of(w, index, piece->head_end);
    } else {
        memory.end = tile_of(w, index, head + 1);
        if (memory.distance > w->shape->tile_bytes) memory.distance = w->shape->tile_bytes;
        if (index < last) next = tile_of(w, index + 1, head);
        else if (head + 1 < piece->head_end) next = tile_of(w, first, head + 1);
    }
    if (next == NULL && last < w->last) next = tile_of(w, last + 1, piece->head_begin);
    memory.jump = next != NULL ? next - memory.end : -memory.distance;
    return memory;
}

static void poll_after(const walk *w, int32_t head, int32_t index)
{
    const bool is_end = head + 1 == w->piece->head_end && index == w->last;
    if (w->piece->poll != NULL && !is_end) w->piece->poll(w->piece->poll_context);
}

/* Blocks number [first, last] of the row, head by head; polls after as many tiles as a block has. */
static void attend_blocks(const walk *w, int32_t first, int32_t last)
{
    const apx_piece *piece = w->piece;
    const int32_t size = w->shape->block_size;
    run memory = run_of(w, first, piece->head_begin, first, last);
    int32_t num_tiles = 0;
    for (int32_t head = piece->head_begin; head < piece->head_end; head++)
        for (int32_t index = first; index <= last; index++) {
            const int32_t begin = piece->token_begin - index * size;
            const int32_t end = piece->token_end - index * size;
            if (first < last) memory = run_of(w, index, head, first, last);
            attend_tile(w, tile_of(w, index, head), head, begin > 0 ? begin : 0,
                        end < size ? end : size, memory);
            if (++num_tiles % (piece->head_end - piece->head_begin) == 0)
                poll_after(w, head, index);
        }
}

/* Blocks that are walked head by head, so that what a group of heads adds to is not fetched anew
 * for every few tokens. Not where the hardware runs ahead by itself: it wants long runs. */
static int32_t blocks_together(const walk *w)
{
    const bool is_split = w->shape->group > 1 && w->distance > 0;
    const int32_t count = STRIP_TOKENS / w->shape->block_size;
    return is_split && count > 1 ? count : 1;
}

/* 512-bit multiply-adds, or what takes as long, on a line of K or V. */
static int32_t line_work(const apx_shape *shape)
{
    switch (shape->kv_dtype) {
    case APX_F32: return shape->group;
#ifdef SIMD_HAS_BF16
    case APX_BF16: return shape->group;
#endif
#ifdef SIMD_HAS_VNNI
    case APX_I8: return 2 * shape->group; /* two digits */
#else
    case APX_I8: return 6 * shape->group; /* of three instructions each */
#endif
    case APX_F8E4M3: return 4 * (shape->group + 2); /* with four conversions of two */
    default: return 2 * (shape->group + 1);         /* with two conversions */
    }
}

static strip_function const *functions_for(const apx_shape *shape, int32_t q_dtype)
{
#ifdef SIMD_HAS_BF16
    if (shape->kv_dtype == APX_BF16 && q_dtype != APX_BF16)
        return strip_functions[BF16_TWO_TERMS];
#endif
    (void)q_dtype;
    return strip_functions[shape->kv_dtype];
}

static void attend(const apx_shape *shape, const apx_piece *piece, apx_state state, void *scratch)
{
    if (shape->block_size < APX_LANES) { /* blocks of 8 tokens: half a vector */
        apx_kernels_reference()->attend(shape, piece, state, scratch);
        return;
    }
    const int32_t heads = (piece->head_end - piece->head_begin) * shape->group;
    const int32_t first = piece->token_begin / shape->block_size;
    const int32_t last = (piece->token_end - 1) / shape->block_size;
    walk w = {shape, piece, last, state, divide_scratch(shape, scratch),
              functions_for(shape, piece->q_dtype),
              shape->kv_dtype == APX_I8 ? SIMD_MAX_GROUP_I8 : SIMD_MAX_GROUP,
              apx_prefetch_bytes(shape, line_work(shape))};
    for (int32_t h = 0; h < heads; h++) {
        w.scratch.base[h] = 0.0f;
        w.scratch.limit[h] = -INFINITY;
    }
    memset(w.scratch.sums, 0, (size_t)heads * APX_LANES * sizeof(float));
    memset(state.acc, 0, (size_t)heads * (size_t)shape->head_dim * sizeof(float));
    prepare_q(shape, piece, &w.scratch);
    const int32_t together = blocks_together(&w);
    for (int32_t index = first; index <= last; index += together) {
        const int32_t until = last - index < together ? last : index + together - 1;
        attend_blocks(&w, index, until);
    }
    for (int32_t h = 0; h < heads; h++) {
        const float sum = v_sum_across(v_load(w.scratch.sums + (ptrdiff_t)h * APX_LANES));
        const bool is_zero = w.scratch.limit[h] == -INFINITY; /* no score above -inf, or all NaN */
        state.sum[h] = sum;
        state.max[h] = isnan(sum) ? NAN : is_zero ? -INFINITY : w.scratch.base[h];
    }
}

/* ------------------------------------------------- finish */

static void narrow(const float *values, int32_t count, void *out, int32_t dtype)
{
    for (int32_t i = 0; i < count; i += APX_LANES) {
        if (dtype == APX_F32) v_store((float *)out + i, v_load(values + i));
        else if (dtype == APX_F16) v_store_f16((uint16_t *)out + i, v_load(values + i));
        else v_narrow_bf16((uint16_t *)out + i, v_load(values + i));
    }
}

static void finish(const apx_shape *shape, int32_t num_states, const apx_state *states,
                   int32_t head_begin, int32_t head_end, const float *sink_logits, void *out,
                   int32_t out_dtype, float *lse)
{
    apx_finish_with(narrow, shape, num_states, states, head_begin, head_end, sink_logits, out,
                    out_dtype, lse);
}

#define ATTEND_FUNCTION(name)                                                                      \
    const apx_kernels *name(void)                                                                  \
    {                                                                                              \
        static const apx_kernels kernels = {attend, finish, apx_append_reference};                 \
        return &kernels;                                                                           \
    }
#endif
