/* core/wire: ordinary messages pass, bombs and cut or flipped bytes fail cleanly. */
#include "core/base/wire.h"
#include "core/base/buf.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "onnx.pb-c.h"

#define MODEL (&onnx__model_proto__descriptor)
#define LIMIT ((size_t)64 << 20)

/* The protobuf encoding, written by hand so that it can be wrong where a test wants it. */
static void put_varint(struct buf_writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_put_u8(w, (uint8_t)(v | 0x80));
    buf_put_u8(w, (uint8_t)v);
}

static void put_tag(struct buf_writer *w, uint32_t field, uint32_t type)
{
    put_varint(w, (uint64_t)field << 3 | type);
}

static void put_bytes(struct buf_writer *w, uint32_t field, const void *data, size_t n)
{
    put_tag(w, field, 2);
    put_varint(w, n);
    buf_put_bytes(w, data, n);
}

/* Appends `inner` as a sub-message and empties it. */
static void put_message(struct buf_writer *w, uint32_t field, struct buf_writer *inner)
{
    put_bytes(w, field, inner->data, inner->len);
    inner->len = 0;
}

/* Numbers of the fields used, from the ONNX schema. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INIT = 5,
    NODE_INPUT = 1,
    NODE_ATTRIBUTE = 5,
    ATTR_NAME = 1,
    ATTR_F = 2,
    ATTR_G = 6,
    ATTR_INTS = 8,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT64S = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_DOUBLES = 10,
    UNKNOWN = 777
};

/* A little of everything: strings, numbers, packed and unpacked, bytes, nesting, unknown fields. */
static struct buf_writer sample(void)
{
    struct buf_writer m = buf_writer_to(LIMIT), g = m, t = m, a = m, n = m;
    static const float ones[3] = {1, 1, 1};
    static const double halves[2] = {0.5, 0.5};

    put_tag(&t, TENSOR_DIMS, 0); /* not packed */
    put_varint(&t, 1);
    put_bytes(&t, TENSOR_DIMS, "\x03\x80\x01", 3); /* packed: 3, 128 */
    put_tag(&t, TENSOR_TYPE, 0);
    put_varint(&t, 1);
    put_bytes(&t, TENSOR_FLOATS, ones, sizeof ones);
    put_tag(&t, TENSOR_FLOATS, 5); /* one more, not packed */
    buf_put_u32(&t, 0x40000000);   /* 2.0 */
    put_bytes(&t, TENSOR_DOUBLES, halves, sizeof halves);
    put_bytes(&t, TENSOR_NAME, "w", 1);
    put_bytes(&t, TENSOR_RAW, "\x00\xff\x00", 3);
    put_message(&g, GRAPH_INIT, &t);
    put_bytes(&a, ATTR_NAME, "alpha", 5);
    put_tag(&a, ATTR_F, 5);
    buf_put_u32(&a, 0x3e800000);                                              /* 0.25 */
    put_bytes(&a, ATTR_INTS, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10); /* -1 */
    put_bytes(&n, NODE_INPUT, "x", 1);
    put_bytes(&n, NODE_INPUT, "w", 1);
    put_message(&n, NODE_ATTRIBUTE, &a);
    put_message(&g, GRAPH_NODE, &n);
    put_bytes(&g, GRAPH_NAME, "net", 3);
    put_tag(&m, MODEL_IR, 0);
    put_varint(&m, 8);
    put_bytes(&m, UNKNOWN, "???", 3);
    put_tag(&m, UNKNOWN, 1);
    buf_put_u64(&m, 1);
    put_message(&m, MODEL_GRAPH, &g);
    assert_int_equal(buf_status(&m), 0);
    buf_release(&g);
    buf_release(&t);
    buf_release(&a);
    buf_release(&n);
    return m;
}

static void test_sample_unpacks(void **state)
{
    struct buf_writer b = sample();
    struct wire_message *m = NULL;

    (void)state;
    assert_int_equal(wire_unpack(MODEL, b.data, b.len, "sample", &m), 0);
    buf_release(&b); /* the message stands alone */
    const Onnx__ModelProto *model = wire_root(m);
    assert_int_equal(model->ir_version, 8);
    assert_string_equal(model->producer_name, "");
    assert_string_equal(model->graph->name, "net");
    const Onnx__TensorProto *t = model->graph->initializer[0];
    assert_int_equal(t->n_dims, 3);
    assert_true(t->dims[0] == 1 && t->dims[1] == 3 && t->dims[2] == 128);
    assert_int_equal(t->n_float_data, 4);
    assert_true(t->float_data[2] == 1 && t->float_data[3] == 2);
    assert_true(t->n_double_data == 2 && t->double_data[1] == 0.5);
    assert_memory_equal(t->raw_data.data, "\x00\xff\x00", 3);
    const Onnx__NodeProto *n = model->graph->node[0];
    assert_int_equal(n->n_input, 2);
    assert_string_equal(n->input[1], "w");
    assert_true(n->attribute[0]->f == 0.25f && n->attribute[0]->ints[0] == -1);
    wire_free(m);
    wire_free(NULL);
}

