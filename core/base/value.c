/* Texts of options to values; see value.h. */
#include "core/base/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/number.h"

static int bad_value(const char *name, const char *text, const char *rule)
{
    return fail(ERR_ARG, "option '--%s': '%s' is not %s", name, text, rule);
}

static int check_range(const char *name, const char *text, double lo, double hi, double v)
{
    if ((lo != 0 || hi != 0) && !(v >= lo && v <= hi))
        return fail(ERR_ARG, "option '--%s': %s is outside %.15g ... %.15g", name, text, lo, hi);
    return 0;
}

int value_int(const char *name, const char *text, double lo, double hi, int64_t *out)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return bad_value(name, text, "a whole number");
    TRY(check_range(name, text, lo, hi, (double)v));
    *out = v;
    return 0;
}

int value_real(const char *name, const char *text, double lo, double hi, double *out)
{
    double v;

    if (!number_parse(text, &v))
        return bad_value(name, text, "a number");
    TRY(check_range(name, text, lo, hi, v));
    *out = v;
    return 0;
}

int value_choice(const char *name, const char *text, const char *words, int32_t *out)
{
    const size_t len = strlen(text);
    int32_t index = 0;

    for (const char *word = words; word != NULL; index++) {
        const char *bar = strchr(word, '|');
        const size_t n = bar != NULL ? (size_t)(bar - word) : strlen(word);

        if (n == len && memcmp(word, text, n) == 0) {
            *out = index;
            return 0;
        }
        word = bar != NULL ? bar + 1 : NULL;
    }
    return fail(ERR_ARG, "option '--%s': '%s' is not one of %s", name, text, words);
}

int value_add_text(struct arena *arena, const char *text, struct value_texts *list)
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
