/* core/npy: files of numpy, round trips, hostile headers. */
#include "core/base/npy.h"
#include "core/base/buf.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/scratch.h"

#define LIMIT ((size_t)1 << 20)

/* A .npy file with this header text and data. */
static struct buf_writer file_of(int major, const char *header, const void *data, size_t len)
{
    struct buf_writer w = buf_writer_to(LIMIT);
    size_t n = strlen(header);

    buf_put_bytes(&w, "\x93NUMPY", 6);
    buf_put_u8(&w, (uint8_t)major);
    buf_put_u8(&w, 0);
    if (major == 1)
        buf_put_u16(&w, (uint16_t)n);
    else
        buf_put_u32(&w, (uint32_t)n);
    buf_put_bytes(&w, header, n);
    buf_put_bytes(&w, data, len);
    assert_int_equal(buf_status(&w), 0);
    return w;
}

/* Reads an exact copy, so that the sanitizer sees a read behind it. */
static int open_exact(const void *bytes, size_t len)
{
    uint8_t *exact = mem_array(len, 1);
    struct npy a = {0};
    double sum = 0;

    memcpy(exact, bytes, len);
    int rc = npy_from_bytes(exact, len, "test", &a);
    for (size_t i = 0; rc == 0 && i < a.count; i++)
        sum += npy_double(&a, i);
    assert_true(rc == 0 || a.data == NULL);
    npy_release(&a);
    mem_free(exact);
    return sum > -1e300 || rc < 0 ? rc : 0;
}

/* numpy.save of numpy 1.24: float32 [[1, 2, 3], [4, 5, 6.5]] */
static const char numpy_header[] =
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }                                                          \n";
static const float numpy_data[6] = {1, 2, 3, 4, 5, 6.5f};

static void expect_numpy_array(const struct npy *a)
{
    assert_int_equal(a->type, NPY_F32);
    assert_int_equal(a->rank, 2);
    assert_true(a->dim[0] == 2 && a->dim[1] == 3);
    assert_int_equal(a->count, 6);
    assert_memory_equal(a->data, numpy_data, sizeof numpy_data);
}

static void test_numpy_file_and_ours_are_the_same(void **state)
{
    struct buf_writer f = file_of(1, numpy_header, numpy_data, sizeof numpy_data);
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct npy a = {0};

    (void)state;
    assert_int_equal((f.len - sizeof numpy_data) % 64, 0);
    assert_int_equal(npy_from_bytes(f.data, f.len, "test", &a), 0);
    expect_numpy_array(&a);
    npy_release(&a);
    npy_release(&a);
    scratch_open(dir);
    scratch_path(dir, "a.npy", path);
    assert_int_equal(npy_write(path, NPY_F32, 2, (int64_t[]){2, 3}, numpy_data), 0);
    assert_true(scratch_holds(path, f.data, f.len));
    assert_int_equal(npy_open(path, &a), 0);
    expect_numpy_array(&a);
    npy_release(&a);
    assert_int_equal(npy_open(scratch_path(dir, "none", path), &a), ERR_IO);
    scratch_write(path, "\x93NUMPY", 6);
    assert_int_equal(npy_open(path, &a), ERR_FORMAT);
    scratch_close(dir);
    buf_release(&f);
}

static void test_versions_and_spellings(void **state)
{
    static const char *const headers[] = {
        "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
        "{'shape': (2, 3,), 'descr': \"<f4\", 'fortran_order': False}\n",
        " { 'fortran_order' : False , 'shape' : ( 2 , 3 ) , 'descr' : '<f4' , } \t\n",
    };
    struct npy a = {0};

    (void)state;
    for (int major = 1; major <= 3; major++)
        for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
            struct buf_writer f = file_of(major, headers[i], numpy_data, sizeof numpy_data);
            assert_int_equal(npy_from_bytes(f.data, f.len, "test", &a), 0);
            expect_numpy_array(&a);
            npy_release(&a);
            buf_release(&f);
        }
}

