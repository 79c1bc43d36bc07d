/* Runs one item of a job: appends, attends, and merges what it is the last to complete. */
#define _GNU_SOURCE
#include "job.h"

#include <fenv.h>

enum { MERGE_BYTES_PER_POLL = 512 << 10 }; /* states read between two polls */

/* What all functions here work on. */
typedef struct run {
    apx_job *job;
    const apx_io *io;
    uint8_t *layer;
    void *scratch;
    apx_poll poll;
    void *poll_context;
} run;

static int32_t length_of(const apx_job *job, int32_t row)
{
    return ((const int32_t *)job->lens.memory)[row];
}

static const int32_t *table_of(const apx_job *job, int32_t row)
{
    return (const int32_t *)job->tables.memory + ((const int64_t *)job->table_starts.memory)[row];
}

/* Element `index` of `tensor`, of the job's q_dtype. */
static const uint8_t *element(const apx_job *job, const void *tensor, int64_t index)
{
    return (const uint8_t *)tensor + index * apx_element_bytes(job->batch.q_dtype);
}

static void append_token(const run *r, const apx_part *part)
{
    apx_job *job = r->job;
    int32_t position = length_of(job, part->row) - 1;
    int32_t block = table_of(job, part->row)[position / job->shape.block_size];
    int64_t first = part->row * r->io->kv_stride;
    job->kernels->append(&job->shape, r->layer, block, position % job->shape.block_size,
                         part->head_begin, part->head_end, element(job, r->io->k_new, first),
                         element(job, r->io->v_new, first), job->batch.q_dtype);
}

/* Merges states of KV heads [begin, end) and writes the row's out and lse of these heads. */
static void finish(const run *r, int32_t row, int32_t num_states, const apx_state *states,
                   int32_t begin, int32_t end)
{
    const apx_job *job = r->job;
    const apx_io *io = r->io;
    uint8_t *out = (uint8_t *)io->out +
                   row * io->out_stride * apx_element_bytes(job->batch.q_dtype);
    float *lse = io->lse != NULL ? io->lse + row * io->lse_stride : NULL;
    job->kernels->finish(&job->shape, num_states, states, begin, end, job->batch.sink_logits, out,
                         job->batch.q_dtype, lse);
}

static void advance_states(apx_state *states, int32_t num_states, int64_t heads, int32_t head_dim)
{
    for (int32_t i = 0; i < num_states; ++i) {
        states[i].max += heads;
        states[i].sum += heads;
        states[i].acc += heads * head_dim;
    }
}

/* By as many heads at a time as may lie between two polls; the states are pointers into the job's
 * partial results, moved along and back. */
static void merge_and_finish(const run *r, const apx_part *part, const apx_merge *merge)
{
    const apx_shape *shape = &r->job->shape;
    apx_state *states = (apx_state *)r->job->states.memory + merge->first_state;
    int64_t head_bytes = merge->num_states * apx_state_bytes(shape->group, shape->head_dim);
    int64_t fit = MERGE_BYTES_PER_POLL / head_bytes;
    int32_t step = fit < 1 ? 1 : fit > merge->num_heads ? merge->num_heads : (int32_t)fit;
    for (int32_t head = part->head_begin; head < part->head_end; head += step) {
        int32_t end = head + step < part->head_end ? head + step : part->head_end;
        finish(r, part->row, merge->num_states, states, head, end);
        advance_states(states, merge->num_states, (int64_t)step * shape->group, shape->head_dim);
        if (r->poll != NULL && end < part->head_end)
            r->poll(r->poll_context);
    }
    int64_t steps = (merge->num_heads + step - 1) / step;
    advance_states(states, merge->num_states, -steps * step * shape->group, shape->head_dim);
}

static void attend(const run *r, const apx_part *part, apx_state state, void *scratch)
{
    const apx_job *job = r->job;
    apx_piece piece = {.layer = r->layer,
                       .blocks = table_of(job, part->row),
                       .token_begin = part->token_begin,
                       .token_end = part->token_end,
                       .head_begin = part->head_begin,
                       .head_end = part->head_end,
                       .q = element(job, r->io->q, part->row * r->io->q_stride),
                       .q_dtype = job->batch.q_dtype,
                       .softmax_scale = job->batch.softmax_scale,
                       .poll = r->poll,
                       .poll_context = r->poll_context};
    job->kernels->attend(&job->shape, &piece, state, scratch);
}

