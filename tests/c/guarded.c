#include "guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, num_bytes) ((void)(address), (void)(num_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, num_bytes) ((void)(address), (void)(num_bytes))
#endif

enum { CANARY_BYTES = 128, CANARY = 0xA5, ALIGNMENT = 64 };

/* Poisoning works in granules of 8 bytes of which only a tail may be poisoned, so the front canary
 * ends a granule before data that begins inside one. */
static size_t front_bytes(const guarded *buffer)
{
    return (size_t)(buffer->data - buffer->allocation);
}

guarded guarded_new(size_t num_bytes, size_t offset)
{
    size_t total = CANARY_BYTES + offset + num_bytes + CANARY_BYTES;
    guarded buffer = {NULL, num_bytes, NULL};
    total = (total + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    buffer.allocation = aligned_alloc(ALIGNMENT, total);
    if (buffer.allocation == NULL) {
        (void)fprintf(stderr, "no memory for %zu bytes\n", total);
        exit(2);
    }
    memset(buffer.allocation, CANARY, total);
    buffer.data = buffer.allocation + CANARY_BYTES + offset;
    ASAN_POISON_MEMORY_REGION(buffer.allocation, front_bytes(&buffer) / 8 * 8);
    ASAN_POISON_MEMORY_REGION(buffer.data + num_bytes, CANARY_BYTES);
    return buffer;
}

static bool is_canary(const uint8_t *begin, size_t num_bytes)
{
    for (size_t i = 0; i < num_bytes; ++i)
        if (begin[i] != CANARY)
            return false;
    return true;
}

bool is_intact(const guarded *buffer)
{
    uint8_t *behind = buffer->data + buffer->num_bytes;
    ASAN_UNPOISON_MEMORY_REGION(buffer->allocation, front_bytes(buffer));
    ASAN_UNPOISON_MEMORY_REGION(behind, CANARY_BYTES);
    bool intact = is_canary(buffer->allocation, front_bytes(buffer)) &&
                  is_canary(behind, CANARY_BYTES);
    ASAN_POISON_MEMORY_REGION(buffer->allocation, front_bytes(buffer) / 8 * 8);
    ASAN_POISON_MEMORY_REGION(behind, CANARY_BYTES);
    return intact;
}

void guarded_free(guarded *buffer)
{
    size_t total = front_bytes(buffer) + buffer->num_bytes + CANARY_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(buffer->allocation, total);
    free(buffer->allocation);
    buffer->allocation = NULL;
}

uint64_t random_bits(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int32_t random_below(uint64_t *state, int32_t limit)
{
    return (int32_t)(random_bits(state) % (uint64_t)limit);
}

double random_unit(uint64_t *state)
{
    return (double)(random_bits(state) >> 11) * 0x1p-52 - 1.0;
}
