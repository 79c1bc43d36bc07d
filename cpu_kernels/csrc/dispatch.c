/* Which instruction set the kernels use: asked of the CPU once, at load; forced at any time. */
#include "kernels.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* A build leaves out the files of other architectures: their functions are then NULL. */
#pragma weak apx_kernels_avx2
#pragma weak apx_kernels_avx512
#pragma weak apx_kernels_avx512x
#pragma weak apx_kernels_neon

enum { NUM_LEVELS = APX_ISA_NEON + 1 };

typedef const apx_kernels *(*level_function)(void);

static const char *const level_names[NUM_LEVELS] = {"reference", "avx2", "avx512", "avx512x",
                                                    "neon"};

static atomic_int level_now; /* an apx_isa whose kernels exist */
static char environment_error[160];

#if defined(__x86_64__)
typedef struct features {
    uint32_t leaf1_c, leaf7_b, leaf7_c, leaf7_1_a;
    uint64_t saved_registers; /* XCR0: what the operating system keeps across a switch */
} features;

static uint64_t read_xcr0(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static features read_features(void)
{
    features found = {0, 0, 0, 0, 0};
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (__get_cpuid(1, &a, &b, &c, &d))
        found.leaf1_c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        uint32_t last_subleaf = a;
        found.leaf7_b = b;
        found.leaf7_c = c;
        if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            found.leaf7_1_a = a;
    }
    if (found.leaf1_c & (1u << 27)) /* OSXSAVE: else xgetbv is an illegal instruction */
        found.saved_registers = read_xcr0();
    return found;
}

static bool has_all(uint32_t bits, uint32_t wanted)
{
    return (bits & wanted) == wanted;
}

/* The ladder: the highest rung whose features, and those of all rungs below, are there. */
static apx_isa best_of_cpu(void)
{
    const uint32_t avx_fma_f16c = (1u << 28) | (1u << 12) | (1u << 29);
    const uint32_t f_dq_bw_vl = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
    const uint32_t vbmi_vnni = (1u << 1) | (1u << 11);
    const uint64_t ymm = 0x6;
    const uint64_t zmm = 0xe6;
    features cpu = read_features();
    if (!has_all(cpu.leaf1_c, avx_fma_f16c) || !has_all(cpu.leaf7_b, 1u << 5) ||
        (cpu.saved_registers & ymm) != ymm)
        return APX_ISA_REFERENCE;
    if (!has_all(cpu.leaf7_b, f_dq_bw_vl) || (cpu.saved_registers & zmm) != zmm)
        return APX_ISA_AVX2;
    if (!has_all(cpu.leaf7_c, vbmi_vnni) || !has_all(cpu.leaf7_1_a, 1u << 5))
        return APX_ISA_AVX512;
    return APX_ISA_AVX512X;
}
#elif defined(__aarch64__)
/* Vectors and conversion of FP16 belong to every ARMv8-A; the kernels ask for dot products. */
static apx_isa best_of_cpu(void)
{
    return APX_ISA_NEON;
}
#else
static apx_isa best_of_cpu(void)
{
    return APX_ISA_REFERENCE;
}
#endif

static const apx_kernels *kernels_of(apx_isa isa)
{
    const level_function levels[NUM_LEVELS] = {apx_kernels_reference, apx_kernels_avx2,
                                               apx_kernels_avx512, apx_kernels_avx512x,
                                               apx_kernels_neon};
    level_function level = levels[isa];
    return level != NULL ? level() : NULL;
}

bool apx_isa_is_supported(apx_isa isa)
{
    int number = (int)isa;
    if (number == APX_ISA_REFERENCE)
        return true;
    if (number < 0 || number > (int)best_of_cpu())
        return false;
    return kernels_of(isa) != NULL;
}

const char *apx_isa_name(apx_isa isa)
{
    int number = (int)isa;
    return number >= 0 && number < NUM_LEVELS ? level_names[number] : "unknown";
}

static void refuse_environment(const char *name, const char *reason)
{
    (void)snprintf(environment_error, sizeof environment_error,
                   "APEXBENCH_ISA is '%.40s', %s; the reference kernels are in use", name, reason);
}

static apx_isa level_of_environment(const char *name)
{
    for (int isa = 0; isa < NUM_LEVELS; ++isa) {
        if (strcmp(name, level_names[isa]) != 0)
            continue;
        if (apx_isa_is_supported((apx_isa)isa))
            return (apx_isa)isa;
        refuse_environment(name, "which this CPU or this build does not have");
        return APX_ISA_REFERENCE;
    }
    refuse_environment(name, "which is none of reference, avx2, avx512, avx512x, neon");
    return APX_ISA_REFERENCE;
}

static apx_isa best_level(void)
{
    int isa = (int)best_of_cpu();
    while (isa > APX_ISA_REFERENCE && !apx_isa_is_supported((apx_isa)isa))
        --isa;
    return (apx_isa)isa;
}

/* Before any other code can call: the table is filled once and there is nothing to lock. */
__attribute__((constructor)) static void choose_level(void)
{
    const char *name = getenv("APEXBENCH_ISA");
    bool is_asked = name != NULL && name[0] != '\0';
    atomic_store(&level_now, (int)(is_asked ? level_of_environment(name) : best_level()));
}

apx_isa apx_isa_now(void)
{
    return (apx_isa)atomic_load(&level_now);
}

const char *apx_isa_error(void)
{
    return environment_error[0] != '\0' ? environment_error : NULL;
}

const apx_kernels *apx_kernels_now(void)
{
    return kernels_of(apx_isa_now());
}

apx_status apx_force_isa(apx_isa isa)
{
    if (!apx_isa_is_supported(isa))
        return apx_fail(APX_E_UNSUPPORTED, "this CPU or this build has no level '%s'",
                        apx_isa_name(isa));
    atomic_store(&level_now, (int)isa);
    return APX_OK;
}
