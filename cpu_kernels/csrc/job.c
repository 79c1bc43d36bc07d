/* Jobs: what a batch may be, the copy of it that is kept, and who holds the job. */
#define _GNU_SOURCE
#include "job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

apx_status apx_job_create(const apx_cache *cache, apx_job **job)
{
    apx_shape shape;
    if (job == NULL)
        return apx_fail(APX_E_ARGUMENT, "there is nowhere to put the job: the pointer is NULL");
    *job = NULL;
    if (!apx_cache_is_valid(cache, &shape))
        return APX_E_ARGUMENT;
    apx_job *created = calloc(1, sizeof *created);
    if (created == NULL)
        return apx_fail(APX_E_MEMORY, "no memory for a job");
    apx_watch_forks();
    created->cache = *cache;
    created->shape = shape;
    *job = created;
    return APX_OK;
}

/* ------------------------------------------------------------------ who holds it */

static uint32_t phase_now(uint32_t phase)
{
    return phase + APX_JOB_PHASES * apx_num_forks();
}

static bool is_idle(uint32_t phase)
{
    return phase % APX_JOB_PHASES == APX_JOB_IDLE;
}

static bool is_of_parent(uint32_t phase)
{
    return phase / APX_JOB_PHASES != apx_num_forks() % (UINT32_MAX / APX_JOB_PHASES + 1);
}

apx_status apx_job_begin(apx_job *job)
{
    uint32_t phase = atomic_load(&job->phase);
    while (is_idle(phase))
        if (atomic_compare_exchange_weak(&job->phase, &phase, phase_now(APX_JOB_IN_FLIGHT)))
            return APX_OK;
    if (is_of_parent(phase))
        return apx_fail(APX_E_FORKED, "the job was in flight when this process was forked; its "
                                      "work goes on in the parent alone");
    return apx_fail(APX_E_BUSY, "the job is in flight; wait for its ticket first");
}

void apx_job_end(apx_job *job)
{
    uint32_t phase = atomic_exchange(&job->phase, phase_now(APX_JOB_IDLE));
    if (phase % APX_JOB_PHASES == APX_JOB_AWAITED)
        apx_wake(&job->phase, INT_MAX);
}

static void wait_until_idle(apx_job *job)
{
    uint32_t awaited = phase_now(APX_JOB_AWAITED);
    for (;;) {
        uint32_t phase = atomic_load(&job->phase);
        if (is_idle(phase) || is_of_parent(phase))
            return;
        if (phase == awaited || atomic_compare_exchange_strong(&job->phase, &phase, awaited))
            apx_sleep_on(&job->phase, awaited, -1);
    }
}

void apx_job_destroy(apx_job *job)
{
    if (job == NULL)
        return;
    wait_until_idle(job);
    apx_buffer *buffers[] = {&job->lens,   &job->table_starts, &job->tables,
                             &job->items,  &job->sink_logits,  &job->parts,
                             &job->merges, &job->states,       &job->partials,
                             &job->inline_scratch};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; ++i)
        apx_buffer_free(buffers[i]);
    free(job);
}

/* ------------------------------------------------------------------ what a batch may be */

static apx_status refuse(const char *what, int64_t value, const char *expected)
{
    return apx_fail(APX_E_ARGUMENT, "%s is %lld; expected %s", what, (long long)value, expected);
}

static apx_status check_scalars(const apx_job *job, const apx_batch *batch)
{
    int32_t kv_heads = job->shape.num_kv_heads;
    if (batch->num_rows < 0)
        return refuse("num_rows", batch->num_rows, "at least 0");
    if (batch->num_q_heads < 1 || batch->num_q_heads % kv_heads != 0)
        return apx_fail(APX_E_ARGUMENT, "num_q_heads is %d; expected a multiple of the %d KV heads",
                        batch->num_q_heads, kv_heads);
    if (batch->q_dtype < APX_F32 || batch->q_dtype > APX_BF16)
        return refuse("q_dtype", batch->q_dtype, "APX_F32, APX_F16 or APX_BF16");
    if ((batch->flags & ~(APX_CHECK_BLOCKS | APX_APPEND)) != 0)
        return refuse("flags", batch->flags, "APX_CHECK_BLOCKS and APX_APPEND only");
    if (!isfinite(batch->softmax_scale))
        return apx_fail(APX_E_ARGUMENT, "softmax_scale is %g; expected a finite number",
                        (double)batch->softmax_scale);
    if (batch->window < 0)
        return refuse("window", batch->window, "tokens, or 0 for none");
    if (batch->sink_tokens < 0)
        return refuse("sink_tokens", batch->sink_tokens, "at least 0");
    if (batch->num_rows > 0 && batch->context_lens == NULL)
        return apx_fail(APX_E_ARGUMENT, "context_lens is NULL, but the batch has rows");
    return APX_OK;
}

