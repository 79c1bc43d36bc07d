/* Tickets: how a submission ends, and how to learn of it. */
#define _GNU_SOURCE
#include "pool.h"

/* Outcomes are remembered for so many later submissions of the same slot. */
enum { REMEMBERED = 64 };

apx_status apx_check_pool(const apx_pool *pool)
{
    if (pool == NULL)
        return apx_fail(APX_E_ARGUMENT, "pool is NULL");
    if (pool->num_forks != apx_num_forks())
        return apx_fail(APX_E_FORKED, "the pool belongs to the parent process: its threads did not "
                                      "survive the fork; create one here");
    return APX_OK;
}

/* Order: outputs are visible, the job may be submitted again, callback, flag, ticket, waiters. From
 * the job on nothing here may be touched that whoever learns of the end may free. */
void apx_finish_slot(apx_slot *slot, bool is_cancelled)
{
    apx_submission submission = slot->submission;
    uint32_t word = atomic_load(&slot->word);
    if (is_cancelled)
        atomic_fetch_or(&slot->was_cancelled, UINT64_C(1) << (word / 2 % REMEMBERED));
    apx_job_end(submission.job);
    if (submission.callback != NULL && !is_cancelled)
        submission.callback(submission.user);
    if (submission.flag != NULL)
        __atomic_store_n(submission.flag, 1, __ATOMIC_RELEASE);
    atomic_store(&slot->word, word + 1);
    if (atomic_load(&slot->num_waiters) > 0)
        apx_wake(&slot->word, INT_MAX);
}

/* ------------------------------------------------------------------ asking */

static apx_status refuse_ticket(void)
{
    return apx_fail(APX_E_TICKET, "the ticket is none of this pool's, or too old to be known");
}

/* The slot of a ticket and its word; NULL when it cannot be one of this pool's. */
static apx_slot *slot_of(const apx_pool *pool, apx_ticket ticket, uint32_t *word)
{
    uint32_t index = (uint32_t)(ticket & UINT16_MAX);
    uint16_t tag = (uint16_t)(ticket >> 16);
    *word = (uint32_t)(ticket >> 32);
    if (tag != pool->tag || index >= (uint32_t)pool->num_slots || *word % 2 == 0)
        return NULL;
    return &pool->slots[index];
}

/* The same, or why there is none. */
static apx_status find_slot(const apx_pool *pool, apx_ticket ticket, apx_slot **slot, uint32_t *word)
{
    apx_status status = apx_check_pool(pool);
    if (status != APX_OK)
        return status;
    *slot = slot_of(pool, ticket, word);
    return *slot == NULL ? refuse_ticket() : APX_OK;
}

/* How a submission that is no longer in flight ended. */
static apx_status outcome(const apx_slot *slot, uint32_t word)
{
    uint64_t was_cancelled = atomic_load(&slot->was_cancelled);
    uint32_t age = atomic_load(&slot->word) - word; /* 1: done, its slot not used again */
    if (age == 0 || age >= 2 * REMEMBERED - 1) /* its bit is another's, or about to be */
        return refuse_ticket();
    if ((was_cancelled >> (word / 2 % REMEMBERED) & 1) != 0)
        return apx_fail(APX_E_CANCELLED, "the ticket was cancelled before it began");
    return APX_OK;
}

static bool spin(const apx_slot *slot, uint32_t word, int64_t spin_ns)
{
    int64_t end_ns = 0;
    for (;;) {
        for (int32_t i = 0; i < APX_PAUSES_PER_CLOCK; ++i) {
            if (atomic_load_explicit(&slot->word, memory_order_acquire) != word)
                return true;
            apx_pause();
        }
        int64_t now_ns = apx_now_ns();
        if (end_ns == 0)
            end_ns = now_ns + spin_ns;
        else if (now_ns >= end_ns)
            return false;
    }
}

static bool sleep_until_done(apx_slot *slot, uint32_t word, int64_t timeout_ns)
{
    int64_t end_ns = timeout_ns < 0 ? INT64_MAX : apx_now_ns() + timeout_ns;
    int64_t left_ns = timeout_ns;
    atomic_fetch_add(&slot->num_waiters, 1);
    while (atomic_load(&slot->word) == word && (timeout_ns < 0 || left_ns > 0)) {
        apx_sleep_on(&slot->word, word, left_ns);
        left_ns = timeout_ns < 0 ? -1 : end_ns - apx_now_ns();
    }
    atomic_fetch_sub(&slot->num_waiters, 1);
    return atomic_load(&slot->word) != word;
}

static apx_status wait_for(const apx_pool *pool, apx_slot *slot, uint32_t word, int64_t timeout_ns)
{
    int64_t begun_ns = apx_now_ns();
    int64_t spin_ns = timeout_ns >= 0 && timeout_ns < pool->spin_ns ? timeout_ns : pool->spin_ns;
    if (spin(slot, word, spin_ns))
        return outcome(slot, word);
    int64_t left_ns = timeout_ns < 0 ? -1 : timeout_ns - (apx_now_ns() - begun_ns);
    if (timeout_ns >= 0 && left_ns < 0)
        left_ns = 0;
    if (sleep_until_done(slot, word, left_ns))
        return outcome(slot, word);
    return apx_fail(APX_E_TIMEOUT, "the ticket was not done within %.6f s",
                    (double)timeout_ns / 1e9);
}

apx_status apx_wait(apx_pool *pool, apx_ticket ticket, int64_t timeout_ns)
{
    uint32_t word;
    apx_slot *slot;
    apx_status status = find_slot(pool, ticket, &slot, &word);
    if (status != APX_OK)
        return status;
    if (atomic_load(&slot->word) != word)
        return outcome(slot, word);
    /* apx_pool_destroy waits until nobody is inside. */
    atomic_fetch_add(&pool->num_inside, 1);
    status = wait_for(pool, slot, word, timeout_ns);
    atomic_fetch_sub(&pool->num_inside, 1);
    return status;
}

bool apx_done(apx_pool *pool, apx_ticket ticket)
{
    uint32_t word;
    if (pool == NULL || pool->num_forks != apx_num_forks())
        return true; /* nothing will ever be done there: apx_wait says why */
    const apx_slot *slot = slot_of(pool, ticket, &word);
    return slot == NULL || atomic_load_explicit(&slot->word, memory_order_acquire) != word;
}

apx_status apx_cancel(apx_pool *pool, apx_ticket ticket)
{
    uint32_t word;
    apx_slot *slot;
    apx_status status = find_slot(pool, ticket, &slot, &word);
    if (status != APX_OK)
        return status;
    if (!apx_cancel_slot(slot, word))
        return apx_fail(APX_E_BUSY, "the ticket has begun or is done");
    apx_finish_slot(slot, true);
    return APX_OK;
}

apx_status apx_run(apx_pool *pool, const apx_submission *submission)
{
    apx_ticket ticket;
    apx_status status = apx_submit(pool, submission, &ticket);
    return status == APX_OK ? apx_wait(pool, ticket, -1) : status;
}
