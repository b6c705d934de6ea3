/* Image folders: class numbers by name in every part, what is skipped and said, what is refused. */
#define _XOPEN_SOURCE 700 /* nftw */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <png.h>

#include "core/base/mem.h"
#include "tests/scratch.h"
#include "trainer/data/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- folders of one-coloured images ------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static void tree_close(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* dir/name with the folders above it. */
static const char *place(const char *dir, const char *name, char path[SCRATCH_TEXT])
{
    scratch_path(dir, name, path);
    for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    return path;
}

/* An image of 2x2 (or side x side) pixels that are all `value`. */
static void put_sized(const char *dir, const char *name, uint8_t value, uint32_t height,
                      uint32_t width)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height};
    uint8_t *grey = mem_array((size_t)height * width, 1);
    char path[SCRATCH_TEXT];

    memset(grey, value, (size_t)height * width);
    image.format = PNG_FORMAT_GRAY;
    assert_int_equal(png_image_write_to_file(&image, place(dir, name, path), 0, grey, 0, NULL), 1);
    mem_free(grey);
}

static void put(const char *dir, const char *name, uint8_t value)
{
    put_sized(dir, name, value, 2, 2);
}

static void put_text(const char *dir, const char *name, const char *text)
{
    char path[SCRATCH_TEXT];

    scratch_write(place(dir, name, path), text, strlen(text));
}

static void drop(const char *dir, const char *name)
{
    char path[SCRATCH_TEXT];

    tree_close(scratch_path(dir, name, path));
}

/* The images of a split in order, as "value:label value:label ...". */
static const char *listed(const char *dir, const struct data_options *o, enum data_split split,
                          char text[SCRATCH_TEXT])
{
    struct dataset *d = NULL;

    text[0] = '\0';
    if (data_open(dir, o, split, 1, &d) != 0)
        fail_msg("%s", err_message());
    for (int64_t i = 0; i < d->n; i++)
        snprintf(text + strlen(text), SCRATCH_TEXT - strlen(text), "%s%d:%d", i > 0 ? " " : "",
                 d->pixels[i * 3 * d->height * d->width], d->labels[i]);
    data_close(d);
    return text;
}

static void refused(const char *dir, const struct data_options *o, enum data_split split,
                    const char *one, const char *two)
{
    struct dataset *d = NULL;
    const int rc = data_open(dir, o, split, 1, &d);

    if (rc != ERR_DATA || strstr(err_message(), one) == NULL || strstr(err_message(), two) == NULL)
        fail_msg("code %d, message '%s' without '%s' or '%s'", rc, err_message(), one, two);
}

static void says(const char *dir, enum data_split split, const char *text)
{
    struct dataset *d = NULL;

    if (data_open(dir, NULL, split, 1, &d) != 0)
        fail_msg("%s", err_message());
    if (strstr(d->source, text) == NULL)
        fail_msg("'%s' does not say '%s'", d->source, text);
    data_close(d);
}

/* train/ and test/ with classes bird, cat, cat-big: the last two sort otherwise with a slash behind. */
static void make_set(const char *dir)
{
    put(dir, "train/bird/1.png", 10);
    put(dir, "train/cat/1.png", 20);
    put(dir, "train/cat/2.png", 21);
    put(dir, "train/cat-big/1.PNG", 30);
    put(dir, "test/bird/1.png", 110);
    put(dir, "test/cat/1.png", 120);
    put(dir, "test/cat-big/1.png", 130);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_numbers_come_from_the_training_part(void **state)
{
    char dir[SCRATCH_TEXT], text[SCRATCH_TEXT];
    struct dataset *d = NULL;

    (void)state;
    scratch_open(dir);
    make_set(dir);
    assert_string_equal(listed(dir, NULL, DATA_TRAIN_ALL, text), "10:0 20:1 21:1 30:2");
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "110:0 120:1 130:2");
    assert_int_equal(data_open(dir, NULL, DATA_TEST, 1, &d), 0);
    assert_int_equal(d->classes, 3);
    assert_string_equal(d->class_name[0], "bird");
    assert_string_equal(d->class_name[1], "cat");
    assert_string_equal(d->class_name[2], "cat-big");
    data_close(d);
    drop(dir, "test/bird"); /* its labels would all shift down by one */
    refused(dir, NULL, DATA_TEST, "class 'bird'", "test/bird");
    put(dir, "test/bird/1.png", 110);
    put(dir, "test/ant/1.png", 100); /* and up by one */
    refused(dir, NULL, DATA_TEST, "test/ant", "no class of the training images");
    drop(dir, "test/ant");
    drop(dir, "train/cat/1.png");
    drop(dir, "train/cat/2.png");
    put_text(dir, "train/cat/readme.txt", "x");
    refused(dir, NULL, DATA_TRAIN, "class 'cat'", "no image");
    refused(dir, NULL, DATA_VAL, "class 'cat'", "no image");
    tree_close(dir);
}

