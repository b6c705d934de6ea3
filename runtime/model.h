#ifndef RUNTIME_MODEL_H
#define RUNTIME_MODEL_H
/*
 * A package opened to run in one process.
 *
 *     struct pi_model *m = NULL;
 *     if ((rc = pi_open("model.pi", "model.pi.weights", PI_FIXED, &m)) < 0 ||
 *         (rc = pi_run(m, PI_PIXELS, pixels, n, logits)) < 0)
 *         goto out;
 *     out:
 *         pi_close(m);
 *
 * Modes: PI_FLOAT runs the plan on real numbers (weights divided by their scale, nothing
 * truncated); PI_FIXED runs it in Z_2^64, bit for bit the same on every machine and for any number
 * of threads; PI_SIM2PC runs it on two parties' shares, with their truncation, and gives what a
 * two-party run with the same test seed gives. Images are independent; threads take blocks of them
 * (cpu_threads()).
 */
#include "runtime/party/sim2pc.h"

enum pi_mode { PI_FLOAT, PI_FIXED, PI_SIM2PC };
/* How images come, always whole: [n,C,H,W] unless said otherwise.
 *
 * An input number x becomes rint(x * 2^f), ties to even, where for pixels
 * x = ((double)pixel - mean[c]) / std[c], pixel = (double)(p - low) / (high - low) for a byte p:
 * IEEE doubles, one rounding an operation, so that every machine gives the same integer. */
enum pi_input {
    PI_U8_NCHW,    /* uint8_t */
    PI_U8_NHWC,    /* uint8_t, [n,H,W,C] */
    PI_PIXELS,     /* float in [0,1], before normalisation */
    PI_NORMALIZED, /* float, after normalisation */
};

struct pi_model {
    const struct plan *plan;
    struct plan *own_plan; /* pi_open */
    struct plan_weights *own_weights;
    enum pi_mode mode;
    struct prepared *prepared;
    /* PI_SIM2PC */
    struct schedule *schedule;
    uint64_t test_seed;
    const struct linear_backend *linear; /* NULL: exact */
    int64_t lot;                         /* images prepared together */
    struct sim_linear *own; /* linear without a third party: opened by the first image */
    int64_t images;         /* run so far: the next one's number */
};
/* Reads, checks and prepares both files. */
int pi_open(const char *plan_path, const char *weights_path, enum pi_mode mode,
            struct pi_model **out) MUST_CHECK;
/* The same from memory; borrows both until pi_close. */
int pi_prepare(const struct plan *p, const struct plan_weights *w, enum pi_mode mode,
               struct pi_model **out) MUST_CHECK;
void pi_close(struct pi_model *m); /* wipes what depends on weights; NULL is fine */
FREE_AT(pi_close, struct pi_model)
const struct plan *pi_plan(const struct pi_model *m);
int64_t pi_classes(const struct pi_model *m);
/* PI_SIM2PC: which run to predict, by its linear backend. One without a third party adds small errors to
 * linear steps: it runs itself, both sides, and the result is that of two parties bit for bit. NULL, and
 * before this call: the same without those errors. Images are numbered from 0 in the order they are run, as those of
 * one connection. lot: how many of them were prepared together, 1 without bundles; the last lot of a
 * call may be smaller. */
void pi_simulate(struct pi_model *m, uint64_t test_seed, const struct linear_backend *linear,
                 int64_t lot);
/* The errors of linear steps so far, in units of the results before truncation: the
 * largest magnitude and the root of the mean square; 0 without any. */
void pi_linear_error(const struct pi_model *m, int64_t *largest, double *sigma);

/* logits [n, classes]. ERR_DATA for a number that is not finite or outside the stated input range
 * (2^max_log2 of tensor 0). */
int pi_run(struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
           float *logits) MUST_CHECK;
/* Not PI_FLOAT; for tests and comparisons: the integers before division by 2^f. */
int pi_run_fixed(struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
                 int64_t *logits) MUST_CHECK;

/* Bytes of one image. */
size_t pi_input_size(const struct plan *p, enum pi_input kind);
/* One image -> real numbers [C,H,W] after normalisation. ERR_DATA as pi_run. */
int pi_input_real(const struct plan *p, enum pi_input kind, const void *image,
                  double *x) MUST_CHECK;
/* rint(x * 2^f) of each. */
void pi_input_fixed(const struct plan *p, const double *x, uint64_t *out);
#endif
