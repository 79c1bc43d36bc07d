/* CPUs, cores and NUMA nodes, as the kernel lists them under /sys. */
#define _GNU_SOURCE
#include "affinity.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"

enum { MAX_LIST = 16384, MAX_NODES = 1024, MAX_NAME = 96 };

void apx_parse_cpus(const char *text, bool *is_in)
{
    while (*text != '\0' && *text != '\n') {
        char *end = NULL;
        long first = strtol(text, &end, 10);
        if (end == text)
            return;
        long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        for (long id = first < 0 ? 0 : first; id <= last && id < APX_MAX_CPUS; ++id)
            is_in[id] = true;
        text = *end == ',' ? end + 1 : end;
    }
}

/* CPUs listed in a file of /sys; false when there is no such file. */
static bool read_list(const char *root, const char *path, bool *is_in)
{
    char text[MAX_LIST];
    memset(is_in, 0, APX_MAX_CPUS * sizeof *is_in);
    if (!apx_read_text(root, path, text, sizeof text))
        return false;
    apx_parse_cpus(text, is_in);
    return true;
}

static int32_t rank_in_core(const char *root, int32_t id)
{
    char path[MAX_NAME];
    bool siblings[APX_MAX_CPUS];
    int32_t rank = 0;
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                   id);
    if (!read_list(root, path, siblings))
        return 0;
    for (int32_t other = 0; other < id; ++other)
        rank += siblings[other] ? 1 : 0;
    return rank;
}

/* Nodes may have gaps in their numbers; without any, all CPUs are on node 0. */
static void read_nodes(const char *root, int32_t *node_of)
{
    bool nodes[APX_MAX_CPUS];
    bool members[APX_MAX_CPUS];
    memset(node_of, 0, APX_MAX_CPUS * sizeof *node_of);
    if (!read_list(root, "/sys/devices/system/node/online", nodes))
        return;
    for (int32_t node = 0; node < MAX_NODES; ++node) {
        char path[MAX_NAME];
        (void)snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
        if (!nodes[node] || !read_list(root, path, members))
            continue;
        for (int32_t id = 0; id < APX_MAX_CPUS; ++id)
            if (members[id])
                node_of[id] = node;
    }
}

static int compare(const void *left, const void *right)
{
    const apx_cpu *a = left;
    const apx_cpu *b = right;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

int32_t apx_order_cpus(const char *root, const bool *is_allowed, apx_cpu *cpus)
{
    int32_t node_of[APX_MAX_CPUS];
    int32_t num_cpus = 0;
    read_nodes(root, node_of);
    for (int32_t id = 0; id < APX_MAX_CPUS; ++id)
        if (is_allowed[id])
            cpus[num_cpus++] = (apx_cpu){id, node_of[id], rank_in_core(root, id)};
    qsort(cpus, (size_t)num_cpus, sizeof *cpus, compare);
    return num_cpus;
}

int32_t apx_list_cpus(const char *root, apx_cpu *cpus)
{
    cpu_set_t sets[APX_MAX_CPUS / CPU_SETSIZE];
    bool is_allowed[APX_MAX_CPUS] = {false};
    memset(sets, 0, sizeof sets);
    if (sched_getaffinity(0, sizeof sets, sets) != 0)
        return 0;
    for (int32_t id = 0; id < APX_MAX_CPUS; ++id)
        is_allowed[id] = CPU_ISSET_S((size_t)id, sizeof sets, sets);
    return apx_order_cpus(root, is_allowed, cpus);
}

void apx_choose_cpus(const apx_cpu *cpus, int32_t num_cpus, int32_t num_threads, int32_t *chosen)
{
    int64_t most = num_threads < num_cpus ? num_threads : num_cpus;
    int32_t worker = 0;
    for (int64_t begin = 0, end; begin < num_cpus; begin = end) {
        for (end = begin; end < num_cpus && cpus[end].node == cpus[begin].node; ++end)
            continue;
        /* Shares that add up: the node's part of a running total. */
        int64_t share = end * most / num_cpus - begin * most / num_cpus;
        for (int64_t i = 0; i < share; ++i)
            chosen[worker++] = cpus[begin + i].id;
    }
    while (worker < num_threads)
        chosen[worker++] = -1;
}
