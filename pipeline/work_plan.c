/* The plan of a conversion; see work_plan.h. */
#include "pipeline/work_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/summary.h"

#define TRAIN 3.0 /* passes */
#define GRADIENT 2.0
#define PGD_STEPS 20.0 /* of the tables */
#define CORRUPT_TYPES 4.0

static ERR_PRINTF(4, 5) void add(struct work_plan *p, const char *task, double work,
                                 const char *fmt, ...)
{
    va_list ap;

    if (p->n >= WORK_PLAN_MOST)
        return;
    va_start(ap, fmt);
    vsnprintf(p->text[p->n], WORK_PLAN_TEXT, fmt, ap);
    va_end(ap);
    p->stage[p->n] = (struct linnet_stage){task, p->text[p->n], work};
    p->n++;
}

/* One epoch: the domains, the attack, the teacher's outputs; then the validation. */
static double epoch_work(const struct recipe *r, enum recipe_stage s, const struct work_images *n)
{
    const double domains = 1 + (strcmp(r->augment, "none") != 0) + (r->adversarial != 0);
    const double steps = r->adversarial ? (double)r->attack_steps : 0;
    const double image = domains * (TRAIN + (s != STAGE_TEACHER)) + steps * GRADIENT;
    const double attacked = (double)(r->val_attack_images < n->val ? r->val_attack_images : n->val);

    return image * (double)n->train + (double)n->val + steps * GRADIENT * attacked;
}

static void add_training(struct work_plan *p, const struct recipe *r, enum recipe_stage s,
                         const struct work_images *n, const char *what, const char *prefix)
{
    const int64_t epochs = recipe_epochs(r, s, n->train);
    char attacked[64] = "";

    if (r->adversarial) /* the student of --deploy single has a radius of its own */
        snprintf(attacked, sizeof attacked, ", %s (eps %.4g/255)",
                 recipe_attacked_alone(r, s) ? "attacked ones alone" : "with attacked ones",
                 255 * recipe_eps(r, s));
    if (epochs > 0)
        add(p, recipe_stage_name(s), (double)epochs * epoch_work(r, s, n),
            "%s%s: %lld %s of %lld images%s", prefix, what, (long long)epochs,
            epochs == 1 ? "epoch" : "epochs", (long long)n->train, attacked);
}

static void add_evaluation(struct work_plan *p, const struct linearize_options *o, int column,
                           const struct work_images *n, const char *what, const char *prefix)
{
    const double branches = o->r.adversarial && column != SUMMARY_GIVEN ? 2 : 1;
    const double attacked =
                     (double)(o->eval_attack_images < n->test ? o->eval_attack_images : n->test),
                 corrupted =
                     (double)(o->eval_corrupt_images < n->test ? o->eval_corrupt_images : n->test);

    add(p, summary_name(column),
        branches * ((double)n->test + attacked * PGD_STEPS * GRADIENT + corrupted * CORRUPT_TYPES),
        "%s%s: test images clean, attacked and corrupted", prefix, what);
}

void work_plan_add(struct work_plan *p, const struct linearize_options *o,
                   const struct work_images *images, bool brief, const char *prefix)
{
    const struct recipe_stage_settings *s = o->r.stage;
    const bool student = o->stages == NULL || s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs > 0;

    if (!brief)
        add_evaluation(p, o, SUMMARY_GIVEN, images, "evaluates the model as it is", prefix);
    add_training(p, &o->r, STAGE_TEACHER, images, "trains a robust teacher with all ReLUs", prefix);
    if (student) {
        add_training(p, &o->r, STAGE_MASK, images, "chooses the ReLUs that stay", prefix);
        add_training(p, &o->r, STAGE_FINETUNE, images, "trains the network that is left", prefix);
    }
    if (!brief)
        add_evaluation(p, o, SUMMARY_TEACHER, images, "evaluates the teacher", prefix);
    if (student)
        add_evaluation(p, o, SUMMARY_RESULT, images, "evaluates the result, exports it", prefix);
}

void work_plan_add_budgets(struct work_plan *p, const struct linearize_options *o,
                           const struct work_images *images, const char *list)
{
    struct linearize_options part = *o;
    char prefix[64];

    part.stages = NULL;
    part.r.stage[STAGE_TEACHER].epochs = 0;
    while (*list != '\0') {
        const size_t n = strcspn(list, ",");

        snprintf(prefix, sizeof prefix, "budget %.*s: ", (int)n, list);
        work_plan_add(p, &part, images, true, prefix);
        list += n + (list[n] == ',');
    }
}
