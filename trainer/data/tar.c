/*
 * Reading the headers of tar files; see tar.h.
 *
 *     0 name 100 | 100 mode, owner, group | 124 size 12 | 136 time | 148 checksum 8 | 156 kind 1
 *     157 target of a link 100 | 257 "ustar" | 345 what stands before the name 155
 *
 * Numbers are octal texts; a size whose first byte has its high bit set is a binary number, high byte
 * first. Bytes of a member start at the next block of 512. A member of kind 'L' (GNU) or 'x' (pax) is
 * about the one that follows it.
 */
#include "trainer/data/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/minmax.h"

#define AT_NAME 0
#define AT_SIZE 124
#define AT_SUM 148
#define AT_KIND 156
#define AT_MAGIC 257
#define AT_PREFIX 345
#define N_NAME 100
#define N_SIZE 12
#define N_SUM 8
#define N_PREFIX 155
#define MOST_PAX ((uint64_t)1 << 16)

struct ahead { /* said by members in front of the one that is meant */
    char name[TAR_NAME];
    bool has_name, has_size;
    uint64_t size;
};

static int refuse(const struct tar_walk *w, uint64_t at, const char *why)
{
    return fail(ERR_DATA, "'%s': tar: at byte %" PRIu64 ": %s", w->file->path, at, why);
}

/* The n <= TAR_WINDOW bytes from `at` on, which are in the file. */
static int look(struct tar_walk *w, uint64_t at, size_t n, const uint8_t **out)
{
    if (at < w->first || at + n > w->first + w->held) {
        const uint64_t left = w->file->len - at;
        w->held = 0;
        w->first = at;
        const size_t most = left < TAR_WINDOW ? (size_t)left : TAR_WINDOW;
        if (file_at_read(w->file, at, w->window, most) < 0)
            return fail_context(ERR_DATA, "data");
        w->held = most;
    }
    *out = w->window + (at - w->first);
    return 0;
}

/* An octal number of at most n characters, blanks around it. */
static bool read_octal(const uint8_t *text, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;

    while (i < n && text[i] == ' ')
        i++;
    const size_t first = i;
    for (; i < n && text[i] >= '0' && text[i] <= '7'; i++) {
        if (v >> 61 != 0)
            return false;
        v = 8 * v + (uint64_t)(text[i] - '0');
    }
    *out = v;
    return i > first && (i == n || text[i] == ' ' || text[i] == '\0');
}

static bool read_size(const uint8_t *h, uint64_t *out)
{
    const uint8_t *p = h + AT_SIZE;

    if ((p[0] & 0x80) == 0)
        return read_octal(p, N_SIZE, out);
    if (p[0] != 0x80) /* negative, or above any file */
        return false;
    *out = 0;
    for (int i = 1; i < N_SIZE; i++) {
        if (*out >> 55 != 0)
            return false;
        *out = *out << 8 | p[i];
    }
    return true;
}

/* The sum of all bytes, its own taken as blanks; old programs summed signed bytes. */
static bool sum_is_right(const uint8_t *h)
{
    uint64_t want;
    int64_t sum = 0, signed_sum = 0;

    for (int i = 0; i < TAR_BLOCK; i++) {
        const uint8_t v = i >= AT_SUM && i < AT_SUM + N_SUM ? ' ' : h[i];
        sum += v;
        signed_sum += (int8_t)v;
    }
    return read_octal(h + AT_SUM, N_SUM, &want) &&
           ((int64_t)want == sum || (int64_t)want == signed_sum);
}

static bool is_zero(const uint8_t *h)
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (h[i] != 0)
            return false;
    return true;
}

static enum tar_kind kind_of(uint8_t c)
{
    switch (c) {
    case '0':
    case '\0':
    case '7':
        return TAR_FILE;
    case '5':
        return TAR_FOLDER;
    case '1':
    case '2':
        return TAR_LINK;
    default:
        return TAR_OTHER;
    }
}

static void copy_name(char out[TAR_NAME], const uint8_t *h)
{
    const bool has_prefix = memcmp(h + AT_MAGIC, "ustar", 6) == 0 && h[AT_PREFIX] != 0;

    snprintf(out, TAR_NAME, "%.*s%s%.*s", has_prefix ? N_PREFIX : 0, (const char *)h + AT_PREFIX,
             has_prefix ? "/" : "", N_NAME, (const char *)h + AT_NAME);
}

/* ---- members about the next one -------------------------------------------------------------- */

static int read_long_name(struct tar_walk *w, const struct tar_member *m, struct ahead *a)
{
    const uint8_t *text = NULL;

    if (m->size == 0 || m->size > TAR_NAME - 1)
        return refuse(w, m->offset, "the next name is empty or longer than 4,095 bytes");
    TRY(look(w, m->offset, (size_t)m->size, &text));
    memcpy(a->name, text, (size_t)m->size);
    a->name[m->size] = '\0';
    a->has_name = true;
    return 0;
}

