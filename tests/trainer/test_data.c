/* Data sources: the real CIFAR files, files made wrong in every way, arrays, the split. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/base/npy.h"
#include "tests/scratch.h"
#include "trainer/data/data.h"
#include "trainer/data/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define RECORD 3073
#define SPEC_TEXT (SCRATCH_TEXT + 16)

static struct dataset *opened(const char *spec, enum data_split split, uint64_t seed)
{
    struct dataset *d = NULL;
    if (data_open(spec, NULL, split, seed, &d) != 0)
        fail_msg("%s: %s", spec, err_message());
    return d;
}

/* The source is refused as bad data, and the message holds each of the two words. */
static void refused(const char *spec, enum data_split split, const char *one, const char *two)
{
    struct dataset *d = NULL;
    int rc = data_open(spec, NULL, split, 1, &d);

    if (rc != ERR_DATA || strstr(err_message(), one) == NULL || strstr(err_message(), two) == NULL)
        fail_msg("%s: code %d, message '%s' without '%s' or '%s'", spec, rc, err_message(), one,
                 two);
    assert_null(d);
}

/* ---- the real files ------------------------------------------------------------------ */

static const char *shared_or_skip(const char *name, char path[SCRATCH_TEXT])
{
    if (scratch_shared(name, path) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    return path;
}

static void test_cifar10_is_found_and_counted(void **state)
{
    static const int32_t first[] = {6, 9, 9, 4, 1, 1, 2, 7, 8, 3};
    char path[SCRATCH_TEXT];
    struct dataset *d = opened(shared_or_skip("data/cifar10", path), DATA_TRAIN_ALL, 1);
    int64_t count[10] = {0};

    (void)state;
    assert_int_equal(d->n, 50000);
    assert_int_equal(d->classes, 10);
    assert_non_null(strstr(d->source, "CIFAR-10"));
    assert_memory_equal(d->labels, first, sizeof first);
    for (int64_t i = 0; i < d->n; i++)
        count[d->labels[i]]++;
    for (int k = 0; k < 10; k++)
        assert_int_equal(count[k], 5000);
    assert_int_equal(data_check(d, 3, 32, 32, 10), 0);
    assert_int_equal(data_check(d, 3, 32, 32, 100), ERR_DATA);
    assert_int_equal(data_check(d, 3, 64, 64, 10), ERR_DATA);
    data_close(d);
    d = opened(path, DATA_TEST, 1);
    assert_int_equal(d->n, 10000);
    assert_int_equal(d->labels[0], 3);
    assert_int_equal(d->pixels[0], 158); /* the cat's first red value */
    data_close(d);
}

static void test_cifar100_uses_fine_labels(void **state)
{
    char path[SCRATCH_TEXT], spec[SPEC_TEXT];
    struct dataset *d = opened(shared_or_skip("data/cifar100", path), DATA_TRAIN_ALL, 1);

    (void)state;
    assert_int_equal(d->n, 1117);
    assert_int_equal(d->classes, 100);
    assert_int_equal(d->labels[0], 19); /* cattle */
    data_close(d);
    snprintf(spec, sizeof spec, "cifar100:%s", path);
    d = opened(spec, DATA_TEST, 1);
    assert_int_equal(d->n, 916);
    assert_int_equal(d->labels[0], 49); /* mountain */
    data_close(d);
}

/* Images found by content: train and val together are exactly the training images. */
static void test_split_is_stratified_and_disjoint(void **state)
{
    char path[SCRATCH_TEXT];
    struct dataset *all = opened(shared_or_skip("data/cifar10", path), DATA_TRAIN_ALL, 7);
    struct dataset *train = opened(path, DATA_TRAIN, 7), *val = opened(path, DATA_VAL, 7);
    int64_t count[10] = {0}, t = 0, v = 0;

    (void)state;
    assert_int_equal(train->n, 45000);
    assert_int_equal(val->n, 5000);
    for (int64_t i = 0; i < val->n; i++)
        count[val->labels[i]]++;
    for (int k = 0; k < 10; k++)
        assert_int_equal(count[k], 500);
    for (int64_t i = 0; i < all->n; i++) { /* both keep the order: a merge gives all of them */
        const uint8_t *p = all->pixels + i * 3072;
        if (t < train->n && memcmp(train->pixels + t * 3072, p, 3072) == 0)
            t++;
        else if (v < val->n && memcmp(val->pixels + v * 3072, p, 3072) == 0)
            v++;
        else
            fail_msg("image %lld is in neither part", (long long)i);
    }
    assert_int_equal(t, train->n);
    assert_int_equal(v, val->n);
    data_close(all);
    data_close(train);
    data_close(val);
}

/* ---- small files, right and wrong ------------------------------------------------------ */

/* n records whose labels count up modulo k; pixel bytes are i. */
static void write_records(const char *path, int n, int label_bytes, int k)
{
    size_t record = (size_t)label_bytes + 3072;
    uint8_t *data = mem_array((size_t)n + 1, record);

    assert_non_null(data);
    for (int i = 0; i < n; i++) {
        data[(size_t)i * record + (size_t)label_bytes - 1] = (uint8_t)(i % k);
        memset(data + (size_t)i * record + label_bytes, i, 3072);
    }
    scratch_write(path, data, (size_t)n * record);
    mem_free(data);
}

static void write_cifar10(const char *dir, int n)
{
    char path[SCRATCH_TEXT], name[32];

    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        write_records(scratch_path(dir, name, path), n, 1, 10);
    }
    write_records(scratch_path(dir, "test_batch.bin", path), n, 1, 10);
}

