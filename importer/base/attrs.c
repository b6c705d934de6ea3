/*
 * Attributes of the node at hand, checked against the type that the reader expects. Nothing is
 * skipped: an attribute that linnet does not know may change what the node means.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/base/import.h"

#define A(x) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##x

const Onnx__AttributeProto *attrs_find(const struct call *c, const char *name)
{
    for (size_t k = 0; k < c->proto->n_attribute; k++)
        if (strcmp(c->proto->attribute[k]->name, name) == 0)
            return c->proto->attribute[k];
    return NULL;
}

/* *out = the attribute, NULL if absent; a problem if it has another type. */
static int find_typed(struct import *im, const char *name, Onnx__AttributeProto__AttributeType type,
                      const Onnx__AttributeProto **out)
{
    const Onnx__AttributeProto *a = attrs_find(im->call, name);

    if (a != NULL && a->ref_attr_name[0] != '\0')
        return report_problem(im, "E1205", "", "attribute '%s' refers to a function's attribute %s",
                              name, im->at);
    if (a != NULL && a->type != type)
        return report_problem(im, "E1205", "", "attribute '%s' has type %d, should be %d %s", name,
                              (int)a->type, (int)type, im->at);
    *out = a;
    return 0;
}

int attrs_int(struct import *im, const char *name, int64_t dflt, int64_t *out)
{
    const Onnx__AttributeProto *a;

    TRY(find_typed(im, name, A(INT), &a));
    *out = a != NULL ? a->i : dflt;
    return 0;
}

int attrs_float(struct import *im, const char *name, float dflt, float *out)
{
    const Onnx__AttributeProto *a;

    TRY(find_typed(im, name, A(FLOAT), &a));
    *out = a != NULL ? a->f : dflt;
    return 0;
}

int attrs_ints(struct import *im, const char *name, int64_t *out, int32_t cap, int32_t *n)
{
    const Onnx__AttributeProto *a;

    TRY(find_typed(im, name, A(INTS), &a));
    *n = -1;
    if (a == NULL)
        return 0;
    if (a->n_ints > (size_t)cap)
        return report_problem(im, "E1205", "", "attribute '%s' has %zu values, at most %d %s", name,
                              a->n_ints, cap, im->at);
    for (size_t k = 0; k < a->n_ints; k++)
        out[k] = a->ints[k];
    *n = (int32_t)a->n_ints;
    return 0;
}

int attrs_text(struct import *im, const char *name, const char *dflt, const char **out)
{
    const Onnx__AttributeProto *a;
    char *copy;

    TRY(find_typed(im, name, A(STRING), &a));
    *out = dflt;
    if (a == NULL)
        return 0;
    if (a->s.len > IMPORT_MAX_NAME)
        return report_problem(im, "E1205", "", "attribute '%s' is a text of %zu bytes %s", name,
                              a->s.len, im->at);
    if ((copy = arena_array(im->arena, a->s.len + 1, 1)) == NULL)
        return ERR_NOMEM;
    if (a->s.len > 0)
        memcpy(copy, a->s.data, a->s.len);
    *out = copy;
    return 0;
}

/* ---- by the operator's own table ------------------------------------------------------------ */

static int out_of_range(struct import *im, const struct attr *a, double v)
{
    return report_problem(im, "E1205", "", "attribute '%s' is %g, allowed are %g to %g %s", a->name,
                          v, a->lo, a->hi, im->at);
}

static int fill_ints(struct import *im, const struct attr *a, int64_t *field)
{
    const int32_t count = a->kind == ATTR_INT ? 1 : a->count;
    int32_t n = 1;

    if (a->kind == ATTR_INT)
        TRY(attrs_int(im, a->name, *field, field));
    else
        TRY(attrs_ints(im, a->name, field, count, &n));
    if (n >= 0 && n != count)
        return report_problem(im, "E1205", "only 2-D images are supported",
                              "attribute '%s' has %d values, should have %d %s", a->name, n, count,
                              im->at);
    for (int32_t k = 0; k < count; k++)
        if ((double)field[k] < a->lo || (double)field[k] > a->hi)
            return out_of_range(im, a, (double)field[k]);
    return 0;
}

static int fill_one(struct import *im, const struct attr *a, char *field)
{
    float f;

    if (a->required && attrs_find(im->call, a->name) == NULL)
        return report_problem(im, "E1205", "", "attribute '%s' is missing %s", a->name, im->at);
    if (a->kind != ATTR_FLOAT)
        return fill_ints(im, a, (int64_t *)(void *)field);
    TRY(attrs_float(im, a->name, (float)a->dflt, &f));
    if (!(f >= (float)a->lo && f <= (float)a->hi))
        return out_of_range(im, a, (double)f);
    *(float *)(void *)field = f;
    return 0;
}

/* `name` is one of the words of `list`, which are separated by commas. */
static bool in_list(const char *list, const char *name)
{
    const size_t n = strlen(name);

    while (*list != '\0') {
        size_t len = strcspn(list, ",");

        if (len == n && memcmp(list, name, n) == 0)
            return true;
        list += len + (list[len] == ',');
    }
    return false;
}

static bool in_table(const struct attr *table, const char *name)
{
    for (const struct attr *a = table; a != NULL && a->name != NULL; a++)
        if (strcmp(a->name, name) == 0)
            return true;
    return false;
}

static int check_known(struct import *im, const struct attr *table, const char *known)
{
    const Onnx__NodeProto *p = im->call->proto;
    int rc = 0;

    for (size_t k = 0; k < p->n_attribute; k++) {
        const char *name = p->attribute[k]->name;

        if (!in_table(table, name) && !in_list(known, name))
            rc = report_problem(im, "E1205", "", "%s has the unknown attribute '%s' %s",
                                im->call->type, name, im->at);
    }
    return rc;
}

int attrs_only(struct import *im, const char *known)
{
    return check_known(im, NULL, known);
}

int attrs_fill(struct import *im, const struct op *op, const char *known, union op_params *p)
{
    TRY(check_known(im, op->attrs, known));
    memset(p, 0, sizeof *p);
    op_defaults(op, p);
    for (const struct attr *a = op->attrs; a != NULL && a->name != NULL; a++)
        TRY(fill_one(im, a, (char *)p + a->offset));
    return 0;
}
