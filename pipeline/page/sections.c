/*
 * Curves and bars of the page (sections.h).
 *
 * A chart is 480 x 260 units; its plot is the rectangle from (LEFT, TOP) to (RIGHT, BOTTOM). Accuracies run
 * from 0 to 100, ReLUs and seconds on a logarithmic axis, because budgets differ by factors.
 */
#include "pipeline/page/sections.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/page/run.h"

#define LEFT 48.0
#define RIGHT 470.0
#define TOP 12.0
#define BOTTOM 220.0

/* ---- charts --------------------------------------------------------------------------------- */

static double height_of(double value, double top)
{
    return BOTTOM - (BOTTOM - TOP) * fmin(fmax(value / top, 0), 1);
}

static void open_chart(struct html *h, const char *title, double top)
{
    html_put(
        h,
        "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 480 260\" role=img aria-label=\"%s\">\n",
        title, title);
    for (int i = 0; i <= 4; i++) {
        const double value = top * i / 4, y = height_of(value, top);
        html_put(
            h,
            "<path class=axis d=\"M%.0f %.1fH%.0f\"/><text x=%.0f y=%.1f text-anchor=end>%.4g</text>\n",
            LEFT, y, RIGHT, LEFT - 6, y + 4, value);
    }
}

static bool is_epoch(const json_t *line, const char *stage)
{
    const char *event = page_text(line, "event");
    const char *of = page_text(line, "stage");

    return event != NULL && of != NULL && strcmp(event, "epoch") == 0 && strcmp(of, stage) == 0;
}

static double last_epoch(const json_t *lines, const char *stage)
{
    double last = 1;
    size_t i;
    json_t *l;

    json_array_foreach(lines, i, l) if (is_epoch(l, stage)) last =
        fmax(last, page_number(l, "epoch"));
    return last;
}

/* Epochs 1 and last at their places. */
static void put_epochs(struct html *h, const json_t *lines, const char *stage)
{
    const double last = last_epoch(lines, stage);

    html_put(h,
             "<text x=%.1f y=%.0f text-anchor=middle>1</text><text x=%.0f y=%.0f "
             "text-anchor=end>epoch %.0f</text>\n",
             LEFT + (RIGHT - LEFT) / last, BOTTOM + 18, RIGHT, BOTTOM + 18, last);
}

static void close_chart(struct html *h)
{
    html_put(h, "</svg></figure>\n");
}

/* One place on the plot; *pen tells whether a line begins there. */
static void put_place(struct html *h, bool *pen, double x, double y)
{
    html_put(h, "%c%.1f %.1f", *pen ? 'L' : 'M', x, y);
    *pen = true;
}

/* ---- training ------------------------------------------------------------------------------- */

/* A curve over the epochs of a stage; section "val" or NULL. In per cent where scale is 100. */
static void put_curve(struct html *h, const json_t *lines, const char *stage, const char *section,
                      const char *key, double scale, double top, const char *class)
{
    const double last = last_epoch(lines, stage);
    bool pen = false;
    size_t i;
    json_t *l;

    html_put(h, "<path class=%s d=\"", class);
    json_array_foreach(lines, i, l)
    {
        const json_t *from = section != NULL ? json_object_get(l, section) : l;
        const double v = scale * page_number(from, key);
        const double epoch = page_number(l, "epoch");
        if (!is_epoch(l, stage) || isnan(v) || isnan(epoch))
            continue;
        put_place(h, &pen, LEFT + (RIGHT - LEFT) * epoch / last, height_of(v, top));
    }
    html_put(h, "\"/>\n");
}

/* The largest loss of a stage; 0 where fewer than two epochs make no curve. */
static double most_loss(const json_t *lines, const char *stage)
{
    double most = 0;
    int epochs = 0;
    size_t i;
    json_t *l;

    json_array_foreach(lines, i, l)
    {
        const double v = page_number(l, "loss");
        epochs += is_epoch(l, stage);
        if (is_epoch(l, stage) && v > most)
            most = v;
    }
    return epochs > 1 ? most : 0;
}

