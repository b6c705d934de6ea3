/* core/safetensors: round trips, files of the official library, hostile headers. */
#include "core/base/safetensors.h"
#include "core/base/buf.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scratch.h"

#define LIMIT ((size_t)128 << 20)

/* A file in memory: length, header text, data. */
static struct buf_writer file_of(const char *header, const void *data, size_t len)
{
    struct buf_writer w = buf_writer_to(LIMIT);

    buf_put_u64(&w, strlen(header));
    buf_put_bytes(&w, header, strlen(header));
    buf_put_bytes(&w, data, len);
    assert_int_equal(buf_status(&w), 0);
    return w;
}

static bool is_aligned(const struct st_tensor *t)
{
    return t->count == 0 || (uintptr_t)t->data % (t->bytes / t->count) == 0;
}

/* Opens an exact copy, so that the sanitizer sees a read behind it. */
static int open_exact(const void *bytes, size_t len)
{
    struct st_reader *r = NULL;
    uint8_t *exact = mem_array(len, 1);
    unsigned sum = 0;

    memcpy(exact, bytes, len);
    int rc = st_reader_bytes(exact, len, "test", &r);
    for (size_t i = 0; rc == 0 && i < st_count(r); i++) { /* every byte can be read */
        const struct st_tensor *t = st_at(r, i);
        assert_true(is_aligned(t));
        for (size_t k = 0; k < t->bytes; k++)
            sum += ((const uint8_t *)t->data)[k];
        assert_ptr_equal(st_find(r, t->name), t);
    }
    st_reader_close(r);
    mem_free(exact);
    return rc < 0 ? rc : sum > 0; /* some use of sum */
}

/* Made by safetensors.numpy.save 0.4 and later, checked against safe_open: "b" F32 [2] {1.5, -2},
 * "a.x" I16 [3] {1, 2, 3}, "e" F64 [0,4], "s" U8 [] 7, metadata {"z": "hello"}. */
static const char official_header[] =
    "{\"__metadata__\":{\"z\":\"hello\"},\"e\":{\"dtype\":\"F64\",\"shape\":[0,4],\"data_offsets\":[0,0]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a.x\":{\"dtype\":\"I16\",\"shape\":[3],\"data_offsets\":[8,14]},\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[14,15]}}     ";
static const uint8_t official_data[15] = {0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0, 1, 0, 2, 0, 3, 0, 7};

static void test_official_file_is_read(void **state)
{
    struct buf_writer f = file_of(official_header, official_data, sizeof official_data);
    struct st_reader *r = NULL;
    const void *data = NULL;

    (void)state;
    assert_int_equal(st_reader_bytes(f.data, f.len, "official", &r), 0);
    assert_int_equal(st_count(r), 4);
    assert_string_equal(st_at(r, 0)->name, "a.x"); /* sorted by name */
    assert_string_equal(st_at(r, 3)->name, "s");
    assert_int_equal(st_need(r, "b", ST_F32, 1, (int64_t[]){2}, &data), 0);
    assert_true(((const float *)data)[0] == 1.5f && ((const float *)data)[1] == -2);
    assert_int_equal(st_need(r, "a.x", ST_I16, 1, (int64_t[]){3}, &data), 0);
    assert_int_equal(((const int16_t *)data)[2], 3);
    assert_int_equal(st_need(r, "s", ST_U8, 0, NULL, &data), 0);
    assert_int_equal(*(const uint8_t *)data, 7);
    assert_int_equal(st_find(r, "e")->count, 0);
    assert_string_equal(st_meta(r, "z"), "hello");
    assert_null(st_meta(r, "y"));
    assert_null(st_find(r, "none"));
    st_reader_close(r);
    st_reader_close(NULL);
    buf_release(&f);
}

