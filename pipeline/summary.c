/* The table of linearize; see summary.h. */
#include "pipeline/summary.h"

#include <math.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/minmax.h"
#include "pipeline/eval_report.h"
#include "pipeline/listener.h"
#include "pipeline/package_check.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "core/graph/pass.h"
#include "exporter/lower/lower.h"
#include "linearizer/linearizer.h"
#include "runtime/cost/cost.h"
#include "runtime/model.h"

#define CORRUPTIONS "gaussian_noise,defocus_blur,brightness,contrast"
#define SEVERITY 3
#define FIXED_IMAGES 1000
#define PGD_STEPS 20

const char *summary_name(int column)
{
    static const char *const name[SUMMARY_COLUMNS] = {"given", "teacher", "result"};

    return name[column];
}

/* ---- accuracy ------------------------------------------------------------------------------ */

enum part { CLEAN, ATTACKED, CORRUPTED, AUTOATTACK, PARTS };

/* Who hears of the progress, and under which name. The parts are evaluations one after the other, and
 * progress is that of all of them: who reckons the time that is left must not see it fall. */
struct measuring {
    const struct linnet_listener *l;
    const char *name;
    enum part part;     /* at work */
    double work[PARTS]; /* passes of an image */
};

static double autoattack_cost(int64_t classes)
{
    OWNED struct attack_spec *spec = mem_array(1, sizeof *spec);
    double sum = 0;

    if (spec != NULL && attack_spec_parse("autoattack:fast", spec) == 0)
        for (int32_t s = 0; s < spec->n_stage; s++)
            sum += (double)attack_stage_cost(&spec->stage[s], classes);
    return sum;
}

static void plan_parts(struct measuring *m, const struct summary_job *j, const struct graph *g,
                       bool autoattack)
{
    const double branches = graph_branches(g), n = (double)j->test->n;

    m->work[CLEAN] = branches * n;
    m->work[ATTACKED] = branches * fmin((double)j->n_attack, n) * (2 + PGD_STEPS * 3);
    m->work[CORRUPTED] = branches * fmin((double)j->n_corrupt, n) * 5;
    if (autoattack)
        m->work[AUTOATTACK] = fmin((double)j->n_autoattack, n) *
                              (1 + autoattack_cost(shape_elems(&g->value[g->output].shape)));
}

static int on_progress(void *ctx, int64_t done, int64_t all)
{
    static const char *const name[PARTS] = {"clean", "attacked", "corrupted", "AutoAttack"};
    const struct measuring *m = ctx;
    double before = 0, sum = 0;

    for (int p = 0; p < PARTS; p++) {
        before += p < (int)m->part ? m->work[p] : 0;
        sum += m->work[p];
    }
    before += m->work[m->part] * (double)done / (double)(all > 0 ? all : 1);
    listener_progress(m->l, m->name, before / fmax(sum, 1), "%s %lld/%lld", name[m->part],
                      (long long)done, (long long)all);
    return listener_stops(m->l)
               ? fail(ERR_INTERRUPTED, "stopped in an evaluation; --resume repeats it")
               : 0;
}

/* Runs e and moves what it measured beside the clean accuracy into out. */
static int add_part(const struct summary_job *j, struct graph *g, const struct eval_options *e,
                    struct eval_result *out)
{
    OWNED struct eval_result *part = mem_array(1, sizeof *part);

    if (part == NULL)
        return ERR_NOMEM;
    TRY(eval_run(g, j->test, e, part));
    for (int32_t b = 0; b < out->n_branch; b++) {
        if (e->n_attack > 0) {
            memcpy(out->branch[b].attack, part->branch[b].attack, sizeof out->branch[b].attack);
            out->branch[b].n_attack = part->branch[b].n_attack;
            continue;
        }
        memcpy(out->branch[b].corruption, part->branch[b].corruption,
               sizeof out->branch[b].corruption);
        out->branch[b].n_corruption = part->branch[b].n_corruption;
        out->branch[b].corruption_mean = part->branch[b].corruption_mean;
    }
    return 0;
}

/* AutoAttack (fast) of the deployed branch, behind the attacks that it has already. */
static int measure_autoattack(const struct summary_job *j, struct graph *g, struct measuring *m,
                              struct eval_branch *b)
{
    struct eval_options e = {
        .seed = j->seed, .ctx = m, .progress = on_progress, .limit = j->n_autoattack, .n_specs = 1};
    OWNED struct attack_spec *spec = mem_array(1, sizeof *spec);
    OWNED struct eval_result *r = mem_array(1, sizeof *r);

    if (spec == NULL || r == NULL)
        return ERR_NOMEM;
    TRY(attack_spec_parse("autoattack:fast", spec));
    e.specs = spec;
    e.branch[b->branch] = true;
    m->part = AUTOATTACK;
    TRY(eval_run(g, j->test, &e, r));
    b->attack[b->n_attack++] = r->branch[0].attack[0];
    return 0;
}

