/* quota.c - how many processors this process may use: those that the scheduler allows it, and no more than
 * its control groups pay for. A container with a quota of two processors on a machine of 64 sees 64 of them;
 * 64 threads would be stopped for most of each period. */
#include "backend_cpu/cpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* The set must be as large as the kernel's own, which nothing tells: it grows until it fits. */
int up_cpu_allowed(up_affinity affinity) {
    for (int room = 1024; room <= 1 << 20; room *= 2) {
        size_t size = CPU_ALLOC_SIZE(room);
        cpu_set_t *set = CPU_ALLOC(room);
        int failed = !set || affinity(0, size, set), error = errno;
        int count = failed ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count) return count;
        if (failed && error != EINVAL) break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* The first one or two whole numbers of a file; how many there are. */
static int numbers_in(const char *path, long long out[2]) {
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    int count = fscanf(file, "%lld %lld", &out[0], &out[1]);
    fclose(file);
    return count > 0 ? count : 0;
}

/* Time per period of one group: version 2 "cpu.max" holds both ("max" where there is no limit), version 1 has
 * a file for each (-1 for no limit). 0: none. */
static int quota_of(const char *group) {
    char path[PATH_SIZE];
    long long time[2] = {0, 0}, period[2] = {0, 0};
    snprintf(path, sizeof path, "%s/cpu.max", group);
    int count = numbers_in(path, time);
    period[0] = time[1];
    if (count < 2) {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
        count = numbers_in(path, time);
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
        if (!count || !numbers_in(path, period)) return 0;
    }
    if (time[0] <= 0 || period[0] <= 0) return 0;
    long long processors = (time[0] - 1) / period[0] + 1; /* rounded up: a part of one is worth a thread */
    return processors < INT32_MAX ? (int)processors : 0;
}

/* A group and all above it: each may have a quota. `root` is where the controller's tree is mounted; inside a
 * container the path may be the host's, and then the root alone is there. */
static int least_quota(const char *root, const char *path) {
    char group[PATH_SIZE];
    int least = 0;
    if (snprintf(group, sizeof group, "%s%s", root, path) >= PATH_SIZE) return 0;
    for (char *end = group + strlen(group); end;) {
        *end = 0;
        int quota = quota_of(group);
        if (quota && (!least || quota < least)) least = quota;
        end = strrchr(group, '/');
        if (end && end < group + strlen(root)) break;
    }
    return least;
}

/* Is "cpu" one of the controllers a,b,c? */
static int names_cpu(const char *controllers) {
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        size_t length = strcspn(at, ",");
        if (length == 3 && !memcmp(at, "cpu", 3)) return 1;
    }
    return 0;
}

int up_cpu_quota(const char *groups, const char *mount) {
    char line[PATH_SIZE], root[PATH_SIZE];
    int least = 0;
    FILE *file = fopen(groups, "re");
    while (file && fgets(line, sizeof line, file)) { /* number:controllers:path */
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        controllers++;
        path[strcspn(path, "\n")] = 0;
        if (*controllers && !names_cpu(controllers)) continue;
        snprintf(root, sizeof root, "%.1000s%s", mount, *controllers ? "/cpu" : ""); /* version 1 : 2 */
        if (!strcmp(path, "/")) path = "";
        int quota = least_quota(root, path);
        if (quota && (!least || quota < least)) least = quota;
    }
    if (file) fclose(file);
    return least;
}

/* 0: the processors that this process may use, or fewer where OMP_NUM_THREADS says so. */
int up_cpu_threads(int wanted) {
    enum { MOST = 4096 };
    const char *limit = getenv("OMP_NUM_THREADS");
    if (!wanted) {
        int processors = up_cpu_allowed(sched_getaffinity),
            quota = up_cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
        int asked = limit ? atoi(limit) : 0;
        wanted = quota && quota < processors ? quota : processors;
        if (asked > 0 && asked < wanted) wanted = asked;
    }
    return wanted < MOST ? wanted : MOST;
}
