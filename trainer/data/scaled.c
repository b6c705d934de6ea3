/*
 * Scaled images; see scaled.h. A set that is in memory, or is records already (rows of a large .npy), is
 * wrapped: each image is taken from there when it is asked for, and scaled. So a set that is larger at its
 * new size than the memory for it is streamed like any other.
 */
#include "trainer/data/scaled.h"

#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "trainer/data/see.h"

struct scaled {
    uint8_t *pixels;             /* [n][3][H][W], or NULL: */
    struct stream_source source; /* of such images */
    int32_t height, width;       /* theirs */
    struct data_options o;
};

static size_t size_of(const struct scaled *s)
{
    return 3 * (size_t)s->height * (size_t)s->width;
}

/* The image as it was, [3][H][W]; in `chw` where it has to be read. */
static int original(const struct scaled *s, int64_t record, uint8_t *chw, const uint8_t **out)
{
    static const struct data_view whole;

    *out = s->pixels != NULL ? s->pixels + (size_t)record * size_of(s) : chw;
    return s->pixels != NULL ? 0 : s->source.read(s->source.ctx, record, &whole, chw);
}

static int scale(const struct scaled *s, int64_t record, const struct data_view *view,
                 struct picture *p)
{
    uint8_t *chw = s->pixels == NULL ? mem_array(size_of(s), 1) : NULL;
    const uint8_t *from;
    int rc = s->pixels == NULL && chw == NULL ? ERR_NOMEM : original(s, record, chw, &from);

    *p = (struct picture){s->height, s->width, NULL};
    if (rc == 0 && (p->rgb = mem_array(size_of(s), 1)) == NULL)
        rc = ERR_NOMEM;
    if (rc == 0) {
        picture_from_planes(from, p);
        rc = picture_view(&s->o, view, record, p);
    }
    mem_free(chw);
    if (rc < 0)
        picture_release(p);
    return rc;
}

static int scaled_read(const void *ctx, int64_t record, const struct data_view *view, void *out)
{
    SCOPED(picture_release) struct picture p = {0};

    TRY(scale(ctx, record, view, &p));
    picture_planes(&p, out);
    return 0;
}

static int scaled_identify(const void *ctx, int64_t record, struct sha256 *h)
{
    const struct scaled *s = ctx;

    if (s->pixels == NULL)
        return s->source.identify(s->source.ctx, record, h);
    return sha256_add(h, s->pixels + (size_t)record * size_of(s), size_of(s));
}

static void scaled_release(void *ctx)
{
    struct scaled *s = ctx;

    if (s->source.release != NULL)
        s->source.release(s->source.ctx);
    mem_free(s->pixels);
    mem_free(s);
}

/* Makes d's images those of `s`; what d has of them moves there, labels stay. */
static int wrap(struct scaled *s, struct dataset *d)
{
    const struct stream_source source = {s, scaled_read, scaled_identify, scaled_release};
    struct data_owner *own = d->owner;
    int32_t *labels = own->labels;
    int rc;

    s->pixels = own->pixels;
    s->source = own->records;
    own->pixels = NULL;
    own->labels = NULL;
    mem_free(own->record);
    own->record = NULL;
    rc = data_owner_records(d, d->n, false, &source);
    mem_free(own->labels);
    own->labels = labels;
    return rc;
}

int data_scaled(const struct data_options *o, struct dataset *d)
{
    static const struct data_view whole;
    struct data_owner *own = d->owner;
    struct picture first;
    struct scaled *s;

    if (d->channels != 3 || own->floats != NULL || (own->record != NULL && own->records_float))
        return fail(ERR_DATA, "%s: --resize, --crop and --random-crop are for RGB images of 8 bits",
                    own->source);
    if (d->n == 0)
        return 0;
    if ((s = mem_array(1, sizeof *s)) == NULL)
        return ERR_NOMEM;
    s->height = d->height;
    s->width = d->width;
    s->o = *o;
    TRY(wrap(s, d));
    if (scale(s, 0, &whole, &first) < 0)
        return fail_context(ERR_DATA, "%s", own->source);
    d->height = first.height;
    d->width = first.width;
    own->pictures = true;
    picture_release(&first);
    return 0;
}
