/* The table of value names: open addressing, at most half full, each name once. */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/base/import.h"

static uint32_t hash_name(const char *s)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

/* The slot that holds `name`, or the free one where it belongs. */
static uint32_t find_slot(const struct import *im, const char *name)
{
    uint32_t at = hash_name(name) & (im->n_slot - 1);

    while (im->slot[at] >= 0 && strcmp(im->entry[im->slot[at]].name, name) != 0)
        at = (at + 1) & (im->n_slot - 1);
    return at;
}

struct entry *names_find(const struct import *im, const char *name)
{
    const int32_t e = im->slot[find_slot(im, name)];

    return e >= 0 ? &im->entry[e] : NULL;
}

int names_check(struct import *im, const char *what, const char *name)
{
    if (report_is_clean(name, IMPORT_MAX_NAME))
        return 0;
    return report_problem(
        im, "E1404", "",
        "%s name '%.40s' holds control characters, is no UTF-8 or is longer than %d bytes %s", what,
        name, IMPORT_MAX_NAME, im->at);
}

int names_enter(struct import *im, const char *name, int32_t producer, struct entry **out)
{
    *out = NULL;
    if (names_check(im, "value", name) < 0)
        return 0;
    uint32_t at = find_slot(im, name);
    if (im->slot[at] >= 0) {
        (void)report_problem(im, "E1403", "", "the name '%s' is given to two values %s", name,
                             im->at);
        return 0;
    }
    *out = &im->entry[im->n_entry];
    (*out)->name = name;
    (*out)->producer = producer;
    (*out)->act = NO_VALUE;
    im->slot[at] = im->n_entry++;
    return 0;
}

int names_init(struct import *im)
{
    const Onnx__GraphProto *f = im->file;
    size_t n = f->n_initializer + f->n_input;

    for (size_t k = 0; k < f->n_node; k++)
        n += f->node[k]->n_output;
    if (n > (size_t)1 << 24)
        return report_problem(im, "E1006", "", "the file names %zu values, at most %d", n, 1 << 24);
    for (im->n_slot = 64; im->n_slot < 2 * n;)
        im->n_slot *= 2;
    im->entry = arena_array(im->arena, n + 1, sizeof *im->entry);
    im->slot = arena_array(im->arena, im->n_slot, sizeof *im->slot);
    im->live = arena_array(im->arena, f->n_node + 1, sizeof *im->live);
    TRY(arena_status(im->arena));
    memset(im->slot, -1, im->n_slot * sizeof *im->slot);
    return 0;
}
