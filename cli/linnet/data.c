/* linnet data: what a data source holds, and its conversion to .npy. */
#include "cli/commands.h"
#include "cli/linnet/front.h"
#include "core/base/npy.h"

static const struct cli_option own[] = {
    {"output", 'o', CLI_OUTPUT, 0, "x.npy",
     "write the images: uint8 [N,C,H,W], or float32 where the source has floats", 0, 0},
    {"labels", 0, CLI_OUTPUT, 0, "y.npy", "write the labels: int64 [N]", 0, 0},
    {0}};
static const struct cli_spec spec = {
    "SRC",
    "Shows what a data source holds: a folder or archive (.tar, .tar.gz, .zip) of CIFAR-10 or CIFAR-100, binary or python; Tiny-ImageNet-200; train/CLASS/ with images; an .npz; or cifar10:PATH, cifar100:PATH, imagefolder:PATH, shards:PATTERN, npy:X,Y, synth:[N]. Converts it to .npy. The split and the synthetic images depend on --seed.",
    "linnet data synth:1000 --split test -o x.npy --labels y.npy", own};

static int write_images(const char *path, const struct linnet_data_info *d)
{
    const int64_t dim[4] = {d->n, d->channels, d->height, d->width};

    if (d->floats != NULL)
        return npy_write(path, NPY_F32, 4, dim, d->floats);
    return npy_write(path, NPY_U8, 4, dim, d->pixels);
}

static int write_labels(const char *path, const struct linnet_data_info *d)
{
    OWNED int64_t *labels = mem_array((size_t)d->n, sizeof *labels);

    if (labels == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < d->n; i++)
        labels[i] = d->labels[i];
    return npy_write(path, NPY_I64, 1, &d->n, labels);
}

static int write_files(const struct front *f, const struct linnet_data *d)
{
    const char *images = front_text(f, "output"), *labels = front_text(f, "labels");

    if (images != NULL)
        TRY(write_images(images, linnet_data_info(d)));
    return labels != NULL ? write_labels(labels, linnet_data_info(d)) : 0;
}

int cmd_data(int argc, char **argv)
{
    struct front f;
    struct linnet_data *d = NULL;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "data", argc, argv);

    if (rc == 0 && (rc = linnet_data_open(f.c.arg[0], f.o, &d)) == 0 &&
        (rc = linnet_data_report(d, &r)) == 0)
        rc = write_files(&f, d);
    linnet_data_close(d);
    return front_end(&f, rc, r);
}
