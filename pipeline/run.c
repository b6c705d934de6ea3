/* Data and structure of a training task; see run.h. */
#include "pipeline/run.h"

#include "core/graph/pass.h"
#include "pipeline/listener.h"
#include "pipeline/source.h"
#include "trainer/train/bn.h"

/* Images that choices are made on, or results are told of, are not trained on. */
static int keep_apart(const struct run *r, const struct dataset *other, const char *what)
{
    int64_t n;

    TRY(source_apart(r->train, other, what, &n));
    if (n < 0)
        listener_note(
            r->l, "%s images were not compared with the training images: they are streamed", what);
    if (n > 0)
        listener_note(r->l, "warning: %lld of %lld %s images are training images too", (long long)n,
                      (long long)other->n, what);
    return 0;
}

int run_open_data(struct run *r, const struct open_options *o, int64_t train_limit, bool test)
{
    TRY(source_open(o->data, &o->images, DATA_TRAIN, r->seed, r->m.g, &r->train));
    TRY(source_open(o->data, &o->images, DATA_VAL, r->seed, r->m.g, &r->val));
    TRY(keep_apart(r, r->val, "validation"));
    if (test) {
        TRY(source_open(o->data, &o->images, DATA_TEST, r->seed, r->m.g, &r->test));
        TRY(keep_apart(r, r->test, "test"));
    }
    data_limit(r->train, train_limit);
    if (test)
        listener_note(r->l, "%s: %lld train, %lld validation, %lld test images", r->train->source,
                      (long long)r->train->n, (long long)r->val->n, (long long)r->test->n);
    else
        listener_note(r->l, "%s: %lld train, %lld validation images", r->train->source,
                      (long long)r->train->n, (long long)r->val->n);
    return 0;
}

int run_insert_batchnorm(struct run *r, int64_t images)
{
    struct bn_report bn = {0};
    OWNED float *x = NULL;

    if (pass_batchnorm_sites(r->m.g, NULL, 0) == 0)
        return 0;
    TRY(source_floats(r->train, &images, &x));
    TRY(bn_insert(r->m.g, x, images, &bn));
    r->m.form.bn_inserted = true;
    listener_note(r->l, "batch norm re-inserted at %d sites; logits moved by %.1e of the largest",
                  (int)bn.sites, bn.max_rel_diff);
    return 0;
}

void run_release(struct run *r)
{
    metrics_close(&r->metrics);
    model_close(&r->m);
    data_close(r->train);
    data_close(r->val);
    data_close(r->test);
}
