#ifndef TRAINER_ATTACK_SPEC_H
#define TRAINER_ATTACK_SPEC_H
/*
 * What users write after --attack: NAME[:KEY=VALUE,...], numbers may be fractions (8/255)
 *
 *     pgd            eps alpha steps restarts start=random|clean
 *     apgd-ce        eps steps restarts rho            apgd-dlr the same with the DLR loss
 *     apgd-t         eps steps restarts targets rho
 *     fab-t          eps steps restarts targets alpha_max eta beta
 *     square         eps steps restarts p_init draws=shared|image        (steps: queries)
 *     autoattack     apgd-ce, apgd-t, fab-t, square in this order: its version "standard"
 *     autoattack:fast         apgd-ce, apgd-t
 *
 * autoattack takes eps (for all parts) and version=standard|fast.
 *
 * An attack is a file of this folder that defines attack_type_<name> (its keys with their defaults,
 * its run) and a row of ATTACK_TABLE; nothing else lists attacks. ROBUSTNESS.md says what
 * the attacks do and where they come from.
 */
#include <stdint.h>

#include "core/base/err.h"
#include "trainer/attack/attack.h"

enum attack_kind {
#define ATTACK_KIND(NAME, name, word, stream) ATTACK_##NAME,
    ATTACK_TABLE(ATTACK_KIND) ATTACK_KINDS
};
/* "pgd, apgd-ce, ..." for messages and --help. */
#define ATTACK_WORD(NAME, name, word, stream) word ", "
#define ATTACK_WORDS ATTACK_TABLE(ATTACK_WORD) "autoattack"

#define ATTACK_MAX_STAGES 4
#define ATTACK_MAX_KEYS 8
#define ATTACK_NAME 32

/* One attack with its parameters. Every attack has an eps in pixel units, the box that the driver
 * checks; value[i] belongs to key[i] of its type. Words are 0 or 1, whole numbers are whole. */
struct attack_stage {
    enum attack_kind kind;
    double eps;
    double value[ATTACK_MAX_KEYS];
};
struct attack_spec {
    char name[ATTACK_NAME]; /* "pgd-20", "autoattack", "autoattack:fast" */
    int32_t n_stage;
    struct attack_stage stage[ATTACK_MAX_STAGES];
};

enum attack_form { ATTACK_REAL, ATTACK_COUNT, ATTACK_CHOICE };
struct attack_key {
    const char *name;
    enum attack_form form;
    double start, lo, hi; /* default and range */
    const char *word[2];  /* of a choice: those that stand for 0 and 1 */
};
struct attack_type {
    struct attack_key key[ATTACK_MAX_KEYS + 1]; /* all but eps; ends with name NULL */
    bool counts_steps; /* the name of a result is "word-steps": runs differ by them in practice */
    bool rounds;       /* restarts are rounds of the driver, each on the images that still stand */
    int32_t classes;   /* a suite leaves it out where the network has fewer */
    /* Attacks the images of b whose `broken` is not set. grad: scratch as large as b->adv. restart:
     * the round, 0 without rounds. */
    int (*run)(struct attack_model *m, const struct attack_stage *s, int32_t restart,
               struct attack_batch *b, float *grad);
    /* Forward passes that it costs at most per image, for progress. */
    int64_t (*cost)(const struct attack_stage *s, int64_t classes);
};
const struct attack_type *attack_type(enum attack_kind kind);
const char *attack_kind_name(enum attack_kind kind);

struct attack_stage attack_stage_defaults(enum attack_kind kind);
/* Parameter `key`; 0 where this attack has none of that name. */
double attack_stage_get(const struct attack_stage *s, const char *key);
int32_t attack_stage_count(const struct attack_stage *s, const char *key); /* a whole number */
/* No effect where the attack has no such key; the range is the caller's business. */
void attack_stage_set(struct attack_stage *s, const char *key, double v);

/* ERR_ARG names the word that is wrong and what could stand there. */
int attack_spec_parse(const char *text, struct attack_spec *out) MUST_CHECK;
/* One stage under its name. */
struct attack_spec attack_spec_of(const struct attack_stage *s);
/* "apgd-t:eps=0.0313725,steps=100,restarts=1,targets=9,rho=0.75"; attack_spec_parse reads it. */
#define ATTACK_TEXT 192
const char *attack_stage_text(const struct attack_stage *s, char buf[ATTACK_TEXT]);
/* Parameters of a stage, one after the other: false after the last. word is NULL for numbers. */
struct attack_value {
    const char *key, *word;
    double number;
    bool whole; /* the number is an integer */
};
bool attack_stage_value(const struct attack_stage *s, int32_t index, struct attack_value *out);
int64_t attack_stage_cost(const struct attack_stage *s, int64_t classes);
#endif
