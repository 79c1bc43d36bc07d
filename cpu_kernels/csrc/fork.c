/* Counts forks, so that a child knows which pools and which jobs in flight are its parent's. */
#define _GNU_SOURCE
#include "job.h"

#include <pthread.h>

static _Atomic uint32_t num_forks;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void in_child(void)
{
    atomic_fetch_add_explicit(&num_forks, 1, memory_order_relaxed);
}

static void watch(void)
{
    (void)pthread_atfork(NULL, NULL, in_child);
}

void apx_watch_forks(void)
{
    (void)pthread_once(&once, watch);
}

uint32_t apx_num_forks(void)
{
    return atomic_load_explicit(&num_forks, memory_order_relaxed);
}