static void test_empty_is_an_empty_message(void **state)
{
    struct wire_message *m = NULL;

    (void)state;
    assert_int_equal(wire_unpack(MODEL, (const uint8_t *)"", 0, "empty", &m), 0);
    assert_null(((const Onnx__ModelProto *)wire_root(m))->graph);
    wire_free(m);
}

/* What the walk accepts, protobuf-c must accept; the message is released again. */
static int unpack(const uint8_t *data, size_t len)
{
    struct wire_message *m = NULL;
    uint8_t *exact = mem_array(len, 1); /* the sanitizer sees a read behind it */

    memcpy(exact, data, len);
    int check = wire_check(MODEL, exact, len, "test");
    int rc = wire_unpack(MODEL, exact, len, "test", &m);
    if (check != rc)
        fail_msg("the walk says %d, unpacking %d: %s", check, rc, err_message());
    wire_free(m);
    mem_free(exact);
    return rc;
}

static void test_every_cut_fails_or_unpacks(void **state)
{
    struct buf_writer b = sample();
    int accepted = 0;

    (void)state;
    for (size_t n = 0; n < b.len; n++)
        accepted += unpack(b.data, n) == 0;
    assert_in_range(accepted, 1, 6); /* between two fields of the outermost message only */
    buf_release(&b);
}

