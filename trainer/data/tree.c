/* Trees of files in folders and archives; see tree.h. */
#include "trainer/data/tree.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "trainer/data/picture.h"

#define PATH_SIZE 4096
#define MOST_NAMES 50000000
#define MOST_DEPTH 6

/* ---- lists of names -------------------------------------------------------------------------- */

int name_list_add(struct name_list *s, const char *text, size_t len)
{
    TRY(mem_grow(&s->v, s->n + 1, &s->cap, sizeof *s->v));
    if (s->n >= MOST_NAMES)
        return fail(ERR_DATA, "more than %d files", MOST_NAMES);
    if ((s->v[s->n] = mem_array(len + 1, 1)) == NULL)
        return ERR_NOMEM;
    memcpy(s->v[s->n++], text, len);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void name_list_sort(struct name_list *s)
{
    if (s->n > 0)
        qsort(s->v, s->n, sizeof *s->v, by_name);
}

int64_t name_list_find(const struct name_list *s, const char *text)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const int order = strcmp(text, s->v[mid]);
        if (order == 0)
            return (int64_t)mid;
        *(order < 0 ? &hi : &lo) = order < 0 ? mid : mid + 1;
    }
    return -1;
}

void name_list_release(struct name_list *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->v[i]);
    mem_free(s->v);
    *s = (struct name_list){0};
}

/* ---- folders --------------------------------------------------------------------------------- */

bool tree_is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL && tree_is_picture_ending(dot + 1);
}

bool tree_is_picture_ending(const char *end)
{
    return strcasecmp(end, "jpg") == 0 || strcasecmp(end, "jpeg") == 0 ||
           strcasecmp(end, "png") == 0;
}

static bool is_ignored(const char *base)
{
    return base[0] == '.' || strcmp(base, "__MACOSX") == 0;
}

struct above { /* a folder and those that it lies in */
    dev_t dev;
    ino_t ino;
    int depth;
    const struct above *up;
};

static int walk(const char *root, const char *below, const struct above *here,
                struct name_list *out);

/* A link to a folder above it would be walked again and again. */
static int enter(const char *root, const char *name, const struct stat *st,
                 const struct above *from, struct name_list *out)
{
    const struct above here = {st->st_dev, st->st_ino, from->depth + 1, from};

    for (const struct above *a = from; a != NULL; a = a->up)
        if (a->dev == st->st_dev && a->ino == st->st_ino)
            return fail(ERR_DATA, "'%s/%s' is a link to a folder that it lies in", root, name);
    return walk(root, name, &here, out);
}

static int walk_entry(const char *root, const char *below, const char *base,
                      const struct above *here, struct name_list *out)
{
    char name[PATH_SIZE], path[2 * PATH_SIZE];
    struct stat st;

    if (snprintf(name, sizeof name, "%s%s", below, base) >= PATH_SIZE - 1)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", below, PATH_SIZE);
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (stat(path, &st) != 0)
        return tree_is_picture(base) ? fail(ERR_DATA, "'%s' cannot be read", path) : 0;
    if (S_ISDIR(st.st_mode)) {
        strcat(name, "/");
        TRY(name_list_add(out, name, strlen(name)));
        return enter(root, name, &st, here, out);
    }
    if (S_ISREG(st.st_mode))
        return name_list_add(out, name, strlen(name));
    return tree_is_picture(base) ? fail(ERR_DATA, "'%s' is not a regular file", path) : 0;
}

/* below: "" or a folder with its slash. */
static int walk(const char *root, const char *below, const struct above *here,
                struct name_list *out)
{
    char path[2 * PATH_SIZE];
    DIR *dir;
    int rc = 0;

    if (here->depth > MOST_DEPTH)
        return 0;
    snprintf(path, sizeof path, "%s/%s", root, below);
    if ((dir = opendir(path)) == NULL)
        return fail(ERR_DATA, "'%s': there is no such folder, or it cannot be read", path);
    for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;)
        if (!is_ignored(e->d_name))
            rc = walk_entry(root, below, e->d_name, here, out);
    closedir(dir);
    return rc;
}

/* ---- archives -------------------------------------------------------------------------------- */

static bool has_ignored_part(const char *name)
{
    for (const char *part = name; part != NULL;) {
        if (is_ignored(part) || strncmp(part, "__MACOSX/", 9) == 0)
            return true;
        part = strchr(part, '/');
        part = part != NULL && part[1] != '\0' ? part + 1 : NULL;
    }
    return false;
}

/* Length of what stands before a folder `train/` or the file wnids.txt; -1 for neither. */
static int64_t before_mark(const char *name)
{
    const char *train = strncmp(name, "train/", 6) == 0 ? name : strstr(name, "/train/");

    if (train != NULL)
        return train - name + (*train == '/');
    return strcmp(archive_base(name), "wnids.txt") == 0 ? archive_base(name) - name : -1;
}

/* Where the class folders lie: the parent of the folders of the images, so of the first one. */
static size_t above_classes(const char *picture)
{
    size_t n = strlen(picture), slashes = 0;

    while (n > 0 && slashes < 2)
        slashes += picture[--n] == '/';
    return slashes == 2 ? n + 1 : 0;
}

