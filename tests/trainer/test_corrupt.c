/* Corruptions without randomness against the libraries of the published script
 * (tests/vec/corrupt.txt), the random ones by their moments. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "tests/scratch.h"
#include "trainer/corrupt/corrupt.h"
#include "trainer/corrupt/set.h"
#include "trainer/corrupt/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define VECTORS "tests/vec/corrupt.txt"
#define MOST (3 * 64 * 64)

/* The generator of tests/vec/corrupt.py. */
static void make_picture(int32_t side, uint8_t *chw)
{
    uint32_t state = (uint32_t)side;

    for (int32_t i = 0; i < 3 * side * side; i++) {
        int32_t c = i / (side * side), y = i / side % side, x = i % side;
        state = state * 1664525u + 1013904223u;
        chw[i] = (uint8_t)((uint32_t)(x * (9 - 3 * c) + y * (2 + 4 * c) + 40 * c) + (state >> 26));
    }
}

static int hex_byte(const char *s)
{
    char text[3] = {s[0], s[1], '\0'};
    return (int)strtol(text, NULL, 16);
}

/* Adds the bytes that differ by one to *off, the bytes to *all; more than one is a failure. */
static void check_line(char *line, int *off, int *all)
{
    uint8_t in[MOST], out[MOST];
    char *word[5];
    enum corrupt_type type;
    struct rng r = rng_at(1, RNG_CORRUPT, 0, 0), before = r;
    int side, step;

    for (int i = 0; i < 5; i++)
        word[i] = strtok(i == 0 ? line : NULL, " \n");
    side = atoi(word[2]);
    step = atoi(word[3]);
    make_picture(side, in);
    assert_int_equal(corrupt_parse(word[0], &type), 0);
    assert_int_equal(corrupt_apply(type, atoi(word[1]), in, side, side, &r, out), 0);
    assert_memory_equal(&r, &before, sizeof r);
    for (int i = 0; i < 3 * side * side; i += step) {
        int differs = abs(out[i] - hex_byte(word[4] + 2 * (i / step)));
        if (differs > 1)
            fail_msg("%s %s at side %d: byte %d is off by %d", word[0], word[1], side, i, differs);
        *off += differs;
        *all += 1;
    }
}

static void test_types_without_randomness_equal_the_libraries(void **state)
{
    char line[1024];
    int off = 0, all = 0, lines = 0;
    FILE *f = fopen(VECTORS, "r");

    (void)state;
    assert_non_null(f);
    for (; fgets(line, sizeof line, f) != NULL; lines++)
        check_line(line, &off, &all);
    fclose(f);
    assert_int_equal(lines, 8 * 3 * 5);
    assert_true(off * 1000 <= all);
}

/* ---- random types against the same libraries (tests/vec/corrupt_random.txt) ------------------- */

#define MOMENTS 10
#define DRAWS 32
#define REFERENCE_DRAWS 60 /* at least so many were drawn there */

/* Mean, variance, mean squared differences at distances 1, 2, 4, 8 along rows and columns. */
static void measure(const uint8_t *chw, int32_t side, double m[MOMENTS])
{
    const int32_t n = 3 * side * side;
    double sum = 0, square = 0;

    for (int32_t i = 0; i < n; i++) {
        sum += chw[i] / 255.0;
        square += chw[i] / 255.0 * (chw[i] / 255.0);
    }
    m[0] = sum / n;
    m[1] = square / n - m[0] * m[0];
    for (int k = 0; k < 4; k++) {
        const int32_t lag = 1 << k, count = 3 * side * (side - lag);
        m[2 + 2 * k] = m[3 + 2 * k] = 0;
        for (int32_t i = 0; i < n; i++) {
            const double along = i % side + lag < side ? chw[i + lag] - chw[i] : 0;
            const double down = i / side % side + lag < side ? chw[i + lag * side] - chw[i] : 0;
            m[2 + 2 * k] += along * along / 65025.0 / count;
            m[3 + 2 * k] += down * down / 65025.0 / count;
        }
    }
}

