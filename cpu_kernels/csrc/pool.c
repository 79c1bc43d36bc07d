/* Making and ending a pool. */
#define _GNU_SOURCE
#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "affinity.h"
#include "cgroup.h"

enum { DEFAULT_IN_FLIGHT = 64, DEFAULT_SPIN_NS = 50000, MAX_THREADS = APX_MAX_CPUS };

static int64_t scratch_bytes(int32_t num_threads)
{
    return (int64_t)num_threads * APX_NUM_LEVELS * APX_LEVEL_SCRATCH_BYTES;
}

static void *zeroed_lines(size_t num_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, APX_LINE, num_bytes) != 0)
        return NULL;
    memset(memory, 0, num_bytes);
    return memory;
}

static void free_pool(apx_pool *pool)
{
    for (int32_t i = 0; i < APX_NUM_PRIORITIES; ++i)
        free((void *)pool->queues[i].entries);
    free(pool->slots);
    free(pool->workers);
    if (pool->scratch != NULL)
        (void)munmap(pool->scratch, (size_t)scratch_bytes(pool->num_threads));
    free(pool);
}

/* Address space only: a worker's first use makes it memory, on the worker's node. */
static uint8_t *reserve_scratch(int32_t num_threads)
{
    void *memory = mmap(NULL, (size_t)scratch_bytes(num_threads), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static bool allocate_parts(apx_pool *pool)
{
    uint32_t num_entries = 1;
    while (num_entries < (uint32_t)pool->num_slots)
        num_entries *= 2;
    pool->entry_mask = num_entries - 1;
    pool->slots = zeroed_lines((size_t)pool->num_slots * sizeof *pool->slots);
    pool->workers = zeroed_lines((size_t)pool->num_threads * sizeof *pool->workers);
    pool->scratch = reserve_scratch(pool->num_threads);
    bool is_whole = pool->slots != NULL && pool->workers != NULL && pool->scratch != NULL;
    for (int32_t i = 0; i < APX_NUM_PRIORITIES; ++i) {
        pool->queues[i].entries = zeroed_lines(num_entries * sizeof *pool->queues[i].entries);
        is_whole = is_whole && pool->queues[i].entries != NULL;
    }
    return is_whole;
}

static apx_pool *allocate_pool(const apx_pool_options *options, int32_t num_threads)
{
    apx_pool *pool = zeroed_lines(sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->num_threads = num_threads;
    pool->num_slots = options->max_in_flight > 0 ? options->max_in_flight : DEFAULT_IN_FLIGHT;
    pool->tag = (uint16_t)((uint64_t)apx_now_ns() ^ (uintptr_t)pool / APX_LINE);
    if (!allocate_parts(pool)) {
        free_pool(pool);
        return NULL;
    }
    apx_watch_forks();
    pool->num_forks = apx_num_forks();
    (void)pthread_mutex_init(&pool->submit_lock, NULL);
    (void)pthread_mutex_init(&pool->touch_lock, NULL);
    return pool;
}

/* ------------------------------------------------------------------ threads */

/* Not pinned when the system refuses the CPU, which may have been taken away meanwhile. */
static bool start_thread(apx_worker *worker, const pthread_attr_t *attributes)
{
    if (pthread_create(&worker->thread, attributes, apx_work, worker) == 0)
        return true;
    worker->cpu = -1;
    return pthread_create(&worker->thread, NULL, apx_work, worker) == 0;
}

static bool start_worker(apx_worker *worker)
{
    cpu_set_t sets[APX_MAX_CPUS / CPU_SETSIZE];
    pthread_attr_t attributes;
    if (worker->cpu < 0)
        return pthread_create(&worker->thread, NULL, apx_work, worker) == 0;
    memset(sets, 0, sizeof sets);
    CPU_SET_S((size_t)worker->cpu, sizeof sets, sets);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setaffinity_np(&attributes, sizeof sets, sets);
    bool is_started = start_thread(worker, &attributes);
    (void)pthread_attr_destroy(&attributes);
    return is_started;
}

/* Returns how many started. Signals are for the program's own threads. */
static int32_t start_workers(apx_pool *pool, const int32_t *cpus)
{
    sigset_t all;
    sigset_t before;
    int32_t num_started = 0;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    for (bool is_started = true; is_started && num_started < pool->num_threads;) {
        apx_worker *worker = &pool->workers[num_started];
        worker->pool = pool;
        worker->index = num_started;
        worker->cpu = cpus[num_started];
        worker->scratch = pool->scratch + scratch_bytes(num_started);
        is_started = start_worker(worker);
        num_started += is_started ? 1 : 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return num_started;
}

static void stop_workers(apx_pool *pool, int32_t num_started)
{
    atomic_store(&pool->is_stopping, true);
    apx_ring(pool, INT_MAX);
    for (int32_t i = 0; i < num_started; ++i)
        (void)pthread_join(pool->workers[i].thread, NULL);
}

/* ------------------------------------------------------------------ create and destroy */

static apx_status check_options(const apx_pool_options *options)
{
    if (options->num_threads < 0 || options->num_threads > MAX_THREADS)
        return apx_fail(APX_E_ARGUMENT, "num_threads is %d; expected 0 (as many as this process "
                                        "may use) to %d", options->num_threads, MAX_THREADS);
    if (options->max_in_flight < 0 || options->max_in_flight > APX_MAX_IN_FLIGHT)
        return apx_fail(APX_E_ARGUMENT, "max_in_flight is %d; expected 0 (%d) to %d",
                        options->max_in_flight, DEFAULT_IN_FLIGHT, APX_MAX_IN_FLIGHT);
    return APX_OK;
}

/* CPUs this process may keep busy: of its affinity, and no more than the quota's worth. */
static int32_t usable_cpus(int32_t num_cpus)
{
    int32_t quota = apx_cgroup_cpus("");
    int32_t usable = num_cpus < quota ? num_cpus : quota;
    return usable < 1 ? 1 : usable;
}

/* With more workers than CPUs, one that spins takes time from one that computes. */
static int64_t spin_time(const apx_pool_options *options, int32_t num_threads, int32_t usable)
{
    if (options->spin_ns >= 0)
        return options->spin_ns;
    return num_threads > usable ? 0 : DEFAULT_SPIN_NS;
}

static void choose_cpus(const apx_pool_options *options, const apx_cpu *cpus, int32_t num_cpus,
                        int32_t num_threads, int32_t *chosen)
{
    if (options->is_pinned != 0)
        apx_choose_cpus(cpus, num_cpus, num_threads, chosen);
    else
        for (int32_t i = 0; i < num_threads; ++i)
            chosen[i] = -1;
}

apx_status apx_pool_create(const apx_pool_options *options, apx_pool **pool)
{
    apx_cpu cpus[APX_MAX_CPUS];
    int32_t chosen[MAX_THREADS];
    if (options == NULL || pool == NULL)
        return apx_fail(APX_E_ARGUMENT, "%s is NULL", options == NULL ? "options" : "pool");
    *pool = NULL;
    apx_status status = check_options(options);
    if (status != APX_OK)
        return status;
    int32_t num_cpus = apx_list_cpus("", cpus);
    int32_t usable = usable_cpus(num_cpus);
    int32_t num_threads = options->num_threads > 0 ? options->num_threads : usable;
    apx_pool *created = allocate_pool(options, num_threads);
    if (created == NULL)
        return apx_fail(APX_E_MEMORY, "no memory for a pool of %d threads", num_threads);
    created->spin_ns = spin_time(options, num_threads, usable);
    choose_cpus(options, cpus, num_cpus, num_threads, chosen);
    int32_t num_started = start_workers(created, chosen);
    if (num_started < num_threads) {
        stop_workers(created, num_started);
        free_pool(created);
        return apx_fail(APX_E_MEMORY, "the system started only %d of %d threads", num_started,
                        num_threads);
    }
    *pool = created;
    return APX_OK;
}

static void cancel_all(apx_pool *pool)
{
    for (int32_t i = 0; i < pool->num_slots; ++i) {
        apx_slot *slot = &pool->slots[i];
        uint32_t word = atomic_load(&slot->word);
        if (word % 2 == 1 && apx_cancel_slot(slot, word))
            apx_finish_slot(slot, true);
    }
}

void apx_pool_destroy(apx_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->num_forks == apx_num_forks()) { /* in a child there is nobody to stop or to join */
        (void)pthread_mutex_lock(&pool->submit_lock);
        pool->is_closed = true;
        (void)pthread_mutex_unlock(&pool->submit_lock);
        cancel_all(pool);
        stop_workers(pool, pool->num_threads);
        while (atomic_load(&pool->num_inside) > 0)
            (void)sched_yield(); /* all tickets are done: waiters are on their way out */
        (void)pthread_mutex_destroy(&pool->submit_lock);
        (void)pthread_mutex_destroy(&pool->touch_lock);
    }
    free_pool(pool);
}

int32_t apx_pool_num_threads(const apx_pool *pool)
{
    return pool != NULL ? pool->num_threads : 0;
}

int32_t apx_pool_cpu(const apx_pool *pool, int32_t worker)
{
    if (pool == NULL || worker < 0 || worker >= pool->num_threads)
        return -1;
    return pool->workers[worker].cpu;
}