static void test_need_names_the_difference(void **state)
{
    struct buf_writer f = file_of(official_header, official_data, sizeof official_data);
    struct st_reader *r = NULL;
    const void *data = NULL;

    (void)state;
    assert_int_equal(st_reader_bytes(f.data, f.len, "x.st", &r), 0);
    assert_int_equal(st_need(r, "none", ST_F32, 0, NULL, &data), ERR_FORMAT);
    assert_string_equal(err_message(), "x.st: no tensor 'none'");
    assert_int_equal(st_need(r, "b", ST_F32, 1, (int64_t[]){3}, &data), ERR_FORMAT);
    assert_string_equal(err_message(), "x.st: tensor 'b' is F32[2], expected F32[3]");
    assert_int_equal(st_need(r, "e", ST_F32, 2, (int64_t[]){0, 4}, &data), ERR_FORMAT);
    assert_string_equal(err_message(), "x.st: tensor 'e' is F64[0,4], expected F32[0,4]");
    assert_int_equal(st_need(r, "b", ST_F32, 0, NULL, &data), ERR_FORMAT);
    assert_null(data);
    st_reader_close(r);
    buf_release(&f);
}

static void test_dtypes(void **state)
{
    (void)state;
    assert_string_equal(st_dtype_name(ST_I16), "I16");
}

/* ---- writer ---------------------------------------------------------------------------------- */

static const float floats[6] = {1, -2, 3.5f, 0, 5, 1e-30f};
static const int64_t longs[2] = {INT64_MIN, 42};
static const int16_t shorts[3] = {-1, 0, 32767};

/* The same content in two orders. */
static int add_all(struct st_writer *w, int order)
{
    for (int i = 0; i < 5; i++)
        switch (order == 0 ? i : 4 - i) {
        case 0:
            TRY(st_writer_add(w, "conv.weight", ST_F32, 2, (int64_t[]){2, 3}, floats));
            break;
        case 1:
            TRY(st_writer_add(w, "step", ST_I64, 1, (int64_t[]){2}, longs));
            break;
        case 2:
            TRY(st_writer_add(w, "q", ST_I16, 3, (int64_t[]){1, 3, 1}, shorts));
            break;
        case 3:
            TRY(st_writer_add(w, "nothing", ST_U64, 1, (int64_t[]){0}, NULL));
            TRY(st_writer_meta(w, "config", "{\"lr\": 0.1}\n\xc3\xa9"));
            break;
        default:
            TRY(st_writer_add(w, "scalar", ST_F32, 0, NULL, floats + 2));
            TRY(st_writer_meta(w, "", ""));
        }
    return 0;
}

static int save(const char *path, int order)
{
    struct st_writer *w = NULL;
    int rc = st_writer_new(&w);

    if (rc == 0)
        rc = add_all(w, order);
    if (rc == 0)
        rc = st_writer_save(w, path, FILE_PUBLIC);
    st_writer_free(w);
    return rc;
}

static void expect_content(const struct st_reader *r)
{
    const void *data = NULL;

    assert_int_equal(st_count(r), 5);
    assert_int_equal(st_need(r, "conv.weight", ST_F32, 2, (int64_t[]){2, 3}, &data), 0);
    assert_memory_equal(data, floats, sizeof floats);
    assert_int_equal(st_need(r, "step", ST_I64, 1, (int64_t[]){2}, &data), 0);
    assert_memory_equal(data, longs, sizeof longs);
    assert_int_equal(st_need(r, "q", ST_I16, 3, (int64_t[]){1, 3, 1}, &data), 0);
    assert_memory_equal(data, shorts, sizeof shorts);
    assert_int_equal(st_need(r, "nothing", ST_U64, 1, (int64_t[]){0}, &data), 0);
    assert_int_equal(st_need(r, "scalar", ST_F32, 0, NULL, &data), 0);
    assert_true(*(const float *)data == 3.5f);
    assert_string_equal(st_meta(r, "config"), "{\"lr\": 0.1}\n\xc3\xa9");
    assert_string_equal(st_meta(r, ""), "");
}

