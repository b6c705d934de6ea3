/* Evaluation results: linnet.eval/1, and a table. */
#include "pipeline/eval_report.h"

#include <string.h>

#include "core/base/json.h"
#include "pipeline/report.h"

/* Adds accuracy, ci95 and n to obj (stolen), percent. */
static json_t *with_score(json_t *obj, const struct eval_score *s)
{
    json_put(&obj, "accuracy", json_finite(100 * s->accuracy));
    json_put(&obj, "ci95", json_pack("[o,o]", json_finite(100 * s->lo), json_finite(100 * s->hi)));
    json_put(&obj, "n", json_integer((json_int_t)s->n));
    return obj;
}

/* Adds the parameters of a stage to obj. */
static void put_parameters(json_t **obj, const struct attack_stage *s)
{
    struct attack_value v;

    for (int32_t i = 0; attack_stage_value(s, i, &v); i++)
        json_put(obj, v.key,
                 v.word    ? json_string(v.word)
                 : v.whole ? json_integer((json_int_t)v.number)
                           : json_real(v.number));
}

/* One stage: its parameters; several: their list with what stands after each. */
static json_t *parameters_json(const struct eval_attack *a)
{
    json_t *p = json_pack("{s:s}", "norm", "linf"), *stages = json_array();

    if (a->spec.n_stage == 1) {
        if (a->spec.stage[0].kind == ATTACK_PGD)
            json_put(&p, "loss", json_string("ce"));
        put_parameters(&p, &a->spec.stage[0]);
        json_decref(stages);
        return p;
    }
    for (int32_t i = 0; i < a->spec.n_stage; i++) {
        json_t *s = json_pack("{s:s,s:o}", "name", attack_kind_name(a->spec.stage[i].kind),
                              "robust_after", json_integer((json_int_t)a->robust_after[i]));
        put_parameters(&s, &a->spec.stage[i]);
        json_add(&stages, s);
    }
    json_put(&p, "eps", json_real(a->spec.stage[0].eps));
    json_put(&p, "version",
             json_string(strcmp(a->spec.name, "autoattack") == 0 ? "standard" : "fast"));
    json_put(&p, "stages", stages);
    return p;
}

/* Accuracy of all, and by class: null for one without images; no list where there are too many. */
static json_t *clean_json(const struct eval_branch *b)
{
    json_t *o = with_score(json_object(), &b->clean), *list = json_array();

    for (int32_t k = 0; k < b->n_class; k++)
        json_add(&list, b->class_n[k] > 0 ? json_finite(100.0 * b->class_correct[k] / b->class_n[k])
                                          : json_null());
    if (b->n_class > 0)
        json_put(&o, "per_class", list);
    else
        json_decref(list);
    return o;
}

static json_t *attacks_json(const struct eval_branch *b)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < b->n_attack; i++) {
        const struct eval_attack *a = &b->attack[i];
        json_t *o = json_pack("{s:s,s:o}", "name", a->spec.name, "parameters", parameters_json(a));

        json_add(&list, with_score(o, &a->score));
    }
    return list;
}

/* The signs of a misled attack that were seen, as words. */
static void each_flag(const struct eval_branch *b, void (*say)(void *ctx, const char *text),
                      void *ctx)
{
    const struct attack_flags *f = &b->flags;
    char text[96];

    if (f->randomised)
        say(ctx, "randomised: outputs differ between passes");
    if (f->probabilities)
        say(ctx, "probabilities: outputs look like a softmax, attacks want logits");
    if (f->zero_gradients > 0) {
        snprintf(text, sizeof text, "zero gradient: %lld of %lld images have no input gradient",
                 (long long)f->zero_gradients, (long long)f->n);
        say(ctx, text);
    }
    for (int32_t i = 0; i < b->n_attack; i++)
        if (b->attack[i].square_gains)
            say(ctx, "square gain: Square breaks more than 0.2 points beyond the gradient attacks");
    if (f->no_dlr)
        say(ctx, "classes: fewer than 3, no DLR loss");
    else if (f->no_targeted_dlr)
        say(ctx, "classes: fewer than 4, no targeted DLR loss");
}

static void append_flag(void *ctx, const char *text)
{
    json_add(ctx, json_string(text));
}

static void print_flag(void *ctx, const char *text)
{
    fprintf(ctx, "  flag: %s\n", text);
}

/* Mean of the severities that were run; NULL where none was. */
static json_t *row_mean(const struct eval_corruption *c)
{
    double sum = 0;
    int n = 0;

    for (int s = 0; s < 5; s++)
        if (c->score[s].n > 0) {
            sum += c->score[s].accuracy;
            n++;
        }
    return n > 0 ? json_finite(100 * sum / n) : json_null();
}

/* Of the types that were run at a severity, if any were. */
static void put_column_mean(json_t **o, const struct eval_branch *b, int severity)
{
    const char key[2] = {(char)('1' + severity), '\0'};
    double sum = 0;
    int n = 0;

    for (int32_t i = 0; i < b->n_corruption; i++)
        if (b->corruption[i].score[severity].n > 0) {
            sum += b->corruption[i].score[severity].accuracy;
            n++;
        }
    if (n > 0)
        json_put(o, key, json_finite(100 * sum / n));
}

