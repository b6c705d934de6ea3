#ifndef RUNTIME_PARTY_SIM_LINEAR_H
#define RUNTIME_PARTY_SIM_LINEAR_H
/*
 * Both sides of a linear backend in one process, over an in-memory pair, with the random streams that
 * a two-party run of the same test seed uses: its results carry the same small errors, bit for bit, as
 * long as steps are asked for in the order of that run.
 */
#include "runtime/crypto/share_rng.h"
#include "runtime/linear/linear.h"

struct sim_linear;
/* Borrows m, which has weights. b: without a third party. Errors: of its open. */
int sim_linear_open(const struct linear_backend *b, const struct prepared *m,
                    const struct share_rng *shares, struct sim_linear **out) MUST_CHECK;
void sim_linear_close(struct sim_linear *l); /* NULL is fine */
FREE_AT(sim_linear_close, struct sim_linear)
/* One linear step of a lot: u := W r - s and an error; s [images][outputs] is only read. exact: W r, with
 * which u is compared. */
int sim_linear_step(struct sim_linear *l, int32_t step, int64_t images, uint64_t *s,
                    const uint64_t *r, const uint64_t *exact, uint64_t *u) MUST_CHECK;
struct sim_error { /* of all steps so far */
    int64_t n, largest;
    double squares; /* their sum */
};
struct sim_error sim_linear_error(const struct sim_linear *l); /* NULL: zeros */
#endif
