/* Images for a model; see source.h. */
#include "pipeline/source.h"

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

int source_open(const char *spec, enum data_split split, uint64_t seed, const struct graph *g,
                struct dataset **out)
{
    TRY(source_refusal(data_open(spec, split, seed, out)));
    return source_check(*out, g);
}

int source_floats(const struct dataset *d, int64_t *n, float **out)
{
    const int64_t size = (int64_t)d->channels * d->height * d->width;
    float *x;

    if (*n > d->n)
        *n = d->n;
    if ((x = mem_aligned((size_t)(*n * size), sizeof *x)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < *n; i++)
        data_image(d, i, x + i * size);
    *out = x;
    return 0;
}
