/* Small jobs for the tests of the pool: on the reference kernels, or on kernels that a test holds
 * in its hand. */
#ifndef POOL_FIXTURE_H
#define POOL_FIXTURE_H

#include "job.h"

/* Counts and prints a condition that does not hold. Any thread. */
void report_failure(const char *file, int line, const char *what);
#define EXPECT(condition) ((condition) ? (void)0 : report_failure(__FILE__, __LINE__, #condition))
int count_failures(void);

/* A sequence of numbers that is the same in every run. */
uint32_t next_random(uint32_t *state);

/* A job with everything it needs. */
typedef struct workload {
    apx_cache cache;
    void *memory;
    int64_t memory_bytes;
    apx_batch batch;
    int32_t *lens;
    int32_t *tables;
    apx_job *job;
    apx_io io;
    float *q;
    float *k_new;
    float *v_new;
    float *out;
    float *lse;
    int64_t out_elements;
} workload;

enum { NUM_LAYERS = 3 };

/* fp32, 2 KV heads, 4 query heads of 16 dimensions, blocks of 16 tokens: 256 bytes a token. Each
 * row has blocks of its own, scattered. Ends the program without memory. */
void make_workload(workload *w, int32_t num_rows, const int32_t *lens, uint32_t seed,
                   int32_t flags);
void free_workload(workload *w);
apx_submission submission_of(const workload *w, int32_t layer, int32_t priority);
apx_pool *make_pool(int32_t num_threads, int32_t max_in_flight, int64_t spin_ns);

/* Kernels whose attend() writes down that it began and ended, calls poll between, and can be held
 * by a gate. Which job it is stands in softmax_scale: a whole number. */
enum { MAX_EVENTS = 64, GATE_OPEN = 0 };

typedef struct event {
    int32_t job;
    bool is_end;
} event;

void use_gated_kernels(workload *w, int32_t number);
/* Holds the pieces of job `number` before they poll and end, until the gate is set again. */
void set_gate(int32_t number);
/* Sleeps until so many events are written down. */
void wait_for_events(int32_t count);
int32_t read_events(event *events);
void clear_events(void);

/* The parts of check_pool. */
void check_plan(void);
void check_bits(void);
void check_order(void);
void check_tickets(void);
void check_stress(void);
void check_ends(void);
void check_exit(void); /* before the process has threads */
void check_system(const char *folder); /* a folder that may be written to */

#endif
