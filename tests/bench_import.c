/*
 * Memory and time of an import, beside reading the same file by copying: a process of its own for each,
 * so that peaks are theirs. The model: a chain of 3x3 convolutions of 512 channels.
 *
 * Usage: bench_import [MEGABYTES] [FILE.onnx]     exit 1 above 2.5 file sizes or 3 reading times
 */
#define _DEFAULT_SOURCE /* wait4 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/graph/graph.h"
#include "importer/importer.h"
#include "tests/onnx_make.h"

enum { CHANNELS = 512, TRIES = 5, LINE = 160 };
#define MB 1048576.0

static void make_model(const char *path, double megabytes)
{
    const int layers = 1 + (int)(megabytes * MB / (4.0 * 9 * CHANNELS * CHANNELS));
    struct onnx_make *mk = onnx_make_new(17, "input img [N,3,8,8]\nfloat w0 [512,3,3,3]\n"
                                             "x0 = Conv(img, w0) pads=[1,1,1,1]\noutput y");
    char line[LINE];
    FILE *f;

    for (int k = 1; k <= layers; k++) {
        snprintf(line, sizeof line,
                 "float w%d [512,512,3,3]\nr%d = Relu(x%d)\n"
                 "x%d = Conv(r%d, w%d) pads=[1,1,1,1]",
                 k, k - 1, k - 1, k, k - 1, k);
        onnx_make_add(mk, line);
    }
    snprintf(line, sizeof line, "p = GlobalAveragePool(x%d)\ny = Flatten(p)", layers);
    onnx_make_add(mk, line);
    for (size_t k = 0; k < mk->graph.n_initializer; k++) { /* raw, as all exporters write them */
        Onnx__TensorProto *t = mk->graph.initializer[k];

        t->raw_data.len = t->n_float_data * sizeof *t->float_data;
        t->raw_data.data = (uint8_t *)t->float_data;
        t->n_float_data = 0;
    }
    onnx_make_pack(mk);
    if ((f = fopen(path, "wb")) == NULL || fwrite(mk->bytes, 1, mk->len, f) != mk->len ||
        fclose(f) != 0)
        exit(2);
    onnx_make_free(mk);
}

static int read_by_copying(const char *path, size_t size)
{
    const int fd = open(path, O_RDONLY);
    char *to = malloc(size);
    size_t at = 0;
    ssize_t n;

    if (fd < 0 || to == NULL)
        return 2;
    while (at < size && (n = read(fd, to + at, size - at < 1 << 17 ? size - at : 1 << 17)) > 0)
        at += (size_t)n;
    close(fd);
    const int ok = at == size && memchr(to + size / 2, to[size / 2], 1) != NULL;
    free(to);
    return ok ? 0 : 2;
}

static int import(const char *path, size_t size)
{
    struct import_report report;
    struct graph *g = NULL;
    const int rc = onnx_import(path, NULL, &report, &g);

    (void)size;
    if (rc != 0)
        fprintf(stderr, "%s\n", err_message());
    import_report_release(&report);
    graph_free(g);
    return rc != 0 ? 2 : 0;
}

/* Best seconds of several runs, each in a child; *kilobytes: its largest peak. */
static double measure(int (*work)(const char *, size_t), const char *path, size_t size,
                      long *kilobytes)
{
    double best = 1e9;

    *kilobytes = 0;
    for (int k = 0; k < TRIES; k++) {
        struct timespec a, b;
        struct rusage usage;
        int status = 0;

        clock_gettime(CLOCK_MONOTONIC, &a);
        const pid_t child = fork();
        if (child == 0)
            _exit(work(path, size));
        if (child < 0 || wait4(child, &status, 0, &usage) != child || status != 0)
            exit(2);
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
        best = s < best ? s : best;
        *kilobytes = usage.ru_maxrss > *kilobytes ? usage.ru_maxrss : *kilobytes;
    }
    return best;
}

int main(int argc, char **argv)
{
    const double megabytes = argc > 1 ? atof(argv[1]) : 100;
    const char *tmp = getenv("TMPDIR");
    char made[512];
    const char *path = argc > 2 ? argv[2] : made;
    long copy_kb, import_kb;
    struct stat st;

    snprintf(made, sizeof made, "%s/linnet-bench-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (argc <= 2) {
        const int fd = mkstemp(made);
        const pid_t child = fd >= 0 ? fork() : -1;

        if (child == 0) { /* not in this process: children inherit its peak */
            make_model(path, megabytes);
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) != child)
            return 2;
        close(fd);
    }
    if (stat(path, &st) != 0)
        return 2;
    const double copy_s = measure(read_by_copying, path, (size_t)st.st_size, &copy_kb);
    const double import_s = measure(import, path, (size_t)st.st_size, &import_kb);
    const double size = (double)st.st_size / MB, peak = (double)import_kb / 1024;
    if (argc <= 2)
        unlink(path);
    printf("file %.1f MB\nread by copying  %.3f s, peak %.1f MB\n", size, copy_s,
           (double)copy_kb / 1024);
    printf("import           %.3f s, peak %.1f MB: %.2f reading times, %.2f file sizes\n", import_s,
           peak, import_s / copy_s, peak / size);
    return import_s > 3 * copy_s || peak > 2.5 * size;
}
