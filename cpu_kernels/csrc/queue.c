/* Submitting, claiming and cancelling: see pool.h. */
#define _GNU_SOURCE
#include "pool.h"

static uint32_t word_of(uint64_t value)
{
    return (uint32_t)(value >> 32);
}

static uint64_t joined(uint32_t word, uint32_t low)
{
    return (uint64_t)word << 32 | low;
}

/* The submission at the head of a queue, of which `claimed` items are. */
typedef struct open_slot {
    apx_slot *slot; /* NULL: the queue is empty */
    uint64_t claim; /* as read from the slot */
} open_slot;

/* What is at the head now. A value read from the ring or the slot may be that of a later submission
 * by then; it counts only if the head is still where it was, or if the claim changes hands by a
 * compare-and-exchange, which a later submission's word makes fail. */
static bool read_head(const apx_pool *pool, const apx_queue *queue, uint64_t *head, uint64_t *entry)
{
    do {
        *head = atomic_load(&queue->head);
        if (*head == atomic_load(&queue->tail))
            return false;
        *entry = atomic_load(&queue->entries[*head & pool->entry_mask]);
    } while (atomic_load(&queue->head) != *head);
    return true;
}

/* The first submission with items nobody has claimed. The head moves over all before it. */
static open_slot first_open(const apx_pool *pool, apx_queue *queue)
{
    uint64_t head;
    uint64_t entry;
    while (read_head(pool, queue, &head, &entry)) {
        apx_slot *slot = &pool->slots[(uint32_t)entry];
        uint64_t claim = atomic_load(&slot->claim);
        if (word_of(claim) == word_of(entry) && (uint32_t)claim < atomic_load(&slot->num_items))
            return (open_slot){slot, claim};
        /* Fails when somebody else has moved it. */
        atomic_compare_exchange_strong(&queue->head, &head, head + 1);
    }
    return (open_slot){NULL, 0};
}

bool apx_claim_next(apx_pool *pool, int32_t priority, apx_claim *claim)
{
    for (;;) {
        open_slot first = first_open(pool, &pool->queues[priority]);
        if (first.slot == NULL)
            return false;
        if (atomic_compare_exchange_weak(&first.slot->claim, &first.claim, first.claim + 1)) {
            *claim = (apx_claim){first.slot, (int32_t)(uint32_t)first.claim};
            return true;
        }
    }
}

bool apx_has_unclaimed(apx_pool *pool)
{
    return first_open(pool, &pool->queues[APX_IN_LAYER]).slot != NULL ||
           first_open(pool, &pool->queues[APX_DEFERRED]).slot != NULL;
}

bool apx_has_items(const apx_pool *pool, int32_t priority)
{
    const apx_queue *queue = &pool->queues[priority];
    return atomic_load(&queue->head) != atomic_load(&queue->tail);
}

bool apx_cancel_slot(apx_slot *slot, uint32_t word)
{
    uint64_t unclaimed = joined(word, 0);
    return atomic_compare_exchange_strong(&slot->claim, &unclaimed,
                                          joined(word, APX_CLAIM_CANCELLED));
}

void apx_ring(apx_pool *pool, int32_t most)
{
    atomic_fetch_add(&pool->bell, 1);
    apx_wake(&pool->bell, most);
}

/* ------------------------------------------------------------------ submitting */

static bool is_free(const apx_pool *pool, const apx_slot *slot)
{
    if (atomic_load(&slot->word) % 2 == 1)
        return false;
    const apx_queue *queue = &pool->queues[slot->submission.priority];
    return atomic_load(&queue->head) > slot->position || atomic_load(&slot->word) == 0;
}

/* The slot that was used longest ago, as far as one can tell cheaply: so tickets stay known. */
static apx_slot *find_free_slot(apx_pool *pool)
{
    for (int32_t tried = 0; tried < pool->num_slots; ++tried) {
        apx_slot *slot = &pool->slots[pool->cursor];
        pool->cursor = pool->cursor + 1 < pool->num_slots ? pool->cursor + 1 : 0;
        if (is_free(pool, slot))
            return slot;
    }
    return NULL;
}

static apx_ticket put_in_queue(apx_pool *pool, apx_slot *slot, const apx_submission *submission)
{
    apx_queue *queue = &pool->queues[submission->priority];
    uint32_t index = (uint32_t)(slot - pool->slots);
    uint32_t word = atomic_load(&slot->word) + 1;
    uint32_t num_items = (uint32_t)submission->job->num_items;
    uint64_t tail = atomic_load(&queue->tail);
    slot->submission = *submission;
    slot->position = tail;
    atomic_fetch_and(&slot->was_cancelled, ~(UINT64_C(1) << (word / 2 % 64)));
    atomic_store(&slot->num_items, num_items);
    atomic_store(&slot->num_unfinished, num_items);
    atomic_store(&slot->word, word);
    atomic_store(&slot->claim, joined(word, 0));
    atomic_store(&queue->entries[tail & pool->entry_mask], joined(word, index));
    atomic_store(&queue->tail, tail + 1);
    return joined(word, (uint32_t)pool->tag << 16 | index);
}

static apx_status enqueue(apx_pool *pool, const apx_submission *submission, apx_ticket *ticket)
{
    if (pool->is_closed)
        return apx_fail(APX_E_STOPPED, "the pool is shutting down");
    (void)first_open(pool, &pool->queues[APX_IN_LAYER]); /* frees the slots before it */
    (void)first_open(pool, &pool->queues[APX_DEFERRED]);
    apx_slot *slot = find_free_slot(pool);
    if (slot == NULL)
        return apx_fail(APX_E_FULL, "%d tickets are in flight, as many as the pool was created for",
                        pool->num_slots);
    *ticket = put_in_queue(pool, slot, submission);
    return APX_OK;
}

/* No more sleepers than there are items for; workers that still spin need no waking. */
static void wake_for(apx_pool *pool, int32_t num_items)
{
    int32_t sleeping = atomic_load(&pool->num_sleeping);
    if (sleeping == 0)
        return;
    int32_t wanted = num_items - atomic_load(&pool->num_spinning);
    if (wanted > 0)
        apx_ring(pool, wanted < sleeping ? wanted : sleeping);
}

apx_status apx_submit(apx_pool *pool, const apx_submission *submission, apx_ticket *ticket)
{
    apx_status status = apx_check_pool(pool);
    if (status != APX_OK)
        return status;
    if (submission == NULL || submission->job == NULL || ticket == NULL)
        return apx_fail(APX_E_ARGUMENT, "the submission, its job or the ticket is NULL");
    *ticket = 0;
    status = apx_job_begin(submission->job);
    if (status != APX_OK)
        return status;
    int32_t num_items = 0;
    status = apx_check_submission(submission);
    if (status == APX_OK) {
        num_items = submission->job->num_items;
        (void)pthread_mutex_lock(&pool->submit_lock);
        status = enqueue(pool, submission, ticket);
        (void)pthread_mutex_unlock(&pool->submit_lock);
    }
    if (status != APX_OK)
        apx_job_end(submission->job);
    else
        wake_for(pool, num_items);
    return status;
}
