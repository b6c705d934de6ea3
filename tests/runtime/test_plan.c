/* runtime/plan: what is written is read, every rule refuses, damaged files fail cleanly. */
#include "runtime/plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/graph/rng.h"
#include "runtime/model.h"
#include "runtime/plan/schedule.h"
#include "tests/plan_sample.h"
#include "tests/scratch.h"

/* ---- round trip --------------------------------------------------------------------------- */

static void assert_same_program(const struct plan *a, const struct plan *b)
{
    assert_int_equal(a->n_tensor, b->n_tensor);
    assert_int_equal(a->n_step, b->n_step);
    assert_memory_equal(a->tensor, b->tensor, (size_t)a->n_tensor * sizeof *a->tensor);
    for (int32_t i = 0; i < a->n_step; i++) {
        const struct plan_step *s = &a->step[i], *t = &b->step[i];
        assert_string_equal(s->name, t->name);
        assert_int_equal(s->kind, t->kind);
        assert_memory_equal(s->in, t->in, sizeof s->in);
        assert_memory_equal(s->input_shift, t->input_shift, sizeof s->input_shift);
        assert_true(s->n_in == t->n_in && s->out == t->out && s->shift == t->shift);
        if (s->kind == PLAN_RELU) {
            assert_true(s->u.relu.kept == t->u.relu.kept && s->u.relu.width == t->u.relu.width);
            assert_true(s->u.relu.cap == t->u.relu.cap);
            assert_memory_equal(s->u.relu.index, t->u.relu.index, (size_t)s->u.relu.kept * 4);
            assert_int_equal(s->u.relu.line_shift, t->u.relu.line_shift);
            assert_int_equal(s->u.relu.n_slope, t->u.relu.n_slope);
            if (s->u.relu.n_slope > 0)
                assert_memory_equal(s->u.relu.slope, t->u.relu.slope,
                                    (size_t)s->u.relu.n_slope * sizeof *s->u.relu.slope);
        } else if (s->kind == PLAN_CONV) {
            assert_memory_equal(&s->u.linear, &t->u.linear, sizeof s->u.linear);
        }
    }
}

static void check_round_trip(int kept, int lines)
{
    static const char *labels[] = {"cat", "dog", "ship"}, *notes[] = {"a note"};
    struct plan_claim claim = {"clean", "cifar10 test", 91.73, 10000};
    struct plan *p = plan_sample(kept), *q = NULL;
    uint8_t *bytes, *again;
    size_t len, len_again;

    if (lines == 3)
        plan_sample_cap(p, 6 << 12);
    else if (lines > 0)
        plan_sample_lines(p, lines == 2);

    p->branch = "clean";
    p->label = labels;
    p->n_label = 3;
    p->note = notes;
    p->n_note = 1;
    p->claim = &claim;
    p->n_claim = 1;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    assert_memory_equal(bytes + 5, "linnet.pi", 9);
    assert_int_equal(plan_read_bytes(bytes, len, "sample", &q), 0);
    assert_same_program(p, q);
    assert_string_equal(q->label[2], "ship");
    assert_string_equal(q->note[0], "a note");
    assert_string_equal(q->claim[0].data, "cifar10 test");
    assert_true(q->claim[0].percent == 91.73 && q->claim[0].images == 10000);
    assert_true(q->input.mean[1] == 0.25 && q->input.std[0] == 0.5);
    assert_string_equal(q->branch, "clean");
    assert_memory_equal(p->identity, q->identity, PLAN_HASH);
    assert_int_equal(plan_bytes(q, &again, &len_again), 0);
    assert_int_equal(len, len_again);
    assert_memory_equal(bytes, again, len);
    mem_free(bytes);
    mem_free(again);
    plan_free(p);
    plan_free(q);
}

static void test_written_bytes_read_back(void **state)
{
    (void)state;
    check_round_trip(64, 0); /* bitmap */
    check_round_trip(32, 0);
    check_round_trip(3, 0); /* list */
    check_round_trip(1, 0);
    check_round_trip(3, 3);
}

struct folder {
    char dir[SCRATCH_TEXT], pi[SCRATCH_TEXT], weights[SCRATCH_TEXT];
};
static void open_folder(struct folder *f)
{
    scratch_open(f->dir);
    scratch_path(f->dir, "model.pi", f->pi);
    scratch_path(f->dir, "model.pi.weights", f->weights);
}

