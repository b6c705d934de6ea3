/* Sources that stream: tar shards, class folders, npy. Whatever the memory and the threads, the images are
 * those of a set in memory; files that lie are refused by name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/npy.h"
#include "tests/scratch.h"
#include "tests/tar_make.h"
#include "trainer/data/data.h"
#include "trainer/data/draw.h"
#include "trainer/data/see.h"
#include "trainer/data/shards.h"
#include "trainer/data/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SPEC (SCRATCH_TEXT + 64)
#define SIDE 16
#define IMAGE (3 * SIDE * SIDE)

static char dir[SCRATCH_TEXT];

static void make_folder(const char *name)
{
    char path[SCRATCH_TEXT];

    assert_int_equal(mkdir(scratch_path(dir, name, path), 0700), 0);
}

static void put_shard(const char *name, const struct tar_make *t)
{
    char path[SCRATCH_TEXT];

    tar_write(t, scratch_path(dir, name, path));
}

static void drop(const char *name)
{
    char path[SCRATCH_TEXT];

    scratch_path(dir, name, path);
    assert_int_equal(remove(path), 0);
}

static const char *spec_of(const char *name, char out[SPEC])
{
    snprintf(out, SPEC, "shards:%s/%s", dir, name);
    return out;
}

/* n samples from number `first` on: class k % 3, grey 10 k, of h x w pixels. */
static struct tar_make samples(int first, int n, int h, int w)
{
    struct tar_make t = {0};
    char key[32];

    for (int k = first; k < first + n; k++) {
        snprintf(key, sizeof key, "some.dir/%04d", k);
        tar_put_sample(&t, key, k % 3, (uint8_t)(10 * k), h, w);
    }
    tar_end(&t);
    return t;
}

static void put_samples(const char *name, int first, int n, int h, int w)
{
    struct tar_make t = samples(first, n, h, w);

    put_shard(name, &t);
    tar_release(&t);
}

static struct dataset *opened(const char *spec, const struct data_options *o, enum data_split split)
{
    struct dataset *d = NULL;

    if (data_open(spec, o, split, 3, &d) != 0)
        fail_msg("%s: %s", spec, err_message());
    return d;
}

