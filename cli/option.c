/* Option tables and values; see option.h. */
#include "cli/option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/number.h"

int32_t cli_option_rows(const struct cli_option *t)
{
    int32_t n = 0;

    while (t != NULL && t[n].name != NULL)
        n++;
    return n;
}

bool cli_option_takes_value(const struct cli_option *o)
{
    return o->kind != CLI_FLAG && o->kind != CLI_COUNT;
}

static int bad_value(const struct cli_option *o, const char *text, const char *rule)
{
    return fail(ERR_ARG, "option '--%s': '%s' is not %s", o->name, text, rule);
}

static int check_range(const struct cli_option *o, const char *text, double v)
{
    if ((o->lo != 0 || o->hi != 0) && !(v >= o->lo && v <= o->hi))
        return fail(ERR_ARG, "option '--%s': %s is outside %.15g ... %.15g", o->name, text, o->lo,
                    o->hi);
    return 0;
}

static int set_int(const struct cli_option *o, const char *text, int64_t *field)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return bad_value(o, text, "a whole number");
    TRY(check_range(o, text, (double)v));
    *field = v;
    return 0;
}

static int set_real(const struct cli_option *o, const char *text, double *field)
{
    double v;

    if (!number_parse(text, &v))
        return bad_value(o, text, "a number");
    TRY(check_range(o, text, v));
    *field = v;
    return 0;
}

static int set_choice(const struct cli_option *o, const char *text, int32_t *field)
{
    size_t len = strlen(text);
    int32_t index = 0;

    for (const char *word = o->arg; word != NULL; index++) {
        const char *bar = strchr(word, '|');
        size_t n = bar != NULL ? (size_t)(bar - word) : strlen(word);
        if (n == len && memcmp(word, text, n) == 0) {
            *field = index;
            return 0;
        }
        word = bar != NULL ? bar + 1 : NULL;
    }
    return fail(ERR_ARG, "option '--%s': '%s' is not one of %s", o->name, text, o->arg);
}

static int add_text(struct arena *arena, struct cli_texts *list, const char *text)
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

int cli_option_set(const struct cli_option *o, void *base, struct arena *arena, const char *text)
{
    void *field = (char *)base + o->offset;

    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return 0;
    case CLI_COUNT:
        ++*(int32_t *)field;
        return 0;
    case CLI_INT:
        return set_int(o, text, field);
    case CLI_REAL:
        return set_real(o, text, field);
    case CLI_TEXT:
        *(const char **)field = text;
        return 0;
    case CLI_TEXTS:
        return add_text(arena, field, text);
    case CLI_CHOICE:
        return set_choice(o, text, field);
    }
    return fail(ERR_ARG, "option '--%s' has no kind", o->name);
}
