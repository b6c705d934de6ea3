/* Evaluation results: keys and units of cli.md. */
#include "cli/eval_report.h"

#include "cli/cli.h"

const char *eval_report_branch(int bank)
{
    return bank == 1 ? "adv" : "clean";
}

/* Adds accuracy, ci95 and n to obj (stolen), percent. */
static json_t *with_score(json_t *obj, const struct eval_score *s)
{
    json_object_set_new(obj, "accuracy", cli_json_real(100 * s->accuracy));
    json_object_set_new(obj, "ci95",
                        json_pack("[o,o]", cli_json_real(100 * s->lo), cli_json_real(100 * s->hi)));
    json_object_set_new(obj, "n", json_integer((json_int_t)s->n));
    return obj;
}

static json_t *attacks_json(const struct eval_branch *b)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < b->n_attack; i++) {
        const struct eval_attack *a = &b->attack[i];
        json_t *p =
            json_pack("{s:f,s:f,s:i,s:i,s:s,s:s,s:s}", "eps", a->pgd.eps, "alpha", a->pgd.alpha,
                      "steps", (int)a->pgd.steps, "restarts", (int)a->pgd.restarts, "start",
                      a->pgd.random_start ? "random" : "clean", "loss", "ce", "norm", "linf");
        json_t *o = json_pack("{s:s,s:o}", "name", a->name, "parameters", p);

        json_array_append_new(list, with_score(o, &a->score));
    }
    return list;
}

static json_t *corruptions_json(const struct eval_branch *b)
{
    json_t *types = json_object(), *severities = json_object();

    for (int32_t i = 0; i < b->n_corruption; i++) {
        double sum = 0;
        int n = 0;

        for (int s = 0; s < 5; s++)
            if (b->corruption[i].score[s].n > 0) {
                sum += b->corruption[i].score[s].accuracy;
                n++;
            }
        json_object_set_new(types, b->corruption[i].type, cli_json_real(n ? 100 * sum / n : 0));
    }
    for (int s = 0; s < 5; s++) {
        const char key[2] = {(char)('1' + s), '\0'};
        double sum = 0;
        int n = 0;

        for (int32_t i = 0; i < b->n_corruption; i++)
            if (b->corruption[i].score[s].n > 0) {
                sum += b->corruption[i].score[s].accuracy;
                n++;
            }
        if (n > 0)
            json_object_set_new(severities, key, cli_json_real(100 * sum / n));
    }
    return json_pack("{s:o,s:o,s:o,s:s}", "mean", cli_json_real(100 * b->corruption_mean),
                     "per_type", types, "per_severity", severities, "source", "re-implementation");
}

json_t *eval_report_json(const char *model, const char *split, int deployed,
                         const struct eval_result *r)
{
    json_t *branches = json_array();

    for (int32_t i = 0; i < r->n_branch; i++) {
        const struct eval_branch *b = &r->branch[i];
        json_t *o = json_pack("{s:s,s:b,s:o,s:o}", "name", eval_report_branch(b->bank), "deployed",
                              b->bank == deployed, "clean", with_score(json_object(), &b->clean),
                              "attacks", attacks_json(b));

        if (b->n_corruption > 0)
            json_object_set_new(o, "corruptions", corruptions_json(b));
        json_array_append_new(branches, o);
    }
    return json_pack("{s:s,s:s,s:I,s:s,s:o}", "format", "linnet.eval/1", "model", model, "n",
                     (json_int_t)r->n, "split", split, "branches", branches);
}

static void print_score(FILE *out, const char *name, const struct eval_score *s)
{
    fprintf(out, "  %-34s %6.2f %%   [%5.2f, %5.2f]   n %lld\n", name, 100 * s->accuracy,
            100 * s->lo, 100 * s->hi, (long long)s->n);
}

static void print_branch(FILE *out, const struct eval_branch *b, bool deployed)
{
    char name[PGD_TEXT + 8];

    fprintf(out, "branch %s%s\n", eval_report_branch(b->bank), deployed ? " (deployed)" : "");
    print_score(out, "clean", &b->clean);
    for (int32_t i = 0; i < b->n_attack; i++) {
        char text[PGD_TEXT];

        print_score(out, b->attack[i].name, &b->attack[i].score);
        fprintf(out, "      %s\n", pgd_text(&b->attack[i].pgd, text));
    }
    for (int32_t i = 0; i < b->n_corruption; i++)
        for (int s = 0; s < 5; s++)
            if (b->corruption[i].score[s].n > 0) {
                snprintf(name, sizeof name, "%s, severity %d", b->corruption[i].type, s + 1);
                print_score(out, name, &b->corruption[i].score[s]);
            }
    if (b->n_corruption > 0)
        fprintf(out, "  %-34s %6.2f %%   (re-implementation, %d types)\n", "corrupted, mean",
                100 * b->corruption_mean, (int)b->n_corruption);
}

void eval_report_print(FILE *out, const char *model, const char *split, int deployed,
                       const struct eval_result *r)
{
    fprintf(out, "%s, %s images\n", model, split);
    for (int32_t i = 0; i < r->n_branch; i++)
        print_branch(out, &r->branch[i], r->branch[i].bank == deployed);
}
