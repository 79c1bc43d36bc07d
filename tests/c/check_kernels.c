/* Checks every level of this build against double precision on hostile data; or times them.
 *
 *   check_kernels [--stride N] [--offset N] [--isa NAME] [--verbose]
 *   check_kernels --bench [--isa NAME]
 *
 * Every N-th case from the offset on. One line per failure; exits with 1 if there were any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers.h"

enum { MAX_LINES = 40 };

typedef struct options {
    int32_t stride;
    int32_t offset;
    const char *isa; /* NULL: all */
    bool is_verbose;
    bool is_bench;
} options;

static int num_failures;

int count_failures(void)
{
    return num_failures;
}

void check(bool holds, const level *l, const test_case *c, const char *what)
{
    char text[256];
    if (holds || ++num_failures > MAX_LINES)
        return;
    describe_case(c, text, sizeof text);
    (void)printf("FAIL %s case %d %s: %s\n", apx_isa_name(l->isa),
                 (int)(c->seed - FIRST_SEED), text, what);
}

static int32_t find_levels(const char *wanted, level *levels)
{
    int32_t count = 0;
    for (int isa = 0; isa <= APX_ISA_NEON; ++isa) {
        bool is_wanted = wanted == NULL || strcmp(wanted, apx_isa_name((apx_isa)isa)) == 0;
        if (!is_wanted || apx_force_isa((apx_isa)isa) != APX_OK)
            continue;
        levels[count].isa = (apx_isa)isa;
        levels[count++].kernels = apx_kernels_now();
    }
    return count;
}

static void check_level(const level *l, const test_case *c, const test_data *data,
                        const exact_head *exact)
{
    size_t heads = (size_t)(c->shape.num_kv_heads * c->shape.group);
    size_t element = (size_t)apx_element_bytes(c->q_dtype);
    outcome made = {guarded_new(data->background.num_bytes, 0),
                    guarded_new((size_t)apx_scratch_bytes(&c->shape), 0),
                    guarded_new(heads * (size_t)c->shape.head_dim * element, element),
                    guarded_new(heads * sizeof(float), sizeof(float))};
    check_append(l, c, data, &made);
    check_attend(l, c, data, &made);
    check_outputs(l, c, exact, &made);
    guarded *buffers[] = {&made.layer, &made.scratch, &made.out, &made.lse};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        guarded_free(buffers[i]);
}

static void check_cases(const options *o, const level *levels, int32_t num_levels)
{
    for (int32_t number = o->offset; number < num_test_cases(); number += o->stride) {
        test_case c = test_case_of(number);
        test_data data;
        make_data(&c, &data);
        exact_head *exact = new_exact_heads(&c, &data);
        for (int32_t i = 0; i < num_levels; ++i)
            check_level(levels + i, &c, &data, exact);
        free(exact);
        free_data(&c, &data);
    }
}

static bool parse(int count, char **arguments, options *o)
{
    for (int i = 1; i < count; ++i) {
        const char *name = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : "";
        if (strcmp(name, "--verbose") == 0) {
            o->is_verbose = true;
            continue;
        }
        if (strcmp(name, "--bench") == 0) {
            o->is_bench = true;
            continue;
        }
        if (strcmp(name, "--stride") == 0)
            o->stride = (int32_t)strtol(value, NULL, 10);
        else if (strcmp(name, "--offset") == 0)
            o->offset = (int32_t)strtol(value, NULL, 10);
        else if (strcmp(name, "--isa") == 0)
            o->isa = value;
        else
            return false;
        ++i;
    }
    return o->stride > 0 && o->offset >= 0;
}

int main(int count, char **arguments)
{
    options o = {1, 0, NULL, false, false};
    level levels[APX_ISA_NEON + 1];
    if (!parse(count, arguments, &o)) {
        (void)fprintf(stderr, "usage: check_kernels [--stride N] [--offset N] [--isa NAME] "
                              "[--verbose] [--bench]\n");
        return 2;
    }
    int32_t num_levels = find_levels(o.isa, levels);
    if (num_levels == 0) {
        (void)printf("FAIL no level '%s' in this build or on this CPU\n", o.isa);
        return 1;
    }
    if (o.is_bench) {
        bench_levels(levels, num_levels);
        return 0;
    }
    check_cases(&o, levels, num_levels);
    int failures = count_failures() + check_interface() + check_numbers();
    if (o.is_verbose)
        print_worst_errors();
    (void)printf("%d cases, %d levels, %d failures\n",
                 (num_test_cases() - o.offset + o.stride - 1) / o.stride, num_levels, failures);
    return failures != 0;
}