static int64_t blocks_of(const apx_job *job, int32_t len)
{
    return ((int64_t)len + job->shape.block_size - 1) / job->shape.block_size;
}

/* Is the block read by a row of len tokens, or outside what window and sinks leave visible? */
static bool is_visible(const apx_batch *batch, int32_t block_size, int64_t block, int32_t len)
{
    return batch->window == 0 || batch->window >= len || block * block_size < batch->sink_tokens ||
           (block + 1) * block_size > len - batch->window;
}

static apx_status check_blocks(const apx_job *job, const apx_batch *batch, int32_t row)
{
    const int32_t *table = batch->block_tables + row * batch->table_stride;
    int32_t block_size = job->shape.block_size;
    int32_t len = batch->context_lens[row];
    for (int64_t i = 0; i < blocks_of(job, len); ++i)
        if (is_visible(batch, block_size, i, len) &&
            (table[i] < 0 || table[i] >= job->cache.num_blocks))
            return apx_fail(APX_E_BLOCK_ID,
                            "row %d: entry %lld of its block table is %d; expected 0 to %lld", row,
                            (long long)i, table[i], (long long)job->cache.num_blocks - 1);
    return APX_OK;
}

static apx_status check_row(const apx_job *job, const apx_batch *batch, int32_t row)
{
    int32_t len = batch->context_lens[row];
    if (len < 0)
        return apx_fail(APX_E_ARGUMENT, "context_lens[%d] is %d; expected at least 0", row, len);
    if (len == 0 && (batch->flags & APX_APPEND) != 0)
        return apx_fail(APX_E_ARGUMENT, "context_lens[%d] is 0; with APX_APPEND it counts the "
                                        "appended token, so expected at least 1", row);
    if (blocks_of(job, len) > batch->table_stride)
        return apx_fail(APX_E_ARGUMENT, "context_lens[%d] is %d; expected at most %lld, which is "
                                        "what %lld blocks of %d tokens hold", row, len,
                        (long long)batch->table_stride * job->shape.block_size,
                        (long long)batch->table_stride, job->shape.block_size);
    if (len > 0 && batch->block_tables == NULL)
        return apx_fail(APX_E_ARGUMENT, "block_tables is NULL, but row %d has tokens", row);
    return (batch->flags & APX_CHECK_BLOCKS) != 0 ? check_blocks(job, batch, row) : APX_OK;
}

static apx_status check_batch(const apx_job *job, const apx_batch *batch)
{
    apx_status status = check_scalars(job, batch);
    for (int32_t row = 0; row < batch->num_rows && status == APX_OK; ++row)
        status = check_row(job, batch, row);
    return status;
}

/* ------------------------------------------------------------------ the copy */

static bool copy_tables(apx_job *job, const apx_batch *batch)
{
    int64_t num_entries = 0;
    int64_t *starts = job->table_starts.memory;
    for (int32_t row = 0; row < batch->num_rows; ++row) {
        starts[row] = num_entries;
        num_entries += blocks_of(job, batch->context_lens[row]);
    }
    if (!apx_buffer_reserve(&job->tables, num_entries * (int64_t)sizeof(int32_t), 0))
        return false;
    for (int32_t row = 0; row < batch->num_rows; ++row) {
        size_t entries = (size_t)blocks_of(job, batch->context_lens[row]);
        if (entries > 0)
            memcpy((int32_t *)job->tables.memory + starts[row],
                   batch->block_tables + row * batch->table_stride, entries * sizeof(int32_t));
    }
    return true;
}

static bool copy_batch(apx_job *job, const apx_batch *batch)
{
    size_t lens_bytes = (size_t)batch->num_rows * sizeof(int32_t);
    size_t sink_bytes = (size_t)batch->num_q_heads * sizeof(float);
    if (!apx_buffer_reserve(&job->lens, (int64_t)lens_bytes, 0) ||
        !apx_buffer_reserve(&job->table_starts, batch->num_rows * (int64_t)sizeof(int64_t), 0) ||
        !apx_buffer_reserve(&job->sink_logits, (int64_t)sink_bytes, 0) || !copy_tables(job, batch))
        return false;
    if (lens_bytes > 0)
        memcpy(job->lens.memory, batch->context_lens, lens_bytes);
    if (batch->sink_logits != NULL)
        memcpy(job->sink_logits.memory, batch->sink_logits, sink_bytes);
    job->batch = *batch;
    job->batch.block_tables = NULL;
    job->batch.context_lens = NULL;
    job->batch.sink_logits = batch->sink_logits != NULL ? job->sink_logits.memory : NULL;
    return true;
}

