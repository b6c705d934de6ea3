/*
 * Private inference on the page (sections.h): for each ReLU backend three phases, each as bytes, one-way
 * messages and seconds on loopback, in the forms that the parties choose for a link. On a link a phase takes
 *
 *     loopback seconds + 8 bytes / rate + messages * round trip / 2
 *
 * Transfer and arithmetic are added, not overlapped, so on slow links this is an upper estimate. The table
 * and the script of the slider compute the same sum; of the forms for the links of the table the slider takes
 * those with which the ReLUs' two phases take the least time on its link. Linear layers have one round trip
 * each offline.
 */
#include "pipeline/page/sections.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cost/cost.h"
#include "runtime/linear/linear.h"
#include "runtime/plan/plan.h"
#include "runtime/relu/relu.h"

#define PHASES 3

struct phase {
    double seconds, bytes, messages;
};

static double seconds_on(const struct phase *p, const struct link *l)
{
    return p->seconds + 8 * p->bytes / l->bits_per_second + p->messages * l->rtt / 2;
}

/* In the forms for `link`. */
static int estimate(const struct plan *p, const struct relu_backend *relu, const struct link *link,
                    struct phase out[PHASES])
{
    const double steps = p->linear_layers;
    struct cost_case k = {.relu = relu, .link = link_loopback(), .expected = link};
    struct cost c;

    TRY(cost_estimate(p, &k, &c));
    out[0] = (struct phase){c.offline_linear_seconds, (double)c.offline_linear_bytes, 2 * steps};
    out[1] = (struct phase){c.offline_relu_seconds, (double)c.offline_relu_bytes,
                            c.offline_relu_messages};
    out[2] = (struct phase){c.online_seconds, (double)c.online_bytes, c.online_messages};
    return 0;
}

static void put_row(struct html *h, const struct relu_backend *relu,
                    const struct phase phase[PHASES], const struct link *l)
{
    double total = 0;

    html_put(h, "<tr><th>%s</th><td>%s</td>", html_escape(h, relu->name), html_escape(h, l->name));
    for (int i = 0; i < PHASES; i++) {
        const double s = seconds_on(&phase[i], l);
        total += s;
        html_put(h, "<td class=n>%.3f s <small>%.1f MB</small></td>", s, phase[i].bytes / 1e6);
    }
    html_put(h, "<td class=n>%.3f s</td></tr>\n", total);
}

/* Links that have a row, which forms are chosen for: loopback and those of the list. NULL at the end of it. */
static const struct link *table_link(int i)
{
    const struct link *l = i == 0 ? link_loopback() : link_list() + (i - 1);

    return l->name != NULL ? l : NULL;
}

/* Phase i in the forms for each link: seconds, bytes, messages, one after the other. */
static void put_forms(struct html *h, const struct plan *p, const struct relu_backend *relu, int i)
{
    struct phase phase[PHASES];

    html_put(h, "data-p%d=\"", i);
    for (int k = 0; table_link(k) != NULL; k++)
        if (estimate(p, relu, table_link(k), phase) == 0)
            html_put(h, "%s%.9g %.9g %.9g", k > 0 ? " " : "", phase[i].seconds, phase[i].bytes,
                     phase[i].messages);
    html_put(h, "\" ");
}

/* The bar of the slider: one per backend, filled by the script, at first for the first link. */
static void put_bar(struct html *h, const struct plan *p, const struct relu_backend *relu)
{
    html_put(
        h,
        "<p><b>%s</b> <span class=total></span></p><svg class=stack viewBox=\"0 0 400 18\" preserveAspectRatio=none ",
        html_escape(h, relu->name));
    for (int i = 0; i < PHASES; i++)
        put_forms(h, p, relu, i);
    html_put(
        h,
        "><rect class=p0 height=18 /><rect class=p1 height=18 /><rect class=p2 height=18 /></svg>\n");
}

static const char script[] =
    "<script>(function(){var r=document.getElementById('rate'),t=document.getElementById('rtt');\n"
    "function show(){var bps=Math.pow(10,+r.value),rtt=+t.value/1000,all=[],most=0;\n"
    "document.getElementById('rate-text').textContent=(bps/1e6).toPrecision(3)+' Mbit/s';\n"
    "document.getElementById('rtt-text').textContent=(+t.value)+' ms';\n"
    "document.querySelectorAll('svg.stack').forEach(function(s){var p=null,v=[0,1,2].map(function(i){\n"
    "return s.getAttribute('data-p'+i).split(' ').map(Number);});\n"
    "for(var k=0;k<v[0].length;k+=3){var q=v.map(function(u){return u[k]+8*u[k+1]/bps+u[k+2]*rtt/2;});\n"
    "if(!p||q[1]+q[2]<p[1]+p[2])p=q;}\n"
    "var sum=p[0]+p[1]+p[2];most=Math.max(most,sum);all.push([s,p,sum]);});\n"
    "all.forEach(function(a){var x=0;a[0].querySelectorAll('rect').forEach(function(q,i){\n"
    "var w=400*a[1][i]/most;q.setAttribute('x',x);q.setAttribute('width',w);x+=w;});\n"
    "a[0].previousElementSibling.querySelector('.total').textContent=a[2].toFixed(3)+' s, online '+\n"
    "a[1][2].toFixed(3)+' s';});}\n"
    "r.oninput=t.oninput=show;show();})();</script>\n";

