/* Laws of the plan, over random batches. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "pool_fixture.h"

enum { NUM_BATCHES = 200, MAX_ROWS = 12, TOKEN_BYTES = 128 /* of one head */ };

static const apx_part *parts_of(const apx_job *job)
{
    return job->parts.memory;
}

static bool is_visible(const apx_batch *batch, int32_t len, int32_t token)
{
    return batch->window == 0 || token >= len - batch->window || token < batch->sink_tokens;
}

/* Every visible token of every head once, no other at all. */
static void check_coverage(const workload *w, int32_t row)
{
    int32_t len = w->lens[row];
    int32_t *seen = calloc((size_t)len * 2 + 1, sizeof *seen);
    int32_t num_parts[2] = {0, 0};
    for (int32_t i = 0; i < w->job->num_parts; ++i) {
        const apx_part *part = &parts_of(w->job)[i];
        for (int32_t head = part->head_begin; head < part->head_end && part->row == row; ++head) {
            num_parts[head]++;
            for (int32_t token = part->token_begin; token < part->token_end; ++token)
                seen[token * 2 + head]++;
        }
    }
    for (int32_t token = 0; token < len; ++token) {
        int32_t expected = is_visible(&w->batch, len, token) ? 1 : 0;
        EXPECT(seen[token * 2] == expected && seen[token * 2 + 1] == expected);
    }
    EXPECT(num_parts[0] > 0 && num_parts[1] > 0); /* a row without tokens is written, too */
    free(seen);
}

/* A part begins and ends where a block does, or where what is visible does. */
static void check_edges(const workload *w, const apx_part *part)
{
    int32_t len = w->lens[part->row];
    int32_t block = w->cache.block_size;
    bool is_window = w->batch.window > 0 && w->batch.window < len;
    EXPECT(part->token_begin % block == 0 ||
           (is_window && part->token_begin == len - w->batch.window));
    EXPECT(part->token_end % block == 0 || part->token_end == len ||
           (is_window && part->token_end == w->batch.sink_tokens));
}

static void check_merges(const apx_job *job)
{
    int32_t next_state = 0;
    for (int32_t m = 0; m < job->num_merges; ++m) {
        const apx_merge *merge = (const apx_merge *)job->merges.memory + m;
        EXPECT(merge->first_state == next_state && merge->num_states > 1);
        next_state += merge->num_states;
        int32_t last_end = -1;
        int32_t state = merge->first_state;
        for (int32_t i = 0; i < job->num_parts; ++i) {
            const apx_part *part = &parts_of(job)[i];
            if (part->merge != m)
                continue;
            EXPECT(part->state == state++ && part->token_begin >= last_end);
            EXPECT(part->head_end - part->head_begin == merge->num_heads);
            last_end = part->token_end;
        }
        EXPECT(state == merge->first_state + merge->num_states);
    }
    EXPECT(next_state == job->num_states);
}

static int64_t bytes_of(const apx_part *part)
{
    int64_t heads = part->head_end - part->head_begin;
    return (part->token_end - part->token_begin) * heads * TOKEN_BYTES;
}

/* A 32nd of the batch, or 128 KiB. */
static int64_t most_of_an_item(const workload *w)
{
    enum { ROW_BYTES = 16 << 10, LEAST = 128 << 10 };
    int64_t total = (int64_t)w->batch.num_rows * ROW_BYTES;
    for (int32_t i = 0; i < w->job->num_parts; ++i)
        total += bytes_of(&parts_of(w->job)[i]);
    return total / 32 > LEAST ? total / 32 : LEAST;
}

/* Items hold all parts in order, and are small enough to spread the batch: as far as heads can be
 * divided, and half as much again where that saves a short chunk. */
static void check_items(const workload *w)
{
    const apx_item *items = w->job->items.memory;
    int64_t most = most_of_an_item(w);
    int32_t next_part = 0;
    for (int32_t i = 0; i < w->job->num_items; ++i) {
        int64_t bytes = 0;
        int32_t most_heads = 0;
        EXPECT(items[i].first_part == next_part);
        for (; next_part < items[i].first_part + items[i].num_parts; ++next_part) {
            const apx_part *part = &parts_of(w->job)[next_part];
            int32_t heads = part->head_end - part->head_begin;
            bytes += bytes_of(part);
            most_heads = heads > most_heads ? heads : most_heads;
        }
        EXPECT(bytes <= most * 3 / 2 || (most_heads == 1 && items[i].num_parts <= 2));
    }
    EXPECT(next_part == w->job->num_parts);
}

static int32_t item_of(const apx_job *job, int32_t part)
{
    const apx_item *items = job->items.memory;
    int32_t item = 0;
    while (part >= items[item].first_part + items[item].num_parts)
        ++item;
    return item;
}

