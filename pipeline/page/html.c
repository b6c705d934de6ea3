/*
 * HTML under construction (html.h).
 *
 * Images are PNG with "stored" deflate blocks: no compressor is involved, so the bytes do not depend on
 * a library's version, and a map of 32 x 32 takes a kilobyte. An image that is larger is the caller's
 * to shrink: a stored block holds 65,535 bytes, PNG_SIDE bounds both sides.
 */
#include "pipeline/page/html.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"

#define PNG_SIDE 128
#define PNG_BYTES (PNG_SIDE * (PNG_SIDE + 1) + 128)

static bool room(struct html *h, size_t more)
{
    if (h->status == 0 && h->len + more + 1 > HTML_LIMIT)
        h->status = fail(ERR_LIMIT, "the page would exceed %zu MiB", HTML_LIMIT >> 20);
    if (h->status == 0)
        h->status = mem_grow(&h->text, h->len + more + 1, &h->cap, 1);
    return h->status == 0;
}

static void put_bytes(struct html *h, const char *bytes, size_t n)
{
    if (!room(h, n))
        return;
    memcpy(h->text + h->len, bytes, n);
    h->len += n;
    h->text[h->len] = '\0';
}

void html_put(struct html *h, const char *format, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, format);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, format, ap);
    if (n >= 0 && room(h, (size_t)n)) {
        vsnprintf(h->text + h->len, (size_t)n + 1, format, again);
        h->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

/* What a character becomes, NULL if it stays. Control characters have no place in a page. */
static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return (unsigned char)c < ' ' || c == 0x7f ? " " : NULL;
    }
}

const char *html_escape(struct html *h, const char *text)
{
    size_t n = 1;
    char *out, *to;

    if (text == NULL || h->status < 0)
        return "";
    for (const char *c = text; *c != '\0'; c++)
        n += entity(*c) != NULL ? strlen(entity(*c)) : 1;
    if (h->arena == NULL)
        h->status = arena_new(HTML_LIMIT, &h->arena);
    if (h->status < 0 || (out = arena_array(h->arena, n, 1)) == NULL) {
        h->status = ERR_NOMEM;
        return "";
    }
    to = out;
    for (const char *c = text; *c != '\0'; c++) {
        const char *e = entity(*c);
        const size_t k = e != NULL ? strlen(e) : 1;
        memcpy(to, e != NULL ? e : c, k);
        to += k;
    }
    *to = '\0';
    return out;
}

const char *html_grouped(struct html *h, double v)
{
    char plain[32], out[48];
    size_t n, to = 0;

    if (!(v >= 0 && v < 1e15))
        return "-";
    n = (size_t)snprintf(plain, sizeof plain, "%.0f", v);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            out[to++] = ',';
        out[to++] = plain[i];
    }
    out[to] = '\0';
    return html_escape(h, out);
}

void html_put_json(struct html *h, const char *json)
{
    for (const char *c = json; *c != '\0';) {
        const size_t n = strcspn(c, "<");
        put_bytes(h, c, n);
        c += n;
        if (*c == '<') {
            put_bytes(h, "\\u003c", 6);
            c++;
        }
    }
}

/* ---- PNG ----------------------------------------------------------------------------------- */

struct png {
    uint8_t bytes[PNG_BYTES];
    size_t len;
};

static void add32(struct png *p, uint32_t v)
{
    for (int k = 3; k >= 0; k--)
        p->bytes[p->len++] = (uint8_t)(v >> 8 * k);
}

/* CRC-32 of PNG (ISO 3309), bit by bit: a page has a hundred small images. */
static uint32_t crc32_of(const uint8_t *bytes, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0xedb88320 & (0 - (crc & 1)));
    }
    return ~crc;
}

static size_t open_chunk(struct png *p, const char *type)
{
    add32(p, 0);
    memcpy(p->bytes + p->len, type, 4);
    p->len += 4;
    return p->len - 4;
}

static void close_chunk(struct png *p, size_t type)
{
    const size_t end = p->len, n = end - type - 4;

    p->len = type - 4;
    add32(p, (uint32_t)n);
    p->len = end;
    add32(p, crc32_of(p->bytes + type, n + 4));
}

/* zlib: header, one stored block of rows that each begin with filter 0, Adler-32. */
static void add_pixels(struct png *p, const uint8_t *pixel, int32_t rows, int32_t columns)
{
    const size_t n = (size_t)rows * ((size_t)columns + 1);
    uint32_t a = 1, b = 0;

    const uint8_t head[] = {
        0x78, 0x01, 0x01, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};
    memcpy(p->bytes + p->len, head, sizeof head);
    p->len += sizeof head;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = -1; c < columns; c++) {
            const uint8_t v = c < 0 ? 0 : pixel[(size_t)r * (size_t)columns + (size_t)c];
            p->bytes[p->len++] = v;
            a = (a + v) % 65521;
            b = (b + a) % 65521;
        }
    add32(p, b << 16 | a);
}

static void put_base64(struct html *h, const uint8_t *bytes, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)bytes[i] << 16;
        char four[4];
        v |= i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0;
        v |= i + 2 < n ? bytes[i + 2] : 0;
        for (int k = 0; k < 4; k++)
            four[k] = digit[v >> (18 - 6 * k) & 63];
        if (i + 1 >= n)
            four[2] = '=';
        if (i + 2 >= n)
            four[3] = '=';
        put_bytes(h, four, 4);
    }
}

void html_put_png(struct html *h, const uint8_t *pixel, int32_t rows, int32_t columns)
{
    static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    struct png *p;
    size_t chunk;

    if (h->status < 0)
        return;
    if (rows < 1 || columns < 1 || rows > PNG_SIDE || columns > PNG_SIDE) {
        h->status = fail(ERR_LIMIT, "an image of the page has %d x %d pixels, at most %d a side",
                         rows, columns, PNG_SIDE);
        return;
    }
    if ((p = mem_array(1, sizeof *p)) == NULL) {
        h->status = ERR_NOMEM;
        return;
    }
    memcpy(p->bytes, signature, sizeof signature);
    p->len = sizeof signature;
    chunk = open_chunk(p, "IHDR");
    add32(p, (uint32_t)columns);
    add32(p, (uint32_t)rows);
    memcpy(p->bytes + p->len, (const uint8_t[]){8, 0, 0, 0, 0}, 5); /* 8 bits, grey */
    p->len += 5;
    close_chunk(p, chunk);
    chunk = open_chunk(p, "IDAT");
    add_pixels(p, pixel, rows, columns);
    close_chunk(p, chunk);
    close_chunk(p, open_chunk(p, "IEND"));
    html_put(h, "src=\"data:image/png;base64,");
    put_base64(h, p->bytes, p->len);
    html_put(h, "\"");
    mem_free(p);
}

/* ---- the file ------------------------------------------------------------------------------ */

int html_save(const struct html *h, const char *path)
{
    if (h->status < 0)
        return h->status;
    return file_write_atomic(path, FILE_PUBLIC, h->text, h->len);
}

void html_free(struct html *h)
{
    mem_free(h->text);
    arena_free(h->arena);
    *h = (struct html){0};
}