static int64_t scratch_bytes(const apx_job *job, int32_t num_q_heads)
{
    apx_shape shape = job->shape;
    shape.group = num_q_heads / shape.num_kv_heads;
    return apx_state_bytes(num_q_heads, shape.head_dim) + apx_scratch_bytes(&shape);
}

static apx_status prepare(apx_job *job, const apx_batch *batch)
{
    apx_status status = check_batch(job, batch);
    if (status != APX_OK)
        return status;
    int64_t scratch = scratch_bytes(job, batch->num_q_heads);
    if (scratch > APX_LEVEL_SCRATCH_BYTES)
        return refuse("num_q_heads", batch->num_q_heads, "fewer: they do not fit a worker's 8 MiB");
    job->is_prepared = false; /* until it is whole again */
    if (!copy_batch(job, batch) || !apx_buffer_reserve(&job->inline_scratch, scratch, 0))
        return APX_E_MEMORY;
    job->shape.group = batch->num_q_heads / job->shape.num_kv_heads;
    job->kernels = apx_kernels_now();
    status = apx_plan(job);
    job->is_prepared = status == APX_OK;
    return status;
}

apx_status apx_job_prepare(apx_job *job, const apx_batch *batch)
{
    if (job == NULL || batch == NULL)
        return apx_fail(APX_E_ARGUMENT, "%s is NULL", job == NULL ? "job" : "batch");
    apx_status status = apx_job_begin(job); /* nobody may submit it meanwhile */
    if (status != APX_OK)
        return status;
    status = prepare(job, batch);
    apx_job_end(job);
    return status;
}

/* ------------------------------------------------------------------ submissions */

static apx_status check_stride(const apx_job *job, const char *name, int64_t stride, int64_t least)
{
    if (job->batch.num_rows < 2 || stride >= least)
        return APX_OK;
    return apx_fail(APX_E_ARGUMENT, "%s is %lld elements; expected at least %lld", name,
                    (long long)stride, (long long)least);
}

static apx_status check_tensors(const apx_job *job, const apx_io *io)
{
    bool appends = (job->batch.flags & APX_APPEND) != 0;
    int64_t q_elements = (int64_t)job->batch.num_q_heads * job->shape.head_dim;
    int64_t kv_elements = (int64_t)job->shape.num_kv_heads * job->shape.head_dim;
    if (job->batch.num_rows == 0)
        return APX_OK;
    if (io->q == NULL || io->out == NULL)
        return apx_fail(APX_E_ARGUMENT, "%s is NULL", io->q == NULL ? "q" : "out");
    if (appends && (io->k_new == NULL || io->v_new == NULL))
        return apx_fail(APX_E_ARGUMENT, "%s is NULL, but the job appends",
                        io->k_new == NULL ? "k_new" : "v_new");
    apx_status status = check_stride(job, "q_stride", io->q_stride, q_elements);
    if (status == APX_OK)
        status = check_stride(job, "out_stride", io->out_stride, q_elements);
    if (status == APX_OK && appends)
        status = check_stride(job, "kv_stride", io->kv_stride, kv_elements);
    if (status == APX_OK && io->lse != NULL)
        status = check_stride(job, "lse_stride", io->lse_stride, job->batch.num_q_heads);
    return status;
}

/* The job must be in flight already: before, another thread could be preparing it. */
apx_status apx_check_submission(const apx_submission *submission)
{
    const apx_job *job = submission->job;
    if (!job->is_prepared)
        return apx_fail(APX_E_ARGUMENT, "the job has not been prepared");
    if (submission->layer < 0 || submission->layer >= job->cache.num_layers)
        return apx_fail(APX_E_ARGUMENT, "layer is %d; expected 0 to %d", submission->layer,
                        job->cache.num_layers - 1);
    if (submission->priority != APX_IN_LAYER && submission->priority != APX_DEFERRED)
        return refuse("priority", submission->priority, "APX_IN_LAYER or APX_DEFERRED");
    return check_tensors(job, &submission->io);
}
