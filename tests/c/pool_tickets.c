/* What each call answers: tickets done, cancelled, old, foreign; jobs in flight; arguments. */
#define _GNU_SOURCE
#include <string.h>

#include "pool.h"
#include "pool_fixture.h"

enum { HELD = 1, MS = 1000000 };

static const int32_t lens[] = {40, 5};

/* A pool of one worker that a job holds, so that nothing else begins. */
typedef struct held_pool {
    apx_pool *pool;
    workload holder;
    apx_ticket ticket;
} held_pool;

static void hold(held_pool *h, int32_t max_in_flight)
{
    h->pool = make_pool(1, max_in_flight, -1);
    make_workload(&h->holder, 1, lens, 1, 0);
    use_gated_kernels(&h->holder, HELD);
    clear_events();
    set_gate(HELD);
    apx_submission submission = submission_of(&h->holder, 0, APX_IN_LAYER);
    EXPECT(apx_submit(h->pool, &submission, &h->ticket) == APX_OK);
    wait_for_events(1);
}

static void release(held_pool *h)
{
    set_gate(GATE_OPEN);
    EXPECT(apx_wait(h->pool, h->ticket, -1) == APX_OK);
    apx_pool_destroy(h->pool);
    free_workload(&h->holder);
}

static void check_cancel(void)
{
    held_pool h;
    workload w;
    workload queued;
    apx_ticket ticket;
    apx_ticket queued_ticket;
    uint32_t flag = 0;
    hold(&h, 4);
    make_workload(&w, 2, lens, 2, 0);
    make_workload(&queued, 2, lens, 3, 0);
    memset(w.out, 0x5a, (size_t)w.out_elements * sizeof(float));
    apx_submission submission = submission_of(&queued, 0, APX_IN_LAYER);
    EXPECT(apx_cancel(h.pool, h.ticket) == APX_E_BUSY);
    EXPECT(apx_submit(h.pool, &submission, &queued_ticket) == APX_OK);
    submission = submission_of(&w, 0, APX_IN_LAYER);
    submission.flag = &flag;
    for (int32_t again = 0; again < 2; ++again) {
        flag = 0;
        EXPECT(apx_submit(h.pool, &submission, &ticket) == APX_OK);
        EXPECT(apx_wait(h.pool, ticket, 0) == APX_E_TIMEOUT);
        EXPECT(apx_cancel(h.pool, ticket) == APX_OK);
        EXPECT(flag == 1 && apx_done(h.pool, ticket));
        EXPECT(apx_wait(h.pool, ticket, -1) == APX_E_CANCELLED);
        EXPECT(apx_cancel(h.pool, ticket) == APX_E_BUSY);
    }
    /* A cancelled one keeps its place until those submitted before it have been claimed. */
    EXPECT(apx_submit(h.pool, &submission, &ticket) == APX_E_FULL);
    EXPECT(apx_cancel(h.pool, queued_ticket) == APX_OK);
    EXPECT(apx_submit(h.pool, &submission, &ticket) == APX_OK);
    EXPECT(apx_cancel(h.pool, ticket) == APX_OK);
    for (int64_t i = 0; i < w.out_elements; ++i)
        EXPECT(memcmp(&w.out[i], "\x5a\x5a\x5a\x5a", 4) == 0);
    release(&h);
    free_workload(&queued);
    free_workload(&w);
}

static void check_in_flight(void)
{
    held_pool h;
    workload w;
    apx_ticket ticket;
    apx_ticket other;
    hold(&h, 2);
    make_workload(&w, 2, lens, 3, 0);
    apx_submission held = submission_of(&h.holder, 0, APX_DEFERRED);
    apx_submission submission = submission_of(&w, 0, APX_DEFERRED);
    EXPECT(apx_submit(h.pool, &held, &other) == APX_E_BUSY);
    EXPECT(apx_run_inline(&held) == APX_E_BUSY);
    EXPECT(apx_job_prepare(h.holder.job, &h.holder.batch) == APX_E_BUSY);
    EXPECT(apx_submit(h.pool, &submission, &ticket) == APX_OK);
    workload third;
    make_workload(&third, 1, lens, 4, 0);
    apx_submission one_more = submission_of(&third, 0, APX_DEFERRED);
    EXPECT(apx_submit(h.pool, &one_more, &other) == APX_E_FULL && other == 0);
    EXPECT(apx_run_inline(&one_more) == APX_OK); /* it was not left in flight */
    EXPECT(apx_wait(h.pool, ticket, 2 * MS) == APX_E_TIMEOUT);
    EXPECT(apx_wait(h.pool, h.ticket, 0) == APX_E_TIMEOUT);
    release(&h);
    free_workload(&third);
    free_workload(&w);
}