static void test_short_files_of_whole_records_are_read(void **state)
{
    char dir[SCRATCH_TEXT];
    struct dataset *d;
    float chw[3072];

    (void)state;
    scratch_open(dir);
    write_cifar10(dir, 20);
    d = opened(dir, DATA_TRAIN_ALL, 1);
    assert_int_equal(d->n, 100);
    assert_int_equal(data_image(d, 19, chw), 0);
    assert_true(chw[0] == 19 / 255.0f && chw[3071] == 19 / 255.0f);
    data_limit(d, 0);
    assert_int_equal(d->n, 100);
    data_limit(d, 7);
    assert_int_equal(d->n, 7);
    data_limit(d, 50);
    assert_int_equal(d->n, 7);
    data_close(d);
    d = opened(dir, DATA_VAL, 1);
    assert_int_equal(d->n, 10);
    assert_string_equal(d->split, "val");
    data_close(d);
    scratch_close(dir);
}

static void test_split_depends_on_the_seed_only(void **state)
{
    char dir[SCRATCH_TEXT];
    struct dataset *a, *b, *c;

    (void)state;
    scratch_open(dir);
    write_cifar10(dir, 200);
    a = opened(dir, DATA_VAL, 1);
    b = opened(dir, DATA_VAL, 1);
    c = opened(dir, DATA_VAL, 2);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->n * 3072);
    assert_memory_not_equal(a->pixels, c->pixels, (size_t)a->n * 3072);
    data_close(a);
    data_close(b);
    data_close(c);
    scratch_close(dir);
}

static void test_malformed_cifar_is_refused(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    uint8_t record[RECORD] = {10};

    (void)state;
    scratch_open(dir);
    refused(dir, DATA_TRAIN, dir, "CIFAR-10");
    write_cifar10(dir, 3);
    scratch_path(dir, "data_batch_3.bin", path);
    scratch_write(path, record, RECORD - 1);
    refused(dir, DATA_TRAIN, "data_batch_3.bin", "3072 bytes");
    scratch_write(path, record, 0);
    refused(dir, DATA_TRAIN, "data_batch_3.bin", "0 bytes");
    scratch_write(path, record, RECORD);
    refused(dir, DATA_TRAIN, "data_batch_3.bin", "label 10");
    assert_int_equal(remove(path), 0);
    refused(dir, DATA_TRAIN, "data_batch_3.bin", "missing");
    scratch_path(dir, "test_batch.bin", path);
    assert_int_equal(remove(path), 0);
    refused(dir, DATA_TEST, "test_batch.bin", "missing");
    scratch_close(dir);
}

