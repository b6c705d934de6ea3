/*
 * The report page (page.h). Sections in reading order, each a function: verdict, table of files, what is
 * kept per layer, maps of kept positions, training curves, private inference, corruptions, how to repeat
 * it, the JSON itself. style.inc holds the style sheet and the one script, which only moves the link
 * slider; without it the page shows the same tables.
 *
 * Colours are those of Okabe and Ito, which colour-blind readers tell apart; bars and curves differ in
 * pattern as well.
 */
#include "pipeline/page/page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"
#include "core/base/version.h"
#include "pipeline/page/html.h"
#include "pipeline/page/run.h"
#include "pipeline/page/sections.h"

static const char style[] =
#include "pipeline/page/style.inc"
    ;

/* ---- numbers of an evaluation --------------------------------------------------------------- */

static double accuracy(const json_t *score)
{
    return page_number(score, "accuracy");
}

static const json_t *attack_named(const json_t *branch, const char *prefix)
{
    size_t i;
    json_t *a;

    json_array_foreach(json_object_get(branch, "attacks"), i, a)
    {
        const char *name = page_text(a, "name");
        if (name != NULL && strncmp(name, prefix, strlen(prefix)) == 0)
            return a;
    }
    return NULL;
}

/* A cell of numbers; label: what a phone shows before it, where the table has no room for a head. */
static void open_cell(struct html *h, const char *label)
{
    html_put(h, "<td class=n");
    if (label != NULL)
        html_put(h, " data-l=\"%s\"", label);
    html_put(h, ">");
}

/* "91.73 +-0.54": half of the interval. */
static void put_score(struct html *h, const char *label, const json_t *score)
{
    const json_t *ci = json_object_get(score, "ci95");
    const double half = (page_value(json_array_get(ci, 1)) - page_value(json_array_get(ci, 0))) / 2;

    open_cell(h, label);
    if (isnan(accuracy(score)))
        html_put(h, "-</td>");
    else
        html_put(h, "%.2f <small>&plusmn;%.2f</small></td>", accuracy(score), half);
}

static void put_labelled(struct html *h, const char *label, const char *format, double v)
{
    open_cell(h, label);
    if (isnan(v))
        html_put(h, "-");
    else
        html_put(h, format, v);
    html_put(h, "</td>");
}

static void put_number(struct html *h, const char *format, double v)
{
    put_labelled(h, NULL, format, v);
}

/* ---- first screen --------------------------------------------------------------------------- */

static const char *deployed_branch(const json_t *eval)
{
    size_t i;
    json_t *b;

    json_array_foreach(json_object_get(eval, "branches"), i, b)
    {
        if (json_is_true(json_object_get(b, "deployed")))
            return page_text(b, "name");
    }
    return "clean";
}

static void put_file_row(struct html *h, const char *file, const json_t *eval, const json_t *branch,
                         bool deployed)
{
    html_put(h, "<tr%s><th>%s%s</th><td data-l=\"BN branch\">%s</td>",
             deployed ? " class=deployed" : "", html_escape(h, file),
             deployed ? " <small>deployed</small>" : "", html_escape(h, page_text(branch, "name")));
    open_cell(h, "ReLUs");
    html_put(h, "%s</td>", html_grouped(h, page_number(eval, "relus")));
    put_score(h, "clean %", json_object_get(branch, "clean"));
    put_labelled(h, "corrupted %", "%.2f",
                 page_number(json_object_get(branch, "corruptions"), "mean"));
    put_score(h, "PGD-20 %", attack_named(branch, "pgd"));
    put_score(h, "AutoAttack %", attack_named(branch, "autoattack"));
    put_labelled(h, "fixed point %", "%.1f", page_number(eval, "agreement"));
    html_put(h, "</tr>\n");
}

static void put_eval_rows(struct html *h, const char *what, const json_t *eval, bool result)
{
    size_t i;
    json_t *b;

    json_array_foreach(json_object_get(eval, "branches"), i, b)
        put_file_row(h, what, eval, b, result && json_is_true(json_object_get(b, "deployed")));
}

