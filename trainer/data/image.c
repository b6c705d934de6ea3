/*
 * The images of a data set, in memory or streamed, and what tells two sets apart.
 *
 * Streamed images come from the buffer of the stream or from their files (stream.h); here is only which
 * record an image is and in which type it lies there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "trainer/data/owner.h"

#define HASH_AHEAD (DATA_AHEAD_MOST / 2)

static const struct data_view whole;

bool data_is_streamed(const struct dataset *d)
{
    return d->pixels == NULL && d->floats == NULL;
}

/* ---- one image ------------------------------------------------------------------------------- */

static float to_float(uint8_t v)
{
    return (float)v / 255.0f;
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(v * 255.0f + 0.5f);
}

/* 8 bits are read to the end of chw and widened from its beginning on: no pixel is overwritten before it
 * was read, as it lies at 3 size + j and its float ends at 4 j + 4. */
static int read_floats(const struct dataset *d, int64_t i, const struct data_view *view, float *chw)
{
    const struct data_owner *own = d->owner;
    const size_t size = data_image_size(d);
    uint8_t *bytes = (uint8_t *)chw + 3 * size;

    if (own->records_float)
        return stream_read(own->stream, own->record[i], view, chw);
    TRY(stream_read(own->stream, own->record[i], view, bytes));
    for (size_t j = 0; j < size; j++) {
        const float v = to_float(bytes[j]);
        memcpy(chw + j, &v, sizeof v);
    }
    return 0;
}

int data_image_seen(const struct dataset *d, int64_t i, const struct data_view *view, float *chw)
{
    const size_t size = data_image_size(d), first = (size_t)i * size;

    if (data_is_streamed(d))
        return read_floats(d, i, view, chw);
    if (d->floats != NULL) {
        memcpy(chw, d->floats + first, size * sizeof *chw);
        return 0;
    }
    for (size_t j = 0; j < size; j++)
        chw[j] = to_float(d->pixels[first + j]);
    return 0;
}

int data_image(const struct dataset *d, int64_t i, float *chw)
{
    return data_image_seen(d, i, &whole, chw);
}

static int read_bytes(const struct dataset *d, int64_t i, uint8_t *chw)
{
    const struct data_owner *own = d->owner;
    OWNED float *v = NULL;

    if (!own->records_float)
        return stream_read(own->stream, own->record[i], &whole, chw);
    if ((v = mem_array(data_image_size(d), sizeof *v)) == NULL)
        return ERR_NOMEM;
    TRY(stream_read(own->stream, own->record[i], &whole, v));
    for (size_t j = 0; j < data_image_size(d); j++)
        chw[j] = to_byte(v[j]);
    return 0;
}

int data_image_u8(const struct dataset *d, int64_t i, uint8_t *chw)
{
    const size_t size = data_image_size(d), first = (size_t)i * size;

    if (data_is_streamed(d))
        return read_bytes(d, i, chw);
    if (d->pixels != NULL) {
        memcpy(chw, d->pixels + first, size);
        return 0;
    }
    for (size_t j = 0; j < size; j++)
        chw[j] = to_byte(d->floats[first + j]);
    return 0;
}

/* ---- several --------------------------------------------------------------------------------- */

int64_t data_ahead_most(const struct dataset *d)
{
    return data_is_streamed(d) ? stream_capacity(d->owner->stream) : 0;
}

void data_ahead(const struct dataset *d, const struct data_view *view, const int64_t *i, int64_t n)
{
    int64_t record[DATA_AHEAD_MOST];

    if (!data_is_streamed(d))
        return;
    n = min_i64(n, DATA_AHEAD_MOST);
    for (int64_t k = 0; k < n; k++)
        record[k] = d->owner->record[i[k]];
    stream_ahead(d->owner->stream, d->draws && view != NULL ? view : &whole, record, n);
}

/* The n images from `first` on and the n from `next` on, as far as there are any. */
static void ahead_from(const struct dataset *d, int64_t first, int64_t n, int64_t next)
{
    const int64_t from[] = {first, next};
    int64_t list[DATA_AHEAD_MOST], count = 0;

    for (int k = 0; k < 2; k++)
        for (int64_t i = from[k]; i < min_i64(from[k] + n, d->n) && count < DATA_AHEAD_MOST; i++)
            list[count++] = i;
    data_ahead(d, NULL, list, count);
}

