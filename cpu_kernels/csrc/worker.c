/* What a worker does: claims items, spins, sleeps, and gives way to more urgent work. */
#define _GNU_SOURCE
#include "pool.h"

#include <fenv.h>
#include <stdio.h>
#include <string.h>

static void run_claim(apx_worker *worker, const apx_claim *claim, int32_t level, apx_poll poll)
{
    apx_slot *slot = claim->slot;
    const apx_submission *submission = &slot->submission;
    uint8_t *scratch = (uint8_t *)worker->scratch + (int64_t)level * APX_LEVEL_SCRATCH_BYTES;
    apx_run_item(submission->job, submission->layer, &submission->io, claim->item, scratch, poll,
                 worker);
    if (atomic_fetch_sub(&slot->num_unfinished, 1) == 1)
        apx_finish_slot(slot, false);
}

/* Called between the blocks of a deferred item: in-layer items run inside it, on the second level
 * of scratch. They are not polled from, so there are never more than two levels. */
static void run_in_layer_items(void *context)
{
    apx_worker *worker = context;
    apx_claim claim;
    while (apx_has_items(worker->pool, APX_IN_LAYER) &&
           apx_claim_next(worker->pool, APX_IN_LAYER, &claim))
        run_claim(worker, &claim, 1, NULL);
}

static bool claim_any(apx_pool *pool, apx_claim *claim, int32_t *priority)
{
    for (*priority = APX_IN_LAYER; *priority < APX_NUM_PRIORITIES; ++*priority)
        if (apx_has_items(pool, *priority) && apx_claim_next(pool, *priority, claim))
            return true;
    return false;
}

/* A submitter counts on workers that spin, and two submitters may have counted on the same one. So
 * a worker that stops being idle wakes another when it leaves items behind and nobody spins. */
static void pass_on(apx_pool *pool)
{
    if (atomic_load(&pool->num_sleeping) > 0 && atomic_load(&pool->num_spinning) == 0 &&
        apx_has_unclaimed(pool))
        apx_ring(pool, 1);
}

static bool run_one(apx_worker *worker, bool was_idle)
{
    apx_claim claim;
    int32_t priority;
    if (!claim_any(worker->pool, &claim, &priority))
        return false;
    if (was_idle)
        pass_on(worker->pool);
    run_claim(worker, &claim, 0, priority == APX_DEFERRED ? run_in_layer_items : NULL);
    return true;
}

/* ------------------------------------------------------------------ first touch */

static uint8_t *share_begin(const apx_touch *touch, int64_t worker, int64_t num_workers)
{
    const int64_t page = 2 << 20;
    uintptr_t begin = (uintptr_t)touch->memory;
    uintptr_t first_page = begin / (uintptr_t)page * (uintptr_t)page;
    int64_t num_pages = ((int64_t)(begin - first_page) + touch->num_bytes + page - 1) / page;
    int64_t at = num_pages * worker / num_workers * page - (int64_t)(begin - first_page);
    return touch->memory + (at < 0 ? 0 : at > touch->num_bytes ? touch->num_bytes : at);
}

static void touch_share(apx_worker *worker)
{
    apx_touch *touch = &worker->pool->touch;
    uint8_t *begin = share_begin(touch, worker->index, worker->pool->num_threads);
    uint8_t *end = share_begin(touch, worker->index + 1, worker->pool->num_threads);
    if (end > begin)
        memset(begin, 0, (size_t)(end - begin));
    worker->touch_seen++;
    if (atomic_fetch_sub(&touch->num_pending, 1) == 1)
        apx_wake(&touch->num_pending, INT_MAX);
}

static bool is_touch_due(const apx_worker *worker)
{
    return atomic_load(&worker->pool->touch.number) != worker->touch_seen;
}

apx_status apx_pool_touch(apx_pool *pool, void *memory, int64_t num_bytes)
{
    apx_status status = apx_check_pool(pool);
    if (status != APX_OK)
        return status;
    if (memory == NULL || num_bytes < 0)
        return apx_fail(APX_E_ARGUMENT, "the memory to touch is NULL or its size negative");
    apx_touch *touch = &pool->touch;
    (void)pthread_mutex_lock(&pool->touch_lock);
    touch->memory = memory;
    touch->num_bytes = num_bytes;
    atomic_store(&touch->num_pending, (uint32_t)pool->num_threads);
    atomic_fetch_add(&touch->number, 1);
    apx_ring(pool, INT_MAX);
    for (uint32_t pending; (pending = atomic_load(&touch->num_pending)) > 0;)
        apx_sleep_on(&touch->num_pending, pending, -1);
    (void)pthread_mutex_unlock(&pool->touch_lock);
    return APX_OK;
}

/* ------------------------------------------------------------------ idling */

static bool run_something(apx_worker *worker, bool was_idle)
{
    if (is_touch_due(worker)) {
        touch_share(worker);
        return true;
    }
    return run_one(worker, was_idle);
}

static bool has_work(const apx_worker *worker)
{
    return apx_has_items(worker->pool, APX_IN_LAYER) || apx_has_items(worker->pool, APX_DEFERRED) ||
           is_touch_due(worker) || atomic_load(&worker->pool->is_stopping);
}

/* True as soon as there is work, false after spin_ns without any. */
static bool spin_for_work(const apx_worker *worker)
{
    int64_t end_ns = apx_now_ns() + worker->pool->spin_ns;
    do {
        for (int32_t i = 0; i < APX_PAUSES_PER_CLOCK; ++i) {
            if (has_work(worker))
                return true;
            apx_pause();
        }
    } while (apx_now_ns() < end_ns);
    return false;
}

/* The bell is read before the last look for work, so a submission in between makes the sleep
 * return at once; and it is counted as sleeping before that look, so the submitter rings. */
static void sleep_for_work(const apx_worker *worker)
{
    apx_pool *pool = worker->pool;
    uint32_t bell = atomic_load(&pool->bell);
    atomic_fetch_add(&pool->num_sleeping, 1);
    if (!has_work(worker))
        apx_sleep_on(&pool->bell, bell, -1);
    atomic_fetch_sub(&pool->num_sleeping, 1);
}

static void wait_for_work(const apx_worker *worker)
{
    apx_pool *pool = worker->pool;
    atomic_fetch_add(&pool->num_spinning, 1);
    bool found = spin_for_work(worker);
    atomic_fetch_sub(&pool->num_spinning, 1);
    if (!found)
        sleep_for_work(worker);
}

void *apx_work(void *argument)
{
    apx_worker *worker = argument;
    char name[16];
    bool was_idle = true;
    (void)snprintf(name, sizeof name, "apx-%d", worker->index % 100000);
    (void)pthread_setname_np(pthread_self(), name);
    (void)fesetenv(FE_DFL_ENV); /* not the creator's: it may flush denormals to zero */
    for (;;) {
        if (run_something(worker, was_idle)) {
            was_idle = false;
        } else if (atomic_load(&worker->pool->is_stopping)) {
            return NULL;
        } else {
            wait_for_work(worker);
            was_idle = true;
        }
    }
}
