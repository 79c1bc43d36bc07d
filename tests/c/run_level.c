/* One level on one case: append, attend in pieces with a poll, finish. */
#include <string.h>

#include "drivers.h"

enum { MAX_PIECES = 8 };

/* ------------------------------------------------------------------ append */

static void append_tokens(const level *l, const test_case *c, const test_data *data,
                          outcome *made)
{
    const apx_shape *s = &c->shape;
    for (int32_t token = 0; token < c->length; ++token) {
        int32_t slot = slot_of(c, data, token);
        int32_t middle = s->num_kv_heads / 2;
        for (int32_t part = 0; part < 2; ++part)
            l->kernels->append(s, made->layer.data, slot / s->block_size, slot % s->block_size,
                               part == 0 ? 0 : middle, part == 0 ? middle : s->num_kv_heads,
                               data->k_rows[token].data, data->v_rows[token].data, c->q_dtype);
    }
}

void check_append(const level *l, const test_case *c, const test_data *data, outcome *made)
{
    memcpy(made->layer.data, data->background.data, made->layer.num_bytes);
    append_tokens(l, c, data, made);
    unify_nans(c, data, made->layer.data);
    bool is_same = memcmp(made->layer.data, data->expected.data, made->layer.num_bytes) == 0;
    check(is_same, l, c, "append leaves other bytes than expected");
    check(is_intact(&made->layer), l, c, "append writes outside the layer");
}

/* ------------------------------------------------------------------ attend and finish */

typedef struct piece_buffers {
    guarded max, sum, acc;
    apx_state state;
} piece_buffers;

static piece_buffers new_piece_buffers(const apx_shape *shape, int32_t kv_heads)
{
    size_t heads = (size_t)(kv_heads * shape->group);
    piece_buffers b;
    b.max = guarded_new(heads * sizeof(float), 0);
    b.sum = guarded_new(heads * sizeof(float), 0);
    b.acc = guarded_new(heads * (size_t)shape->head_dim * sizeof(float), 0);
    b.state.max = (float *)(void *)b.max.data;
    b.state.sum = (float *)(void *)b.sum.data;
    b.state.acc = (float *)(void *)b.acc.data;
    return b;
}

static void free_piece_buffers(piece_buffers *b)
{
    guarded_free(&b->max);
    guarded_free(&b->sum);
    guarded_free(&b->acc);
}

static bool are_piece_buffers_intact(const piece_buffers *b)
{
    return is_intact(&b->max) && is_intact(&b->sum) && is_intact(&b->acc);
}

/* A piece inside poll: what a worker does that runs more urgent work there. */
typedef struct nested {
    const level *l;
    const apx_shape *shape;
    apx_piece piece;
    guarded scratch;
    piece_buffers buffers;
    int32_t num_polls;
} nested;

static void run_nested(void *context)
{
    nested *n = context;
    n->num_polls += 1;
    n->l->kernels->attend(n->shape, &n->piece, n->buffers.state, n->scratch.data);
}

static int32_t blocks_between(const apx_shape *s, int32_t begin, int32_t end)
{
    return (end - 1) / s->block_size - begin / s->block_size;
}

static void attend_piece(const level *l, const test_case *c, apx_piece *piece, outcome *made,
                         piece_buffers *buffers)
{
    nested inner = {.l = l, .shape = &c->shape, .piece = *piece};
    inner.piece.token_end = piece->token_begin + 1;
    inner.piece.head_end = piece->head_begin + 1;
    inner.scratch = guarded_new((size_t)apx_scratch_bytes(&c->shape), 0);
    inner.buffers = new_piece_buffers(&c->shape, 1);
    piece->poll = run_nested;
    piece->poll_context = &inner;
    l->kernels->attend(&c->shape, piece, buffers->state, made->scratch.data);
    int32_t expected = blocks_between(&c->shape, piece->token_begin, piece->token_end);
    check(inner.num_polls == expected, l, c, "attend does not poll once between blocks");
    check(are_piece_buffers_intact(buffers), l, c, "attend writes outside its state");
    check(is_intact(&made->scratch) && is_intact(&inner.scratch), l, c,
          "attend writes outside its scratch");
    guarded_free(&inner.scratch);
    free_piece_buffers(&inner.buffers);
}

/* Cuts of the visible tokens into at most MAX_PIECES ranges. */
static int32_t cut_tokens(const test_case *c, uint64_t *random, int32_t (*ranges)[2])
{
    int32_t count = 0;
    int32_t token = c->sinks > 0 ? 0 : c->begin;
    while (token < c->length) {
        int32_t limit = token < c->sinks ? c->sinks : c->length;
        bool is_cut = count < MAX_PIECES - 3 && random_below(random, 2) == 0;
        int32_t end = is_cut ? token + 1 + random_below(random, limit - token) : limit;
        ranges[count][0] = token;
        ranges[count++][1] = end;
        token = end == c->sinks ? c->begin : end;
    }
    return count;
}

static void run_heads(const level *l, const test_case *c, const test_data *data, outcome *made,
                      uint64_t *random, int32_t head_begin, int32_t head_end)
{
    int32_t ranges[MAX_PIECES][2];
    piece_buffers buffers[MAX_PIECES];
    apx_state states[MAX_PIECES];
    int32_t count = cut_tokens(c, random, ranges);
    for (int32_t i = 0; i < count; ++i) {
        apx_piece piece = {
            .layer = made->layer.data,
            .blocks = (const int32_t *)(const void *)data->table.data,
            .token_begin = ranges[i][0],
            .token_end = ranges[i][1],
            .head_begin = head_begin,
            .head_end = head_end,
            .q = data->q.data,
            .q_dtype = c->q_dtype,
            .softmax_scale = c->softmax_scale,
        };
        buffers[i] = new_piece_buffers(&c->shape, head_end - head_begin);
        attend_piece(l, c, &piece, made, buffers + i);
        states[i] = buffers[i].state;
    }
    const float *sinks = (const float *)(const void *)data->sink_logits.data;
    l->kernels->finish(&c->shape, count, states, head_begin, head_end,
                       c->has_sink_logits ? sinks : NULL, made->out.data, c->q_dtype,
                       c->has_lse ? (float *)(void *)made->lse.data : NULL);
    for (int32_t i = 0; i < count; ++i)
        free_piece_buffers(buffers + i);
}

void check_attend(const level *l, const test_case *c, const test_data *data, outcome *made)
{
    uint64_t random = c->seed ^ 0xc07;
    int32_t middle = random_below(&random, c->shape.num_kv_heads);
    memcpy(made->layer.data, data->expected.data, made->layer.num_bytes);
    if (middle > 0)
        run_heads(l, c, data, made, &random, 0, middle);
    run_heads(l, c, data, made, &random, middle, c->shape.num_kv_heads);
    check(memcmp(made->layer.data, data->expected.data, made->layer.num_bytes) == 0, l, c,
          "attend changes the cache");
    check(is_intact(&made->out) && is_intact(&made->lse), l, c,
          "finish writes outside its outputs");
}
