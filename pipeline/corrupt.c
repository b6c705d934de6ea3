/* Task "corrupt": a data set under the common corruptions, as a CIFAR-10-C style folder. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/npy.h"
#include "pipeline/listener.h"
#include "pipeline/outputs.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "pipeline/tasks.h"
#include "trainer/corrupt/set.h"

#define TASK "corrupt"

struct corrupt_settings {
    const char *data, *split, *output, *types, *severity, *frost;
    int64_t limit;
    struct source_options images;
};
#define FIELD(f) offsetof(struct corrupt_settings, f)
static const struct option_row rows[] = {
    OPTION("data", 'd', OPTION_SOURCE, FIELD(data), "SRC",
           "what to corrupt; see `linnet data --help`"),
    SOURCE_SIZE_ROWS(struct corrupt_settings, images),
    OPTION("split", 0, OPTION_TEXT, FIELD(split), "S",
           "test, val, train, train+val or all (default: test, of one set without parts all)"),
    OPTION("output", 'o', OPTION_FOLDER, FIELD(output), "DIR", "the folder to write"),
    OPTION(
        "types", 0, OPTION_TEXT, FIELD(types), "T,T,...",
        "corruption types (default: the 15 standard ones, frost only with --frost-dir):" CORRUPT_WORDS),
    OPTION("severity", 0, OPTION_TEXT, FIELD(severity), "S", "1-5 (default), 3 or 1,4"),
    OPTION("frost-dir", 0, OPTION_INPUT, FIELD(frost), "DIR",
           "frost1.png, frost2.png, frost3.png, frost4.jpg, frost5.jpg of the published generator"),
    NUMBER("limit", 0, OPTION_INT, FIELD(limit), "N", "use the first N images only", 1, 1e9),
    OPTION_END};
static const struct corrupt_settings defaults = {0};

static int check(const struct linnet_options *o)
{
    const struct corrupt_settings *s = options_values(o);

    return s->data && s->output ? 0 : fail(ERR_ARG, "give --data SRC and -o DIR");
}
const struct task corrupt_task = {TASK, rows, &defaults, sizeof defaults, check, false};

struct job {
    const struct linnet_listener *l;
    const struct corrupt_settings *o;
    struct corrupt_set set;
    struct corrupt_photos *photos;
    struct dataset *d;
    struct lock *lock;
    enum corrupt_type types[CORRUPT_N];
    int32_t n_types, severities, n_severities;
    uint8_t *images; /* [n_severities][n][H][W][3] */
};

static int path_of(char path[4096], const struct job *j, const char *name, const char *end)
{
    if (snprintf(path, 4096, "%s/%s%s", j->o->output, name, end) >= 4096)
        return fail(ERR_ARG, "--output: the path is too long");
    return 0;
}

static int report(struct job *j, int32_t done)
{
    const int32_t all = j->n_types * j->n_severities;

    listener_progress(j->l, TASK, (double)done / all, "%d of %d", (int)done, (int)all);
    return listener_stops(j->l) ? fail(ERR_INTERRUPTED, "stopped; whole files are kept") : 0;
}

static int write_type(struct job *j, int32_t index)
{
    const struct dataset *d = j->d;
    const size_t part = (size_t)d->n * 3 * (size_t)d->height * (size_t)d->width;
    const int64_t dim[4] = {j->n_severities * d->n, d->height, d->width, 3};
    char path[4096];
    int32_t k = 0;

    for (int s = 1; s <= CORRUPT_SEVERITIES; s++) {
        if (!(j->severities >> (s - 1) & 1))
            continue;
        TRY(corrupt_set_images(&j->set, j->types[index], s, d->n, j->images + (size_t)k * part));
        TRY(report(j, index * j->n_severities + ++k));
    }
    TRY(path_of(path, j, corrupt_name(j->types[index]), ".npy"));
    return npy_write(path, NPY_U8, 4, dim, j->images);
}

static int write_labels(const struct job *j)
{
    const int64_t n = j->n_severities * j->d->n;
    OWNED int64_t *labels = mem_array((size_t)n, sizeof *labels);
    char path[4096];

    if (labels == NULL)
        return ERR_NOMEM;
    TRY(path_of(path, j, "labels", ".npy"));
    for (int64_t i = 0; i < n; i++)
        labels[i] = j->d->labels[i % j->d->n];
    return npy_write(path, NPY_I64, 1, &n, labels);
}

/* "1 3": readers expect all five where there is no such file. */
static int write_severities(const struct job *j)
{
    char path[4096], text[16] = "";

    if (j->n_severities == CORRUPT_SEVERITIES)
        return 0;
    for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
        if (j->severities >> (s - 1) & 1)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d",
                     text[0] != '\0' ? " " : "", s);
    strcat(text, "\n");
    TRY(path_of(path, j, "severities", ".txt"));
    return file_write_atomic(path, FILE_PUBLIC, text, strlen(text));
}

