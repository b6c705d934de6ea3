#ifndef LINEARIZER_LINE_H
#define LINEARIZER_LINE_H
/* What the files about lines and scores share. */
#include "linearizer/linearizer.h"

/* Channels of a site, K of [K]; a channel has total / channels positions. */
int64_t site_channels(const struct graph *g, const struct relu_site *site);

struct line_sums { /* over some positions and images; r: what the ReLU made of z */
    double n, z, zz, r, zr;
};
struct line_channel { /* over removed positions before and after a choice */
    struct line_sums before, after;
};
/* Moves a line that was trained by what the fit moves between the two; without positions before, the fit
 * itself; without positions after, nothing. fixed: the slope stays. */
void line_move(const struct line_channel *x, bool fixed, double *slope, double *offset);
#endif