static void test_round_trip_in_any_order(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], second[SCRATCH_TEXT];
    struct st_reader *r = NULL;
    struct file_map m;

    (void)state;
    scratch_open(dir);
    assert_int_equal(save(scratch_path(dir, "a", path), 0), 0);
    assert_int_equal(save(scratch_path(dir, "b", second), 1), 0);
    assert_int_equal(st_reader_open(path, &r), 0);
    expect_content(r);
    for (size_t i = 0; i < st_count(r); i++) /* in place, without a copy: largest elements first */
        assert_true(is_aligned(st_at(r, i)));
    st_reader_close(r);
    assert_int_equal(file_map_open(path, &m), 0);
    assert_true(scratch_holds(second, m.data, m.len)); /* the same bytes */
    assert_int_equal(m.data[0] % 8, 0);                /* header padded */
    file_map_close(&m);
    assert_int_equal(st_reader_open(scratch_path(dir, "none", path), &r), ERR_IO);
    scratch_write(path, "short", 5);
    assert_int_equal(st_reader_open(path, &r), ERR_FORMAT);
    scratch_close(dir);
}

static void test_many_tensors(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], name[32];
    struct st_writer *w = NULL;
    struct st_reader *r = NULL;
    static int32_t value[3000];

    (void)state;
    scratch_open(dir);
    assert_int_equal(st_writer_new(&w), 0);
    for (int i = 0; i < 3000; i++) {
        value[i] = i;
        snprintf(name, sizeof name, "t%d", i * 7919 % 3000);
        assert_int_equal(st_writer_add(w, name, ST_I32, 0, NULL, &value[i * 7919 % 3000]), 0);
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(st_writer_meta(w, name, name), 0);
    }
    assert_int_equal(st_writer_save(w, scratch_path(dir, "a", path), FILE_PUBLIC), 0);
    st_writer_free(w);
    assert_int_equal(st_reader_open(path, &r), 0);
    assert_int_equal(st_count(r), 3000);
    for (int i = 0; i < 3000; i++) {
        const void *data = NULL;
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(st_need(r, name, ST_I32, 0, NULL, &data), 0);
        assert_int_equal(*(const int32_t *)data, i);
        snprintf(name, sizeof name, "k%d", i);
        assert_string_equal(st_meta(r, name), name);
    }
    st_reader_close(r);
    scratch_close(dir);
}

static void test_empty_file_round_trip(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct st_writer *w = NULL;
    struct st_reader *r = NULL;

    (void)state;
    scratch_open(dir);
    assert_int_equal(st_writer_new(&w), 0);
    assert_int_equal(st_writer_save(w, scratch_path(dir, "a", path), FILE_PUBLIC), 0);
    st_writer_free(w);
    assert_true(scratch_holds(path, "\x08\0\0\0\0\0\0\0{}      ", 16));
    assert_int_equal(st_reader_open(path, &r), 0);
    assert_int_equal(st_count(r), 0);
    assert_null(st_meta(r, "a"));
    assert_null(st_find(r, "a"));
    st_reader_close(r);
    scratch_close(dir);
}

static void test_writer_refuses(void **state)
{
    struct st_writer *w = NULL;
    const int64_t wrong[] = {-1}, large[] = {INT64_MAX, 2}, wide[] = {INT64_MAX, 1};

    (void)state;
    assert_int_equal(st_writer_new(&w), 0);
    assert_int_equal(st_writer_add(w, "", ST_F32, 0, NULL, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a\nb", ST_F32, 0, NULL, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a\x7f", ST_F32, 0, NULL, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "\xff", ST_F32, 0, NULL, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "__metadata__", ST_F32, 0, NULL, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, 1, wrong, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, 2, large, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, 2, wide, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, 9, wrong, floats), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, -1, wrong, floats), ERR_ARG);
    assert_int_equal(st_writer_meta(w, "\xff", "x"), ERR_ARG);
    assert_int_equal(st_writer_meta(w, "x", "\xc3"), ERR_ARG);
    assert_int_equal(st_writer_add(w, "a", ST_F32, 0, NULL, floats), 0);
    assert_int_equal(st_writer_add(w, "a", ST_I16, 0, NULL, floats), 0);
    assert_int_equal(st_writer_save(w, "/nonexistent/x", FILE_PUBLIC), ERR_ARG);
    assert_string_equal(err_message(), "tensor 'a' was added twice");
    st_writer_free(w);
    assert_int_equal(st_writer_new(&w), 0);
    assert_int_equal(st_writer_meta(w, "k", "1"), 0);
    assert_int_equal(st_writer_save(w, "/nonexistent/x", FILE_PUBLIC), ERR_IO);
    assert_int_equal(st_writer_meta(w, "k", "2"), 0);
    assert_int_equal(st_writer_save(w, "/nonexistent/x", FILE_PUBLIC), ERR_ARG);
    assert_string_equal(err_message(), "metadata 'k' was added twice");
    st_writer_free(w);
}