static void test_types_round_trip(void **state)
{
    static const int64_t values[4] = {1, 0, 200, 7};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "a.npy", path);
    for (enum npy_type t = NPY_U8; t <= NPY_F64; t++) {
        uint8_t u8[4];
        int32_t i32[4];
        float f32[4];
        double f64[4];
        const void *data[] = {u8, i32, values, f32, f64};
        struct npy a = {0};
        for (int i = 0; i < 4; i++) {
            u8[i] = (uint8_t)values[i];
            i32[i] = (int32_t)values[i];
            f32[i] = (float)values[i];
            f64[i] = (double)values[i];
        }
        assert_int_equal(npy_write(path, t, 1, (int64_t[]){4}, data[t]), 0);
        assert_int_equal(npy_open(path, &a), 0);
        assert_int_equal(a.type, t);
        for (size_t i = 0; i < 4; i++) {
            int64_t v = -1;
            assert_int_equal(npy_int(&a, i, &v), 0);
            assert_int_equal(v, values[i]);
            assert_true(npy_double(&a, i) == (double)values[i]);
        }
        npy_release(&a);
    }
    assert_string_equal(npy_type_name(NPY_U8), "|u1");
    scratch_close(dir);
}

static void test_shapes_round_trip(void **state)
{
    static const uint8_t data[64] = {0};
    static const int64_t eight[] = {1, 2, 1, 2, 1, 2, 2, 4}, none[] = {INT64_MAX, 0, INT64_MAX};
    static const struct {
        int32_t rank;
        const int64_t *dim;
        size_t count;
    } shapes[] = {{0, NULL, 1}, {1, eight + 7, 4}, {8, eight, 64}, {2, none, 0}, {1, none + 1, 0}};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "a.npy", path);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct npy a = {0};
        struct file_map m;
        assert_int_equal(npy_write(path, NPY_U8, shapes[i].rank, shapes[i].dim, data), 0);
        assert_int_equal(npy_open(path, &a), 0);
        assert_int_equal(a.rank, shapes[i].rank);
        assert_int_equal(a.count, shapes[i].count);
        for (int32_t d = 0; d < a.rank; d++)
            assert_int_equal(a.dim[d], shapes[i].dim[d]);
        npy_release(&a);
        assert_int_equal(file_map_open(path, &m), 0);
        assert_int_equal((m.len - shapes[i].count) % 64, 0);
        file_map_close(&m);
    }
    scratch_close(dir);
}

static void test_write_refuses(void **state)
{
    const int64_t wrong[] = {-1}, large[] = {INT64_MAX, 4, 4};

    (void)state;
    assert_int_equal(npy_write("x", NPY_F32, 1, wrong, NULL), ERR_ARG);
    assert_int_equal(npy_write("x", NPY_F32, 3, large, NULL), ERR_ARG);
    assert_int_equal(npy_write("x", NPY_F32, 9, large, NULL), ERR_ARG);
    assert_int_equal(npy_write("x", NPY_F32, -1, large, NULL), ERR_ARG);
    assert_int_equal(npy_write("/nonexistent/x", NPY_F32, 0, NULL, numpy_data), ERR_IO);
}

static void test_integers_must_be_whole(void **state)
{
    static const double odd[] = {0.5, 1e300, -1e300, 0x1p63};
    const double nan = 0.0 / 0.0, least = -0x1p63;
    struct npy a = {.type = NPY_F64, .rank = 1, .dim = {4}, .count = 4, .data = odd};
    int64_t v = 0;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(npy_int(&a, i, &v), ERR_DATA);
    a.data = &nan;
    assert_int_equal(npy_int(&a, 0, &v), ERR_DATA);
    a.data = &least;
    assert_int_equal(npy_int(&a, 0, &v), 0);
    assert_int_equal(v, INT64_MIN);
}

