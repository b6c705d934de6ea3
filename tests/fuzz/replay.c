/*
 * Runs a fuzz target on the inputs of files and folders, without libFuzzer. Each input has one second
 * of processor time (ten under a sanitizer); the program may not grow beyond its memory budget.
 *
 * Usage: test_fuzz_NAME [FILE or FOLDER...]      (default: tests/fuzz/corpus/NAME)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tests/fuzz/fuzz.h"

enum { PATH_BYTES = 4096 };
#define MAX_BYTES ((size_t)16 << 20)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 10
#define MAX_MEGABYTES 1024
#else
#define SLOWER 1
#define MAX_MEGABYTES 192
#endif

static int n_run;
static double slowest;

static int wrong(const char *path, const char *what, double value)
{
    fprintf(stderr, "%s: %s %.3g\n", path, what, value);
    return 1;
}

static int run_file(const char *path)
{
    struct timespec a, b;
    uint8_t *bytes, *exact;
    size_t len;

    if (file_read(path, MAX_BYTES, &bytes, &len) < 0)
        return wrong(path, err_message(), 0);
    exact = malloc(len > 0 ? len : 1); /* a sanitizer sees a read behind the last byte */
    if (exact == NULL)
        return wrong(path, "no memory", 0);
    memcpy(exact, bytes, len);
    mem_free(bytes);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    LLVMFuzzerTestOneInput(exact, len);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    free(exact);
    const double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    slowest = s > slowest ? s : slowest;
    n_run++;
    return s > SLOWER ? wrong(path, "takes too long, seconds:", s) : 0;
}

static int run_folder(const char *folder)
{
    struct dirent **entry;
    char path[PATH_BYTES];
    int n = scandir(folder, &entry, NULL, alphasort), bad = 0;

    if (n < 0)
        return wrong(folder, "cannot be read", 0);
    for (int k = 0; k < n; k++) {
        if (entry[k]->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", folder, entry[k]->d_name) < PATH_BYTES)
            bad += run_file(path);
        free(entry[k]);
    }
    free(entry);
    return bad;
}

static int run_path(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return wrong(path, "is missing", 0);
    return S_ISDIR(st.st_mode) ? run_folder(path) : run_file(path);
}

int main(int argc, char **argv)
{
    const char *name = strstr(argv[0], "test_fuzz_");
    char corpus[PATH_BYTES];
    struct rusage usage;
    int bad = 0;

    if (argc > 1) {
        for (int k = 1; k < argc; k++)
            bad += run_path(argv[k]);
    } else {
        snprintf(corpus, sizeof corpus, "tests/fuzz/corpus/%s", name != NULL ? name + 10 : "");
        bad += run_path(corpus);
    }
    getrusage(RUSAGE_SELF, &usage);
    if (usage.ru_maxrss / 1024 > MAX_MEGABYTES)
        bad += wrong(argv[0], "uses too much memory, megabytes:", (double)usage.ru_maxrss / 1024);
    if (n_run == 0)
        bad += wrong(argv[0], "no inputs", 0);
    printf("[==========] %d inputs run, slowest %.3f s, %ld MB, %d findings\n", n_run, slowest,
           usage.ru_maxrss / 1024, bad);
    return bad != 0;
}
