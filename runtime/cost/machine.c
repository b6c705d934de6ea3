/* Constants of a machine and their file (machine.h). */
#include "runtime/cost/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/file.h"

#define MAX_FILE ((size_t)64 << 10)
#define KEY 64 /* bytes of the longest key */

/* ---- constants by backend and by key ------------------------------------------------------ */

struct cost_machine cost_machine_default(void)
{
    struct cost_machine m = {.name = "built in",
                             .date = "2026-11",
                             .cpu = "AMD EPYC (Zen 4), 2 cores",
                             .byte = 0.35e-9,
                             .silent_row = 1e-9 * ferret_set(0)->row_ns,
                             .mac = 0.078e-9,
                             .window_entry = 2.0e-9,
                             .element = 0.5e-9};

    for (int i = 0; relu_backends()[i] != NULL; i++)
        m.relu[i] = relu_backends()[i]->seconds;
    for (int i = 0; linear_backends()[i] != NULL; i++) {
        const struct linear_constant *c = linear_backends()[i]->constant;
        for (int k = 0; c[k].name != NULL; k++)
            m.linear[i][k] = c[k].seconds;
    }
    return m;
}

const struct relu_seconds *cost_machine_relu(const struct cost_machine *m,
                                             const struct relu_backend *r)
{
    int i = 0;

    while (relu_backends()[i + 1] != NULL && relu_backends()[i] != r)
        i++;
    return &m->relu[i];
}

const double *cost_machine_linear(const struct cost_machine *m, const struct linear_backend *l)
{
    int i = 0;

    while (linear_backends()[i + 1] != NULL && linear_backends()[i] != l)
        i++;
    return m->linear[i];
}

static void visit_of(const char *backend, const char *name, double *seconds,
                     cost_constant_fn *visit, void *ctx)
{
    char key[KEY];

    snprintf(key, sizeof key, "%s.%s", backend, name);
    visit(ctx, key, seconds);
}

void cost_machine_each(struct cost_machine *m, cost_constant_fn *visit, void *ctx)
{
    for (int i = 0; relu_backends()[i] != NULL; i++) {
        const char *name = relu_backends()[i]->name;
        visit_of(name, "online_batch", &m->relu[i].online_batch, visit, ctx);
        visit_of(name, "online", &m->relu[i].online, visit, ctx);
        visit_of(name, "offline_batch", &m->relu[i].offline_batch, visit, ctx);
        visit_of(name, "offline", &m->relu[i].offline, visit, ctx);
    }
    for (int i = 0; linear_backends()[i] != NULL; i++) {
        const struct linear_backend *l = linear_backends()[i];
        for (int k = 0; l->constant[k].name != NULL; k++)
            visit_of(l->name, l->constant[k].name, &m->linear[i][k], visit, ctx);
    }
    visit(ctx, "byte", &m->byte);
    visit(ctx, "silent_row", &m->silent_row);
    visit(ctx, "mac", &m->mac);
    visit(ctx, "window_entry", &m->window_entry);
    visit(ctx, "element", &m->element);
}

struct wanted {
    const char *key;
    double *found;
};

static void compare_key(void *ctx, const char *key, double *seconds)
{
    struct wanted *w = ctx;

    if (strcmp(key, w->key) == 0)
        w->found = seconds;
}

double *cost_machine_constant(struct cost_machine *m, const char *key)
{
    struct wanted w = {key, NULL};

    cost_machine_each(m, compare_key, &w);
    return w.found;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* The text member of that name. */
static char *text_member(struct cost_machine *m, const char *key, size_t *size)
{
    *size = sizeof m->name;
    if (strcmp(key, "name") == 0)
        return m->name;
    *size = sizeof m->date;
    if (strcmp(key, "date") == 0)
        return m->date;
    *size = sizeof m->cpu;
    if (strcmp(key, "cpu") == 0)
        return m->cpu;
    *size = sizeof m->revision;
    return strcmp(key, "revision") == 0 ? m->revision : NULL;
}

/* Without the spaces around it. */
static char *trim(char *text)
{
    size_t n;

    text += strspn(text, " \t\r");
    for (n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]) != NULL;)
        text[--n] = '\0';
    return text;
}

static int read_line(struct cost_machine *m, char *line)
{
    char *equals = strchr(line, '='), *key, *value, *end, *to;
    double *constant;
    size_t size;

    if (*trim(line) == '\0' || *trim(line) == '#')
        return 0;
    if (equals == NULL)
        return fail(ERR_FORMAT, "'%s' is not \"key = value\"", trim(line));
    *equals = '\0';
    key = trim(line);
    value = trim(equals + 1);
    if ((to = text_member(m, key, &size)) != NULL) {
        snprintf(to, size, "%s", value);
        return 0;
    }
    if ((constant = cost_machine_constant(m, key)) == NULL)
        return fail(ERR_FORMAT,
                    "no constant is called '%s'; linnet-pi bench --save writes this file anew",
                    key);
    *constant = strtod(value, &end);
    if (end == value || *end != '\0' || !(*constant >= 0) || !isfinite(*constant))
        return fail(ERR_FORMAT, "'%s' is no number of seconds (%s)", value, key);
    return 0;
}

static int read_lines(struct cost_machine *m, char *text)
{
    for (int number = 1; text != NULL; number++) {
        char *end = strchr(text, '\n');
        int rc;
        if (end != NULL)
            *end++ = '\0';
        if ((rc = read_line(m, text)) < 0)
            return fail_context(rc, "line %d", number);
        text = end;
    }
    return 0;
}

int cost_machine_read(const char *path, struct cost_machine *out)
{
    struct cost_machine m = cost_machine_default();
    OWNED uint8_t *text = NULL;
    size_t len;
    int rc;

    TRY(file_read(path, MAX_FILE, &text, &len));
    snprintf(m.name, sizeof m.name, "%s", path);
    m.date[0] = m.cpu[0] = m.revision[0] = '\0';
    if ((rc = read_lines(&m, (char *)text)) < 0)
        return fail_context(rc, "%s", path);
    *out = m;
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void put_text(struct buf_writer *w, const char *key, const char *value)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%s = %s\n", key, value);

    buf_put_bytes(w, line, (size_t)n);
}

static void put_constant(void *ctx, const char *key, double *seconds)
{
    char text[32];

    snprintf(text, sizeof text, "%.6g", *seconds);
    put_text(ctx, key, text);
}

int cost_machine_write(struct cost_machine *m, const char *path)
{
    static const char head[] = "# Constants of linnet's cost model: seconds of one unit of work.\n";
    struct buf_writer w = buf_writer_to(MAX_FILE);
    int rc;

    buf_put_bytes(&w, head, sizeof head - 1);
    put_text(&w, "name", m->name);
    put_text(&w, "date", m->date);
    put_text(&w, "cpu", m->cpu);
    put_text(&w, "revision", m->revision);
    cost_machine_each(m, put_constant, &w);
    if ((rc = buf_status(&w)) == 0)
        rc = file_write_atomic(path, FILE_PUBLIC, w.data, w.len);
    buf_release(&w);
    return rc;
}

int cost_machine_find(struct cost_machine *out)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char path[4096] = "";
    FILE *f;

    if (config != NULL && *config != '\0')
        snprintf(path, sizeof path, "%s/linnet/machine.txt", config);
    else if (home != NULL && *home != '\0')
        snprintf(path, sizeof path, "%s/.config/linnet/machine.txt", home);
    *out = cost_machine_default();
    if (*path == '\0' || (f = fopen(path, "r")) == NULL)
        return 0;
    fclose(f);
    return cost_machine_read(path, out);
}
