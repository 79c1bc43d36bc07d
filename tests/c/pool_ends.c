/* How things end: a pool destroyed with work in flight, a forked child, a process that exits. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"
#include "pool_fixture.h"

enum { HELD = 1, NUM_QUEUED = 3 };

static const int32_t lens[] = {40, 5};

typedef struct ending {
    apx_pool *pool;
    workload holder;
    workload queued[NUM_QUEUED];
    apx_ticket held_ticket;
    apx_ticket tickets[NUM_QUEUED];
    uint32_t flags[NUM_QUEUED];
    _Atomic int32_t num_waiting;
    _Atomic int32_t num_cancelled;
} ending;

/* One worker, held in a job; others queued behind it in both classes. */
static void begin(ending *e)
{
    *e = (ending){.pool = make_pool(1, 0, 1000)};
    make_workload(&e->holder, 1, lens, 1, 0);
    use_gated_kernels(&e->holder, HELD);
    clear_events();
    set_gate(HELD);
    apx_submission submission = submission_of(&e->holder, 0, APX_IN_LAYER);
    EXPECT(apx_submit(e->pool, &submission, &e->held_ticket) == APX_OK);
    wait_for_events(1);
    for (int32_t i = 0; i < NUM_QUEUED; ++i) {
        make_workload(&e->queued[i], 2, lens, 2, 0);
        submission = submission_of(&e->queued[i], 0, i % 2);
        submission.flag = &e->flags[i];
        EXPECT(apx_submit(e->pool, &submission, &e->tickets[i]) == APX_OK);
    }
}

static void free_jobs(ending *e)
{
    free_workload(&e->holder);
    for (int32_t i = 0; i < NUM_QUEUED; ++i)
        free_workload(&e->queued[i]);
}

static void *wait_for_queued(void *argument)
{
    ending *e = argument;
    apx_ticket ticket = e->tickets[atomic_fetch_add(&e->num_waiting, 1)];
    if (apx_wait(e->pool, ticket, -1) == APX_E_CANCELLED)
        atomic_fetch_add(&e->num_cancelled, 1);
    return NULL;
}

static void *destroy(void *argument)
{
    apx_pool_destroy(((ending *)argument)->pool);
    return NULL;
}

/* What has begun ends, the rest is cancelled, and whoever waits learns it before the pool goes. */
static void check_destroy(void)
{
    pthread_t waiters[NUM_QUEUED];
    pthread_t destroyer;
    ending e;
    begin(&e);
    for (int32_t i = 0; i < NUM_QUEUED; ++i)
        EXPECT(pthread_create(&waiters[i], NULL, wait_for_queued, &e) == 0);
    while (atomic_load(&e.pool->num_inside) < NUM_QUEUED)
        apx_pause();
    EXPECT(pthread_create(&destroyer, NULL, destroy, &e) == 0);
    for (int32_t i = 0; i < NUM_QUEUED; ++i) { /* while the worker is still held */
        EXPECT(pthread_join(waiters[i], NULL) == 0);
        EXPECT(__atomic_load_n(&e.flags[i], __ATOMIC_ACQUIRE) == 1);
    }
    EXPECT(atomic_load(&e.num_cancelled) == NUM_QUEUED);
    apx_ticket ticket;
    apx_submission late = submission_of(&e.queued[0], 0, APX_IN_LAYER);
    EXPECT(apx_submit(e.pool, &late, &ticket) == APX_E_STOPPED);
    set_gate(GATE_OPEN);
    EXPECT(pthread_join(destroyer, NULL) == 0);
    EXPECT(apx_run_inline(&late) == APX_OK); /* its job is free again */
    free_jobs(&e);
}

/* apx_job_destroy waits for what is in flight. */
static void *destroy_job(void *argument)
{
    apx_job_destroy(argument);
    return NULL;
}

static void check_destroy_job(void)
{
    pthread_t destroyer;
    ending e;
    begin(&e);
    apx_job *job = e.holder.job;
    EXPECT(pthread_create(&destroyer, NULL, destroy_job, job) == 0);
    while (atomic_load(&job->phase) % APX_JOB_PHASES != APX_JOB_AWAITED)
        apx_pause();
    set_gate(GATE_OPEN);
    EXPECT(pthread_join(destroyer, NULL) == 0);
    e.holder.job = NULL;
    apx_pool_destroy(e.pool);
    free_jobs(&e);
}

/* ------------------------------------------------------------------ fork */

/* In the child every call says so, and nothing hangs. Returns the exit code. */
static int act_as_child(ending *e)
{
    apx_ticket ticket;
    uint8_t byte = 1;
    int before = count_failures();
    apx_submission submission = submission_of(&e->queued[0], 0, APX_IN_LAYER);
    EXPECT(apx_submit(e->pool, &submission, &ticket) == APX_E_FORKED);
    EXPECT(apx_run(e->pool, &submission) == APX_E_FORKED);
    EXPECT(apx_wait(e->pool, e->held_ticket, -1) == APX_E_FORKED);
    EXPECT(apx_cancel(e->pool, e->tickets[0]) == APX_E_FORKED);
    EXPECT(apx_pool_touch(e->pool, &byte, 1) == APX_E_FORKED && byte == 1);
    EXPECT(apx_done(e->pool, e->held_ticket));
    EXPECT(apx_run_inline(&submission) == APX_E_FORKED); /* it is queued in the parent */
    EXPECT(apx_job_prepare(e->holder.job, &e->holder.batch) == APX_E_FORKED);
    apx_pool_destroy(e->pool);
    EXPECT(e->flags[0] == 0); /* nothing ended here */
    free_jobs(e);
    workload w;
    make_workload(&w, 2, lens, 9, 0);
    submission = submission_of(&w, 0, APX_IN_LAYER);
    EXPECT(apx_run_inline(&submission) == APX_OK); /* new ones work */
    free_workload(&w);
    return count_failures() == before ? 0 : 1;
}

static void expect_child_ends_well(pid_t child)
{
    int status = 0;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check_fork(void)
{
    ending e;
    begin(&e);
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int code = act_as_child(&e);
        (void)fflush(stdout);
        _exit(code);
    }
    expect_child_ends_well(child);
    set_gate(GATE_OPEN); /* the parent has noticed nothing */
    for (int32_t i = 0; i < NUM_QUEUED; ++i)
        EXPECT(apx_wait(e.pool, e.tickets[i], -1) == APX_OK);
    apx_pool_destroy(e.pool);
    free_jobs(&e);
}

/* ------------------------------------------------------------------ exit with jobs in flight */

enum { NUM_JOBS_AT_EXIT = 20 };

static void exit_in_flight(void)
{
    static workload jobs[NUM_JOBS_AT_EXIT];
    static apx_pool *pool; /* static: still reachable when leaks are looked for */
    apx_ticket ticket;
    pool = make_pool(2, 0, -1);
    for (int32_t i = 0; i < NUM_JOBS_AT_EXIT; ++i) {
        make_workload(&jobs[i], 2, lens, 1, 0);
        apx_submission submission = submission_of(&jobs[i], 0, APX_DEFERRED);
        EXPECT(apx_submit(pool, &submission, &ticket) == APX_OK);
    }
    exit(count_failures() == 0 ? 0 : 1);
}

/* Before the process has threads: a sanitizer lets no child of one with threads have any. */
void check_exit(void)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exit_in_flight();
    expect_child_ends_well(child);
}

void check_ends(void)
{
    check_destroy();
    check_destroy_job();
    check_fork();
}
