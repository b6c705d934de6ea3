#ifndef PIPELINE_PAGE_SECTIONS_H
#define PIPELINE_PAGE_SECTIONS_H
/* Sections of the page that draw: training curves, the Pareto curve, private inference. */
#include <jansson.h>
#include <stdbool.h>

#include "pipeline/page/html.h"

#define PAGE_MAX_POINTS 256
#define PAGE_NAME 64

struct page_points { /* a result each */
    struct page_point {
        char name[PAGE_NAME];
        double relus, clean, robust, seconds; /* NAN where unknown */
    } v[PAGE_MAX_POINTS];
    int32_t n;
};
/* result: an evaluation with "relus". Beyond PAGE_MAX_POINTS nothing is added. */
void page_add_point(struct page_points *p, const char *name, const json_t *result);
/* Accuracy against ReLUs and against seconds; nothing for fewer than two points. */
void page_put_pareto(struct html *h, const struct page_points *p);
/* Loss and validation accuracy of every stage; lines: array of the objects of metrics.jsonl. */
void page_put_curves(struct html *h, const json_t *lines);
/* Bytes and predicted seconds of FOLDER/model.pi; nothing where there is none. slider: with bars that
 * follow a link's rate and round trip, once a page. */
void page_put_private(struct html *h, const char *folder, bool slider);
/* One sentence of the same about one private query over a LAN and a WAN. */
void page_put_query(struct html *h, const char *folder);
#endif
