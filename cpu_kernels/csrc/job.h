/* A prepared job: the plan of its work, and what running an item of it takes. Internal. */
#ifndef APX_JOB_H
#define APX_JOB_H

#include "futex.h"
#include "kernels.h"

/* Memory that grows and never shrinks; 64-byte aligned. */
typedef struct apx_buffer {
    void *memory;
    int64_t num_bytes;
} apx_buffer;

/* Room for num_bytes, keeping the first `kept` bytes; false (and apx_last_error) without memory. */
bool apx_buffer_reserve(apx_buffer *buffer, int64_t num_bytes, int64_t kept);
void apx_buffer_free(apx_buffer *buffer);

/* A planned piece: a range of a row's tokens for a range of its KV heads. An empty range of tokens
 * is the only part of a row without tokens. */
typedef struct apx_part {
    int32_t row;
    int32_t head_begin;
    int32_t head_end;
    int32_t token_begin;
    int32_t token_end;
    int32_t merge; /* index of the merge this part's state goes to; -1: it is the row's only one */
    int32_t state; /* index of that state; -1 likewise */
} apx_part;

/* The unit of dispatch: consecutive parts, run by one worker. */
typedef struct apx_item {
    int32_t first_part;
    int32_t num_parts;
} apx_item;

/* States of one row and range of heads, in order of tokens. Whoever ends the last part merges. */
typedef struct apx_merge {
    int32_t first_state;
    int32_t num_states;
    int32_t num_heads; /* KV heads */
    _Atomic int32_t num_pending;
} apx_merge;

/* What a job's phase holds, below the number of forks of the process that put it there. */
enum {
    APX_JOB_IDLE = 0,
    APX_JOB_IN_FLIGHT = 1,
    APX_JOB_AWAITED = 2, /* in flight, and apx_job_destroy sleeps until it is not */
    APX_JOB_PHASES = 4
};

struct apx_job {
    apx_cache cache;
    apx_shape shape;
    const apx_kernels *kernels; /* of the level in use when the job was prepared */
    apx_batch batch;            /* its scalars; its arrays are copied below */
    bool is_prepared;
    apx_word phase;             /* APX_JOB_* + APX_JOB_PHASES * apx_num_forks() */
    int32_t num_items;
    int32_t num_parts;
    int32_t num_merges;
    int32_t num_states;
    apx_buffer lens;           /* int32_t [num_rows] */
    apx_buffer table_starts;   /* int64_t [num_rows]: first entry of each row's table in tables */
    apx_buffer tables;         /* int32_t */
    apx_buffer sink_logits;    /* float [num_q_heads] */
    apx_buffer items;          /* apx_item */
    apx_buffer parts;          /* apx_part */
    apx_buffer merges;         /* apx_merge */
    apx_buffer states;         /* apx_state [num_states] */
    apx_buffer partials;       /* what the states point to */
    apx_buffer inline_scratch; /* for apx_run_inline */
};

/* Two levels of scratch per worker: one for what it does, one for what it does meanwhile. Reserved
 * as address space, so that only what a job needs becomes memory; enough for 1000 query heads of
 * the largest head_dim. Larger jobs are refused by apx_job_prepare. */
enum { APX_LEVEL_SCRATCH_BYTES = 8 << 20 };

/* Bytes of a state of `heads` query heads, and the state that lies at `memory`. */
int64_t apx_state_bytes(int64_t heads, int32_t head_dim);
apx_state apx_state_at(void *memory, int64_t heads, int32_t head_dim);

/* Splits the work (plan.c): a function of the batch, never of threads or timing; the order of a
 * row's sums is a function of the row alone. */
apx_status apx_plan(apx_job *job);

/* What apx_submission says and the job does not contradict (job.c). */
apx_status apx_check_submission(const apx_submission *submission);
/* Idle to in flight; APX_E_BUSY when it is in flight already. */
apx_status apx_job_begin(apx_job *job);
/* In flight to idle. The job may be gone as soon as this returns. */
void apx_job_end(apx_job *job);

/* Runs one item (run_item.c). poll is called between blocks; scratch: APX_LEVEL_SCRATCH_BYTES. */
void apx_run_item(apx_job *job, int32_t layer, const apx_io *io, int32_t item, void *scratch,
                  apx_poll poll, void *poll_context);

/* How often this process is the child of a fork since the library first asked (fork.c). Threads do
 * not survive a fork, so a pool is only good for the number it was created with. */
uint32_t apx_num_forks(void);
void apx_watch_forks(void);

#endif
