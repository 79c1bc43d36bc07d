/* Many threads at once: each submits, waits, cancels; every result is whole or was never begun. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pool_fixture.h"

enum { NUM_SUBMITTERS = 5, NUM_ROUNDS = 30, MS = 1000000 };

static const int32_t lens[] = {33, 0, 700, 16, 1, 290};
static const int32_t lens_with_a_cut_row[] = {33, 0, 3500, 16, 1, 290};

typedef struct submitter {
    pthread_t thread;
    apx_pool *pools[2];
    uint32_t seed;
    _Atomic int32_t num_cancelled;
} submitter;

static float *results_of(workload *w, int32_t layer)
{
    size_t num_bytes = (size_t)w->out_elements * sizeof(float);
    float *expected = malloc(num_bytes);
    apx_submission submission = submission_of(w, layer, APX_IN_LAYER);
    if (expected == NULL)
        abort();
    EXPECT(apx_run_inline(&submission) == APX_OK);
    memcpy(expected, w->out, num_bytes);
    return expected;
}

static bool is_untouched(const workload *w)
{
    const uint8_t *bytes = (const uint8_t *)w->out;
    for (int64_t i = 0; i < w->out_elements * 4; ++i)
        if (bytes[i] != 0x5a)
            return false;
    return true;
}

static apx_status wait_somehow(apx_pool *pool, apx_ticket ticket, uint32_t choice)
{
    apx_status status;
    switch (choice % 3) {
    case 0:
        while (!apx_done(pool, ticket))
            apx_pause();
        return apx_wait(pool, ticket, 0);
    case 1:
        do {
            status = apx_wait(pool, ticket, MS / 50);
        } while (status == APX_E_TIMEOUT);
        return status;
    default:
        return apx_wait(pool, ticket, -1);
    }
}

static void run_round(submitter *s, workload *w, float *const *expected)
{
    size_t num_bytes = (size_t)w->out_elements * sizeof(float);
    apx_pool *pool = s->pools[next_random(&s->seed) % 2];
    int32_t layer = (int32_t)(next_random(&s->seed) % NUM_LAYERS);
    bool tries_to_cancel = next_random(&s->seed) % 3 == 0;
    apx_submission submission = submission_of(w, layer, (int32_t)(next_random(&s->seed) % 2));
    apx_ticket ticket;
    memset(w->out, 0x5a, num_bytes);
    apx_status status = apx_submit(pool, &submission, &ticket);
    if (status == APX_E_FULL) /* the others have filled it: a small pool on purpose */
        return;
    EXPECT(status == APX_OK);
    bool is_cancelled = tries_to_cancel && apx_cancel(pool, ticket) == APX_OK;
    status = wait_somehow(pool, ticket, next_random(&s->seed));
    EXPECT(status == (is_cancelled ? APX_E_CANCELLED : APX_OK));
    EXPECT(is_cancelled ? is_untouched(w) : memcmp(w->out, expected[layer], num_bytes) == 0);
    atomic_fetch_add(&s->num_cancelled, is_cancelled ? 1 : 0);
}

static void *submit_and_wait(void *argument)
{
    submitter *s = argument;
    workload w;
    float *expected[NUM_LAYERS];
    make_workload(&w, 6, s->seed % 4 == 0 ? lens_with_a_cut_row : lens, s->seed, APX_CHECK_BLOCKS);
    for (int32_t layer = 0; layer < NUM_LAYERS; ++layer)
        expected[layer] = results_of(&w, layer);
    for (int32_t round = 0; round < NUM_ROUNDS; ++round)
        run_round(s, &w, expected);
    for (int32_t layer = 0; layer < NUM_LAYERS; ++layer)
        free(expected[layer]);
    free_workload(&w);
    return NULL;
}

