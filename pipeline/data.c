/* Task "data": what a data source holds. */
#include <inttypes.h>
#include <math.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "pipeline/tasks.h"

#define SHOWN_NAMES 200

struct data_settings {
    const char *split;
    int64_t limit;
    struct source_options images;
};
#define FIELD(f) offsetof(struct data_settings, f)
static const struct option_row rows[] = {
    OPTION("split", 0, OPTION_TEXT, FIELD(split), "S",
           "train, val, test, train+val or all (default: test, of one set without parts all)"),
    SOURCE_TEST_ROW(struct data_settings, images),
    SOURCE_VAL_ROW(struct data_settings, images),
    SOURCE_SIZE_ROWS(struct data_settings, images),
    NUMBER("limit", 0, OPTION_INT, FIELD(limit), "N", "only the first N images", 1, 1e9),
    OPTION_END};
static const struct data_settings defaults = {.images.memory = "all"};
const struct task data_task = {"data", rows, &defaults, sizeof defaults, NULL, false};

struct linnet_data {
    struct dataset *d;
    struct linnet_data_info info;
};

FREE_AT(linnet_data_close, struct linnet_data)

/* ---- opening ------------------------------------------------------------------------------- */

static int open_source(const char *source, const struct linnet_options *o, struct linnet_data *x)
{
    const struct data_settings *s;
    enum data_split split;

    TRY(options_read(o, &data_task, (const void **)&s));
    TRY(data_split_parse(s->split, &split));
    TRY(source_open_alone(source, &s->images, split, options_seed(o), &x->d));
    data_limit(x->d, s->limit);
    x->info = (struct linnet_data_info){.n = x->d->n,
                                        .channels = x->d->channels,
                                        .height = x->d->height,
                                        .width = x->d->width,
                                        .classes = x->d->classes,
                                        .pixels = x->d->pixels,
                                        .floats = x->d->floats,
                                        .labels = x->d->labels,
                                        .class_names = x->d->class_name,
                                        .source = x->d->source,
                                        .split = x->d->split};
    return 0;
}

int linnet_data_open(const char *source, const struct linnet_options *o, struct linnet_data **out)
{
    SCOPED(linnet_data_close_at) struct linnet_data *x = mem_array(1, sizeof *x);

    *out = NULL;
    if (x == NULL)
        return ERR_NOMEM;
    TRY(open_source(source, o, x));
    *out = mem_hand_on(&x);
    return 0;
}

void linnet_data_close(struct linnet_data *d)
{
    if (d != NULL)
        data_close(d->d);
    mem_free(d);
}

const struct linnet_data_info *linnet_data_info(const struct linnet_data *d)
{
    return &d->info;
}

/* ---- the report ---------------------------------------------------------------------------- */

struct channel_stats {
    double mean, sd; /* of pixels in [0,1] */
};

/* stats [C] over all images; chw is work space for one. */
static int measure(const struct dataset *d, float *chw, struct channel_stats *stats)
{
    const int64_t hw = (int64_t)d->height * d->width;

    for (int64_t i = 0; i < d->n; i++) {
        TRY(data_image(d, i, chw));
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
    return 0;
}

static void count_classes(const struct dataset *d, int64_t *count)
{
    for (int64_t i = 0; i < d->n; i++)
        count[d->labels[i]]++;
}

struct data_facts {
    const struct dataset *d;
    struct channel_stats *stats; /* [channels] */
    int64_t *count;              /* [classes] */
};

static void print_names(FILE *f, const struct dataset *d)
{
    char name[256]; /* what a folder is called, at most */

    if (d->class_name == NULL)
        return;
    fprintf(f, "names   ");
    for (int32_t k = 0; k < d->classes && k < SHOWN_NAMES; k++) {
        snprintf(name, sizeof name, "%s", d->class_name[k]);
        err_plain(name);
        fprintf(f, "%s %d %s", k > 0 ? "," : "", k, name);
    }
    if (d->classes > SHOWN_NAMES)
        fprintf(f, ", ... (--json has all)");
    fprintf(f, "\n");
}

static void print(FILE *f, const void *facts)
{
    const struct data_facts *a = facts;
    const struct dataset *d = a->d;
    const struct channel_stats *stats = a->stats;
    const int64_t *count = a->count;
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
    print_names(f, d);
    fprintf(f, "pixels   mean");
    for (int32_t c = 0; c < d->channels; c++)
        fprintf(f, " %.4f", stats[c].mean);
    fprintf(f, ", standard deviation");
    for (int32_t c = 0; c < d->channels; c++)
        fprintf(f, " %.4f", stats[c].sd);
    fprintf(f, "\n");
}

static json_t *names_json(const struct dataset *d)
{
    json_t *names = json_array();

    for (int32_t k = 0; d->class_name != NULL && k < d->classes; k++)
        json_add(&names, json_text(d->class_name[k]));
    return names;
}

static json_t *to_json(const struct data_facts *a)
{
    const struct dataset *d = a->d;
    json_t *mean = json_array(), *sd = json_array(), *per_class = json_array();

    for (int32_t k = 0; k < d->channels; k++) {
        json_add(&mean, json_finite(a->stats[k].mean));
        json_add(&sd, json_finite(a->stats[k].sd));
    }
    for (int32_t k = 0; k < d->classes; k++)
        json_add(&per_class, json_integer(a->count[k]));
    return json_pack("{s:s,s:o,s:s,s:I,s:[i,i,i],s:i,s:o,s:o,s:o,s:o}", "format", "linnet.data/1",
                     "source", json_text(d->source), "split", d->split, "n", (json_int_t)d->n,
                     "shape", d->channels, d->height, d->width, "classes", d->classes, "per_class",
                     per_class, "class_names", names_json(d), "mean", mean, "sd", sd);
}

int linnet_data_report(const struct linnet_data *x, struct linnet_report **out)
{
    const struct dataset *d = x->d;
    const size_t elems = (size_t)d->channels * (size_t)d->height * (size_t)d->width;
    OWNED struct channel_stats *stats = mem_array((size_t)d->channels, sizeof *stats);
    OWNED int64_t *count = mem_array((size_t)d->classes, sizeof *count);
    OWNED float *chw = mem_array(elems, sizeof *chw);
    const struct data_facts a = {d, stats, count};

    if (stats == NULL || count == NULL || chw == NULL)
        return ERR_NOMEM;
    TRY(measure(d, chw, stats));
    count_classes(d, count);
    return report_new(print, &a, to_json(&a), out);
}
