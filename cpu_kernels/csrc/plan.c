/* Splits a job into items.
 *
 * Two things are split, for different reasons. How a row's tokens are cut into chunks, each with a
 * state that is merged with the others, decides the order of sums: it depends on the row alone (its
 * visible tokens, the geometry), so a row's results have the same bits in any batch, on any number
 * of threads. How heads are divided and how short rows are grouped changes no bits: it depends on
 * the batch, so that there is work for every thread and the end is even, but never on the threads.
 */
#define _GNU_SOURCE
#include "job.h"

enum {
    /* A row is cut into about so many chunks, unless they would be too short or too long. */
    CHUNKS_PER_ROW = 4,
    /* Shorter chunks cost: a state is 3 % of so many bytes of 16-bit KV with four query heads per
     * KV head, and each chunk starts anew. Longer ones gain little. */
    MIN_CHUNK_BYTES = 512 << 10,
    MAX_CHUNK_BYTES = 2 << 20,
    /* Bounds what one worker merges, and the memory for states, in rows of millions of tokens. */
    MAX_CHUNKS_PER_ROW = 256,
    /* A chunk reads at least so many times the bytes of its state. */
    CHUNK_PER_STATE = 8,
    /* Smallest item: 5 to 10 us of one thread, many times what claiming an item costs. */
    MIN_ITEM_BYTES = 128 << 10,
    /* Beyond this share of the work still to be planned, an item's heads are divided: items shrink
     * towards the end, so that workers end together. Not more, because a block's heads are one run
     * of memory, and long runs are read fastest. */
    SHARES = 32,
    /* What setting up and finishing a row costs, as KV bytes read in that time. */
    ROW_BYTES = 16 << 10,
    /* Most that a part reads of one block, that is, between two polls: 50 us of one thread at
     * 10.5 GB/s. Heads are divided where a block of all of them is more. */
    POLL_BYTES = 512 << 10
};

typedef struct span {
    int32_t begin;
    int32_t end;
} span;

/* A row as it is cut: chunks of chunk_tokens in each span of visible tokens. */
typedef struct cut_row {
    int32_t row;
    int32_t num_spans;
    span spans[2];
    int64_t num_tokens;
    int64_t chunk_tokens; /* at least a block */
} cut_row;

/* A range of a row's heads: its chunks are merged as one. */
typedef struct group {
    const cut_row *cut;
    int32_t head_begin;
    int32_t head_end;
} group;

