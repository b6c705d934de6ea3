#ifndef RUNTIME_LINEAR_RLWE_LAYOUT_H
#define RUNTIME_LINEAR_RLWE_LAYOUT_H
/*
 * Where the numbers of a linear step lie in polynomials, so that coefficients of products are the
 * step's outputs (rlwe_layout.c). Follows from the public plan and the number of images alone.
 *
 * A lot is some images that take a step together: several of them may share a polynomial. Operands and
 * results are [images][elements of one].
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/plan/plan.h"

struct rlwe_axis { /* rows or columns */
    int64_t in, out, kernel, stride, dilation, pad;
    int64_t period, phases; /* tap k reads phase k % period; how many phases are read */
    int64_t low, high;      /* first and last offset of a tap in its phase */
    int64_t bands, band;    /* the output is split into bands of this many positions */
    int64_t length;         /* positions of a phase that a block holds */
    int64_t lead, pitch;    /* zeros before the first block; positions from block to block */
};
struct rlwe_layout {
    struct rlwe_axis axis[2];
    int64_t channels, outputs, group, columns;
    int64_t planes;      /* channels * phases: the blocks of a band of the input */
    int64_t block;       /* coefficients of a block */
    int64_t lot, images; /* of the whole, in one polynomial */
    int64_t in_blocks,
        out_blocks; /* blocks of an image in an input polynomial, its outputs in an answer */
    int64_t in_polys, out_polys; /* of one band */
    int64_t first;               /* place of the first output */
};
/* The layout that moves the fewest bytes for a lot of this many images. ERR_UNSUPPORTED where one window
 * does not fit. */
int rlwe_layout_of(const struct plan *p, const struct plan_step *s, int64_t lot,
                   struct rlwe_layout *out) MUST_CHECK;
/* Bands of all groups of images that share polynomials: those of the first group first. What follows
 * counts them in this order; weights are the same for all. */
int64_t rlwe_layout_bands(const struct rlwe_layout *l);

/* m [RLWE_N] := polynomial `poly` of band `band` of the operand r. */
void rlwe_layout_input(const struct rlwe_layout *l, int64_t band, int64_t poly, const uint64_t *r,
                       uint64_t *m);
/* What input polynomial `in` is multiplied by for answer `out`, by the coefficients that can be other than
 * zero: at most `room` places (NULL: none are given) and values, which places being the same for all answers and
 * for all input polynomials of one kind (kinds: 0 ... rlwe_layout_kinds - 1). Returns how many there are. */
int64_t rlwe_layout_taps(const struct rlwe_layout *l, const int16_t *w, int64_t in, int64_t out,
                         int64_t room, int32_t *place, int16_t *value);
int64_t rlwe_layout_kinds(const struct rlwe_layout *l);
int64_t rlwe_layout_kind(const struct rlwe_layout *l, int64_t in);
/* Whether all weight polynomials are constants: 1x1 windows where every block has its own polynomial. */
int rlwe_layout_constant(const struct rlwe_layout *l);
/* 0 where input polynomial `in` has no part in answer `out`: other groups. */
int rlwe_layout_reads(const struct rlwe_layout *l, int64_t in, int64_t out);
/* Outputs of the step that answer `out` of band `band` holds, their places in it. Both arrays take
 * RLWE_N; returns how many. */
int64_t rlwe_layout_outputs(const struct rlwe_layout *l, int64_t band, int64_t out, int32_t *place,
                            int64_t *element);
/* How many that is. */
int64_t rlwe_layout_count(const struct rlwe_layout *l, int64_t band, int64_t out);
#endif