static void check_moments(char *line)
{
    uint8_t in[MOST], out[MOST];
    double got[MOMENTS] = {0}, one[MOMENTS];
    char *name = strtok(line, " "), *end;
    const int severity = atoi(strtok(NULL, " ")), side = atoi(strtok(NULL, " "));
    enum corrupt_type type;

    make_picture(side, in);
    assert_int_equal(corrupt_parse(name, &type), 0);
    assert_true(corrupt_is_random(type));
    for (int d = 0; d < DRAWS; d++) {
        struct rng r = rng_at(3, RNG_CORRUPT, (uint32_t)type * 8 + (uint32_t)severity, (uint64_t)d);
        assert_int_equal(corrupt_apply(type, severity, in, side, side, &r, out), 0);
        measure(out, side, one);
        for (int i = 0; i < MOMENTS; i++)
            got[i] += one[i] / DRAWS;
    }
    end = strtok(NULL, "");
    for (int i = 0; i < MOMENTS; i++) {
        const double mean = strtod(end, &end), sd = strtod(end, &end);
        const double room = 4.5 * sd * sqrt(1.0 / DRAWS + 1.0 / REFERENCE_DRAWS) + 0.01 * mean;
        if (!(fabs(got[i] - mean) <= room + 1e-4))
            fail_msg("%s %d at side %d: moment %d is %g, the libraries' %g (deviation %g)", name,
                     severity, side, i, got[i], mean, sd);
    }
}

/* One channel against ImageMagick, byte for byte: it rounds to 16 bits and truncates to 8. */
static void check_motion(char *line)
{
    uint8_t picture[MOST], out[1024];
    char *end = line + strlen("motion");
    const double radius = strtod(end, &end), sigma = strtod(end, &end), angle = strtod(end, &end);

    make_picture(32, picture);
    filter_motion(out, picture + 1024, 32, 32, radius, sigma, angle);
    for (int i = 0; i < 1024; i++)
        if (out[i] != hex_byte(end + 1 + 2 * i))
            fail_msg("motion %gx%g%+g: pixel %d is %d, ImageMagick's %d", radius, sigma, angle, i,
                     out[i], hex_byte(end + 1 + 2 * i));
}

static void test_random_types_have_the_libraries_moments(void **state)
{
    static char line[4096];
    int lines = 0;
    FILE *f = fopen("tests/vec/corrupt_random.txt", "r");

    (void)state;
    assert_non_null(f);
    for (; fgets(line, sizeof line, f) != NULL; lines++)
        if (strncmp(line, "motion ", 7) == 0)
            check_motion(line);
        else
            check_moments(line);
    fclose(f);
    assert_int_equal(lines, 10 * 2 * 5 + 7);
}

/* ---- by hand --------------------------------------------------------------------------------- */

/* Mean and standard deviation over `times` applications to an image of one grey, in [0,1]. */
static void moments(enum corrupt_type type, int severity, uint8_t level, int times, double *mean,
                    double *sd)
{
    uint8_t in[3072], out[3072];
    double sum = 0, square = 0, n = 3072.0 * times;

    memset(in, level, sizeof in);
    for (int t = 0; t < times; t++) {
        struct rng r = rng_at(7, RNG_CORRUPT, (uint32_t)type, (uint64_t)t);
        assert_int_equal(corrupt_apply(type, severity, in, 32, 32, &r, out), 0);
        for (int i = 0; i < 3072; i++) {
            sum += out[i] / 255.0;
            square += out[i] / 255.0 * out[i] / 255.0;
        }
    }
    *mean = sum / n;
    *sd = sqrt(square / n - *mean * *mean);
}

#define assert_within(v, lo, hi) assert_true((v) >= (lo) && (v) <= (hi))

