/*
 * Training state as safetensors; the layout is in the header.
 *
 * Numbers in the metadata are decimal texts. The normalisation is part of the network that was
 * trained, so it travels too (normalize.h's text) and is restored with the weights.
 */
#include "trainer/train/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/safetensors.h"
#include "trainer/data/normalize.h"

#define FORMAT "linnet.checkpoint/1"
#define STRUCTURE "structure"
#define NAME_MAX_BYTES 4096

struct checkpoint_file {
    struct st_reader *r;
    struct checkpoint_info info;
    const char *normalize;
};

/* "param:", "buffer:", "mask:"; NULL for values that are not state. */
static const char *kind_prefix(enum value_kind kind)
{
    switch (kind) {
    case VALUE_PARAM:
        return "param:";
    case VALUE_BUFFER:
        return "buffer:";
    case VALUE_MASK:
        return "mask:";
    case VALUE_INPUT:
    case VALUE_CONST:
    case VALUE_TEMP:
        break;
    }
    return NULL;
}

static int tensor_name(const char *prefix, const char *name, char out[NAME_MAX_BYTES])
{
    int n = snprintf(out, NAME_MAX_BYTES, "%s%s", prefix, name);

    if (n < 0 || n >= NAME_MAX_BYTES)
        return fail(ERR_LIMIT, "checkpoint: the name '%.40s...' is longer than %d bytes", name,
                    NAME_MAX_BYTES - 8);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int add_values(struct st_writer *w, const struct graph *g)
{
    char name[NAME_MAX_BYTES];

    for (value_id v = 0; v < g->n_value; v++) {
        const struct value *x = &g->value[v];
        if (kind_prefix(x->kind) == NULL)
            continue;
        TRY(tensor_name(kind_prefix(x->kind), x->name, name));
        TRY(st_writer_add(w, name, ST_F32, x->shape.rank, x->shape.dim, x->data));
    }
    return 0;
}

static int add_bytes(struct st_writer *w, const char *prefix, const char *blob, const void *data,
                     size_t bytes)
{
    const int64_t dim = (int64_t)bytes;
    char name[NAME_MAX_BYTES];

    TRY(tensor_name(prefix, blob, name));
    return st_writer_add(w, name, ST_U8, 1, &dim, data);
}

static int add_number(struct st_writer *w, const char *key, int64_t v)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, v);
    return st_writer_meta(w, key, text);
}

static int add_metadata(struct st_writer *w, const struct checkpoint *c)
{
    char norm[NORMALIZE_TEXT];

    TRY(st_writer_meta(w, "format", FORMAT));
    TRY(st_writer_meta(w, "stage", c->stage));
    TRY(st_writer_meta(w, "config", c->config != NULL ? c->config : "{}"));
    TRY(st_writer_meta(w, "normalize", normalize_text(&c->graph->norm, norm)));
    TRY(add_number(w, "epoch", c->epoch));
    TRY(add_number(w, "step", c->step));
    return add_number(w, "done", c->done);
}

static int add_everything(struct st_writer *w, const struct checkpoint *c)
{
    TRY(add_metadata(w, c));
    TRY(add_values(w, c->graph));
    for (int32_t i = 0; i < c->n_blob; i++)
        TRY(add_bytes(w, "state:", c->blob[i].name, c->blob[i].data, c->blob[i].bytes));
    if (c->structure_len > 0)
        TRY(add_bytes(w, "", STRUCTURE, c->structure, c->structure_len));
    return 0;
}

int checkpoint_save(const char *path, const struct checkpoint *c)
{
    SCOPED(st_writer_free_at) struct st_writer *w = NULL;

    TRY(st_writer_new(&w));
    TRY(add_everything(w, c));
    return st_writer_save(w, path, FILE_PUBLIC);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_text(const struct st_reader *r, const char *key, const char **out)
{
    if ((*out = st_meta(r, key)) == NULL)
        return fail(ERR_FORMAT, "checkpoint: no '%s' in the metadata", key);
    return 0;
}

static int read_number(const struct st_reader *r, const char *key, int64_t max, int64_t *out)
{
    const char *text;
    char *end;

    TRY(read_text(r, key, &text));
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < 0 || v > max)
        return fail(ERR_FORMAT, "checkpoint: %s='%.40s' is not a number from 0 to %" PRId64, key,
                    text, max);
    *out = v;
    return 0;
}

static int read_metadata(struct checkpoint_file *f)
{
    const char *format;

    TRY(read_text(f->r, "format", &format));
    if (strcmp(format, FORMAT) != 0)
        return fail(ERR_FORMAT, "checkpoint: format '%.40s', this program reads '%s'", format,
                    FORMAT);
    TRY(read_text(f->r, "stage", &f->info.stage));
    TRY(read_text(f->r, "config", &f->info.config));
    TRY(read_text(f->r, "normalize", &f->normalize));
    TRY(read_number(f->r, "epoch", INT32_MAX, &f->info.epoch));
    TRY(read_number(f->r, "step", INT64_MAX, &f->info.step));
    return read_number(f->r, "done", 1, &f->info.done);
}