static void test_a_validation_folder_is_used(void **state)
{
    char dir[SCRATCH_TEXT], text[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    make_set(dir);
    put(dir, "val/bird/1.png", 210);
    put(dir, "val/cat/1.png", 220);
    put(dir, "val/cat-big/1.png", 230);
    assert_string_equal(listed(dir, NULL, DATA_TRAIN, text), "10:0 20:1 21:1 30:2");
    assert_string_equal(listed(dir, NULL, DATA_VAL, text), "210:0 220:1 230:2");
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "110:0 120:1 130:2");
    drop(dir, "test");
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "210:0 220:1 230:2");
    drop(dir, "val");
    refused(dir, NULL, DATA_TEST, "neither", "val");
    tree_close(dir);
}

static void test_skipped_files_are_said(void **state)
{
    char dir[SCRATCH_TEXT], text[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    make_set(dir);
    says(dir, DATA_TRAIN_ALL, "(3 classes)");
    put_text(dir, "train/cat/a.bmp", "x");
    put_text(dir, "train/cat/b.BMP", "x");
    put_text(dir, "train/cat/c.webp", "x");
    put_text(dir, "train/cat/Makefile", "x");
    put_text(dir, "train/cat/.hidden.png", "x");
    put(dir, "train/bird/more/9.png", 99);
    put(dir, "train/loose.png", 99);
    says(dir, DATA_TRAIN_ALL, "skipped:");
    says(dir, DATA_TRAIN_ALL, " 2 .bmp");
    says(dir, DATA_TRAIN_ALL, " 1 .webp");
    says(dir, DATA_TRAIN_ALL, " 1 without an ending");
    says(dir, DATA_TRAIN_ALL, " 1 images in nested folders");
    says(dir, DATA_TRAIN_ALL, " 1 images beside the class folders");
    assert_string_equal(listed(dir, NULL, DATA_TRAIN_ALL, text), "10:0 20:1 21:1 30:2");
    tree_close(dir);
}

static void test_odd_files_are_refused_at_once(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], spec[3 * SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    make_set(dir);
    assert_int_equal(mkfifo(place(dir, "train/cat/0.png", path), 0600), 0);
    refused(dir, NULL, DATA_TRAIN, "0.png", "not a regular file");
    snprintf(spec, sizeof spec, "npy:%s,%s", path, path);
    refused(spec, NULL, DATA_ALL, "0.png", "regular");
    refused(path, NULL, DATA_TRAIN, "0.png", "regular file");
    snprintf(spec, sizeof spec, "imagefolder:%s", path);
    refused(spec, NULL, DATA_TRAIN, "0.png", "regular file");
    refused("imagefolder:/dev/zero", NULL, DATA_TRAIN, "/dev/zero", "regular file");
    drop(dir, "train/cat/0.png");
    assert_int_equal(symlink("nowhere", place(dir, "train/cat/3.png", path)), 0);
    refused(dir, NULL, DATA_TRAIN, "3.png", "cannot be read");
    drop(dir, "train/cat/3.png");
    assert_int_equal(symlink("..", place(dir, "train/cat/up", path)), 0); /* six deep, 3^6 times */
    refused(dir, NULL, DATA_TRAIN, "train/cat/up/'", "a link to a folder that it lies in");
    drop(dir, "train/cat/up");
    put_text(dir, "train/cat/3.png", "no image");
    refused(dir, NULL, DATA_TRAIN, "3.png", "neither a JPEG nor a PNG");
    tree_close(dir);
}

static void test_sizes(void **state)
{
    const struct data_options scaled = {.resize = 4, .crop_height = 4, .crop_width = 4};
    const struct data_options cropped = {.crop_height = 2, .crop_width = 2};
    const struct data_options large = {.crop_height = 3, .crop_width = 2};
    char dir[SCRATCH_TEXT], text[SCRATCH_TEXT];
    struct dataset *d = NULL;

    (void)state;
    scratch_open(dir);
    make_set(dir);
    put_sized(dir, "train/cat/2.png", 21, 6, 9);
    refused(dir, NULL, DATA_TRAIN_ALL, "has 9x6 pixels", "--resize N --crop HxW");
    assert_string_equal(listed(dir, &scaled, DATA_TRAIN_ALL, text), "10:0 20:1 21:1 30:2");
    assert_int_equal(data_open(dir, &scaled, DATA_TRAIN_ALL, 1, &d), 0);
    assert_true(d->height == 4 && d->width == 4);
    data_close(d);
    assert_string_equal(listed(dir, &cropped, DATA_TRAIN_ALL, text), "10:0 20:1 21:1 30:2");
    refused(dir, &large, DATA_TRAIN_ALL, "1.png", "less than the crop");
    tree_close(dir);
}

/* Another folder's classes get the numbers of the training images' names. */
static void test_test_data_is_numbered_by_name(void **state)
{
    char dir[SCRATCH_TEXT], other[SCRATCH_TEXT], text[SCRATCH_TEXT], spec[SCRATCH_TEXT + 16];
    const struct data_options o = {.test = spec};

    (void)state;
    scratch_open(dir);
    scratch_open(other);
    make_set(dir);
    snprintf(spec, sizeof spec, "imagefolder:%s", other);
    put(other, "cat-big/1.png", 30);
    put(other, "bird/1.png", 10);
    put(other, "cat/1.png", 20);
    assert_string_equal(listed(dir, &o, DATA_TEST, text), "10:0 20:1 30:2");
    put(other, "ant/1.png", 5);
    refused(dir, &o, DATA_TEST, "'ant'", "no class of the training images");
    drop(other, "ant");
    drop(other, "bird");
    refused(dir, &o, DATA_TEST, "2 classes", "3");
    tree_close(dir);
    tree_close(other);
}

/* Classes c and a in wnids.txt, in this order; numbers by sorted names. */
static void test_tiny_imagenet(void **state)
{
    char dir[SCRATCH_TEXT], text[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    put_text(dir, "wnids.txt", "c\na\n");
    put(dir, "train/c/images/c_0.JPEG", 30);
    put(dir, "train/a/images/a_0.JPEG", 10);
    put_text(dir, "train/a/a_boxes.txt", "x");
    put(dir, "val/images/val_0.JPEG", 130);
    put(dir, "val/images/val_1.JPEG", 110);
    put_text(dir, "val/val_annotations.txt", "val_0.JPEG\tc\t0\t0\nval_1.JPEG\ta\t0\t0\n");
    assert_string_equal(listed(dir, NULL, DATA_TRAIN_ALL, text), "10:0 30:1");
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "130:1 110:0");
    put_text(dir, "val/val_annotations.txt", "val_0.JPEG\tx\t0\t0\n");
    refused(dir, NULL, DATA_TEST, "val_annotations.txt", "no id of wnids.txt");
    drop(dir, "val/images"); /* sorted by hand, as most training scripts want it */
    put(dir, "val/c/val_0.JPEG", 130);
    put(dir, "val/a/val_1.JPEG", 110);
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "110:0 130:1");
    drop(dir, "val");
    put(dir, "val/c/images/val_0.JPEG", 130);
    put(dir, "val/a/images/val_1.JPEG", 110);
    assert_string_equal(listed(dir, NULL, DATA_TEST, text), "110:0 130:1");
    tree_close(dir);
}

/* Listing, decoding and scaling: whichever allocation fails, it is said, and nothing is lost. */
static void test_every_failed_allocation_is_reported(void **state)
{
    const struct data_options o = {.resize = 3, .crop_height = 2, .crop_width = 2};
    char dir[SCRATCH_TEXT];
    struct dataset *d = NULL;
    int rc = ERR_NOMEM;

    (void)state;
    scratch_open(dir);
    make_set(dir);
    for (long n = 1; rc == ERR_NOMEM; n++) {
        assert_true(n < 1000);
        mem_fail_at(n);
        rc = data_open(dir, &o, DATA_TEST, 1, &d);
    }
    mem_fail_at(0);
    assert_int_equal(rc, 0);
    data_close(d);
    tree_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_come_from_the_training_part),
        cmocka_unit_test(test_a_validation_folder_is_used),
        cmocka_unit_test(test_skipped_files_are_said),
        cmocka_unit_test(test_odd_files_are_refused_at_once),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_test_data_is_numbered_by_name),
        cmocka_unit_test(test_tiny_imagenet),
        cmocka_unit_test(test_every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