static void test_writer_bounds_the_number_of_tensors(void **state)
{
    struct st_writer *w = NULL;
    int rc = 0, n = 0;

    (void)state;
    assert_int_equal(st_writer_new(&w), 0);
    for (; rc == 0; n++)
        rc = st_writer_add(w, "same", ST_F32, 0, NULL, floats);
    assert_int_equal(rc, ERR_LIMIT);
    assert_int_equal(n, ST_MAX_TENSORS);
    st_writer_free(w);
}

/* ---- hostile files --------------------------------------------------------------------------- */

static void test_every_cut_is_refused(void **state)
{
    struct buf_writer f = file_of(official_header, official_data, sizeof official_data);

    (void)state;
    assert_int_equal(open_exact(f.data, f.len), 1);
    for (size_t n = 0; n < f.len; n++)
        assert_true(open_exact(f.data, n) < 0);
    buf_put_u8(&f, 0);
    assert_int_equal(open_exact(f.data, f.len), ERR_FORMAT);
    assert_string_equal(err_message(), "test: 1 bytes of data belong to no tensor");
    buf_release(&f);
}

static void test_flips_fail_or_give_a_valid_file(void **state)
{
    struct buf_writer f = file_of(official_header, official_data, sizeof official_data);
    int refused = 0;

    (void)state;
    for (size_t i = 0; i < 8 * f.len; i++) {
        f.data[i / 8] ^= (uint8_t)(1u << i % 8);
        refused += open_exact(f.data, f.len) < 0;
        f.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(refused > (int)f.len);
    buf_release(&f);
}

/* Tensors of another writer that are not aligned are copied. */
static void test_unaligned_tensors_are_copied(void **state)
{
    static const uint8_t data[13] = {9, 0, 0, 0x80, 0x3f, 1, 0, 0, 0, 0, 0, 0, 0};
    struct buf_writer f = file_of(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]},\"c\":{\"dtype\":\"U64\",\"shape\":[1],\"data_offsets\":[5,13]}}",
        data, sizeof data);
    struct st_reader *r = NULL;

    (void)state;
    assert_int_equal(st_reader_bytes(f.data, f.len, "test", &r), 0);
    assert_true(*(const float *)st_find(r, "b")->data == 1);
    assert_true(*(const uint64_t *)st_find(r, "c")->data == 1);
    st_reader_close(r);
    assert_int_equal(open_exact(f.data, f.len), 1);
    buf_release(&f);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_bad_headers_are_named(void **state)
{
    static const struct {
        const char *header, *message; /* data: 8 bytes */
        int code;
    } bad[] = {
        {"", "test: not a safetensors file: the header is no JSON object", ERR_FORMAT},
        {" {}", "test: not a safetensors file: the header is no JSON object", ERR_FORMAT},
        {"{", NULL, ERR_FORMAT},
        {"{}", "test: 8 bytes of data belong to no tensor", ERR_FORMAT},
        {"{} x", NULL, ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0,8]") "," T("a", "F64", "[1]", "[0,8]") "}", NULL, ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0,8]") "," T("b", "F64", "[1]", "[0,8]") "}",
         "test: the data overlap at byte 0", ERR_FORMAT},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "U8", "[3]", "[5,8]") "}",
         "test: the data have a hole at byte 4", ERR_FORMAT},
        {"{" T("a", "F32", "[1]", "[4,8]") "}", "test: the data have a hole at byte 0", ERR_FORMAT},
        {"{" T("a", "F32", "[1]", "[0,4]") "}", "test: 4 bytes of data belong to no tensor",
         ERR_FORMAT},
        {"{" T("a", "F64", "[2]", "[0,16]") "}",
         "test: tensor 'a': data_offsets outside the 8 bytes of data", ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[8,0]") "}",
         "test: tensor 'a': data_offsets outside the 8 bytes of data", ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0]") "}",
         "test: tensor 'a': data_offsets outside the 8 bytes of data", ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0,4,8]") "}",
         "test: tensor 'a': data_offsets is no list of at most 2 numbers", ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[-8,0]") "}", "test: tensor 'a': data_offsets holds no count",
         ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0,8.0]") "}", "test: tensor 'a': data_offsets holds no count",
         ERR_FORMAT},
        {"{" T("a", "F64", "[1]", "[0,99999999999999999999]") "}", NULL, ERR_FORMAT},
        {"{" T("a", "F64", "[2]", "[0,8]") "}", "test: tensor 'a': F64[2] does not fill 8 bytes",
         ERR_FORMAT},
        {"{" T("a", "F64", "[4294967296,4294967296,4294967296]", "[0,8]") "}",
         "test: tensor 'a': F64[4294967296,4294967296,4294967296] does not fill 8 bytes",
         ERR_FORMAT},
        {"{" T("a", "F64", "[2305843009213693953]", "[0,8]") "}",
         "test: tensor 'a': F64[2305843009213693953] does not fill 8 bytes", ERR_FORMAT},
        {"{" T("a", "F64", "[1,1,1,1,1,1,1,1,1]", "[0,8]") "}",
         "test: tensor 'a': shape is no list of at most 8 numbers", ERR_FORMAT},
        {"{" T("a", "F64", "3", "[0,8]") "}",
         "test: tensor 'a': shape is no list of at most 8 numbers", ERR_FORMAT},
        {"{" T("a", "F64", "[\"1\"]", "[0,8]") "}", "test: tensor 'a': shape holds no count",
         ERR_FORMAT},
        {"{" T("a", "F8_E4M3", "[8]", "[0,8]") "}", "test: tensor 'a': dtype F8_E4M3",
         ERR_UNSUPPORTED},
        {"{\"a\":{\"dtype\":64,\"shape\":[1],\"data_offsets\":[0,8]}}",
         "test: tensor 'a': no dtype", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"offsets\":[0,8]}}",
         "test: tensor 'a': data_offsets is no list of at most 2 numbers", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8],\"x\":1}}",
         "test: tensor 'a': not dtype, shape and data_offsets", ERR_FORMAT},
        {"{\"a\":7}", "test: tensor 'a': not dtype, shape and data_offsets", ERR_FORMAT},
        {"{" T("", "F64", "[1]", "[0,8]") "}",
         "test: a tensor's name is empty or holds control characters", ERR_FORMAT},
        {"{" T("\\u001b[2J", "F64", "[1]", "[0,8]") "}",
         "test: a tensor's name is empty or holds control characters", ERR_FORMAT},
        {"{" T("\\u0000", "F64", "[1]", "[0,8]") "}", NULL, ERR_FORMAT},
        {"{\"__metadata__\":3}", "test: __metadata__ is no object", ERR_FORMAT},
        {"{\"__metadata__\":{\"a\":1}}", "test: __metadata__ holds something that is no text",
         ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf_writer f = file_of(bad[i].header, floats, 8);
        int rc = open_exact(f.data, f.len);
        if (rc != bad[i].code)
            fail_msg("%s gave %d: %s", bad[i].header, rc, err_message());
        if (bad[i].message != NULL)
            assert_string_equal(err_message(), bad[i].message);
        buf_release(&f);
    }
}