/* Truncation to 8 bits takes half a step off the mean. */
static void test_noise_has_its_moments(void **state)
{
    const double grey = 128 / 255.0, half = 0.5 / 255;
    double mean, sd;

    (void)state;
    moments(CORRUPT_GAUSSIAN_NOISE, 3, 128, 20, &mean, &sd);
    assert_within(mean, grey - half - 0.002, grey - half + 0.002);
    assert_within(sd, 0.079, 0.081);
    moments(CORRUPT_SPECKLE_NOISE, 5, 128, 20, &mean, &sd);
    assert_within(sd, 0.2 * grey * 0.985, 0.2 * grey * 1.015);
    moments(CORRUPT_SHOT_NOISE, 1, 128, 20, &mean, &sd); /* mean 251: rejection */
    assert_within(mean, grey - half - 0.002, grey - half + 0.002);
    assert_within(sd, sqrt(grey / 500) * 0.985, sqrt(grey / 500) * 1.015);
    moments(CORRUPT_SHOT_NOISE, 5, 20, 20, &mean, &sd); /* mean 3.9: multiplication */
    assert_within(mean, 20 / 255.0 - half - 0.002, 20 / 255.0 - half + 0.002);
    assert_within(sd, sqrt(20 / 255.0 / 50) * 0.98, sqrt(20 / 255.0 / 50) * 1.02);
    moments(CORRUPT_IMPULSE_NOISE, 5, 128, 20, &mean, &sd);
    assert_within(sd, sqrt(0.07) / 2 * 0.97, sqrt(0.07) / 2 * 1.03);
}

/* Both sides of the switch between the two Poisson methods: skewness of a mean of 9.9 and 10.2. */
static void test_shot_noise_has_poisson_skewness(void **state)
{
    const uint8_t level[] = {50, 52};

    (void)state;
    for (int k = 0; k < 2; k++) {
        double scale = 50, mean = level[k] / 255.0 * scale, third = 0, second = 0;
        uint8_t in[3072], out[3072];
        memset(in, level[k], sizeof in);
        for (int t = 0; t < 40; t++) {
            struct rng r = rng_at(8, RNG_CORRUPT, 0, (uint64_t)t);
            assert_int_equal(corrupt_apply(CORRUPT_SHOT_NOISE, 5, in, 32, 32, &r, out), 0);
            for (int i = 0; i < 3072; i++) {
                double d = round((out[i] + 0.5) / 255.0 * scale) - mean; /* the count itself */
                second += d * d;
                third += d * d * d;
            }
        }
        second /= 40 * 3072.0;
        third /= 40 * 3072.0;
        assert_within(second, mean * 0.98, mean * 1.02);
        assert_within(third / pow(second, 1.5), 0.8 / sqrt(mean), 1.2 / sqrt(mean));
    }
}

static void test_fog_brightens_black_and_keeps_range(void **state)
{
    double mean, sd;

    (void)state;
    moments(CORRUPT_FOG, 3, 255, 20, &mean, &sd);
    assert_within(mean, 0.57, 1); /* max/(max + c) at least */
    assert_within(sd, 0.01, 0.3);
}

static void test_glass_moves_pixels_by_delta_only(void **state)
{
    uint8_t in[3072] = {0}, out[3072];
    struct rng r = rng_at(7, RNG_CORRUPT, 0, 1);

    (void)state;
    in[16 * 32 + 16] = 255;
    assert_int_equal(corrupt_apply(CORRUPT_GLASS_BLUR, 1, in, 32, 32, &r, out), 0);
    for (int i = 0; i < 3072; i++) /* severity 1: no blur, so 0 and 255 only, near the point */
        if (out[i] != 0) {
            assert_int_equal(out[i], 255);
            assert_true(i / 1024 == 0 && abs(i / 32 - 16) <= 1 && abs(i % 32 - 16) <= 1);
        }
}

static void test_result_depends_on_the_generator_alone(void **state)
{
    uint8_t in[3072], a[3072], b[3072];

    (void)state;
    make_picture(32, in);
    for (int type = 0; type < CORRUPT_N; type++) {
        enum corrupt_type t = (enum corrupt_type)type;
        struct rng r = rng_at(7, RNG_CORRUPT, 2, 9), again = r,
                   other = rng_at(7, RNG_CORRUPT, 2, 10);
        if (corrupt_needs_photos(t))
            continue;
        assert_int_equal(corrupt_apply(t, 4, in, 32, 32, &r, a), 0);
        assert_int_equal(corrupt_apply(t, 4, in, 32, 32, &again, b), 0);
        assert_memory_equal(a, b, sizeof a);
        assert_int_equal(corrupt_apply(t, 4, in, 32, 32, &other, b), 0);
        assert_int_equal(memcmp(a, b, sizeof a) != 0, corrupt_is_random(t));
    }
}

