#ifndef RUNTIME_PARTY_STEPS_H
#define RUNTIME_PARTY_STEPS_H
/*
 * One party's walk through the program on its shares: x = server's share + client's share mod 2^64.
 *
 * The client walks offline, before the image exists: none of its shares depends on the image. The
 * server walks online. All but linear steps and selections is local arithmetic, the same on both
 * sides except for truncation by t bits, where the server takes s >> t and the client -((-u) >> t):
 * the sum is floor(x / 2^t) or one more.
 *
 * The same truncation, after a public factor, makes the lines of removed ReLUs (relu_partial with
 * line_shift); the server adds the offsets. Nothing is sent for them.
 *
 *     linear   y := this party's share of W x + b from its share of x
 *     select   z := this party's shares of the selected payloads, from x (layouts: relu.h)
 *
 * A lot of images walks together: every tensor is [images][elements of one], and a linear step takes all
 * of them at once; a step with selections does all its events for the first image, then for the second,
 * and so on, or those of all images together. Events of an image come in the order of the schedule; the
 * callback gets the event's number.
 */
#include "runtime/plan/schedule.h"
#include "runtime/ring/prepared.h"

struct steps {
    const struct prepared *model;
    const struct schedule *schedule;
    bool client;
    int64_t images;
    uint64_t *words; /* steps_words; tensor 0 is filled in by the caller */
    int (*linear)(void *ctx, int32_t event, uint64_t *y, const uint64_t *x);
    int (*select)(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z);
    /* Runs one(arg, image) for every image of a step, several at work at a time if it likes; NULL: one after
     * another. */
    int (*together)(void *ctx, int64_t images, int (*one)(void *arg, int64_t image), void *arg);
    void *ctx;
};
/* Words of 8 bytes that steps_run needs: slots of all images, then scratch. */
size_t steps_words(const struct prepared *m, int64_t images);
/* Where a tensor lies in them; the scratch for kernels. */
uint64_t *steps_tensor(const struct steps *s, int32_t tensor);
double *steps_scratch(const struct prepared *m, uint64_t *words, int64_t images);
/* Walks. results [images][schedule->results]: this party's shares of logits or label. Errors: memory, and
 * whatever a callback returns. */
int steps_run(const struct steps *s, uint64_t *results) MUST_CHECK;
/* y := this party's part of floor(x / 2^bits), in place. */
void steps_truncate(uint64_t *y, int64_t n, int bits, bool client);
#endif
