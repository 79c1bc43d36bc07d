/* Buffers with canaries on both sides, and the random numbers of the drivers. */
#ifndef GUARDED_H
#define GUARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory whose neighbours nobody may touch. Under AddressSanitizer touching them is an error at
 * once, otherwise is_intact() finds what was written. */
typedef struct guarded {
    uint8_t *data;      /* 64-byte aligned, then `offset` bytes further */
    size_t num_bytes;
    uint8_t *allocation;
} guarded;

guarded guarded_new(size_t num_bytes, size_t offset);
bool is_intact(const guarded *buffer);
void guarded_free(guarded *buffer);

/* splitmix64: the same numbers on every machine. */
uint64_t random_bits(uint64_t *state);
int32_t random_below(uint64_t *state, int32_t limit);  /* 0 .. limit - 1 */
double random_unit(uint64_t *state);                   /* -1 .. 1 */

#endif