static void check_files_read_back(struct plan *p)
{
    struct folder f;
    struct plan *q = NULL;
    struct plan_weights *w = plan_sample_weights(p, 1), *v = NULL;
    struct stat st;

    open_folder(&f);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    assert_int_equal(stat(f.weights, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(plan_read(f.pi, &q), 0);
    assert_int_equal(plan_weights_read(q, f.weights, &v), 0);
    assert_same_program(p, q);
    assert_memory_equal(v->salt, w->salt, PLAN_SALT);
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_matrix *a = &w->matrix[i], *b = &v->matrix[i];
        assert_int_equal(a->rows * a->columns, b->rows * b->columns);
        if (a->rows > 0) {
            assert_memory_equal(a->weight, b->weight, (size_t)(a->rows * a->columns) * 2);
            assert_memory_equal(a->bias, b->bias, (size_t)a->rows * 8);
        }
    }
    plan_weights_free(w);
    plan_weights_free(v);
    plan_free(p);
    plan_free(q);
    scratch_close(f.dir);
}

static void test_files_read_back(void **state)
{
    struct plan *lined = plan_sample(16);

    (void)state;
    check_files_read_back(plan_sample(16));
    plan_sample_lines(lined, true);
    check_files_read_back(lined);
}

/* Same program, other weights and salt: only the commitment differs (the model id is set by hand). */
static void test_values_show_in_the_commitment_only(void **state)
{
    struct folder f;
    struct plan *p = plan_sample(16);
    struct plan_weights *w[2] = {plan_sample_weights(p, 1), plan_sample_weights(p, 2)};
    uint8_t hash[2][PLAN_HASH], *bytes[2];
    size_t len[2];

    (void)state;
    open_folder(&f);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(plan_write(p, w[i], f.pi, f.weights), 0);
        memcpy(hash[i], p->commitment, PLAN_HASH);
        memset(p->commitment, 0, PLAN_HASH);
        assert_int_equal(plan_bytes(p, &bytes[i], &len[i]), 0);
    }
    assert_memory_not_equal(hash[0], hash[1], PLAN_HASH);
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(bytes[0], bytes[1], len[0]);
    for (int i = 0; i < 2; i++) {
        mem_free(bytes[i]);
        plan_weights_free(w[i]);
    }
    plan_free(p);
    scratch_close(f.dir);
}

static void test_salt_changes_the_commitment(void **state)
{
    struct folder f;
    struct plan *p = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 1);
    uint8_t hash[PLAN_HASH];

    (void)state;
    open_folder(&f);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    memcpy(hash, p->commitment, PLAN_HASH);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    assert_memory_equal(hash, p->commitment, PLAN_HASH);
    w->salt[31] ^= 1;
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    assert_memory_not_equal(hash, p->commitment, PLAN_HASH);
    plan_weights_free(w);
    plan_free(p);
    scratch_close(f.dir);
}

static void test_model_id_follows_the_salt(void **state)
{
    struct plan *p = plan_sample(1);
    uint8_t salt[PLAN_SALT] = {0};
    char first[17];

    (void)state;
    assert_int_equal(plan_name_model(p, salt), 0);
    assert_int_equal(strlen(p->model_id), 16);
    memcpy(first, p->model_id, sizeof first);
    salt[0] = 1;
    assert_int_equal(plan_name_model(p, salt), 0);
    assert_string_not_equal(first, p->model_id);
    plan_free(p);
}

/* ---- rules -------------------------------------------------------------------------------- */

static int32_t steep[4] = {1, 1, 1, PLAN_MAX_SLOPE + 1};

