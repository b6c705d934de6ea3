/*
 * Pictures in folders: ImageFolder and Tiny-ImageNet-200.
 *
 *     ROOT/train/CLASS    with .jpg, .jpeg or .png; ROOT/test or ROOT/val of the same form
 *     ROOT/CLASS          one part only
 *     ROOT/wnids.txt      train/ID/images, val/images and val/val_annotations.txt: Tiny-ImageNet
 *
 * The class is the place of the folder's name in sorted order (bytes), also for Tiny-ImageNet, whose
 * wnids.txt has another order. All pictures must have one size: nothing is resized here.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "trainer/data/owner.h"
#include "trainer/data/picture.h"

#define PATH_SIZE 4096
#define MOST_CLASSES 100000
#define MOST_PICTURES 50000000
#define MOST_TEXT ((size_t)1 << 26)

/* ---- lists of names -------------------------------------------------------------------------- */

struct names {
    char **v;
    int32_t *label; /* of files */
    size_t n, cap;
};

static void names_release(struct names *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->v[i]);
    mem_free(s->v);
    mem_free(s->label);
    *s = (struct names){0};
}

static int names_add(struct names *s, const char *text, int32_t label)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap > 0 ? 2 * s->cap : 64;
        char **v = mem_resize(s->v, cap, sizeof *v);
        if (v == NULL)
            return ERR_NOMEM;
        s->v = v;
        int32_t *l = mem_resize(s->label, cap, sizeof *l);
        if (l == NULL)
            return ERR_NOMEM;
        s->label = l;
        s->cap = cap;
    }
    if (s->n >= MOST_PICTURES)
        return fail(ERR_DATA, "more than %d pictures", MOST_PICTURES);
    if ((s->v[s->n] = mem_strdup(text)) == NULL)
        return ERR_NOMEM;
    s->label[s->n++] = label;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int join(char path[PATH_SIZE], const char *folder, const char *name)
{
    if (snprintf(path, PATH_SIZE, "%s/%s", folder, name) >= PATH_SIZE)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", folder, PATH_SIZE);
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
                           strcasecmp(dot, ".png") == 0);
}

/* Sorted names in a folder that are folders, or pictures. */
static int list_folder(const char *folder, bool folders, struct names *out)
{
    DIR *dir = opendir(folder);
    char path[PATH_SIZE];
    int rc = 0;

    if (dir == NULL)
        return fail(ERR_DATA, "'%s': there is no such folder", folder);
    for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.' || (rc = join(path, folder, e->d_name)) < 0)
            continue;
        if (folders ? is_folder(path) : is_picture(e->d_name))
            rc = names_add(out, e->d_name, 0);
    }
    closedir(dir);
    if (rc == 0 && out->n > 0)
        qsort(out->v, out->n, sizeof *out->v, by_name);
    return rc;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void to_planes(const struct picture *p, uint8_t *chw)
{
    const size_t n = (size_t)p->height * (size_t)p->width;

    for (size_t i = 0; i < 3 * n; i++)
        chw[i] = p->rgb[i % n * 3 + i / n];
}

static int load_one(const struct dataset *d, const char *path, uint8_t *chw)
{
    struct picture p = {0};
    int rc = picture_read(path, &p);

    if (rc == 0 && (p.height != d->height || p.width != d->width))
        rc = fail(ERR_DATA,
                  "'%s' has %dx%d pixels, the first picture %dx%d: scale them to one size first",
                  path, p.width, p.height, d->width, d->height);
    if (rc == 0)
        to_planes(&p, chw);
    picture_release(&p);
    return rc == 0 || rc == ERR_NOMEM ? rc : ERR_DATA;
}

/* Reads all files; the first one, by index, that fails gives the message. */
static int load_files(const struct names *files, struct dataset *d)
{
    const int64_t n = (int64_t)files->n;
    size_t size;
    struct picture first = {0};
    int64_t bad = n;

    TRY(picture_read(files->v[0], &first));
    d->n = n;
    d->channels = 3;
    d->height = first.height;
    d->width = first.width;
    picture_release(&first);
    TRY(data_owner_alloc(d, n, false));
    size = 3 * (size_t)d->height * (size_t)d->width;
#pragma omp parallel for schedule(dynamic, 64) reduction(min : bad)
    for (int64_t i = 0; i < n; i++)
        if (load_one(d, files->v[i], d->owner->pixels + (size_t)i * size) < 0)
            bad = i < bad ? i : bad;
    memcpy(d->owner->labels, files->label, (size_t)n * sizeof *files->label);
    if (bad < n) /* once more, for its message on this thread */
        return load_one(d, files->v[bad], d->owner->pixels);
    return 0;
}

/* ---- class folders --------------------------------------------------------------------------- */

static int add_pictures(const char *folder, int32_t label, struct names *files)
{
    struct names found = {0};
    char path[PATH_SIZE];
    int rc = list_folder(folder, false, &found);

    for (size_t i = 0; rc == 0 && i < found.n; i++)
        if ((rc = join(path, folder, found.v[i])) == 0)
            rc = names_add(files, path, label);
    names_release(&found);
    return rc;
}

/* Pictures of root/CLASS/inside ("" for none between). */
static int add_classes(const char *root, const char *inside, const struct names *classes,
                       struct names *files)
{
    char folder[PATH_SIZE], path[PATH_SIZE];

