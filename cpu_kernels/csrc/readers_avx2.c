/* The read-limit readers with 32-byte vectors; compiled with -mavx2. */
#include "readers.h"

#if defined(__AVX2__)
#include <immintrin.h>

enum { READER_BYTES = 32 };
typedef __m256i reader_vector;

static inline reader_vector reader_zero(void)
{
    return _mm256_setzero_si256();
}

static inline reader_vector reader_load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

static inline reader_vector reader_xor(reader_vector a, reader_vector b)
{
    return _mm256_xor_si256(a, b);
}

static inline uint64_t reader_fold(reader_vector sum)
{
    uint64_t lanes[READER_BYTES / sizeof(uint64_t)];
    _mm256_storeu_si256((__m256i *)(void *)lanes, sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

#include "readers_loop.h"

apx_read_function apx_read_function_avx2(void)
{
    return reader_read;
}
#else
apx_read_function apx_read_function_avx2(void)
{
    return NULL;
}
#endif
