/* Data sets under a corruption; see set.h for the folders. */
#include "trainer/corrupt/set.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/npy.h"
#include "trainer/data/owner.h"

#define PATH_SIZE 4096
#define ALL_SEVERITIES ((1 << CORRUPT_SEVERITIES) - 1)

/* ---- drawn ----------------------------------------------------------------------------------- */

int corrupt_set_image(const struct corrupt_set *s, enum corrupt_type type, int severity, int64_t i,
                      uint8_t *work, uint8_t *chw)
{
    struct rng r =
        rng_at(s->seed, RNG_CORRUPT, (uint32_t)type * 8 + (uint32_t)severity, (uint64_t)i);

    TRY(data_image_u8(s->d, i, work));
    return corrupt_apply_with(s->photos, type, severity, work, s->d->height, s->d->width, &r, chw);
}

static void to_hwc(const uint8_t *chw, int64_t pixels, uint8_t *hwc)
{
    for (int64_t p = 0; p < 3 * pixels; p++)
        hwc[p] = chw[p % 3 * pixels + p / 3];
}

/* One failing image sets *code; its message is on another thread, so the caller writes one. */
static void draw_range(const struct corrupt_set *s, enum corrupt_type type, int severity, int64_t n,
                       uint8_t *hwc, int *code)
{
    const int64_t pixels = (int64_t)s->d->height * s->d->width;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        OWNED uint8_t *work = mem_array(6 * (size_t)pixels, 1);
        int rc = ERR_NOMEM;
        if (work != NULL)
            rc = corrupt_set_image(s, type, severity, i, work, work + 3 * pixels);
        if (rc == 0)
            to_hwc(work + 3 * pixels, pixels, hwc + i * 3 * pixels);
        else
#pragma omp atomic write
            *code = rc;
    }
}

int corrupt_set_images(const struct corrupt_set *s, enum corrupt_type type, int severity, int64_t n,
                       uint8_t *hwc)
{
    int code = 0;

    if (s->d->channels != 3)
        return fail(ERR_ARG, "corruptions work on 3 channels, %s has %d", s->d->source,
                    s->d->channels);
    draw_range(s, type, severity, n, hwc, &code);
    if (code < 0)
        return fail(code, "corruption '%s', severity %d, refused an image of %dx%d pixels%s",
                    corrupt_name(type), severity, s->d->width, s->d->height,
                    corrupt_needs_photos(type) && s->photos == NULL ? ": it needs its photos" : "");
    return 0;
}

/* ---- words ----------------------------------------------------------------------------------- */

static int read_words(char *list, bool allowed, enum corrupt_type types[CORRUPT_N], int32_t *n)
{
    for (char *next, *word = list; word != NULL; word = next) {
        if ((next = strchr(word, ',')) != NULL)
            *next++ = '\0';
        if (*n == CORRUPT_N)
            return fail(ERR_ARG, "corruptions: more than %d in the list", CORRUPT_N);
        TRY(corrupt_parse(word, &types[*n]));
        if (!allowed && corrupt_needs_photos(types[*n]))
            return fail(ERR_ARG, "corruptions: '%s' needs its photos: --frost-dir DIR", word);
        ++*n;
    }
    return 0;
}

int corrupt_types(const char *list, bool photos, bool need_photos,
                  enum corrupt_type types[CORRUPT_N], int32_t *n)
{
    *n = 0;
    if (list != NULL && strcmp(list, "all") != 0) {
        OWNED char *copy = mem_strdup(list);
        return copy != NULL ? read_words(copy, photos || !need_photos, types, n) : ERR_NOMEM;
    }
    for (int t = 0; t < CORRUPT_N; t++) {
        const enum corrupt_type type = (enum corrupt_type)t;
        if (corrupt_is_standard(type) && (photos || !need_photos || !corrupt_needs_photos(type)))
            types[(*n)++] = type;
    }
    return 0;
}

int corrupt_severities(const char *text, int32_t *mask)
{
    *mask = text == NULL ? ALL_SEVERITIES : 0;
    for (const char *p = text; p != NULL && *p != '\0';) {
        int lo = *p++ - '0', hi = lo;
        if (*p == '-') {
            hi = p[1] - '0';
            p += p[1] != '\0' ? 2 : 1;
        }
        if (lo < 1 || hi > CORRUPT_SEVERITIES || lo > hi || (*p != ',' && *p != '\0') ||
            (*p == ',' && p[1] == '\0'))
            return fail(ERR_ARG, "severities '%s': numbers from 1 to 5, as in 1-5 or 1,3", text);
        for (int s = lo; s <= hi; s++)
            *mask |= 1 << (s - 1);
        p += *p == ',';
    }
    return *mask != 0 ? 0 : fail(ERR_ARG, "severities: none is named");
}