/* Kept positions that take two ReLU evaluations. */
static bool has_relu6(const json_t *budget)
{
    return page_number(budget, "evaluations") > page_number(budget, "kept");
}

#define MUCH 10.0 /* points that a reader wants to have explained */

/* Guessing gives 100 / classes; three standard deviations and two points above it are not told apart. */
static bool is_chance(const json_t *score)
{
    const double n = page_number(score, "n");
    const double p = 1.0 / (double)json_array_size(json_object_get(score, "per_class"));

    return n > 0 && p < 1 && accuracy(score) < 100 * (p + 3 * sqrt(p * (1 - p) / n)) + 2;
}

/* What a reader may do about a result that is far below what was given. */
static void put_hint(struct html *h, const json_t *score, double before)
{
    const double lost = before - accuracy(score);

    if (is_chance(score))
        html_put(
            h,
            "<p><b>That is about what guessing one of %zu classes gives.</b> More training "
            "(<code>--preset short</code> or <code>paper</code>, all images) or more ReLUs help.</p>\n",
            json_array_size(json_object_get(score, "per_class")));
    else if (lost > MUCH)
        html_put(
            h,
            "<p>It lost %.1f points of clean accuracy: more training (<code>--preset short</code> "
            "or <code>paper</code>, all images) or more ReLUs get some of them back.</p>\n",
            lost);
}

static void put_verdict(struct html *h, const struct page_run *r)
{
    const json_t *budget = json_object_get(r->report, "budget");
    const json_t *given = json_object_get(r->report, "given");
    const json_t *result = json_object_get(r->report, "result");
    const char *branch = deployed_branch(result);
    const json_t *b = page_branch(result, branch);
    const double kept = page_number(budget, "kept");
    const double total = page_number(budget, "total");
    const double before = accuracy(json_object_get(page_branch(given, "clean"), "clean"));
    const double after = accuracy(json_object_get(b, "clean"));
    const double pgd = accuracy(attack_named(b, "pgd"));

    if (!(total > 0))
        return;
    html_put(h, "<p class=verdict>The deployed file keeps <b>%s of %s ReLUs</b> (%.1f %%)",
             html_grouped(h, kept), html_grouped(h, total), 100 * kept / total);
    if (has_relu6(budget))
        html_put(h, ", a private inference takes <b>%s ReLU evaluations</b>, two for a ReLU6",
                 html_grouped(h, page_number(budget, "evaluations")));
    if (!isnan(after))
        html_put(h, ". Clean accuracy: <b>%.2f %%</b>", after);
    if (!isnan(after) && !isnan(before)) /* a sweep tells of the given file once, at its top */
        html_put(h, ", %.2f %% as given", before);
    if (!isnan(pgd))
        html_put(h, ". Under PGD-20: <b>%.2f %%</b>", pgd);
    html_put(h, ", through its BN branch <b>%s</b>.</p>\n", html_escape(h, branch));
    page_put_query(h, r->folder);
    put_hint(h, json_object_get(b, "clean"), before);
}

/* A note of the report begins small, as messages do. */
static void put_sentence(struct html *h, const char *text)
{
    if (text != NULL && text[0] >= 'a' && text[0] <= 'z')
        html_put(h, " %c%s.", text[0] - 'a' + 'A', html_escape(h, text + 1));
    else
        html_put(h, " %s.", html_escape(h, text));
}

static void put_notes(struct html *h, const struct page_run *r)
{
    const json_t *result = json_object_get(r->report, "result");
    const json_t *b = page_branch(result, deployed_branch(result));
    const json_t *pgd = attack_named(b, "pgd"), *bad = json_object_get(b, "corruptions");
    const json_t *p = json_object_get(pgd, "parameters");
    size_t i;
    json_t *note;

    html_put(
        h,
        "<p class=fine>Each row is one file; all its figures are that file's. Per cent of test "
        "images, &plusmn; half of the 95 %% Wilson interval. Clean: n %s.",
        html_grouped(h, page_number(json_object_get(b, "clean"), "n")));
    if (pgd != NULL)
        html_put(h, " PGD: L-infinity, eps %.3g/255, %.0f steps, n %s.",
                 255 * page_number(p, "eps"), page_number(p, "steps"),
                 html_grouped(h, page_number(pgd, "n")));
    if (bad != NULL)
        html_put(h, " Corrupted: mean of %.0f types, %s, n %s.", page_number(bad, "types"),
                 html_escape(h, page_text(bad, "source")), html_grouped(h, page_number(bad, "n")));
    html_put(h, " Fixed point: share of images with the float network's label.");
    json_array_foreach(json_object_get(r->report, "notes"), i, note)
        put_sentence(h, json_string_value(note));
    html_put(h, "</p>\n");
}