int data_images(const struct dataset *d, int64_t first, int64_t n, int64_t next, float *chw)
{
    const size_t size = data_image_size(d);
    int64_t bad = n;

    if (data_is_streamed(d))
        ahead_from(d, first, n, next);
#pragma omp parallel for schedule(static) reduction(min : bad)
    for (int64_t i = 0; i < n; i++)
        if (data_image(d, first + i, chw + (size_t)i * size) < 0)
            bad = i < bad ? i : bad;
    if (bad == n)
        return 0;
    /* Once more, for its message on this thread. */
    TRY(data_image(d, first + bad, chw + (size_t)bad * size));
    return fail(ERR_NOMEM, "out of memory");
}

/* ---- what tells sets apart ------------------------------------------------------------------- */

static int hash_pixels(const struct dataset *d, struct sha256 *h)
{
    const size_t size = data_image_size(d);
    OWNED float *one = NULL;

    if (d->pixels != NULL)
        return sha256_add(h, d->pixels, (size_t)d->n * size);
    if (d->floats != NULL)
        return sha256_add(h, d->floats, (size_t)d->n * size * sizeof(float));
    if ((one = mem_array(size, sizeof *one)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < d->n; i++) {
        const bool floats = d->owner->records_float;

        if (i % HASH_AHEAD == 0)
            ahead_from(d, i, HASH_AHEAD, i + HASH_AHEAD);
        TRY(floats ? data_image(d, i, one) : data_image_u8(d, i, (uint8_t *)one));
        TRY(sha256_add(h, one, size * (floats ? sizeof *one : 1)));
    }
    return 0;
}

static int hash_records(const struct dataset *d, struct sha256 *h)
{
    const int32_t shape[] = {d->channels, d->height, d->width, d->draws};

    TRY(sha256_add(h, shape, sizeof shape));
    for (int64_t i = 0; i < d->n; i++)
        TRY(d->owner->records.identify(d->owner->records.ctx, d->owner->record[i], h));
    return 0;
}

static int hash_set(const struct dataset *d, const int32_t *labels,
                    int (*more)(const struct dataset *d, struct sha256 *h), char text[SHA256_HEX])
{
    uint8_t digest[SHA256_SIZE];
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    TRY(sha256_new(&h));
    TRY(sha256_add(h, labels, (size_t)d->n * sizeof *labels));
    TRY(more(d, h));
    TRY(sha256_end(h, digest));
    sha256_hex(digest, text);
    return 0;
}

int data_hash_pixels(const struct dataset *d, char text[SHA256_HEX])
{
    return hash_set(d, d->labels, hash_pixels, text);
}

int data_hash_records(const struct dataset *d, char text[SHA256_HEX])
{
    const bool has = d->owner != NULL && d->owner->identity != NULL;

    snprintf(text, SHA256_HEX, "%s", has ? d->owner->identity : "none");
    return 0;
}

int data_owner_identify(struct dataset *d)
{
    char text[SHA256_HEX];

    TRY(hash_set(d, d->owner->labels, hash_records, text));
    return (d->owner->identity = mem_strdup(text)) != NULL ? 0 : ERR_NOMEM;
}

/* ---- images in common -------------------------------------------------------- */

/* FNV-1a over the bytes of image i. */
static uint64_t hash_image(const struct dataset *d, int64_t i)
{
    const size_t size = data_image_size(d) * (d->pixels != NULL ? 1 : sizeof *d->floats);
    const uint8_t *p = d->pixels != NULL ? d->pixels + (size_t)i * size
                                         : (const uint8_t *)d->floats + (size_t)i * size;
    uint64_t h = 0xcbf29ce484222325;

    for (size_t j = 0; j < size; j++)
        h = (h ^ p[j]) * 0x100000001b3;
    return h;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int data_common(const struct dataset *a, const struct dataset *b, int64_t *n)
{
    OWNED uint64_t *hash = NULL;

    *n = data_is_streamed(a) || data_is_streamed(b) ? -1 : 0;
    if (*n < 0 || (a->pixels != NULL) != (b->pixels != NULL) ||
        data_image_size(a) != data_image_size(b))
        return 0;
    if ((hash = mem_array((size_t)a->n, sizeof *hash)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < a->n; i++)
        hash[i] = hash_image(a, i);
    qsort(hash, (size_t)a->n, sizeof *hash, by_value);
    for (int64_t i = 0; i < b->n; i++) {
        const uint64_t key = hash_image(b, i);
        *n += bsearch(&key, hash, (size_t)a->n, sizeof *hash, by_value) != NULL;
    }
    return 0;
}
