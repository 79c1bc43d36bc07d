/* Memory for a KV cache: huge pages, how much there is, and how much of it huge pages back. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cgroup.h"
#include "kernels.h"

static const int64_t huge_page = 2 << 20;
static const double gib = 1024.0 * 1024.0 * 1024.0;

static int64_t whole_pages(int64_t num_bytes)
{
    return (num_bytes + huge_page - 1) / huge_page * huge_page;
}

/* Maps a page more than asked and gives back what lies before and behind the aligned part. */
static uint8_t *map_aligned(int64_t num_bytes)
{
    void *mapped = mmap(NULL, (size_t)(num_bytes + huge_page), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    uint8_t *start = mapped;
    int64_t before = (huge_page - (int64_t)((uintptr_t)start % (uintptr_t)huge_page)) % huge_page;
    if (before > 0)
        (void)munmap(start, (size_t)before);
    (void)munmap(start + before + num_bytes, (size_t)(huge_page - before));
    return start + before;
}

apx_status apx_memory_map(int64_t num_bytes, void **memory)
{
    if (memory == NULL)
        return apx_fail(APX_E_ARGUMENT, "there is nowhere to put the address: it is NULL");
    *memory = NULL;
    if (num_bytes < 1 || num_bytes > INT64_MAX - 2 * huge_page)
        return apx_fail(APX_E_ARGUMENT, "num_bytes is %" PRId64 "; expected at least 1", num_bytes);
    int64_t available = apx_memory_available();
    if (available >= 0 && num_bytes > available)
        return apx_fail(APX_E_MEMORY, "%.1f GiB were asked for, but only %.1f GiB of memory are "
                                      "available without swapping",
                        (double)num_bytes / gib, (double)available / gib);
    uint8_t *mapped = map_aligned(whole_pages(num_bytes));
    if (mapped == NULL)
        return apx_fail(APX_E_MEMORY, "the system did not map %.1f GiB: %s",
                        (double)num_bytes / gib, strerror(errno));
    (void)madvise(mapped, (size_t)whole_pages(num_bytes), MADV_HUGEPAGE);
    *memory = mapped;
    return APX_OK;
}

void apx_memory_unmap(void *memory, int64_t num_bytes)
{
    if (memory != NULL && num_bytes > 0)
        (void)munmap(memory, (size_t)whole_pages(num_bytes));
}

int64_t apx_memory_available(void)
{
    char text[4096];
    int64_t available_kib = 0;
    if (!apx_read_text("", "/proc/meminfo", text, sizeof text) ||
        !apx_find_number(text, "MemAvailable:", &available_kib))
        return -1;
    int64_t allowed = apx_cgroup_memory("");
    int64_t available = available_kib * 1024;
    return available < allowed ? available : allowed;
}

/* ------------------------------------------------------------------ smaps */

/* The mapping that is being read, and what is found of those inside [begin, end). */
typedef struct smaps {
    uint64_t begin;
    uint64_t end;
    bool is_inside;
    int64_t resident_kib;
    int64_t huge_kib;
} smaps;

static void read_line(smaps *found, const char *line)
{
    uint64_t begin = 0;
    uint64_t end = 0;
    int64_t kib = 0;
    char mode = '\0';
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", &begin, &end, &mode) == 3)
        found->is_inside = begin < found->end && end > found->begin;
    else if (found->is_inside && sscanf(line, "Rss: %" SCNd64, &kib) == 1)
        found->resident_kib += kib;
    else if (found->is_inside && sscanf(line, "AnonHugePages: %" SCNd64, &kib) == 1)
        found->huge_kib += kib;
}

double apx_memory_huge_fraction(const void *memory, int64_t num_bytes)
{
    char line[512];
    smaps found = {.begin = (uintptr_t)memory, .end = (uintptr_t)memory + (uint64_t)num_bytes};
    FILE *file = fopen("/proc/self/smaps", "re");
    if (file == NULL)
        return -1.0;
    while (fgets(line, sizeof line, file) != NULL)
        read_line(&found, line);
    (void)fclose(file);
    return found.resident_kib > 0 ? (double)found.huge_kib / (double)found.resident_kib : -1.0;
}
