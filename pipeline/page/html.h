#ifndef PIPELINE_PAGE_HTML_H
#define PIPELINE_PAGE_HTML_H
/*
 * HTML under construction: text that grows, escaping, and small images as data URIs.
 *
 *     struct html h = {0};
 *     html_put(&h, "<p>%s</p>", html_escape(&h, name));   // markup is literal, texts are escaped
 *     rc = html_save(&h, path);
 *     html_free(&h);
 *
 * The first failure stays in h and every later call does nothing; html_save returns it.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define HTML_LIMIT ((size_t)16 << 20) /* bytes of a page */

struct html {
    char *text;
    size_t len, cap;
    struct arena *arena; /* escaped texts */
    int status;
};

void html_put(struct html *h, const char *format, ...) ERR_PRINTF(2, 3);
/* text as it may stand in elements and in quoted attributes; "" for NULL. Lives as long as h. */
const char *html_escape(struct html *h, const char *text);
/* JSON inside a <script> element: every "<" becomes \u003c, which JSON reads as the same text. */
void html_put_json(struct html *h, const char *json);
/* "22,118" for 22118; "-" for what is no such number. Lives as html_escape's. */
const char *html_grouped(struct html *h, double v);
/* src="data:image/png;base64,..." of a grey image, one byte a pixel [rows][columns]. */
void html_put_png(struct html *h, const uint8_t *pixel, int32_t rows, int32_t columns);
/* Writes atomically. The first failure of any call. */
int html_save(const struct html *h, const char *path) MUST_CHECK;
void html_free(struct html *h);
#endif