static void test_sides_may_differ(void **state)
{
    uint8_t in[MOST], out[MOST];

    (void)state;
    make_picture(64, in);
    for (int type = 0; type < CORRUPT_N; type++)
        for (int severity = 1; severity <= 5; severity++) {
            struct rng r = rng_at(7, RNG_CORRUPT, 0, 0);
            if (corrupt_needs_photos((enum corrupt_type)type))
                continue;
            assert_int_equal(corrupt_apply((enum corrupt_type)type, severity, in, 24, 64, &r, out),
                             0);
            assert_int_equal(corrupt_apply((enum corrupt_type)type, severity, in, 33, 8, &r, out),
                             0);
        }
}

/* ---- frost with photos of ours --------------------------------------------------------------- */

/* Photo i: pixels of one grey, level 40 i + 20, or with `steps` a ramp of blocks of 5 pixels, so that
 * a fifth of the size holds whole levels. */
static void write_photos(const char *dir, bool steps)
{
    static const char *const name[] = {"frost1.png", "frost2.png", "frost3.png", "frost4.jpg",
                                       "frost5.jpg"};
    enum { W = 400, H = 300 };
    static uint8_t rgb[H * W * 3];
    char path[SCRATCH_TEXT];

    for (int k = 0; k < 5; k++) {
        png_image image = {
            .version = PNG_IMAGE_VERSION, .width = W, .height = H, .format = PNG_FORMAT_RGB};
        for (int i = 0; i < H * W * 3; i++)
            rgb[i] = (uint8_t)(40 * k + 20 + (steps ? i / 3 % W / 5 % 16 + i % 3 * 4 : 0));
        assert_true(
            png_image_write_to_file(&image, scratch_path(dir, name[k], path), 0, rgb, 0, NULL));
    }
}

static void frost(const struct corrupt_photos *p, int severity, int32_t side, uint64_t sample,
                  const uint8_t *in, uint8_t *out)
{
    struct rng r = rng_at(7, RNG_CORRUPT, 0, sample);

    assert_int_equal(corrupt_apply_with(p, CORRUPT_FROST, severity, in, side, side, &r, out), 0);
}

/* a x + b photo, truncated, for one of the five levels; every photo comes up. */
static void test_frost_blends_a_photo(void **state)
{
    static const double ab[2][5][2] = {{{1, .2}, {1, .3}, {.9, .4}, {.85, .4}, {.75, .45}},
                                       {{1, .3}, {.9, .4}, {.8, .45}, {.75, .5}, {.7, .55}}};
    struct corrupt_photos *p = NULL;
    char dir[SCRATCH_TEXT];
    uint8_t in[MOST], out[MOST];
    unsigned seen = 0;

    (void)state;
    scratch_open(dir);
    assert_int_equal(corrupt_photos_open(dir, &p), ERR_DATA);
    assert_non_null(strstr(err_message(), "frost1.png"));
    write_photos(dir, false);
    assert_int_equal(corrupt_photos_open(dir, &p), 0);
    for (int large = 0; large < 2; large++)
        for (int s = 0; s < 5; s++)
            for (uint64_t sample = 0; sample < 20; sample++) {
                const int32_t side = large ? 64 : 32;
                int level = -1;
                make_picture(side, in);
                frost(p, s + 1, side, sample, in, out);
                for (int k = 0; k < 5; k++)
                    if (out[0] == (uint8_t)fmin(255, ab[large][s][0] * in[0] +
                                                         ab[large][s][1] * (40 * k + 20)))
                        level = 40 * k + 20;
                assert_true(level >= 0);
                seen |= 1u << (level / 40);
                for (int i = 0; i < 3 * side * side; i++)
                    assert_int_equal(out[i], (uint8_t)fmin(255, ab[large][s][0] * in[i] +
                                                                    ab[large][s][1] * level));
            }
    assert_int_equal(seen, 31);
    corrupt_photos_close(p);
    scratch_close(dir);
}

