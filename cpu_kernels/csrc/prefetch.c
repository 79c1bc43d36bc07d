/* How far ahead the kernels ask for memory: by CPU and shape, or as APEXBENCH_PREFETCH_BYTES says. */
#include <stdlib.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum {
    FAR_ENOUGH = 8192, /* hides DRAM's latency and is a small part of a second-level cache */
    FARTHEST = 1 << 20,
    AMD_ZEN_3_AND_4 = 0x19,
    LONG_TILE = 64, /* tokens */
    SHORT_WORK = 4, /* multiply-adds per line; one per cycle, a line takes 7 to 8 cycles to come */
};

static ptrdiff_t distance = FAR_ENOUGH;
static bool is_chosen_by_shape = false;

#if defined(__x86_64__)
static bool is_zen_3_or_4(void)
{
    unsigned int a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    return ((a >> 8) & 0xf) + ((a >> 20) & 0xff) == AMD_ZEN_3_AND_4;
}
#else
static bool is_zen_3_or_4(void) { return false; }
#endif

__attribute__((constructor)) static void choose_distance(void)
{
    const char *wish = getenv("APEXBENCH_PREFETCH_BYTES");
    char *end = NULL;
    is_chosen_by_shape = is_zen_3_or_4();
    if (wish == NULL || *wish == '\0') return;
    long bytes = strtol(wish, &end, 10);
    if (*end != '\0' || bytes < 0 || bytes > FARTHEST) return;
    is_chosen_by_shape = false;
    distance = bytes / APX_LINE * APX_LINE;
}

/* Zen 4's own prefetchers read faster than it can be asked to, as long as the core keeps up with
 * them: little arithmetic per line, and tiles long enough that the state of a group of heads, which
 * is fetched for each tile, is little beside it. */
static bool runs_ahead_by_itself(const apx_shape *shape, int32_t line_work)
{
    return shape->group == 1 || line_work * LONG_TILE <= SHORT_WORK * shape->block_size;
}

ptrdiff_t apx_prefetch_bytes(const apx_shape *shape, int32_t line_work)
{
    return is_chosen_by_shape && runs_ahead_by_itself(shape, line_work) ? 0 : distance;
}
