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

/* Whole cores that a cpu.max file grants, at least 1; 0 if it sets no limit. */
static int quota_of(const char *folder)
{
    char path[PATH_TEXT + 64];
    long quota = 0, period = 0;

    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    int got = fscanf(f, "%ld %ld", &quota, &period); /* "max ..." matches nothing */
    fclose(f);
    if (got != 2 || quota <= 0 || period <= 0)
        return 0;
    long cores = (quota + period - 1) / period;
    return cores > 1 << 16 ? 0 : (int)cores;
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

/* The smallest quota of the process's group and the groups above it; 0 for none. */
static int cgroup_cores(void)
{
    char folder[PATH_TEXT];
    int least = 0;

    cgroup_folder("/proc/self/cgroup", folder);
    for (;;) {
        int cores = quota_of(folder);
        if (cores > 0 && (least == 0 || cores < least))
            least = cores;
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
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
    int allowed = omp_get_num_procs(), quota = cgroup_cores();
    return quota > 0 && quota < allowed ? quota : allowed;
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

#define PROC_TEXT (2 * PATH_TEXT)

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

/* What a memory.max file grants; UINT64_MAX if it sets no limit. */
static uint64_t limit_of(const char *root, const char *folder)
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

uint64_t cpu_memory_at(const char *root)
{
    char folder[PATH_TEXT], path[PROC_TEXT], *slash;
    uint64_t least = available(root), limit;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    cgroup_folder(path, folder);
    for (;;) {
        if ((limit = limit_of(root, folder)) < least)
            least = limit;
        if ((slash = strrchr(folder, '/')) == NULL)
            return least;
        *slash = '\0';
    }
}

uint64_t cpu_memory(void)
{
    return cpu_memory_at("");
}
