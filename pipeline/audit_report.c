/* The gradient-masking audit: keys and lines. */
#include "pipeline/audit_report.h"

#include "core/base/json.h"
#include "pipeline/report.h"

#define CURVE_STEP 10

static json_t *counts_json(const int64_t *v, int n)
{
    json_t *list = json_array();

    for (int i = 0; i < n; i++)
        json_add(&list, json_integer((json_int_t)v[i]));
    return list;
}

static json_t *curve_json(const struct audit_result *r)
{
    json_t *list = json_array();

    for (int i = 0; i < AUDIT_CURVE; i++)
        json_add(&list, json_finite(r->curve[i]));
    return list;
}

static json_t *checks_json(const struct audit_result *r)
{
    json_t *list = json_array();

    for (int i = 0; i < AUDIT_CHECKS; i++)
        json_add(&list, json_pack("{s:s,s:b,s:s}", "name", r->check[i].name, "pass",
                                  r->check[i].pass, "detail", r->check[i].detail));
    return list;
}

json_t *audit_report_json(const struct audit_result *r)
{
    json_t *steps = json_array(),
           *transfer = r->transfer < 0 ? json_null() : json_integer((json_int_t)r->transfer);

    for (int i = 0; i < AUDIT_STEPS; i++)
        json_add(&steps, json_integer(audit_steps[i]));
    return json_pack("{s:I,s:I,s:I,s:f,s:i,s:o,s:o,s:o,s:I,s:I,s:I,s:o,s:o,s:o}", "n",
                     (json_int_t)r->n, "clean", (json_int_t)r->clean, "room", (json_int_t)r->room,
                     "eps", r->eps, "square_queries", (int)r->queries, "stand_by_eps_x_1_2_4_8",
                     counts_json(r->by_eps, AUDIT_EPS), "pgd_steps", steps, "stand_by_steps",
                     counts_json(r->by_steps, AUDIT_STEPS), "noise", (json_int_t)r->noise, "apgd",
                     (json_int_t)r->apgd, "square", (json_int_t)r->square, "transfer", transfer,
                     "apgd_loss", curve_json(r), "checks", checks_json(r));
}

void audit_report_print(FILE *out, const char *branch, const struct audit_result *r)
{
    fprintf(out, "audit of branch %s: %lld images, %lld correct when clean, eps %.6g\n", branch,
            (long long)r->n, (long long)r->clean, r->eps);
    for (int i = 0; i < AUDIT_CHECKS; i++)
        fprintf(out, "  %-4s  %-34s %s\n", r->check[i].pass ? "ok" : "LOOK", r->check[i].name,
                r->check[i].detail);
    fprintf(out, "  APGD loss, every %d steps:", CURVE_STEP);
    for (int i = 0; i < AUDIT_CURVE; i += CURVE_STEP)
        fprintf(out, " %.3f", r->curve[i]);
    fprintf(out, "\n");
}