/* The name that begins with the folders to be skipped, and their length. */
static const char *find_above(const struct name_list *all, size_t *len)
{
    const char *picture = "";

    for (size_t i = 0; i < all->n; i++) {
        const int64_t n = before_mark(all->v[i]);
        if (n >= 0) {
            *len = (size_t)n;
            return all->v[i];
        }
        if (*picture == '\0' && tree_is_picture(all->v[i]))
            picture = all->v[i];
    }
    *len = above_classes(picture);
    return picture;
}

static int cut_above(struct tree *t, const struct name_list *all)
{
    size_t n;
    const char *above = find_above(all, &n);

    if ((t->above = mem_array(n + 1, 1)) == NULL)
        return ERR_NOMEM;
    memcpy(t->above, above, n);
    for (size_t i = 0; i < all->n; i++)
        if (strncmp(all->v[i], t->above, n) == 0 && all->v[i][n] != '\0')
            TRY(name_list_add(&t->name, all->v[i] + n, strlen(all->v[i] + n)));
    return 0;
}

static int list_archive(struct tree *t)
{
    SCOPED(archive_files_free_at) struct archive_files *f = NULL;
    SCOPED(name_list_release) struct name_list all = {0};

    TRY(archive_files_read(t->root, NULL, NULL, &f));
    for (int32_t i = 0; i < f->n; i++)
        if (!has_ignored_part(f->v[i].name))
            TRY(name_list_add(&all, f->v[i].name, strlen(f->v[i].name)));
    name_list_sort(&all);
    return cut_above(t, &all);
}

struct wanted {
    const struct tree *t;
    const char *under;
};

static bool is_wanted(const void *ctx, const char *name)
{
    const struct wanted *w = ctx;
    const size_t n = strlen(w->t->above);

    return strncmp(name, w->t->above, n) == 0 && name_list_find(&w->t->name, name + n) >= 0 &&
           strncmp(name + n, w->under, strlen(w->under)) == 0;
}

static int by_member(const void *a, const void *b)
{
    return strcmp(((const struct archive_file *)a)->name, ((const struct archive_file *)b)->name);
}

/* ---- both ------------------------------------------------------------------------------------ */

int tree_open(const char *path, struct tree *t)
{
    struct stat st;

    *t = (struct tree){0};
    if (stat(path, &st) != 0)
        return fail(ERR_DATA, "'%s': there is no such folder or file", path);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return fail(ERR_DATA, "'%s' is neither a folder nor a regular file", path);
    if ((t->root = mem_strdup(path)) == NULL)
        return ERR_NOMEM;
    t->is_archive = !S_ISDIR(st.st_mode);
    const struct above root = {st.st_dev, st.st_ino, 0, NULL};
    TRY(t->is_archive ? list_archive(t) : walk(path, "", &root, &t->name));
    name_list_sort(&t->name);
    return 0;
}

void tree_release(struct tree *t)
{
    mem_free(t->root);
    mem_free(t->above);
    name_list_release(&t->name);
    archive_files_free(t->files);
    *t = (struct tree){0};
}

bool tree_has(const struct tree *t, const char *name)
{
    if (name_list_find(&t->name, name) >= 0)
        return true;
    for (size_t i = 0; i < t->name.n; i++) /* an archive may not list its folders */
        if (strncmp(t->name.v[i], name, strlen(name)) == 0)
            return name[strlen(name) - 1] == '/';
    return false;
}

int tree_load(struct tree *t, const char *under)
{
    const struct wanted w = {t, under};

    if (!t->is_archive)
        return 0;
    archive_files_free(t->files);
    t->files = NULL;
    TRY(archive_files_read(t->root, is_wanted, &w, &t->files));
    if (t->files->n > 0)
        qsort(t->files->v, (size_t)t->files->n, sizeof *t->files->v, by_member);
    for (int32_t i = 1; i < t->files->n; i++)
        if (by_member(&t->files->v[i - 1], &t->files->v[i]) == 0)
            return fail(ERR_DATA, "'%s': archive: holds '%s' twice", t->root, t->files->v[i].name);
    return 0;
}

static int read_member(const struct tree *t, const char *name, uint8_t **data, size_t *len)
{
    char whole[2 * PATH_SIZE];
    const struct archive_file key = {.name = whole}, *m;

    if (snprintf(whole, sizeof whole, "%s%s", t->above, name) >= (int)sizeof whole)
        return fail(ERR_DATA, "path '%.60s...' is too long", name);
    m = t->files == NULL || t->files->n == 0
            ? NULL
            : bsearch(&key, t->files->v, (size_t)t->files->n, sizeof key, by_member);
    if (m == NULL)
        return fail(ERR_DATA, "'%s': archive: '%s' is missing in it", t->root, name);
    if ((*data = mem_array(m->len + 1, 1)) == NULL)
        return ERR_NOMEM;
    if (m->len > 0)
        memcpy(*data, m->data, m->len);
    *len = m->len;
    return 0;
}

int tree_read(const struct tree *t, const char *name, uint8_t **data, size_t *len)
{
    char path[2 * PATH_SIZE];
    int rc;

    if (t->is_archive)
        return read_member(t, name, data, len);
    if (snprintf(path, sizeof path, "%s/%s", t->root, name) >= (int)sizeof path)
        return fail(ERR_DATA, "path '%.60s...' is too long", name);
    rc = file_read(path, PICTURE_MOST_BYTES, data, len);
    return rc < 0 && rc != ERR_NOMEM ? fail_context(ERR_DATA, "data") : rc;
}
