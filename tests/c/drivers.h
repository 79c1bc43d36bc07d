/* How the parts of check_kernels work together. */
#ifndef DRIVERS_H
#define DRIVERS_H

#include "cases.h"

typedef struct level {
    apx_isa isa;
    const apx_kernels *kernels;
} level;

/* What one level makes of one case. */
typedef struct outcome {
    guarded layer;
    guarded scratch;
    guarded out;
    guarded lse;
} outcome;

/* What double precision makes of one query head. */
typedef struct exact_head {
    exact_result result;
    double digits_error; /* of scores: int8 writes q as whole numbers */
} exact_head;

/* Reports and counts a failure of the level when the condition does not hold. */
void check(bool holds, const level *l, const test_case *c, const char *what);
int count_failures(void);

/* run_level.c: append, attend and finish of one level, with canaries. */
void check_append(const level *l, const test_case *c, const test_data *data, outcome *made);
void check_attend(const level *l, const test_case *c, const test_data *data, outcome *made);

/* compare.c */
exact_head *new_exact_heads(const test_case *c, const test_data *data);
void check_outputs(const level *l, const test_case *c, const exact_head *exact,
                   const outcome *made);
void print_worst_errors(void);

/* What is no case: arguments, levels, apx_store and apx_load; scalar number formats. Print and
 * return the number of failures. */
int check_interface(void);
int check_numbers(void);

/* bench_kernels.c: prints the time of each level. */
void bench_levels(const level *levels, int32_t num_levels);

#endif
