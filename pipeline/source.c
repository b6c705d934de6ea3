/* Images for a model; see source.h. */
#include "pipeline/source.h"

#include <inttypes.h>

#include "core/base/mem.h"

int source_refusal(int rc)
{
    return rc == ERR_FORMAT || rc == ERR_LIMIT || rc == ERR_UNSUPPORTED ? ERR_DATA : rc;
}

int source_check(const struct dataset *d, const struct graph *g)
{
    const struct shape *in = &g->value[g->input].shape;

    return data_check(d, in->dim[1], in->dim[2], in->dim[3], g->value[g->output].shape.dim[1]);
}

int source_data_options(const struct source_options *s, struct data_options *out)
{
    *out = (struct data_options){.test = s->test, .val = s->val};
    if (s->resize != NULL && data_resize_parse(s->resize, out) < 0)
        return fail_context(ERR_ARG, "--resize");
    if (s->crop != NULL && data_crop_parse(s->crop, out) < 0)
        return fail_context(ERR_ARG, "--crop");
    if (s->random && s->crop == NULL)
        return fail(ERR_ARG, "--random-crop needs --crop HxW, the size of the parts");
    out->random = s->random;
    out->threads = (int)s->threads;
    return data_memory_parse(s->memory != NULL ? s->memory : "quarter", &out->memory) < 0
               ? fail_context(ERR_ARG, "--data-memory")
               : 0;
}

int source_open_alone(const char *spec, const struct source_options *s, enum data_split split,
                      uint64_t seed, struct dataset **out)
{
    struct data_options o;

    TRY(source_data_options(s, &o));
    return source_refusal(data_open(spec, &o, split, seed, out));
}

int source_open(const char *spec, const struct source_options *s, enum data_split split,
                uint64_t seed, const struct graph *g, struct dataset **out)
{
    TRY(source_open_alone(spec, s, split, seed, out));
    return source_check(*out, g);
}

int source_apart(const struct dataset *train, const struct dataset *other, const char *what,
                 int64_t *n)
{
    TRY(data_common(train, other, n));
    if (*n < 0 || 100 * *n <= other->n)
        return 0;
    return fail(ERR_DATA,
                "%" PRId64 " of %" PRId64
                " %s images (%s) are training images (%s): name other ones with --%s-data",
                *n, other->n, what, other->source, train->source, *what == 't' ? "test" : "val");
}

int source_read(const void *images, int64_t first, int64_t n, float *out)
{
    return data_images(images, first, n, first + n, out);
}

int source_floats(const struct dataset *d, int64_t *n, float **out)
{
    const int64_t size = (int64_t)d->channels * d->height * d->width;

    if (*n > d->n)
        *n = d->n;
    OWNED float *x = mem_aligned((size_t)(*n * size), sizeof *x);
    if (x == NULL)
        return ERR_NOMEM;
    TRY(data_images(d, 0, *n, *n, x));
    *out = mem_hand_on(&x);
    return 0;
}