int checkpoint_open(const char *path, struct checkpoint_file **out)
{
    SCOPED(checkpoint_close_at) struct checkpoint_file *f = mem_array(1, sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    TRY(st_reader_open(path, &f->r));
    const int rc = read_metadata(f);
    if (rc < 0)
        return fail_context(rc, "'%s'", path);
    *out = mem_hand_on(&f);
    return 0;
}

void checkpoint_close(struct checkpoint_file *f)
{
    if (f != NULL)
        st_reader_close(f->r);
    mem_free(f);
}

const struct checkpoint_info *checkpoint_info(const struct checkpoint_file *f)
{
    return &f->info;
}

static const void *find_bytes(const struct checkpoint_file *f, const char *name, size_t *bytes)
{
    const struct st_tensor *t = st_find(f->r, name);

    *bytes = 0;
    if (t == NULL || t->dtype != ST_U8 || t->rank != 1)
        return NULL;
    *bytes = t->bytes;
    return t->data;
}

const uint8_t *checkpoint_structure(const struct checkpoint_file *f, size_t *len)
{
    return find_bytes(f, STRUCTURE, len);
}

const void *checkpoint_blob(const struct checkpoint_file *f, const char *name, size_t *bytes)
{
    char full[NAME_MAX_BYTES];

    *bytes = 0;
    if (tensor_name("state:", name, full) < 0)
        return NULL;
    return find_bytes(f, full, bytes);
}

int checkpoint_read_blob(const struct checkpoint_file *f, const char *name, void *data,
                         size_t bytes)
{
    size_t len;
    const void *from = checkpoint_blob(f, name, &len);

    if (from == NULL)
        return fail(ERR_FORMAT, "checkpoint: no state '%s'", name);
    if (len != bytes)
        return fail(ERR_FORMAT, "checkpoint: state '%s' has %zu bytes, expected %zu", name, len,
                    bytes);
    if (bytes > 0)
        memcpy(data, from, bytes);
    return 0;
}

/* Finds the numbers of a value: finite, and from 0 to 1 in a mask. */
static int find_value(const struct checkpoint_file *f, const struct value *x, const float **out)
{
    char name[NAME_MAX_BYTES];
    const void *data;

    TRY(tensor_name(kind_prefix(x->kind), x->name, name));
    TRY(st_need(f->r, name, ST_F32, x->shape.rank, x->shape.dim, &data));
    const float *v = data;
    for (int64_t i = 0, n = shape_elems(&x->shape); i < n; i++)
        if (!isfinite(v[i]) || (x->kind == VALUE_MASK && !(v[i] >= 0 && v[i] <= 1)))
            return fail(ERR_FORMAT, "checkpoint: %s[%" PRId64 "] is %g", name, i, (double)v[i]);
    *out = v;
    return 0;
}

/* Tensors of the file that belong to a network. */
static int64_t count_values(const struct st_reader *r)
{
    int64_t n = 0;

    for (size_t i = 0; i < st_count(r); i++) {
        const char *name = st_at(r, i)->name;
        n += strncmp(name, "param:", 6) == 0 || strncmp(name, "buffer:", 7) == 0 ||
             strncmp(name, "mask:", 5) == 0;
    }
    return n;
}

/* Everything fits? Only then is anything copied. */
static int check_values(const struct checkpoint_file *f, const struct graph *g)
{
    const float *data;
    int64_t n = 0;

    for (value_id v = 0; v < g->n_value; v++)
        if (kind_prefix(g->value[v].kind) != NULL) {
            TRY(find_value(f, &g->value[v], &data));
            n++;
        }
    if (n != count_values(f->r))
        return fail(ERR_FORMAT,
                    "checkpoint: %" PRId64 " values in the file, the network has %" PRId64,
                    count_values(f->r), n);
    return 0;
}

int checkpoint_read_graph(const struct checkpoint_file *f, struct graph *g)
{
    struct input_norm norm;
    const float *data;

    if (normalize_parse(f->normalize, &norm) < 0)
        return fail(ERR_FORMAT, "checkpoint: the normalisation '%.60s' is not one", f->normalize);
    TRY(check_values(f, g));
    for (value_id v = 0; v < g->n_value; v++)
        if (kind_prefix(g->value[v].kind) != NULL) {
            TRY(find_value(f, &g->value[v], &data));
            memcpy(g->value[v].data, data, (size_t)shape_elems(&g->value[v].shape) * sizeof(float));
        }
    g->norm = norm;
    graph_touch(g);
    return 0;
}