/* Bytes as Python's struct.pack gives them; values worked out by hand. */
static void test_what_python_writes(void **state)
{
    static const struct {
        const char *descr;
        enum npy_type type;
        uint8_t bytes[16];
        size_t n; /* bytes of two elements */
        double value[2];
    } cases[] = {
        {"<f2", NPY_F32, {0x00, 0x3e, 0x00, 0xc0}, 4, {1.5, -2}},
        {"<f2", NPY_F32, {0xff, 0x7b, 0x01, 0x00}, 4, {65504, 0x1p-24}},
        {">f2", NPY_F32, {0x3e, 0x00, 0x83, 0xff}, 4, {1.5, -0x1.ff8p-15}},
        {">f4", NPY_F32, {0x3f, 0xc0, 0, 0, 0xc0, 0x20, 0, 0}, 8, {1.5, -2.5}},
        {"=f4", NPY_F32, {0, 0, 0xc0, 0x3f, 0, 0, 0x20, 0xc0}, 8, {1.5, -2.5}},
        {">f8", NPY_F64, {0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0}, 16, {1.5, -2}},
        {"|b1", NPY_U8, {1, 0}, 2, {1, 0}},
        {"|i1", NPY_I32, {0x7f, 0x80}, 2, {127, -128}},
        {"<i2", NPY_I32, {0x00, 0x80, 0xff, 0xff}, 4, {-32768, -1}},
        {">u2", NPY_I32, {0xff, 0xfe, 0x00, 0x07}, 4, {65534, 7}},
        {">i4", NPY_I32, {0xff, 0xff, 0xff, 0xfd, 0, 0, 1, 0}, 8, {-3, 256}},
        {"<u4", NPY_I64, {0xff, 0xff, 0xff, 0xff, 9, 0, 0, 0}, 8, {4294967295.0, 9}},
        {">i8",
         NPY_I64,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 1, 1},
         16,
         {-2, 257}},
        {"<u8", NPY_I64, {5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 16, {5, 256}},
    };
    char header[96];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(header, sizeof header, "{'descr':'%s','fortran_order':False,'shape':(2,)}",
                 cases[i].descr);
        struct buf_writer f = file_of(1, header, cases[i].bytes, cases[i].n);
        struct npy a = {0};
        if (npy_from_bytes(f.data, f.len, "test", &a) < 0)
            fail_msg("%s: %s", cases[i].descr, err_message());
        assert_int_equal(a.type, cases[i].type);
        for (size_t k = 0; k < 2; k++)
            if (npy_double(&a, k) != cases[i].value[k])
                fail_msg("%s: element %zu is %g", cases[i].descr, k, npy_double(&a, k));
        npy_release(&a);
        buf_release(&f);
    }
}

static void test_fortran_order(void **state)
{
    static const char header[] = "{'descr':'<f4','fortran_order':True,'shape':(2,3)}";
    static const char deep[] = "{'descr':'|u1','fortran_order':True,'shape':(2,3,4)}";
    static const float columns[] = {1, 4, 2, 5, 3, 6.5f};
    struct buf_writer f = file_of(1, header, columns, sizeof columns);
    uint8_t bytes[24];
    struct npy a = {0};

    (void)state;
    assert_int_equal(npy_from_bytes(f.data, f.len, "test", &a), 0);
    expect_numpy_array(&a);
    npy_release(&a);
    mem_fail_at(1);
    assert_int_equal(npy_from_bytes(f.data, f.len, "test", &a), ERR_NOMEM);
    mem_fail_at(0);
    buf_release(&f);
    for (uint8_t i = 0; i < 2; i++) /* the value of [i][j][k] is its place in C order */
        for (uint8_t j = 0; j < 3; j++)
            for (uint8_t k = 0; k < 4; k++)
                bytes[i + 2 * j + 6 * k] = (uint8_t)(12 * i + 4 * j + k);
    f = file_of(1, deep, bytes, sizeof bytes);
    assert_int_equal(npy_from_bytes(f.data, f.len, "test", &a), 0);
    for (size_t i = 0; i < 24; i++)
        assert_int_equal(((const uint8_t *)a.data)[i], i);
    npy_release(&a);
    buf_release(&f);
}

static void test_other_types_are_refused(void **state)
{
    static const char *const descr[] = {"<c8", "<U3", "|O",  "<f16", "<i3",
                                        "f4",  "",    "|S4", "<m8",  "<f44"};
    char header[96];

    (void)state;
    for (size_t i = 0; i < sizeof descr / sizeof descr[0]; i++) {
        snprintf(header, sizeof header, "{'descr':'%s','fortran_order':False,'shape':(1,)}",
                 descr[i]);
        struct buf_writer f = file_of(1, header, "0123456789abcdef", 16);
        assert_int_equal(open_exact(f.data, f.len), ERR_UNSUPPORTED);
        buf_release(&f);
    }
    struct buf_writer f =
        file_of(1, "{'descr':'<u8','fortran_order':False,'shape':(1,)}", "\0\0\0\0\0\0\0\x80", 8);
    assert_int_equal(open_exact(f.data, f.len), ERR_LIMIT);
    buf_release(&f);
}

