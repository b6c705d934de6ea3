/* Importing the texts of onnx_make.h, and what a test asks of the outcome; see import_make.h. */
#include "tests/import_make.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/op/op.h"
#include "importer/importer.h"

#include <cmocka.h>

static int import_packed(struct onnx_make *mk, const struct import_options *opt,
                         struct import_report *r, struct graph **out)
{
    onnx_make_pack(mk);
    return onnx_import_bytes(mk->bytes, mk->len, -1, opt, r, out);
}

static struct graph *made_with(struct onnx_make *mk, const struct import_options *opt)
{
    struct graph *g = NULL;

    if (import_packed(mk, opt, NULL, &g) < 0)
        fail_msg("%s", err_message());
    assert_int_equal(graph_verify(g), 0);
    return g;
}

struct graph *import_made(struct onnx_make *mk)
{
    return made_with(mk, NULL);
}

struct graph *import_with(int64_t opset, const struct import_options *opt, const char *text)
{
    struct onnx_make *mk = onnx_make_new(opset, text);
    struct graph *g = made_with(mk, opt);

    onnx_make_free(mk);
    return g;
}

struct graph *import_text(int64_t opset, const char *text)
{
    return import_with(opset, NULL, text);
}

static void refuse_made_with(struct onnx_make *mk, const struct import_options *opt,
                             const char *code, const char *words)
{
    struct import_report r;
    struct graph *g = NULL;
    char head[32];
    const int rc = import_packed(mk, opt, &r, &g);

    snprintf(head, sizeof head, "error[%s]: ", code);
    if (rc >= 0 || strncmp(err_message(), head, strlen(head)) != 0 ||
        strstr(err_message(), words) == NULL)
        fail_msg("wanted %s ... %s, got %d: %s", code, words, rc, rc < 0 ? err_message() : "");
    assert_true(r.n_problem > 0);
    assert_string_equal(r.problem[0].code, code);
    assert_null(g);
    import_report_release(&r);
}

void refuse_made(struct onnx_make *mk, const char *code, const char *words)
{
    refuse_made_with(mk, NULL, code, words);
}

void refuse_with(int64_t opset, const struct import_options *opt, const char *text,
                 const char *code, const char *words)
{
    struct onnx_make *mk = onnx_make_new(opset, text);

    refuse_made_with(mk, opt, code, words);
    onnx_make_free(mk);
}

void refuse(int64_t opset, const char *text, const char *code, const char *words)
{
    refuse_with(opset, NULL, text, code, words);
}

const struct node *node_at(const struct graph *g, int32_t i, const char *type)
{
    assert_in_range(i, 0, g->n_node - 1);
    assert_string_equal(g->node[i].op->type, type);
    return &g->node[i];
}

const struct value *value_named(const struct graph *g, const char *name)
{
    value_id v = graph_find_value(g, name);

    if (v == NO_VALUE)
        fail_msg("no value '%s'", name);
    return &g->value[v];
}

void assert_shape(const struct shape *s, const char *want)
{
    char text[SHAPE_TEXT];

    assert_string_equal(shape_text(s, text), want);
}

void assert_floats(const float *have, const float *want, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!(fabsf(have[k] - want[k]) <= 1e-6f * fabsf(want[k]) + 1e-7f))
            fail_msg("element %zu is %g, should be %g", k, (double)have[k], (double)want[k]);
}

struct graph *import_features(int64_t opset, const char *statements)
{
    char text[4096];

    snprintf(text, sizeof text, "input img [N,4,1,1]\nx = Flatten(img)\n%s\noutput y\n",
             statements);
    return import_text(opset, text);
}

struct graph *import_image(int64_t opset, const char *statements)
{
    char text[4096];

    snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\ny = Flatten(t)\noutput y\n", statements);
    return import_text(opset, text);
}

void refuse_image(int64_t opset, const char *statements, const char *code, const char *words)
{
    char text[4096];

    snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\ny = Flatten(t)\noutput y\n", statements);
    refuse(opset, text, code, words);
}
