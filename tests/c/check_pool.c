/* Tests of the plan, the pool, its tickets and what they ask of the system; for the sanitizers.
 *
 * check_pool FOLDER [times]: FOLDER may be written to; repeats all parts, 1 by default. Prints what
 * does not hold; exits with 0 only if all does. Together with the pool_*.c beside it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "pool_fixture.h"

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)printf("usage: check_pool FOLDER [times]\n");
        return 2;
    }
    check_exit();
    for (long times = argc > 2 ? strtol(argv[2], NULL, 10) : 1; times > 0; --times) {
        check_plan();
        check_bits();
        check_order();
        check_tickets();
        check_stress();
        check_ends();
        check_system(argv[1]);
    }
    (void)printf("%d failures\n", count_failures());
    return count_failures() == 0 ? 0 : 1;
}