/* Old tickets stay known while their slot is used 62 times more, then they are refused. */
static void check_old_tickets(void)
{
    enum { NUM_RUNS = 200, MOST_KNOWN = 63 };
    apx_ticket tickets[NUM_RUNS];
    workload w;
    apx_pool *pool = make_pool(1, 1, -1);
    apx_pool *other = make_pool(1, 1, -1);
    make_workload(&w, 1, lens, 5, 0);
    other->tag = (uint16_t)(pool->tag + 1); /* it is random: equal in one of 65536 runs */
    apx_submission submission = submission_of(&w, 0, APX_IN_LAYER);
    for (int32_t i = 0; i < NUM_RUNS; ++i) {
        EXPECT(apx_submit(pool, &submission, &tickets[i]) == APX_OK); /* never APX_E_FULL */
        EXPECT(tickets[i] != 0);
        EXPECT(apx_wait(pool, tickets[i], -1) == APX_OK);
        EXPECT(apx_run(other, &submission) == APX_OK);
    }
    for (int32_t i = 0; i < NUM_RUNS; ++i) {
        EXPECT(apx_done(pool, tickets[i]));
        EXPECT(apx_wait(pool, tickets[i], -1) ==
               (i < NUM_RUNS - MOST_KNOWN ? APX_E_TICKET : APX_OK));
    }
    EXPECT(apx_wait(pool, 0, -1) == APX_E_TICKET);
    EXPECT(apx_cancel(pool, 0) == APX_E_TICKET);
    EXPECT(apx_wait(pool, tickets[NUM_RUNS - 1] + 7, -1) == APX_E_TICKET); /* no such slot */
    uint64_t never_given = tickets[NUM_RUNS - 1] + (UINT64_C(2) << 32);
    EXPECT(apx_wait(pool, never_given, -1) == APX_E_TICKET && apx_done(pool, never_given));
    EXPECT(apx_wait(other, tickets[NUM_RUNS - 1], -1) == APX_E_TICKET);
    apx_pool_destroy(pool);
    apx_pool_destroy(other);
    free_workload(&w);
}

/* ------------------------------------------------------------------ arguments */

static apx_status prepare_with(const workload *w, const apx_batch *batch)
{
    return apx_job_prepare(w->job, batch);
}

#define EXPECT_REFUSED(field, value)                                                               \
    do {                                                                                           \
        apx_batch bad = w.batch;                                                                   \
        bad.field = (value);                                                                       \
        EXPECT(prepare_with(&w, &bad) == APX_E_ARGUMENT);                                          \
        EXPECT(strlen(apx_last_error()) > 10);                                                     \
    } while (0)

static void check_batches(void)
{
    workload w;
    int32_t bad_lens[] = {40, -1};
    make_workload(&w, 2, lens, 6, APX_CHECK_BLOCKS);
    EXPECT_REFUSED(num_rows, -1);
    EXPECT_REFUSED(num_q_heads, 0);
    EXPECT_REFUSED(num_q_heads, 3);
    EXPECT_REFUSED(num_q_heads, 1 << 20);
    EXPECT_REFUSED(q_dtype, APX_I8);
    EXPECT_REFUSED(flags, 4);
    EXPECT_REFUSED(softmax_scale, 1.0f / 0.0f);
    EXPECT_REFUSED(window, -1);
    EXPECT_REFUSED(sink_tokens, -1);
    EXPECT_REFUSED(context_lens, NULL);
    EXPECT_REFUSED(context_lens, bad_lens);
    EXPECT_REFUSED(block_tables, NULL);
    EXPECT_REFUSED(table_stride, 2); /* 40 tokens are three blocks */
    bad_lens[1] = 0;
    EXPECT(prepare_with(&w, &w.batch) == APX_OK);
    w.batch.context_lens = bad_lens;
    EXPECT(prepare_with(&w, &w.batch) == APX_OK);
    w.batch.flags |= APX_APPEND; /* a row without tokens has none to append */
    EXPECT(prepare_with(&w, &w.batch) == APX_E_ARGUMENT);
    free_workload(&w);
}

