/* Tar files of samples; see shards.h. */
#include "trainer/data/shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "trainer/data/archive.h"
#include "trainer/data/owner.h"
#include "trainer/data/see.h"
#include "trainer/data/tar.h"

#define MOST_SHARDS 100000
#define MOST_OPEN 256 /* descriptors that stay open */
#define MOST_CLASSES 1000000
#define CLASS_TEXT 24 /* bytes of a .cls at most */
#define PATH_SIZE 4096
#define DIGITS 9

struct record {
    uint64_t offset;
    uint32_t size;
    int32_t label;
    const char *key;
};
struct shard {
    struct file_at file;
    struct arena *keys;
    struct record *record;
    int64_t n, skipped; /* samples, and members of other kinds */
    size_t cap;
};
struct shards {
    struct shard *shard;
    int64_t n_shard;
    int64_t *first; /* [n_shard + 1] number of a shard's first record */
    struct data_options o;
    int32_t height, width;
};

static void shards_release(void *ctx)
{
    struct shards *s = ctx;

    for (int64_t i = 0; i < s->n_shard; i++) {
        file_at_close(&s->shard[i].file);
        arena_free(s->shard[i].keys);
        mem_free(s->shard[i].record);
    }
    mem_free(s->shard);
    mem_free(s->first);
    mem_free(s);
}

/* ---- names of shards ------------------------------------------------------------------------- */

/* "{000..127}" at text: its numbers and their width; what follows it in *end. */
static bool read_range(const char *text, long *lo, long *hi, int *width, const char **end)
{
    char *after;
    const size_t n = strspn(text + 1, "0123456789");
    const size_t m =
        n > 0 && strncmp(text + 1 + n, "..", 2) == 0 ? strspn(text + n + 3, "0123456789") : 0;

    if (n == 0 || m == 0 || n > DIGITS || m > DIGITS || text[n + 3 + m] != '}')
        return false;
    *lo = strtol(text + 1, &after, 10);
    *hi = strtol(text + n + 3, &after, 10);
    *width = (int)n;
    *end = text + n + m + 4;
    return *lo <= *hi && (n == m || text[1] != '0');
}

/* done: what stands before `rest`, with its braces replaced. */
static int expand(const char *pattern, const char *done, const char *rest, struct name_list *out)
{
    const char *brace = strchr(rest, '{'), *end = NULL;
    char name[PATH_SIZE];
    long lo, hi;
    int width;

    if (brace == NULL) {
        if (snprintf(name, sizeof name, "%s%s", done, rest) >= (int)sizeof name)
            return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", name, PATH_SIZE);
        return name_list_add(out, name, strlen(name));
    }
    if (!read_range(brace, &lo, &hi, &width, &end))
        return fail(ERR_DATA,
                    "'%s': braces hold a first and a last number, as in train-{0000..0127}.tar",
                    pattern);
    for (long i = lo; i <= hi; i++) {
        if (out->n >= MOST_SHARDS)
            return fail(ERR_DATA, "'%s': more than %d shards", pattern, MOST_SHARDS);
        if (snprintf(name, sizeof name, "%s%.*s%0*ld", done, (int)(brace - rest), rest, width, i) >=
            (int)sizeof name)
            return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", name, PATH_SIZE);
        TRY(expand(pattern, name, end, out));
    }
    return 0;
}

int shards_expand(const char *pattern, struct name_list *out)
{
    return expand(pattern, "", pattern, out);
}

static bool ends_in_tar(const char *name)
{
    const size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".tar") == 0;
}

/* Shards directly below `under` of the tree. */
static int list_below(const struct tree *t, const char *under, struct name_list *out)
{
    char path[2 * PATH_SIZE];

    for (size_t i = 0; i < t->name.n; i++) {
        const char *name = t->name.v[i];
        if (strncmp(name, under, strlen(under)) != 0 || strchr(name + strlen(under), '/') != NULL ||
            !ends_in_tar(name))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", t->root, name) >= (int)sizeof path)
            return fail(ERR_DATA, "path '%.60s...' is too long", path);
        TRY(name_list_add(out, path, strlen(path)));
    }
    return out->n > 0 ? 0 : fail(ERR_DATA, "'%s/%s': no shard (.tar)", t->root, under);
}

