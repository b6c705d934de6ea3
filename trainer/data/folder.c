/*
 * Images in class folders, on disk or in an archive: image folders and Tiny-ImageNet-200.
 *
 *     train/CLASS/NAME   .jpg, .jpeg or .png; test/CLASS/NAME and val/CLASS/NAME of the same form
 *     CLASS/NAME         one set without parts
 *     wnids.txt          Tiny-ImageNet: train/ID/images/NAME; val/images/NAME with the classes in
 *                        val/val_annotations.txt, or val sorted into ID/NAME or ID/images/NAME
 *
 * The class is the place of the folder's name among the sorted names (bytes) of the training part, in
 * every part, also for Tiny-ImageNet, whose wnids.txt has another order. A class without images, one
 * that another part lacks and one that the training part lacks are refused: labels would shift.
 *
 * Images of several sizes must be made one by data_options (resize, crop). Here names are listed and the
 * first image is read; who reads the others, and when, is decided in data_owner_settle.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/mem.h"
#include "trainer/data/owner.h"
#include "trainer/data/see.h"
#include "trainer/data/tree.h"

#define MOST_CLASSES 100000
#define MOST_KINDS 8 /* of skipped files that are told apart */
#define KIND 24
#define PATH_SIZE 4096

struct listed {
    char *name; /* in the tree */
    int32_t label;
};
struct listing { /* what is to be read */
    const struct tree *tree;
    struct name_list classes; /* of the training part, sorted */
    struct listed *file;
    size_t n, cap;
    int64_t nested, stray; /* images below or beside the class folders */
    struct {
        char end[KIND];
        int64_t n;
    } skipped[MOST_KINDS]; /* other files by their ending */
};

static void listing_release(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->file[i].name);
    mem_free(l->file);
    name_list_release(&l->classes);
}

static int add_file(struct listing *l, const char *name, int32_t label)
{
    TRY(mem_grow(&l->file, l->n + 1, &l->cap, sizeof *l->file));
    l->file[l->n] = (struct listed){mem_strdup(name), label};
    return l->file[l->n].name != NULL ? (l->n++, 0) : ERR_NOMEM;
}

/* ---- what is skipped ------------------------------------------------------------------------- */

static void count_skipped(struct listing *l, const char *name)
{
    const char *base = archive_base(name), *dot = strrchr(base, '.');
    char end[KIND];
    int k = 0;

    snprintf(end, sizeof end, "%s", dot != NULL ? dot : "without an ending");
    while (k < MOST_KINDS - 1 && l->skipped[k].n > 0 && strcasecmp(end, l->skipped[k].end) != 0)
        k++;
    if (l->skipped[k].n == 0)
        snprintf(l->skipped[k].end, KIND, "%s", k < MOST_KINDS - 1 ? end : "others");
    l->skipped[k].n++;
}

/* "; skipped: 3 .bmp, 1 .webp, 2 images in nested folders" or nothing. */
static int tell_skipped(const struct listing *l, struct dataset *d)
{
    const char *before = "; skipped:";

    for (int k = 0; k < MOST_KINDS && l->skipped[k].n > 0; k++, before = ",")
        TRY(data_owner_source(d, "%s %" PRId64 " %s", before, l->skipped[k].n, l->skipped[k].end));
    if (l->nested > 0) {
        TRY(data_owner_source(d, "%s %" PRId64 " images in nested folders", before, l->nested));
        before = ",";
    }
    if (l->stray > 0)
        TRY(data_owner_source(d, "%s %" PRId64 " images beside the class folders", before,
                              l->stray));
    return 0;
}

/* ---- names to labels ------------------------------------------------------------------------- */

/* What stands after `under`, NULL for names that do not begin with it. */
static const char *below(const char *name, const char *under)
{
    const size_t n = strlen(under);

    return strncmp(name, under, n) == 0 && name[n] != '\0' ? name + n : NULL;
}