    for (size_t c = 0; c < classes->n; c++) {
        TRY(join(folder, root, classes->v[c]));
        TRY(join(path, folder, inside));
        TRY(add_pictures(*inside != '\0' ? path : folder, (int32_t)c, files));
    }
    return 0;
}

static int finish(const char *root, const struct names *classes, const struct names *files,
                  struct dataset *d)
{
    if (classes->n > MOST_CLASSES)
        return fail(ERR_DATA, "'%s': %zu classes, at most %d", root, classes->n, MOST_CLASSES);
    if (files->n == 0)
        return fail(ERR_DATA, "'%s': no .jpg, .jpeg or .png in its class folders", root);
    d->classes = (int32_t)classes->n;
    d->owner->classes_known = true;
    return load_files(files, d);
}

int data_folder_load(const char *root, struct dataset *d)
{
    struct names classes = {0}, files = {0};
    int rc;

    if ((rc = list_folder(root, true, &classes)) == 0 &&
        (rc = add_classes(root, "", &classes, &files)) == 0 &&
        (rc = finish(root, &classes, &files, d)) == 0)
        rc = data_owner_source(d, "image folder '%s' (%zu classes)", root, classes.n);
    d->owner->one_split = true;
    names_release(&classes);
    names_release(&files);
    return rc;
}

int data_imagefolder_load(const char *root, bool is_test, struct dataset *d)
{
    char path[PATH_SIZE];

    TRY(join(path, root, "train"));
    if (!is_folder(path))
        return data_folder_load(root, d);
    if (is_test) {
        TRY(join(path, root, "test"));
        if (!is_folder(path))
            TRY(join(path, root, "val"));
        if (!is_folder(path))
            return fail(ERR_DATA, "'%s': has neither a folder test nor val", root);
    }
    TRY(data_folder_load(path, d));
    d->owner->one_split = false;
    return 0;
}

/* ---- Tiny-ImageNet --------------------------------------------------------------------------- */

static int32_t find_class(const struct names *classes, const char *id)
{
    size_t lo = 0, hi = classes->n;

    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const int order = strcmp(id, classes->v[mid]);
        if (order == 0)
            return (int32_t)mid;
        *(order < 0 ? &hi : &lo) = order < 0 ? mid : mid + 1;
    }
    return -1;
}

static int read_text(const char *root, const char *name, char **text)
{
    char path[PATH_SIZE];
    size_t len;
    uint8_t *data = NULL;

    TRY(join(path, root, name));
    if (file_read(path, MOST_TEXT, &data, &len) < 0)
        return fail_context(ERR_DATA, "Tiny-ImageNet");
    *text = (char *)data;
    return 0;
}

static int read_ids(const char *root, struct names *classes)
{
    char *text = NULL, *save = NULL;
    int rc;

    TRY(read_text(root, "wnids.txt", &text));
    rc = 0;
    for (char *id = strtok_r(text, " \r\n", &save); rc == 0 && id != NULL;
         id = strtok_r(NULL, " \r\n", &save))
        rc = strchr(id, '/') != NULL ? fail(ERR_DATA, "'%s/wnids.txt': '%.40s' is no id", root, id)
                                     : names_add(classes, id, 0);
    mem_free(text);
    if (rc == 0 && classes->n > 0)
        qsort(classes->v, classes->n, sizeof *classes->v, by_name);
    return rc;
}

/* "file TAB id TAB box" a line */
static int add_annotation(const char *root, char *line, const struct names *classes,
                          struct names *files)
{
    char path[PATH_SIZE], *save = NULL, *file = strtok_r(line, "\t", &save);
    const char *id = strtok_r(NULL, "\t\r", &save);
    const int32_t label = id != NULL ? find_class(classes, id) : -1;

    if (label < 0 || strchr(file, '/') != NULL)
        return fail(ERR_DATA, "'%s/val/val_annotations.txt': '%.40s' has no id of wnids.txt", root,
                    file);
    if (snprintf(path, sizeof path, "%s/val/images/%s", root, file) >= (int)sizeof path)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", root, PATH_SIZE);
    return names_add(files, path, label);
}

static int add_annotated(const char *root, const struct names *classes, struct names *files)
{
    char *text = NULL, *save = NULL;
    int rc = 0;

    TRY(read_text(root, "val/val_annotations.txt", &text));
    for (char *line = strtok_r(text, "\n", &save); rc == 0 && line != NULL;
         line = strtok_r(NULL, "\n", &save))
        if (*line != '\r')
            rc = add_annotation(root, line, classes, files);
    mem_free(text);
    return rc;
}

int data_tiny_load(const char *root, bool is_test, struct dataset *d)
{
    struct names classes = {0}, files = {0};
    char path[PATH_SIZE];
    int rc;

    if ((rc = read_ids(root, &classes)) == 0 && (rc = join(path, root, "train")) == 0 &&
        (rc = is_test ? add_annotated(root, &classes, &files)
                      : add_classes(path, "images", &classes, &files)) == 0 &&
        (rc = finish(root, &classes, &files, d)) == 0)
        rc = data_owner_source(d, "Tiny-ImageNet folder '%s' (%zu classes%s)", root, classes.n,
                               is_test ? ", its val part" : "");
    names_release(&classes);
    names_release(&files);
    return rc;
}
