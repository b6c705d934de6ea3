/*
 * Fewer bits of weights where local truncation fails too often.
 *
 * A truncation fails with the chance 2 |value| / 2^64, the value having scale f + f_w before it: each bit less of
 * f_w halves the share of a step. The step with the largest share gives up one bit, again and again. Where an
 * Add truncates for the linear steps that it reads, those with the largest scale give one up together.
 */
#include <math.h>

#include "exporter/lower/lower.h"
#include "exporter/lower/lowering.h"

/* Whether the weights of the step can lose a bit. */
static bool can_trim(const struct lowering *s, int32_t i)
{
    const struct plan_step *step = &s->p->step[i];
    int64_t rows, columns;

    if (!plan_is_linear(step) || step->u.linear.weight_scale < 1)
        return false;
    plan_matrix_size(s->p, step, &rows, &columns);
    return ldexp(lowering_largest(&s->draft[i], rows * columns), step->u.linear.weight_scale - 1) >=
           ldexp(1, LOWER_LEAST_BITS - 1);
}

static int32_t maker_of(const struct plan *p, int32_t tensor)
{
    for (int32_t i = 0; i < p->n_step; i++)
        if (p->step[i].out == tensor)
            return i;
    return -1;
}

static void give_bit(struct lowering *s, int32_t i, bool waits)
{
    struct plan_step *step = &s->p->step[i];

    step->u.linear.weight_scale--;
    if (waits)
        s->p->tensor[step->out].scale--;
    else
        step->shift--;
}

/* An Add that truncates: every operand of the larger scale comes down by one bit, or none does. */
static bool trim_add(struct lowering *s, struct plan_step *add)
{
    const int32_t high = s->p->scale + add->shift;
    int32_t maker[2];

    for (int i = 0; i < 2; i++) {
        maker[i] = s->p->tensor[add->in[i]].scale == high ? maker_of(s->p, add->in[i]) : -1;
        if (s->p->tensor[add->in[i]].scale == high && (maker[i] < 0 || !can_trim(s, maker[i])))
            return false;
    }
    for (int i = 0; i < 2; i++)
        if (maker[i] >= 0 && (i == 0 || maker[1] != maker[0]))
            give_bit(s, maker[i], true);
    for (int i = 0; i < 2; i++)
        add->input_shift[i] = high - 1 - s->p->tensor[add->in[i]].scale;
    add->shift--;
    return true;
}

static bool trim_step(struct lowering *s, int32_t i)
{
    struct plan_step *step = &s->p->step[i];

    if (step->shift < 1)
        return false;
    if (step->kind == PLAN_ADD)
        return trim_add(s, step);
    if (!can_trim(s, i))
        return false;
    give_bit(s, i, false);
    return true;
}

/* The step with the largest share among those that `stuck` does not name; -1: none has any. */
static int32_t worst(const struct lowering *s, const bool *stuck)
{
    int32_t best = -1;
    double most = 0;

    for (int32_t i = 0; i < s->p->n_step; i++) {
        double share = stuck[i] ? 0 : plan_step_failure(s->p, i, NULL);
        if (share > most) {
            most = share;
            best = i;
        }
    }
    return best;
}

static int32_t count_trimmed(const struct lowering *s, const int32_t *before)
{
    int32_t n = 0;

    for (int32_t i = 0; i < s->p->n_step; i++)
        n += plan_is_linear(&s->p->step[i]) && s->p->step[i].u.linear.weight_scale < before[i];
    return n;
}

static int trim(struct lowering *s, bool *stuck)
{
    while (plan_failure(s->p, NULL) > s->o->max_failure) {
        int32_t i = worst(s, stuck);
        if (i < 0)
            return fail(
                ERR_GOAL,
                "an answer would be garbage with a chance of 1 in %.0f, and weights of %d bits do not make it less than 1 in %.0f: a smaller range of values or fewer ReLUs help, or --max-failure %.2g",
                1 / plan_failure(s->p, NULL), LOWER_LEAST_BITS, 1 / s->o->max_failure,
                plan_failure(s->p, NULL) * 1.01);
        stuck[i] = !trim_step(s, i);
    }
    return 0;
}

int lower_trim(struct lowering *s)
{
    struct lower_failure *f = s->o->failure;
    const size_t n = (size_t)s->p->n_step;
    int32_t *before = arena_array(s->p->arena, n, sizeof *before);
    bool *stuck = arena_array(s->p->arena, n, sizeof *stuck);
    double untrimmed = plan_failure(s->p, NULL);

    if (before == NULL || stuck == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        before[i] = plan_is_linear(&s->p->step[i]) ? s->p->step[i].u.linear.weight_scale : 0;
    if (s->o->max_failure > 0)
        TRY(trim(s, stuck));
    if (f != NULL)
        *f = (struct lower_failure){untrimmed, plan_failure(s->p, NULL),
                                    plan_failure(s->p, s->tensor_max), count_trimmed(s, before)};
    return 0;
}