static void test_malformed_cifar100_is_refused(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], spec[SPEC_TEXT];
    uint8_t record[RECORD + 1] = {20, 0};

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "train.bin", path);
    scratch_write(path, record, sizeof record);
    refused(dir, DATA_TRAIN, "train.bin", "coarse label 20");
    record[0] = 0;
    record[1] = 100;
    scratch_write(path, record, sizeof record);
    refused(dir, DATA_TRAIN, "train.bin", "label 100");
    scratch_write(path, record, RECORD);
    refused(dir, DATA_TRAIN, "train.bin", "3074");
    snprintf(spec, sizeof spec, "cifar10:%s", dir);
    refused(spec, DATA_TRAIN, "data_batch_1.bin", "missing");
    scratch_close(dir);
}

static void test_other_layouts_are_named(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    refused(dir, DATA_TEST, "no layout that is known", "wnids.txt");
    scratch_write(scratch_path(dir, "test_batch", path), "x", 1);
    refused(dir, DATA_TEST, "pickle", "opcode 0x78");
    assert_int_equal(remove(path), 0);
    scratch_write(scratch_path(dir, "wnids.txt", path), "n1", 2);
    refused(dir, DATA_TEST, "n1", "no image");
    assert_int_equal(remove(path), 0);
    scratch_write(scratch_path(dir, "labels.npy", path), "x", 1);
    refused(dir, DATA_TEST, "corrupted", "eval --corruptions");
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(scratch_path(dir, "train", path), 0700), 0);
    refused(dir, DATA_TEST, "neither", "val");
    scratch_write(scratch_path(dir, "cifar.tar.gz", path), "x", 1);
    refused(path, DATA_TEST, "archive", "cifar.tar.gz");
    scratch_write(scratch_path(dir, "x.npz", path), "x", 1);
    refused(path, DATA_TEST, "archive", "x.npz");
    scratch_write(scratch_path(dir, "x.npy", path), "x", 1);
    refused(path, DATA_TEST, "x.npy", "npy:");
    refused("imagefolder:somewhere", DATA_TEST, "somewhere", "no such folder");
    refused("no/such/folder", DATA_TEST, "no/such/folder", "no such");
    refused("", DATA_TEST, "''", "no such");
    scratch_close(dir);
}

/* ---- arrays ------------------------------------------------------------------------------ */

struct arrays { /* x.npy and y.npy in a scratch folder, and the spec that names them */
    char dir[SCRATCH_TEXT], x[SCRATCH_TEXT], y[SCRATCH_TEXT], spec[3 * SCRATCH_TEXT];
};

static void arrays_open(struct arrays *a)
{
    scratch_open(a->dir);
    scratch_path(a->dir, "x.npy", a->x);
    scratch_path(a->dir, "y.npy", a->y);
    snprintf(a->spec, sizeof a->spec, "npy:%s,%s", a->x, a->y);
}

static void write_array(const char *path, enum npy_type type, int32_t rank, int64_t d0, int64_t d1,
                        int64_t d2, int64_t d3, const void *data)
{
    const int64_t dim[4] = {d0, d1, d2, d3};
    if (npy_write(path, type, rank, dim, data) != 0)
        fail_msg("%s", err_message());
}