typedef struct plan {
    apx_job *job;
    int64_t token_bytes; /* K and V of one token and head */
    int64_t remaining;   /* cost not yet planned */
    int64_t room;        /* for more short rows in the last item */
    int64_t state_bytes; /* of all states so far */
} plan;

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Visible tokens of a row: sinks and window, or one span when they meet. */
static int32_t visible_spans(const apx_batch *batch, int32_t len, span *spans)
{
    int32_t window_begin = batch->window > 0 && batch->window < len ? len - batch->window : 0;
    if (len == 0)
        return 0;
    if (batch->sink_tokens <= 0 || batch->sink_tokens >= window_begin) {
        spans[0] = (span){window_begin > batch->sink_tokens ? window_begin : 0, len};
        return 1;
    }
    spans[0] = (span){0, batch->sink_tokens};
    spans[1] = (span){window_begin, len};
    return 2;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Tokens of a chunk of the row: a function of the row alone. */
static int64_t chunk_tokens_of(const plan *p, int64_t num_tokens)
{
    const apx_shape *shape = &p->job->shape;
    int64_t heads = shape->num_kv_heads;
    int64_t row_bytes = num_tokens * p->token_bytes * heads;
    int64_t most = max64(MAX_CHUNK_BYTES, row_bytes / MAX_CHUNKS_PER_ROW);
    int64_t bytes = min64(max64(row_bytes / CHUNKS_PER_ROW, MIN_CHUNK_BYTES), most);
    int64_t state_bytes = apx_state_bytes(heads * shape->group, shape->head_dim);
    bytes = max64(bytes, CHUNK_PER_STATE * state_bytes);
    return max64(bytes / (p->token_bytes * heads), shape->block_size);
}

static cut_row cut(const plan *p, int32_t row)
{
    const int32_t *lens = p->job->lens.memory;
    cut_row c = {.row = row};
    c.num_spans = visible_spans(&p->job->batch, lens[row], c.spans);
    for (int32_t i = 0; i < c.num_spans; ++i)
        c.num_tokens += c.spans[i].end - c.spans[i].begin;
    c.chunk_tokens = chunk_tokens_of(p, c.num_tokens);
    return c;
}

/* Where the chunk that begins at `begin` ends: at a block edge, or at the end of the span when less
 * than half a chunk would be left. */
static int32_t chunk_end(const plan *p, const cut_row *c, int32_t begin, int32_t end)
{
    int32_t block = p->job->shape.block_size;
    int64_t stop = (begin + c->chunk_tokens) / block * block;
    return end - stop < c->chunk_tokens / 2 ? end : (int32_t)stop;
}

static bool is_cut(const plan *p, const cut_row *c)
{
    for (int32_t i = 0; i < c->num_spans; ++i)
        if (chunk_end(p, c, c->spans[i].begin, c->spans[i].end) < c->spans[i].end)
            return true;
    return false;
}

static int64_t cost_of(const plan *p, const group *g)
{
    int64_t heads = g->head_end - g->head_begin;
    int64_t row_bytes = max64(1, ROW_BYTES / p->job->shape.num_kv_heads); /* never nothing */
    return heads * (g->cut->num_tokens * p->token_bytes + row_bytes);
}

static int64_t item_target(const plan *p)
{
    return max64(MIN_ITEM_BYTES, min64(p->remaining / SHARES, MAX_CHUNK_BYTES));
}

/* ------------------------------------------------------------------ writing the plan down */

static bool append_item(plan *p)
{
    apx_job *job = p->job;
    int64_t used = job->num_items * (int64_t)sizeof(apx_item);
    if (!apx_buffer_reserve(&job->items, used + (int64_t)sizeof(apx_item), used))
        return false;
    apx_item *items = job->items.memory;
    items[job->num_items++] = (apx_item){job->num_parts, 0};
    return true;
}

static bool append_part(plan *p, const group *g, int32_t begin, int32_t end)
{
    apx_job *job = p->job;
    int64_t used = job->num_parts * (int64_t)sizeof(apx_part);
    if (job->num_parts == INT32_MAX) {
        (void)apx_fail(APX_E_ARGUMENT, "the batch has more than 2^31 pieces of work");
        return false;
    }
    if (!apx_buffer_reserve(&job->parts, used + (int64_t)sizeof(apx_part), used))
        return false;
    apx_part *parts = job->parts.memory;
    apx_item *items = job->items.memory;
    parts[job->num_parts++] =
        (apx_part){g->cut->row, g->head_begin, g->head_end, begin, end, -1, -1};
    items[job->num_items - 1].num_parts++;
    return true;
}

/* Gives the parts from first_part on a merge, unless there is only one. */
static bool append_merge(plan *p, const group *g, int32_t first_part)
{
    apx_job *job = p->job;
    int32_t num_parts = job->num_parts - first_part;
    if (num_parts == 1)
        return true;
    int64_t used = job->num_merges * (int64_t)sizeof(apx_merge);
    if (!apx_buffer_reserve(&job->merges, used + (int64_t)sizeof(apx_merge), used))
        return false;
    int32_t num_heads = g->head_end - g->head_begin;
    apx_merge *merge = (apx_merge *)job->merges.memory + job->num_merges;
    merge->first_state = job->num_states;
    merge->num_states = num_parts;
    merge->num_heads = num_heads;
    atomic_init(&merge->num_pending, num_parts);
    apx_part *parts = job->parts.memory;
    for (int32_t i = first_part; i < job->num_parts; ++i) {
        parts[i].merge = job->num_merges;
        parts[i].state = job->num_states++;
    }
    job->num_merges++;
    p->state_bytes +=
        num_parts * apx_state_bytes((int64_t)num_heads * job->shape.group, job->shape.head_dim);
    return true;
}

/* ------------------------------------------------------------------ groups into items */

/* A row that is not cut joins the open item when it fits there. */
static bool place_whole(plan *p, const group *g)
{
    const cut_row *c = g->cut;
    int64_t cost = cost_of(p, g);
    if (p->room < cost) {
        p->room = item_target(p);
        if (!append_item(p))
            return false;
    }
    for (int32_t i = 0; i < c->num_spans; ++i)
        if (!append_part(p, g, c->spans[i].begin, c->spans[i].end))
            return false;
    p->room -= cost;
    return c->num_spans > 0 || append_part(p, g, 0, 0);
}

/* Every chunk is an item, but the sinks' last one and the window's first are one together: both may
 * read the block that the row's last token is appended to, and no other worker may read it then. */
static bool place_chunks(plan *p, const group *g)
{
    const cut_row *c = g->cut;
    for (int32_t i = 0; i < c->num_spans; ++i) {
        int32_t end = c->spans[i].end;
        for (int32_t begin = c->spans[i].begin, stop; begin < end; begin = stop) {
            bool joins = i > 0 && begin == c->spans[i].begin;
            stop = chunk_end(p, c, begin, end);
            if ((!joins && !append_item(p)) || !append_part(p, g, begin, stop))
                return false;
        }
    }
    return true;
}

/* Into how many ranges a row's heads are divided: so that a chunk is no more than an item, and what
 * it reads of one block no more than may lie between two polls. */
static int64_t num_head_ranges(const plan *p, const cut_row *c)
{
    const apx_shape *shape = &p->job->shape;
    int64_t token_cost = p->token_bytes * shape->num_kv_heads;
    int64_t chunk_bytes = min64(c->num_tokens, c->chunk_tokens) * token_cost;
    int64_t block_bytes = min64(c->num_tokens, shape->block_size) * token_cost;
    int64_t for_items = ceil_div(chunk_bytes, item_target(p));
    int64_t for_polls = ceil_div(block_bytes, POLL_BYTES);
    return min64(max64(1, max64(for_items, for_polls)), shape->num_kv_heads);
}

static bool place_row(plan *p, const cut_row *c, bool is_cut_row)
{
    int64_t num_heads = p->job->shape.num_kv_heads;
    int64_t num_ranges = num_head_ranges(p, c);
    for (int64_t i = 0; i < num_ranges; ++i) {
        int32_t first_part = p->job->num_parts;
        group g = {.cut = c};
        g.head_begin = (int32_t)(i * num_heads / num_ranges);
        g.head_end = (int32_t)((i + 1) * num_heads / num_ranges);
        if (!(is_cut_row ? place_chunks(p, &g) : place_whole(p, &g)) ||
            !append_merge(p, &g, first_part))
            return false;
        p->remaining -= cost_of(p, &g);
    }
    return true;
}

/* Places the rows that are cut, or those that are not. */
static bool place_rows(plan *p, bool are_cut)
{
    for (int32_t row = 0; row < p->job->batch.num_rows; ++row) {
        cut_row c = cut(p, row);
        if (is_cut(p, &c) == are_cut && !place_row(p, &c, are_cut))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ the whole job */

static bool total_cost(plan *p)
{
    for (int32_t row = 0; row < p->job->batch.num_rows; ++row) {
        cut_row c = cut(p, row);
        group all = {.cut = &c, .head_begin = 0, .head_end = p->job->shape.num_kv_heads};
        if (__builtin_add_overflow(p->remaining, cost_of(p, &all), &p->remaining)) {
            (void)apx_fail(APX_E_ARGUMENT, "the batch has more KV bytes than 2^63");
            return false;
        }
    }
    return true;
}

static bool lay_out_states(plan *p)
{
    apx_job *job = p->job;
    int64_t num_bytes = job->num_states * (int64_t)sizeof(apx_state);
    if (!apx_buffer_reserve(&job->states, num_bytes, 0) ||
        !apx_buffer_reserve(&job->partials, p->state_bytes, 0))
        return false;
    const apx_merge *merges = job->merges.memory;
    apx_state *states = job->states.memory;
    uint8_t *at = job->partials.memory;
    for (int32_t m = 0; m < job->num_merges; ++m) {
        int64_t heads = (int64_t)merges[m].num_heads * job->shape.group;
        for (int32_t i = 0; i < merges[m].num_states; ++i) {
            states[merges[m].first_state + i] = apx_state_at(at, heads, job->shape.head_dim);
            at += apx_state_bytes(heads, job->shape.head_dim);
        }
    }
    return true;
}

apx_status apx_plan(apx_job *job)
{
    plan p = {.job = job};
    p.token_bytes = max64(1, job->shape.tile_bytes / job->shape.block_size);
    job->num_items = job->num_parts = job->num_merges = job->num_states = 0;
    if (!total_cost(&p))
        return APX_E_ARGUMENT;
    /* The long rows first: the short ones even out the end. */
    if (!place_rows(&p, true) || !place_rows(&p, false))
        return APX_E_MEMORY;
    if (job->num_items == 0 && !append_item(&p)) /* no rows: one item of nothing ends the job */
        return APX_E_MEMORY;
    return lay_out_states(&p) ? APX_OK : APX_E_MEMORY;
}

int64_t apx_state_bytes(int64_t heads, int32_t head_dim)
{
    int64_t floats = heads * (head_dim + 2);
    return (floats * (int64_t)sizeof(float) + APX_LINE - 1) / APX_LINE * APX_LINE;
}

apx_state apx_state_at(void *memory, int64_t heads, int32_t head_dim)
{
    float *acc = memory;
    float *max = acc + heads * head_dim;
    return (apx_state){.max = max, .sum = max + heads, .acc = acc};
}
