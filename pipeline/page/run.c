/* One folder of linearize (run.h): what is there is read whole; a line of metrics that is no JSON ends them. */
#include "pipeline/page/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/mem.h"

static int path_of(const char *folder, const char *file, char *out, size_t size)
{
    const size_t n = strlen(folder);
    const char *between = n > 0 && folder[n - 1] == '/' ? "" : "/";

    if ((size_t)snprintf(out, size, "%s%s%s", folder, between, file) >= size)
        return fail(ERR_ARG, "'%s': the path is too long", folder);
    return 0;
}

static int need_format(const char *path, const json_t *root, const char *format)
{
    const char *had = page_text(root, "format");

    if (had != NULL && strcmp(had, format) == 0)
        return 0;
    return fail(ERR_FORMAT, "'%s' is not a %s file", path, format);
}

static int read_metrics(const char *path, json_t *lines)
{
    OWNED uint8_t *bytes = NULL;
    size_t len;

    if (access(path, F_OK) != 0)
        return 0;
    TRY(file_read(path, REPORT_LIMIT, &bytes, &len));
    for (size_t at = 0; at < len;) {
        const uint8_t *end = memchr(bytes + at, '\n', len - at);
        const size_t n = end != NULL ? (size_t)(end - bytes) - at : len - at;
        json_t *line = json_loadb((const char *)bytes + at, n, 0, NULL);
        if (line == NULL) /* a kill may leave half a line at the end */
            break;
        json_add(&lines, line);
        at += n + 1;
    }
    return 0;
}

int page_run_open(const char *folder, struct page_run *out)
{
    char path[4096];

    *out = (struct page_run){.metrics = json_array()};
    if (out->metrics == NULL)
        return ERR_NOMEM;
    TRY(path_of(folder, "", out->folder, sizeof out->folder));
    out->folder[strlen(out->folder) - 1] = '\0';
    const char *slash = strrchr(out->folder, '/');
    out->name = slash != NULL ? slash + 1 : out->folder;
    TRY(path_of(folder, "report.json", path, sizeof path));
    TRY(json_read(path, REPORT_LIMIT, &out->report));
    TRY(need_format(path, out->report, "linnet.report/1"));
    TRY(path_of(folder, "metrics.jsonl", path, sizeof path));
    TRY(read_metrics(path, out->metrics));
    TRY(path_of(folder, "checkpoint.safetensors", path, sizeof path));
    return access(path, F_OK) == 0 ? st_reader_open(path, &out->checkpoint) : 0;
}

void page_run_close(struct page_run *r)
{
    json_decref(r->report);
    json_decref(r->metrics);
    st_reader_close(r->checkpoint);
    *r = (struct page_run){0};
}

int page_sweep_open(const char *folder, json_t **out)
{
    char path[4096];

    *out = NULL;
    TRY(path_of(folder, "sweep.json", path, sizeof path));
    if (access(path, F_OK) != 0)
        return 0;
    TRY(json_read(path, REPORT_LIMIT, out));
    return need_format(path, *out, "linnet.sweep/1");
}

double page_value(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : NAN;
}

double page_number(const json_t *o, const char *key)
{
    return page_value(json_object_get(o, key));
}

const char *page_text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

const json_t *page_branch(const json_t *eval, const char *branch)
{
    size_t i;
    json_t *b;

    json_array_foreach(json_object_get(eval, "branches"), i, b)
    {
        const char *name = page_text(b, "name");
        if (name != NULL && strcmp(name, branch) == 0)
            return b;
    }
    return NULL;
}
