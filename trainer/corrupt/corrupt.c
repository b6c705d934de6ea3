/*
 * The corruption generator: names, the table of operations, and what they share.
 *
 * Source: Hendrycks and Dietterich 2019. The operations live in noise.c, blur.c, light.c, warp.c,
 * weather.c and spatter.c.
 */
#include "trainer/corrupt/corrupt.h"

#include <string.h>

#include "core/base/mem.h"
#include "trainer/corrupt/job.h"

#define CORRUPT_MIN_SIDE 8
#define LARGE_FROM 49 /* pixels: between the two sizes the parameters were published for */

enum how { FIXED, DRAWN, PHOTO };

#define ROW(NAME, name, set, how) [CORRUPT_##NAME] = {#name, corrupt_##name, CORRUPT_IN_##set, how},
static const struct {
    const char *name;
    int (*apply)(struct corrupt_job *j);
    bool is_standard;
    enum how how;
} table[CORRUPT_N] = {CORRUPT_TABLE(ROW)};

const char *corrupt_name(enum corrupt_type type)
{
    return table[type].name;
}

bool corrupt_needs_photos(enum corrupt_type type)
{
    return table[type].how == PHOTO;
}

bool corrupt_is_random(enum corrupt_type type)
{
    return table[type].how != FIXED;
}

bool corrupt_is_standard(enum corrupt_type type)
{
    return table[type].is_standard;
}

int corrupt_parse(const char *name, enum corrupt_type *out)
{
    for (int i = 0; i < CORRUPT_N; i++)
        if (strcmp(name, table[i].name) == 0) {
            *out = (enum corrupt_type)i;
            return 0;
        }
    return fail(ERR_ARG, "'%s' is not one of the corruptions:" CORRUPT_WORDS, name);
}

static int check(enum corrupt_type type, int severity, int32_t height, int32_t width)
{
    if (severity < 1 || severity > CORRUPT_SEVERITIES)
        return fail(ERR_ARG, "corruption %s: severity %d is not in 1 ... %d", table[type].name,
                    severity, CORRUPT_SEVERITIES);
    if (height < CORRUPT_MIN_SIDE || width < CORRUPT_MIN_SIDE || height > CORRUPT_MAX_SIDE ||
        width > CORRUPT_MAX_SIDE)
        return fail(ERR_ARG, "corruption %s: %dx%d pixels, sides must be %d ... %d",
                    table[type].name, height, width, CORRUPT_MIN_SIDE, CORRUPT_MAX_SIDE);
    return 0;
}

static uint8_t to_byte(double v)
{
    return (uint8_t)((v < 0 ? 0 : v > 1 ? 1 : v) * 255);
}

int corrupt_apply_with(const struct corrupt_photos *photos, enum corrupt_type type, int severity,
                       const uint8_t *chw, int32_t height, int32_t width, struct rng *r,
                       uint8_t *out)
{
    size_t n = 3 * (size_t)height * (size_t)width;
    OWNED double *x = NULL;

    TRY(check(type, severity, height, width));
    if ((x = mem_array(2 * n, sizeof *x)) == NULL)
        return ERR_NOMEM;
    const bool large = (height > width ? height : width) >= LARGE_FROM;
    struct corrupt_job j = {chw, height, width, severity - 1, large, r, x, x + n, photos};
    for (size_t i = 0; i < n; i++)
        x[i] = chw[i] / 255.0;
    TRY(table[type].apply(&j));
    for (size_t i = 0; i < n; i++)
        out[i] = to_byte(x[i]);
    return 0;
}

int corrupt_apply(enum corrupt_type type, int severity, const uint8_t *chw, int32_t height,
                  int32_t width, struct rng *r, uint8_t *out)
{
    return corrupt_apply_with(NULL, type, severity, chw, height, width, r, out);
}