#define RULES(X)                                                                                   \
    X("neither 1 nor 3", p->tensor[1].rank = 2)                                                    \
    X("bad size", p->tensor[1].dim[0] = 0)                                                         \
    X("bad size", p->tensor[1].dim[1] = PLAN_MAX_ELEMENTS)                                         \
    X("not the product", p->tensor[1].count = 63)                                                  \
    X("does not fit", p->tensor[1].max_log2 = 60)                                                  \
    X("cannot make", p->n_tensor = STEPS)                                                          \
    X("earlier step", p->step[0].in[0] = 1)                                                        \
    X("earlier step", p->step[RELU].in[0] = -1)                                                    \
    X("made before", p->step[RELU].out = 1)                                                        \
    X("nobody reads", p->step[SLICE].in[0] = 1; p->step[CONV2].in[0] = 1)                          \
    X("number of operands", p->step[RELU].n_in = 2)                                                \
    X("not known", p->step[RELU].kind = 10)                                                        \
    X("has no name", p->step[RELU].name = "")                                                      \
    X("does not follow from its attributes", p->step[CONV].u.linear.stride[1] = 2)                 \
    X("out of range", p->step[CONV].u.linear.stride[0] = 0)                                        \
    X("out of range", p->step[CONV].u.linear.dilation[0] = 1 << 21)                                \
    X("larger than the window", p->step[CONV].u.linear.pad[0] = 3)                                 \
    X("groups", p->step[CONV].u.linear.group = 3)                                                  \
    X("groups", p->step[CONV].u.linear.group = 0)                                                  \
    X("weight scale", p->step[CONV].u.linear.weight_scale = 31)                                    \
    X("needs [K]", p->step[GEMM].u.linear.group = 2)                                               \
    X("scale of its result", p->step[CONV].u.linear.weight_scale = 11)                             \
    X("scale of its result", p->step[CONV].shift = 13)                                             \
    X("different scales", p->step[ADD].input_shift[1] = 11)                                        \
    X("must not shift", p->step[RELU].shift = 1)                                                   \
    X("must not shift", p->step[CONV].input_shift[0] = 1)                                          \
    X("scale of activations", p->tensor[1].scale = 13; p->step[CONV].shift = 11)                   \
    X("before truncation", p->tensor[6].max_log2 = 45)                                             \
    X("outside its operand", p->step[SLICE].u.slice.step[1] = 4)                                   \
    X("outside its operand", p->step[SLICE].u.slice.start[0] = 1)                                  \
    X("does not follow", p->step[PAD].u.pad.end[0] = 1)                                            \
    X("differ in shape", memset(&p->step[PAD].u, 0, sizeof p->step[PAD].u);                        \
      plan_sample_tensor(p, 5, 3, 4, 2, 2, 12, 4))                                                 \
    X("as one row", plan_sample_tensor(p, 9, 3, 4, 1, 1, 12, 6))                                   \
    X("out of order", p->step[RELU].u.relu.index[1] = 0)                                           \
    X("out of order", p->step[RELU].u.relu.index[15] = 64)                                         \
    X("counts do not fit", p->step[RELU].u.relu.total = 65)                                        \
    X("counts do not fit", p->step[RELU].u.relu.kept = 65)                                         \
    X("comparison width", p->step[RELU].u.relu.width = 17)                                         \
    X("comparison width", p->step[RELU].u.relu.width = 22)                                         \
    X("upper bound is out", p->step[RELU].u.relu.cap = -1)                                         \
    X("upper bound is out", p->step[RELU].u.relu.cap = (int64_t)1 << 62)                           \
    X("21 bits do not cover", p->step[RELU].u.relu.cap = (1 << 18) - (1 << 16) + 1)                \
    X("no shift", p->step[RELU].u.relu.line_shift = -1)                                            \
    X("no shift", plan_sample_lines(p, true); p->step[RELU].u.relu.line_shift = 0)                 \
    X("too large a one", p->step[RELU].u.relu.line_shift = 17)                                     \
    X("3 slopes for 4", plan_sample_lines(p, true); p->step[RELU].u.relu.n_slope = 3)              \
    X("slope 1048577 of channel 3", plan_sample_lines(p, true);                                    \
      p->step[RELU].u.relu.slope = steep)                                                          \
    X("lines do not fit", plan_sample_lines(p, true); p->tensor[1].max_log2 = 38)                  \
    X("do not cover", p->tensor[1].max_log2 = 7)                                                   \
    X("do not cover", p->tensor[6].max_log2 = 6)                                                   \
    X("compares nothing", p->step[SUMPOOL].u.pool.width = 21)                                      \
    X("number of channels", plan_sample_tensor(p, 7, 3, 2, 2, 2, 12, 4))                           \
    X("totals", p->relus_kept = 15)                                                                \
    X("totals", p->macs++)                                                                         \
    X("failure bound", p->failure_log2--)                                                          \
    X("scale 7", p->scale = 7)                                                                     \
    X("range of uint8", p->input.high = 0)                                                         \
    X("no usable number", p->input.std[1] = 0)                                                     \
    X("no usable number", p->input.mean[0] = (double)NAN)                                          \
    X("stated range", p->input.mean[0] = -10)                                                      \
    X("labels", p->n_label = 2)