/* The row's only part for these heads: its state never leaves the worker's cache. */
static void run_alone(const run *r, const apx_part *part)
{
    const apx_shape *shape = &r->job->shape;
    int64_t heads = (int64_t)(part->head_end - part->head_begin) * shape->group;
    apx_state state = apx_state_at(r->scratch, heads, shape->head_dim);
    int32_t num_states = part->token_end > part->token_begin ? 1 : 0;
    if (num_states == 1)
        attend(r, part, state, (uint8_t *)r->scratch + apx_state_bytes(heads, shape->head_dim));
    finish(r, part->row, num_states, &state, part->head_begin, part->head_end);
}

static void run_shared(const run *r, const apx_part *part)
{
    apx_merge *merge = (apx_merge *)r->job->merges.memory + part->merge;
    attend(r, part, ((apx_state *)r->job->states.memory)[part->state], r->scratch);
    if (atomic_fetch_sub_explicit(&merge->num_pending, 1, memory_order_acq_rel) != 1)
        return;
    atomic_store_explicit(&merge->num_pending, merge->num_states, memory_order_relaxed);
    merge_and_finish(r, part, merge);
}

/* All appends of an item come first: the sinks' part of a row may read the block that its last part
 * appends to. Parts of other items never do. */
static void append_tokens(const run *r, const apx_part *parts, int32_t num_parts)
{
    for (int32_t i = 0; i < num_parts; ++i)
        if (parts[i].token_end > 0 && parts[i].token_end == length_of(r->job, parts[i].row))
            append_token(r, &parts[i]);
}

void apx_run_item(apx_job *job, int32_t layer, const apx_io *io, int32_t item, void *scratch,
                  apx_poll poll, void *poll_context)
{
    run r = {.job = job, .io = io, .scratch = scratch, .poll = poll, .poll_context = poll_context};
    r.layer = (uint8_t *)job->cache.base + layer * job->cache.layer_bytes;
    const apx_item *chosen = (const apx_item *)job->items.memory + item;
    if (chosen->num_parts == 0) /* a job of no rows */
        return;
    const apx_part *parts = (const apx_part *)job->parts.memory + chosen->first_part;
    if ((job->batch.flags & APX_APPEND) != 0)
        append_tokens(&r, parts, chosen->num_parts);
    for (int32_t i = 0; i < chosen->num_parts; ++i) {
        if (i > 0 && poll != NULL)
            poll(poll_context);
        if (parts[i].merge < 0)
            run_alone(&r, &parts[i]);
        else
            run_shared(&r, &parts[i]);
    }
}

static void run_all_items(const apx_submission *submission)
{
    apx_job *job = submission->job;
    fenv_t environment; /* as the workers have it: the same bits here as there */
    (void)fegetenv(&environment);
    (void)fesetenv(FE_DFL_ENV);
    for (int32_t item = 0; item < job->num_items; ++item)
        apx_run_item(job, submission->layer, &submission->io, item, job->inline_scratch.memory,
                     NULL, NULL);
    (void)fesetenv(&environment);
}

apx_status apx_run_inline(const apx_submission *submission)
{
    if (submission == NULL || submission->job == NULL)
        return apx_fail(APX_E_ARGUMENT, "the submission or its job is NULL");
    apx_status status = apx_job_begin(submission->job);
    if (status != APX_OK)
        return status;
    status = apx_check_submission(submission);
    if (status == APX_OK)
        run_all_items(submission);
    apx_job_end(submission->job);
    if (status != APX_OK)
        return status;
    if (submission->callback != NULL)
        submission->callback(submission->user);
    if (submission->flag != NULL)
        __atomic_store_n(submission->flag, 1, __ATOMIC_RELEASE);
    return APX_OK;
}
