/* Float against fixed point, image by image; see package_check.h. */
#include "pipeline/package_check.h"

#include <math.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/exec/exec.h"
#include "pipeline/listener.h"

#define TASK "validate"
#define CHUNK 500 /* most images between two progress lines */
#define CHUNK_FLOATS                                                                               \
    (1LL << 20) /* and of their pixels: few large images, whose activations are many */

static int64_t best(const float *logits, int64_t k)
{
    int64_t b = 0;

    for (int64_t i = 1; i < k; i++)
        if (logits[i] > logits[b])
            b = i;
    return b;
}

static void count(struct package_check *t, const float *a, const float *b, int64_t k, int32_t label)
{
    const int64_t x = best(a, k), y = best(b, k);

    t->n++;
    t->float_correct += x == label;
    t->fixed_correct += y == label;
    t->agree += x == y;
    for (int64_t i = 0; i < k; i++) {
        t->max_abs_diff = fmax(t->max_abs_diff, fabs((double)a[i] - b[i]));
        t->max_abs_logit = fmax(t->max_abs_logit, fabs((double)a[i]));
    }
}

int package_check_run(const struct linnet_listener *l, struct graph *g, int branch,
                      enum exec_precision precision, struct pi_model *pi, const struct dataset *d,
                      int64_t limit, struct package_check *out)
{
    const int64_t k = shape_elems(&g->value[g->output].shape), total = limit < d->n ? limit : d->n;
    const int64_t size = (int64_t)d->channels * d->height * d->width;
    const int64_t held = max_i64(1, min_i64(min_i64(total, CHUNK), CHUNK_FLOATS / size));
    OWNED float *x = mem_aligned((size_t)(held * size), sizeof *x);
    OWNED float *a = mem_aligned((size_t)(held * k), sizeof *a);
    OWNED float *b = mem_aligned((size_t)(held * k), sizeof *b);
    const struct exec_opts o = {.precision = precision, .held = held};
    struct exec *e = NULL;
    struct package_check t = {0};
    int rc = x && a && b ? exec_new(g, EXEC_INFER, CHUNK, &o, &e) : ERR_NOMEM;

    listener_begin(l, TASK);
    for (int64_t first = 0; first < total && rc == 0; first += held) {
        const int64_t n = min_i64(total - first, held);

        if ((rc = data_images(d, first, n, first + n, x)) < 0 ||
            (rc = exec_infer(e, x, n, branch, a)) < 0 || (rc = pi_run(pi, PI_PIXELS, x, n, b)) < 0)
            break;
        for (int64_t i = 0; i < n; i++)
            count(&t, a + i * k, b + i * k, k, d->labels[first + i]);
        listener_progress(l, TASK, (double)(first + n) / (double)total, "%lld images",
                          (long long)(first + n));
        if (listener_stops(l))
            rc = fail(ERR_INTERRUPTED, "stopped; a validation keeps no state");
    }
    listener_end(l, TASK);
    if (rc == 0) {
        t.precision = exec_precision_of(e);
        *out = t;
    }
    exec_free(e);
    return rc;
}