static void assert_refused(struct plan *p, const char *part)
{
    int rc = plan_check(p);

    if (rc >= 0)
        fail_msg("accepted, but should say '%s'", part);
    if (strstr(err_message(), part) == NULL)
        fail_msg("'%s' does not hold '%s'", err_message(), part);
    plan_free(p);
}

static void test_every_rule_refuses(void **state)
{
    (void)state;
#define X(part, change)                                                                            \
    {                                                                                              \
        struct plan *p = plan_sample(16);                                                          \
        change;                                                                                    \
        assert_refused(p, part);                                                                   \
    }
    RULES(X)
#undef X
}

static void test_sums_that_may_leave_the_ring_are_refused(void **state)
{
    struct plan *p = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 1);

    (void)state;
    assert_int_equal(plan_weights_check(p, w), 0);
    w->matrix[CONV].bias[0] = INT64_MAX;
    assert_int_equal(plan_weights_check(p, w), ERR_LIMIT);
    w->matrix[CONV].bias[0] = 0;
    p->tensor[0].max_log2 = 40;
    assert_int_equal(plan_weights_check(p, w), ERR_LIMIT);
    plan_weights_free(w);
    plan_free(p);
}

static void test_other_weights_are_refused(void **state)
{
    struct folder f;
    char other[SCRATCH_TEXT];
    struct plan *p = plan_sample(16), *q = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 1), *v = plan_sample_weights(q, 2), *got = NULL;

    (void)state;
    open_folder(&f);
    scratch_path(f.dir, "other.weights", other);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    assert_int_equal(plan_write(q, v, f.pi, other), 0);
    assert_int_equal(plan_weights_read(p, other, &got), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "commits"));
    q->model_id = "fedcba9876543210"; /* the hash fits, the model does not */
    assert_int_equal(plan_weights_read(q, other, &got), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "weights of model"));
    plan_weights_free(w);
    plan_weights_free(v);
    plan_free(p);
    plan_free(q);
    scratch_close(f.dir);
}

/* ---- damage ------------------------------------------------------------------------------- */

/* Runs an accepted description with zero weights: what passed the rules must be safe to run. */
static void run_zeros(const struct plan *p)
{
    struct plan_weights *w = NULL;
    struct pi_model *m = NULL;
    uint8_t *image = mem_array((size_t)p->tensor[0].count, 1);
    float logits[64];

    assert_non_null(image);
    assert_int_equal(plan_weights_new(p, &w), 0);
    assert_int_equal(pi_prepare(p, w, PI_FIXED, &m), 0);
    assert_true(pi_classes(m) <= 64);
    assert_int_equal(pi_run(m, PI_U8_NCHW, image, 1, logits), 0);
    pi_close(m);
    plan_weights_free(w);
    mem_free(image);
}

/* Reads `len` bytes from a copy of exactly that size, so that ASan sees one byte too far. */
static int read_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = mem_array(len, 1);
    struct plan *p = NULL;
    int rc;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    rc = plan_read_bytes(copy, len, "damaged", &p);
    if (rc == 0) {
        run_zeros(p);
        plan_free(p);
    }
    mem_free(copy);
    return rc;
}

static void test_cut_files_are_refused(void **state)
{
    struct plan *p = plan_sample(16);
    uint8_t *bytes;
    size_t len;

    (void)state;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    p->label = NULL;
    for (size_t n = 0; n < len; n++) {
        assert_true(read_copy(bytes, n) < 0);
        assert_true(*err_message() != '\0');
    }
    mem_free(bytes);
    plan_free(p);
}

