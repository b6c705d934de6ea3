/*
 * Threads, the clock and memory (cpu_path.c: instruction sets).
 *
 * The thread count lives in OpenMP's own setting, so that a plain `omp parallel for` and
 * cpu_threads() always agree. libgomp starts from OMP_NUM_THREADS or the affinity mask; a
 * program calls cpu_set_threads(0) once at its start to get the limit of its control group
 * (cgroup v2 cpu.max, quota and period in microseconds or "max") taken into account too.
 * memory.max of the same folders is a number of bytes or "max".
 */
#include "core/base/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATH_TEXT 1024
#define PROC_TEXT (2 * PATH_TEXT)

/* Whole cores that a cpu.max file grants, at least 1; UINT64_MAX if it sets no limit. */
static uint64_t quota_of(const char *root, const char *folder)
{
    char path[PROC_TEXT + 64];
    long quota, period;

    snprintf(path, sizeof path, "%s/sys/fs/cgroup%s/cpu.max", root, folder);
    FILE *f = fopen(path, "r");
    int got = f != NULL ? fscanf(f, "%ld %ld", &quota, &period) : 0; /* "max ..." matches nothing */
    if (f != NULL)
        fclose(f);
    return got == 2 && quota > 0 && period > 0 ? (uint64_t)((quota + period - 1) / period)
                                               : UINT64_MAX;
}

/* What a memory.max file grants; UINT64_MAX if it sets no limit. */
static uint64_t memory_of(const char *root, const char *folder)
{
    char path[PROC_TEXT + 64];
    unsigned long long limit;

    snprintf(path, sizeof path, "%s/sys/fs/cgroup%s/memory.max", root, folder);
    FILE *f = fopen(path, "r");
    int got = f != NULL ? fscanf(f, "%llu", &limit) : 0; /* "max" matches nothing */
    if (f != NULL)
        fclose(f);
    return got == 1 ? (uint64_t)limit : UINT64_MAX;
}

/* This process's cgroup v2 folder, "/a/b" or "" for the root; proc: the file that names it. */
static void cgroup_folder(const char *proc, char out[PATH_TEXT])
{
    char line[PATH_TEXT];
    FILE *f = fopen(proc, "r");

    out[0] = '\0';
    if (f == NULL)
        return;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            memcpy(out, line + 3, strlen(line + 3) + 1);
        }
    fclose(f);
}

/* The least that `grant` says of the process's group and of the groups above it. */
static uint64_t least_of_groups(const char *root,
                                uint64_t (*grant)(const char *root, const char *folder))
{
    char folder[PATH_TEXT], path[PROC_TEXT], *slash;
    uint64_t least = UINT64_MAX;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    cgroup_folder(path, folder);
    for (;;) {
        const uint64_t limit = grant(root, folder);
        least = limit < least ? limit : least;
        if ((slash = strrchr(folder, '/')) == NULL)
            return least;
        *slash = '\0';
    }
}

static int default_threads(void)
{
    const char *env = getenv("OMP_NUM_THREADS");
    long asked = env != NULL ? strtol(env, NULL, 10) : 0; /* "4" or "4,2": the outer level */

    if (asked >= 1 && asked <= 1 << 16)
        return (int)asked;
    const uint64_t allowed = (uint64_t)omp_get_num_procs(), quota = least_of_groups("", quota_of);
    return (int)(quota < allowed ? quota : allowed);
}

int cpu_threads(void)
{
    int n = omp_get_max_threads(), limit = omp_get_thread_limit();

    return n < limit ? n : limit;
}

void cpu_set_threads(int n)
{
    omp_set_num_threads(n >= 1 ? n : default_threads());
}

int cpu_thread_index(void)
{
    return omp_get_thread_num();
}

double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* MemAvailable, 0 if the system does not say. */
static uint64_t available(const char *root)
{
    char path[PROC_TEXT], line[PATH_TEXT];
    unsigned long long kb = 0;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "MemAvailable: %llu kB", &kb) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kb > UINT64_MAX / 1024 ? 0 : (uint64_t)kb * 1024;
}

uint64_t cpu_memory_at(const char *root)
{
    const uint64_t all = available(root), limit = least_of_groups(root, memory_of);

    return limit < all ? limit : all;
}

uint64_t cpu_memory(void)
{
    return cpu_memory_at("");
}