static void open_table(struct html *h)
{
    html_put(
        h,
        "<div class=wide><table class=files><thead><tr><th>file</th><th>BN branch</th><th class=n>ReLUs</th>"
        "<th class=n>clean %%</th><th class=n>corrupted %%</th><th class=n>PGD-20 %%</th><th class=n>AutoAttack %%</th>"
        "<th class=n>fixed point %%</th></tr></thead><tbody>\n");
}

/* What the row of the teacher shows: it may come from a file, or be the given network. */
static const char *teacher_name(const json_t *report)
{
    const json_t *recipe = json_object_get(json_object_get(report, "config"), "recipe");
    const char *adversarial = page_text(recipe, "adversarial");
    const char *file = page_text(json_object_get(report, "teacher"), "model");
    size_t i;
    json_t *s;

    json_array_foreach(json_object_get(report, "stages"), i, s)
    {
        const char *stage = page_text(s, "name");
        if (stage != NULL && strcmp(stage, "teacher") == 0)
            return adversarial != NULL && strcmp(adversarial, "on") == 0 ? "robust teacher"
                                                                         : "teacher";
    }
    return file != NULL && strcmp(file, "teacher.safetensors") != 0 ? "teacher"
                                                                    : "teacher (not trained)";
}

static void put_first_screen(struct html *h, const struct page_run *r)
{
    put_verdict(h, r);
    open_table(h);
    put_eval_rows(h, "given", json_object_get(r->report, "given"), false);
    put_eval_rows(h, teacher_name(r->report), json_object_get(r->report, "teacher"), false);
    put_eval_rows(h, "result", json_object_get(r->report, "result"), true);
    html_put(h, "</tbody></table></div>\n");
    put_notes(h, r);
}

/* ---- per layer ------------------------------------------------------------------------------ */

static void put_layers(struct html *h, const struct page_run *r)
{
    const json_t *budget = json_object_get(r->report, "budget");
    const json_t *layers = json_object_get(budget, "layers");
    const bool two = has_relu6(budget);
    double most = 1;
    size_t i;
    json_t *l;

    json_array_foreach(layers, i, l) most = fmax(most, page_number(l, "total"));
    html_put(
        h,
        "<h2>ReLUs kept per layer</h2>\n<table class=bars><thead><tr><th>layer</th>"
        "<th class=n>kept</th><th class=\"n of\">of</th><th class=n>share</th>%s<th></th></tr></thead><tbody>\n",
        two ? "<th class=n>evaluations</th>" : "");
    json_array_foreach(layers, i, l)
    {
        const double total = page_number(l, "total");
        const double kept = page_number(l, "kept");

        html_put(
            h,
            "<tr><th>%s</th><td class=n>%s</td><td class=\"n of\">%s</td><td class=n>%.1f %%</td>",
            html_escape(h, page_text(l, "name")), html_grouped(h, kept), html_grouped(h, total),
            100 * kept / total);
        if (two)
            html_put(h, "<td class=n>%s</td>", html_grouped(h, page_number(l, "evaluations")));
        html_put(h,
                 "<td><svg viewBox=\"0 0 400 14\" role=img aria-label=\"%.0f of %.0f\">"
                 "<rect class=rest width=\"%.1f\" height=14 /><rect class=kept width=\"%.1f\" "
                 "height=14 /></svg></td></tr>\n",
                 kept, total, 400 * total / most, 400 * kept / most);
    }
    html_put(h, "</tbody></table>\n");
}

/* ---- maps ----------------------------------------------------------------------------------- */