static void stress(int32_t num_threads, int32_t max_in_flight, int64_t spin_ns)
{
    submitter submitters[NUM_SUBMITTERS];
    apx_pool *pools[2] = {make_pool(num_threads, max_in_flight, spin_ns),
                          make_pool(2, 0, spin_ns)};
    for (int32_t i = 0; i < NUM_SUBMITTERS; ++i) {
        submitters[i] = (submitter){.pools = {pools[0], pools[1]}, .seed = (uint32_t)i + 100};
        EXPECT(pthread_create(&submitters[i].thread, NULL, submit_and_wait, &submitters[i]) == 0);
    }
    for (int32_t i = 0; i < NUM_SUBMITTERS; ++i)
        EXPECT(pthread_join(submitters[i].thread, NULL) == 0);
    apx_pool_destroy(pools[0]);
    apx_pool_destroy(pools[1]);
}

/* ------------------------------------------------------------------ one ticket, many threads */

typedef struct shared {
    apx_pool *pool;
    apx_ticket ticket;
    _Atomic int32_t num_ok;
    _Atomic int32_t num_cancelled;
} shared;

static void *wait_for_shared(void *argument)
{
    shared *s = argument;
    apx_status status = apx_wait(s->pool, s->ticket, -1);
    EXPECT(status == APX_OK || status == APX_E_CANCELLED);
    atomic_fetch_add(status == APX_OK ? &s->num_ok : &s->num_cancelled, 1);
    return NULL;
}

static void *cancel_shared(void *argument)
{
    shared *s = argument;
    apx_status status = apx_cancel(s->pool, s->ticket);
    EXPECT(status == APX_OK || status == APX_E_BUSY);
    return NULL;
}

/* All who wait learn the same, whoever wins between the worker and the one who cancels. */
static void check_shared_ticket(void)
{
    enum { NUM_WAITERS = 4, NUM_TICKETS = 30 };
    pthread_t threads[NUM_WAITERS + 1];
    workload w;
    shared s = {.pool = make_pool(2, 0, 0)};
    make_workload(&w, 6, lens, 77, 0);
    apx_submission submission = submission_of(&w, 0, APX_DEFERRED);
    for (int32_t i = 0; i < NUM_TICKETS; ++i) {
        atomic_store(&s.num_ok, 0);
        atomic_store(&s.num_cancelled, 0);
        EXPECT(apx_submit(s.pool, &submission, &s.ticket) == APX_OK);
        for (int32_t t = 0; t <= NUM_WAITERS; ++t)
            EXPECT(pthread_create(&threads[t], NULL, t > 0 ? wait_for_shared : cancel_shared, &s) ==
                   0);
        for (int32_t t = 0; t <= NUM_WAITERS; ++t)
            EXPECT(pthread_join(threads[t], NULL) == 0);
        EXPECT(s.num_ok == 0 || s.num_ok == NUM_WAITERS);
        EXPECT(s.num_ok + s.num_cancelled == NUM_WAITERS);
    }
    apx_pool_destroy(s.pool);
    free_workload(&w);
}

/* A submission that comes just as the worker falls asleep is not forgotten. */
static void check_falling_asleep(void)
{
    enum { NUM_TIMES = 20000, LONGEST_PAUSE = 64 };
    static const int32_t one_token[] = {1};
    workload w;
    apx_ticket ticket;
    uint32_t seed = 1;
    apx_pool *pool = make_pool(1, 0, 0);
    make_workload(&w, 1, one_token, 1, 0);
    apx_submission submission = submission_of(&w, 0, APX_IN_LAYER);
    for (int32_t i = 0; i < NUM_TIMES; ++i) {
        for (uint32_t pauses = next_random(&seed) % LONGEST_PAUSE; pauses > 0; --pauses)
            apx_pause();
        EXPECT(apx_submit(pool, &submission, &ticket) == APX_OK);
        while (!apx_done(pool, ticket)) /* awake, so that the next one comes soon */
            apx_pause();
    }
    apx_pool_destroy(pool);
    free_workload(&w);
}

void check_stress(void)
{
    check_falling_asleep();
    stress(3, 3, -1);
    stress(1, 2, 0);
    check_shared_ticket();
}