static void test_arrays_of_both_orders_agree(void **state)
{
    const int64_t labels[2] = {4, 1};
    uint8_t first[2 * 3 * 4 * 5], last[2 * 3 * 4 * 5], bytes[60];
    float floats[2 * 3 * 4 * 5], floats_last[2 * 3 * 4 * 5], chw[60];
    int64_t wide[2 * 3 * 4 * 5];
    struct arrays a;
    struct dataset *d;

    (void)state;
    arrays_open(&a);
    for (int i = 0; i < 120; i++) {
        int n = i / 60, c = i / 20 % 3, y = i / 5 % 4, x = i % 5;
        first[i] = (uint8_t)(2 * i);
        last[((n * 4 + y) * 5 + x) * 3 + c] = (uint8_t)(2 * i);
        floats[i] = (float)(2 * i) / 255.0f;
        floats_last[((n * 4 + y) * 5 + x) * 3 + c] = floats[i];
        wide[i] = 2 * i;
    }
    write_array(a.y, NPY_I64, 1, 2, 0, 0, 0, labels);
    for (int form = 0; form < 5; form++) {
        if (form == 0)
            write_array(a.x, NPY_U8, 4, 2, 3, 4, 5, first);
        else if (form == 1)
            write_array(a.x, NPY_U8, 4, 2, 4, 5, 3, last);
        else if (form == 2)
            write_array(a.x, NPY_I64, 4, 2, 3, 4, 5, wide);
        else if (form == 3)
            write_array(a.x, NPY_F32, 4, 2, 3, 4, 5, floats);
        else
            write_array(a.x, NPY_F32, 4, 2, 4, 5, 3, floats_last);
        d = opened(a.spec, DATA_EVAL, 1);
        assert_string_equal(d->split, "all");
        assert_int_equal(d->n, 2);
        assert_true(d->channels == 3 && d->height == 4 && d->width == 5 && d->classes == 5);
        assert_true(d->labels[0] == 4 && d->labels[1] == 1);
        assert_true((d->floats != NULL) == (form >= 3) && (d->pixels != NULL) == (form < 3));
        assert_int_equal(data_image(d, 1, chw), 0);
        assert_memory_equal(chw, floats + 60, sizeof chw);
        assert_int_equal(data_image_u8(d, 1, bytes), 0);
        assert_memory_equal(bytes, first + 60, sizeof bytes);
        assert_int_equal(data_check(d, 3, 4, 5, 5), 0);
        assert_int_equal(data_check(d, 3, 4, 5, 10), 0); /* more outputs than labels seen */
        assert_int_equal(data_check(d, 3, 4, 5, 4), ERR_DATA);
        data_close(d);
    }
    scratch_close(a.dir);
}

/* One label a row, as a column, as floats, as one-hot rows: the same labels. */
static void test_forms_of_labels(void **state)
{
    const int64_t column[3] = {2, 0, 1};
    const double real[3] = {2, 0, 1};
    const uint8_t hot[3 * 4] = {0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0};
    const float hot_real[3 * 4] = {0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0};
    const uint8_t grey[3 * 4] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    uint8_t bad[3 * 4];
    struct arrays a;

    (void)state;
    arrays_open(&a);
    write_array(a.x, NPY_U8, 3, 3, 2, 2, 0, grey);
    for (int form = 0; form < 4; form++) {
        if (form == 0)
            write_array(a.y, NPY_I64, 2, 3, 1, 0, 0, column);
        else if (form == 1)
            write_array(a.y, NPY_F64, 1, 3, 0, 0, 0, real);
        else if (form == 2)
            write_array(a.y, NPY_U8, 2, 3, 4, 0, 0, hot);
        else
            write_array(a.y, NPY_F32, 2, 3, 4, 0, 0, hot_real);
        struct dataset *d = opened(a.spec, DATA_ALL, 1);
        assert_true(d->n == 3 && d->channels == 1 && d->height == 2 && d->width == 2);
        assert_true(d->labels[0] == 2 && d->labels[1] == 0 && d->labels[2] == 1);
        assert_int_equal(d->classes, form < 2 ? 3 : 4);
        assert_int_equal(data_check(d, 1, 2, 2, 5), form < 2 ? 0 : ERR_DATA); /* K is known */
        assert_memory_equal(d->pixels, grey, sizeof grey);
        data_close(d);
    }
    for (int i = 0; i < 3; i++) { /* two ones, no one, another number */
        memcpy(bad, hot, sizeof bad);
        bad[4 + i] = (const uint8_t[]){0, 1, 2}[i];
        write_array(a.y, NPY_U8, 2, 3, 4, 0, 0, bad);
        refused(a.spec, DATA_ALL, "row 1", "one-hot");
    }
    write_array(a.y, NPY_F64, 1, 3, 0, 0, 0, (const double[]){0, 0.5, 1});
    refused(a.spec, DATA_ALL, "y.npy", "0.5");
    write_array(a.y, NPY_I64, 3, 3, 1, 1, 0, column);
    refused(a.spec, DATA_ALL, "y.npy", "rank 3");
    scratch_close(a.dir);
}

