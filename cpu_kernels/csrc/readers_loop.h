/* The loop of a reader; the including file says what a vector is.
 *
 * Needs: reader_vector, READER_BYTES (of a vector), reader_zero(), reader_load(address),
 * reader_xor(a, b) and reader_fold(vector) -> uint64_t.
 */
#include "readers.h"

enum { READER_LINE = 64 };

/* One chain of sums for each: a single one would wait for itself. */
typedef struct reader_sums {
    reader_vector a, b, c, d;
} reader_sums;

/* Every line is asked for just ahead of its turn, because bursts of prefetches are dropped. The
 * hint stops at L2, where it takes none of the few places that L1 has for lines on their way. */
static inline reader_vector reader_take(reader_vector sum, const uint8_t *from, int index,
                                        int64_t distance_bytes)
{
    const uint8_t *own = from + index * READER_BYTES;
    if (index * READER_BYTES % READER_LINE == 0 && distance_bytes > 0) {
        __builtin_prefetch(own + distance_bytes, 0, 2);
    }
    return reader_xor(sum, reader_load(own));
}

static inline reader_sums reader_page(const uint8_t *page, int64_t distance_bytes, reader_sums sums)
{
    for (const uint8_t *from = page; from < page + APX_READ_PAGE; from += 4 * READER_BYTES) {
        sums.a = reader_take(sums.a, from, 0, distance_bytes);
        sums.b = reader_take(sums.b, from, 1, distance_bytes);
        sums.c = reader_take(sums.c, from, 2, distance_bytes);
        sums.d = reader_take(sums.d, from, 3, distance_bytes);
    }
    return sums;
}

static uint64_t reader_read(const uint8_t *memory, int64_t stream_bytes, int32_t num_streams,
                            int64_t distance_bytes)
{
    reader_vector zero = reader_zero();
    reader_sums sums = {zero, zero, zero, zero};
    for (int64_t offset = 0; offset < stream_bytes; offset += APX_READ_PAGE) {
        for (int32_t stream = 0; stream < num_streams; stream++) {
            const uint8_t *page = memory + stream * stream_bytes + offset;
            sums = reader_page(page, distance_bytes, sums);
        }
    }
    return reader_fold(reader_xor(reader_xor(sums.a, sums.b), reader_xor(sums.c, sums.d)));
}