/* Folders directly below `under`, sorted. */
static int list_classes(const struct tree *t, const char *under, struct name_list *out)
{
    for (size_t i = 0; i < t->name.n; i++) {
        const char *rest = below(t->name.v[i], under), *slash = rest ? strchr(rest, '/') : NULL;
        const size_t n = slash != NULL ? (size_t)(slash - rest) : 0;
        if (slash == NULL || (out->n > 0 && strlen(out->v[out->n - 1]) == n &&
                              strncmp(out->v[out->n - 1], rest, n) == 0))
            continue;
        TRY(name_list_add(out, rest, n));
    }
    name_list_sort(out);
    return out->n <= MOST_CLASSES
               ? 0
               : fail(ERR_DATA, "'%s': %zu classes, at most %d", t->root, out->n, MOST_CLASSES);
}

/* rest: CLASS/... of one name below `under`. inside: a folder between class and images, or "". */
static int list_one(struct listing *l, const char *under, const char *inside, const char *name,
                    const char *rest)
{
    const char *slash = strchr(rest, '/');
    char class[PATH_SIZE];
    int64_t label;

    if (slash == NULL) {
        l->stray += tree_is_picture(rest);
        return 0;
    }
    snprintf(class, sizeof class, "%.*s", (int)(slash - rest), rest);
    if ((label = name_list_find(&l->classes, class)) < 0)
        return fail(ERR_DATA, "'%s': '%s%s' is no class of the training images", l->tree->root,
                    under, class);
    if ((rest = *inside != '\0' ? below(slash + 1, inside) : slash + 1) == NULL || *rest == '\0')
        return 0;
    if (strchr(rest, '/') != NULL) {
        l->nested += tree_is_picture(rest);
        return 0;
    }
    if (tree_is_picture(rest))
        return add_file(l, name, (int32_t)label);
    count_skipped(l, rest);
    return 0;
}

static int by_label(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;

    return x->label != y->label ? (x->label < y->label ? -1 : 1) : strcmp(x->name, y->name);
}

/* Every class must have an image. */
static int check_classes(struct listing *l, const char *under)
{
    int64_t next = 0;

    for (size_t i = 0; i <= l->n; i++) {
        const int64_t label = i < l->n ? l->file[i].label : (int64_t)l->classes.n;
        if (label > next)
            return fail(ERR_DATA, "'%s': class '%s' has no image (.jpg, .jpeg, .png) in '%s%s/'",
                        l->tree->root, l->classes.v[next], under, l->classes.v[next]);
        next = label + 1;
    }
    return 0;
}

