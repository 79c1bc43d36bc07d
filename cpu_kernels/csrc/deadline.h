/* Time kept in C for callers that must not hold an interpreter's lock meanwhile.
 *
 * All times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef APX_DEADLINE_H
#define APX_DEADLINE_H

#include "apx.h"

/* Returns at or after deadline_ns, at once when it has passed, and says when: sleeps until spin_ns
 * before the deadline and polls the clock from there. The first call of a thread that sleeps takes
 * the slack off its timers (prctl PR_SET_TIMERSLACK), which would add 50 us to every sleep. */
APX_API int64_t apx_wait_until(int64_t deadline_ns, int64_t spin_ns);

/* An apx_callback that writes the time into the int64_t at `when`: when a job was done. */
APX_API void apx_stamp(void *when);
#endif
