/* Data and structure of a training task; see run.h. */
#include "pipeline/run.h"

#include "core/graph/pass.h"
#include "pipeline/listener.h"
#include "pipeline/source.h"
#include "trainer/train/bn.h"

int run_open_data(struct run *r, const char *source, int64_t train_limit, bool test)
{
    TRY(source_open(source, DATA_TRAIN, r->seed, r->m.g, &r->train));
    TRY(source_open(source, DATA_VAL, r->seed, r->m.g, &r->val));
    if (test)
        TRY(source_open(source, DATA_TEST, r->seed, r->m.g, &r->test));
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
    float *x = NULL;
    int rc;

    if (pass_batchnorm_sites(r->m.g, NULL, 0) == 0)
        return 0;
    if ((rc = source_floats(r->train, &images, &x)) == 0)
        rc = bn_insert(r->m.g, x, images, &bn);
    mem_free(x);
    TRY(rc);
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
