/* cgroup.c: how many processors' worth of time this process's control groups grant.
 *
 * /proc/self/cgroup names the group of each hierarchy, /proc/self/mountinfo says where that hierarchy is mounted and which of its
 * groups is seen there as the top (in a container usually the container's own). The quota of a parent binds too.
 */
#include "os/internal.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 1024 };

enum Version { NO_VERSION, VERSION_1, VERSION_2 };

struct Group {
    const char *root;           /* put before paths */
    enum Version version;       /* which hierarchy is looked for */
    char path[PATH_ROOM];       /* of the group in its hierarchy; "" when not found */
    char directory[PATH_ROOM];  /* of the group in the file system; "" when not found */
    size_t top;                 /* the first so many characters of it are the mount point */
};

/* Whether a comma-separated list has a word. */
static bool hasWord(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return true;
    return false;
}

static bool copyText(char *to, const char *from) {
    size_t length = strlen(from);
    if (length >= PATH_ROOM) return false;
    memcpy(to, from, length + 1);
    return true;
}

/* A line of /proc/self/cgroup: number:controllers:path; version 2 is number 0 without controllers. */
static bool findPath(void *context, char *line) {
    struct Group *group = context;
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return false;
    *controllers++ = *path++ = 0;
    bool fits = group->version == VERSION_2 ? strcmp(line, "0") == 0 && !*controllers : hasWord(controllers, "cpu");
    return fits && copyText(group->path, path);
}

/* The group's path as seen below a mount whose top is the group `top`; NULL when it is not below. */
static const char *pathBelow(const char *path, const char *top) {
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, length) != 0 || (path[length] != '/' && path[length] != 0)) return NULL;
    path += length;
    if (strstr(path, "/..")) return NULL;
    return strcmp(path, "/") == 0 ? "" : path;
}

/* A line of /proc/self/mountinfo: id parent device top point options tags... - type source options. */
static bool findDirectory(void *context, char *line) {
    struct Group *group = context;
    char top[PATH_ROOM], point[PATH_ROOM], type[16], options[PATH_ROOM];
    char *rest = strstr(line, " - ");
    if (!rest || sscanf(rest, " - %15s %*s %1023s", type, options) != 2) return false;
    if (strcmp(type, group->version == VERSION_2 ? "cgroup2" : "cgroup") != 0) return false;
    if (group->version == VERSION_1 && !hasWord(options, "cpu")) return false;
    if (sscanf(line, "%*s %*s %*s %1023s %1023s", top, point) != 2) return false;
    const char *below = pathBelow(group->path, top);
    if (!below) return false;
    int length = snprintf(group->directory, PATH_ROOM, "%s%s%s", group->root, point, below);
    group->top = strlen(group->root) + strlen(point);
    if (length < PATH_ROOM) return true;
    group->directory[0] = 0;
    return false;
}

static bool readNumber(const char *directory, const char *file, long long *number) {
    char path[PATH_ROOM + 32], text[64];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    if (osReadFile(path, text, sizeof text) <= 0) return false;
    *number = strtoll(text, NULL, 10);
    return true;
}

/* Quota and period in microseconds; false when this group has no quota. */
static bool readQuotaOf(const struct Group *group, long long *quota, long long *period) {
    char path[PATH_ROOM + 32], text[64];
    if (group->version == VERSION_1)
        return readNumber(group->directory, "cpu.cfs_quota_us", quota) &&
               readNumber(group->directory, "cpu.cfs_period_us", period);
    snprintf(path, sizeof path, "%s/cpu.max", group->directory);
    return osReadFile(path, text, sizeof text) > 0 && sscanf(text, "%lld %lld", quota, period) == 2;
}

/* The least of a group's quota and those of its parents, in processors; UINT_MAX without one. */
static unsigned readLeastQuota(struct Group *group) {
    long long least = UINT_MAX;
    for (;;) {
        long long quota, period;
        if (readQuotaOf(group, &quota, &period) && quota > 0 && period > 0) {
            long long processors = quota / period + (quota % period != 0);
            if (processors < least) least = processors;
        }
        char *last = strrchr(group->directory, '/');
        if (!last || (size_t)(last - group->directory) < group->top) return (unsigned)least;
        *last = 0;
    }
}

static unsigned readQuotaByVersion(const char *root, enum Version version) {
    struct Group group = {.root = root, .version = version};
    char path[PATH_ROOM];
    if (snprintf(path, PATH_ROOM, "%s/proc/self/cgroup", root) >= PATH_ROOM) return UINT_MAX;
    osForEachLine(path, findPath, &group);
    if (!group.path[0]) return UINT_MAX;
    snprintf(path, PATH_ROOM, "%s/proc/self/mountinfo", root);
    osForEachLine(path, findDirectory, &group);
    return group.directory[0] ? readLeastQuota(&group) : UINT_MAX;
}

unsigned readCpuQuota(const char *root) {
    unsigned one = readQuotaByVersion(root, VERSION_1), two = readQuotaByVersion(root, VERSION_2);
    unsigned least = one < two ? one : two;
    return least == UINT_MAX ? 0 : least;
}
