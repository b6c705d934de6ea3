/*
 * The report of an import: facts that are known even for a refused file, and every problem with
 * its code, node and hint.
 *
 *     E10xx  file and protobuf          E14xx  names and order
 *     E11xx  external data              E15xx  not the kind of model linnet works on
 *     E12xx  operator, attribute        E16xx  suspicious numbers
 *     E13xx  shapes, element types
 *
 * Names come from the file and go to terminals: control bytes are replaced in every text.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/base/import.h"

#define TEXT_MAX 2048
#define MAX_LOOKED_AT 20000 /* problems; the others are counted */

int report_init(struct import_report *r)
{
    memset(r, 0, sizeof *r);
    r->producer = "";
    TRY(arena_new((size_t)64 << 20, &r->arena));
    r->problem = arena_array(r->arena, IMPORT_MAX_PROBLEMS, sizeof *r->problem);
    r->warning = arena_array(r->arena, IMPORT_MAX_PROBLEMS, sizeof *r->warning);
    return r->problem != NULL && r->warning != NULL ? 0 : ERR_NOMEM;
}

void import_report_release(struct import_report *r)
{
    if (r == NULL)
        return;
    arena_free(r->arena);
    memset(r, 0, sizeof *r);
}

/* Length that the first byte of a UTF-8 character announces, 0 if it is none. */
static size_t announced(unsigned char c)
{
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c < 0xe0)
        return 2;
    if (c >= 0xe0 && c < 0xf0)
        return 3;
    return c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* Bytes of the UTF-8 character at s, 0 if it is none or a control character. */
static size_t character(const char *s)
{
    const unsigned char *c = (const unsigned char *)s;
    const size_t n = announced(c[0]);

    if (n == 1)
        return c[0] >= 0x20 && c[0] != 0x7f;
    for (size_t k = 1; k < n; k++)
        if ((c[k] & 0xc0) != 0x80)
            return 0;
    if (n > 0 && ((c[0] == 0xc2 && c[1] < 0xa0) ||                                  /* control */
                  (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90) || /* overlong */
                  (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf4 && c[1] > 0x8f)))  /* no code */
        return 0;
    return n;
}

bool report_is_clean(const char *s, size_t max)
{
    size_t at = 0, n;

    for (; s[at] != '\0' && at <= max; at += n)
        if ((n = character(s + at)) == 0)
            return false;
    return at <= max;
}

/* A copy in which every byte that is no text is a '?', cut to TEXT_MAX. */
static const char *clean_text(struct arena *a, const char *s)
{
    char *copy = arena_array(a, strnlen(s, TEXT_MAX) + 1, 1);
    size_t n;

    for (size_t at = 0; copy != NULL && s[at] != '\0'; at += n) {
        n = character(s + at);
        if (at + (n > 0 ? n : 1) > TEXT_MAX)
            break;
        if (n > 0)
            memcpy(copy + at, s + at, n);
        else
            copy[at] = '?', n = 1;
    }
    return copy;
}

static const char *clean_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    char text[TEXT_MAX];

    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = '\0';
    return clean_text(a, text);
}

const char *report_text(struct import *im, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    const char *s = clean_vprintf(im->report->arena, fmt, ap);
    va_end(ap);
    im->no_memory = im->no_memory || s == NULL;
    return s != NULL ? s : "";
}

/* The error code of a problem's class. */
static int code_error(const char *code)
{
    if (strcmp(code, "E1006") == 0 || strcmp(code, "E1007") == 0)
        return ERR_LIMIT;
    return strncmp(code, "E12", 3) == 0 ? ERR_UNSUPPORTED : ERR_FORMAT;
}

/* What a problem is one of: its code, operator and message but for quoted names and numbers. */
static uint64_t kind_of(const struct import_problem *p)
{
    const char *const part[] = {p->code, p->op, p->message};
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    bool quoted = false;

    for (int k = 0; k < 3; k++)
        for (const char *c = part[k]; *c != '\0'; c++) {
            quoted = k == 2 && *c == '\'' ? !quoted : quoted;
            if (k < 2 || (!quoted && !(*c >= '0' && *c <= '9')))
                h = (h ^ (unsigned char)*c) * 1099511628211u;
        }
    return h;
}

/* One row stands for many of its kind. */
static void keep_problem(struct import_report *r, struct import_problem *p)
{
    p->kind = kind_of(p);
    for (int32_t k = 0; k < r->n_problem; k++)
        if (r->problem[k].kind == p->kind) {
            r->problem[k].more++;
            return;
        }
    if (r->n_problem < IMPORT_MAX_PROBLEMS)
        r->problem[r->n_problem++] = *p;
}

int report_close(struct import *im)
{
    struct import_report *r = im->report;

    for (int32_t k = 0; k < r->n_problem; k++) {
        struct import_problem *p = &r->problem[k];

        if (p->more > 0)
            p->message = report_text(im, "%s, and %d more of this kind", p->message, p->more);
    }
    return im->no_memory ? ERR_NOMEM : 0;
}

