/* Reports and the files that hold one; see report.h. */
#include "pipeline/report.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/graph/tensor.h"
#include "pipeline/page/page.h"

struct linnet_report {
    json_t *root;
    char *json;
    char *text; /* of open_memstream */
};

FREE_AT(linnet_report_free, struct linnet_report)

json_t *report_shape(const struct shape *s)
{
    json_t *list = json_array();

    for (int32_t d = 1; d < s->rank; d++)
        json_add(&list, json_integer(s->dim[d]));
    return list;
}

int report_write(const char *path, json_t *root)
{
    OWNED char *text = json_report(root);

    json_decref(root);
    if (text == NULL)
        return fail(ERR_NOMEM, "out of memory while writing '%s'", path);
    return file_write_atomic(path, FILE_PUBLIC, text, strlen(text));
}

static int print_text(report_print_fn *print, const void *facts, char **text)
{
    size_t len;
    FILE *f = open_memstream(text, &len);

    if (f == NULL)
        return fail(ERR_NOMEM, "out of memory while making a report");
    if (print != NULL)
        print(f, facts);
    if (ferror(f) | fclose(f)) /* closed in any case */
        return fail(ERR_NOMEM, "out of memory while making a report");
    return 0;
}

int report_new(report_print_fn *print, const void *facts, json_t *root, struct linnet_report **out)
{
    SCOPED(json_decref_at) json_t *own = root;
    SCOPED(linnet_report_free_at) struct linnet_report *r = NULL;

    if (out != NULL)
        *out = NULL;
    if (own == NULL)
        return fail(ERR_NOMEM, "out of memory while making JSON");
    if (out == NULL)
        return 0;
    if ((r = mem_array(1, sizeof *r)) == NULL)
        return ERR_NOMEM;
    r->root = mem_hand_on(&own);
    TRY(print_text(print, facts, &r->text));
    if ((r->json = json_report(root)) == NULL)
        return fail(ERR_NOMEM, "out of memory while making JSON");
    *out = mem_hand_on(&r);
    return 0;
}

void linnet_report_free(struct linnet_report *r)
{
    if (r == NULL)
        return;
    json_decref(r->root);
    mem_free(r->json);
    free(r->text);
    mem_free(r);
}

const char *linnet_report_text(const struct linnet_report *r)
{
    return r->text;
}

const char *linnet_report_json(const struct linnet_report *r)
{
    return r->json;
}

/* The child that the first part of a path names; NULL if none. */
static const json_t *child(const json_t *v, const char *part, size_t n)
{
    char *end;
    unsigned long i;

    if (!json_is_array(v))
        return json_object_getn(v, part, n);
    i = strtoul(part, &end, 10);
    return end == part + n ? json_array_get(v, i) : NULL;
}

int linnet_report_number(const struct linnet_report *r, const char *path, double *out)
{
    const json_t *v = r->root;

    for (const char *at = path; v != NULL && at != NULL;) {
        const size_t n = strcspn(at, "/");

        v = child(v, at, n);
        at = at[n] == '/' ? at + n + 1 : NULL;
    }
    if (!json_is_number(v) && !json_is_boolean(v))
        return fail(ERR_ARG, "the report has no number at '%s'", path);
    *out = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
    return 0;
}

int linnet_page(const char *const *folder, int n, const char *path)
{
    return page_write(folder, n, path);
}