/* The block of a row's last token belongs to one item: the one that appends. */
static void check_last_block(const workload *w)
{
    const apx_job *job = w->job;
    int32_t block = w->cache.block_size;
    for (int32_t last = 0; last < job->num_parts; ++last) {
        const apx_part *writer = &parts_of(job)[last];
        if (writer->token_end != w->lens[writer->row] || writer->token_end == 0)
            continue;
        for (int32_t i = 0; i < job->num_parts; ++i) {
            const apx_part *reader = &parts_of(job)[i];
            if (reader->row == writer->row && reader->head_begin < writer->head_end &&
                writer->head_begin < reader->head_end &&
                (reader->token_end - 1) / block == (writer->token_end - 1) / block)
                EXPECT(item_of(job, i) == item_of(job, last));
        }
    }
}

/* ------------------------------------------------------------------ real shapes */

enum { MOST_REAL_ROWS = 64, LONGEST_REAL_ROW = 32768, REAL_BYTES_PER_TOKEN = 4 * 128 };

/* Plans rows with 128 dimensions of 16 bits. Nothing is run, so the cache needs no memory behind
 * its address. */
static apx_job *plan_real_rows(int32_t num_rows, const int32_t *lens, int32_t window,
                               int32_t num_kv_heads, int32_t block_size)
{
    enum { BLOCKS = LONGEST_REAL_ROW / 16 };
    static _Alignas(APX_LINE) int32_t tables[MOST_REAL_ROWS * BLOCKS];
    apx_job *job = NULL;
    apx_cache cache = {.base = tables, .num_blocks = 1, .num_layers = 1, .kv_dtype = APX_F16,
                       .block_size = block_size, .head_dim = 128, .num_kv_heads = num_kv_heads};
    cache.layer_bytes = apx_block_bytes(&cache);
    apx_batch batch = {.num_rows = num_rows, .num_q_heads = num_kv_heads, .q_dtype = APX_F16,
                       .block_tables = tables, .table_stride = BLOCKS, .context_lens = lens,
                       .softmax_scale = 1.0f, .window = window};
    EXPECT(apx_job_create(&cache, &job) == APX_OK);
    EXPECT(apx_job_prepare(job, &batch) == APX_OK);
    return job;
}

/* Where a block of all heads is more than 512 KiB, a part reads only some of its heads, so that
 * little lies between two polls. */
static void check_head_ranges(int32_t num_kv_heads, int32_t block_size, int64_t expected_ranges)
{
    enum { NUM_ROWS = 8, WINDOW = 4100 };
    static const int32_t lens[NUM_ROWS] = {8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192};
    apx_job *job = plan_real_rows(NUM_ROWS, lens, WINDOW, num_kv_heads, block_size);
    int64_t covered = 0;
    int64_t widest = 0;
    for (int32_t i = 0; i < job->num_parts; ++i) {
        const apx_part *part = &parts_of(job)[i];
        int64_t heads = part->head_end - part->head_begin;
        covered += heads * (part->token_end - part->token_begin);
        widest = heads > widest ? heads : widest;
        EXPECT(part->token_begin % block_size == 0 || part->token_begin == lens[0] - WINDOW);
        EXPECT(part->token_end % block_size == 0);
    }
    EXPECT(covered == (int64_t)num_kv_heads * NUM_ROWS * WINDOW);
    EXPECT(widest == (num_kv_heads + expected_ranges - 1) / expected_ranges);
    EXPECT(widest * block_size * REAL_BYTES_PER_TOKEN <= 512 << 10);
    apx_job_destroy(job);
}

static int64_t real_bytes_of(const apx_job *job, const apx_item *item)
{
    int64_t bytes = 0;
    for (int32_t i = item->first_part; i < item->first_part + item->num_parts; ++i) {
        const apx_part *part = &parts_of(job)[i];
        bytes += (int64_t)(part->token_end - part->token_begin) *
                 (part->head_end - part->head_begin) * REAL_BYTES_PER_TOKEN;
    }
    return bytes;
}

/* One row of 32k tokens among 63 short ones: when each of num_threads workers takes the next item
 * as it becomes free and all read equally fast, the last ends at most 10 % after a perfectly even
 * split of the bytes. */