int report_problem(struct import *im, const char *code, const char *hint, const char *fmt, ...)
{
    struct import_report *r = im->report;
    struct import_problem p = {.node = "", .op = ""};
    va_list ap;

    im->reported = true;
    if (im->n_found++ >= MAX_LOOKED_AT)
        return code_error(code);
    va_start(ap, fmt);
    p.message = clean_vprintf(r->arena, fmt, ap);
    va_end(ap);
    p.hint = clean_text(r->arena, hint);
    snprintf(p.code, sizeof p.code, "%s", code);
    if (im->call != NULL) {
        p.node = clean_text(r->arena, im->call->name);
        p.op = clean_text(r->arena, im->call->type);
    }
    if (!p.message || !p.hint || !p.node || !p.op)
        return ERR_NOMEM;
    keep_problem(r, &p);
    return code_error(code);
}

int report_warning(struct import *im, const char *fmt, ...)
{
    struct import_report *r = im->report;
    const char *text;
    va_list ap;

    if (r->n_warning >= IMPORT_MAX_PROBLEMS)
        return 0;
    va_start(ap, fmt);
    text = clean_vprintf(r->arena, fmt, ap);
    va_end(ap);
    if (text == NULL)
        return ERR_NOMEM;
    r->warning[r->n_warning++] = text;
    return 0;
}

int report_wrong(struct import *im, const char *what)
{
    return report_problem(im, "E1306", "", "%s: %s %s", im->call->type, what, im->at);
}

int report_pins_batch(struct import *im)
{
    return report_problem(im, "E1304", "export the model with a free batch dimension",
                          "%s needs the number of images as a fixed number %s", im->call->type,
                          im->at);
}

int report_fail(const struct import_report *r, int32_t n_found)
{
    const struct import_problem *p = &r->problem[0];
    char more[64] = "";

    if (n_found > 1)
        snprintf(more, sizeof more, " (1 of %d problems)", n_found);
    return fail(code_error(p->code), "error[%s]: %s.%s%s%s", p->code, p->message,
                p->hint[0] ? " Hint: " : "", p->hint, more);
}

/* ---- facts ---------------------------------------------------------------------------------- */

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int count_ops(struct import *im)
{
    struct import_report *r = im->report;
    const Onnx__GraphProto *f = im->file;
    const char **type = arena_array(im->arena, f->n_node + 1, sizeof *type);

    r->op_count = arena_array(r->arena, f->n_node + 1, sizeof *r->op_count);
    if (type == NULL || r->op_count == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < f->n_node; i++)
        type[i] = f->node[i]->op_type;
    qsort(type, f->n_node, sizeof *type, compare_text);
    for (size_t i = 0; i < f->n_node; i++) {
        if (i > 0 && strcmp(type[i], type[i - 1]) == 0) {
            r->op_count[r->n_op_count - 1].count++;
            continue;
        }
        const char *copy = clean_text(r->arena, type[i]);
        if (copy == NULL)
            return ERR_NOMEM;
        r->op_count[r->n_op_count].type = copy;
        r->op_count[r->n_op_count++].count = 1;
    }
    return 0;
}

/* Name and dims as they are in the file; symbolic dims other than the first become 0. */
static int describe(struct import *im, const Onnx__ValueInfoProto *v, int32_t row)
{
    struct import_report *r = im->report;
    const Onnx__TypeProto *t = v->type;

    r->io[row].name = clean_text(r->arena, v->name);
    r->io[row].dim0 = "";
    if (r->io[row].name == NULL)
        return ERR_NOMEM;
    if (t == NULL || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ||
        t->tensor_type->shape == NULL)
        return 0;
    const Onnx__TensorShapeProto *s = t->tensor_type->shape;
    int32_t rank = s->n_dim < SHAPE_MAX_RANK ? (int32_t)s->n_dim : SHAPE_MAX_RANK;
    r->io[row].shape.rank = rank;
    r->io[row].known = s->n_dim <= SHAPE_MAX_RANK;
    for (int32_t i = 0; i < rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
        bool fixed = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        bool named = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;

        r->io[row].shape.dim[i] = fixed ? d->dim_value : i == 0 ? SHAPE_BATCH : 0;
        if (i == 0 && named && (r->io[row].dim0 = clean_text(r->arena, d->dim_param)) == NULL)
            return ERR_NOMEM;
    }
    return 0;
}

/* Inputs that are not initializers, then outputs; the names must have been entered. */
static int describe_io(struct import *im)
{
    struct import_report *r = im->report;
    const Onnx__GraphProto *f = im->file;
    int32_t row = 0;

    r->io = arena_array(r->arena, f->n_input + f->n_output + 1, sizeof *r->io);
    if (r->io == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < f->n_input; i++) {
        const struct entry *e = names_find(im, f->input[i]->name);

        if (e == NULL || !e->is_initializer)
            TRY(describe(im, f->input[i], row++));
    }
    r->n_inputs = row;
    for (size_t i = 0; i < f->n_output; i++)
        TRY(describe(im, f->output[i], row++));
    r->n_outputs = row - r->n_inputs;
    return 0;
}

int report_facts(struct import *im)
{
    if ((im->report->producer = clean_text(im->report->arena, im->model->producer_name)) == NULL)
        return ERR_NOMEM;
    TRY(count_ops(im));
    return describe_io(im);
}