static int measure_accuracy(const struct summary_job *j, struct graph *g, struct measuring *m,
                            struct eval_result *out)
{
    const struct pgd_params attack = pgd_defaults(PGD_STEPS);
    struct eval_options e = {.seed = j->seed, .ctx = m, .progress = on_progress};

    e.branch[0] = true;
    e.branch[1] = graph_branches(g) == 2;
    TRY(eval_run(g, j->test, &e, out));
    if (j->n_attack > 0) {
        e.limit = j->n_attack;
        e.attack = &attack;
        e.n_attack = 1;
        m->part = ATTACKED;
        TRY(add_part(j, g, &e, out));
        e.n_attack = 0;
    }
    if (j->n_corrupt > 0) {
        e.limit = j->n_corrupt;
        e.corruptions = CORRUPTIONS;
        e.severities = 1 << (SEVERITY - 1);
        m->part = CORRUPTED;
        TRY(add_part(j, g, &e, out));
    }
    return 0;
}

/* ---- private inference --------------------------------------------------------------------- */

/* Lowers the deployed branch, runs it in fixed point beside the float network, estimates its cost. */
static int measure_private(const struct summary_job *j, struct graph *g, struct summary *out)
{
    const struct lower_options o = {.n_pixels = min_i64(j->n_calib, j->calib->n),
                                    .read = source_read,
                                    .images = j->calib,
                                    .publish_slopes = true}; /* stays here */
    SCOPED(graph_free_at) struct graph *branch = NULL;
    SCOPED(plan_free_at) struct plan *plan = NULL;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;
    SCOPED(pi_close_at) struct pi_model *pi = NULL;
    struct package_check check;
    struct cost cost;

    TRY(graph_clone(g, &branch));
    TRY(pass_select_branch(branch, j->deployed));
    TRY(mask_simplify(branch));
    TRY(lower(branch, &o, &plan, &w));
    TRY(cost_estimate(plan, &(struct cost_case){0}, &cost));
    TRY(pi_prepare(plan, w, PI_FIXED, &pi));
    TRY(package_check_run(j->l, g, j->deployed, EXEC_FP32, pi, j->test, FIXED_IMAGES, &check));
    out->online_s = cost.online_seconds;
    out->n_fixed = check.n;
    out->agree = check.agree;
    return 0;
}

static int count_relus(const struct graph *g, int64_t *out)
{
    OWNED struct relu_site *site = NULL;
    int32_t n = 0;

    TRY(relu_sites(g, &site, &n));
    *out = 0;
    for (int32_t s = 0; s < n; s++)
        *out += site[s].kept;
    return 0;
}

int summary_measure(const struct summary_job *j, enum summary_column which, struct graph *g,
                    struct summary *out)
{
    const bool autoattack = which == SUMMARY_RESULT && j->n_autoattack > 0;
    struct measuring m = {.l = j->l, .name = summary_name((int)which)};
    int rc;

    out->names = model_branches(g);
    out->names.deployed = j->deployed;
    TRY(count_relus(g, &out->relus));
    plan_parts(&m, j, g, autoattack);
    listener_begin(j->l, m.name);
    rc = measure_accuracy(j, g, &m, &out->eval);
    if (rc == 0 && autoattack)
        rc = measure_autoattack(j, g, &m, &out->eval.branch[j->deployed]);
    listener_end(j->l, m.name);
    if (rc < 0)
        return rc;
    rc = measure_private(j, g, out);
    if (rc == ERR_UNSUPPORTED) { /* accuracy is still worth reporting */
        listener_note(j->l, "%s: no private inference: %s", m.name, err_message());
        out->online_s = -1;
        rc = 0;
    }
    return rc;
}

/* ---- output -------------------------------------------------------------------------------- */

json_t *summary_json(const char *model, const struct summary *s)
{
    json_t *o = eval_report_json(model, "test", &s->names, &s->eval);

    json_put(&o, "relus", json_integer((json_int_t)s->relus));
    if (s->n_fixed > 0)
        json_put(&o, "agreement", json_finite(100 * (double)s->agree / (double)s->n_fixed));
    if (s->online_s >= 0)
        json_put(&o, "pi_online_seconds", json_finite(s->online_s));
    return o;
}

struct cell {
    char text[32];
};

static struct cell score_cell(const struct eval_score *s)
{
    struct cell c = {"-"};

    if (s && s->n > 0)
        snprintf(c.text, sizeof c.text, "%.2f +-%.2f", 100 * s->accuracy, 50 * (s->hi - s->lo));
    return c;
}

static struct cell number_cell(bool known, const char *format, double v)
{
    struct cell c = {"-"};

    if (known)
        snprintf(c.text, sizeof c.text, format, v);
    return c;
}

