#ifndef CORE_BASE_JSON_H
#define CORE_BASE_JSON_H
/*
 * Reading JSON, and building it without holes. Jansson's own calls return an error that nobody looks at, and a report lacks
 * an entry. Here a failure turns the whole value to NULL, and so everything that is built from it:
 *
 *     json_t *o = json_object();
 *
 *     json_put(&o, "model", json_text(path));
 *     json_put(&o, "rows", rows_json(x));     // NULL where there was no memory
 *     return o;                               // NULL then, too
 *
 * Who writes the root asks once.
 */
#include <jansson.h>

#include "core/base/err.h"
#include "core/base/mem.h"

/* Takes over value; *o is freed and NULL where it, or value, is NULL, or memory runs out. */
void json_put(json_t **o, const char *key, json_t *value);
void json_add(json_t **list, json_t *value);
/* A text that may be no UTF-8, such as a path: then each byte of it that is none becomes "\xHH". */
json_t *json_text(const char *text);
/* As json_dumps, whose text may lack bytes where memory ran out: then, and for a NULL root, this is NULL.
 * Free it with mem_free. */
char *json_spell(const json_t *root, size_t flags);
/* The same as reports have it: keys in order, 17 digits, a newline at the end. */
char *json_report(const json_t *root);
/* The JSON in a file of at most `limit` bytes; the caller's. ERR_FORMAT names the line. */
int json_read(const char *path, size_t limit, json_t **out) MUST_CHECK;
/* A number, or null where it is not finite. */
json_t *json_finite(double v);
FREE_AT(json_decref, json_t)
#endif
