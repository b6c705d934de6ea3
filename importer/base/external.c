/*
 * Numbers of a tensor in another file, which the model names. The name is an
 * attacker's to choose, so the file is opened beneath the model's folder without following links,
 * must be a regular file with one name, and is checked after opening, never before.
 *
 *     location   relative path           offset, length   decimal bytes; defaults 0, rest of file
 *     checksum   of the whole file, not verified: SHA-1, and the tensor's size is checked
 *     basepath   of old writers, ignored with a warning
 *
 * A missing file is reported once, not once for each of its tensors.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx.pb-c.h"

#include "core/base/file.h"
#include "importer/base/import.h"

#define LOCATION_MAX 1024

struct place { /* where a tensor's bytes are */
    const char *location;
    uint64_t offset, length;
    bool has_length;
};

static int parse_decimal(struct import *im, const char *tensor, const char *key, const char *text,
                         uint64_t *out)
{
    uint64_t v = 0;
    size_t n = strlen(text);

    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return report_problem(im, "E1104", "",
                              "tensor '%s': external data %s '%s' is not a decimal number", tensor,
                              key, text);
    for (size_t k = 0; k < n; k++)
        v = v * 10 + (uint64_t)(text[k] - '0');
    *out = v;
    return 0;
}

static int parse_place(struct import *im, const Onnx__TensorProto *t, struct place *p)
{
    memset(p, 0, sizeof *p);
    for (size_t k = 0; k < t->n_external_data; k++) {
        const char *key = t->external_data[k]->key, *value = t->external_data[k]->value;

        if (strcmp(key, "location") == 0) {
            p->location = value;
        } else if (strcmp(key, "offset") == 0) {
            TRY(parse_decimal(im, t->name, key, value, &p->offset));
        } else if (strcmp(key, "length") == 0) {
            TRY(parse_decimal(im, t->name, key, value, &p->length));
            p->has_length = true;
        } else if (strcmp(key, "basepath") == 0) {
            TRY(report_warning(im, "tensor '%s': external data basepath is ignored", t->name));
        } else if (strcmp(key, "checksum") != 0) {
            return report_problem(im, "E1103", "", "tensor '%s': unknown external data key '%s'",
                                  t->name, key);
        }
    }
    if (p->location == NULL || p->location[0] == '\0')
        return report_problem(im, "E1102", "", "tensor '%s': external data without a location",
                              t->name);
    return 0;
}

/* Relative, no "..", no "." and no empty component, no odd bytes. */
static bool location_is_plain(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > LOCATION_MAX)
        return false;
    for (size_t k = 0; k < n; k++)
        if ((unsigned char)s[k] < 0x20 || s[k] == 0x7f || s[k] == '\\')
            return false;
    for (const char *at = s;; at++) {
        size_t len = strcspn(at, "/");

        if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && memcmp(at, "..", 2) == 0))
            return false;
        at += len;
        if (*at == '\0')
            return true;
    }
}

static bool is_lost(const struct import *im, const char *location)
{
    for (const struct lost_file *f = im->lost; f != NULL; f = f->next)
        if (strcmp(f->location, location) == 0)
            return true;
    return false;
}

static int remember_lost(struct import *im, const char *location)
{
    struct lost_file *f = arena_array(im->arena, 1, sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    f->location = location;
    f->next = im->lost;
    im->lost = f;
    return 0;
}

static int open_location(struct import *im, const char *tensor, const char *location, int *fd)
{
    struct stat st;
    int rc;

    if (is_lost(im, location)) {
        im->reported = true;
        return ERR_FORMAT;
    }
    if (!location_is_plain(location))
        return report_problem(
            im, "E1102", "a model may only name files beside it, without links and without '..'",
            "tensor '%s': external data location '%s' is refused", tensor, location);
    if (im->dir_fd < 0) {
        TRY(remember_lost(im, location));
        return report_problem(
            im, "E1101", "import the model from its folder",
            "external data file '%s' cannot be read: the model did not come from a folder",
            location);
    }
    im->report->has_external = true;
    if ((rc = file_open_beneath_fd(im->dir_fd, location, FILE_SINGLE_LINK, fd)) == 0 ||
        rc == ERR_NOMEM)
        return rc;
    TRY(remember_lost(im, location));
    if (fstatat(im->dir_fd, location, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return report_problem(
            im, "E1101",
            "PyTorch >= 2.9 writes two files, model and data; keep them together under their names",
            "external data file '%s' not found beside the model", location);
    return report_problem(
        im, "E1106", "copy the real file beside the model",
        "external data file '%s' is a link, has several names, or is no file that can be read",
        location);
}

size_t external_size(const struct import *im, const Onnx__TensorProto *t)
{
    struct stat st;

    for (size_t k = 0; im->dir_fd >= 0 && k < t->n_external_data; k++)
        if (strcmp(t->external_data[k]->key, "location") == 0 &&
            location_is_plain(t->external_data[k]->value) &&
            fstatat(im->dir_fd, t->external_data[k]->value, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            return (size_t)st.st_size;
    return 0;
}

int external_map(struct import *im, const Onnx__TensorProto *t, size_t bytes, struct file_map *map,
                 const uint8_t **data)
{
    struct place p;
    int fd = -1, rc;

    TRY(parse_place(im, t, &p));
    TRY(open_location(im, t->name, p.location, &fd));
    rc = file_map_fd(fd, p.location, map);
    close(fd);
    if (rc < 0)
        return rc == ERR_NOMEM ? rc : report_problem(im, "E1106", "", "%s", err_message());
    if (p.offset > map->len || (p.has_length && p.length > map->len - p.offset))
        return report_problem(
            im, "E1104", "",
            "tensor '%s': bytes %llu to %llu lie outside of external data file '%s' of %zu bytes",
            t->name, (unsigned long long)p.offset, (unsigned long long)(p.offset + p.length),
            p.location, map->len);
    if ((p.has_length ? p.length : map->len - p.offset) != bytes)
        return report_problem(
            im, "E1105", "",
            "tensor '%s': external data file '%s' holds %llu bytes for it, its dims say %zu",
            t->name, p.location,
            (unsigned long long)(p.has_length ? p.length : map->len - p.offset), bytes);
    *data = map->data + p.offset;
    return 0;
}