/* ---- folders --------------------------------------------------------------------------------- */

static bool is_there(const char *path, bool folder)
{
    struct stat st;

    return stat(path, &st) == 0 && (folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
}

static int path_in(char path[PATH_SIZE], const char *folder, const char *name, const char *end)
{
    if (snprintf(path, PATH_SIZE, "%s/%s%s", folder, name, end) >= PATH_SIZE)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", folder, PATH_SIZE);
    return 0;
}

bool corrupt_folder_has(const char *folder, enum corrupt_type type)
{
    char path[PATH_SIZE];

    return (path_in(path, folder, corrupt_name(type), ".npy") == 0 && is_there(path, false)) ||
           (path_in(path, folder, corrupt_name(type), "") == 0 && is_there(path, true));
}

/* Which severities the arrays hold: severities.txt or all five. */
static int read_severities(const char *folder, int32_t *mask)
{
    char path[PATH_SIZE];
    OWNED uint8_t *text = NULL;
    size_t len;

    *mask = ALL_SEVERITIES;
    TRY(path_in(path, folder, "severities", ".txt"));
    if (!is_there(path, false))
        return 0;
    TRY(file_read(path, 64, &text, &len));
    *mask = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] >= '1' && text[i] <= '5')
            *mask |= 1 << (text[i] - '1');
        else if (text[i] != ' ' && text[i] != '\n')
            return fail(ERR_DATA, "'%s': not a list of severities such as \"1 3\"", path);
    return 0;
}

static int count_bits(int32_t mask)
{
    int n = 0;

    for (; mask != 0; mask &= mask - 1)
        n++;
    return n;
}

/* Do the labels consist of `parts` equal blocks? One set of labels is written for each severity. */
static bool repeats(const struct dataset *d, int parts)
{
    const int64_t n = d->n / parts;

    for (int64_t i = n; i < n * parts; i++)
        if (d->owner->labels[i] != d->owner->labels[i - n])
            return false;
    return d->n % parts == 0;
}

/* The part of the loaded arrays that belongs to one severity moves to the front. */
static int keep_severity(struct dataset *d, const char *folder, int severity)
{
    const size_t size = data_image_size(d);
    int32_t mask;

    TRY(read_severities(folder, &mask));
    if (!(mask >> (severity - 1) & 1))
        return fail(ERR_DATA, "'%s': holds no severity %d", folder, severity);
    const int parts = count_bits(mask), before = count_bits(mask & ((1 << (severity - 1)) - 1));
    if (d->owner->pixels == NULL)
        return fail(ERR_DATA, "'%s': holds floats, not images of 8 bits", folder);
    if (!repeats(d, parts))
        return fail(
            ERR_DATA,
            "'%s': the %" PRId64
            " labels are not those of one set %d times: a file severities.txt, such as \"1 3\", must say which severities the arrays hold",
            folder, d->n, parts);
    const int64_t n = d->n / parts;
    memmove(d->owner->pixels, d->owner->pixels + (size_t)(before * n) * size, (size_t)n * size);
    memmove(d->owner->labels, d->owner->labels + before * n, (size_t)n * sizeof(int32_t));
    d->n = n;
    return 0;
}

int corrupt_folder_severities(const char *folder, enum corrupt_type type, int32_t *mask)
{
    char path[PATH_SIZE], number[16];

    TRY(path_in(path, folder, corrupt_name(type), ".npy"));
    if (is_there(path, false))
        return read_severities(folder, mask);
    *mask = 0;
    for (int s = 1; s <= CORRUPT_SEVERITIES; s++) {
        snprintf(number, sizeof number, "/%d", s);
        TRY(path_in(path, folder, corrupt_name(type), number));
        *mask |= is_there(path, true) << (s - 1);
    }
    return 0;
}

static int open_arrays(const char *folder, const char *images, int severity, struct dataset *d)
{
    static const struct data_options none;
    char labels[PATH_SIZE];

    TRY(path_in(labels, folder, "labels", ".npy"));
    TRY(data_npy_load(images, labels, &none, d));
    return keep_severity(d, folder, severity);
}

int corrupt_folder_open(const char *folder, enum corrupt_type type, int severity,
                        struct dataset **out)
{
    char path[PATH_SIZE], number[16];
    SCOPED(data_close_at) struct dataset *d = NULL;

    TRY(path_in(path, folder, corrupt_name(type), ".npy"));
    TRY(data_owner_new(&d));
    if (is_there(path, false)) {
        TRY(open_arrays(folder, path, severity, d));
    } else {
        snprintf(number, sizeof number, "/%d", severity);
        TRY(path_in(path, folder, corrupt_name(type), number));
        TRY(data_folder_load(path, d));
    }
    data_owner_publish(d, "test");
    *out = mem_hand_on(&d);
    return 0;
}
