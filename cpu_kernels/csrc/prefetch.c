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
    /* Arithmetic instructions per line from which Zen 4 no longer runs far enough ahead of its
     * own reads. Below, asking by hand halves what its prefetchers fetch by themselves. */
    HEAVY = 8
};

static ptrdiff_t light_distance = FAR_ENOUGH, heavy_distance = FAR_ENOUGH;

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
    if (is_zen_3_or_4()) light_distance = 0;
    if (wish == NULL || *wish == '\0') return;
    long bytes = strtol(wish, &end, 10);
    if (*end != '\0' || bytes < 0 || bytes > FARTHEST) return;
    light_distance = heavy_distance = bytes / APX_LINE * APX_LINE;
}

ptrdiff_t apx_prefetch_bytes(int32_t operations_per_line)
{
    return operations_per_line < HEAVY ? light_distance : heavy_distance;
}