static void test_floats_that_miss_by_rounding(void **state)
{
    const float x[4] = {1.0000001f, -1e-7f, 0.5f, 1};
    const int64_t y = 0;
    struct arrays a;
    struct dataset *d;

    (void)state;
    arrays_open(&a);
    write_array(a.x, NPY_F32, 4, 1, 1, 2, 2, x);
    write_array(a.y, NPY_I64, 1, 1, 0, 0, 0, &y);
    d = opened(a.spec, DATA_ALL, 1);
    assert_true(d->floats[0] == 1 && d->floats[1] == 0 && d->floats[2] == 0.5f);
    data_close(d);
    scratch_close(a.dir);
}

/* ---- one set without parts ------------------------------------------------------------------- */

#define SET 188 /* 47 of each of 4 classes */

/* SET images of four pixels, image i of value i, label i % 4. */
static void write_set(const struct arrays *a, bool floats)
{
    int64_t y[SET];
    uint8_t x[4 * SET];
    float f[4 * SET];

    for (int i = 0; i < 4 * SET; i++) {
        y[i / 4] = i / 4 % 4;
        x[i] = (uint8_t)(i / 4);
        f[i] = (float)x[i] / 255;
    }
    if (floats)
        write_array(a->x, NPY_F32, 4, SET, 1, 2, 2, f);
    else
        write_array(a->x, NPY_U8, 4, SET, 1, 2, 2, x);
    write_array(a->y, NPY_I64, 1, SET, 0, 0, 0, y);
}

static int number_of(const struct dataset *d, int64_t i)
{
    uint8_t v[4];

    assert_int_equal(data_image_u8(d, i, v), 0);
    return v[0];
}

/* train, val and test are disjoint, whole, stratified; an image trained on is never in test. */
static void test_one_set_is_cut(void **state)
{
    struct arrays a;

    (void)state;
    arrays_open(&a);
    for (int floats = 0; floats < 2; floats++) {
        int times[SET] = {0}, label[3][4] = {{0}};
        write_set(&a, floats);
        for (int s = DATA_TRAIN; s <= DATA_TEST; s++) {
            struct dataset *d = opened(a.spec, (enum data_split)s, 5);
            assert_non_null(strstr(d->source, "one set, cut by class with seed 5"));
            for (int64_t i = 0; i < d->n; i++) {
                times[number_of(d, i)]++;
                assert_int_equal(d->labels[i], number_of(d, i) % 4);
                label[s][d->labels[i]]++;
            }
            data_close(d);
        }
        for (int i = 0; i < SET; i++)
            assert_int_equal(times[i], 1);
        for (int c = 0; c < 4;
             c++) { /* of 47: rounded 4.7 for testing, of the 42 left rounded 4.2 */
            assert_int_equal(label[DATA_TEST][c], 5);
            assert_int_equal(label[DATA_VAL][c], 4);
            assert_int_equal(label[DATA_TRAIN][c], 38);
        }
        struct dataset *d = opened(a.spec, DATA_TRAIN_ALL, 5), *e = opened(a.spec, DATA_EVAL, 5);
        assert_int_equal(d->n, 168);
        assert_int_equal(e->n, SET);
        assert_string_equal(e->split, "all");
        data_close(d);
        data_close(e);
    }
    scratch_close(a.dir);
}

