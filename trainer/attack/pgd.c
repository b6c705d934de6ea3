/*
 * Projected gradient descent in the L-infinity box.
 *
 * The loss is summed over the images, not averaged: only the sign of its gradient counts. Where the
 * gradient is 0 or not a number a pixel stays. Restart r of image s draws from
 * (seed, stream, epoch, s + r 2^48).
 */
#include "trainer/attack/pgd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/loss.h"

#define RESTART_SHIFT 48
#define SPEC_MAX 256

struct pgd_params pgd_defaults(int32_t steps)
{
    return (struct pgd_params){
        .eps = 8.0 / 255, .alpha = 2.0 / 255, .steps = steps, .restarts = 1, .random_start = true};
}

/* "8/255" or "0.03" in lo ... hi; the whole text must be used. */
static int parse_number(const char *key, const char *text, double lo, double hi, double *out)
{
    char *end;
    double v = strtod(text, &end), d = 1;

    if (end != text && *end == '/') {
        const char *below = end + 1;
        d = strtod(below, &end);
        if (end == below)
            d = 0;
    }
    if (end == text || *end != '\0' || d == 0 || !(v / d >= lo && v / d <= hi))
        return fail(ERR_ARG, "attack: %s='%s' is not a number from %g to %g", key, text, lo, hi);
    *out = v / d;
    return 0;
}

static int parse_count(const char *key, const char *text, int32_t lo, int32_t hi, int32_t *out)
{
    double v;

    TRY(parse_number(key, text, lo, hi, &v));
    if (v != floor(v))
        return fail(ERR_ARG, "attack: %s='%s' is not a whole number", key, text);
    *out = (int32_t)v;
    return 0;
}

static int parse_start(const char *text, bool *random_start)
{
    *random_start = strcmp(text, "random") == 0;
    if (!*random_start && strcmp(text, "clean") != 0)
        return fail(ERR_ARG, "attack: start='%s' is neither random nor clean", text);
    return 0;
}

static int parse_pair(char *pair, struct pgd_params *p)
{
    char *value = strchr(pair, '=');

    if (value == NULL)
        return fail(ERR_ARG, "attack: '%s' is not key=value", pair);
    *value++ = '\0';
    if (strcmp(pair, "eps") == 0)
        return parse_number(pair, value, 0, 1, &p->eps);
    if (strcmp(pair, "alpha") == 0)
        return parse_number(pair, value, 1e-9, 1, &p->alpha);
    if (strcmp(pair, "steps") == 0)
        return parse_count(pair, value, 1, PGD_MAX_STEPS, &p->steps);
    if (strcmp(pair, "restarts") == 0)
        return parse_count(pair, value, 1, PGD_MAX_RESTARTS, &p->restarts);
    if (strcmp(pair, "start") == 0)
        return parse_start(value, &p->random_start);
    return fail(ERR_ARG, "attack: '%s' is not one of eps, alpha, steps, restarts, start", pair);
}

int pgd_parse(const char *spec, struct pgd_params *out)
{
    struct pgd_params p = pgd_defaults(20);
    char text[SPEC_MAX];
    size_t head = strcspn(spec, ":");

    if (head != 3 || strncmp(spec, "pgd", 3) != 0)
        return fail(ERR_ARG, "attack '%s' does not start with 'pgd' or 'pgd:'", spec);
    if (strlen(spec) >= sizeof text)
        return fail(ERR_ARG, "attack: the text has more than %d characters", SPEC_MAX - 1);
    strcpy(text, spec);
    char *next = text[head] == ':' ? text + head + 1 : NULL;
    while (next != NULL) {
        char *pair = next;
        if ((next = strchr(pair, ',')) != NULL)
            *next++ = '\0';
        TRY(parse_pair(pair, &p));
    }
    *out = p;
    return 0;
}

const char *pgd_text(const struct pgd_params *p, char buf[PGD_TEXT])
{
    snprintf(buf, PGD_TEXT, "pgd:eps=%.9g,alpha=%.9g,steps=%d,restarts=%d,start=%s", p->eps,
             p->alpha, (int)p->steps, (int)p->restarts, p->random_start ? "random" : "clean");
    return buf;
}

struct loss_context {
    const struct pgd_target *target;
    int64_t k;
};

static void target_loss(void *ctx, int64_t first, int64_t count, const float *logits,
                        float *dlogits)
{
    const struct loss_context *c = ctx;
    const struct pgd_target *t = c->target;

    memset(dlogits, 0, (size_t)(count * c->k) * sizeof *dlogits);
    if (t->labels != NULL)
        loss_ce(logits, t->labels + first, count, c->k, 1, 1, dlogits);
    else
        loss_kl(logits, t->teacher + first * c->k, count, c->k, t->tau, 1, 1, dlogits);
}

static float clip(float v, float lo, float hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void start_image(const struct pgd_params *p, const struct pgd_key *key, int64_t i,
                        const float *x, int64_t elems, float *adv)
{
    const uint64_t sample = (uint64_t)key->sample[i] + ((uint64_t)key->restart << RESTART_SHIFT);
    const float eps = (float)p->eps;
    struct rng r = rng_at(key->seed, key->stream, key->epoch, sample);

    for (int64_t j = 0; j < elems; j++)
        adv[j] = p->random_start ? clip(x[j] + rng_range(&r, -eps, eps), 0, 1) : x[j];
}

static void step_image(const struct pgd_params *p, const float *x, const float *grad, int64_t elems,
                       float *adv)
{
    const float eps = (float)p->eps, alpha = (float)p->alpha;

    for (int64_t j = 0; j < elems; j++) {
        float move = grad[j] > 0 ? alpha : grad[j] < 0 ? -alpha : 0;
        adv[j] = clip(clip(adv[j] + move, x[j] - eps, x[j] + eps), 0, 1);
    }
}

int pgd_attack(struct exec *e, const struct graph *g, const struct pgd_params *p,
               const struct pgd_target *target, const struct pgd_key *key, const float *pixels,
               int64_t n, int bank, float *grad, float *adv)
{
    const int64_t elems = shape_elems(&g->value[g->input].shape);
    struct loss_context ctx = {target, shape_elems(&g->value[g->output].shape)};

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        start_image(p, key, i, pixels + i * elems, elems, adv + i * elems);
    for (int32_t t = 0; t < p->steps; t++) {
        TRY(exec_input_grad(e, adv, n, bank, target_loss, &ctx, grad, NULL));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++)
            step_image(p, pixels + i * elems, grad + i * elems, elems, adv + i * elems);
    }
    return 0;
}