static void check_balance(int32_t num_threads, int32_t short_len)
{
    int32_t lens[MOST_REAL_ROWS];
    int64_t busy[64] = {0};
    int64_t total = 0;
    int64_t last = 0;
    for (int32_t row = 0; row < MOST_REAL_ROWS; ++row)
        lens[row] = row == 40 ? LONGEST_REAL_ROW : short_len;
    apx_job *job = plan_real_rows(MOST_REAL_ROWS, lens, 0, 8, 64);
    for (int32_t i = 0; i < job->num_items; ++i) {
        int64_t bytes = real_bytes_of(job, (const apx_item *)job->items.memory + i);
        int32_t first_free = 0;
        for (int32_t t = 1; t < num_threads; ++t)
            first_free = busy[t] < busy[first_free] ? t : first_free;
        busy[first_free] += bytes;
        total += bytes;
        last = busy[first_free] > last ? busy[first_free] : last;
    }
    EXPECT(last * num_threads * 10 <= total * 11);
    EXPECT(short_len > 100 || parts_of(job)[0].row == 40); /* the row that is split goes first */
    apx_job_destroy(job);
}

/* ------------------------------------------------------------------ random batches */

static int32_t random_length(uint32_t *seed)
{
    switch (next_random(seed) % 4) {
    case 0:
        return (int32_t)(next_random(seed) % 40);
    case 1:
        return (int32_t)(next_random(seed) % 8) * 16;
    case 2:
        return (int32_t)(next_random(seed) % 300);
    default:
        return (int32_t)(next_random(seed) % 6000);
    }
}

static void choose_batch(workload *w, uint32_t *seed)
{
    for (int32_t row = 0; row < w->batch.num_rows; ++row)
        w->lens[row] = random_length(seed);
    w->batch.window = next_random(seed) % 3 == 0 ? 0 : random_length(seed);
    w->batch.sink_tokens = (int32_t)(next_random(seed) % 3 == 0 ? 0 : next_random(seed) % 400);
}

/* Long sinks and a short window just behind them, often in the block where the sinks end. */
static void choose_meeting_spans(workload *w, uint32_t *seed)
{
    w->batch.sink_tokens = (int32_t)(next_random(seed) % 5900);
    w->batch.window = (int32_t)(next_random(seed) % 20) + 1;
    for (int32_t row = 0; row < w->batch.num_rows; ++row)
        w->lens[row] =
            w->batch.sink_tokens + w->batch.window + (int32_t)(next_random(seed) % 12);
}

static void plan_again(workload *w, uint32_t *seed)
{
    if (next_random(seed) % 4 == 0)
        choose_meeting_spans(w, seed);
    else
        choose_batch(w, seed);
    EXPECT(apx_job_prepare(w->job, &w->batch) == APX_OK);
}

/* Rows of up to 6000 tokens. Nothing is run, so the cache needs no memory behind its address. */
static void make_plannable(workload *w)
{
    enum { MOST_BLOCKS = 376 };
    static _Alignas(APX_LINE) int32_t tables[MAX_ROWS * MOST_BLOCKS];
    static int32_t lens[MAX_ROWS];
    *w = (workload){.cache = {.base = tables, .num_blocks = 1, .num_layers = 1, .kv_dtype = APX_F32,
                              .block_size = 16, .head_dim = 16, .num_kv_heads = 2},
                    .lens = lens};
    w->cache.layer_bytes = apx_block_bytes(&w->cache);
    w->batch = (apx_batch){.num_q_heads = 4, .q_dtype = APX_F32, .block_tables = tables,
                           .table_stride = MOST_BLOCKS, .context_lens = lens,
                           .softmax_scale = 1.0f};
    EXPECT(apx_job_create(&w->cache, &w->job) == APX_OK);
}

void check_plan(void)
{
    workload w;
    uint32_t seed = 11;
    int32_t num_split = 0;
    make_plannable(&w);
    for (int32_t round = 0; round < NUM_BATCHES; ++round) {
        w.batch.num_rows = (int32_t)(next_random(&seed) % (MAX_ROWS + 1));
        plan_again(&w, &seed);
        for (int32_t row = 0; row < w.batch.num_rows; ++row)
            check_coverage(&w, row);
        for (int32_t i = 0; i < w.job->num_parts; ++i)
            check_edges(&w, &parts_of(w.job)[i]);
        check_merges(w.job);
        check_items(&w);
        check_last_block(&w);
        num_split += w.job->num_merges > 0 ? 1 : 0;
        EXPECT(w.job->num_items > 0);
    }
    EXPECT(num_split > NUM_BATCHES / 4); /* else the laws of merges were hardly tried */
    apx_job_destroy(w.job);
    check_head_ranges(8, 64, 1);
    check_head_ranges(8, 128, 1);
    check_head_ranges(32, 64, 2);
    check_head_ranges(24, 128, 3);
    check_head_ranges(40, 128, 5);
    for (int32_t num_threads = 2; num_threads <= 32; num_threads *= 2) {
        check_balance(num_threads, 100);
        check_balance(num_threads, 512);
        check_balance(num_threads, 2048);
    }
}