#define MAP_SIDE 32 /* larger maps are averaged down to this */

/* Share of kept channels at each place, 0 black to 255 white; maps [C,H,W] or vectors [K]. */
static void put_map(struct html *h, const char *layer, const struct st_tensor *t)
{
    const int64_t c = t->rank == 3 ? t->dim[0] : 1, rows = t->rank == 3 ? t->dim[1] : 1;
    const int64_t columns = t->rank == 3 ? t->dim[2] : t->dim[0];
    const int64_t down_y = (rows + MAP_SIDE - 1) / MAP_SIDE;
    const int64_t down_x = (columns + MAP_SIDE - 1) / MAP_SIDE;
    const int32_t out_y = (int32_t)((rows + down_y - 1) / down_y);
    const int32_t out_x = (int32_t)((columns + down_x - 1) / down_x);
    const float *mask = t->data;
    double sum[MAP_SIDE * MAP_SIDE] = {0}, count[MAP_SIDE * MAP_SIDE] = {0}, kept = 0;
    uint8_t pixel[MAP_SIDE * MAP_SIDE];

    for (int64_t k = 0; k < c * rows * columns; k++) {
        const int64_t at = k / columns % rows / down_y * out_x + k % columns / down_x;
        sum[at] += mask[k] > 0.5f;
        count[at] += 1;
        kept += mask[k] > 0.5f;
    }
    for (int32_t i = 0; i < out_y * out_x; i++)
        pixel[i] = (uint8_t)lrint(255 * sum[i] / count[i]);
    html_put(h, "<figure><img alt=\"%s: share of channels whose ReLU is kept at each place\" ",
             html_escape(h, layer));
    html_put_png(h, pixel, out_y, out_x);
    html_put(
        h,
        "><figcaption>%s<br><small>%lld x %lld x %lld, %.1f %% kept</small></figcaption></figure>\n",
        html_escape(h, layer), (long long)c, (long long)rows, (long long)columns,
        100 * kept / (double)(c * rows * columns));
}

static bool is_map(const struct st_tensor *t)
{
    return t->dtype == ST_F32 && t->count > 0 && (t->rank == 3 || t->rank == 1);
}

/* In the order of the layers; the mask of layer L is the checkpoint's tensor "mask:L.mask". */
static void put_maps(struct html *h, const struct page_run *r)
{
    bool any = false;
    char name[512];
    size_t i;
    json_t *l;

    if (r->checkpoint == NULL)
        return;
    json_array_foreach(json_object_get(json_object_get(r->report, "budget"), "layers"), i, l)
    {
        const char *layer = page_text(l, "name");
        const struct st_tensor *t;
        if (layer == NULL ||
            (size_t)snprintf(name, sizeof name, "mask:%s.mask", layer) >= sizeof name ||
            (t = st_find(r->checkpoint, name)) == NULL || !is_map(t))
            continue;
        if (!any)
            html_put(
                h, "<h2>Where the ReLUs are</h2>\n<p class=fine>One image per layer: white where "
                   "all channels keep their ReLU, black where none does.</p>\n<div class=maps>\n");
        any = true;
        put_map(h, layer, t);
    }
    if (any)
        html_put(h, "</div>\n");
}

/* The end of a row: accuracies of the given file and of the result, and a bar for it. */
static void put_given_result(struct html *h, const json_t *given, const json_t *result)
{
    put_number(h, "%.2f", page_value(given));
    put_number(h, "%.2f", page_value(result));
    html_put(
        h,
        "<td><svg viewBox=\"0 0 200 14\" aria-hidden=true><rect class=rest width=200 height=14 />"
        "<rect class=kept width=\"%.1f\" height=14 /></svg></td></tr>\n",
        isnan(page_value(result)) ? 0 : 2 * page_value(result));
}

/* ---- corruptions ---------------------------------------------------------------------------- */