static int list_files(struct listing *l, const char *under, const char *inside)
{
    for (size_t i = 0; i < l->tree->name.n; i++) {
        const char *name = l->tree->name.v[i], *rest = below(name, under);
        if (rest != NULL)
            TRY(list_one(l, under, inside, name, rest));
    }
    if (l->n > 0)
        qsort(l->file, l->n, sizeof *l->file, by_label);
    return check_classes(l, under);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What is read of a folder once its files are listed. */
struct folder {
    struct tree tree;
    struct listing list;
    struct data_options o;
    int32_t height, width; /* of an image */
};

static void folder_release(void *ctx)
{
    struct folder *f = ctx;

    if (f == NULL)
        return;
    listing_release(&f->list);
    tree_release(&f->tree);
    mem_free(f);
}
FREE_AT(folder_release, struct folder)

/* A message names the folder or archive and the file in it. */
static int see(const struct folder *f, int64_t record, const struct data_view *view,
               struct picture *p)
{
    const char *name = f->list.file[record].name;
    OWNED uint8_t *data = NULL;
    size_t len = 0;

    TRY(tree_read(&f->tree, name, &data, &len));
    const int rc = picture_see(data, len, name, &f->o, view, record, p);
    return rc < 0 && rc != ERR_NOMEM ? fail_context(ERR_DATA, "'%s'", f->tree.root) : rc;
}

static int folder_read(const void *ctx, int64_t record, const struct data_view *view, void *out)
{
    const struct folder *f = ctx;
    SCOPED(picture_release) struct picture p = {0};

    TRY(see(f, record, view, &p));
    if (p.height != f->height || p.width != f->width)
        return fail(
            ERR_DATA,
            "'%s/%s' has %dx%d pixels, the first image %dx%d: bring them to one size, with --resize N --crop HxW",
            f->tree.root, f->list.file[record].name, p.width, p.height, f->width, f->height);
    picture_planes(&p, out);
    return 0;
}

static int folder_identify(const void *ctx, int64_t record, struct sha256 *h)
{
    const struct folder *f = ctx;
    const char *name = f->list.file[record].name;

    return sha256_add(h, name, strlen(name) + 1);
}

/* The first image says how large all of them are. */
static int measure(struct folder *f, struct dataset *d)
{
    static const struct data_view whole;
    SCOPED(picture_release) struct picture p = {0};

    TRY(see(f, 0, &whole, &p));
    d->channels = 3;
    d->height = f->height = p.height;
    d->width = f->width = p.width;
    return 0;
}

/* The files of a finished listing, which lie below `under`. */
static int load_listing(struct folder *f, const char *under, struct dataset *d)
{
    const struct listing *l = &f->list;

    if (l->n == 0)
        return fail(ERR_DATA, "'%s': no .jpg, .jpeg or .png in class folders", f->tree.root);
    TRY(tree_load(&f->tree, under));
    d->classes = (int32_t)l->classes.n;
    d->owner->classes_known = d->owner->pictures = true;
    for (size_t i = 0; i < l->classes.n; i++)
        TRY(name_list_add(&d->owner->class_name, l->classes.v[i], strlen(l->classes.v[i])));
    return measure(f, d);
}

/* Hands a finished listing over to the data set. */
static int give(struct folder *f, struct dataset *d)
{
    const struct stream_source source = {f, folder_read, folder_identify, folder_release};

    TRY(data_owner_records(d, (int64_t)f->list.n, false, &source));
    for (size_t i = 0; i < f->list.n; i++)
        d->owner->labels[i] = f->list.file[i].label;
    return 0;
}

/* ---- image folders --------------------------------------------------------------------------- */

int data_find_part(const struct tree *t, enum data_part part, struct dataset *d, const char **under)
{
    static const char *const val[] = {"val/", "valid/", "validation/"};
    const bool test = tree_has(t, "test/");
    const char *other = NULL;

    *under = "";
    d->owner->one_set = !tree_has(t, "train/");
    if (d->owner->one_set)
        return 0;
    for (int i = 2; i >= 0; i--)
        if (tree_has(t, val[i]))
            other = val[i];
    d->owner->own_val = test && other != NULL;
    *under = "train/";
    if (part == DATA_PART_VAL && d->owner->own_val)
        *under = other;
    if (part == DATA_PART_TEST) {
        if (!test && other == NULL)
            return fail(ERR_DATA, "'%s': has neither a folder test nor val", t->root);
        *under = test ? "test/" : other;
    }
    return 0;
}

static int load_classes(struct folder *f, enum data_part part, struct dataset *d)
{
    const struct tree *t = &f->tree;
    struct listing *l = &f->list;
    const char *under;

    TRY(data_find_part(t, part, d, &under));
    TRY(list_classes(t, d->owner->one_set ? "" : "train/", &l->classes));
    TRY(list_files(l, under, ""));
    TRY(load_listing(f, under, d));
    TRY(data_owner_source(d, "image %s '%s%s%.*s' (%zu classes",
                          t->is_archive ? "archive" : "folder", t->root, *under != '\0' ? "/" : "",
                          (int)strcspn(under, "/"), under, l->classes.n));
    TRY(tell_skipped(l, d));
    return data_owner_source(d, ")");
}

/* ---- Tiny-ImageNet --------------------------------------------------------------------------- */

static int read_ids(const struct tree *t, struct name_list *classes)
{
    OWNED char *text = NULL;
    char *save = NULL;
    size_t len;

    TRY(tree_read(t, "wnids.txt", (uint8_t **)(void *)&text, &len));
    for (char *id = strtok_r(text, " \r\n", &save); id != NULL;
         id = strtok_r(NULL, " \r\n", &save)) {
        if (strchr(id, '/') != NULL)
            return fail(ERR_DATA, "'%s': wnids.txt: '%.40s' is no id", t->root, id);
        TRY(name_list_add(classes, id, strlen(id)));
    }
    name_list_sort(classes);
    return 0;
}

/* "file TAB id TAB box" a line */
static int add_annotation(struct listing *l, char *line)
{
    char path[PATH_SIZE], *save = NULL, *file = strtok_r(line, "\t", &save);
    const char *id = strtok_r(NULL, "\t\r", &save);
    const int64_t label = id != NULL ? name_list_find(&l->classes, id) : -1;

    if (label < 0 || strchr(file, '/') != NULL)
        return fail(ERR_DATA, "'%s': val/val_annotations.txt: '%.40s' has no id of wnids.txt",
                    l->tree->root, file);
    if (snprintf(path, sizeof path, "val/images/%s", file) >= (int)sizeof path)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", file, PATH_SIZE);
    return add_file(l, path, (int32_t)label);
}

static int list_annotated(struct listing *l)
{
    OWNED char *text = NULL;
    char *save = NULL;
    size_t len;

    TRY(tree_read(l->tree, "val/val_annotations.txt", (uint8_t **)(void *)&text, &len));
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        if (*line != '\r')
            TRY(add_annotation(l, line));
    return 0;
}

/* Between the class and its images: "images/" as published, or nothing. */
static const char *inside_of(const struct tree *t, const char *part, const char *id)
{
    char name[PATH_SIZE];

    snprintf(name, sizeof name, "%s%s/images/", part, id);
    return tree_has(t, name) ? "images/" : "";
}

static int list_tiny(struct listing *l, bool is_test)
{
    const char *part = is_test ? "val/" : "train/";

    if (l->classes.n == 0)
        return fail(ERR_DATA, "'%s': wnids.txt names no class", l->tree->root);
    if (is_test && tree_has(l->tree, "val/val_annotations.txt") && tree_has(l->tree, "val/images/"))
        return list_annotated(l);
    return list_files(l, part, inside_of(l->tree, part, l->classes.v[0]));
}

static int load_tiny(struct folder *f, enum data_part part, struct dataset *d)
{
    const bool is_test = part == DATA_PART_TEST;
    struct tree *t = &f->tree;
    struct listing *l = &f->list;

    TRY(tree_load(t, "wnids.txt"));
    TRY(read_ids(t, &l->classes));
    TRY(tree_load(t, "val/val_annotations.txt"));
    TRY(list_tiny(l, is_test));
    TRY(load_listing(f, is_test ? "val/" : "train/", d));
    TRY(data_owner_source(d, "Tiny-ImageNet %s '%s' (%zu classes%s",
                          t->is_archive ? "archive" : "folder", t->root, l->classes.n,
                          is_test ? ", its val part" : ""));
    TRY(tell_skipped(l, d));
    return data_owner_source(d, ")");
}

/* ---- public ---------------------------------------------------------------------------------- */

static int open_folder(const char *path, const struct data_options *o, struct folder **out)
{
    SCOPED(folder_release_at) struct folder *f = mem_array(1, sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    f->o = *o;
    f->list.tree = &f->tree;
    TRY(tree_open(path, &f->tree));
    *out = mem_hand_on(&f);
    return 0;
}

int data_imagefolder_load(const char *path, enum data_part part, const struct data_options *o,
                          struct dataset *d)
{
    SCOPED(folder_release_at) struct folder *f = NULL;

    TRY(open_folder(path, o, &f));
    TRY(tree_has(&f->tree, "wnids.txt") ? load_tiny(f, part, d) : load_classes(f, part, d));
    return give(mem_hand_on(&f), d);
}

int data_folder_load(const char *root, struct dataset *d)
{
    static const struct data_options none;
    SCOPED(folder_release_at) struct folder *f = NULL;

    TRY(open_folder(root, &none, &f));
    TRY(load_classes(f, DATA_PART_TRAIN, d));
    TRY(give(mem_hand_on(&f), d));
    return data_owner_settle(d, &none);
}

int data_imagefolder_classes(const char *path, struct name_list *classes)
{
    SCOPED(tree_release) struct tree t = {0};

    TRY(tree_open(path, &t));
    if (!tree_has(&t, "wnids.txt"))
        return list_classes(&t, tree_has(&t, "train/") ? "train/" : "", classes);
    TRY(tree_load(&t, "wnids.txt"));
    return read_ids(&t, classes);
}
