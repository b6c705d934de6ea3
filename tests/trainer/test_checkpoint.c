/*
 * Checkpoints: what was written comes back; damaged files, other networks and missing memory end in
 * a clean error and change nothing.
 */
#include "trainer/train/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { PATH_BYTES = 256, FLIPS = 1000 };

static const char config[] = "{\"note\":\"\\u00e4\"}";
static const uint8_t structure[] = {8, 7, 18, 0, 255};
static const double score[3] = {1, -2.5, 1e300};

static void temp_path(char path[PATH_BYTES], const char *name)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, PATH_BYTES, "%s/linnet-%ld-%s", tmp != NULL ? tmp : "/tmp", (long)getpid(),
             name);
}

static struct graph *network(uint64_t seed)
{
    struct graph *g = tiny_net(TINY_BN | TINY_DUAL | TINY_MASKED, seed);

    g->norm = (struct input_norm){
        .channels = 3, .mean = {0.1f, 0.2f, 0.3f}, .std = {0.25f, 1.0f / 3, 0.5f}};
    return g;
}

static int save(const char *path, const struct graph *g)
{
    const struct checkpoint_blob blob[] = {{"score", score, sizeof score}, {"empty", NULL, 0}};
    const struct checkpoint c = {.stage = "mask",
                                 .epoch = 3,
                                 .step = 1234567890123,
                                 .config = config,
                                 .graph = g,
                                 .structure = structure,
                                 .structure_len = sizeof structure,
                                 .blob = blob,
                                 .n_blob = 2};

    return checkpoint_save(path, &c);
}

static void assert_equal_numbers(const struct graph *a, const struct graph *b)
{
    assert_memory_equal(a->params, b->params, (size_t)a->n_params * sizeof(float));
    assert_memory_equal(a->buffers, b->buffers, (size_t)a->n_buffers * sizeof(float));
    assert_memory_equal(a->masks, b->masks, (size_t)a->n_masks * sizeof(float));
}

static void test_round_trip(void **state)
{
    struct graph *g = network(1), *h = tiny_net(TINY_BN | TINY_DUAL | TINY_MASKED, 2);
    struct checkpoint_file *f;
    char path[PATH_BYTES];
    double back[3];
    size_t len;

    (void)state;
    temp_path(path, "round");
    assert_int_equal(save(path, g), 0);
    assert_int_equal(checkpoint_open(path, &f), 0);
    assert_string_equal(checkpoint_info(f)->stage, "mask");
    assert_string_equal(checkpoint_info(f)->config, config);
    assert_int_equal(checkpoint_info(f)->epoch, 3);
    assert_true(checkpoint_info(f)->step == 1234567890123);
    assert_false(checkpoint_info(f)->done);
    const uint8_t *s = checkpoint_structure(f, &len);
    assert_int_equal(len, sizeof structure);
    assert_memory_equal(s, structure, len);
    assert_int_equal(checkpoint_read_blob(f, "score", back, sizeof back), 0);
    assert_memory_equal(back, score, sizeof score);
    assert_int_equal(checkpoint_read_blob(f, "score", back, 8), ERR_FORMAT);
    assert_int_equal(checkpoint_read_blob(f, "other", back, 8), ERR_FORMAT);
    const uint64_t version = h->version;
    assert_int_equal(checkpoint_read_graph(f, h), 0);
    assert_true(h->version > version);
    assert_equal_numbers(g, h);
    assert_memory_equal(&g->norm, &h->norm, sizeof g->norm);
    checkpoint_close(f);
    unlink(path);
    graph_free(g);
    graph_free(h);
}

static void test_same_state_same_bytes(void **state)
{
    struct graph *g = network(1);
    char path[PATH_BYTES];
    uint8_t *bytes[2];
    size_t len[2];

    (void)state;
    temp_path(path, "bytes");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(save(path, g), 0);
        assert_int_equal(file_read(path, 1 << 24, &bytes[i], &len[i]), 0);
    }
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(bytes[0], bytes[1], len[0]);
    mem_free(bytes[0]);
    mem_free(bytes[1]);
    unlink(path);
    graph_free(g);
}

