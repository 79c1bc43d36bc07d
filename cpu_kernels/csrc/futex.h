/* Sleeping on a word of memory, and the clock and the pause that go with spinning before it. */
#ifndef APX_FUTEX_H
#define APX_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { APX_PAUSES_PER_CLOCK = 32 }; /* reading the clock costs as much as a few pauses */

typedef _Atomic uint32_t apx_word;

static inline int64_t apx_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sleeps while *word == expected; timeout_ns < 0: for ever. May wake early for no reason. */
static inline void apx_sleep_on(apx_word *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected,
                  timeout_ns < 0 ? NULL : &timeout, NULL, 0);
}

/* Only the address is used: the memory may already belong to somebody else, who then sees at most
 * a wake-up without a reason. */
static inline void apx_wake(apx_word *word, int32_t most)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, most, NULL, NULL, 0);
}

static inline void apx_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
#endif
