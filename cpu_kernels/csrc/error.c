/* The last error of each thread, as one sentence. */
#include "kernels.h"

#include <stdarg.h>
#include <stdio.h>

enum { MAX_SENTENCE = 256 };

static _Thread_local char last_error[MAX_SENTENCE];

apx_status apx_fail(apx_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

const char *apx_last_error(void)
{
    return last_error[0] != '\0' ? last_error : "no call of this thread has failed";
}

int32_t apx_abi_version(void)
{
    return APX_ABI_VERSION;
}