static int list_folder(const char *path, enum data_part part, struct dataset *d,
                       struct name_list *out)
{
    SCOPED(tree_release) struct tree t = {0};
    const char *under = "";

    TRY(tree_open(path, &t));
    TRY(data_find_part(&t, part, d, &under));
    return list_below(&t, under, out);
}

static int list_shards(const char *pattern, enum data_part part, struct dataset *d,
                       struct name_list *out)
{
    struct stat st;

    if (stat(pattern, &st) == 0 && S_ISDIR(st.st_mode))
        return list_folder(pattern, part, d, out);
    d->owner->one_set = true;
    return shards_expand(pattern, out);
}

/* ---- samples --------------------------------------------------------------------------------- */

struct sample { /* being put together */
    char key[TAR_NAME];
    bool open, has_image, has_label, other;
    struct record r;
};

/* Length of the key of a member's name; *end: what follows its dot, NULL without one. */
static size_t key_of(const char *name, const char **end)
{
    const char *dot = strchr(archive_base(name), '.');

    *end = dot != NULL ? dot + 1 : NULL;
    return dot != NULL ? (size_t)(dot - name) : strlen(name);
}

static int add_record(struct shard *s, const struct sample *a)
{
    TRY(mem_grow(&s->record, (size_t)s->n + 1, &s->cap, sizeof *s->record));
    s->record[s->n] = a->r;
    if ((s->record[s->n].key = arena_strdup(s->keys, a->key)) == NULL)
        return ERR_NOMEM;
    s->n++;
    return 0;
}

static int finish_sample(struct shard *s, const struct sample *a)
{
    if (!a->open || (!a->has_image && !a->has_label))
        return 0;
    if (!a->has_label)
        return fail(ERR_DATA, "'%s': sample '%.60s' has no class: no %.60s.cls beside its image",
                    s->file.path, a->key, a->key);
    if (!a->has_image)
        return fail(ERR_DATA,
                    "'%s': sample '%.60s' has no image: no .jpg, .jpeg or .png beside its .cls",
                    s->file.path, a->key);
    return add_record(s, a);
}

static int take_image(struct shard *s, const struct tar_member *m, struct sample *a)
{
    if (a->has_image)
        return fail(ERR_DATA, "'%s': sample '%.60s' has two images", s->file.path, a->key);
    if (m->size == 0 || m->size > PICTURE_MOST_BYTES)
        return fail(ERR_DATA, "'%s': '%.60s' has %" PRIu64 " bytes; images have 1 to %zu",
                    s->file.path, m->name, m->size, PICTURE_MOST_BYTES);
    a->has_image = true;
    a->r.offset = m->offset;
    a->r.size = (uint32_t)m->size;
    return 0;
}

static int take_label(struct shard *s, struct tar_walk *w, const struct tar_member *m,
                      struct sample *a)
{
    char text[CLASS_TEXT + 1] = "";
    char *end = text;
    long v = -1;

    if (a->has_label)
        return fail(ERR_DATA, "'%s': sample '%.60s' has two classes", s->file.path, a->key);
    if (m->size > 0 && m->size <= CLASS_TEXT) {
        TRY(tar_peek(w, m, text, (size_t)m->size));
        v = text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : -1;
        end += strspn(end, " \r\n");
    }
    if (v < 0 || v >= MOST_CLASSES || end != text + m->size)
        return fail(ERR_DATA, "'%s': '%.60s' holds no class, a number from 0 to %d", s->file.path,
                    m->name, MOST_CLASSES - 1);
    a->has_label = true;
    a->r.label = (int32_t)v;
    return 0;
}

static int take_member(struct shard *s, struct tar_walk *w, const struct tar_member *m,
                       struct sample *a)
{
    const char *base = archive_base(m->name), *end;
    const size_t n = key_of(m->name, &end);
    const bool image = end != NULL && tree_is_picture_ending(end),
               label = end != NULL && strcasecmp(end, "cls") == 0;

