/* Workers, tickets and queues: what pool.c, queue.c and ticket.c share. Internal.
 *
 * A submission lies in a slot. Its ticket names the slot and the value that the slot's word has
 * while it is in flight (odd; one more when it is done). A queue is a ring of tickets in order of
 * submission; workers claim the items of its head one by one and move the head on when all are
 * claimed. Claiming takes no lock and never waits; submitting takes one against other submitters.
 *
 * A slot is used again only when its submission is done *and* the queue's head has passed it, so a
 * ring never holds more entries than there are slots, and no entry names a later submission.
 */
#ifndef APX_POOL_H
#define APX_POOL_H

#include <pthread.h>

#include "job.h"

enum { APX_NUM_PRIORITIES = 2, APX_NUM_LEVELS = 2, APX_MAX_IN_FLIGHT = 1 << 15 };

/* Of the items in a claim: none may be claimed any more. */
#define APX_CLAIM_CANCELLED UINT32_MAX

typedef struct apx_slot {
    /* Odd while in flight; what waiters sleep on. */
    _Alignas(APX_LINE) apx_word word;
    _Atomic uint32_t num_waiters;     /* asleep, or about to be */
    _Atomic uint64_t was_cancelled;   /* bit i: of the submission with word / 2 % 64 == i */
    /* (word << 32) | items claimed so far: one value, so that a claim fails when the slot was used
     * again meanwhile. */
    _Alignas(APX_LINE) _Atomic uint64_t claim;
    _Atomic uint32_t num_items;
    _Alignas(APX_LINE) _Atomic uint32_t num_unfinished;
    uint64_t position;                /* in its queue; of submitters, under the lock */
    apx_submission submission;
} apx_slot;

typedef struct apx_queue {
    _Alignas(APX_LINE) _Atomic uint64_t head; /* of workers */
    _Alignas(APX_LINE) _Atomic uint64_t tail; /* of submitters */
    _Atomic uint64_t *entries;                /* [num_entries]: word << 32 | slot */
} apx_queue;

/* An item that a worker has claimed. */
typedef struct apx_claim {
    apx_slot *slot;
    int32_t item;
} apx_claim;

typedef struct apx_worker {
    apx_pool *pool;
    pthread_t thread;
    int32_t index;
    int32_t cpu;             /* -1: not pinned */
    uint32_t touch_seen;     /* the last touch this worker took part in */
    void *scratch;           /* [APX_NUM_LEVELS][APX_LEVEL_SCRATCH_BYTES] */
} apx_worker;

/* apx_pool_touch in progress. */
typedef struct apx_touch {
    apx_word number;      /* of the touch; workers that have seen a smaller one take part */
    apx_word num_pending; /* workers */
    uint8_t *memory;
    int64_t num_bytes;
} apx_touch;

struct apx_pool {
    uint32_t num_forks;
    uint16_t tag; /* in tickets, against tickets of another pool */
    int32_t num_threads;
    int32_t num_slots;
    uint32_t entry_mask; /* entries of a ring less 1, a power of two */
    int64_t spin_ns;
    apx_slot *slots;
    apx_worker *workers;
    uint8_t *scratch; /* of all workers */
    apx_queue queues[APX_NUM_PRIORITIES];

    _Alignas(APX_LINE) apx_word bell;    /* what idle workers sleep on */
    _Atomic int32_t num_sleeping;        /* or about to */
    _Atomic int32_t num_spinning;        /* idle and awake */
    _Atomic bool is_stopping;

    _Alignas(APX_LINE) _Atomic uint32_t num_inside; /* threads in apx_wait */
    pthread_mutex_t submit_lock;
    pthread_mutex_t touch_lock;
    bool is_closed;   /* under submit_lock */
    int32_t cursor;   /* where the search for a free slot goes on; under submit_lock */
    apx_touch touch;
};

/* Claims the next item of a queue (queue.c). */
bool apx_claim_next(apx_pool *pool, int32_t priority, apx_claim *claim);
/* Is there an item nobody has claimed? A guess of two loads: true also just after the last was. */
bool apx_has_items(const apx_pool *pool, int32_t priority);
/* The same of all queues, for certain. */
bool apx_has_unclaimed(apx_pool *pool);
/* Wakes up to `most` sleeping workers. */
void apx_ring(apx_pool *pool, int32_t most);
/* Cancels what has not begun (queue.c): true when nothing of it was or will be claimed. */
bool apx_cancel_slot(apx_slot *slot, uint32_t word);

/* Ends a submission: callback, flag, ticket, waiters (ticket.c). */
void apx_finish_slot(apx_slot *slot, bool is_cancelled);
/* A worker's thread (worker.c); its argument is the apx_worker. */
void *apx_work(void *worker);

/* APX_OK, or why no call on this pool can work (ticket.c). */
apx_status apx_check_pool(const apx_pool *pool);

#endif
