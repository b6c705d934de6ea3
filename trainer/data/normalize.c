/*
 * Normalisation presets as text and as numbers. A custom text "m,m,m/s,s,s" holds plain decimals, no
 * fractions: the slash stands between means and deviations.
 */
#include "trainer/data/normalize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRESET_ROW(name, channels, mean, std) {name, {channels, mean, std}},
const struct normalize_preset normalize_preset[NORMALIZE_PRESETS] = {NORMALIZE_TABLE(PRESET_ROW)};

/* A number (linnet never calls setlocale, so the point is the decimal sign). Returns the character
 * after it, NULL if there is none or it is out of range. */
static const char *parse_number(const char *s, float *out)
{
    char *end;

    if (strchr("+-.0123456789", *s) == NULL || *s == '\0')
        return NULL;
    *out = strtof(s, &end);
    return end == s || !(*out > -1e6f && *out < 1e6f) ? NULL : end;
}

/* "v,v,v" up to `stop`; the count, or -1. */
static int parse_list(const char **s, char stop, float *v)
{
    for (int n = 0; n < GRAPH_MAX_CHANNELS_NORM;) {
        const char *end = parse_number(*s, &v[n]);
        if (end == NULL)
            return -1;
        n++;
        if (*end == stop) {
            *s = end + (stop != '\0');
            return n;
        }
        if (*end != ',')
            return -1;
        *s = end + 1;
    }
    return -1;
}

static int parse_custom(const char *text, struct input_norm *out)
{
    struct input_norm norm = {0};
    const char *s = text;
    int n_mean = parse_list(&s, '/', norm.mean);
    int n_std = n_mean < 0 ? -1 : parse_list(&s, '\0', norm.std);

    if (n_mean < 0 || n_std < 0)
        return fail(ERR_ARG, "normalisation '%s' is not one of " NORMALIZE_WORDS, text);
    if (n_mean != n_std)
        return fail(ERR_ARG, "normalisation '%s' has %d means and %d standard deviations", text,
                    n_mean, n_std);
    for (int i = 0; i < n_std; i++)
        if (!(norm.std[i] > 0))
            return fail(ERR_ARG, "normalisation '%s': standard deviation %g is not above 0", text,
                        (double)norm.std[i]);
    norm.channels = n_mean;
    *out = norm;
    return 0;
}

int normalize_parse(const char *text, struct input_norm *out)
{
    for (size_t i = 0; i < NORMALIZE_PRESETS; i++)
        if (strcmp(text, normalize_preset[i].name) == 0) {
            *out = normalize_preset[i].norm;
            return 0;
        }
    return parse_custom(text, out);
}

/* The fewest digits that read back as the same float. */
static int write_number(char *buf, size_t size, float v)
{
    int n = 0;

    for (int digits = 1; digits <= 9; digits++) {
        n = snprintf(buf, size, "%.*g", digits, (double)v);
        if (strtof(buf, NULL) == v)
            break;
    }
    return n;
}

static bool same_norm(const struct input_norm *a, const struct input_norm *b)
{
    const size_t n = (size_t)a->channels * sizeof *a->mean;

    return a->channels == b->channels && memcmp(a->mean, b->mean, n) == 0 &&
           memcmp(a->std, b->std, n) == 0;
}

const char *normalize_text(const struct input_norm *norm, char buf[NORMALIZE_TEXT])
{
    size_t at = 0;

    for (size_t i = 0; i < NORMALIZE_PRESETS; i++)
        if (same_norm(norm, &normalize_preset[i].norm))
            return strcpy(buf, normalize_preset[i].name);
    for (int i = 0; i < 2 * norm->channels; i++) {
        int c = i % norm->channels;
        if (i > 0)
            buf[at++] = c == 0 ? '/' : ',';
        at += (size_t)write_number(buf + at, NORMALIZE_TEXT - at,
                                   i < norm->channels ? norm->mean[c] : norm->std[c]);
    }
    return buf;
}