    if (m->kind == TAR_FOLDER || base[0] == '.' || base[0] == '\0')
        return 0;
    if ((image || label) && m->kind != TAR_FILE)
        return fail(ERR_DATA, "'%s': '%.60s' is a %s, not a file", s->file.path, m->name,
                    m->kind == TAR_LINK ? "link" : "member of an unknown kind");
    if (!a->open || strlen(a->key) != n || strncmp(a->key, m->name, n) != 0) {
        TRY(finish_sample(s, a));
        *a = (struct sample){.open = true};
        memcpy(a->key, m->name, n);
    }
    if (image)
        return take_image(s, m, a);
    if (label)
        return take_label(s, w, m, a);
    s->skipped++;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_keys(const struct shard *s)
{
    OWNED const char **key = mem_array((size_t)s->n, sizeof *key);

    if (key == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->n; i++)
        key[i] = s->record[i].key;
    if (s->n > 1)
        qsort(key, (size_t)s->n, sizeof *key, by_key);
    for (int64_t i = 1; i < s->n; i++)
        if (strcmp(key[i - 1], key[i]) == 0)
            return fail(ERR_DATA, "'%s': sample '%.60s' comes twice", s->file.path, key[i]);
    return 0;
}

/* Work space of one shard. */
struct indexing {
    struct tar_walk walk;
    struct tar_member member;
    struct sample sample;
};

static int walk_shard(struct shard *s, struct indexing *x)
{
    int rc;

    *x = (struct indexing){.walk.file = &s->file};
    s->n = s->skipped = 0;
    while ((rc = tar_next(&x->walk, &x->member)) > 0)
        TRY(take_member(s, &x->walk, &x->member, &x->sample));
    TRY(rc);
    TRY(finish_sample(s, &x->sample));
    return check_keys(s);
}

static int index_shard(struct shard *s)
{
    OWNED struct indexing *x = mem_array(1, sizeof *x);

    if (x == NULL)
        return ERR_NOMEM;
    if (s->keys == NULL)
        TRY(arena_new(0, &s->keys));
    return walk_shard(s, x);
}

static int open_shard(struct shard *s, const char *path, bool stays_open)
{
    const char *dot = strrchr(archive_base(path), '.');

    if (!ends_in_tar(path))
        return fail(ERR_DATA, "'%s' is not a shard: %s", path,
                    dot != NULL && (strcasecmp(dot, ".gz") == 0 || strcasecmp(dot, ".tgz") == 0 ||
                                    strcasecmp(dot, ".xz") == 0 || strcasecmp(dot, ".zst") == 0)
                        ? "unpack it to .tar, so that images can be read by their place"
                        : "its name does not end in .tar");
    if (file_at_open(path, &s->file) < 0)
        return fail_context(ERR_DATA, "data");
    if (!stays_open)
        file_at_rest(&s->file);
    return 0;
}

static int open_shards(struct shards *s, const struct name_list *path)
{
    if ((s->shard = mem_array(path->n, sizeof *s->shard)) == NULL ||
        (s->first = mem_array(path->n + 1, sizeof *s->first)) == NULL)
        return ERR_NOMEM;
    for (; s->n_shard < (int64_t)path->n; s->n_shard++)
        TRY(open_shard(&s->shard[s->n_shard], path->v[s->n_shard], s->n_shard < MOST_OPEN));
    return 0;
}

/* All shards; the first one, in their order, that is refused gives the message. */
static int index_all(struct shards *s)
{
    int64_t bad = s->n_shard;

#pragma omp parallel for schedule(dynamic) reduction(min : bad)
    for (int64_t i = 0; i < s->n_shard; i++)
        if (index_shard(&s->shard[i]) < 0)
            bad = i < bad ? i : bad;
    if (bad < s->n_shard) {
        TRY(index_shard(&s->shard[bad])); /* once more, for its message on this thread */
        return fail(ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < s->n_shard; i++)
        s->first[i + 1] = s->first[i] + s->shard[i].n;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static const struct record *find_record(const struct shards *s, int64_t i,
                                        const struct shard **shard)
{
    int64_t lo = 0, hi = s->n_shard - 1; /* the shard is in [lo, hi] */

    while (lo < hi) {
        const int64_t mid = (lo + hi + 1) / 2;
        if (s->first[mid] <= i)
            lo = mid;
        else
            hi = mid - 1;
    }
    *shard = &s->shard[lo];
    return &s->shard[lo].record[i - s->first[lo]];
}

static int see_record(const struct shards *s, int64_t i, const struct data_view *view,
                      struct picture *p)
{
    const struct shard *shard;
    const struct record *r = find_record(s, i, &shard);
    OWNED uint8_t *data = mem_array(r->size, 1);
    int rc = data != NULL ? file_at_read(&shard->file, r->offset, data, r->size) : ERR_NOMEM;

    if (rc == 0)
        rc = picture_see(data, r->size, r->key, &s->o, view, i, p);
    return rc < 0 && rc != ERR_NOMEM ? fail_context(ERR_DATA, "'%s'", shard->file.path) : rc;
}

static int shards_read(const void *ctx, int64_t record, const struct data_view *view, void *out)
{
    const struct shards *s = ctx;
    SCOPED(picture_release) struct picture p = {0};
    const struct shard *shard;
    const struct record *r = find_record(s, record, &shard);

    TRY(see_record(s, record, view, &p));
    if (p.height != s->height || p.width != s->width)
        return fail(
            ERR_DATA,
            "'%s': '%s' has %dx%d pixels, the first image %dx%d: bring them to one size, with --resize N --crop HxW",
            shard->file.path, r->key, p.width, p.height, s->width, s->height);
    picture_planes(&p, out);
    return 0;
}

static int shards_identify(const void *ctx, int64_t record, struct sha256 *h)
{
    const struct shard *shard;
    const struct record *r = find_record(ctx, record, &shard);

    TRY(sha256_add(h, r->key, strlen(r->key) + 1));
    return sha256_add(h, &r->size, sizeof r->size);
}

/* ---- the data set ---------------------------------------------------------------------------- */

static int load_index(struct shards *s, const char *pattern, enum data_part part, struct dataset *d)
{
    static const struct data_view whole;
    SCOPED(name_list_release) struct name_list path = {0};
    SCOPED(picture_release) struct picture p = {0};

    TRY(list_shards(pattern, part, d, &path));
    TRY(open_shards(s, &path));
    TRY(index_all(s));
    if (s->first[s->n_shard] == 0)
        return fail(ERR_DATA, "'%s': no sample (KEY.jpg and KEY.cls) in %" PRId64 " shards",
                    pattern, s->n_shard);
    TRY(see_record(s, 0, &whole, &p));
    d->channels = 3;
    d->height = s->height = p.height;
    d->width = s->width = p.width;
    d->owner->pictures = true;
    return 0;
}

static int describe(const struct shards *s, const char *pattern, struct dataset *d)
{
    int64_t skipped = 0;

    for (int64_t i = 0; i < s->n_shard; i++)
        skipped += s->shard[i].skipped;
    TRY(data_owner_source(d, "shards '%s' (%" PRId64 " files", pattern, s->n_shard));
    if (skipped > 0)
        TRY(data_owner_source(d, "; skipped: %" PRId64 " members of other kinds", skipped));
    return data_owner_source(d, ")");
}

int data_shards_load(const char *pattern, enum data_part part, const struct data_options *o,
                     struct dataset *d)
{
    struct shards *s = mem_array(1, sizeof *s);
    const struct stream_source source = {s, shards_read, shards_identify, shards_release};
    int rc;

    if (s == NULL)
        return ERR_NOMEM;
    s->o = *o;
    if ((rc = load_index(s, pattern, part, d)) < 0 || (rc = describe(s, pattern, d)) < 0) {
        shards_release(s);
        return rc;
    }
    TRY(data_owner_records(d, s->first[s->n_shard], false, &source));
    for (int64_t i = 0, at = 0; i < s->n_shard; i++)
        for (int64_t k = 0; k < s->shard[i].n; k++, at++) {
            const int32_t label = s->shard[i].record[k].label;
            d->owner->labels[at] = label;
            d->classes = label >= d->classes ? label + 1 : d->classes;
        }
    return 0;
}