static const struct eval_branch *branch_of(const struct summary *s, int branch)
{
    for (int32_t b = 0; b < s->eval.n_branch; b++)
        if (s->eval.branch[b].branch == branch)
            return &s->eval.branch[b];
    return NULL;
}

/* The score of the first attack whose name begins so; NULL if there is none. */
static const struct eval_score *attack_of(const struct eval_branch *b, const char *name)
{
    for (int32_t i = 0; i < b->n_attack; i++)
        if (strncmp(b->attack[i].spec.name, name, strlen(name)) == 0)
            return &b->attack[i].score;
    return NULL;
}

static void print_row(FILE *out, const char *name, const struct cell c[SUMMARY_COLUMNS])
{
    fprintf(out, "%-38s %15s %15s %15s\n", name, c[0].text, c[1].text, c[2].text);
}

/* "clean branch" of two; of one what it is called. */
static void print_branch(FILE *out, const struct summary *column, int branch)
{
    struct cell clean[SUMMARY_COLUMNS], bad[SUMMARY_COLUMNS], attacked[SUMMARY_COLUMNS];
    const char *name = branch == 1 ? "adv" : "clean";
    char row[64];

    for (int i = 0; i < SUMMARY_COLUMNS; i++) {
        const struct eval_branch *b = branch_of(&column[i], branch);

        if (i == SUMMARY_RESULT && b &&
            strcmp(column[i].names.name[branch], name) != 0) /* is the deployed file below */
            b = NULL;
        clean[i] = score_cell(b ? &b->clean : NULL);
        attacked[i] = score_cell(b ? attack_of(b, "pgd") : NULL);
        bad[i] = number_cell(b && b->n_corruption > 0, "%.2f",
                             b ? 100 * b->corruption_mean.accuracy : 0);
    }
    snprintf(row, sizeof row, "%s branch: clean %%", name);
    print_row(out, row, clean);
    snprintf(row, sizeof row, "%s branch: corrupted %%", name);
    print_row(out, row, bad);
    snprintf(row, sizeof row, "%s branch: PGD-20 %%", name);
    print_row(out, row, attacked);
}

/* The one file that users run, with all of its figures and no other's. */
static void print_deployed(FILE *out, const struct summary *s)
{
    const struct eval_branch *b = &s->eval.branch[s->names.deployed];

    fprintf(out, "\nDeployed file (branch %s): clean %s", s->names.name[s->names.deployed],
            score_cell(&b->clean).text);
    if (b->n_corruption > 0)
        fprintf(out, ", corrupted %.2f", 100 * b->corruption_mean.accuracy);
    if (attack_of(b, "pgd"))
        fprintf(out, ", PGD-20 %s", score_cell(attack_of(b, "pgd")).text);
    if (attack_of(b, "autoattack"))
        fprintf(out, ", AutoAttack fast %s (n %lld)", score_cell(attack_of(b, "autoattack")).text,
                (long long)attack_of(b, "autoattack")->n);
    fprintf(out, " %%\n");
}

void summary_print(FILE *out, const struct summary column[SUMMARY_COLUMNS])
{
    struct cell relus[SUMMARY_COLUMNS], fixed[SUMMARY_COLUMNS], online[SUMMARY_COLUMNS];
    const struct summary *result = &column[SUMMARY_RESULT];
    const struct eval_branch *r = &result->eval.branch[0];

    for (int i = 0; i < SUMMARY_COLUMNS; i++) {
        const struct summary *s = &column[i];

        relus[i] = number_cell(true, "%.0f", (double)s->relus);
        fixed[i] = number_cell(s->n_fixed > 0, "%.2f", 100 * (double)s->agree / (double)s->n_fixed);
        online[i] = number_cell(s->n_fixed > 0, "%.3f", s->online_s);
    }
    print_row(out, "", (struct cell[]){{"given"}, {"teacher"}, {"result"}});
    print_row(out, "ReLUs", relus);
    print_branch(out, column, 0);
    if (branch_of(result, 1) || branch_of(&column[SUMMARY_TEACHER], 1))
        print_branch(out, column, 1);
    print_row(out, "fixed point: equal labels %", fixed);
    print_row(out, "private inference, online s (estimate)", online);
    print_deployed(out, result);
    fprintf(
        out,
        "Test images: clean %lld; PGD-20 %lld (L-inf, eps 8/255, step 2/255, random start, one restart, loss CE, through the row's branch);\n"
        "corrupted %lld x (" CORRUPTIONS
        "), severity %d, re-implementation. +-: half of the 95 %% Wilson interval.\n"
        "Estimate: the deployed file, garbled ReLUs (gc), LAN 3 Gbit/s, 0.3 ms; trust model: semi-honest client and server.\n",
        (long long)r->clean.n, (long long)(attack_of(r, "pgd") ? attack_of(r, "pgd")->n : 0),
        (long long)(r->n_corruption > 0 ? r->corruption[0].score[SEVERITY - 1].n : 0), SEVERITY);
}