static void put_corruptions(struct html *h, const struct page_run *r)
{
    const json_t *result = json_object_get(r->report, "result");
    const json_t *given = json_object_get(r->report, "given");
    const json_t *mine =
        json_object_get(page_branch(result, deployed_branch(result)), "corruptions");
    const json_t *before = json_object_get(page_branch(given, "clean"), "corruptions");
    const char *type;
    json_t *v;

    if (mine == NULL)
        return;
    html_put(
        h,
        "<h2>Corruptions</h2>\n<table><thead><tr><th>type</th><th class=n>given %%</th><th class=n>result %%</th>"
        "<th></th></tr></thead><tbody>\n");
    json_object_foreach(json_object_get((json_t *)mine, "per_type"), type, v)
    {
        html_put(h, "<tr><th>%s</th>", html_escape(h, type));
        put_given_result(h, json_object_get(json_object_get(before, "per_type"), type), v);
    }
    html_put(h, "</tbody></table>\n");
}

/* ---- classes ---------------------------------------------------------------------------------- */

static void put_classes(struct html *h, const struct page_run *r)
{
    const json_t *given =
        json_object_get(page_branch(json_object_get(r->report, "given"), "clean"), "clean");
    const json_t *result = json_object_get(r->report, "result");
    const json_t *mine = json_object_get(page_branch(result, deployed_branch(result)), "clean");
    const json_t *before = json_object_get(given, "per_class");
    const json_t *after = json_object_get(mine, "per_class");
    const json_t *names = json_object_get(r->report, "class_names");
    size_t k;
    json_t *v;

    if (json_array_size(after) == 0)
        return;
    html_put(
        h,
        "<h2>Classes</h2>\n<p class=fine>Clean accuracy of the given file and of the deployed one, "
        "by class.</p>\n<table class=bars><thead><tr><th>class</th><th class=n>given %%</th>"
        "<th class=n>result %%</th><th></th></tr></thead><tbody>\n");
    json_array_foreach(after, k, v)
    {
        const char *name = json_string_value(json_array_get(names, k));

        html_put(h, "<tr><th>%zu %s</th>", k, html_escape(h, name != NULL ? name : ""));
        put_given_result(h, json_array_get(before, k), v);
    }
    html_put(h, "</tbody></table>\n");
}

/* ---- how to repeat it ----------------------------------------------------------------------- */

static void put_repeat(struct html *h, const struct page_run *r)
{
    const json_t *stages = json_object_get(r->report, "stages");
    const json_t *shards = json_object_get(r->report, "bn_shards");
    size_t i;
    json_t *s;

    html_put(
        h,
        "<h2>How to repeat it</h2>\n<pre>linnet linearize MODEL --config %s/config.json -o OUT</pre>\n",
        html_escape(h, r->name));
    html_put(
        h,
        "<p class=fine>linnet %s, seed %.0f. The same seed gives the same bytes for any number of "
        "threads.</p>\n",
        LINNET_VERSION, page_number(r->report, "seed"));
    if (shards != NULL)
        html_put(h,
                 "<p class=fine>Batch norm took its statistics from each of %.0f shards of a batch "
                 "(--bn-shards).</p>\n",
                 page_value(shards));
    if (json_array_size(stages) == 0)
        return;
    html_put(
        h,
        "<table><thead><tr><th>stage</th><th class=n>epochs</th><th class=n>seconds</th><th class=n>images/s</th></tr>"
        "</thead><tbody>\n");
    json_array_foreach(stages, i, s)
    {
        html_put(h, "<tr><th>%s</th>", html_escape(h, page_text(s, "name")));
        put_number(h, "%.0f", page_number(s, "epochs"));
        put_number(h, "%.0f", page_number(s, "seconds"));
        put_number(h, "%.0f", page_number(s, "images_per_s"));
        html_put(h, "</tr>\n");
    }
    html_put(h, "</tbody></table>\n");
}

static void put_json(struct html *h, const char *id, const json_t *root)
{
    OWNED char *text = json_spell(root, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17));

    if (text == NULL) {
        h->status = h->status < 0 ? h->status : ERR_NOMEM;
        return;
    }
    html_put(h, "<script type=\"application/json\" id=\"%s\">", html_escape(h, id));
    html_put_json(h, text);
    html_put(h, "</script>\n");
}

/* ---- the page ------------------------------------------------------------------------------- */

