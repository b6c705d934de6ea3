/* The restricted pickle reader: files as Python 2 and 3 write them, names and opcodes that are refused,
 * damage of every kind. */
#include "trainer/data/pickle.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ROWS 3
#define COLUMNS 5
#define ROOM 1024

struct text {
    uint8_t data[ROOM];
    size_t len;
};

static void add(struct text *t, const void *data, size_t len)
{
    assert_true(t->len + len <= ROOM);
    memcpy(t->data + t->len, data, len);
    t->len += len;
}
#define ADD(t, literal) add(t, literal, sizeof(literal) - 1)

static void add_dtype(struct text *t, const char *name)
{
    const uint8_t head[] = {'c', 'n', 'u', 'm', 'p', 'y', '\n', 'd', 't', 'y', 'p', 'e', '\n', 'U'};

    add(t, head, sizeof head);
    add(t, (const uint8_t[]){(uint8_t)strlen(name)}, 1);
    add(t, name, strlen(name));
    ADD(t, "K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
}

/* {"data": array, "labels": [3, 7, 300]} as cPickle of Python 2 wrote it. */
static struct text python2(const char *dtype)
{
    struct text t = {.len = 0};
    uint8_t pixels[ROWS * COLUMNS];

    for (int i = 0; i < ROWS * COLUMNS; i++)
        pixels[i] = (uint8_t)(i * 17);
    ADD(&t,
        "\x80\2}q\1(U\4dataq\2cnumpy.core.multiarray\n_reconstruct\nq\3cnumpy\nndarray\nq\4K\0\x85U\1b\x87Rq\5(K\1K\3K\5\x86");
    add_dtype(&t, dtype);
    ADD(&t, "\x89T\17\0\0\0");
    add(&t, pixels, sizeof pixels);
    ADD(&t, "tbU\6labelsq\6]q\7(K\3K\7M\x2c\1eu.");
    return t;
}

static void test_python2_file(void **state)
{
    const struct text t = python2("u1");
    struct pickle *p = NULL;
    const int64_t *label;
    const uint8_t *v;
    int64_t n, dim[2];

    (void)state;
    if (pickle_read(t.data, t.len, "batch", &p) < 0)
        fail_msg("%s", err_message());
    assert_int_equal(pickle_integers(p, "labels", &label, &n), 0);
    assert_true(n == 3 && label[0] == 3 && label[1] == 7 && label[2] == 300);
    assert_int_equal(pickle_bytes(p, "data", &v, dim), 0);
    assert_true(dim[0] == ROWS && dim[1] == COLUMNS);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        assert_int_equal(v[i], (uint8_t)(i * 17));
    assert_int_equal(pickle_integers(p, "fine_labels", &label, &n), ERR_DATA);
    assert_int_equal(pickle_integers(p, "data", &label, &n), ERR_DATA);
    assert_non_null(strstr(err_message(), "an array"));
    assert_int_equal(pickle_bytes(p, "absent", &v, dim), ERR_DATA);
    assert_non_null(strstr(err_message(), "missing"));
    pickle_free(p);
}

/* Python 3 at protocol 2 writes bytes as _codecs.encode(text, "latin1"). */
static void test_encoded_bytes(void **state)
{
    struct text t = {.len = 0};
    struct pickle *p = NULL;
    const uint8_t *v, want[] = {0x00, 0x7f, 0x80, 0xff};
    int64_t dim[2];

    (void)state;
    ADD(&t, "\x80\2}(X\4\0\0\0datacnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
            "K\0\x85"
            "c_codecs\nencode\nX\1\0\0\0bX\6\0\0\0latin1\x86R\x87R(K\1K\2K\2\x86");
    add_dtype(&t, "u1");
    ADD(&t, "\x89"
            "c_codecs\nencode\nX\6\0\0\0\0\x7f\xc2\x80\xc3\xbfX\6\0\0\0latin1\x86Rtbu.");
    if (pickle_read(t.data, t.len, "batch", &p) < 0)
        fail_msg("%s", err_message());
    assert_int_equal(pickle_bytes(p, "data", &v, dim), 0);
    assert_memory_equal(v, want, sizeof want);
    pickle_free(p);
}

static void refused(const char *data, size_t len, const char *word)
{
    struct pickle *p = NULL;

    if (pickle_read((const uint8_t *)data, len, "evil", &p) != ERR_DATA ||
        strstr(err_message(), word) == NULL)
        fail_msg("message '%s' without '%s'", err_message(), word);
    assert_null(p);
}
#define REFUSED(literal, word) refused(literal, sizeof(literal) - 1, word)

static void test_refusals(void **state)
{
    const struct text other = python2("i4");
    struct pickle *p = NULL;

    (void)state;
    REFUSED("cos\nsystem\n(U\4ls -tR.", "'os.system' is not allowed");
    REFUSED("\x80\4\x8c\5posix\x8c\6system\x93.", "'posix.system' is not allowed");
    REFUSED("cnumpy\nload\n.", "'numpy.load' is not allowed");
    REFUSED("}ios\nsystem\n.", "opcode 0x69");
    REFUSED("P1\n.", "opcode 0x50");
    REFUSED("I1\n.", "opcode 0x49");
    REFUSED("", "ends too early");
    REFUSED("}", "ends too early");
    REFUSED("].", "not a dict");
    REFUSED(".", "stack is empty");
    REFUSED("(.", "stack is empty");
    REFUSED("e.", "no mark");
    REFUSED("K\1K\2a.", "cannot hold");
    REFUSED("}K\1(K\2u.", "cannot hold");
    REFUSED("h\1.", "never set");
    REFUSED("}r\xff\xff\xff\x7f.", "too large");
    REFUSED("T\xff\xff\xff\x7fx.", "longer than the file");
    REFUSED("cnumpy\ndtype\n)R.", "without arguments");
    REFUSED("K\1K\2\x85R.", "not allowed");
    REFUSED("}K\1b.", "has none");
    REFUSED("cnumpy", "without end");
    assert_int_equal(pickle_read(other.data, other.len, "batch", &p), ERR_DATA);
    assert_non_null(strstr(err_message(), "u1"));
}

/* A list in itself, a dict as its own key: nothing walks them for ever. */
static void test_cycles(void **state)
{
    static const char self[] = "}q\1(U\6labels]q\2h\2ah\1h\1u.";
    struct pickle *p = NULL;
    const int64_t *v;
    int64_t n;

    (void)state;
    assert_int_equal(pickle_read((const uint8_t *)self, sizeof self - 1, "x", &p), 0);
    assert_int_equal(pickle_integers(p, "labels", &v, &n), ERR_DATA);
    pickle_free(p);
}

static void test_damage(void **state)
{
    const struct text t = python2("u1");

    (void)state;
    for (size_t len = 0; len < t.len; len++) {
        struct pickle *p = NULL;
        uint8_t *copy = mem_array(len + 1, 1); /* exact size: a sanitizer sees every step beyond */
        memcpy(copy, t.data, len);
        assert_int_equal(pickle_read(copy, len, "cut", &p), ERR_DATA);
        mem_free(copy);
    }
    for (uint64_t trial = 0; trial < 30000; trial++) {
        struct rng r = rng_at(9, RNG_TEST, 0, trial);
        struct text bad = t;
        struct pickle *p = NULL;
        for (uint32_t k = 0; k <= rng_below(&r, 3); k++)
            bad.data[rng_below(&r, (uint32_t)t.len)] = (uint8_t)rng_below(&r, 256);
        const int rc = pickle_read(bad.data, bad.len, "bad", &p);
        assert_true(rc == 0 || rc == ERR_DATA);
        if (rc == 0) {
            const int64_t *label;
            const uint8_t *v;
            int64_t n, dim[2];
            if (pickle_bytes(p, "data", &v, dim) == 0)
                assert_int_equal(dim[0] * dim[1], ROWS * COLUMNS);
            (void)!pickle_integers(p, "labels", &label, &n);
        }
        pickle_free(p);
    }
}

static void test_every_failed_allocation_is_reported(void **state)
{
    const struct text t = python2("u1");
    long n = 1;

    (void)state;
    for (;; n++) {
        struct pickle *p = NULL;
        mem_fail_at(n);
        const int rc = pickle_read(t.data, t.len, "batch", &p);
        mem_fail_at(0);
        pickle_free(p);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_NOMEM);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python2_file),
        cmocka_unit_test(test_encoded_bytes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
