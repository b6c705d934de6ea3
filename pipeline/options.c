/* Options: texts to values by a table; see options.h. */
#include "pipeline/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/number.h"

#define DEFAULT_SEED 1
#define MOST_SEED 9e15
#define OPTIONS_LIMIT ((size_t)16 << 20) /* bytes of all texts */

struct given {
    const struct option_row *row;
    const char *text; /* NULL for a flag that is set, "false" for one that is taken back */
    struct given *next;
};
struct linnet_options {
    const struct task *task;
    struct arena *arena; /* owns the rest */
    void *values;
    struct given *first, **last;
    int64_t seed;
};

/* ---- values ------------------------------------------------------------------------------- */

static int bad_value(const char *name, const char *text, const char *rule)
{
    return fail(ERR_ARG, "option '--%s': '%s' is not %s", name, text, rule);
}

static int check_range(const struct option_row *r, const char *text, double v)
{
    if ((r->lo != 0 || r->hi != 0) && !(v >= r->lo && v <= r->hi))
        return fail(ERR_ARG, "option '--%s': %s is outside %.15g ... %.15g", r->is.name, text,
                    r->lo, r->hi);
    return 0;
}

static int read_int(const char *name, const char *text, int64_t *out)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return bad_value(name, text, "a whole number");
    *out = v;
    return 0;
}

static int read_choice(const struct option_row *r, const char *text, int32_t *out)
{
    const size_t len = strlen(text);
    int32_t index = 0;

    for (const char *word = r->is.value; word != NULL; index++) {
        const char *bar = strchr(word, '|');
        const size_t n = bar != NULL ? (size_t)(bar - word) : strlen(word);

        if (n == len && memcmp(word, text, n) == 0) {
            *out = index;
            return 0;
        }
        word = bar != NULL ? bar + 1 : NULL;
    }
    return fail(ERR_ARG, "option '--%s': '%s' is not one of %s", r->is.name, text, r->is.value);
}

static int read_flag(const struct option_row *r, const char *text, bool *out)
{
    if (text != NULL && strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return fail(ERR_ARG, "option '--%s' takes no value", r->is.name);
    *out = text == NULL || strcmp(text, "true") == 0;
    return 0;
}

static int add_text(struct arena *arena, struct option_texts *list, const char *text)
{
    const char **v = arena_array(arena, (size_t)list->n + 1, sizeof *v);

    if (v == NULL)
        return ERR_NOMEM;
    if (list->n > 0)
        memcpy((void *)v, (const void *)list->v, (size_t)list->n * sizeof *v);
    v[list->n++] = text;
    list->v = v;
    return 0;
}

/* Stores the value of one row; nothing changes on failure. */
static int set_value(const struct option_row *r, struct arena *arena, const char *text, void *base)
{
    void *field = (char *)base + r->offset;
    int64_t whole = 0;
    double real;

    if (r->kind == OPTION_FLAG)
        return read_flag(r, text, field);
    if (text == NULL)
        return fail(ERR_ARG, "option '--%s' needs a value (%s)", r->is.name, r->is.value);
    switch (r->kind) {
    case OPTION_INT:
        TRY(read_int(r->is.name, text, &whole));
        TRY(check_range(r, text, (double)whole));
        *(int64_t *)field = whole;
        return 0;
    case OPTION_REAL:
        if (!number_parse(text, &real))
            return bad_value(r->is.name, text, "a number");
        TRY(check_range(r, text, real));
        *(double *)field = real;
        return 0;
    case OPTION_CHOICE:
        return read_choice(r, text, field);
    case OPTION_TEXTS:
        return add_text(arena, field, text);
    case OPTION_TEXT:
    case OPTION_FLAG:
        break;
    }
    *(const char **)field = text;
    return 0;
}

/* ---- the handle --------------------------------------------------------------------------- */

int options_new(const struct task *task, struct linnet_options **out)
{
    struct arena *arena = NULL;
    struct linnet_options *o;

    *out = NULL;
    TRY(arena_new(OPTIONS_LIMIT, &arena));
    o = arena_array(arena, 1, sizeof *o);
    if (o != NULL)
        *o = (struct linnet_options){task, arena,     arena_array(arena, task->size, 1),
                                     NULL, &o->first, DEFAULT_SEED};
    if (o == NULL || o->values == NULL) {
        arena_free(arena);
        return ERR_NOMEM;
    }
    memcpy(o->values, task->defaults, task->size);
    *out = o;
    return 0;
}

void linnet_options_free(struct linnet_options *o)
{
    if (o != NULL)
        arena_free(o->arena);
}

static int set_seed(struct linnet_options *o, const char *text)
{
    int64_t v = 0;

    if (text == NULL)
        return fail(ERR_ARG, "option '--seed' needs a value (N)");
    TRY(read_int("seed", text, &v));
    if (v < 0 || (double)v > MOST_SEED)
        return fail(ERR_ARG, "option '--seed': %s is outside 0 ... %.15g", text, MOST_SEED);
    o->seed = v;
    return 0;
}

int linnet_options_set(struct linnet_options *o, const char *name, const char *value)
{
    const struct option_row *r = o->task->row;
    struct given *g;

    if (strcmp(name, "seed") == 0)
        return set_seed(o, value);
    while (r->is.name != NULL && strcmp(r->is.name, name) != 0)
        r++;
    if (r->is.name == NULL)
        return fail(ERR_ARG, "task '%s' has no option '%s'; 'linnet %s --help' lists them",
                    o->task->name, name, o->task->name);
    if ((g = arena_array(o->arena, 1, sizeof *g)) == NULL ||
        (value != NULL && (value = arena_strdup(o->arena, value)) == NULL))
        return ERR_NOMEM;
    TRY(set_value(r, o->arena, value, o->values));
    *g = (struct given){r, value, NULL};
    *o->last = g;
    o->last = &g->next;
    return 0;
}

/* ---- for the tasks ------------------------------------------------------------------------ */

int options_read(const struct linnet_options *o, const struct task *task, const void **values)
{
    if (o == NULL && task->check == NULL) {
        *values = task->defaults;
        return 0;
    }
    if (o == NULL || o->task != task)
        return fail(ERR_ARG, "options of task '%s' are needed here", task->name);
    *values = o->values;
    return task->check != NULL ? task->check(o) : 0;
}

const void *options_values(const struct linnet_options *o)
{
    return o->values;
}

const struct task *options_task(const struct linnet_options *o)
{
    return o->task;
}

uint64_t options_seed(const struct linnet_options *o)
{
    return o != NULL ? (uint64_t)o->seed : DEFAULT_SEED;
}

int options_fill(const struct linnet_options *o, void *values)
{
    for (const struct given *g = o != NULL ? o->first : NULL; g != NULL; g = g->next)
        TRY(set_value(g->row, o->arena, g->text, values));
    return 0;
}