static void test_every_flip_fails_or_unpacks(void **state)
{
    struct buf_writer b = sample();
    int accepted = 0;

    (void)state;
    for (size_t i = 0; i < 8 * b.len; i++) {
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        accepted += unpack(b.data, b.len) == 0;
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(accepted > 0 && accepted < (int)(8 * b.len));
    for (size_t i = 0; i < b.len; i++)
        for (int v = 0; v < 256; v += 5) {
            uint8_t old = b.data[i];
            b.data[i] = (uint8_t)v;
            unpack(b.data, b.len);
            b.data[i] = old;
        }
    buf_release(&b);
}

/* ModelProto.graph with `depth` levels of node.attribute.g below it: 3 messages a level. */
static struct buf_writer nested(int depth)
{
    struct buf_writer in = buf_writer_to(LIMIT), out = in, t;

    for (int i = 0; i < depth; i++) {
        static const uint32_t path[] = {ATTR_G, NODE_ATTRIBUTE, GRAPH_NODE};
        put_message(&out, path[i % 3], &in);
        t = in;
        in = out;
        out = t;
    }
    buf_release(&out);
    return in;
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    /* 30 levels below the root end with a GraphProto; its own root is a frame too */
    for (int depth = 3; depth <= 60; depth += 3) {
        struct buf_writer b = nested(depth);
        int rc = wire_check(&onnx__graph_proto__descriptor, b.data, b.len, "bomb");
        assert_int_equal(rc, depth + 1 <= WIRE_MAX_DEPTH ? 0 : ERR_LIMIT);
        buf_release(&b);
    }
    struct buf_writer bomb = nested(9003); /* overflows protobuf-c's stack */
    assert_int_equal(wire_check(&onnx__graph_proto__descriptor, bomb.data, bomb.len, "bomb"),
                     ERR_LIMIT);
    assert_non_null(strstr(err_message(), "bomb: too many nested messages at offset "));
    buf_release(&bomb);
}

/* 2-byte sub-messages, each up to 300 bytes when unpacked. */
static void test_memory_is_limited(void **state)
{
    const size_t n = 1000000;
    struct buf_writer b = buf_writer_to(LIMIT), g = b;
    struct wire_message *m = NULL;

    (void)state;
    for (size_t i = 0; i < n; i++) {
        buf_put_u8(&g, GRAPH_NODE << 3 | 2);
        buf_put_u8(&g, 0);
    }
    put_message(&b, MODEL_GRAPH, &g);
    assert_int_equal(wire_check(MODEL, b.data, b.len, "bomb"), 0);
    assert_int_equal(wire_unpack(MODEL, b.data, b.len, "bomb", &m), ERR_LIMIT);
    assert_string_equal(err_message(), "bomb: unpacking needs more than 73108876 bytes of memory");
    assert_null(m);
    buf_release(&b);
    buf_release(&g);
}

static void test_field_count_is_limited(void **state)
{
    struct buf_writer b = buf_writer_to(LIMIT);

    (void)state;
    for (size_t i = 0; i < WIRE_MAX_FIELDS; i++) {
        buf_put_u8(&b, MODEL_IR << 3);
        buf_put_u8(&b, 1);
    }
    assert_int_equal(wire_check(MODEL, b.data, b.len, "many"), 0);
    buf_put_u8(&b, MODEL_IR << 3);
    buf_put_u8(&b, 1);
    assert_int_equal(wire_check(MODEL, b.data, b.len, "many"), ERR_LIMIT);
    assert_string_equal(err_message(), "many: too many fields at offset 8388608 (in ModelProto)");
    buf_release(&b);
}

static void test_size_is_limited(void **state)
{
    (void)state;
    assert_int_equal(wire_check(MODEL, NULL, (size_t)1 << 31, "huge"), ERR_LIMIT);
    assert_string_equal(err_message(), "huge: 2147483648 bytes, at most 2147483647");
}

struct bad {
    const char *bytes;
    size_t len;
    const char *message;
};
#define BAD(bytes, message)                                                                        \
    {                                                                                              \
        bytes, sizeof bytes - 1, message                                                           \
    }

static void test_bad_bytes_are_named(void **state)
{
    static const struct bad bad[] = {
        BAD("\x3a\x05\x0a", "test: bad length at offset 0 (field 'graph' of ModelProto)"),
        BAD("\x08\x08\x3a\x03\x12\x05x",
            "test: bad length at offset 4 (field 'name' of GraphProto)"),
        BAD("\x12\xff\xff\xff\xff\x0f",
            "test: bad length at offset 0 (field 'producer_name' of ModelProto)"),
        BAD("\x12\x80\x80\x80\x80\x80\x01",
            "test: bad length at offset 0 (field 'producer_name' of ModelProto)"),
        BAD("\x08\x80", "test: bad varint at offset 0 (field 'ir_version' of ModelProto)"),
        BAD("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "test: bad varint at offset 0 (field 'ir_version' of ModelProto)"),
        BAD("\x0a\x01x", "test: wrong wire type at offset 0 (field 'ir_version' of ModelProto)"),
        BAD("\x38\x01", "test: wrong wire type at offset 0 (field 'graph' of ModelProto)"),
        BAD("\x10\x01", "test: wrong wire type at offset 0 (field 'producer_name' of ModelProto)"),
        BAD("\x00\x01", "test: bad field number at offset 0 (in ModelProto)"),
        BAD("\x80\x80\x80\x80\x80\x01", "test: bad field number at offset 0 (in ModelProto)"),
        BAD("\xf8\xff\xff\xff\x1f\x01", "test: bad field number at offset 0 (in ModelProto)"),
        BAD("\x88", "test: bad field number at offset 0 (in ModelProto)"),
        BAD("\xcb\x30", "test: unsupported wire type at offset 0 (in ModelProto)"), /* group */
        BAD("\xce\x30", "test: unsupported wire type at offset 0 (in ModelProto)"),
        BAD("\xc9\x30\x01\x02", "test: cut number at offset 0 (in ModelProto)"),
        BAD("\x3a\x00\x3a\x00", "test: a second value at offset 2 (field 'graph' of ModelProto)"),
        BAD("\x3a\x07\x2a\x05\x22\x03\x01\x02\x03",
            "test: bad packed values at offset 4 (field 'float_data' of TensorProto)"),
        BAD("\x3a\x08\x2a\x06\x52\x04\x01\x02\x03\x04",
            "test: bad packed values at offset 4 (field 'double_data' of TensorProto)"),
        BAD("\x3a\x06\x2a\x04\x3a\x02\x01\x80",
            "test: bad packed values at offset 4 (field 'int64_data' of TensorProto)"),
        BAD("\x3a\x0f\x2a\x0d\x3a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "test: bad packed values at offset 4 (field 'int64_data' of TensorProto)"),
        BAD("\x3a\x05\x2a\x03\x25\x01\x02",
            "test: cut number at offset 4 (field 'float_data' of TensorProto)"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(wire_check(MODEL, (const uint8_t *)bad[i].bytes, bad[i].len, "test"),
                         ERR_FORMAT);
        assert_string_equal(err_message(), bad[i].message);
        assert_int_equal(unpack((const uint8_t *)bad[i].bytes, bad[i].len), ERR_FORMAT);
    }
}

static void test_failed_allocations(void **state)
{
    struct buf_writer b = sample();
    struct wire_message *m = NULL;
    int rc = ERR_NOMEM;
    long n = 0;

    (void)state;
    while (rc == ERR_NOMEM) {
        mem_fail_at(++n);
        rc = wire_unpack(MODEL, b.data, b.len, "sample", &m);
        mem_fail_at(0);
        if (rc < 0)
            assert_null(m);
    }
    assert_int_equal(rc, 0);
    assert_in_range(n, 10, 200);
    wire_free(m);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_unpacks),
        cmocka_unit_test(test_empty_is_an_empty_message),
        cmocka_unit_test(test_every_cut_fails_or_unpacks),
        cmocka_unit_test(test_every_flip_fails_or_unpacks),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_memory_is_limited),
        cmocka_unit_test(test_field_count_is_limited),
        cmocka_unit_test(test_size_is_limited),
        cmocka_unit_test(test_bad_bytes_are_named),
        cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