/* Sources beside the main one take the place of its parts. */
static void test_own_test_and_val_sources(void **state)
{
    struct arrays a, b;
    const struct data_options test = {.test = b.spec}, both = {.test = b.spec, .val = b.spec};
    struct dataset *d, *t;
    int64_t n;

    (void)state;
    arrays_open(&a);
    arrays_open(&b);
    write_set(&a, false);
    write_set(&b, false);
    assert_int_equal(data_open(a.spec, &test, DATA_TEST, 5, &t), 0);
    assert_int_equal(t->n, SET);
    assert_string_equal(t->split, "test");
    assert_int_equal(data_open(a.spec, &test, DATA_TRAIN, 5, &d), 0);
    assert_int_equal(d->n, 168); /* only val is cut off */
    assert_int_equal(data_common(d, t, &n), 0);
    assert_int_equal(n, 168); /* b holds the images of a: that is found */
    data_close(d);
    data_close(t);
    assert_int_equal(data_open(a.spec, &test, DATA_EVAL, 5, &d), 0);
    assert_string_equal(d->split, "test");
    data_close(d);
    assert_int_equal(data_open(a.spec, &both, DATA_TRAIN, 5, &d), 0);
    assert_int_equal(d->n, SET);
    data_close(d);
    assert_int_equal(data_open(a.spec, &both, DATA_VAL, 5, &d), 0);
    assert_int_equal(d->n, SET);
    assert_string_equal(d->split, "val");
    data_close(d);
    const struct data_options parts = {.val = "synth:100"};
    assert_int_equal(data_open(a.spec, &parts, DATA_VAL, 5, &d), ERR_DATA);
    assert_non_null(strstr(err_message(), "no validation images"));
    const struct data_options scaled = {.resize = 8};
    assert_int_equal(data_open(a.spec, &scaled, DATA_TRAIN, 5, &d), ERR_DATA);
    refused("synth:100", DATA_ALL, "synth:100", "'all'");
    scratch_close(a.dir);
    scratch_close(b.dir);
}

static void test_sizes_are_parsed(void **state)
{
    static const char *const bad_resize[] = {"", "0", "-5", "x", "32,nearest", "99999", "32x32"};
    static const char *const bad_crop[] = {"", "32", "32x", "x32", "32x0", "32x32x3", "0x5"};
    struct data_options o = {0};

    (void)state;
    assert_int_equal(data_resize_parse("256", &o), 0);
    assert_true(o.resize == 256 && !o.bicubic);
    assert_int_equal(data_resize_parse("40,bicubic", &o), 0);
    assert_true(o.resize == 40 && o.bicubic);
    assert_int_equal(data_resize_parse("41,bilinear", &o), 0);
    assert_true(o.resize == 41 && !o.bicubic);
    assert_int_equal(data_crop_parse("224x192", &o), 0);
    assert_true(o.crop_height == 224 && o.crop_width == 192);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(data_resize_parse(bad_resize[i], &o), ERR_ARG);
        assert_int_equal(data_crop_parse(bad_crop[i], &o), ERR_ARG);
    }
}

static void test_bad_arrays_are_refused(void **state)
{
    uint8_t x[4 * 3 * 4 * 3] = {0};
    float f[3 * 4 * 4] = {0};
    int64_t y[3] = {0, 1, -1};
    struct arrays a;

    (void)state;
    arrays_open(&a);
    refused(a.spec, DATA_ALL, "x.npy", "");
    write_array(a.x, NPY_U8, 4, 2, 3, 4, 4, x);
    refused(a.spec, DATA_ALL, "y.npy", "");
    write_array(a.y, NPY_I64, 1, 3, 0, 0, 0, y);
    refused(a.spec, DATA_ALL, "y.npy", "2 images");
    write_array(a.x, NPY_U8, 4, 3, 3, 4, 4, x);
    refused(a.spec, DATA_ALL, "y.npy", "label -1");
    y[2] = 1;
    write_array(a.y, NPY_I64, 1, 3, 0, 0, 0, y);
    write_array(a.x, NPY_U8, 4, 3, 3, 4, 3, x);
    refused(a.spec, DATA_ALL, "x.npy", "[3,3,4,3]");
    write_array(a.x, NPY_U8, 4, 3, 2, 4, 2, x);
    refused(a.spec, DATA_ALL, "x.npy", "[3,2,4,2]");
    write_array(a.x, NPY_U8, 2, 3, 4, 0, 0, x);
    refused(a.spec, DATA_ALL, "x.npy", "rank 2");
    write_array(a.x, NPY_I64, 4, 1, 1, 2, 2, (const int64_t[]){0, 255, 256, 3});
    refused(a.spec, DATA_ALL, "x.npy", "256 at index 2");
    write_array(a.x, NPY_I64, 4, 1, 1, 2, 2, (const int64_t[]){0, 255, -1, 3});
    refused(a.spec, DATA_ALL, "x.npy", "-1 at index 2");
    f[5] = 1.5f;
    write_array(a.x, NPY_F32, 4, 1, 3, 4, 4, f);
    refused(a.spec, DATA_ALL, "x.npy", "1.5 at index 5");
    refused("npy:x.npy", DATA_ALL, "x.npy", "LABELS");
    refused("npy:,y.npy", DATA_ALL, "y.npy", "IMAGES");
    refused("npy:a,b,c", DATA_ALL, "a,b,c", "IMAGES");
    scratch_close(a.dir);
}