static void test_only_regular_files(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct npy a = {0};

    (void)state;
    scratch_open(dir);
    assert_int_equal(mkfifo(scratch_path(dir, "fifo.npy", path), 0600), 0);
    assert_int_equal(npy_open(path, &a), ERR_IO); /* and does not wait for a writer */
    assert_non_null(strstr(err_message(), "regular file"));
    assert_int_equal(npy_open("/dev/zero", &a), ERR_IO);
    scratch_close(dir);
}

/* A member of an archive may lie anywhere in memory. */
static void test_unaligned_bytes_are_copied(void **state)
{
    struct buf_writer f = file_of(1, numpy_header, numpy_data, sizeof numpy_data);
    uint8_t *shifted = mem_aligned(f.len + 1, 1);
    struct npy a = {0};

    (void)state;
    memcpy(shifted + 1, f.data, f.len);
    assert_int_equal(npy_from_bytes(shifted + 1, f.len, "test", &a), 0);
    assert_int_equal((uintptr_t)a.data % 4, 0);
    expect_numpy_array(&a);
    npy_release(&a);
    mem_fail_at(1);
    assert_int_equal(npy_from_bytes(shifted + 1, f.len, "test", &a), ERR_NOMEM);
    mem_fail_at(0);
    mem_free(shifted);
    buf_release(&f);
}

static void test_every_cut_is_refused(void **state)
{
    struct buf_writer f = file_of(1, numpy_header, numpy_data, sizeof numpy_data);

    (void)state;
    assert_int_equal(open_exact(f.data, f.len), 0);
    for (size_t n = 0; n < f.len; n++)
        assert_true(open_exact(f.data, n) < 0);
    buf_put_u8(&f, 0);
    assert_int_equal(open_exact(f.data, f.len), ERR_FORMAT);
    assert_string_equal(err_message(), "test: 6 elements of <f4, but 25 bytes of data");
    buf_release(&f);
}

static void test_every_flip_fails_or_reads(void **state)
{
    struct buf_writer f = file_of(2, numpy_header, numpy_data, sizeof numpy_data);

    (void)state;
    for (size_t i = 0; i < f.len; i++)
        for (int v = 0; v < 256; v++) {
            uint8_t old = f.data[i];
            f.data[i] = (uint8_t)v;
            open_exact(f.data, f.len);
            f.data[i] = old;
        }
    buf_release(&f);
}

#define D(descr, order, shape)                                                                     \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"

