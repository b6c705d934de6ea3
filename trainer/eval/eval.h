#ifndef TRAINER_EVAL_EVAL_H
#define TRAINER_EVAL_EVAL_H
/*
 * Accuracies of a graph on a data set: clean, under attack, under corruptions; one row a batch-norm
 * branch. Images are taken in order, so a limit is a fixed subset.
 */
#include "core/exec/profile.h"
#include "trainer/attack/autoattack.h"
#include "trainer/corrupt/corrupt.h"
#include "trainer/data/data.h"
#include "trainer/attack/pgd.h"

#define EVAL_MAX_ATTACKS 16
#define EVAL_MAX_TYPES 24
#define EVAL_MAX_CLASSES 200 /* that are told one by one */

struct eval_score { /* share in [0,1] with its Wilson interval */
    int64_t n, correct;
    double accuracy, lo, hi;
};
struct eval_attack {
    struct attack_spec spec; /* with its name and all parameters */
    struct eval_score score; /* correct when clean and under every stage and restart */
    int64_t robust_after[ATTACK_MAX_STAGES]; /* images that stand after each stage */
    bool square_gains;                       /* see autoattack.h */
};
struct eval_corruption {
    const char *type;           /* static */
    struct eval_score score[5]; /* by severity 1 ... 5; n = 0 where not run */
};
struct eval_branch {
    int branch;
    struct eval_score clean;
    int32_t n_class; /* 0: more than EVAL_MAX_CLASSES */
    int32_t class_n[EVAL_MAX_CLASSES], class_correct[EVAL_MAX_CLASSES]; /* of the clean images */
    struct eval_attack attack[EVAL_MAX_ATTACKS];
    int32_t n_attack;
    struct attack_flags flags; /* n = 0: not looked for */
    struct eval_corruption corruption[EVAL_MAX_TYPES];
    int32_t n_corruption;
    struct eval_score corruption_mean; /* unweighted mean of the accuracies that were run, with the
                                        * interval of its n images; n = 0 if none was. No `correct` */
    bool corruption_files;             /* read from files, not drawn by us */
};
struct eval_result {
    int64_t n;
    enum exec_precision precision, attacks; /* what was computed in */
    struct eval_branch branch[2];
    int32_t n_branch;
};
struct eval_options {
    int64_t limit; /* the first N images; 0: all */
    int64_t batch; /* images an executor call; 0: 256 */
    uint64_t seed;
    enum exec_precision precision; /* of clean and corrupted images */
    enum exec_precision attacks;   /* of attacks, judgement included */
    struct exec *beside;           /* NULL, or whose working memory to use meanwhile (exec_opts) */
    bool branch[2];                /* which branches; branch 1 only where the graph has two */
    const struct pgd_params *attack; /* PGD, before what `specs` names */
    int32_t n_attack;
    const struct attack_spec *specs;
    int32_t n_specs;         /* n_attack + n_specs at most EVAL_MAX_ATTACKS */
    bool flags;              /* fill attack_flags */
    const char *corruptions; /* comma-separated types or "all" drawn by us; NULL: none */
    int32_t severities;      /* bit s-1: severity s; 0: all five, or those of the folder */
    const char *folder;      /* corruptions are read from this CIFAR-10-C style folder instead */
    const struct corrupt_photos *photos; /* for frost; NULL: without frost */
    /* NULL: no profile. Time by layer of inference and of the attacks' gradients, added to. */
    struct profile *infer_profile, *gradient_profile;
    void *ctx;
    /* May be NULL. Progress in images of work done and all; a negative result stops. */
    int (*progress)(void *ctx, int64_t done, int64_t all);
    /* May be NULL. Attack progress of attack number `attack` through branch `branch`: load fills p (1)
     * or leaves it (0); save is called after every batch. p->n is the number of images. */
    int (*attack_load)(void *ctx, int branch, int32_t attack, struct attack_progress *p);
    int (*attack_save)(void *ctx, int branch, int32_t attack, const struct attack_progress *p);
};
/* ERR_DATA if the set does not fit the graph, ERR_ARG for options that make no sense. */
int eval_run(struct graph *g, const struct dataset *d, const struct eval_options *opt,
             struct eval_result *out) MUST_CHECK;
/* Walks over the first `limit` images (0: all) of d in order, un-augmented, in EXEC_INFER batches of
 * at most `batch`, with taps: fn reads them by exec_tap. For initial scores and statistics. */
typedef int eval_walk_fn(void *ctx, const struct exec *e, int64_t first, int64_t n,
                         const float *logits, const int32_t *labels);
int eval_walk(struct graph *g, const struct dataset *d, int64_t limit, int64_t batch, int branch,
              const value_id *taps, int32_t n_taps, eval_walk_fn *fn, void *ctx) MUST_CHECK;
#endif
