/* Reads /proc/self/cgroup and the limits it leads to, of both versions of control groups. */
#define _GNU_SOURCE
#include "cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH = 1024, MAX_TEXT = 8192 };

/* A control group's folder, cut back to its parents one by one. */
typedef struct folder {
    const char *root;
    char path[MAX_PATH];
    size_t mount_length; /* of the part that is not cut */
    bool is_v2;
} folder;

typedef int64_t (*limit_function)(const folder *at);

bool apx_read_text(const char *root, const char *path, char *text, size_t size)
{
    char whole[2 * MAX_PATH];
    int length = snprintf(whole, sizeof whole, "%s%s", root, path);
    if (length < 0 || (size_t)length >= sizeof whole)
        return false;
    FILE *file = fopen(whole, "re");
    if (file == NULL)
        return false;
    size_t got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    (void)fclose(file);
    return got > 0;
}

bool apx_find_number(const char *text, const char *key, int64_t *number)
{
    size_t length = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        char *end = NULL;
        if (strncmp(line, key, length) == 0) {
            *number = strtoll(line + length, &end, 10);
            if (end != line + length)
                return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

static bool read_file(const folder *at, const char *name, char *text, size_t size)
{
    char path[MAX_PATH + 64];
    (void)snprintf(path, sizeof path, "%s/%s", at->path, name);
    return apx_read_text(at->root, path, text, size);
}

static bool read_number(const folder *at, const char *name, int64_t *number)
{
    char text[64];
    return read_file(at, name, text, sizeof text) && apx_find_number(text, "", number);
}

/* ------------------------------------------------------------------ where the folder is */

/* Does the line "4:cpu,cpuacct:/path" name the controller? Version 2 is "0::/path". */
static bool names_controller(const char *line, const char *controller)
{
    const char *list = strchr(line, ':');
    const char *end = list != NULL ? strchr(list + 1, ':') : NULL;
    size_t length = strlen(controller);
    if (end == NULL)
        return false;
    if (length == 0)
        return end == list + 1;
    for (const char *name = list + 1; name < end; ++name) {
        const char *stop = name + strcspn(name, ",:");
        if ((size_t)(stop - name) == length && strncmp(name, controller, length) == 0)
            return true;
        name = stop;
    }
    return false;
}

/* Path of the process's group in `text`, the content of /proc/self/cgroup; NULL: not there. */
static const char *find_path(char *text, const char *controller)
{
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (names_controller(line, controller))
            return strchr(strchr(line, ':') + 1, ':') + 1;
    return NULL;
}

static bool open_folder(folder *at, const char *mount, const char *controller)
{
    char text[MAX_TEXT];
    if (!apx_read_text(at->root, "/proc/self/cgroup", text, sizeof text))
        return false;
    const char *path = find_path(text, controller);
    if (path == NULL)
        return false;
    at->mount_length = strlen(mount);
    int length = snprintf(at->path, sizeof at->path, "%s%s", mount, path);
    return length > 0 && (size_t)length < sizeof at->path;
}

static bool cut_to_parent(folder *at)
{
    char *slash = strrchr(at->path + at->mount_length, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* The smallest limit of the group and all its parents. A path that is not visible here (another
 * namespace) has no files; the walk then ends at the mount, which is what is visible. */
static int64_t smallest(folder *at, limit_function limit)
{
    int64_t least = INT64_MAX;
    do {
        int64_t found = limit(at);
        least = found < least ? found : least;
    } while (cut_to_parent(at));
    return least;
}

static int64_t smallest_of_both(const char *root, const char *controller, limit_function limit)
{
    char mount[64];
    folder v2 = {.root = root, .is_v2 = true};
    folder v1 = {.root = root, .is_v2 = false};
    int64_t least = INT64_MAX;
    if (open_folder(&v2, "/sys/fs/cgroup", ""))
        least = smallest(&v2, limit);
    (void)snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controller);
    if (open_folder(&v1, mount, controller)) {
        int64_t found = smallest(&v1, limit);
        least = found < least ? found : least;
    }
    return least;
}

/* ------------------------------------------------------------------ limits */

/* Thousandths of a CPU. */
static int64_t cpu_limit(const folder *at)
{
    char text[64];
    int64_t quota_us = -1;
    int64_t period_us = 0;
    if (at->is_v2) { /* "max 100000" or "250000 100000" */
        if (read_file(at, "cpu.max", text, sizeof text) && apx_find_number(text, "", &quota_us))
            period_us = strtoll(text + strcspn(text, " "), NULL, 10);
    } else if (read_number(at, "cpu.cfs_quota_us", &quota_us)) {
        (void)read_number(at, "cpu.cfs_period_us", &period_us);
    }
    return quota_us > 0 && period_us > 0 ? quota_us * 1000 / period_us : INT64_MAX;
}

/* Limit less use; what the group caches of files and has not read lately can be dropped. */
static int64_t memory_limit(const folder *at)
{
    char text[MAX_TEXT];
    int64_t limit = 0;
    int64_t used = 0;
    int64_t droppable = 0;
    if (!read_number(at, at->is_v2 ? "memory.max" : "memory.limit_in_bytes", &limit) ||
        !read_number(at, at->is_v2 ? "memory.current" : "memory.usage_in_bytes", &used))
        return INT64_MAX;
    if (read_file(at, "memory.stat", text, sizeof text))
        (void)apx_find_number(text, at->is_v2 ? "inactive_file " : "total_inactive_file ",
                              &droppable);
    int64_t left = limit - (used > droppable ? used - droppable : 0);
    return left > 0 ? left : 0;
}

int32_t apx_cgroup_cpus(const char *root)
{
    int64_t thousandths = smallest_of_both(root, "cpu", cpu_limit);
    int64_t cpus = thousandths / 1000;
    /* Rounded down: one thread too many would have all of them throttled in every period. */
    return thousandths == INT64_MAX || cpus > INT32_MAX ? INT32_MAX : cpus < 1 ? 1 : (int32_t)cpus;
}

int64_t apx_cgroup_memory(const char *root)
{
    return smallest_of_both(root, "memory", memory_limit);
}
