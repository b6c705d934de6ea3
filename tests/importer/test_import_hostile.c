/*
 * Importing with something missing or hostile around the model: every failed allocation is reported and
 * leaks nothing, whatever the model uses; external data that is no plain file beside the model is
 * refused by name; weights that the file computes are not in memory twice.
 */
#define _DEFAULT_SOURCE /* wait4 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "onnx.pb-c.h"

#include "core/base/mem.h"
#include "importer/importer.h"
#include "tests/onnx_make.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- failed allocations ----------------------------------------------------------------------- */

/* Between them they use most of the importer. */
static const char *const models[] = {
    /* layers, preprocessing, a shape chain, Softmax tail */
    "input img [N,3,8,8]\n"
    "float mean [3,1,1] 0.5\nfloat w [4,3,3,3]\nfloat b [4]\nfloat g [4] 1\nfloat v [4] 2\n"
    "x = Sub(img, mean)\nc = Conv(x, w, b) pads=[1,1,1,1]\nn = BatchNormalization(c, g, b, b, v)\n"
    "r = Relu(n)\nm = MaxPool(r) kernel_shape=[2,2] strides=[2,2]\np = Pad(m, pads)\n"
    "int pads [8] 0 0 0 0 0 0 1 1\nq = AveragePool(p) kernel_shape=[5,5]\n"
    "s = Shape(q)\nzero = Constant() value={=0}\nn0 = Gather(s, zero)\nax = Constant() value={0}\n"
    "n1 = Unsqueeze(n0, ax)\nk = Constant() value={-1}\nt = Concat(n1, k) axis=0\n"
    "f = Reshape(q, t)\nfloat u [4,2]\nh = MatMul(f, u)\nfloat d [2]\nl = Add(h, d)\n"
    "y = Softmax(l) axis=1\noutput y",
    /* forms of a masked ReLU, constants computed from constants */
    "input img [N,4,2,2]\n"
    "bool m [1,4,2,2] 1 0 1\nr1 = Relu(img)\na = Where(m, r1, img)\n"
    "float s [4,2,2] 0 1\nb = PRelu(a, s)\n"
    "float one [4,2,2] 1\nkeep = Sub(one, s)\nr2 = Relu(b)\nk1 = Mul(r2, keep)\nk2 = Mul(b, s)\n"
    "c = Add(k1, k2)\nf = Flatten(c)\n"
    "int i [8] 0 1 2 3 4 5 6 7\nint j [8] 8 9 10 11 12 13 14 15\n"
    "int back [16] 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n"
    "g1 = Gather(f, i) axis=1\ng2 = Gather(f, j) axis=1\nr3 = Relu(g1)\n"
    "cat = Concat(r3, g2) axis=1\ny = Gather(cat, back) axis=1\noutput y",
    /* several sums, a cast, a clip, a slice, zeros joined, a mean of a view; a fixed batch */
    "input img [1,2,4,4]\nx = Cast(img) to=1\nd, unused = Dropout(x)\nz = Clip(d, lo)\n"
    "float lo [] 0\nint st [1] 0\nint en [1] 4\nint ax [1] 2\nint sp [1] 2\n"
    "e = Slice(z, st, en, ax, sp)\nw = Sum(e, e, e)\n"
    "o = AveragePool(w) kernel_shape=[1,1] strides=[2,2]\nn = Mul(o, lo)\n"
    "j = Concat(o, n) axis=1\nint vs [3] 0 4 -1\nvw = Reshape(j, vs)\n"
    "v = ReduceMean(vw) axes=[2] keepdims=0\nfloat u [3,4]\ny = Gemm(v, u) transB=1 alpha=0.5\n"
    "output y",
    /* refused, with several problems */
    ("input img [N,3,4,4]\nfloat w [2,3,3,3]\na = Conv(img, w) strides=[0,1]\nb = Sigmoid(img)\n"
     "c = Foo(b)\nd = Add(b, c)\ny = Flatten(d)\noutput y\noutput z"),
};