static void test_flipped_bits_never_crash(void **state)
{
    struct plan *p = plan_sample(16);
    uint8_t *bytes;
    size_t len, accepted = 0;

    (void)state;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    for (size_t i = 0; i < 8 * len; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        accepted += read_copy(bytes, len) == 0;
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(accepted < 8 * len);
    mem_free(bytes);
    plan_free(p);
}

static void test_damaged_weights_are_refused(void **state)
{
    struct folder f;
    struct plan *p = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 1), *got = NULL;
    uint8_t *bytes;
    size_t len;

    (void)state;
    open_folder(&f);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    assert_int_equal(file_read(f.weights, 1 << 20, &bytes, &len), 0);
    for (size_t i = 0; i < len; i += 97) {
        bytes[i] ^= 0x10;
        scratch_write(f.weights, bytes, len);
        assert_int_equal(plan_weights_read(p, f.weights, &got), ERR_FORMAT);
        bytes[i] ^= 0x10;
    }
    scratch_write(f.weights, bytes, len / 2);
    assert_int_equal(plan_weights_read(p, f.weights, &got), ERR_FORMAT);
    mem_free(bytes);
    plan_weights_free(w);
    plan_free(p);
    scratch_close(f.dir);
}

static void test_reading_survives_every_failed_allocation(void **state)
{
    struct plan *p = plan_sample(16), *q = NULL;
    uint8_t *bytes;
    size_t len;
    int rc = ERR_NOMEM;

    (void)state;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    for (long n = 1; rc != 0 && n < 10000; n++) {
        mem_fail_at(n);
        rc = plan_read_bytes(bytes, len, "sample", &q);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
    }
    assert_int_equal(rc, 0);
    plan_free(q);
    plan_free(p);
    mem_free(bytes);
}

static void test_reading_weights_survives_every_failed_allocation(void **state)
{
    struct folder f;
    struct plan *p = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 1), *got = NULL;
    int rc = ERR_NOMEM;

    (void)state;
    open_folder(&f);
    assert_int_equal(plan_write(p, w, f.pi, f.weights), 0);
    for (long n = 1; rc != 0 && n < 10000; n++) {
        mem_fail_at(n);
        rc = plan_weights_read(p, f.weights, &got);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
    }
    assert_int_equal(rc, 0);
    plan_weights_free(got);
    plan_weights_free(w);
    plan_free(p);
    scratch_close(f.dir);
}

/* ---- file versions, core and card ----------------------------------------------------------- */

/* A length-delimited field. */
static size_t put_field(uint8_t *to, int number, const uint8_t *bytes, size_t len)
{
    size_t n = 0, left = len;

    to[n++] = (uint8_t)(number << 3 | 2);
    for (; left > 127; left >>= 7)
        to[n++] = (uint8_t)(left | 128);
    to[n++] = (uint8_t)left;
    memcpy(to + n, bytes, len);
    return n + len;
}

/* Where the bytes of field 1 or 2 of the file begin, and how many they are. */
static const uint8_t *part_of(const uint8_t *file, int number, size_t *len)
{
    const uint8_t *at = file;

    for (int i = 1;; i++) {
        size_t n = 0;
        assert_int_equal(*at++, i << 3 | 2);
        for (int shift = 0;; shift += 7) {
            n |= (size_t)(*at & 127) << shift;
            if (*at++ < 128)
                break;
        }
        if (i == number) {
            *len = n;
            return at;
        }
        at += n;
    }
}

/* The sample's file with more bytes at the end of its core or its card. */
static size_t extended(const uint8_t *file, const uint8_t *more, size_t n_more, int number,
                       uint8_t *out)
{
    uint8_t part[4096];
    size_t len, at = 0;

    for (int i = 1; i <= 2; i++) {
        const uint8_t *from = part_of(file, i, &len);
        assert_true(len + n_more <= sizeof part);
        memcpy(part, from, len);
        memcpy(part + len, more, i == number ? n_more : 0);
        at += put_field(out + at, i, part, len + (i == number ? n_more : 0));
    }
    return at;
}

static void test_version_1_is_refused_with_the_command(void **state)
{
    static const uint8_t old[] = "\x0a\x09linnet.pi\x10\x01\x18\x01";
    struct plan *p = NULL;

    (void)state;
    assert_int_equal(plan_read_bytes(old, sizeof old - 1, "old.pi", &p), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "old.pi: file version 1"));
    assert_non_null(strstr(err_message(), "linnet export MODEL --pi DIR"));
}

