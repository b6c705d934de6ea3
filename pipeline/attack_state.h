#ifndef PIPELINE_ATTACK_STATE_H
#define PIPELINE_ATTACK_STATE_H
/*
 * The state file of long attacks (JSON): which images still stand, per branch and attack, written
 * after every batch, so an interruption loses at most one.
 *
 *     {"format": "linnet.attackstate/1", "identity": {...},
 *      "runs": {"clean/0": {"stage": 1, "next": 500, "robust_after": [411], "robust": "110..."}}}
 *
 * identity says what the flags belong to: model, data, seed, batch, attacks with all parameters. A
 * file with another one is refused.
 */
#include <jansson.h>

#include "trainer/attack/autoattack.h"

struct attack_state;
/* Reads the file if it exists. Steals identity. ERR_FORMAT for a damaged file, ERR_ARG for that of
 * another evaluation: the message names what differs. */
int attack_state_open(const char *path, json_t *identity, struct attack_state **out) MUST_CHECK;
void attack_state_close(struct attack_state *s); /* NULL is fine */
/* What eval_options.attack_load and .attack_save want to have done. */
int attack_state_load(const struct attack_state *s, int branch, int32_t attack,
                      struct attack_progress *p) MUST_CHECK;
int attack_state_save(struct attack_state *s, int branch, int32_t attack,
                      const struct attack_progress *p) MUST_CHECK;
#endif
