/*
 * Open addressing with linear probing; removed entries leave a tombstone that the next growth
 * clears. FNV-1a hash with no secret: the importer bounds the number of names, so a file made of
 * colliding names costs time quadratic in that bound at worst.
 */
#include "core/graph/nameset.h"

#include <string.h>

#include "core/base/mem.h"

static const char tombstone[] = "";

static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;

    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

/* Slot that holds the name, or the free slot where a search for it ends. */
static uint32_t find(const struct nameset *s, const char *name)
{
    uint32_t i = hash(name) & (s->cap - 1);

    while (s->slot[i] && (s->slot[i] == tombstone || strcmp(s->slot[i], name) != 0))
        i = (i + 1) & (s->cap - 1);
    return i;
}

void nameset_release(struct nameset *s)
{
    mem_free(s->slot);
    *s = (struct nameset){0};
}

bool nameset_has(const struct nameset *s, const char *name)
{
    return s->cap > 0 && s->slot[find(s, name)] != NULL;
}

static int grow(struct nameset *s)
{
    struct nameset bigger = {.cap = 64};

    while (bigger.cap < s->live * 4)
        bigger.cap *= 2;
    if ((bigger.slot = mem_array(bigger.cap, sizeof *bigger.slot)) == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < s->cap; i++)
        if (s->slot[i] && s->slot[i] != tombstone)
            bigger.slot[find(&bigger, s->slot[i])] = s->slot[i];
    bigger.live = bigger.used = s->live;
    nameset_release(s);
    *s = bigger;
    return 0;
}

int nameset_add(struct nameset *s, const char *name)
{
    if (nameset_has(s, name))
        return 0;
    if (s->used * 2 >= s->cap)
        TRY(grow(s));
    s->slot[find(s, name)] = name;
    s->used++;
    s->live++;
    return 0;
}

void nameset_remove(struct nameset *s, const char *name)
{
    if (s->cap == 0)
        return;
    uint32_t i = find(s, name);
    if (s->slot[i]) {
        s->slot[i] = tombstone;
        s->live--;
    }
}