/* Fails allocation n; true if there were fewer. */
static bool import_without(struct onnx_make *mk, long n, int want)
{
    struct import_report r;
    struct graph *g = NULL;

    mem_fail_at(n);
    const int rc = onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g);
    const long used = mem_count();
    mem_fail_at(0);
    import_report_release(&r);
    graph_free(g);
    if (used < n && rc != want)
        fail_msg("code %d, wanted %d: %s", rc, want, err_message());
    if (used >= n && rc != ERR_NOMEM && (want == 0 || rc == 0)) /* a refusal may stay one */
        fail_msg("allocation %ld of %ld failed unseen: %d", n, used, rc);
    return used < n;
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        const bool refused = k + 1 == sizeof models / sizeof *models;
        struct onnx_make *mk = onnx_make_new(13, models[k]);
        long n = 1;

        while (!import_without(mk, n, refused ? ERR_FORMAT : 0))
            n++;
        assert_in_range(n, 100, 5000);
        onnx_make_free(mk);
    }
}

/* ---- external data ------------------------------------------------------------------------------ */

static void set_external(struct onnx_make *mk, const char *location, const char *offset,
                         const char *length)
{
    const char *const pair[3][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    Onnx__TensorProto *t = onnx_make_tensor(mk, "a");

    t->n_float_data = 0;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t->n_external_data = 0;
    t->external_data = onnx_make_alloc(mk, 3, sizeof(void *));
    for (int k = 0; k < 3; k++) {
        Onnx__StringStringEntryProto *e = onnx_make_alloc(mk, 1, sizeof *e);

        if (pair[k][1] == NULL)
            continue;
        onnx__string_string_entry_proto__init(e);
        e->key = onnx_make_text(mk, pair[k][0]);
        e->value = onnx_make_text(mk, pair[k][1]);
        t->external_data[t->n_external_data++] = e;
    }
    onnx_make_pack(mk);
}

struct folder {
    char dir[SCRATCH_TEXT], model[SCRATCH_TEXT];
    struct onnx_make *mk;
};

static void folder_open(struct folder *f)
{
    static const float numbers[32] = {1, 2, 3};
    char path[SCRATCH_TEXT];

    scratch_open(f->dir);
    scratch_path(f->dir, "m.onnx", f->model);
    scratch_write(scratch_path(f->dir, "plain", path), numbers, sizeof numbers);
    f->mk = onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nfloat a [8,4]\n"
                              "y = Gemm(x, a) transB=1\noutput y");
}

static int folder_import(struct folder *f, struct import_report *r, struct graph **g)
{
    scratch_write(f->model, f->mk->bytes, f->mk->len);
    return onnx_import(f->model, NULL, r, g);
}

static void refuse(struct folder *f, const char *location, const char *offset, const char *length,
                   const char *code)
{
    struct import_report r;
    struct graph *g = NULL;

    set_external(f->mk, location, offset, length);
    const int rc = folder_import(f, &r, &g);
    if (rc != ERR_FORMAT || r.n_problem != 1 || strcmp(r.problem[0].code, code) != 0 ||
        (strlen(location) < 100 && strstr(err_message(), location) == NULL))
        fail_msg("%s %s %s: wanted %s, got %d %s", location, offset ? offset : "-",
                 length ? length : "-", code, rc, err_message());
    import_report_release(&r);
}

static void test_only_plain_files_beside_the_model_are_read(void **state)
{
    char path[SCRATCH_TEXT], other[SCRATCH_TEXT], long_name[1100];
    struct graph *g = NULL;
    struct folder f;

    (void)state;
    folder_open(&f);
    set_external(f.mk, "plain", "0", "128");
    assert_int_equal(folder_import(&f, NULL, &g), 0);
    graph_free(g);
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';

    assert_int_equal(mkfifo(scratch_path(f.dir, "fifo", path), 0600), 0);
    refuse(&f, "fifo", NULL, NULL, "E1106");
    assert_int_equal(mkdir(scratch_path(f.dir, "sub", path), 0700), 0);
    refuse(&f, "sub", NULL, NULL, "E1106");
    assert_int_equal(symlink(".", scratch_path(f.dir, "here", path)), 0);
    refuse(&f, "here/plain", NULL, NULL, "E1106");
    assert_int_equal(symlink("plain", scratch_path(f.dir, "soft", path)), 0);
    refuse(&f, "soft", NULL, NULL, "E1106");
    scratch_path(f.dir, "plain", path);
    assert_int_equal(link(path, scratch_path(f.dir, "hard", other)), 0);
    refuse(&f, "hard", NULL, NULL, "E1106");
    assert_int_equal(unlink(other), 0);
    refuse(&f, "missing", NULL, NULL, "E1101");
    refuse(&f, "/etc/hostname", NULL, NULL, "E1102");
    refuse(&f, "sub/../plain", NULL, NULL, "E1102");
    refuse(&f, long_name, NULL, NULL, "E1102");
    refuse(&f, "plain", "4", "128", "E1104");
    refuse(&f, "plain", "129", NULL, "E1104");
    refuse(&f, "plain", "999999999999999999", "999999999999999999", "E1104");
    refuse(&f, "plain", NULL, "999999999999999999", "E1104");
    refuse(&f, "plain", "4", NULL, "E1105");
    refuse(&f, "plain", NULL, "124", "E1105");
    onnx_make_free(f.mk);
    scratch_close(f.dir);
}

