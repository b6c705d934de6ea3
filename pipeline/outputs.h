#ifndef PIPELINE_OUTPUTS_H
#define PIPELINE_OUTPUTS_H
/* What tasks write: one branch as ONNX, one as a private-inference package. */
#include "pipeline/model.h"
#include "core/base/lock.h"
#include "exporter/exporter.h"
#include "trainer/data/data.h"

/* "dir/name" into buf; ERR_LIMIT if it does not fit. */
int output_path(const char *dir, const char *name, char *buf, size_t size) MUST_CHECK;
/* ERR_IO unless the folder of `path` can take a new file: asked before hours of work. */
int output_writable(const char *path) MUST_CHECK;
/* Makes the folder if it is missing. */
int output_folder(const char *path) MUST_CHECK;
/* The same, and it is this run's alone until lock_release; what killed runs left half written goes. */
int output_claim(const char *folder, struct lock **out) MUST_CHECK;
/* For STEM.onnx and the files beside it. */
int output_claim_stem(const char *stem, struct lock **out) MUST_CHECK;

struct output_accuracy { /* shares in [0,1] of n images of the split; n = 0: not measured */
    double clean, attacked;
    int64_t n, n_attack;
};
/* What a training says about itself in the metadata of the files that it writes (linnet.*). */
struct output_facts {
    int64_t seed, budget, total;        /* ReLUs kept and all; total 0: masks were not touched */
    const char *recipe;                 /* NULL: none */
    const char *removed;                /* what a removed ReLU became, NULL: the identity */
    const struct dataset *data;         /* it was trained on these images, NULL: not at all */
    double eps;                         /* of the adversarial images, 0: there were none */
    const char *split;                  /* "test" or "val", of the accuracies */
    struct output_accuracy accuracy[2]; /* per branch */
};
/* A copy of g with one branch, simplified masks and provenance metadata. The caller frees it. */
int output_branch(const struct model *m, const struct graph *g, int branch,
                  const struct output_facts *facts, struct graph **out) MUST_CHECK;
struct output_private {
    struct graph *network; /* what the package must agree with, and through which branch */
    int branch;
    const struct dataset *calib; /* its first n images */
    int64_t n;
    bool publish_slopes; /* lower.h */
    const char *salt;    /* 64 hex digits or NULL for a random one */
    double max_failure;  /* of one answer (lower.h) */
};
/* dir/model.pi and dir/model.pi.weights from a graph with one branch, which is folded and, once it is
 * lowered, freed (NULL then). Says the chance that an answer fails.
 * ERR_GOAL: it is above max_failure, or was brought below it only by rounding that changes labels
 * of more than OUTPUT_AGREEMENT of the calibration images. */
#define OUTPUT_AGREEMENT 99.5 /* as validate has it */
int output_pi(const struct linnet_listener *l, const struct model *m, struct graph **branch,
              const struct output_private *how, const char *dir) MUST_CHECK;
/* STEM.onnx, the branch `deployed`; where there are two also STEM.adv.onnx, and STEM.clean.onnx where that
 * is not the deployed one. */
int output_branches(const struct model *m, const struct graph *g, const struct output_facts *facts,
                    const char *stem, int deployed) MUST_CHECK;
#endif
