/* Opening and closing a package (model.h). */
#include "runtime/model.h"

#include <math.h>

int pi_prepare(const struct plan *p, const struct plan_weights *w, enum pi_mode mode,
               struct pi_model **out)
{
    SCOPED(pi_close_at) struct pi_model *m = mem_array(1, sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    m->plan = p;
    m->mode = mode;
    TRY(prepared_new(p, w, mode == PI_FLOAT, &m->prepared));
    if (mode == PI_SIM2PC)
        TRY(schedule_new(p, false, &m->schedule));
    *out = mem_hand_on(&m);
    return 0;
}

int pi_open(const char *plan_path, const char *weights_path, enum pi_mode mode,
            struct pi_model **out)
{
    SCOPED(plan_free_at) struct plan *p = NULL;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;

    TRY(plan_read(plan_path, &p));
    TRY(plan_weights_read(p, weights_path, &w));
    TRY(pi_prepare(p, w, mode, out));
    (*out)->own_plan = mem_hand_on(&p);
    (*out)->own_weights = mem_hand_on(&w);
    return 0;
}

void pi_close(struct pi_model *m)
{
    if (m == NULL)
        return;
    prepared_free(m->prepared);
    sim_linear_close(m->own);
    schedule_free(m->schedule);
    plan_weights_free(m->own_weights);
    plan_free(m->own_plan);
    mem_free(m);
}

const struct plan *pi_plan(const struct pi_model *m)
{
    return m->plan;
}

int64_t pi_classes(const struct pi_model *m)
{
    return plan_classes(m->plan);
}

void pi_simulate(struct pi_model *m, uint64_t test_seed, const struct linear_backend *linear,
                 int64_t lot)
{
    sim_linear_close(m->own);
    m->own = NULL;
    m->test_seed = test_seed;
    m->linear = linear;
    m->lot = lot;
}

void pi_linear_error(const struct pi_model *m, int64_t *largest, double *sigma)
{
    struct sim_error e = sim_linear_error(m->own);

    *largest = e.largest;
    *sigma = e.n > 0 ? sqrt(e.squares / (double)e.n) : 0;
}