static void test_unknown_fields(void **state)
{
    static const uint8_t field_77[] = {0xe8, 0x04, 1};          /* a varint */
    static const uint8_t in_input[] = {0x32, 3, 0xe8, 0x04, 1}; /* the same inside a second input */
    struct plan *p = plan_sample(16), *q = NULL;
    uint8_t *bytes, more[8192];
    size_t len;

    (void)state;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    len = extended(bytes, field_77, sizeof field_77, 1, more);
    assert_int_equal(plan_read_bytes(more, len, "core", &q), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "does not know"));
    assert_non_null(strstr(err_message(), "Core"));
    len = extended(bytes, in_input, sizeof in_input, 1, more);
    assert_true(plan_read_bytes(more, len, "core", &q) < 0);
    len = extended(bytes, field_77, sizeof field_77, 2, more);
    assert_int_equal(plan_read_bytes(more, len, "card", &q), 0);
    assert_memory_equal(q->identity, p->identity, PLAN_HASH);
    plan_free(q);
    mem_free(bytes);
    plan_free(p);
}

static void test_the_identity_is_that_of_the_core(void **state)
{
    static const char *notes[] = {"a note"};
    static const uint8_t tag[] = "linnet model 2";
    struct plan_claim claim = {"clean", "cifar10 test", 91.73, 10000};
    struct plan *p = plan_sample(16), *q = NULL;
    uint8_t *bytes, first[PLAN_HASH], text[8192];
    const uint8_t *core;
    size_t len, n;

    (void)state;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    memcpy(first, p->identity, PLAN_HASH);
    core = part_of(bytes, 1, &n);
    memcpy(text, tag, sizeof tag - 1);
    memcpy(text + sizeof tag - 1, core, n);
    assert_int_equal(sha256_bytes(text, sizeof tag - 1 + n, text), 0);
    assert_memory_equal(text, first, PLAN_HASH);
    mem_free(bytes);
    p->producer = "somebody else";
    p->note = notes;
    p->claim = &claim;
    p->n_note = p->n_claim = 1;
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    assert_memory_equal(p->identity, first, PLAN_HASH);
    assert_int_equal(plan_read_bytes(bytes, len, "sample", &q), 0);
    assert_memory_equal(q->identity, first, PLAN_HASH);
    mem_free(bytes);
    p->branch = "adv";
    assert_int_equal(plan_bytes(p, &bytes, &len), 0);
    assert_memory_not_equal(p->identity, first, PLAN_HASH);
    mem_free(bytes);
    plan_free(q);
    plan_free(p);
}

/* The secure argmax compares differences of outputs: sign, a bit for the difference, integer bits, f = 12 and
 * a margin of 2, rounded up to 4q + 1. */
static void test_argmax_compares_differences(void **state)
{
    struct plan *p = plan_sample(40);

    (void)state;
    for (int32_t e = 3; e <= 14; e++) {
        const int32_t bits = 1 + 1 + e + 12 + 2;
        struct schedule *s = NULL;
        int32_t width = 0;

        p->tensor[p->step[p->n_step - 1].out].max_log2 = e;
        assert_int_equal(schedule_new(p, true, &s), 0);
        for (int32_t i = 0; i < s->n; i++)
            if (s->event[i].step == p->n_step)
                width = s->event[i].batch.width;
        assert_int_equal(width, bits < 21 ? 21 : (bits + 2) / 4 * 4 + 1);
        schedule_free(s);
    }
    plan_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_bytes_read_back),
        cmocka_unit_test(test_files_read_back),
        cmocka_unit_test(test_values_show_in_the_commitment_only),
        cmocka_unit_test(test_salt_changes_the_commitment),
        cmocka_unit_test(test_model_id_follows_the_salt),
        cmocka_unit_test(test_every_rule_refuses),
        cmocka_unit_test(test_sums_that_may_leave_the_ring_are_refused),
        cmocka_unit_test(test_other_weights_are_refused),
        cmocka_unit_test(test_cut_files_are_refused),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_damaged_weights_are_refused),
        cmocka_unit_test(test_reading_survives_every_failed_allocation),
        cmocka_unit_test(test_reading_weights_survives_every_failed_allocation),
        cmocka_unit_test(test_version_1_is_refused_with_the_command),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_the_identity_is_that_of_the_core),
        cmocka_unit_test(test_argmax_compares_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
