/* Between the command line and the library; see front.h. */
#include "cli/linnet/front.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/sha256.h"

struct front_value {
    union {
        bool flag;
        const char *text;
        struct value_texts texts;
    };
};

/* ---- the listener -------------------------------------------------------------------------- */

static void on_message(void *ctx, enum linnet_level level, const char *text)
{
    struct front *f = ctx;

    cli_progress_end(&f->progress); /* the bar makes room */
    if (level == LINNET_NOTE)
        cli_note(&f->c, "%s", text);
    else
        cli_detail(&f->c, "%s", text);
}

static void on_progress(void *ctx, const char *task, double done, const char *text)
{
    struct front *f = ctx;

    if (text == NULL) {
        cli_progress_end(&f->progress);
        f->in_progress = false;
        return;
    }
    if (!f->in_progress)
        cli_progress_begin(&f->progress, &f->c, plan_task(&f->plan, task));
    f->in_progress = true;
    cli_progress_left(&f->progress, plan_left(&f->plan, task, done, *text == '\0'));
    cli_progress_at(&f->progress, done, "%s", text);
}

static void on_plan(void *ctx, const struct linnet_stage *stage, int n)
{
    struct front *f = ctx;

    plan_begin(&f->plan, &f->c, stage, n);
}

static int on_interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

/* ---- options ------------------------------------------------------------------------------- */

static int32_t count_task(const char *task)
{
    int32_t n = 0;

    while (task != NULL && linnet_option_at(task, n) != NULL)
        n++;
    return n;
}

/* A row for the parser. It only collects texts: the library knows kinds and ranges. */
static struct cli_option row_of(const struct linnet_option *o)
{
    static const enum cli_kind text[] = {[LINNET_ROLE_NONE] = CLI_TEXT,
                                         [LINNET_ROLE_INPUT] = CLI_INPUT,
                                         [LINNET_ROLE_SOURCE] = CLI_SOURCE,
                                         [LINNET_ROLE_OUTPUT] = CLI_OUTPUT,
                                         [LINNET_ROLE_FOLDER] = CLI_FOLDER};

    return (struct cli_option){.name = o->name,
                               .letter = o->letter,
                               .kind = o->value == NULL ? CLI_FLAG
                                       : o->repeats     ? CLI_TEXTS
                                                        : text[o->role],
                               .arg = o->value,
                               .help = o->help};
}

static int make_rows(struct front *f, const struct cli_spec *spec, const char *task)
{
    const int32_t own = cli_option_rows(spec->option), n = own + count_task(task);

    f->row = mem_array((size_t)n + 1, sizeof *f->row);
    f->value = mem_array((size_t)n + 1, sizeof *f->value);
    if (f->row == NULL || f->value == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < n; i++) {
        f->row[i] = i < own ? spec->option[i] : row_of(linnet_option_at(task, i - own));
        f->row[i].offset = (size_t)i * sizeof *f->value;
    }
    return 0;
}

/* What was given of row i goes to the library. */
static int pass_on(struct front *f, int32_t i)
{
    const struct cli_option *row = &f->row[i];
    const struct front_value *v = &f->value[i];

    if (row->kind == CLI_FLAG)
        return v->flag ? linnet_options_set(f->o, row->name, NULL) : 0;
    if (row->kind != CLI_TEXTS)
        return v->text ? linnet_options_set(f->o, row->name, v->text) : 0;
    for (int32_t k = 0; k < v->texts.n; k++)
        TRY(linnet_options_set(f->o, row->name, v->texts.v[k]));
    return 0;
}

static int fill_options(struct front *f, const char *task, int32_t first)
{
    char seed[32];

    TRY(linnet_options_new(task, &f->o));
    snprintf(seed, sizeof seed, "%lld", (long long)f->c.seed);
    TRY(linnet_options_set(f->o, "seed", seed));
    for (int32_t i = first; f->row[i].name != NULL; i++)
        TRY(pass_on(f, i));
    return 0;
}

int front_begin(struct front *f, const struct cli_spec *spec, const char *task, int argc,
                char **argv)
{
    struct cli_spec whole = *spec;

    *f = (struct front){.listener = {f, on_message, on_progress, on_interrupted, on_plan},
                        .plan = {.at = -1}};
    TRY(make_rows(f, spec, task));
    whole.option = f->row;
    TRY(cli_parse(&whole, argc, argv, &f->c, f->value));
    return task != NULL ? fill_options(f, task, cli_option_rows(spec->option)) : 0;
}

static const struct front_value *value_of(const struct front *f, const char *name)
{
    int32_t i = 0;

    while (strcmp(f->row[i].name, name) != 0)
        i++;
    return &f->value[i];
}

const char *front_text(const struct front *f, const char *name)
{
    return value_of(f, name)->text;
}

bool front_flag(const struct front *f, const char *name)
{
    return value_of(f, name)->flag;
}

/* ---- states -------------------------------------------------------------------------------- */

static bool holds_state(const char *folder, const char *below)
{
    static const char *const name[] = {"teacher.safetensors", "checkpoint.safetensors"};
    char path[4096];

    for (int i = 0; i < 2; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", folder, below, name[i]) < sizeof path &&
            access(path, F_OK) == 0)
            return true;
    return false;
}

bool front_has_state(const char *folder)
{
    DIR *d = opendir(folder);
    bool found = false;

    for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, "..") != 0)
            found = holds_state(folder, e->d_name);
    if (d != NULL)
        closedir(d);
    return found;
}

/* ---- results ------------------------------------------------------------------------------- */

int front_add_file(json_t **list, const char *path)
{
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX];
    struct stat st;

    TRY(sha256_file(path, digest));
    if (stat(path, &st) < 0)
        return fail(ERR_IO, "cannot look at '%s'", path);
    json_add(list, json_pack("{s:o,s:I,s:s}", "path", json_text(path), "bytes",
                             (json_int_t)st.st_size, "sha256", sha256_hex(digest, hex)));
    return 0;
}

static int show(const struct front *f, const struct linnet_report *r)
{
    if (r == NULL)
        return 0;
    fputs(linnet_report_text(r), cli_out(&f->c));
    return cli_json_text(&f->c, linnet_report_json(r));
}

int front_end(struct front *f, int rc, struct linnet_report *report)
{
    const int shown = show(f, report);

    linnet_report_free(report);
    linnet_options_free(f->o);
    mem_free(f->row);
    mem_free(f->value);
    cli_release(&f->c);
    return shown < 0 ? shown : rc;
}
