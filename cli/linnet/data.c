/* linnet data: what a data source holds, and its conversion to .npy. */
#include <inttypes.h>
#include <math.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "core/base/npy.h"
#include "trainer/data/data.h"

struct options {
    const char *split, *output, *labels;
    int64_t limit;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"split", 0, CLI_TEXT, FIELD(split), "S", "train, val, test (default) or train+val", 0, 0},
    {"limit", 0, CLI_INT, FIELD(limit), "N", "only the first N images", 1, 1e9},
    {"output", 'o', CLI_TEXT, FIELD(output), "x.npy",
     "write the images: uint8 [N,C,H,W], or float32 where the source has floats", 0, 0},
    {"labels", 0, CLI_TEXT, FIELD(labels), "y.npy", "write the labels: int64 [N]", 0, 0},
    {0}};
static const struct cli_spec spec = {
    "SRC",
    1,
    1,
    "Shows what a data source holds: a folder or archive (.tar, .tar.gz, .zip) of CIFAR-10 or CIFAR-100, binary or python; Tiny-ImageNet-200; train/CLASS/ with pictures; an .npz; or cifar10:PATH, cifar100:PATH, imagefolder:PATH, npy:X,Y, synth:[N]. Converts it to .npy. The split and the drawn pictures depend on --seed.",
    "linnet data synth:1000 --split test -o x.npy --labels y.npy",
    options};

struct channel_stats {
    double mean, sd; /* of pixels in [0,1] */
};

/* stats [C] over all images; chw is work space for one. */
static void measure(const struct dataset *d, float *chw, struct channel_stats *stats)
{
    const int64_t hw = (int64_t)d->height * d->width;

    for (int64_t i = 0; i < d->n; i++) {
        data_image(d, i, chw);
        for (int64_t j = 0; j < d->channels * hw; j++) {
            stats[j / hw].mean += (double)chw[j];
            stats[j / hw].sd += (double)chw[j] * (double)chw[j];
        }
    }
    for (int32_t c = 0; c < d->channels; c++) {
        struct channel_stats *s = &stats[c];
        s->mean /= (double)(d->n * hw);
        s->sd = sqrt(fmax(0, s->sd / (double)(d->n * hw) - s->mean * s->mean));
    }
}

static void count_classes(const struct dataset *d, int64_t *count)
{
    for (int64_t i = 0; i < d->n; i++)
        count[d->labels[i]]++;
}

static void print(FILE *f, const struct dataset *d, const struct channel_stats *stats,
                  const int64_t *count)
{
    int64_t lo = count[0], hi = count[0];

    for (int32_t k = 0; k < d->classes; k++) {
        lo = count[k] < lo ? count[k] : lo;
        hi = count[k] > hi ? count[k] : hi;
    }
    fprintf(f, "source   %s\n", d->source);
    fprintf(f, "split    %s: %" PRId64 " images of %dx%dx%d (channels, height, width), %s\n",
            d->split, d->n, d->channels, d->height, d->width,
            d->floats != NULL ? "floats" : "8 bits");
    fprintf(f, "classes  %d, %" PRId64 " to %" PRId64 " images each\n", d->classes, lo, hi);
    fprintf(f, "pixels   mean");
    for (int32_t c = 0; c < d->channels; c++)
        fprintf(f, " %.4f", stats[c].mean);
    fprintf(f, ", standard deviation");
    for (int32_t c = 0; c < d->channels; c++)
        fprintf(f, " %.4f", stats[c].sd);
    fprintf(f, "\n");
}

static int write_json(const struct cli_common *c, const struct dataset *d,
                      const struct channel_stats *stats, const int64_t *count)
{
    json_t *mean = json_array(), *sd = json_array(), *per_class = json_array();

    for (int32_t k = 0; k < d->channels; k++) {
        json_array_append_new(mean, cli_json_real(stats[k].mean));
        json_array_append_new(sd, cli_json_real(stats[k].sd));
    }
    for (int32_t k = 0; k < d->classes; k++)
        json_array_append_new(per_class, json_integer(count[k]));
    return cli_json_write(c, json_pack("{s:s,s:s,s:s,s:I,s:[i,i,i],s:i,s:o,s:o,s:o}", "format",
                                       "linnet.data/1", "source", d->source, "split", d->split, "n",
                                       (json_int_t)d->n, "shape", d->channels, d->height, d->width,
                                       "classes", d->classes, "per_class", per_class, "mean", mean,
                                       "sd", sd));
}

static int show(const struct cli_common *c, const struct dataset *d)
{
    const size_t elems = (size_t)d->channels * (size_t)d->height * (size_t)d->width;
    struct channel_stats *stats = mem_array((size_t)d->channels, sizeof *stats);
    int64_t *count = mem_array((size_t)d->classes, sizeof *count);
    float *chw = mem_array(elems, sizeof *chw);
    int rc = ERR_NOMEM;

    if (stats != NULL && count != NULL && chw != NULL) {
        measure(d, chw, stats);
        count_classes(d, count);
        print(cli_out(c), d, stats, count);
        rc = write_json(c, d, stats, count);
    }
    mem_free(stats);
    mem_free(count);
    mem_free(chw);
    return rc;
}

static int write_images(const char *path, const struct dataset *d)
{
    const int64_t dim[4] = {d->n, d->channels, d->height, d->width};

    if (d->floats != NULL)
        return npy_write(path, NPY_F32, 4, dim, d->floats);
    return npy_write(path, NPY_U8, 4, dim, d->pixels);
}

static int write_labels(const char *path, const struct dataset *d)
{
    int64_t *labels = mem_array((size_t)d->n, sizeof *labels);
    int rc;

    if (labels == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < d->n; i++)
        labels[i] = d->labels[i];
    rc = npy_write(path, NPY_I64, 1, &d->n, labels);
    mem_free(labels);
    return rc;
}

static int run(const struct options *o, const struct cli_common *c)
{
    struct dataset *d = NULL;
    enum data_split split;
    int rc;

    if ((rc = data_split_parse(o->split, &split)) < 0 ||
        (rc = cli_as_data(data_open(c->arg[0], split, (uint64_t)c->seed, &d))) < 0)
        goto out;
    data_limit(d, o->limit);
    if ((rc = show(c, d)) < 0)
        goto out;
    if (o->output != NULL && (rc = write_images(o->output, d)) < 0)
        goto out;
    if (o->labels != NULL)
        rc = write_labels(o->labels, d);
out:
    data_close(d);
    return rc;
}

int cmd_data(int argc, char **argv)
{
    struct options o = {.split = "test"};
    struct cli_common c;
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0)
        rc = run(&o, &c);
    cli_release(&c);
    return rc;
}