/* ---- synth: and names ----------------------------------------------------------------------- */

static void test_synth_has_train_and_test_parts(void **state)
{
    struct dataset *d = opened("synth:500", DATA_TRAIN, 3);
    uint8_t chw[SYNTH_BYTES];
    int32_t label;

    (void)state;
    assert_int_equal(d->n, 450);
    assert_int_equal(data_check(d, 3, 32, 32, 10), 0);
    data_close(d);
    d = opened("synth:500", DATA_TEST, 3);
    assert_int_equal(d->n, 100);
    synth_image(3, SYNTH_TEST, 99, chw, &label);
    assert_memory_equal(chw, d->pixels + 99 * SYNTH_BYTES, SYNTH_BYTES);
    assert_int_equal(d->labels[99], label);
    data_close(d);
    refused("synth:5", DATA_TEST, "synth:5", "10");
    refused("synth:1e3", DATA_TEST, "synth:1e3", "N");
    refused("synth:-7", DATA_TEST, "synth:-7", "N");
    refused("synth:99999999999999999999", DATA_TEST, "synth:9999", "N");
}

static void test_every_failed_allocation_is_reported(void **state)
{
    struct dataset *d = NULL;
    char dir[SCRATCH_TEXT];
    int rc = ERR_NOMEM;

    (void)state;
    scratch_open(dir);
    write_cifar10(dir, 10);
    for (long n = 1; rc == ERR_NOMEM; n++) {
        assert_true(n < 50);
        mem_fail_at(n);
        rc = data_open(dir, NULL, DATA_TRAIN, 1, &d);
    }
    mem_fail_at(0);
    assert_int_equal(rc, 0);
    data_close(d);
    scratch_close(dir);
}

static void test_split_names(void **state)
{
    enum data_split s;

    (void)state;
    for (int i = DATA_TRAIN; i <= DATA_ALL; i++) {
        assert_int_equal(data_split_parse(data_split_name((enum data_split)i), &s), 0);
        assert_int_equal(s, i);
    }
    assert_int_equal(data_split_parse(NULL, &s), 0);
    assert_int_equal(s, DATA_EVAL);
    assert_int_equal(data_split_parse("eval", &s), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cifar10_is_found_and_counted),
        cmocka_unit_test(test_cifar100_uses_fine_labels),
        cmocka_unit_test(test_split_is_stratified_and_disjoint),
        cmocka_unit_test(test_short_files_of_whole_records_are_read),
        cmocka_unit_test(test_split_depends_on_the_seed_only),
        cmocka_unit_test(test_malformed_cifar_is_refused),
        cmocka_unit_test(test_malformed_cifar100_is_refused),
        cmocka_unit_test(test_other_layouts_are_named),
        cmocka_unit_test(test_arrays_of_both_orders_agree),
        cmocka_unit_test(test_forms_of_labels),
        cmocka_unit_test(test_floats_that_miss_by_rounding),
        cmocka_unit_test(test_one_set_is_cut),
        cmocka_unit_test(test_own_test_and_val_sources),
        cmocka_unit_test(test_sizes_are_parsed),
        cmocka_unit_test(test_bad_arrays_are_refused),
        cmocka_unit_test(test_synth_has_train_and_test_parts),
        cmocka_unit_test(test_every_failed_allocation_is_reported),
        cmocka_unit_test(test_split_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