/* The arrays of "npy:X,Y" may lie in the folder that is written. */
static int keep_input(const struct job *j, const char *file)
{
    char path[4096], piece[4096];
    const char *rest = strchr(j->o->data, ':');

    TRY(path_of(path, j, file, ""));
    while (rest != NULL && *++rest != '\0') {
        const size_t n = strcspn(rest, ",");

        if (n < sizeof piece) {
            snprintf(piece, sizeof piece, "%.*s", (int)n, rest);
            TRY(file_is_new(path, (const char *[]){piece}, 1));
        }
        rest = rest[n] == ',' ? rest + n : NULL;
    }
    return 0;
}

static int keep_inputs(const struct job *j)
{
    char name[64];

    TRY(keep_input(j, "labels.npy"));
    for (int32_t t = 0; t < j->n_types; t++) {
        snprintf(name, sizeof name, "%s.npy", corrupt_name(j->types[t]));
        TRY(keep_input(j, name));
    }
    return 0;
}

static int prepare(struct job *j)
{
    const struct corrupt_settings *o = j->o;
    enum data_split split;

    TRY(data_split_parse(o->split, &split));
    TRY(corrupt_severities(o->severity, &j->severities));
    TRY(corrupt_types(o->types, o->frost != NULL, true, j->types, &j->n_types));
    TRY(keep_inputs(j));
    for (int s = 0; s < CORRUPT_SEVERITIES; s++)
        j->n_severities += j->severities >> s & 1;
    if (o->frost)
        TRY(source_refusal(corrupt_photos_open(o->frost, &j->photos)));
    TRY(source_open_alone(o->data, &o->images, split, j->set.seed, &j->d));
    data_limit(j->d, o->limit);
    j->set.d = j->d;
    j->set.photos = j->photos;
    listener_note(j->l, "%s, split %s: %" PRId64 " images", j->d->source, j->d->split, j->d->n);
    TRY(output_claim(o->output, &j->lock));
    const size_t image = 3 * (size_t)j->d->height * (size_t)j->d->width;
    j->images = mem_array((size_t)j->d->n * (size_t)j->n_severities, image);
    return j->images != NULL ? 0 : ERR_NOMEM;
}

static int write_all(struct job *j)
{
    int rc = 0;

    TRY(write_severities(j));
    TRY(write_labels(j));
    listener_begin(j->l, TASK);
    for (int32_t t = 0; rc == 0 && t < j->n_types; t++)
        rc = write_type(j, t);
    listener_end(j->l, TASK);
    return rc;
}

static int32_t count_standard(const struct job *j)
{
    int32_t n = 0;

    for (int32_t t = 0; t < j->n_types; t++)
        n += corrupt_is_standard(j->types[t]);
    return n;
}

static void print(FILE *out, const void *facts)
{
    const struct job *j = facts;

    fprintf(out,
            "%s: %d type%s, %d of the %d standard ones%s, severities: %d, images of each: %" PRId64
            "\n",
            j->o->output, (int)j->n_types, j->n_types == 1 ? "" : "s", (int)count_standard(j),
            CORRUPT_N_STANDARD, j->o->frost || j->o->types ? "" : " (no frost without --frost-dir)",
            (int)j->n_severities, j->d->n);
}

static json_t *to_json(const struct job *j)
{
    json_t *types = json_array(), *severities = json_array();

    for (int32_t t = 0; t < j->n_types; t++)
        json_add(&types, json_string(corrupt_name(j->types[t])));
    for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
        if (j->severities >> (s - 1) & 1)
            json_add(&severities, json_integer(s));
    return json_pack("{s:s,s:o,s:s,s:I,s:I,s:o,s:o,s:s}", "format", "linnet.corrupt/1", "data",
                     json_text(j->d->source), "split", j->d->split, "n", (json_int_t)j->d->n,
                     "seed", (json_int_t)j->set.seed, "types", types, "severities", severities,
                     "source", "re-implementation");
}

int linnet_corrupt(const struct linnet_options *o, const struct linnet_listener *l,
                   struct linnet_report **out)
{
    struct job j = {.l = l};
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &corrupt_task, (const void **)&j.o));
    j.set.seed = options_seed(o);
    if ((rc = prepare(&j)) == 0 && (rc = write_all(&j)) == 0)
        rc = report_new(print, &j, to_json(&j), out);
    corrupt_photos_close(j.photos);
    data_close(j.d);
    mem_free(j.images);
    lock_release(j.lock);
    return rc;
}
