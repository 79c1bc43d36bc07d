/* The read-limit readers with 64-byte vectors; compiled with -mavx512f. */
#include "readers.h"

#if defined(__AVX512F__)
#include <immintrin.h>

enum { READER_BYTES = 64 };
typedef __m512i reader_vector;

static inline reader_vector reader_zero(void)
{
    return _mm512_setzero_si512();
}

static inline reader_vector reader_load(const uint8_t *from)
{
    return _mm512_loadu_si512(from);
}

static inline reader_vector reader_xor(reader_vector a, reader_vector b)
{
    return _mm512_xor_si512(a, b);
}

static inline uint64_t reader_fold(reader_vector sum)
{
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}

#include "readers_loop.h"

apx_read_function apx_read_function_avx512(void)
{
    return reader_read;
}
#else
apx_read_function apx_read_function_avx512(void)
{
    return NULL;
}
#endif
