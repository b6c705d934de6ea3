#ifndef TRAINER_ATTACK_AUDIT_H
#define TRAINER_ATTACK_AUDIT_H
/*
 * The gradient-masking audit (ROBUSTNESS.md, Audit): does the network look robust because it is, or
 * because its gradients mislead the attack? Seven checks on the first images of a data set through one
 * branch. Counts are images that stand; two counts are told apart only beyond `room` images.
 */
#include "trainer/attack/autoattack.h"

#define AUDIT_EPS 4     /* eps, 2 eps, 4 eps, 8 eps */
#define AUDIT_STEPS 6   /* PGD with 1, 5, 10, 20, 50, 100 steps */
#define AUDIT_CURVE 101 /* best APGD loss, start and 100 steps */
#define AUDIT_CHECKS 7
#define AUDIT_IMAGES 200 /* where no limit is given */

struct audit_options {
    int64_t limit; /* 0: AUDIT_IMAGES */
    int64_t batch; /* 0: 250 */
    uint64_t seed;
    int branch;
    enum exec_precision precision;
    double eps;             /* 0: 8/255 */
    int32_t queries;        /* of Square; 0: 1000 */
    struct graph *transfer; /* whose PGD-50 images are tried too (branch 0); NULL: none */
    attack_tick_fn *tick;   /* may be NULL */
    void *ctx;
};
struct audit_check {
    const char *name;
    bool pass;
    char detail[160];
};
struct audit_result {
    int64_t n, clean, room;
    double eps;
    int32_t queries;
    int64_t by_eps[AUDIT_EPS], by_steps[AUDIT_STEPS];
    int64_t noise, apgd, square, transfer; /* transfer: -1 where there was none */
    double curve[AUDIT_CURVE];
    struct attack_flags flags;
    struct audit_check check[AUDIT_CHECKS];
};
extern const int32_t audit_steps[AUDIT_STEPS];
int audit_run(struct graph *g, const struct dataset *d, const struct audit_options *opt,
              struct audit_result *out) MUST_CHECK;
#endif
