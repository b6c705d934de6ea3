/* Files for tests of the C API; see tiny_files.h. */
#include "tests/tiny_files.h"

#include <stdio.h>
#include <string.h>

#include "core/base/npy.h"
#include "exporter/exporter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void write_data(struct tiny_files *t)
{
    const int64_t dim[4] = {t->d->n, 3, TINY_SIDE, TINY_SIDE};
    char x[SCRATCH_TEXT], y[SCRATCH_TEXT];

    scratch_path(t->dir, "x.npy", x);
    scratch_path(t->dir, "y.npy", y);
    assert_int_equal(npy_write(x, NPY_F32, 4, dim, t->d->floats), 0);
    assert_int_equal(npy_write(y, NPY_I32, 1, dim, t->d->labels), 0);
    snprintf(t->data, sizeof t->data, "npy:%s,%s", x, y);
}

void tiny_files_open(struct tiny_files *t, unsigned flags)
{
    const struct export_options opt = {.form = MASK_WHERE};
    struct graph *g = tiny_net(flags, 1);

    scratch_open(t->dir);
    scratch_path(t->dir, "tiny.onnx", t->model);
    assert_int_equal(onnx_export(g, &opt, t->model), 0);
    graph_free(g);
    t->d = tiny_data(TINY_IMAGES, 1);
    write_data(t);
}

void tiny_files_close(struct tiny_files *t)
{
    tiny_free(t->d);
    scratch_close(t->dir);
}

struct linnet_options *tiny_options(const char *task, const char *const *set)
{
    struct linnet_options *o = NULL;

    assert_int_equal(linnet_options_new(task, &o), 0);
    for (; *set != NULL; set += 2)
        if (linnet_options_set(o, set[0], *set[1] ? set[1] : NULL) < 0)
            fail_msg("--%s %s: %s", set[0], set[1], linnet_message());
    return o;
}

double tiny_number(const struct linnet_report *r, const char *path)
{
    double v = 0;

    if (linnet_report_number(r, path, &v) < 0)
        fail_msg("%s in\n%s", linnet_message(), linnet_report_json(r));
    return v;
}
