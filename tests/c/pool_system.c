/* CPUs, quotas and memory: the parsing on fixtures of several machines, the rest on this one. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "affinity.h"
#include "cgroup.h"
#include "pool_fixture.h"

enum { MAX_PATH = 1024, MIB = 1 << 20 };

/* Writes a file under the folder, and the folders on the way to it. */
static void write_file(const char *folder, const char *path, const char *text)
{
    char whole[MAX_PATH];
    (void)snprintf(whole, sizeof whole, "%s%s", folder, path);
    for (char *slash = whole + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; ++slash) {
        *slash = '\0';
        (void)mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    EXPECT(file != NULL);
    if (file == NULL)
        return;
    EXPECT(fputs(text, file) >= 0);
    EXPECT(fclose(file) == 0);
}

/* A root of its own under the folder. */
static const char *new_root(const char *folder, const char *name)
{
    static char root[MAX_PATH];
    (void)snprintf(root, sizeof root, "%s/%s", folder, name);
    (void)mkdir(root, 0700);
    return root;
}

/* ------------------------------------------------------------------ control groups */

static void check_no_cgroup(const char *folder)
{
    const char *root = new_root(folder, "none");
    EXPECT(apx_cgroup_cpus(root) == INT32_MAX);
    EXPECT(apx_cgroup_memory(root) == INT64_MAX);
    write_file(root, "/proc/self/cgroup", "0::/\n"); /* and no limits anywhere */
    EXPECT(apx_cgroup_cpus(root) == INT32_MAX);
    EXPECT(apx_cgroup_memory(root) == INT64_MAX);
}

/* The parent's limit is the smaller one; half a CPU does not make a thread. */
static void check_cgroup_v2(const char *folder)
{
    const char *root = new_root(folder, "v2");
    write_file(root, "/proc/self/cgroup", "0::/user/job\n");
    write_file(root, "/sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
    write_file(root, "/sys/fs/cgroup/user/cpu.max", "350000 100000\n");
    write_file(root, "/sys/fs/cgroup/user/job/memory.max", "5000\n");
    write_file(root, "/sys/fs/cgroup/user/job/memory.current", "4000\n");
    write_file(root, "/sys/fs/cgroup/user/job/memory.stat", "anon 9\ninactive_file 1500\n");
    write_file(root, "/sys/fs/cgroup/user/memory.max", "max\n");
    write_file(root, "/sys/fs/cgroup/user/memory.current", "8000\n");
    EXPECT(apx_cgroup_cpus(root) == 3);
    EXPECT(apx_cgroup_memory(root) == 2500);
    write_file(root, "/sys/fs/cgroup/user/job/cpu.max", "50000 100000\n");
    EXPECT(apx_cgroup_cpus(root) == 1);
    write_file(root, "/sys/fs/cgroup/user/job/memory.current", "9000\n");
    EXPECT(apx_cgroup_memory(root) == 0);
}

/* In a container the path is that of the host, but only the mount itself is there. */
static void check_cgroup_v1(const char *folder)
{
    const char *root = new_root(folder, "v1");
    write_file(root, "/proc/self/cgroup",
               "12:cpuset:/docker/a\n4:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n0::/\n");
    write_file(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    write_file(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    write_file(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
    write_file(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
    write_file(root, "/sys/fs/cgroup/memory/memory.stat",
               "inactive_file 1\ntotal_inactive_file 200\n");
    EXPECT(apx_cgroup_cpus(root) == 2);
    EXPECT(apx_cgroup_memory(root) == 6200);
    write_file(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    EXPECT(apx_cgroup_cpus(root) == INT32_MAX);
}

/* ------------------------------------------------------------------ CPUs */

static void check_parsing(void)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {{"0-3\n", "1111000000"}, {"0,2,5-6,9\n", "1010011001"}, {"", "0000000000"},
                 {"\n", "0000000000"},    {"7", "0000000100"},           {"x", "0000000000"},
                 {"4-3", "0000000000"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        bool is_in[APX_MAX_CPUS] = {false};
        apx_parse_cpus(cases[i].text, is_in);
        for (int32_t id = 0; id < 10; ++id)
            EXPECT(is_in[id] == (cases[i].expected[id] == '1'));
    }
    bool is_in[APX_MAX_CPUS] = {false};
    apx_parse_cpus("4090-5000", is_in); /* more than there is room for */
    EXPECT(is_in[APX_MAX_CPUS - 1]);
}

/* Nodes 0 and 2; CPUs 0 and 1 are of one core, and so on; CPU 5 is not ours. */
static void check_two_nodes(const char *folder)
{
    static const int32_t expected_ids[] = {0, 2, 1, 3, 4, 6, 7};
    const char *root = new_root(folder, "nodes");
    apx_cpu cpus[APX_MAX_CPUS];
    bool is_allowed[APX_MAX_CPUS] = {true, true, true, true, true, false, true, true};
    write_file(root, "/sys/devices/system/node/online", "0,2\n");
    write_file(root, "/sys/devices/system/node/node0/cpulist", "0-3\n");
    write_file(root, "/sys/devices/system/node/node2/cpulist", "4,5-7\n");
    for (int32_t id = 0; id < 8; ++id) {
        char path[128];
        char text[16];
        (void)snprintf(path, sizeof path,
                       "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", id);
        (void)snprintf(text, sizeof text, "%d-%d\n", id / 2 * 2, id / 2 * 2 + 1);
        write_file(root, path, text);
    }
    int32_t num_cpus = apx_order_cpus(root, is_allowed, cpus);
    EXPECT(num_cpus == 7);
    for (int32_t i = 0; i < num_cpus; ++i) {
        EXPECT(cpus[i].id == expected_ids[i]);
        EXPECT(cpus[i].node == (i < 4 ? 0 : 2) && cpus[i].rank == cpus[i].id % 2);
    }
}

static void expect_chosen(const apx_cpu *cpus, int32_t num_cpus, int32_t num_threads,
                          const int32_t *expected)
{
    int32_t chosen[8];
    apx_choose_cpus(cpus, num_cpus, num_threads, chosen);
    EXPECT(memcmp(chosen, expected, (size_t)num_threads * sizeof *chosen) == 0);
}

/* Every node its share, node after node; workers beyond the CPUs are not pinned. */
static void check_choosing(void)
{
    static const apx_cpu cpus[] = {{0, 0, 0}, {1, 0, 0}, {4, 0, 1}, {5, 0, 1},
                                   {2, 1, 0}, {3, 1, 0}, {6, 1, 1}, {7, 1, 1}};
    expect_chosen(cpus, 8, 4, (const int32_t[]){0, 1, 2, 3});
    expect_chosen(cpus, 8, 2, (const int32_t[]){0, 2});
    expect_chosen(cpus, 8, 8, (const int32_t[]){0, 1, 4, 5, 2, 3, 6, 7});
    expect_chosen(cpus, 2, 4, (const int32_t[]){0, 1, -1, -1});
    expect_chosen(cpus, 0, 2, (const int32_t[]){-1, -1});
}

static void check_this_machine(void)
{
    apx_cpu cpus[APX_MAX_CPUS];
    int32_t num_cpus = apx_list_cpus("", cpus);
    apx_pool *pool = NULL;
    apx_pool_options options = {.num_threads = num_cpus + 3, .is_pinned = 1, .spin_ns = -1};
    EXPECT(num_cpus > 0);
    EXPECT(apx_pool_create(&options, &pool) == APX_OK);
    EXPECT(apx_pool_num_threads(pool) == num_cpus + 3);
    for (int32_t i = 0; i < num_cpus + 3; ++i) {
        bool is_known = false;
        for (int32_t c = 0; c < num_cpus; ++c)
            is_known = is_known || cpus[c].id == apx_pool_cpu(pool, i);
        EXPECT(is_known == (i < num_cpus));
    }
    EXPECT(apx_pool_cpu(pool, -1) == -1 && apx_pool_cpu(pool, num_cpus + 3) == -1);
    apx_pool_destroy(pool);
    options.num_threads = -1;
    EXPECT(apx_pool_create(&options, &pool) == APX_E_ARGUMENT && pool == NULL);
    options.num_threads = 1;
    options.max_in_flight = -1;
    EXPECT(apx_pool_create(&options, &pool) == APX_E_ARGUMENT);
}

/* ------------------------------------------------------------------ memory */

static void check_memory(void)
{
    void *memory = NULL;
    int64_t num_bytes = 5 * MIB + 12345;
    EXPECT(apx_memory_available() > 0);
    EXPECT(apx_memory_map(num_bytes, &memory) == APX_OK);
    EXPECT(memory != NULL && (uintptr_t)memory % (2 * MIB) == 0);
    EXPECT(apx_memory_huge_fraction(memory, num_bytes) < 0.0); /* nothing is resident yet */
    memset(memory, 1, (size_t)num_bytes);
    double fraction = apx_memory_huge_fraction(memory, num_bytes);
    EXPECT(fraction >= 0.0 && fraction <= 1.0);
    apx_memory_unmap(memory, num_bytes);
    EXPECT(apx_memory_huge_fraction(memory, num_bytes) < 0.0);
    EXPECT(apx_memory_map(0, &memory) == APX_E_ARGUMENT);
    EXPECT(apx_memory_map(-5, &memory) == APX_E_ARGUMENT);
    EXPECT(apx_memory_map(INT64_MAX, &memory) == APX_E_ARGUMENT);
    EXPECT(apx_memory_map(INT64_MAX / 2, &memory) == APX_E_MEMORY && memory == NULL);
    EXPECT(strstr(apx_last_error(), "available") != NULL);
}

/* Every byte of the range and none beside it, whatever the alignment and the number of workers. */
static void check_touch(void)
{
    enum { PAGE = 2 * MIB, MARGIN = 64 };
    static const int64_t sizes[] = {0, 1, 1000, PAGE, 3 * PAGE + 17};
    uint8_t *memory = malloc(5 * (size_t)PAGE);
    apx_pool *pool = make_pool(3, 0, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && memory != NULL; ++i) {
        memset(memory, 0xff, 5 * (size_t)PAGE);
        EXPECT(apx_pool_touch(pool, memory + MARGIN, sizes[i]) == APX_OK);
        for (int64_t at = 0; at < sizes[i]; ++at)
            EXPECT(memory[MARGIN + at] == 0);
        EXPECT(memory[MARGIN - 1] == 0xff && memory[MARGIN + sizes[i]] == 0xff);
    }
    EXPECT(apx_pool_touch(pool, NULL, 1) == APX_E_ARGUMENT);
    apx_pool_destroy(pool);
    free(memory);
}

void check_system(const char *folder)
{
    check_no_cgroup(folder);
    check_cgroup_v2(folder);
    check_cgroup_v1(folder);
    check_parsing();
    check_two_nodes(folder);
    check_choosing();
    check_this_machine();
    check_memory();
    check_touch();
}
