/* Options: texts to values by a table; see options.h. */
#include "pipeline/options.h"

#include <string.h>

#include "core/base/mem.h"

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

static int read_flag(const struct option_row *r, const char *text, bool *out)
{
    if (text != NULL && strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return fail(ERR_ARG, "option '--%s' takes no value", r->is.name);
    *out = text == NULL || strcmp(text, "true") == 0;
    return 0;
}

/* Stores the value of one row; nothing changes on failure. */
static int set_value(const struct option_row *r, struct arena *arena, const char *text, void *base)
{
    void *field = (char *)base + r->offset;
    if (r->kind == OPTION_FLAG)
        return read_flag(r, text, field);
    if (text == NULL)
        return fail(ERR_ARG, "option '--%s' needs a value (%s)", r->is.name, r->is.value);
    switch (r->kind) {
    case OPTION_INT:
        return value_int(r->is.name, text, r->lo, r->hi, field);
    case OPTION_REAL:
        return value_real(r->is.name, text, r->lo, r->hi, field);
    case OPTION_CHOICE:
        return value_choice(r->is.name, text, r->is.value, field);
    case OPTION_TEXTS:
        return value_add_text(arena, text, field);
    case OPTION_TEXT:
    case OPTION_INPUT:
    case OPTION_SOURCE:
    case OPTION_OUTPUT:
    case OPTION_FOLDER:
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

int linnet_options_set(struct linnet_options *o, const char *name, const char *value)
{
    const struct option_row *r = o->task->row;
    struct given *g;

    if (strcmp(name, "seed") == 0)
        return value_int(name, value != NULL ? value : "", 0, MOST_SEED, &o->seed);
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
