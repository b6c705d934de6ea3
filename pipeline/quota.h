#ifndef PIPELINE_QUOTA_H
#define PIPELINE_QUOTA_H
/* How many ReLUs a conversion keeps, in all and in each layer. */
#include "linearizer/linearizer.h"

struct quota {
    struct relu_site *site; /* [n_site] of the teacher; the student's have the same numbers */
    int32_t n_site;
    int64_t total; /* ReLUs there are */
    int64_t want;  /* to be kept in all */
    double *eta;   /* [n_site] sensitivity of each layer */
    int64_t *kept; /* [n_site] */
};
struct quota_rules {
    const char *relus;  /* "N" or "P%"; NULL: what the others say */
    const char *layers; /* file of layer_budget.h, NULL: none */
    double density;     /* of the sensitivity measure */
    int64_t empty_cheapest;
};
/* Counts; want := what relus says, or all. ERR_UNSUPPORTED without a ReLU. Release in every case. */
int quota_count(struct quota *q, const struct graph *g, const char *relus) MUST_CHECK;
/* Shares `want` among the layers. */
int quota_share(struct quota *q, const struct graph *g, const struct quota_rules *rules) MUST_CHECK;
/* kept[] := what the masks of g hold. */
int quota_recount(struct quota *q, const struct graph *g) MUST_CHECK;
int64_t quota_kept(const struct quota *q); /* sum of kept[] */
void quota_release(struct quota *q);
#endif