void page_put_curves(struct html *h, const json_t *lines)
{
    static const char *const stage[] = {"teacher", "mask", "finetune", "train"};
    char title[64];
    bool any = false;

    for (size_t s = 0; s < sizeof stage / sizeof stage[0]; s++) {
        const double top = most_loss(lines, stage[s]);
        if (top <= 0)
            continue;
        if (!any)
            html_put(
                h,
                "<h2>Training</h2>\n<p class=fine>By epoch. Accuracy on the validation split: clean "
                "(line), adversarial branch on clean images (dotted), PGD (dashed).</p>\n"
                "<div class=charts>\n");
        any = true;
        snprintf(title, sizeof title, "%s: loss", stage[s]);
        open_chart(h, title, top);
        put_curve(h, lines, stage[s], NULL, "loss", 1, top, "one");
        put_epochs(h, lines, stage[s]);
        close_chart(h);
        snprintf(title, sizeof title, "%s: accuracy, %%", stage[s]);
        open_chart(h, title, 100);
        put_curve(h, lines, stage[s], "val", "clean", 100, 100, "one");
        put_curve(h, lines, stage[s], "val", "pgd", 100, 100, "two");
        put_curve(h, lines, stage[s], "val", "clean_adv", 100, 100, "three");
        put_epochs(h, lines, stage[s]);
        close_chart(h);
    }
    if (any)
        html_put(h, "</div>\n");
}

/* ---- Pareto --------------------------------------------------------------------------------- */

static double clean_of(const json_t *branch)
{
    return page_number(json_object_get(branch, "clean"), "accuracy");
}

static double pgd_of(const json_t *branch)
{
    return page_value(
        json_object_get(json_array_get(json_object_get(branch, "attacks"), 0), "accuracy"));
}

/* The deployed file's clean accuracy; the best accuracy under attack of any one file of the run. */
void page_add_point(struct page_points *p, const char *name, const json_t *result)
{
    struct page_point *v;
    size_t i;
    json_t *b;

    if (p->n >= PAGE_MAX_POINTS)
        return;
    v = &p->v[p->n++];
    *v = (struct page_point){.relus = page_number(result, "relus"),
                             .clean = NAN,
                             .robust = NAN,
                             .seconds = page_number(result, "pi_online_seconds")};
    snprintf(v->name, sizeof v->name, "%.*s", PAGE_NAME - 1, name);
    json_array_foreach(json_object_get(result, "branches"), i, b)
    {
        if (json_is_true(json_object_get(b, "deployed")))
            v->clean = clean_of(b);
        v->robust = fmax(isnan(v->robust) ? -1 : v->robust, isnan(pgd_of(b)) ? -1 : pgd_of(b));
    }
    if (v->robust < 0)
        v->robust = NAN;
}

static double value_of(const struct page_point *p, bool seconds)
{
    return seconds ? p->seconds : p->relus;
}

static void put_pareto(struct html *h, const struct page_points *p, bool seconds, const char *title)
{
    double low = INFINITY, high = 0;

    for (int32_t i = 0; i < p->n; i++) {
        const double v = value_of(&p->v[i], seconds);
        if (v > 0) {
            low = fmin(low, v);
            high = fmax(high, v);
        }
    }
    if (!(low < high))
        return;
    open_chart(h, title, 100);
    for (int32_t i = 0; i < p->n; i++) {
        const double v = value_of(&p->v[i], seconds);
        const double x = LEFT + 20 + (RIGHT - LEFT - 40) * log(v / low) / log(high / low);
        if (!(v > 0))
            continue;
        if (!isnan(p->v[i].clean))
            html_put(
                h,
                "<circle class=dot1 r=4 cx=%.1f cy=%.1f><title>%s: clean %.2f %%</title></circle>\n",
                x, height_of(p->v[i].clean, 100), html_escape(h, p->v[i].name), p->v[i].clean);
        if (!isnan(p->v[i].robust))
            html_put(
                h,
                "<rect class=dot2 width=8 height=8 x=%.1f y=%.1f><title>%s: PGD %.2f %%</title></rect>\n",
                x - 4, height_of(p->v[i].robust, 100) - 4, html_escape(h, p->v[i].name),
                p->v[i].robust);
        html_put(h, "<text x=%.1f y=%.0f text-anchor=middle>", x, BOTTOM + 18);
        if (seconds)
            html_put(h, "%.3f", v);
        else
            html_put(h, "%s", html_grouped(h, v));
        html_put(h, "</text>\n");
    }
    close_chart(h);
}

void page_put_pareto(struct html *h, const struct page_points *p)
{
    if (p->n < 2)
        return;
    html_put(
        h,
        "<h2>Accuracy against cost</h2>\n<p class=fine>Circles: clean accuracy of the deployed file. "
        "Squares: PGD accuracy of the run's more robust file.</p>\n<div class=charts>\n");
    put_pareto(h, p, false, "accuracy %, by kept ReLUs");
    put_pareto(h, p, true, "accuracy %, by predicted online seconds");
    html_put(h, "</div>\n");
}