static void refused(const char *path, struct graph *g, const char *word)
{
    struct graph *before;
    struct checkpoint_file *f;

    assert_int_equal(graph_clone(g, &before), 0);
    assert_int_equal(checkpoint_open(path, &f), 0);
    assert_int_equal(checkpoint_read_graph(f, g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), word));
    assert_equal_numbers(g, before);
    checkpoint_close(f);
    graph_free(before);
}

static void test_other_networks_are_refused(void **state)
{
    struct graph *g = network(1), *plain = tiny_net(TINY_BN, 1), *linear = tiny_linear(1);
    char path[PATH_BYTES];

    (void)state;
    temp_path(path, "other");
    assert_int_equal(save(path, g), 0);
    refused(path, plain, "values");
    refused(path, linear, "fc.weight");
    g->params[5] = NAN;
    assert_int_equal(save(path, g), 0);
    g->params[5] = 0;
    refused(path, g, "nan");
    g->masks[7] = 2;
    assert_int_equal(save(path, g), 0);
    refused(path, g, "mask");
    unlink(path);
    graph_free(g);
    graph_free(plain);
    graph_free(linear);
}

/* Reads a file in every way; whatever it holds, there is an answer and no crash. */
static int read_all(const char *path, struct graph *g)
{
    struct checkpoint_file *f;
    double back[3];
    size_t len;
    int rc = checkpoint_open(path, &f);

    if (rc < 0)
        return rc;
    rc = checkpoint_read_graph(f, g);
    if (rc == 0)
        rc = checkpoint_read_blob(f, "score", back, sizeof back);
    checkpoint_structure(f, &len);
    checkpoint_close(f);
    return rc;
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t len)
{
    unlink(path); /* some file systems flush at once what is written over an old file */
    FILE *out = fopen(path, "wb");

    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static void test_every_truncation_is_an_error(void **state)
{
    struct graph *g = network(1);
    char path[PATH_BYTES];
    uint8_t *bytes;
    size_t len;

    (void)state;
    temp_path(path, "short");
    assert_int_equal(save(path, g), 0);
    assert_int_equal(file_read(path, 1 << 24, &bytes, &len), 0);
    for (size_t n = 0; n < len; n += n < 4200 ? 13 : 211) {
        write_bytes(path, bytes, n);
        assert_true(read_all(path, g) < 0);
        assert_true(err_message()[0] != '\0');
    }
    mem_free(bytes);
    unlink(path);
    graph_free(g);
}

/* A flipped bit in the header is an error or renames a state; elsewhere it is another number. */
static void test_flipped_bits_never_crash(void **state)
{
    struct graph *g = network(1);
    char path[PATH_BYTES];
    uint8_t *bytes;
    size_t len;

    (void)state;
    temp_path(path, "flip");
    assert_int_equal(save(path, g), 0);
    assert_int_equal(file_read(path, 1 << 24, &bytes, &len), 0);
    for (size_t i = 0; i < FLIPS; i++) {
        const size_t at = i * 149 % len;
        bytes[at] ^= (uint8_t)(1u << (i % 8));
        write_bytes(path, bytes, len);
        int rc = read_all(path, g);
        assert_true(rc <= 0);
        bytes[at] ^= (uint8_t)(1u << (i % 8));
    }
    mem_free(bytes);
    unlink(path);
    graph_free(g);
}

static void test_every_failed_allocation_is_an_error(void **state)
{
    struct graph *g = network(1);
    char path[PATH_BYTES];
    int rc = ERR_NOMEM;

    (void)state;
    temp_path(path, "memory");
    for (long n = 1; rc < 0; n++) {
        mem_fail_at(n);
        rc = save(path, g);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        assert_true(rc == 0 || access(path, F_OK) != 0); /* nothing half-written */
    }
    rc = ERR_NOMEM;
    for (long n = 1; rc < 0; n++) {
        mem_fail_at(n);
        rc = read_all(path, g);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
    }
    unlink(path);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_state_same_bytes),
        cmocka_unit_test(test_other_networks_are_refused),
        cmocka_unit_test(test_every_truncation_is_an_error),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
