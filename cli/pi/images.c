/* Images of the commands of linnet-pi (pi_images.h). */
#include "cli/pi/images.h"

#include "cli/cli.h"

static bool dims_are(const struct npy *x, int64_t a, int64_t b, int64_t c)
{
    return x->rank == 4 && x->dim[1] == a && x->dim[2] == b && x->dim[3] == c;
}

static int input_kind(const struct npy *x, const struct plan *p, enum pi_floats floats,
                      const char *path, enum pi_input *kind)
{
    const int64_t *d = p->tensor[0].dim;

    if (x->type == NPY_U8 && floats == PI_FLOATS_NORMALIZED)
        return fail(ERR_DATA, "'%s': uint8 pixels are not normalised; leave --input-kind out",
                    path);
    if (x->type == NPY_U8 && dims_are(x, d[0], d[1], d[2]))
        *kind = PI_U8_NCHW;
    else if (x->type == NPY_U8 && dims_are(x, d[1], d[2], d[0]))
        *kind = PI_U8_NHWC;
    else if (x->type == NPY_F32 && dims_are(x, d[0], d[1], d[2]))
        *kind = floats == PI_FLOATS_NORMALIZED ? PI_NORMALIZED : PI_PIXELS;
    else
        return fail(
            ERR_DATA,
            "'%s' holds %s of rank %d; the program takes uint8 or float32 [N,%lld,%lld,%lld]", path,
            npy_type_name(x->type), x->rank, (long long)d[0], (long long)d[1], (long long)d[2]);
    return x->dim[0] < 1 ? fail(ERR_DATA, "'%s' holds no image", path) : 0;
}

int pi_images_open(const char *path, const struct plan *p, enum pi_floats floats, struct npy *x,
                   enum pi_input *kind)
{
    int rc = cli_as_data(npy_open(path, x));

    return rc < 0 ? rc : input_kind(x, p, floats, path, kind);
}

int64_t pi_best(const float *logits, int64_t k)
{
    int64_t top = 0;

    for (int64_t i = 1; i < k; i++)
        if (logits[i] > logits[top])
            top = i;
    return top;
}
