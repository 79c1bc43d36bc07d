/* Who goes first: priorities, preemption, FIFO, and the order in which the end becomes visible. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "pool_fixture.h"

enum { MAX_JOBS = 4, DEFERRED_A = 1, DEFERRED_B = 2, IN_LAYER_A = 3, IN_LAYER_B = 4 };

static const int32_t short_row[] = {5};

static void make_gated(workload *w, int32_t number)
{
    make_workload(w, 1, short_row, (uint32_t)number, 0);
    use_gated_kernels(w, number);
}

static apx_ticket submit(apx_pool *pool, const workload *w, int32_t priority)
{
    apx_ticket ticket = 0;
    apx_submission submission = submission_of(w, 0, priority);
    EXPECT(apx_submit(pool, &submission, &ticket) == APX_OK);
    return ticket;
}

/* One worker holds deferred A; then deferred B, in-layer A and in-layer B come. In-layer work runs
 * inside A's poll, in its order; B of the deferred waits for A. */
static void check_preemption(void)
{
    static const event expected[] = {{DEFERRED_A, false}, {IN_LAYER_A, false}, {IN_LAYER_A, true},
                                     {IN_LAYER_B, false}, {IN_LAYER_B, true},  {DEFERRED_A, true},
                                     {DEFERRED_B, false}, {DEFERRED_B, true}};
    event seen[MAX_EVENTS];
    workload jobs[MAX_JOBS + 1];
    apx_ticket tickets[MAX_JOBS + 1];
    apx_pool *pool = make_pool(1, 0, -1);
    clear_events();
    for (int32_t i = DEFERRED_A; i <= IN_LAYER_B; ++i)
        make_gated(&jobs[i], i);
    set_gate(DEFERRED_A);
    tickets[DEFERRED_A] = submit(pool, &jobs[DEFERRED_A], APX_DEFERRED);
    wait_for_events(1);
    for (int32_t i = DEFERRED_B; i <= IN_LAYER_B; ++i)
        tickets[i] = submit(pool, &jobs[i], i < IN_LAYER_A ? APX_DEFERRED : APX_IN_LAYER);
    for (int32_t i = DEFERRED_A; i <= IN_LAYER_B; ++i)
        EXPECT(!apx_done(pool, tickets[i]));
    set_gate(GATE_OPEN);
    for (int32_t i = DEFERRED_A; i <= IN_LAYER_B; ++i) {
        EXPECT(apx_wait(pool, tickets[i], -1) == APX_OK);
        EXPECT(apx_done(pool, tickets[i]));
    }
    EXPECT(read_events(seen) == 8);
    for (int32_t i = 0; i < 8; ++i)
        EXPECT(seen[i].job == expected[i].job && seen[i].is_end == expected[i].is_end);
    apx_pool_destroy(pool);
    for (int32_t i = DEFERRED_A; i <= IN_LAYER_B; ++i)
        free_workload(&jobs[i]);
}

/* In-layer work is never interrupted by in-layer work. */
static void check_no_nesting_in_layer(void)
{
    event seen[MAX_EVENTS];
    workload first;
    workload second;
    apx_pool *pool = make_pool(1, 0, -1);
    clear_events();
    make_gated(&first, IN_LAYER_A);
    make_gated(&second, IN_LAYER_B);
    set_gate(IN_LAYER_A);
    apx_ticket ticket = submit(pool, &first, APX_IN_LAYER);
    wait_for_events(1);
    apx_ticket other = submit(pool, &second, APX_IN_LAYER);
    set_gate(GATE_OPEN);
    EXPECT(apx_wait(pool, other, -1) == APX_OK);
    EXPECT(apx_wait(pool, ticket, -1) == APX_OK);
    EXPECT(read_events(seen) == 4);
    EXPECT(seen[1].job == IN_LAYER_A && seen[1].is_end && seen[2].job == IN_LAYER_B);
    apx_pool_destroy(pool);
    free_workload(&first);
    free_workload(&second);
}

