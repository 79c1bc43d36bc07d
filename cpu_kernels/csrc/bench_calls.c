/* Calls of the pool, timed in C one by one; for the bench alone. */
#define _GNU_SOURCE
#include "readers.h"

#include "kernels.h"

#include <time.h>

enum { NS_PER_S = 1000000000 };

static apx_status call(apx_pool *pool, const apx_submission *submission)
{
    if (pool == NULL) {
        return apx_run_inline(submission);
    }
    apx_ticket ticket;
    apx_status status = apx_submit(pool, submission, &ticket);
    return status == APX_OK ? apx_wait(pool, ticket, -1) : status;
}

static void sleep_ns(int64_t pause_ns)
{
    struct timespec pause = {pause_ns / NS_PER_S, pause_ns % NS_PER_S};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

apx_status apx_time_calls(const apx_call_plan *plan, double *seconds)
{
    if (plan->num_submissions < 1) {
        return apx_fail(APX_E_ARGUMENT, "there is nothing to submit");
    }
    for (int64_t index = 0; index < plan->num_calls; index++) {
        const apx_submission *submission =
            &plan->submissions[(plan->first + index) % plan->num_submissions];
        if (plan->pause_ns > 0) {
            sleep_ns(plan->pause_ns);
        }
        apx_status status = plan->warm_up != NULL ? call(plan->pool, plan->warm_up) : APX_OK;
        if (status != APX_OK) {
            return status;
        }
        double began = apx_seconds_now();
        status = call(plan->pool, submission);
        seconds[index] = apx_seconds_now() - began;
        if (status != APX_OK) {
            return status;
        }
    }
    return APX_OK;
}

apx_status apx_time_urgent(apx_pool *pool, const apx_submission *background,
                           const apx_submission *urgent, double *seconds, int64_t *num_calls)
{
    int64_t room = *num_calls;
    *num_calls = 0;
    apx_ticket ticket;
    apx_status status = apx_submit(pool, background, &ticket);
    while (status == APX_OK && *num_calls < room && !apx_done(pool, ticket)) {
        double began = apx_seconds_now();
        status = call(pool, urgent);
        seconds[*num_calls] = apx_seconds_now() - began;
        *num_calls += status == APX_OK;
    }
    if (ticket != 0) { /* whatever happened to the urgent ones, leave nothing in flight */
        apx_status ended = apx_wait(pool, ticket, -1);
        status = status == APX_OK ? ended : status;
    }
    return status;
}
