/* Which CPUs this process may use, and which of them a pool's workers get. Internal. */
#ifndef APX_AFFINITY_H
#define APX_AFFINITY_H

#include <stdbool.h>
#include <stdint.h>

enum { APX_MAX_CPUS = 4096 };

typedef struct apx_cpu {
    int32_t id;
    int32_t node;
    int32_t rank; /* among the hardware threads of its core: 0 is the core's first */
} apx_cpu;

/* CPUs of this thread's affinity, node after node, within a node the first hardware threads of all
 * cores before the second ones. Returns their number, at most APX_MAX_CPUS; 0: unknown. */
int32_t apx_list_cpus(const char *root, apx_cpu *cpus);

/* The same of a given set: is_allowed[id], APX_MAX_CPUS entries. */
int32_t apx_order_cpus(const char *root, const bool *is_allowed, apx_cpu *cpus);

/* Gives num_threads workers a CPU each, node after node, every node its share of them; workers
 * beyond the CPUs get -1. chosen: [num_threads]. */
void apx_choose_cpus(const apx_cpu *cpus, int32_t num_cpus, int32_t num_threads, int32_t *chosen);

/* Parses "0-3,8": sets is_in[id] for ids below APX_MAX_CPUS. */
void apx_parse_cpus(const char *text, bool *is_in);

#endif