static void put_run(struct html *h, const struct page_run *r, bool slider)
{
    put_first_screen(h, r);
    page_put_private(h, r->folder, slider);
    put_layers(h, r);
    put_maps(h, r);
    page_put_curves(h, r->metrics);
    put_classes(h, r);
    put_corruptions(h, r);
    put_repeat(h, r);
    put_json(h, r->name, r->report);
}

static int put_folder(struct html *h, const char *folder, struct page_points *points)
{
    SCOPED(page_run_close) struct page_run r = {0};

    TRY(page_run_open(folder, &r));
    page_add_point(points, r.name, json_object_get(r.report, "result"));
    html_put(h, "<h1>%s</h1>\n", html_escape(h, r.name));
    put_run(h, &r, points->n == 1); /* one slider a page */
    return 0;
}

/* One table of all budgets beside the given network and the teacher that they share. */
static void put_sweep_table(struct html *h, const char *folder, const json_t *sweep)
{
    const char *slash = strrchr(folder, '/');
    const json_t *teacher = json_object_get(sweep, "teacher");
    size_t i;
    json_t *b;

    html_put(h, "<h1>%s</h1>\n",
             html_escape(h, slash != NULL && slash[1] != '\0' ? slash + 1 : folder));
    open_table(h);
    put_eval_rows(h, "given", json_object_get(teacher, "given"), false);
    put_eval_rows(h, teacher_name(teacher), json_object_get(teacher, "teacher"), false);
    json_array_foreach(json_object_get(sweep, "budgets"), i, b)
    {
        const char *name = page_text(b, "folder");
        put_eval_rows(h, name != NULL ? name : "", json_object_get(b, "result"), true);
    }
    html_put(h,
             "</tbody></table></div>\n<p class=fine>Each row is one file; all its figures are that "
             "file's. Intervals, attacks and corruptions: below.</p>\n");
}

/* The folders of a sweep's budgets, in the order of sweep.json. */
static int put_sweep(struct html *h, const char *folder, const json_t *sweep,
                     struct page_points *points)
{
    char path[4096];
    size_t i;
    json_t *b;

    json_array_foreach(json_object_get(sweep, "budgets"), i, b)
    {
        const char *name = page_text(b, "folder");
        if (name == NULL || strchr(name, '/') != NULL || strcmp(name, "..") == 0)
            return fail(ERR_FORMAT, "'%s/sweep.json': budget %zu names no folder of its own",
                        folder, i + 1);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
            return fail(ERR_ARG, "'%s': the path is too long", folder);
        TRY(put_folder(h, path, points));
    }
    return 0;
}

/* top: what stands above the Pareto curve. */
static int put_all(struct html *top, struct html *h, const char *const *folder, int32_t n,
                   struct page_points *points)
{
    for (int32_t i = 0; i < n; i++) {
        SCOPED(json_decref_at) json_t *sweep = NULL;

        TRY(page_sweep_open(folder[i], &sweep));
        if (sweep != NULL)
            put_sweep_table(top, folder[i], sweep);
        TRY(sweep != NULL ? put_sweep(h, folder[i], sweep, points)
                          : put_folder(h, folder[i], points));
    }
    return 0;
}

int page_write(const char *const *folder, int32_t n, const char *path)
{
    SCOPED(html_free) struct html top = {0}, body = {0}, page = {0};
    struct page_points points = {0};

    if (ranks_index() > 0)
        return 0; /* it shows files of the first */
    if (n < 1 || n > PAGE_MAX_FOLDERS)
        return fail(ERR_ARG, "a page shows 1 to %d folders, not %d", PAGE_MAX_FOLDERS, n);
    TRY(put_all(&top, &body, folder, n, &points));
    html_put(&page,
             "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport "
             "content=\"width=device-width\">\n<title>linnet: private inference with few "
             "ReLUs</title>\n%s\n<main>\n%s",
             style, top.text != NULL ? top.text : "");
    page_put_pareto(&page, &points);
    html_put(&page, "%s</main>\n</html>\n", body.text != NULL ? body.text : "");
    TRY(top.status);
    TRY(body.status);
    return html_save(&page, path);
}
