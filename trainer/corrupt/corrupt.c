/*
 * The corruption generator: names, the table of operations, and what they share.
 *
 * Source: Hendrycks and Dietterich 2019 (robustness.md section 7). The operations live in
 * corrupt_noise.c, corrupt_blur.c, corrupt_light.c, corrupt_warp.c, corrupt_weather.c and
 * corrupt_spatter.c.
 */
#include "trainer/corrupt/corrupt.h"

#include <string.h>

#include "core/base/mem.h"
#include "trainer/corrupt/job.h"

#define CORRUPT_MIN_SIDE 8
#define LARGE_FROM 49 /* pixels: between the two sizes the parameters were published for */

static const struct {
    const char *name;
    int (*apply)(struct corrupt_job *j);
    bool is_random;
} table[CORRUPT_N] = {
    [CORRUPT_GAUSSIAN_NOISE] = {"gaussian_noise", corrupt_gaussian_noise, true},
    [CORRUPT_SHOT_NOISE] = {"shot_noise", corrupt_shot_noise, true},
    [CORRUPT_IMPULSE_NOISE] = {"impulse_noise", corrupt_impulse_noise, true},
    [CORRUPT_DEFOCUS_BLUR] = {"defocus_blur", corrupt_defocus_blur, false},
    [CORRUPT_GLASS_BLUR] = {"glass_blur", corrupt_glass_blur, true},
    [CORRUPT_MOTION_BLUR] = {"motion_blur", corrupt_motion_blur, true},
    [CORRUPT_ZOOM_BLUR] = {"zoom_blur", corrupt_zoom_blur, false},
    [CORRUPT_SNOW] = {"snow", corrupt_snow, true},
    [CORRUPT_FROST] = {"frost", corrupt_frost, true},
    [CORRUPT_FOG] = {"fog", corrupt_fog, true},
    [CORRUPT_BRIGHTNESS] = {"brightness", corrupt_brightness, false},
    [CORRUPT_CONTRAST] = {"contrast", corrupt_contrast, false},
    [CORRUPT_ELASTIC_TRANSFORM] = {"elastic_transform", corrupt_elastic_transform, true},
    [CORRUPT_PIXELATE] = {"pixelate", corrupt_pixelate, false},
    [CORRUPT_JPEG_COMPRESSION] = {"jpeg_compression", corrupt_jpeg_compression, false},
    [CORRUPT_SPECKLE_NOISE] = {"speckle_noise", corrupt_speckle_noise, true},
    [CORRUPT_GAUSSIAN_BLUR] = {"gaussian_blur", corrupt_gaussian_blur, false},
    [CORRUPT_SPATTER] = {"spatter", corrupt_spatter, true},
    [CORRUPT_SATURATE] = {"saturate", corrupt_saturate, false},
};

const char *corrupt_name(enum corrupt_type type)
{
    return table[type].name;
}

bool corrupt_is_supported(enum corrupt_type type)
{
    return type != CORRUPT_FROST;
}

bool corrupt_is_random(enum corrupt_type type)
{
    return table[type].is_random;
}

int corrupt_parse(const char *name, enum corrupt_type *out)
{
    for (int i = 0; i < CORRUPT_N; i++)
        if (strcmp(name, table[i].name) == 0) {
            *out = (enum corrupt_type)i;
            return 0;
        }
    return fail(ERR_ARG, "'%s' is not the name of a corruption, such as gaussian_noise", name);
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
    struct corrupt_job j = {chw, height, width, severity - 1, false, r, NULL, NULL, photos};
    int rc;

    TRY(check(type, severity, height, width));
    j.large = (height > width ? height : width) >= LARGE_FROM;
    if ((j.x = mem_array(2 * n, sizeof *j.x)) == NULL)
        return ERR_NOMEM;
    j.work = j.x + n;
    for (size_t i = 0; i < n; i++)
        j.x[i] = chw[i] / 255.0;
    if ((rc = table[type].apply(&j)) == 0)
        for (size_t i = 0; i < n; i++)
            out[i] = to_byte(j.x[i]);
    mem_free(j.x);
    return rc;
}

int corrupt_apply(enum corrupt_type type, int severity, const uint8_t *chw, int32_t height,
                  int32_t width, struct rng *r, uint8_t *out)
{
    return corrupt_apply_with(NULL, type, severity, chw, height, width, r, out);
}