static void put_slider(struct html *h, const struct plan *p)
{
    struct phase phase[PHASES];

    html_put(
        h,
        "<div class=slider><label>rate <input id=rate type=range min=6 max=10.5 step=0.05 "
        "value=8.6> <span id=rate-text></span></label><label>round trip <input id=rtt type=range "
        "min=0 max=200 step=1 value=40> <span id=rtt-text></span></label>\n"
        "<p class=\"fine legend\"><svg viewBox=\"0 0 14 14\" aria-hidden=true><rect class=p0 width=14 "
        "height=14 /></svg>offline linear <svg viewBox=\"0 0 14 14\" aria-hidden=true><rect class=p1 "
        "width=14 height=14 /></svg>offline ReLU <svg viewBox=\"0 0 14 14\" aria-hidden=true><rect "
        "class=p2 width=14 height=14 /></svg>online</p>\n");
    for (const struct relu_backend *const *b = relu_backends(); *b != NULL; b++)
        if (estimate(p, *b, link_loopback(), phase) == 0)
            put_bar(h, p, *b);
    html_put(h, "</div>\n%s", script);
}

static void put_tables(struct html *h, const struct plan *p, bool slider)
{
    struct phase phase[PHASES];

    html_put(
        h,
        "<h2>Private inference, predicted</h2>\n<div class=wide><table class=links><thead><tr><th>ReLU backend</th>"
        "<th>link</th><th class=n>offline linear</th><th class=n>offline ReLU</th><th class=n>online</th><th class=n>all</th></tr>"
        "</thead><tbody>\n");
    for (const struct relu_backend *const *b = relu_backends(); *b != NULL; b++) {
        for (int k = 0; table_link(k) != NULL; k++)
            if (estimate(p, *b, table_link(k), phase) == 0)
                put_row(h, *b, phase, table_link(k));
    }
    html_put(
        h,
        "</tbody></table></div>\n<p class=fine>Predicted by the cost model with built-in constants, one "
        "image, both parties on a machine of two cores; <code>linnet-pi bench</code> measures. %s of "
        "%s ReLUs, %s ReLU evaluations%s; semi-honest parties. Links: lan 3 Gbit/s, 0.3 ms; wan 400 Mbit/s, 40 ms; mobile "
        "50 Mbit/s, 50 ms.</p>\n",
        html_grouped(h, (double)p->relus_kept), html_grouped(h, (double)p->relus),
        html_grouped(h, (double)plan_all_evaluations(p)),
        plan_all_evaluations(p) > p->relus_kept ? " (a kept ReLU6 takes two)" : "");
    if (slider)
        put_slider(h, p);
}

/* *p NULL: there is none. */
static int open_plan(const char *folder, struct plan **p)
{
    char path[4096];

    if ((size_t)snprintf(path, sizeof path, "%s/model.pi", folder) >= sizeof path ||
        access(path, F_OK) != 0)
        return 0;
    return plan_read(path, p);
}

void page_put_private(struct html *h, const char *folder, bool slider)
{
    SCOPED(plan_free_at) struct plan *p = NULL;

    if (open_plan(folder, &p) < 0)
        html_put(h, "<p class=fine>model.pi is not shown: %s</p>\n", html_escape(h, err_message()));
    else if (p != NULL)
        put_tables(h, p, slider);
}

/* Of the backends that take the plan the one with the least seconds online. */
static bool fastest(const struct plan *p, const struct link *l, struct phase best[PHASES])
{
    struct phase phase[PHASES];
    bool any = false;

    for (const struct relu_backend *const *b = relu_backends(); *b != NULL; b++) {
        if (estimate(p, *b, l, phase) < 0 ||
            (any && seconds_on(&phase[PHASES - 1], l) >= seconds_on(&best[PHASES - 1], l)))
            continue;
        memcpy(best, phase, sizeof phase);
        any = true;
    }
    return any;
}

static void put_query(struct html *h, const struct phase phase[PHASES], const struct link *l,
                      const char *place)
{
    const struct phase *online = &phase[PHASES - 1];
    double seconds = 0, bytes = 0;

    for (int i = 0; i < PHASES; i++) {
        seconds += seconds_on(&phase[i], l);
        bytes += phase[i].bytes;
    }
    html_put(h, "on a %s <b>%.3f s, %.1f MB</b> once the image is there (%.3f s, %.1f MB in all)",
             place, seconds_on(online, l), online->bytes / 1e6, seconds, bytes / 1e6);
}

void page_put_query(struct html *h, const char *folder)
{
    static const char *const name[] = {"lan", "wan"}, *const place[] = {"LAN", "WAN"};
    struct phase phase[PHASES] = {{0}};
    SCOPED(plan_free_at) struct plan *p = NULL;
    struct link l;

    if (open_plan(folder, &p) < 0 || p == NULL)
        return; /* page_put_private says why */
    for (int i = 0; i < 2; i++)
        if (link_parse(name[i], &l) == 0 && fastest(p, &l, phase)) {
            html_put(h, i == 0 ? "<p class=query>One private query, predicted: " : "; ");
            put_query(h, phase, &l, place[i]);
            html_put(h, i == 0 ? "" : ".</p>\n");
        }
}
