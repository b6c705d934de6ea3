/*
 * Files of tests/bad (made by make.py there): each gives its recorded message and exit code from the
 * program itself, in two seconds of processor time and 64 MB of memory.
 *
 * tests/bad/expected.txt: lines "FILE<tab>EXIT CODE<tab>FIRST LINE". With LINNET_BAD_RECORD=1 in the
 * environment it is written instead of compared; look at the difference before committing it.
 */
#define _DEFAULT_SOURCE /* wait4 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { LINE = 4096, PATH_BYTES = 2048 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAX_KILOBYTES (1L << 20)
#define MAX_SECONDS 20
#else
#define MAX_KILOBYTES (64L << 10)
#define MAX_SECONDS 2
#endif

static char build[2 * PATH_BYTES]; /* folder of the programs, absolute */

struct answer {
    int code;
    char line[LINE];
    long kilobytes;
    double seconds;
};

/* The command that reads a file of this kind. */
static void exec_reader(const char *file)
{
    const char *end = strrchr(file, '.');
    char linnet[2 * PATH_BYTES + 16], linnet_pi[2 * PATH_BYTES + 16];
    char logits[2 * PATH_BYTES + 16]; /* never written: the input is refused first */

    snprintf(linnet, sizeof linnet, "%s/linnet", build);
    snprintf(linnet_pi, sizeof linnet_pi, "%s/linnet-pi", build);
    snprintf(logits, sizeof logits, "%s/test_bad.npy", build);
    if (strcmp(end, ".pi") == 0)
        execl(linnet_pi, "linnet-pi", "info", file, (char *)NULL);
    else if (strcmp(end, ".npy") == 0)
        execl(linnet, "linnet", "run", "../demo/resnet8.onnx", "--input", file, "--output", logits,
              "-q", (char *)NULL);
    else if (strcmp(end, ".safetensors") == 0)
        execl(linnet, "linnet", "eval", file, "--data", "synth:10", "-q", (char *)NULL);
    else
        execl(linnet, "linnet", "inspect", file, (char *)NULL);
    _exit(127);
}

static void start_reader(const char *file, int err)
{
    const int null = open("/dev/null", O_RDWR);

    if (chdir("tests/bad") != 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
        dup2(err, 2) < 0)
        _exit(126);
    exec_reader(file);
}

static void ask(const char *file, struct answer *a)
{
    struct rusage usage;
    char text[LINE] = "";
    size_t n = 0;
    int fd[2], status;
    ssize_t got;

    assert_int_equal(pipe(fd), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        start_reader(file, fd[1]);
    close(fd[1]);
    while (n < sizeof text - 1 && (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    close(fd[0]);
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    a->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    a->kilobytes = usage.ru_maxrss;
    a->seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    const char *first = strstr(text, "linnet"); /* warnings may come before */
    while (first != NULL && first != text && first[-1] != '\n')
        first = strstr(first + 1, "linnet");
    snprintf(a->line, LINE, "%.*s", first != NULL ? (int)strcspn(first, "\n") : 0,
             first != NULL ? first : "");
}

static int is_input(const struct dirent *e)
{
    const char *end = strrchr(e->d_name, '.');

    return end != NULL && (strcmp(end, ".onnx") == 0 || strcmp(end, ".pi") == 0 ||
                           strcmp(end, ".npy") == 0 || strcmp(end, ".safetensors") == 0);
}

/* The line of the file in expected.txt; "" if there is none. */
static void find_expected(const char *file, char line[LINE])
{
    FILE *f = fopen("tests/bad/expected.txt", "r");
    const size_t n = strlen(file);

    assert_non_null(f);
    while (fgets(line, LINE, f) != NULL)
        if (strncmp(line, file, n) == 0 && line[n] == '\t') {
            line[strcspn(line, "\n")] = '\0';
            fclose(f);
            return;
        }
    line[0] = '\0';
    fclose(f);
}

static int check_file(const char *file, FILE *record)
{
    struct answer a;
    char want[LINE], have[LINE + 300];

    ask(file, &a);
    snprintf(have, sizeof have, "%s\t%d\t%s", file, a.code, a.line);
    if (record != NULL)
        return fprintf(record, "%s\n", have) < 0;
    find_expected(file, want);
    if (strcmp(want, have) != 0)
        printf("have: %s\nwant: %s\n", have, want);
    if (a.kilobytes > MAX_KILOBYTES || a.seconds > MAX_SECONDS)
        printf("%s: %ld kB, %.2f s\n", file, a.kilobytes, a.seconds);
    return strcmp(want, have) != 0 || a.kilobytes > MAX_KILOBYTES || a.seconds > MAX_SECONDS;
}

static void test_each_file_gives_its_message(void **state)
{
    struct dirent **entry;
    const char *wanted = getenv("LINNET_BAD_RECORD");
    FILE *record = wanted != NULL ? fopen("tests/bad/expected.txt", "w") : NULL;
    int n = scandir("tests/bad", &entry, is_input, alphasort), bad = 0;

    (void)state;
    assert_true(n > 0);
    for (int k = 0; k < n; k++) {
        bad += check_file(entry[k]->d_name, record);
        free(entry[k]);
    }
    free(entry);
    if (record != NULL)
        assert_int_equal(fclose(record), 0);
    printf("%d files\n", n);
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_file_gives_its_message)};
    char here[PATH_BYTES / 2], *end;

    (void)argc; /* BUILD/tests/test_bad */
    if (getcwd(here, sizeof here) == NULL || strlen(argv[0]) >= PATH_BYTES)
        return 2;
    if (argv[0][0] == '/')
        snprintf(build, sizeof build, "%s", argv[0]);
    else
        snprintf(build, sizeof build, "%s/%s", here, argv[0]);
    for (int k = 0; k < 2; k++)
        if ((end = strrchr(build, '/')) != NULL)
            *end = '\0';
    return cmocka_run_group_tests(tests, NULL, NULL);
}