/* A worker that becomes free takes in-layer work first, then the older of two deferred jobs. */
static void check_choice(void)
{
    static const int32_t expected[] = {IN_LAYER_A, IN_LAYER_B, DEFERRED_A, DEFERRED_B};
    static const int32_t submitted[] = {IN_LAYER_A, DEFERRED_A, DEFERRED_B, IN_LAYER_B};
    event seen[MAX_EVENTS];
    workload jobs[MAX_JOBS];
    apx_ticket tickets[MAX_JOBS];
    apx_pool *pool = make_pool(1, 0, -1);
    clear_events();
    set_gate(IN_LAYER_A);
    for (int32_t i = 0; i < MAX_JOBS; ++i) {
        make_gated(&jobs[i], submitted[i]);
        bool is_deferred = submitted[i] < IN_LAYER_A;
        tickets[i] = submit(pool, &jobs[i], is_deferred ? APX_DEFERRED : APX_IN_LAYER);
        wait_for_events(1); /* the first has begun */
    }
    set_gate(GATE_OPEN);
    for (int32_t i = 0; i < MAX_JOBS; ++i)
        EXPECT(apx_wait(pool, tickets[i], -1) == APX_OK);
    EXPECT(read_events(seen) == 2 * MAX_JOBS);
    for (int32_t i = 0; i < MAX_JOBS; ++i)
        EXPECT(seen[2 * i].job == expected[i] && seen[2 * i + 1].job == expected[i]);
    apx_pool_destroy(pool);
    for (int32_t i = 0; i < MAX_JOBS; ++i)
        free_workload(&jobs[i]);
}

/* ------------------------------------------------------------------ callback, flag, ticket */

typedef struct chain {
    apx_pool *pool;
    workload *w;
    uint32_t flag;
    _Atomic uint64_t ticket; /* of the submission in flight */
    _Atomic int32_t num_called;
    bool was_early; /* flag or ticket said done when the callback ran */
} chain;

static void look_at_flag(void *user)
{
    chain *c = user;
    apx_ticket ticket;
    while ((ticket = atomic_load(&c->ticket)) == 0)
        apx_pause();
    c->was_early = __atomic_load_n(&c->flag, __ATOMIC_ACQUIRE) != 0 || apx_done(c->pool, ticket);
    atomic_fetch_add(&c->num_called, 1);
}

static void check_callback_order(void)
{
    chain c = {.pool = make_pool(2, 0, -1)};
    workload w;
    apx_ticket ticket;
    make_workload(&w, 1, short_row, 3, 0);
    apx_submission submission = submission_of(&w, 0, APX_IN_LAYER);
    submission.flag = &c.flag;
    submission.callback = look_at_flag;
    submission.user = &c;
    EXPECT(apx_submit(c.pool, &submission, &ticket) == APX_OK);
    atomic_store(&c.ticket, ticket);
    while (__atomic_load_n(&c.flag, __ATOMIC_ACQUIRE) == 0)
        apx_pause();
    EXPECT(atomic_load(&c.num_called) == 1 && !c.was_early);
    EXPECT(apx_wait(c.pool, ticket, -1) == APX_OK);
    apx_pool_destroy(c.pool);
    free_workload(&w);
}

/* A callback may submit the same job again for the next layer. */
static void submit_next_layer(void *user)
{
    chain *c = user;
    apx_ticket ticket;
    int32_t layer = atomic_fetch_add(&c->num_called, 1) + 1;
    if (layer >= NUM_LAYERS) {
        __atomic_store_n(&c->flag, 1, __ATOMIC_RELEASE);
        return;
    }
    apx_submission next = submission_of(c->w, layer, APX_IN_LAYER);
    next.callback = submit_next_layer;
    next.user = c;
    EXPECT(apx_submit(c->pool, &next, &ticket) == APX_OK);
}

static void check_chain(void)
{
    workload w;
    make_workload(&w, 1, short_row, 4, 0);
    chain c = {.pool = make_pool(2, 0, -1), .w = &w};
    apx_ticket ticket;
    apx_submission first = submission_of(&w, 0, APX_IN_LAYER);
    first.callback = submit_next_layer;
    first.user = &c;
    EXPECT(apx_submit(c.pool, &first, &ticket) == APX_OK);
    while (__atomic_load_n(&c.flag, __ATOMIC_ACQUIRE) == 0)
        apx_pause();
    EXPECT(atomic_load(&c.num_called) == NUM_LAYERS);
    apx_pool_destroy(c.pool);
    free_workload(&w);
}

void check_order(void)
{
    check_preemption();
    check_no_nesting_in_layer();
    check_choice();
    check_callback_order();
    check_chain();
}
