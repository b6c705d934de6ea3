#ifndef TRAINER_ATTACK_SPEC_H
#define TRAINER_ATTACK_SPEC_H
/*
 * What users write behind --attack: NAME[:KEY=VALUE,...]
 *
 *     pgd            eps alpha steps restarts start=random|clean
 *     apgd-ce        eps steps restarts rho            apgd-dlr the same with the DLR loss
 *     apgd-t         eps steps restarts rho targets
 *     fab-t          eps steps restarts targets alpha_max eta beta
 *     square         eps steps restarts p_init draws=shared|image        (steps: queries)
 *     autoattack     apgd-ce, apgd-t, fab-t, square in this order: "standard" (robustness.md 3.1)
 *     autoattack:fast         apgd-ce, apgd-t
 *
 * autoattack takes eps (for all parts) and version=standard|fast. Numbers may be fractions: 8/255.
 */
#include <stdint.h>

#include "core/base/err.h"
#include "trainer/attack/pgd.h"

enum attack_kind {
    ATTACK_PGD,
    ATTACK_APGD_CE,
    ATTACK_APGD_DLR,
    ATTACK_APGD_T,
    ATTACK_FAB_T,
    ATTACK_SQUARE,
    ATTACK_KINDS
};
#define ATTACK_MAX_STAGES 4
#define ATTACK_NAME 32

struct attack_stage { /* fields that a kind has no use for are 0 */
    enum attack_kind kind;
    double eps, alpha, rho, alpha_max, eta, beta, p_init;
    int32_t steps, restarts, targets;
    bool clean_start; /* pgd: starts at the image itself */
    bool per_image;   /* square: own draws for each image */
};
struct attack_spec {
    char name[ATTACK_NAME]; /* "pgd-20", "autoattack", "autoattack:fast" */
    int32_t n_stage;
    struct attack_stage stage[ATTACK_MAX_STAGES];
};
/* ERR_ARG names the word that is wrong and what could stand there. */
int attack_spec_parse(const char *text, struct attack_spec *out) MUST_CHECK;
struct attack_spec attack_spec_pgd(const struct pgd_params *p);
struct pgd_params attack_stage_pgd(const struct attack_stage *s); /* of a stage of kind PGD */
const char *attack_kind_name(enum attack_kind kind);
/* "apgd-t:eps=0.0313725,steps=100,restarts=1,targets=9,rho=0.75"; attack_spec_parse reads it. */
#define ATTACK_TEXT 192
const char *attack_stage_text(const struct attack_stage *s, char buf[ATTACK_TEXT]);
/* Parameters of a stage, one after the other: false behind the last. word is NULL for numbers. */
struct attack_value {
    const char *key, *word;
    double number;
    bool whole; /* the number is an integer */
};
bool attack_stage_value(const struct attack_stage *s, int32_t index, struct attack_value *out);
/* Forward passes that a stage costs at most per image, for progress. */
int64_t attack_stage_cost(const struct attack_stage *s, int64_t classes);
#endif