static void refused(const char *spec, const struct data_options *o, const char *one,
                    const char *two)
{
    struct dataset *d = NULL;
    const int rc = data_open(spec, o, DATA_ALL, 3, &d);

    if (rc != ERR_DATA || strstr(err_message(), one) == NULL || strstr(err_message(), two) == NULL)
        fail_msg("%s: code %d, '%s' without '%s' or '%s'", spec, rc, err_message(), one, two);
    assert_null(d);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static void test_order_and_labels(void **state)
{
    const struct data_options o = {0};
    char spec[SPEC];

    (void)state;
    put_samples("a-08.tar", 0, 5, SIDE, SIDE);
    put_samples("a-09.tar", 5, 4, SIDE, SIDE);
    put_samples("a-10.tar", 9, 3, SIDE, SIDE);
    struct dataset *d = opened(spec_of("a-{08..10}.tar", spec), &o, DATA_ALL);
    assert_int_equal(d->n, 12);
    assert_int_equal(d->classes, 3);
    assert_int_equal(d->height, SIDE);
    for (int64_t i = 0; i < d->n; i++) {
        assert_int_equal(d->labels[i], i % 3);
        assert_in_range(d->pixels[i * IMAGE + 5], 10 * i - (i > 0), 10 * i + 1);
    }
    data_close(d);
    d = opened(spec_of("a-{08..09}.tar", spec), &o, DATA_ALL);
    assert_int_equal(d->n, 9);
    data_close(d);
    refused(spec_of("a-{08..11}.tar", spec), &o, "a-11.tar", "No such file");
    refused(spec_of("a-{8..}.tar", spec), &o, "braces", "train-{0000..0127}.tar");
    refused(spec_of("a-{09..08}.tar", spec), &o, "braces", "");
    refused(spec_of("a-{000..9999999999}.tar", spec), &o, "braces", "");
    refused(spec_of("a-{0000..9999}{0000..9999}.tar", spec), &o, "more than 100000 shards", "");
    drop("a-08.tar");
    drop("a-09.tar");
    drop("a-10.tar");
}

static void test_expand(void **state)
{
    static const char *const want[] = {"x08y1.tar", "x08y2.tar", "x09y1.tar",
                                       "x09y2.tar", "x10y1.tar", "x10y2.tar"};
    struct name_list l = {0};

    (void)state;
    assert_int_equal(shards_expand("x{08..10}y{1..2}.tar", &l), 0);
    assert_int_equal(l.n, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(l.v[i], want[i]);
    name_list_release(&l);
    assert_int_equal(shards_expand("x{9..10}", &l), 0);
    assert_string_equal(l.v[0], "x9");
    assert_string_equal(l.v[1], "x10");
    name_list_release(&l);
}

static void test_parts(void **state)
{
    const struct data_options o = {0};
    char spec[SPEC];

    (void)state;
    make_folder("set");
    make_folder("set/train");
    make_folder("set/val");
    put_samples("set/train/1.tar", 0, 30, SIDE, SIDE);
    put_samples("set/train/0.tar", 30, 30, SIDE, SIDE);
    put_samples("set/val/0.tar", 60, 7, SIDE, SIDE);
    struct dataset *d = opened(spec_of("set", spec), &o, DATA_TEST);
    assert_int_equal(d->n, 7);
    data_close(d);
    d = opened(spec_of("set", spec), &o, DATA_TRAIN);
    assert_int_equal(d->n, 54);
    data_close(d);
    d = opened(spec_of("set", spec), &o, DATA_TRAIN_ALL);
    assert_int_equal(d->n, 60);
    assert_int_equal(d->labels[1], 31 % 3); /* 0.tar comes first */
    data_close(d);
    refused(spec_of("set", spec), &o, "has parts", "");
    drop("set/val/0.tar");
    struct dataset *none = NULL;
    assert_int_equal(data_open(spec, &o, DATA_TEST, 3, &none), ERR_DATA);
    assert_non_null(strstr(err_message(), "no shard"));
    drop("set/train/0.tar");
    drop("set/train/1.tar");
    drop("set/val");
    drop("set/train");
    drop("set");
}

/* Members of other kinds, hidden files and folders are no part of a sample. */
static void test_skipped(void **state)
{
    const struct data_options o = {0};
    struct tar_make t = {0}, one = {0};
    char spec[SPEC];

    (void)state;
    tar_put(&t, "dir/", '5', NULL, 0);
    tar_put(&t, "README", '0', "hello", 5);
    tar_put(&t, "._1.jpg", '0', "hello", 5);
    tar_put(&t, "elsewhere", '2', NULL, 0);
    tar_put_sample(&one, "1.b/2", 4, 90, SIDE, SIDE);
    tar_put(&t, "./1.b/2.json", '0', "{}", 2);
    t.v = mem_resize(t.v, t.n + one.n, 1);
    memcpy(t.v + t.n, one.v, one.n);
    t.n += one.n;
    tar_put(&t, "1.b/2.seg.png", '0', "no image of the sample", 22);
    tar_put(&t, "3.json", '0', "{}", 2);
    tar_end(&t);
    put_shard("s.tar", &t);
    struct dataset *d = opened(spec_of("s.tar", spec), &o, DATA_ALL);
    assert_int_equal(d->n, 1);
    assert_int_equal(d->labels[0], 4);
    assert_non_null(strstr(d->source, "skipped: 5 members"));
    data_close(d);
    tar_release(&t);
    tar_release(&one);
    drop("s.tar");
}

/* One shard of a good sample and then these members; the message holds the word. */
struct member {
    const char *name, *text;
    char kind;
};
static void bad_shard(const struct member *m, size_t n, const char *one, const char *two)
{
    static const struct data_options o = {0};
    struct tar_make t = {0};
    char spec[SPEC];

    tar_put_sample(&t, "good", 1, 50, SIDE, SIDE);
    for (size_t i = 0; i < n; i++)
        tar_put(&t, m[i].name, m[i].kind, m[i].text, strlen(m[i].text));
    tar_end(&t);
    put_shard("bad.tar", &t);
    refused(spec_of("bad.tar", spec), &o, one, two);
    tar_release(&t);
    drop("bad.tar");
}

static void test_bad_samples(void **state)
{
    const struct member no_class[] = {{"x.jpg", "?", '0'}, {"y.json", "{}", '0'}};
    const struct member no_image[] = {{"x.cls", "1", '0'}};
    const struct member apart[] = {{"x.cls", "1", '0'}, {"y.cls", "1", '0'}, {"x.jpg", "?", '0'}};
    const struct member two[] = {{"x.jpg", "?", '0'}, {"x.png", "?", '0'}};
    const struct member two_classes[] = {{"x.cls", "1", '0'}, {"x.cls", "1", '0'}};
    const struct member again[] = {
        {"z.cls", "1", '0'}, {"z.jpg", "?", '0'}, {"good.cls", "1", '0'}, {"good.jpg", "?", '0'}};
    const struct member linked[] = {{"x.cls", "1", '0'}, {"x.jpg", "", '2'}};
    const struct member hard[] = {{"x.cls", "1", '0'}, {"x.jpg", "", '1'}};
    const struct member device[] = {{"x.cls", "1", '0'}, {"x.jpg", "", '3'}};
    const struct member empty[] = {{"x.cls", "1", '0'}, {"x.jpg", "", '0'}};

    (void)state;
    bad_shard(no_class, 2, "sample 'x' has no class", "bad.tar");
    bad_shard(no_image, 1, "sample 'x' has no image", "bad.tar");
    bad_shard(apart, 3, "sample 'x' has no image", "bad.tar");
    bad_shard(two, 2, "two images", "bad.tar");
    bad_shard(two_classes, 2, "two classes", "bad.tar");
    bad_shard(again, 4, "sample 'good' comes twice", "bad.tar");
    bad_shard(linked, 2, "'x.jpg' is a link", "bad.tar");
    bad_shard(hard, 2, "'x.jpg' is a link", "bad.tar");
    bad_shard(device, 2, "'x.jpg' is a member of an unknown kind", "bad.tar");
    bad_shard(empty, 2, "has 0 bytes", "x.jpg");
}

static void test_bad_classes(void **state)
{
    static const char *const text[] = {"",    "-1",      "+1",      "x",    "1x",
                                       " 1",  "1 2",     "1000000", "0x10", "99999999999999999999",
                                       "1.5", "\xff\xd8"};

    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        const struct member m[] = {{"x.cls", text[i], '0'}, {"x.jpg", "?", '0'}};
        bad_shard(m, 2, "'x.cls' holds no class", "bad.tar");
    }
}

static void test_bad_files(void **state)
{
    const struct data_options o = {0};
    struct tar_make t = {0};
    char spec[SPEC], path[SCRATCH_TEXT];

    (void)state;
    scratch_write(scratch_path(dir, "x.tar.gz", path), "\x1f\x8b", 2);
    refused(spec_of("x.tar.gz", spec), &o, "unpack it to .tar", "x.tar.gz");
    scratch_write(scratch_path(dir, "x.tar", path), "\x1f\x8b", 2);
    refused(spec_of("x.tar", spec), &o, "cut", "x.tar");
    tar_end(&t);
    put_shard("x.tar", &t);
    refused(spec_of("x.tar", spec), &o, "no sample", "x.tar");
    tar_release(&t);
    drop("x.tar.gz");
    drop("x.tar");
    assert_int_equal(mkfifo(scratch_path(dir, "x.tar", path), 0600), 0);
    refused(spec_of("x.tar", spec), &o, "not a regular file", "x.tar");
    drop("x.tar");
}

/* A name says .jpg, the bytes say something else: found when it is read, in memory and streamed. */
static void test_name_lies(void **state)
{
    const struct data_options all = {0}, none = {.memory = 1, .threads = 2};
    struct tar_make t = {0}, wrong = {0};
    float chw[IMAGE];
    char spec[SPEC];

    (void)state;
    tar_put_sample(&t, "good", 1, 50, SIDE, SIDE);
    tar_put(&t, "liar.cls", '0', "1", 1);
    tar_put(&t, "liar.jpg", '0', "#!/bin/sh", 9);
    tar_end(&t);
    put_shard("l.tar", &t);
    refused(spec_of("l.tar", spec), &all, "'liar' is neither a JPEG nor a PNG", "l.tar");
    struct dataset *d = opened(spec, &none, DATA_ALL);
    assert_true(data_is_streamed(d));
    assert_int_equal(data_image(d, 0, chw), 0);
    assert_int_equal(data_image(d, 1, chw), ERR_DATA);
    assert_non_null(strstr(err_message(), "'liar' is neither a JPEG nor a PNG"));
    assert_int_equal(data_images(d, 0, 2, 2, chw), ERR_DATA);
    assert_non_null(strstr(err_message(), "l.tar"));
    data_close(d);
    tar_put_sample(&wrong, "good", 1, 50, SIDE, SIDE);
    tar_put_sample(&wrong, "tall", 1, 50, SIDE + 1, SIDE);
    tar_end(&wrong);
    put_shard("l.tar", &wrong);
    refused(spec, &all, "'tall' has 16x17 pixels, the first image 16x16", "--resize");
    tar_release(&wrong);
    tar_release(&t);
    drop("l.tar");
}

/* The file that was indexed is shortened: an error, no signal. */
static void test_shortened_later(void **state)
{
    const struct data_options none = {.memory = 1};
    float chw[IMAGE];
    char spec[SPEC], path[SCRATCH_TEXT];

    (void)state;
    put_samples("c.tar", 0, 4, SIDE, SIDE);
    struct dataset *d = opened(spec_of("c.tar", spec), &none, DATA_ALL);
    assert_int_equal(truncate(scratch_path(dir, "c.tar", path), 3000), 0);
    assert_int_equal(data_image(d, 0, chw), 0);
    assert_int_equal(data_image(d, 3, chw), ERR_DATA);
    assert_non_null(strstr(err_message(), "it ends at byte"));
    data_close(d);
    drop("c.tar");
}

/* ---- the same images in memory and streamed -------------------------------------------------- */

/* All images of the view by hints and threads, one after the other. */
static float *read_all(const struct dataset *d, const struct data_view *view)
{
    const int64_t size = (int64_t)d->channels * d->height * d->width;
    float *all = mem_array((size_t)(d->n * size), sizeof *all);
    int64_t *list = mem_array((size_t)d->n, sizeof *list);
    int bad = 0;

    for (int64_t i = 0; i < d->n; i++)
        list[i] = i;
    for (int64_t first = 0; first < d->n; first += 7) {
        data_ahead(d, view, list + first, d->n - first < 20 ? d->n - first : 20);
#pragma omp parallel for reduction(+ : bad) num_threads(3)
        for (int64_t i = first; i < (first + 7 < d->n ? first + 7 : d->n); i++)
            bad += data_image_seen(d, i, view, all + i * size) < 0;
    }
    assert_int_equal(bad, 0);
    mem_free(list);
    return all;
}

/* Every memory and number of threads gives the images of `want`, or the first of them if it is NULL. */
static void same_everywhere(const char *spec, struct data_options o, enum data_split split)
{
    static const int threads[] = {1, 2, 8};
    static const size_t memory[] = {0, 1, 5000, 20000, (size_t)1 << 40};
    const struct data_view view = {o.random, 9, 4}, plain = {false, 0, 0};
    float *want = NULL, *want_plain = NULL;
    uint8_t byte[3 * 64 * 64];

    for (size_t m = 0; m < sizeof memory / sizeof *memory; m++)
        for (int k = 0; k < 3; k++) {
            o.memory = memory[m];
            o.threads = threads[k];
            struct dataset *d = opened(spec, &o, split);
            const size_t size = (size_t)d->channels * (size_t)d->height * (size_t)d->width;
            const size_t bytes = (size_t)d->n * size * sizeof(float);
            float *got = read_all(d, &view), *got_plain = read_all(d, &plain);
            assert_int_equal(data_is_streamed(d), o.random || (memory[m] > 0 && memory[m] < 30000));
            if (want == NULL) {
                want = got;
                want_plain = got_plain;
            }
            assert_memory_equal(got, want, bytes);
            assert_memory_equal(got_plain, want_plain, bytes);
            for (int64_t i = 0; i < d->n; i++) {
                assert_int_equal(data_image_u8(d, i, byte), 0);
                for (size_t j = 0; j < size; j += 11)
                    assert_int_equal(byte[j], (int)(want_plain[(size_t)i * size + j] * 255 + 0.5f));
            }
            assert_int_equal(data_images(d, 0, d->n, d->n, got_plain), 0);
            assert_memory_equal(got_plain, want_plain, bytes);
            if (got != want) {
                mem_free(got);
                mem_free(got_plain);
            }
            data_close(d);
        }
    assert_int_equal(o.random, memcmp(want, want_plain, IMAGE * sizeof *want) != 0);
    mem_free(want);
    mem_free(want_plain);
}

/* Images of many sizes. */
static void put_edges(const char *name, int first, int n)
{
    struct tar_make t = {0};
    char key[32];

    for (int k = first; k < first + n; k++) {
        snprintf(key, sizeof key, "%04d", k);
        tar_put_sample(&t, key, k % 3, (uint8_t)(4 * k), 40 + k % 9, 30 + k % 13);
    }
    tar_end(&t);
    put_shard(name, &t);
    tar_release(&t);
}

static void test_shards_stream(void **state)
{
    struct data_options o = {.resize = 20, .crop_height = SIDE, .crop_width = SIDE};
    char spec[SPEC];

    (void)state;
    put_edges("e-1.tar", 0, 30);
    put_edges("e-2.tar", 30, 30);
    same_everywhere(spec_of("e-{1..2}.tar", spec), o, DATA_ALL);
    same_everywhere(spec, o, DATA_TRAIN);
    o.random = true;
    same_everywhere(spec, o, DATA_TRAIN);
    drop("e-1.tar");
    drop("e-2.tar");
}

static void put_array(const char *name, enum npy_type type, int32_t rank, const int64_t *dim,
                      const void *data)
{
    char path[SCRATCH_TEXT];

    assert_int_equal(npy_write(scratch_path(dir, name, path), type, rank, dim, data), 0);
}

static void test_npy_stream(void **state)
{
    static uint8_t pixels[50 * IMAGE];
    static int32_t wide[50 * IMAGE];
    static float floats[50 * IMAGE];
    static double doubles[50 * IMAGE];
    const int64_t first[] = {50, 3, SIDE, SIDE}, last[] = {50, SIDE, SIDE, 3}, n = 50;
    const struct data_options o = {0};
    int64_t labels[50];
    char spec[2 * SPEC];

    (void)state;
    for (int i = 0; i < 50 * IMAGE; i++) {
        pixels[i] = (uint8_t)(i * 37 + i / 300);
        wide[i] = pixels[i];
        floats[i] = (float)(i % 1000) / 999;
        doubles[i] = (double)(i % 777) / 776;
    }
    for (int i = 0; i < 50; i++)
        labels[i] = i % 4;
    put_array("y.npy", NPY_I64, 1, &n, labels);
    snprintf(spec, sizeof spec, "npy:%s/x.npy,%s/y.npy", dir, dir);
    put_array("x.npy", NPY_U8, 4, first, pixels);
    same_everywhere(spec, o, DATA_ALL);
    put_array("x.npy", NPY_U8, 4, last, pixels);
    same_everywhere(spec, o, DATA_TRAIN);
    put_array("x.npy", NPY_I32, 4, last, wide);
    same_everywhere(spec, o, DATA_ALL);
    put_array("x.npy", NPY_F32, 4, last, floats);
    same_everywhere(spec, o, DATA_TRAIN);
    put_array("x.npy", NPY_F64, 4, first, doubles);
    same_everywhere(spec, o, DATA_ALL);
    drop("x.npy");
    drop("y.npy");
}

static void test_npy_hostile(void **state)
{
    static uint8_t pixels[10 * IMAGE];
    static float floats[10 * IMAGE];
    const int64_t dim[] = {10, 3, SIDE, SIDE}, n = 10;
    const struct data_options small = {.memory = 1000};
    const int64_t labels[10] = {0, 1};
    struct dataset *d;
    float chw[IMAGE];
    char spec[2 * SPEC], path[SCRATCH_TEXT];

    (void)state;
    put_array("y.npy", NPY_I64, 1, &n, labels);
    snprintf(spec, sizeof spec, "npy:%s/x.npy,%s/y.npy", dir, dir);
    put_array("x.npy", NPY_U8, 4, dim, pixels);
    scratch_path(dir, "x.npy", path);
    assert_int_equal(truncate(path, 128 + 9 * IMAGE), 0); /* the header promises ten */
    refused(spec, &small, "bytes of data", "x.npy");
    assert_int_equal(truncate(path, 40), 0);
    refused(spec, &small, "x.npy", "");
    put_array("x.npy", NPY_U8, 4, dim, pixels);
    d = opened(spec, &small, DATA_ALL);
    assert_true(data_is_streamed(d));
    assert_int_equal(truncate(path, 128 + 5 * IMAGE), 0); /* later */
    assert_int_equal(data_image(d, 4, chw), 0);
    assert_int_equal(data_image(d, 5, chw), ERR_DATA);
    assert_non_null(strstr(err_message(), "it ends at byte"));
    data_close(d);
    floats[7 * IMAGE + 3] = 1.5f;
    put_array("x.npy", NPY_F32, 4, dim, floats);
    d = opened(spec, &small, DATA_ALL);
    assert_int_equal(data_image(d, 6, chw), 0);
    assert_int_equal(data_image(d, 7, chw), ERR_DATA);
    assert_non_null(strstr(err_message(), "value 1.5 at index 5379"));
    data_close(d);
    drop("x.npy");
    drop("y.npy");
}

/* Arrays are drawn from as image files are: the part, at the size, mirrored or not. */
static void test_random_parts_of_arrays(void **state)
{
    enum { N = 20, OUT = 48 };
    const struct data_options o = {
        .random = true, .resize = OUT, .crop_height = OUT, .crop_width = OUT};
    const struct data_view view = {.random = true, .seed = 3, .epoch = 2};
    struct dataset *d = opened("synth:20", &o, DATA_TRAIN_ALL);
    float *got = mem_array(3 * OUT * OUT, sizeof *got);
    uint8_t chw[SYNTH_BYTES], *want = mem_array(3 * OUT * OUT, 1);
    int32_t label;

    (void)state;
    assert_true(d->draws);
    assert_int_equal(d->n, N);
    for (int64_t i = 0; i < N; i++) {
        struct picture p = {SYNTH_SIDE, SYNTH_SIDE, mem_array(SYNTH_BYTES, 1)};
        const struct picture_part part = draw_part(&view, i, SYNTH_SIDE, SYNTH_SIDE);

        synth_image(3, SYNTH_TRAIN, i, chw, &label); /* opened() takes that seed */
        for (size_t j = 0; j < SYNTH_BYTES; j++)
            p.rgb[j] = chw[j % 3 * SYNTH_SIDE * SYNTH_SIDE + j / 3];
        assert_int_equal(picture_take(&p, &part, OUT, OUT), 0);
        picture_planes(&p, want);
        picture_release(&p);
        assert_int_equal(data_image_seen(d, i, &view, got), 0);
        for (size_t j = 0; j < (size_t)3 * OUT * OUT; j++)
            assert_int_equal(lrintf(got[j] * 255), want[j]);
    }
    mem_free(got);
    mem_free(want);
    data_close(d);
}

static void test_memory_words(void **state)
{
    static const char *const bad[] = {"", "0", "-1", "1.5G", "5X", "5GB", "x", "99999999T", "G"};
    size_t v = 9;

    (void)state;
    assert_int_equal(data_memory_parse("all", &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(data_memory_parse("800", &v), 0);
    assert_int_equal(v, 800);
    assert_int_equal(data_memory_parse("3M", &v), 0);
    assert_int_equal(v, 3 << 20);
    assert_int_equal(data_memory_parse("8G", &v), 0);
    assert_int_equal(v, (size_t)8 << 30);
    assert_int_equal(data_memory_parse("quarter", &v), 0);
    assert_true(v >= (size_t)1 << 26);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(data_memory_parse(bad[i], &v), ERR_ARG);
}

/* The identity of a stream: other keys, sizes and labels give another one. */
static void test_identity(void **state)
{
    const struct data_options none = {.memory = 1}, all = {0};
    char spec[SPEC], a[SHA256_HEX], b[SHA256_HEX], pixels[2][SHA256_HEX];

    (void)state;
    put_samples("i.tar", 0, 6, SIDE, SIDE);
    struct dataset *d = opened(spec_of("i.tar", spec), &none, DATA_ALL);
    assert_int_equal(data_hash_records(d, a), 0);
    assert_int_equal(data_hash_pixels(d, pixels[0]), 0);
    data_close(d);
    d = opened(spec, &all, DATA_ALL);
    assert_int_equal(data_hash_records(d, b), 0);
    assert_int_equal(data_hash_pixels(d, pixels[1]), 0);
    data_close(d);
    assert_string_equal(a, b);
    assert_string_equal(pixels[0], pixels[1]);
    put_samples("i.tar", 1, 6, SIDE, SIDE);
    d = opened(spec, &none, DATA_ALL);
    assert_int_equal(data_hash_records(d, b), 0);
    assert_string_not_equal(a, b);
    data_close(d);
    d = opened("synth:50", &all, DATA_TRAIN);
    assert_int_equal(data_hash_records(d, b), 0);
    assert_string_equal(b, "none");
    data_close(d);
    drop("i.tar");
}

static int begin(void **state)
{
    (void)state;
    scratch_open(dir);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_close(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_labels),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_skipped),
        cmocka_unit_test(test_bad_samples),
        cmocka_unit_test(test_bad_classes),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_name_lies),
        cmocka_unit_test(test_shortened_later),
        cmocka_unit_test(test_shards_stream),
        cmocka_unit_test(test_npy_stream),
        cmocka_unit_test(test_npy_hostile),
        cmocka_unit_test(test_random_parts_of_arrays),
        cmocka_unit_test(test_memory_words),
        cmocka_unit_test(test_identity),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
