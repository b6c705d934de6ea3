/*
 * PI descriptions and their weights, in one input (fuzz_split). The description's commitment is set
 * to the hash of the weights, so that their reader is reached. What is accepted must run on both
 * kinds of arithmetic.
 */
#include <string.h>

#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "runtime/model.h"
#include "tests/fuzz/fuzz.h"

#define MAX_WORK ((int64_t)1 << 20) /* multiplications and numbers of a program that is run */

static bool is_small(const struct plan *p)
{
    int64_t n = p->macs;

    for (int32_t t = 0; t < p->n_tensor; t++)
        n += p->tensor[t].count;
    for (int32_t s = 0; s < p->n_step && n < MAX_WORK; s++)
        if (p->step[s].kind == PLAN_SUM_POOL || p->step[s].kind == PLAN_MAX_POOL)
            n += p->tensor[p->step[s].out].count * p->step[s].u.pool.kernel[0] *
                 p->step[s].u.pool.kernel[1];
    return n < MAX_WORK;
}

static void run(const struct plan *p, const struct plan_weights *w, enum pi_mode mode)
{
    const size_t n_in = (size_t)p->tensor[0].count;
    struct pi_model *m = NULL;
    float *pixels, *logits;

    if (pi_prepare(p, w, mode, &m) < 0)
        return;
    pixels = mem_array(2 * n_in, sizeof *pixels);
    logits = mem_array(2 * (size_t)pi_classes(m), sizeof *logits);
    fuzz_must(pixels != NULL && logits != NULL, "memory for a small program");
    for (size_t k = 0; k < 2 * n_in; k++)
        pixels[k] = (float)(k % 5) / 4;
    if (pi_run(m, PI_PIXELS, pixels, 2, logits) == 0)
        fuzz_touch(logits, 2 * (size_t)pi_classes(m) * sizeof *logits);
    mem_free(pixels);
    mem_free(logits);
    pi_close(m);
}

static void check_again(struct plan *p)
{
    struct plan *again = NULL;
    uint8_t *bytes = NULL;
    size_t len = 0;

    fuzz_must(plan_check(p) == 0, "an accepted description is not valid");
    fuzz_must(plan_bytes(p, &bytes, &len) == 0, "an accepted description cannot be written");
    fuzz_must(plan_read_bytes(bytes, len, "again", &again) == 0,
              "a written description is not read again");
    plan_free(again);
    mem_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *part[2];
    size_t len[2];
    struct plan *p = NULL;
    struct plan_weights *w = NULL;

    fuzz_split(data, size, part, len);
    if (plan_read_bytes(part[0], len[0], "input", &p) < 0) {
        fuzz_must(err_message()[0] != '\0', "an error without a message");
        return 0;
    }
    check_again(p);
    fuzz_must(sha256_bytes(part[1], len[1], p->commitment) == 0, "sha256");
    if (plan_weights_read(p, fuzz_file(0, part[1], len[1]), &w) == 0 && is_small(p)) {
        run(p, w, PI_FIXED);
        run(p, w, PI_FLOAT);
    }
    plan_weights_free(w);
    plan_free(p);
    return 0;
}
