#ifndef PIPELINE_MASK_RESIDUAL_H
#define PIPELINE_MASK_RESIDUAL_H
/*
 * The sums of the score `residual` (linearizer/residual.c), measured on the first images of a data set, as they
 * are, in passes of the training mode through branch `clean`: batch statistics, which do not move the running
 * ones. Backwards goes v, standard normal, for every logit: mean g^2 over v is what a small change of the
 * position does to the logits, squared and summed. The true loss would not do: it is flat where the network has
 * learned its images.
 *
 * The same bits for any number of threads and ranks: v is counter-based, sums go from rank to rank in order.
 */
#include "linearizer/linearizer.h"
#include "trainer/data/data.h"

struct ranks_chain;
struct residual_measure {
    struct graph *g;
    const struct relu_site *site;
    int32_t n_site;
    const struct dataset *data;
    int64_t images, batch; /* images: at most; batch: of a pass, at most */
    uint64_t seed;
    struct ranks_chain *chain;
};
/* sums [positions of all sites][RESIDUAL_SUMS] := of *images images. */
int residual_measure(const struct residual_measure *m, double *sums, int64_t *images) MUST_CHECK;
#endif
