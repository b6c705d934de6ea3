/* Task "lint": what the importer of a private-inference tool would refuse in an ONNX file. */
#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "exporter/lint.h"
#include "importer/importer.h"
#include "pipeline/report.h"
#include "pipeline/tasks.h"

struct lint_settings {
    int32_t target; /* from 0; export_target begins at 1 */
};
static const struct option_row rows[] = {
    OPTION("for", 0, OPTION_CHOICE, offsetof(struct lint_settings, target),
           "crypten|ezpc|motion2nx", "the tool that shall read the file"),
    OPTION_END};
static const struct lint_settings defaults = {.target = -1};

static int check(const struct linnet_options *o)
{
    const struct lint_settings *s = options_values(o);

    return s->target < 0 ? fail(ERR_ARG, "give --for crypten, ezpc or motion2nx") : 0;
}
const struct task lint_task = {"lint", rows, &defaults, sizeof defaults, check, false};

static json_t *report_json(const char *path, const char *target, const struct lint_report *r)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < r->n; i++) {
        const struct lint_finding *f = &r->finding[i];

        json_add(&list, json_pack("{s:s,s:s,s:s,s:s}", "node", f->node, "op", f->op, "message",
                                  f->message, "hint", f->hint));
    }
    return json_pack("{s:s,s:o,s:s,s:o}", "format", "linnet.lint/1", "model", json_text(path),
                     "for", target, "problems", list);
}

struct lint_facts {
    const char *target;
    struct lint_report r;
};

static void facts_release(struct lint_facts *l)
{
    lint_release(&l->r);
}

static void print(FILE *out, const void *facts)
{
    const struct lint_facts *l = facts;
    const struct lint_report *r = &l->r;

    for (int32_t i = 0; i < r->n; i++) {
        const struct lint_finding *f = &r->finding[i];

        if (f->op[0] != '\0')
            fprintf(out, "%s (%s): ", f->node, f->op);
        fprintf(out, "%s%s%s\n", f->message, f->hint[0] != '\0' ? ". Hint: " : "", f->hint);
    }
    if (r->n == 0)
        fprintf(out, "nothing that %s would refuse\n", l->target);
}

static int lint(const char *path, enum export_target target, struct linnet_report **out)
{
    SCOPED(facts_release) struct lint_facts l = {.target = lint_target_name(target)};
    OWNED uint8_t *bytes = NULL;
    size_t len;
    int rc;

    TRY(file_read(path, IMPORT_MAX_FILE, &bytes, &len));
    if ((rc = lint_bytes(bytes, len, target, &l.r)) < 0)
        return rc == ERR_NOMEM ? rc : fail_context(rc, "%s", path);
    TRY(report_new(print, &l, report_json(path, l.target, &l.r), out));
    return l.r.n == 0 ? 0
                      : fail(ERR_UNSUPPORTED, "%s: %d reasons for %s to refuse or misread it", path,
                             l.r.n, l.target);
}

int linnet_lint(const char *path, const struct linnet_options *o, struct linnet_report **out)
{
    const struct lint_settings *s;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &lint_task, (const void **)&s));
    return lint(path, (enum export_target)(s->target + 1), out);
}
