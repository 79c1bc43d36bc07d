/* How far ahead the kernels ask for memory: by CPU, or as APEXBENCH_PREFETCH_BYTES says. */
#include <stdlib.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum {
    FAR_ENOUGH = 8192, /* hides DRAM's latency and is a small part of a second-level cache */
    FARTHEST = 1 << 20,
    AMD_ZEN_3_AND_4 = 0x19,
};

/* With one query head per line Zen 4 runs far enough ahead of its own reads, and asking by hand
 * only halves what its prefetchers fetch by themselves; with more heads it does not. */
static ptrdiff_t single_distance = FAR_ENOUGH, group_distance = FAR_ENOUGH;

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
    if (is_zen_3_or_4()) single_distance = 0;
    if (wish == NULL || *wish == '\0') return;
    long bytes = strtol(wish, &end, 10);
    if (*end != '\0' || bytes < 0 || bytes > FARTHEST) return;
    single_distance = group_distance = bytes / APX_LINE * APX_LINE;
}

ptrdiff_t apx_prefetch_bytes(int32_t group)
{
    return group == 1 ? single_distance : group_distance;
}
