/* Growing memory for what a job keeps. */
#define _GNU_SOURCE
#include "job.h"

#include <stdlib.h>
#include <string.h>

bool apx_buffer_reserve(apx_buffer *buffer, int64_t num_bytes, int64_t kept)
{
    if (num_bytes <= buffer->num_bytes)
        return true;
    /* Half more than asked, so that a batch growing row by row does not allocate each time. */
    int64_t wanted = (num_bytes + num_bytes / 2 + APX_LINE - 1) / APX_LINE * APX_LINE;
    void *memory = NULL;
    if (posix_memalign(&memory, APX_LINE, (size_t)wanted) != 0) {
        (void)apx_fail(APX_E_MEMORY, "no memory for %lld bytes of a job's plan",
                       (long long)wanted);
        return false;
    }
    if (kept > 0)
        memcpy(memory, buffer->memory, (size_t)kept);
    free(buffer->memory);
    buffer->memory = memory;
    buffer->num_bytes = wanted;
    return true;
}

void apx_buffer_free(apx_buffer *buffer)
{
    free(buffer->memory);
    buffer->memory = NULL;
    buffer->num_bytes = 0;
}