static json_t *row_json(const struct eval_corruption *c)
{
    json_t *row = json_array();

    for (int s = 0; s < 5; s++)
        json_add(&row, c->score[s].n > 0 ? json_finite(100 * c->score[s].accuracy) : json_null());
    return row;
}

static json_t *corruptions_json(const struct eval_branch *b)
{
    const struct eval_score *mean = &b->corruption_mean;
    json_t *types = json_object(), *severities = json_object(), *all = json_object();

    for (int32_t i = 0; i < b->n_corruption; i++) {
        json_put(&all, b->corruption[i].type, row_json(&b->corruption[i]));
        json_put(&types, b->corruption[i].type, row_mean(&b->corruption[i]));
    }
    for (int s = 0; s < 5; s++)
        put_column_mean(&severities, b, s);
    return json_pack(
        "{s:o,s:[o,o],s:I,s:o,s:o,s:o,s:i,s:s}", "mean", json_finite(100 * mean->accuracy), "ci95",
        json_finite(100 * mean->lo), json_finite(100 * mean->hi), "n", (json_int_t)mean->n,
        "per_type", types, "per_severity", severities, "per_type_severity", all, "types",
        (int)b->n_corruption, "source", b->corruption_files ? "files" : "re-implementation");
}

json_t *eval_report_json(const char *model, const char *split, const struct model_branches *names,
                         const struct eval_result *r)
{
    json_t *branches = json_array();

    for (int32_t i = 0; i < r->n_branch; i++) {
        const struct eval_branch *b = &r->branch[i];
        json_t *o = json_pack("{s:s,s:b,s:o,s:o}", "name", names->name[b->branch], "deployed",
                              b->branch == names->deployed, "clean", clean_json(b), "attacks",
                              attacks_json(b));

        if (b->flags.n > 0) {
            json_t *flags = json_array();
            each_flag(b, append_flag, &flags);
            json_put(&o, "flags", flags);
        }
        if (b->n_corruption > 0)
            json_put(&o, "corruptions", corruptions_json(b));
        json_add(&branches, o);
    }
    return json_pack("{s:s,s:o,s:I,s:s,s:s,s:s,s:o}", "format", "linnet.eval/1", "model",
                     json_text(model), "n", (json_int_t)r->n, "split", split, "precision",
                     exec_precision_name(r->precision), "attack_precision",
                     exec_precision_name(r->attacks), "branches", branches);
}

static void print_score(FILE *out, const char *name, const struct eval_score *s)
{
    fprintf(out, "  %-34s %6.2f %%   [%5.2f, %5.2f]   n %lld\n", name, 100 * s->accuracy,
            100 * s->lo, 100 * s->hi, (long long)s->n);
}

static void print_attack(FILE *out, const struct eval_attack *a)
{
    char text[ATTACK_TEXT];

    print_score(out, a->spec.name, &a->score);
    for (int32_t s = 0; s < a->spec.n_stage; s++) {
        fprintf(out, "      %s", attack_stage_text(&a->spec.stage[s], text));
        if (a->spec.n_stage > 1)
            fprintf(out, "   %lld stand", (long long)a->robust_after[s]);
        fprintf(out, "\n");
    }
}

static void print_branch(FILE *out, const struct eval_branch *b, const struct model_branches *names)
{
    char name[80];

    fprintf(out, "branch %s%s\n", names->name[b->branch],
            b->branch == names->deployed ? " (deployed)" : "");
    print_score(out, "clean", &b->clean);
    for (int32_t i = 0; i < b->n_attack; i++)
        print_attack(out, &b->attack[i]);
    each_flag(b, print_flag, out);
    for (int32_t i = 0; i < b->n_corruption; i++)
        for (int s = 0; s < 5; s++)
            if (b->corruption[i].score[s].n > 0) {
                snprintf(name, sizeof name, "%s, severity %d", b->corruption[i].type, s + 1);
                print_score(out, name, &b->corruption[i].score[s]);
            }
    if (b->n_corruption > 0) {
        snprintf(name, sizeof name, "corrupted, mean of %d type%s", (int)b->n_corruption,
                 b->n_corruption == 1 ? "" : "s");
        print_score(out, name, &b->corruption_mean);
        fprintf(out, "      %s; the interval is that of its images\n",
                b->corruption_files ? "files" : "re-implementation");
    }
}

void eval_report_print(FILE *out, const char *model, const char *split,
                       const struct model_branches *names, const struct eval_result *r)
{
    const bool same = r->precision == r->attacks;

    fprintf(out, "%s, %s images, %s%s\n", model, split, exec_precision_name(r->precision),
            same ? "" : ", attacks fp32");
    for (int32_t i = 0; i < r->n_branch; i++)
        print_branch(out, &r->branch[i], names);
}