/* The window keeps the order of colours and columns. */
static void test_frost_takes_a_window(void **state)
{
    struct corrupt_photos *p = NULL;
    char dir[SCRATCH_TEXT];
    uint8_t black[MOST] = {0}, out[MOST];

    (void)state;
    scratch_open(dir);
    write_photos(dir, true);
    assert_int_equal(corrupt_photos_open(dir, &p), 0);
    frost(p, 5, 32, 3, black, out);
    for (int i = 0; i < 1024; i++) {
        const int red = out[i], green = out[1024 + i];
        assert_true(abs(green - red - 2) <= 1); /* 4 levels more, times .45 */
        if (i % 32 > 0 && red >= out[i - 1])
            assert_true(red - out[i - 1] <= 1);
    }
    corrupt_photos_close(p);
    scratch_close(dir);
}

static void test_arguments_are_refused_by_name(void **state)
{
    uint8_t in[3072] = {0}, out[3072];
    struct rng r = rng_at(7, RNG_CORRUPT, 0, 0);
    enum corrupt_type type;

    (void)state;
    assert_int_equal(corrupt_apply(CORRUPT_FOG, 0, in, 32, 32, &r, out), ERR_ARG);
    assert_int_equal(corrupt_apply(CORRUPT_FOG, 6, in, 32, 32, &r, out), ERR_ARG);
    assert_int_equal(corrupt_apply(CORRUPT_FOG, 1, in, 7, 32, &r, out), ERR_ARG);
    assert_int_equal(corrupt_parse("haze", &type), ERR_ARG);
    assert_non_null(strstr(err_message(), "haze"));
    for (int t = 0; t < CORRUPT_N; t++) {
        assert_int_equal(corrupt_parse(corrupt_name((enum corrupt_type)t), &type), 0);
        assert_int_equal(type, t);
        if (corrupt_needs_photos(type)) {
            assert_int_equal(corrupt_apply(type, 1, in, 32, 32, &r, out), ERR_UNSUPPORTED);
            assert_non_null(strstr(err_message(), corrupt_name(type)));
        }
    }
}

/* An image's draw depends on seed, type, severity and its number, and on nothing else. */
static void test_draws_of_a_set_are_keyed(void **state)
{
    struct dataset *d = NULL;
    uint8_t work[3072], got[3072], want[3072];

    (void)state;
    assert_int_equal(data_open("synth:50", NULL, DATA_TEST, 1, &d), 0);
    const struct corrupt_set set = {d, NULL, 77};
    for (int severity = 1; severity <= 5; severity += 2)
        for (int64_t i = 0; i < 10; i += 3) {
            struct rng r =
                rng_at(77, RNG_CORRUPT, CORRUPT_FOG * 8 + (uint32_t)severity, (uint64_t)i);
            assert_int_equal(corrupt_set_image(&set, CORRUPT_FOG, severity, i, work, got), 0);
            assert_int_equal(
                corrupt_apply(CORRUPT_FOG, severity, d->pixels + i * 3072, 32, 32, &r, want), 0);
            assert_memory_equal(got, want, sizeof want);
        }
    data_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_without_randomness_equal_the_libraries),
        cmocka_unit_test(test_random_types_have_the_libraries_moments),
        cmocka_unit_test(test_noise_has_its_moments),
        cmocka_unit_test(test_shot_noise_has_poisson_skewness),
        cmocka_unit_test(test_fog_brightens_black_and_keeps_range),
        cmocka_unit_test(test_glass_moves_pixels_by_delta_only),
        cmocka_unit_test(test_result_depends_on_the_generator_alone),
        cmocka_unit_test(test_sides_may_differ),
        cmocka_unit_test(test_frost_blends_a_photo),
        cmocka_unit_test(test_frost_takes_a_window),
        cmocka_unit_test(test_arguments_are_refused_by_name),
        cmocka_unit_test(test_draws_of_a_set_are_keyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
