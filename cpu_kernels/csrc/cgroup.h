/* What the control groups of this process leave it of CPUs and memory. Internal.
 *
 * root is put before every path: "" on a real machine, a folder of fixtures in tests. */
#ifndef APX_CGROUP_H
#define APX_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whole CPUs' worth of time, at least 1; INT32_MAX without a quota. */
int32_t apx_cgroup_cpus(const char *root);
/* Bytes that may still be used, caches that can be dropped included; INT64_MAX without a limit. */
int64_t apx_cgroup_memory(const char *root);

/* Reads the start of a text file into `text`, terminated; false when it cannot be read. */
bool apx_read_text(const char *root, const char *path, char *text, size_t size);
/* The number after `key` at the start of a line; false when there is none. */
bool apx_find_number(const char *text, const char *key, int64_t *number);

#endif