/* Allocations of a model in a folder fail too. */
static void test_every_allocation_of_a_file_may_fail(void **state)
{
    struct folder f;
    int rc = ERR_NOMEM;

    (void)state;
    folder_open(&f);
    set_external(f.mk, "plain", "0", "128");
    scratch_write(f.model, f.mk->bytes, f.mk->len);
    for (long n = 1; rc != 0 && n < 2000; n++) {
        struct graph *g = NULL;

        mem_fail_at(n);
        rc = onnx_import(f.model, NULL, NULL, &g);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        graph_free(g);
    }
    assert_int_equal(rc, 0);
    onnx_make_free(f.mk);
    scratch_close(f.dir);
}

/* ---- absurd geometry ------------------------------------------------------------------------- */

static void test_strides_and_kernels_without_end_are_refused(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,1,1000000,1]\nfloat w [1,1,4000,1] 0.5\n"
                          "c = Conv(img, w) strides=[1000000,1]\ny = Flatten(c)\noutput y");
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "stride 1000000 with a kernel of 4000"));
    onnx_make_free(mk);
}

/* ---- computed weights ------------------------------------------------------------------------ */

enum { CHANNELS = 512, LAYERS = 27 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAX_MEGABYTES 2048
#else /* import.h: 16 MB + 32 files + 256 MB of numbers that nodes may make; the program, its heap */
#define MAX_MEGABYTES (16 + 3 + 256 + 64)
#endif

/* A file of 80 kB: one computed weight of 9 MB that each of 27 layers gets a copy of, and a Relu that
 * nobody reads in the end. */
static struct onnx_make *small_file_of_large_weights(void)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,3,8,8]\nfloat pad [10000] 0.5\nfloat w0 [512,3,1,1]\n"
                          "int s [4] 512 512 3 3\nw = ConstantOfShape(s) value=f{0.01}\n"
                          "c0 = Conv(img, w0)\noutput y");
    char line[160];

    for (int k = 1; k <= LAYERS; k++) {
        snprintf(line, sizeof line, "r%d = Relu(c%d)\nc%d = Conv(r%d, w) pads=[1,1,1,1]", k, k - 1,
                 k, k);
        onnx_make_add(mk, line);
    }
    snprintf(line, sizeof line,
             "bool m [1,512,8,8] 1 0\nr = Relu(c%d)\nh = Where(m, r, c%d)\n"
             "p = GlobalAveragePool(h)\ny = Flatten(p)",
             LAYERS, LAYERS);
    onnx_make_add(mk, line);
    onnx_make_pack(mk);
    return mk;
}

static int import_computed(const struct onnx_make *mk)
{
    const int64_t weights = (int64_t)LAYERS * CHANNELS * CHANNELS * 9;
    struct graph *g = NULL;
    const int rc = onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g);

    if (rc != 0)
        fprintf(stderr, "%s\n", err_message());
    const bool ok = rc == 0 && g->n_params > weights && g->params[weights] > 0;
    graph_free(g);
    return ok ? 0 : 1;
}

static void test_computed_weights_are_in_memory_once(void **state)
{
    struct onnx_make *mk = small_file_of_large_weights();
    struct rusage usage;
    int status;

    (void)state;
    assert_in_range(mk->len, 64 << 10, 96 << 10);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(import_computed(mk));
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_int_equal(status, 0);
    printf("  %zu bytes of file: %ld MB\n", mk->len, usage.ru_maxrss >> 10);
    assert_in_range(usage.ru_maxrss >> 10, CHANNELS * CHANNELS * 9 * 4 / (1 << 20) * LAYERS,
                    MAX_MEGABYTES);
    onnx_make_free(mk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_only_plain_files_beside_the_model_are_read),
        cmocka_unit_test(test_every_allocation_of_a_file_may_fail),
        cmocka_unit_test(test_strides_and_kernels_without_end_are_refused),
        cmocka_unit_test(test_computed_weights_are_in_memory_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
