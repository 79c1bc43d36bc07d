/* Waiting for a deadline without an interpreter, and the time a job was done. */
#define _GNU_SOURCE
#include "deadline.h"

#include "futex.h"

#include <stdbool.h>
#include <sys/prctl.h>

enum { NS_PER_S = 1000000000, NO_SLACK_NS = 1 };

static void take_off_slack(void)
{
    static _Thread_local bool has_none;
    if (!has_none)
        has_none = prctl(PR_SET_TIMERSLACK, NO_SLACK_NS, 0, 0, 0) == 0;
}

/* A signal may end the sleep early: who calls looks at the clock again. */
static void sleep_until(int64_t end_ns)
{
    struct timespec end = {end_ns / NS_PER_S, end_ns % NS_PER_S};
    take_off_slack();
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

int64_t apx_wait_until(int64_t deadline_ns, int64_t spin_ns)
{
    int64_t now_ns = apx_now_ns();
    while (deadline_ns - now_ns > spin_ns) {
        sleep_until(deadline_ns - spin_ns);
        now_ns = apx_now_ns();
    }
    while (now_ns < deadline_ns) {
        apx_pause();
        now_ns = apx_now_ns();
    }
    return now_ns;
}

void apx_stamp(void *when)
{
    *(int64_t *)when = apx_now_ns();
}
