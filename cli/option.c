/* Option tables and values; see option.h. */
#include "cli/option.h"

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
        return value_int(o->name, text, o->lo, o->hi, field);
    case CLI_REAL:
        return value_real(o->name, text, o->lo, o->hi, field);
    case CLI_TEXT:
    case CLI_INPUT:
    case CLI_SOURCE:
    case CLI_OUTPUT:
    case CLI_FOLDER:
        *(const char **)field = text;
        return 0;
    case CLI_TEXTS:
        return value_add_text(arena, text, field);
    case CLI_CHOICE:
        return value_choice(o->name, text, o->arg, field);
    }
    return fail(ERR_ARG, "option '--%s' has no kind", o->name);
}