static void test_headers_are_bounded(void **state)
{
    struct buf_writer f = buf_writer_to(LIMIT);
    const size_t n = 2200000;

    (void)state;
    buf_put_u64(&f, (uint64_t)1 << 63);
    assert_int_equal(open_exact(f.data, f.len), ERR_LIMIT);
    f.len = 0;
    buf_put_u64(&f, n); /* {"a":[0,0,0...: 20 times as much in jansson's memory */
    buf_put_bytes(&f, "{\"a\":[", 6);
    for (size_t i = 6; i < n; i += 2)
        buf_put_bytes(&f, "0,", 2);
    assert_int_equal(open_exact(f.data, f.len), ERR_LIMIT);
    assert_string_equal(err_message(), "test: more than 1048576 commas in the header");
    f.len = 0;
    buf_put_u64(&f, 100000); /* nesting */
    buf_put_bytes(&f, "{\"a\":", 5);
    for (int i = 0; i < 100000 - 5; i++)
        buf_put_u8(&f, '[');
    assert_int_equal(open_exact(f.data, f.len), ERR_FORMAT);
    f.len = 0;
    size_t start = f.len;
    buf_put_u64(&f, 0);
    buf_put_u8(&f, '{');
    for (int i = 0; i <= ST_MAX_TENSORS; i++) {
        char entry[32];
        snprintf(entry, sizeof entry, "%s\"%d\":0", i > 0 ? "," : "", i);
        buf_put_bytes(&f, entry, strlen(entry));
    }
    buf_put_u8(&f, '}');
    uint64_t len = f.len - start - 8;
    for (int i = 0; i < 8; i++)
        f.data[i] = (uint8_t)(len >> 8 * i);
    assert_int_equal(open_exact(f.data, f.len), ERR_LIMIT);
    assert_string_equal(err_message(), "test: more than 65536 tensors");
    buf_release(&f);
}