static void check_block_ids(void)
{
    workload w;
    make_workload(&w, 2, lens, 7, APX_CHECK_BLOCKS);
    int32_t good = w.tables[2];
    w.tables[2] = (int32_t)w.cache.num_blocks;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_E_BLOCK_ID);
    EXPECT(strstr(apx_last_error(), "row 0") != NULL && strstr(apx_last_error(), "entry 2"));
    w.tables[2] = -1;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_E_BLOCK_ID);
    w.tables[2] = good;
    w.tables[1] = -1; /* tokens 16 to 31: neither sinks nor window */
    w.batch.window = 8;
    w.batch.sink_tokens = 16;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_OK);
    w.batch.sink_tokens = 17;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_E_BLOCK_ID);
    w.batch.sink_tokens = 0;
    w.batch.window = 9;
    EXPECT(apx_job_prepare(w.job, &w.batch) == APX_E_BLOCK_ID);
    free_workload(&w);
}

static void check_submissions(void)
{
    workload w;
    apx_ticket ticket;
    apx_pool *pool = make_pool(1, 0, -1);
    make_workload(&w, 2, lens, 8, APX_APPEND);
    const apx_submission good = submission_of(&w, 0, APX_IN_LAYER);
    apx_submission bad[12];
    for (size_t i = 0; i < 12; ++i)
        bad[i] = good;
    bad[0].layer = -1;
    bad[1].layer = NUM_LAYERS;
    bad[2].priority = 2;
    bad[3].priority = -1;
    bad[4].io.q = NULL;
    bad[5].io.out = NULL;
    bad[6].io.k_new = NULL;
    bad[7].io.v_new = NULL;
    bad[8].io.q_stride = 63;
    bad[9].io.out_stride = -64;
    bad[10].io.kv_stride = 0;
    bad[11].io.lse_stride = 3;
    for (size_t i = 0; i < 12; ++i) {
        EXPECT(apx_submit(pool, &bad[i], &ticket) == APX_E_ARGUMENT && ticket == 0);
        EXPECT(apx_run_inline(&bad[i]) == APX_E_ARGUMENT);
    }
    EXPECT(apx_submit(NULL, &good, &ticket) == APX_E_ARGUMENT);
    EXPECT(apx_submit(pool, NULL, &ticket) == APX_E_ARGUMENT);
    EXPECT(apx_submit(pool, &good, NULL) == APX_E_ARGUMENT);
    EXPECT(apx_run(pool, &good) == APX_OK);
    apx_job *unprepared;
    EXPECT(apx_job_create(&w.cache, &unprepared) == APX_OK);
    bad[0] = good;
    bad[0].job = unprepared;
    EXPECT(apx_submit(pool, &bad[0], &ticket) == APX_E_ARGUMENT);
    apx_job_destroy(unprepared);
    apx_pool_destroy(pool);
    free_workload(&w);
}

/* A job of no rows ends like any other. */
static void check_no_rows(void)
{
    workload w;
    uint32_t flag = 0;
    apx_pool *pool = make_pool(2, 0, -1);
    make_workload(&w, 0, NULL, 9, APX_CHECK_BLOCKS | APX_APPEND);
    apx_submission submission = submission_of(&w, 0, APX_DEFERRED);
    submission.flag = &flag;
    EXPECT(apx_run(pool, &submission) == APX_OK && flag == 1);
    EXPECT(apx_run_inline(&submission) == APX_OK);
    apx_pool_destroy(pool);
    free_workload(&w);
}

void check_tickets(void)
{
    check_cancel();
    check_in_flight();
    check_old_tickets();
    check_batches();
    check_block_ids();
    check_submissions();
    check_no_rows();
}
