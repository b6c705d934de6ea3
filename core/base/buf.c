/*
 * Little-endian numbers in memory. Numbers are put together from bytes, so alignment and the
 * byte order of the machine do not matter; compilers turn each loop into one move.
 *
 * The reader never advances past its end. The writer doubles its memory up to its limit and keeps
 * the first error, so that a long run of puts needs one check at its end.
 */
#include "core/base/buf.h"

#include <string.h>

#include "core/base/mem.h"

#define FIRST_CAPACITY 64

_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE floats are stored as they are");

struct buf_reader buf_reader_on(const void *data, size_t len, const char *what)
{
    return (struct buf_reader){.data = data, .len = len, .what = what};
}

size_t buf_left(const struct buf_reader *r)
{
    return r->len - r->at;
}

int buf_get_view(struct buf_reader *r, size_t n, const uint8_t **view)
{
    if (n > buf_left(r))
        return fail(ERR_FORMAT, "%s: %zu bytes wanted at offset %zu, %zu left", r->what, n, r->at,
                    buf_left(r));
    *view = r->data + r->at;
    r->at += n;
    return 0;
}

int buf_get_bytes(struct buf_reader *r, void *dst, size_t n)
{
    const uint8_t *view = NULL;

    TRY(buf_get_view(r, n, &view));
    if (n > 0)
        memcpy(dst, view, n);
    return 0;
}

uint64_t buf_number(const uint8_t *p, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

float buf_half(uint16_t half)
{
    const uint32_t h = half, sign = (h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
    float f;

    if (e == 0) { /* zero or subnormal: m units of 2^-24 */
        f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    const uint32_t bits = sign | (e == 31 ? 255 : e + 112) << 23 | m << 13;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static int get(struct buf_reader *r, size_t n, uint64_t *v)
{
    const uint8_t *view = NULL;

    TRY(buf_get_view(r, n, &view));
    *v = buf_number(view, n);
    return 0;
}

int buf_get_u8(struct buf_reader *r, uint8_t *v)
{
    uint64_t value = 0;

    TRY(get(r, sizeof *v, &value));
    *v = (uint8_t)value;
    return 0;
}

int buf_get_u16(struct buf_reader *r, uint16_t *v)
{
    uint64_t value = 0;

    TRY(get(r, sizeof *v, &value));
    *v = (uint16_t)value;
    return 0;
}

int buf_get_u32(struct buf_reader *r, uint32_t *v)
{
    uint64_t value = 0;

    TRY(get(r, sizeof *v, &value));
    *v = (uint32_t)value;
    return 0;
}

int buf_get_u64(struct buf_reader *r, uint64_t *v)
{
    return get(r, sizeof *v, v);
}

struct buf_writer buf_writer_to(size_t limit)
{
    return (struct buf_writer){.limit = limit};
}

struct buf_writer buf_writer_in(void *data, size_t size)
{
    return (struct buf_writer){.data = data, .cap = size, .limit = size};
}

/* Makes room for n more bytes; sets status where that is impossible. */
static void reserve(struct buf_writer *w, size_t n)
{
    if (w->status < 0 || n <= w->cap - w->len)
        return;
    if (n > w->limit - w->len) {
        w->status = fail(ERR_LIMIT, "more than %zu bytes to write", w->limit);
        return;
    }
    size_t need = w->len + n, cap = w->cap > 0 ? w->cap : FIRST_CAPACITY;
    while (cap < need)
        cap = cap <= w->limit / 2 ? 2 * cap : w->limit;
    cap = cap < w->limit ? cap : w->limit;
    uint8_t *data = mem_resize(w->data, cap, 1);
    if (data == NULL) {
        w->status = ERR_NOMEM;
        return;
    }
    w->data = data;
    w->cap = cap;
}

/* n more bytes to fill; NULL after an error or for n = 0. */
static uint8_t *place_for(struct buf_writer *w, size_t n)
{
    reserve(w, n);
    if (w->status < 0 || n == 0)
        return NULL;
    uint8_t *place = w->data + w->len;
    w->len += n;
    return place;
}

void buf_put_bytes(struct buf_writer *w, const void *src, size_t n)
{
    uint8_t *place = place_for(w, n);

    if (place != NULL)
        memcpy(place, src, n);
}

/* The low n bytes of v. */
static void put(struct buf_writer *w, size_t n, uint64_t v)
{
    uint8_t *place = place_for(w, n);

    for (size_t i = 0; place != NULL && i < n; i++)
        place[i] = (uint8_t)(v >> 8 * i);
}

void buf_put_u8(struct buf_writer *w, uint8_t v)
{
    put(w, sizeof v, v);
}

void buf_put_u16(struct buf_writer *w, uint16_t v)
{
    put(w, sizeof v, v);
}

void buf_put_u32(struct buf_writer *w, uint32_t v)
{
    put(w, sizeof v, v);
}

void buf_put_u64(struct buf_writer *w, uint64_t v)
{
    put(w, sizeof v, v);
}

int buf_status(const struct buf_writer *w)
{
    return w->status;
}

void buf_release(struct buf_writer *w)
{
    mem_free(w->data);
    *w = (struct buf_writer){.limit = w->limit};
}