static void test_failed_allocations(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct st_reader *r = NULL;
    int rc = ERR_NOMEM;
    long n = 0;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "a", path);
    while (rc == ERR_NOMEM) {
        mem_fail_at(++n);
        rc = save(path, 0);
        mem_fail_at(0);
        assert_int_equal(scratch_entries(dir), rc == 0);
    }
    assert_int_equal(rc, 0);
    assert_in_range(n, 15, 40);
    for (n = 0, rc = ERR_NOMEM; rc == ERR_NOMEM;) {
        mem_fail_at(++n);
        rc = st_reader_open(path, &r);
        mem_fail_at(0);
    }
    assert_int_equal(rc, 0);
    assert_in_range(n, 10, 40);
    expect_content(r);
    st_reader_close(r);
    scratch_close(dir);
}

static void test_failed_allocation_of_a_copy(void **state)
{
    struct buf_writer f = file_of(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
        floats, 5);
    struct st_reader *r = NULL;
    int rc = ERR_NOMEM;

    (void)state;
    for (long n = 1; rc == ERR_NOMEM; n++) {
        mem_fail_at(n);
        rc = st_reader_bytes(f.data, f.len, "test", &r);
        mem_fail_at(0);
    }
    assert_int_equal(rc, 0);
    st_reader_close(r);
    buf_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_official_file_is_read),
        cmocka_unit_test(test_need_names_the_difference),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_round_trip_in_any_order),
        cmocka_unit_test(test_many_tensors),
        cmocka_unit_test(test_empty_file_round_trip),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_writer_bounds_the_number_of_tensors),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_flips_fail_or_give_a_valid_file),
        cmocka_unit_test(test_unaligned_tensors_are_copied),
        cmocka_unit_test(test_bad_headers_are_named),
        cmocka_unit_test(test_headers_are_bounded),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_failed_allocation_of_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