/* Takes one "LENGTH KEY=VALUE\n" off text[0 ... n); 0 where it is not one. */
static size_t take_pax(const char *text, size_t n, struct ahead *a)
{
    size_t len = 0, i = 0;

    for (; i < n && i < 6 && text[i] >= '0' && text[i] <= '9'; i++)
        len = 10 * len + (size_t)(text[i] - '0');
    if (i == 0 || i >= n || text[i] != ' ' || len > n || len < i + 3 || text[len - 1] != '\n')
        return 0;
    const char *key = text + i + 1, *end = text + len - 1;
    const char *equals = memchr(key, '=', (size_t)(end - key));
    if (equals == NULL)
        return 0;
    const size_t n_key = (size_t)(equals - key), n_value = (size_t)(end - equals - 1);
    if (n_key == 4 && memcmp(key, "path", 4) == 0) {
        if (n_value == 0 || n_value > TAR_NAME - 1 || memchr(equals + 1, '\0', n_value) != NULL)
            return 0;
        memcpy(a->name, equals + 1, n_value);
        a->name[n_value] = '\0';
        a->has_name = true;
    } else if (n_key == 4 && memcmp(key, "size", 4) == 0) {
        uint64_t v = 0;
        for (size_t k = 0; k < n_value; k++) {
            const char c = equals[1 + k];
            if (c < '0' || c > '9' || v > UINT64_MAX / 16)
                return 0;
            v = 10 * v + (uint64_t)(c - '0');
        }
        if (n_value == 0)
            return 0;
        a->size = v;
        a->has_size = true;
    }
    return len;
}

static int read_pax(struct tar_walk *w, const struct tar_member *m, struct ahead *a)
{
    const uint8_t *text = NULL;

    if (m->size > TAR_WINDOW)
        return refuse(w, m->offset, "a pax header of more than 8,192 bytes");
    TRY(look(w, m->offset, (size_t)m->size, &text));
    for (size_t at = 0, len; at < m->size; at += len)
        if ((len = take_pax((const char *)text + at, (size_t)m->size - at, a)) == 0)
            return refuse(w, m->offset + at, "a pax header that cannot be read");
    return 0;
}

/* ---- walking --------------------------------------------------------------------------------- */

static uint64_t padded(uint64_t size)
{
    return (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* One header with its place; *kind as in the file. 0: the end. */
static int read_member(struct tar_walk *w, struct tar_member *m, const struct ahead *a,
                       uint8_t *kind)
{
    const uint8_t *h = NULL;

    if (w->at > w->file->len || w->file->len - w->at < TAR_BLOCK)
        return refuse(w, w->at, "the file ends without the end of the archive: it was cut");
    TRY(look(w, w->at, TAR_BLOCK, &h));
    if (is_zero(h))
        return 0;
    if (!sum_is_right(h))
        return refuse(w, w->at, "the checksum of a header is wrong: not a tar file, or damaged");
    if (!read_size(h, &m->size))
        return refuse(w, w->at, "the size of a member is no number");
    *kind = h[AT_KIND];
    m->kind = kind_of(*kind);
    copy_name(m->name, h);
    if (a->has_name && *kind != 'L' && *kind != 'x')
        memcpy(m->name, a->name, sizeof m->name);
    if (a->has_size && *kind != 'L' && *kind != 'x')
        m->size = a->size;
    if (m->kind == TAR_LINK || m->kind == TAR_FOLDER)
        m->size = 0;
    m->offset = w->at + TAR_BLOCK;
    if (m->size > w->file->len - m->offset)
        return fail(ERR_DATA,
                    "'%s': tar: '%.60s' has %" PRIu64 " bytes, but the file ends after %" PRIu64
                    ": it was cut, or the size is wrong",
                    w->file->path, m->name, m->size, w->file->len - m->offset);
    w->at = m->offset + padded(m->size);
    return 1;
}

int tar_next(struct tar_walk *w, struct tar_member *m)
{
    struct ahead a = {.has_name = false};
    uint8_t kind = 0;

    for (;;) {
        const int rc = read_member(w, m, &a, &kind);
        if (rc <= 0)
            return rc;
        if (kind == 'L')
            TRY(read_long_name(w, m, &a));
        else if (kind == 'x')
            TRY(read_pax(w, m, &a));
        else if (kind != 'K' && kind != 'g')
            break;
    }
    while (m->name[0] == '.' && m->name[1] == '/')
        memmove(m->name, m->name + 2, strlen(m->name + 2) + 1);
    return 1;
}

int tar_peek(struct tar_walk *w, const struct tar_member *m, void *out, size_t n)
{
    const uint8_t *bytes = NULL;

    TRY(look(w, m->offset, n, &bytes));
    memcpy(out, bytes, n);
    return 0;
}