static void test_bad_headers_are_named(void **state)
{
    static const struct {
        const char *header, *message;
        int code;
    } bad[] = {
        {"", ".npy header: no dictionary", ERR_FORMAT},
        {"[]", ".npy header: no dictionary", ERR_FORMAT},
        {"{}", ".npy header: descr, fortran_order or shape is missing", ERR_FORMAT},
        {"{'descr': '<f4', 'shape': (6,)}", ".npy header: descr, fortran_order or shape is missing",
         ERR_FORMAT},
        {D("'<f4'", "False", "(6,)") " x", ".npy header: text after the dictionary", ERR_FORMAT},
        {"{'descr': '<f4', 'descr': '<f4'}", ".npy header: a key comes twice", ERR_FORMAT},
        {"{'descr': '<f4' 'fortran_order': False}", ".npy header: a comma is missing", ERR_FORMAT},
        {"{'descr' '<f4'}", ".npy header: a colon is missing", ERR_FORMAT},
        {"{'colour': 1}", ".npy header: an unknown key", ERR_FORMAT},
        {"{'descr", ".npy header: a text is too long", ERR_FORMAT},
        {"{'a key of many letters': 1}", ".npy header: a text is too long", ERR_FORMAT},
        {"{'de\x1bscr': 1}", ".npy header: a text holds something odd", ERR_FORMAT},
        {"{'de\\x41': 1}", ".npy header: a text holds something odd", ERR_FORMAT},
        {"{5: 1}", ".npy header: a text is missing", ERR_FORMAT},
        {D("'|O'", "False", "(6,)"),
         ".npy type |O is not supported; integers, truth values and floats of at most 64 bits are",
         ERR_UNSUPPORTED},
        {D("[('a', '<f4')]", "False", "(6,)"), "structured .npy arrays are not supported",
         ERR_UNSUPPORTED},
        {D("'<f4'", "0", "(2, 3)"), ".npy header: fortran_order is no truth value", ERR_FORMAT},
        {D("'<f4'", "False", "[2, 3]"), ".npy header: shape is no tuple", ERR_FORMAT},
        {D("'<f4'", "False", "(6)"), ".npy header: shape is a number, no tuple", ERR_FORMAT},
        {D("'<f4'", "False", "(2 3)"), ".npy header: shape lacks a comma", ERR_FORMAT},
        {D("'<f4'", "False", "(,)"), ".npy header: a dimension is no number", ERR_FORMAT},
        {D("'<f4'", "False", "(-6,)"), ".npy header: a dimension is no number", ERR_FORMAT},
        {D("'<f4'", "False", "(2, 3"), ".npy header: a dimension is no number", ERR_FORMAT},
        {D("'<f4'", "False", "(99999999999999999999,)"), ".npy header: a dimension is too large",
         ERR_FORMAT},
        {D("'<f4'", "False", "(9223372036854775808,)"), ".npy header: a dimension is too large",
         ERR_FORMAT},
        {D("'<f4'", "False", "(1,1,1,1,1,1,1,1,6)"), ".npy of more than 8 dimensions", ERR_LIMIT},
        {D("'<f4'", "False", "(4294967296, 4294967296)"), ".npy shape has too many elements",
         ERR_LIMIT},
        {D("'<f4'", "False", "(4611686018427387904, 1)"),
         "4611686018427387904 elements of <f4, but 24 bytes of data", ERR_FORMAT},
        {D("'<f4'", "False", "(5,)"), "5 elements of <f4, but 24 bytes of data", ERR_FORMAT},
        {D("'<f4'", "False", "()"), "1 elements of <f4, but 24 bytes of data", ERR_FORMAT},
    };
    char message[200];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf_writer f = file_of(1, bad[i].header, numpy_data, sizeof numpy_data);
        int rc = open_exact(f.data, f.len);
        if (rc != bad[i].code)
            fail_msg("%s gave %d: %s", bad[i].header, rc, err_message());
        snprintf(message, sizeof message, "test: %s", bad[i].message);
        assert_string_equal(err_message(), message);
        buf_release(&f);
    }
}

static void test_bad_prefixes_are_named(void **state)
{
    struct buf_writer f = file_of(4, numpy_header, numpy_data, sizeof numpy_data);

    (void)state;
    assert_int_equal(open_exact(f.data, f.len), ERR_UNSUPPORTED);
    assert_string_equal(err_message(), "test: .npy version 4.0");
    f.data[6] = 1;
    f.data[7] = 1;
    assert_int_equal(open_exact(f.data, f.len), ERR_UNSUPPORTED);
    f.data[6] = 0;
    assert_int_equal(open_exact(f.data, f.len), ERR_UNSUPPORTED);
    f.data[0] = 'P';
    assert_int_equal(open_exact(f.data, f.len), ERR_FORMAT);
    assert_string_equal(err_message(), "test: not a .npy file");
    buf_release(&f);
    f = file_of(2, numpy_header, numpy_data, sizeof numpy_data);
    f.data[10] = 1; /* 65536 and some */
    assert_int_equal(open_exact(f.data, f.len), ERR_LIMIT);
    buf_release(&f);
}

/* One dimension has both orders. */
static void test_fortran_vector_is_read(void **state)
{
    struct buf_writer f = file_of(1, D("'<f4'", "True", "(6,)"), numpy_data, sizeof numpy_data);

    (void)state;
    assert_int_equal(open_exact(f.data, f.len), 0);
    buf_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy_file_and_ours_are_the_same),
        cmocka_unit_test(test_versions_and_spellings),
        cmocka_unit_test(test_types_round_trip),
        cmocka_unit_test(test_shapes_round_trip),
        cmocka_unit_test(test_write_refuses),
        cmocka_unit_test(test_integers_must_be_whole),
        cmocka_unit_test(test_what_python_writes),
        cmocka_unit_test(test_fortran_order),
        cmocka_unit_test(test_other_types_are_refused),
        cmocka_unit_test(test_only_regular_files),
        cmocka_unit_test(test_unaligned_bytes_are_copied),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_every_flip_fails_or_reads),
        cmocka_unit_test(test_bad_headers_are_named),
        cmocka_unit_test(test_bad_prefixes_are_named),
        cmocka_unit_test(test_fortran_vector_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
