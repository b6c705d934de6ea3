/* Numbers and fractions in text; see number.h for what is accepted. */
#include "core/base/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* strtod without its words, hexadecimals and leading blanks. */
static bool read_decimal(const char *text, const char **end, double *out)
{
    const size_t n = strspn(text, "+-.0123456789eE");
    char *after;

    if (n == 0 || strchr("eE", *text) != NULL)
        return false;
    *out = strtod(text, &after);
    if (after == text || after > text + n) /* after n: a hexadecimal number */
        return false;
    *end = after;
    return true;
}

bool number_parse(const char *text, double *out)
{
    double v, below = 1;

    if (!read_decimal(text, &text, &v))
        return false;
    if (*text == '/' && !read_decimal(text + 1, &text, &below))
        return false;
    if (below == 0 || !isfinite(v / below) || *text != '\0')
        return false;
    *out = v / below;
    return true;
}
