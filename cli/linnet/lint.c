/* linnet lint: what the importer of a private-inference tool would refuse in an ONNX file. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "core/base/file.h"
#include "exporter/lint.h"
#include "importer/importer.h"

struct options {
    int32_t target; /* from 0; export_target begins at 1 */
};
static const struct cli_option options[] = {{"for", 0, CLI_CHOICE, offsetof(struct options, target),
                                             "crypten|ezpc|motion2nx",
                                             "the tool that shall read the file", 0, 0},
                                            {0}};
static const struct cli_spec spec = {
    "MODEL",
    1,
    1,
    "Lists the nodes of an ONNX file that a private-inference tool would refuse or misread. Exit status 3 if there are any. SPU and MP-SPDZ read no ONNX.",
    "linnet lint y.onnx --for crypten",
    options};

static json_t *report_json(const char *path, const char *target, const struct lint_report *r)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < r->n; i++) {
        const struct lint_finding *f = &r->finding[i];

        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "node", f->node, "op", f->op,
                                              "message", f->message, "hint", f->hint));
    }
    return json_pack("{s:s,s:s,s:s,s:o}", "format", "linnet.lint/1", "model", path, "for", target,
                     "problems", list);
}

static void print(FILE *out, const char *target, const struct lint_report *r)
{
    for (int32_t i = 0; i < r->n; i++) {
        const struct lint_finding *f = &r->finding[i];

        if (f->op[0] != '\0')
            fprintf(out, "%s (%s): ", f->node, f->op);
        fprintf(out, "%s%s%s\n", f->message, f->hint[0] != '\0' ? ". Hint: " : "", f->hint);
    }
    if (r->n == 0)
        fprintf(out, "nothing that %s would refuse\n", target);
}

static int lint(const struct cli_common *c, enum export_target target)
{
    const char *path = c->arg[0], *name = lint_target_name(target);
    struct lint_report r = {0};
    uint8_t *bytes = NULL;
    size_t len;
    int rc;

    if ((rc = file_read(path, IMPORT_MAX_FILE, &bytes, &len)) < 0)
        goto out;
    if ((rc = lint_bytes(bytes, len, target, &r)) < 0) {
        rc = rc == ERR_NOMEM ? rc : fail_context(rc, "%s", path);
        goto out;
    }
    print(cli_out(c), name, &r);
    if ((rc = cli_json_write(c, report_json(path, name, &r))) == 0 && r.n > 0)
        rc =
            fail(ERR_UNSUPPORTED, "%s: %d reasons for %s to refuse or misread it", path, r.n, name);
out:
    lint_release(&r);
    mem_free(bytes);
    return rc;
}

int cmd_lint(int argc, char **argv)
{
    struct options o = {.target = -1};
    struct cli_common c;
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && o.target < 0)
        rc = fail(ERR_ARG, "give --for crypten, ezpc or motion2nx");
    if (rc == 0)
        rc = lint(&c, (enum export_target)(o.target + 1));
    cli_release(&c);
    return rc;
}
