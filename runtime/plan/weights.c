/*
 * model.pi.weights: the server's secret, and the pair written together.
 *
 * safetensors; per linear step "<name>.weight" int16 [O,C/group,KH,KW] or [O,K] and "<name>.bias"
 * int64 [O] at scale f + f_w; per relu_partial with lines "<name>.offset" int64 [C] at scale f.
 * Metadata: linnet.model_id, linnet.salt (64 hex digits), linnet.scales
 * (JSON), linnet.maxima, linnet.source_sha256. The public file commits to
 * SHA-256 of all bytes; the salt makes that commitment useless for testing guessed weights.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/file.h"
#include "core/base/safetensors.h"
#include "core/base/sha256.h"
#include "runtime/plan/plan.h"

#define WEIGHTS_ARENA ((size_t)8 << 30)

int plan_weights_new(const struct plan *p, struct plan_weights **out)
{
    SCOPED(arena_free_at) struct arena *a = NULL;
    struct plan_weights *w;

    TRY(arena_new(WEIGHTS_ARENA, &a));
    if ((w = arena_array(a, 1, sizeof *w)) == NULL ||
        (w->matrix = arena_array(a, (size_t)p->n_step, sizeof *w->matrix)) == NULL)
        return ERR_NOMEM;
    w->n_matrix = p->n_step;
    w->source_sha256 = w->maxima = "";
    for (int32_t i = 0; i < p->n_step; i++) {
        struct plan_matrix *m = &w->matrix[i];
        plan_matrix_size(p, &p->step[i], &m->rows, &m->columns);
        if (m->rows == 0)
            continue;
        m->weight = arena_array(a, (size_t)(m->rows * m->columns), sizeof *m->weight);
        m->bias = arena_array(a, (size_t)m->rows, sizeof *m->bias);
        if (m->weight == NULL || m->bias == NULL)
            return ERR_NOMEM;
    }
    w->arena = mem_hand_on(&a);
    *out = w;
    return 0;
}

void plan_weights_free(struct plan_weights *w)
{
    if (w == NULL)
        return;
    for (int32_t i = 0; i < w->n_matrix; i++) {
        struct plan_matrix *m = &w->matrix[i];
        if (m->weight == NULL)
            continue;
        wipe(m->weight, (size_t)(m->rows * m->columns) * sizeof *m->weight);
        wipe(m->bias, (size_t)m->rows * sizeof *m->bias);
    }
    wipe(w->salt, sizeof w->salt);
    arena_free(w->arena);
}

/* ---- rules -------------------------------------------------------------------------------- */

/* |operand| <= 2^in_log2 as integers; the sum of a row then stays below L1 * 2^in_log2 + |bias|. */
static int check_rows(const struct plan_step *s, const struct plan_matrix *m, int32_t in_log2)
{
    int64_t room = in_log2 > PLAN_VALUE_BITS ? 0 : (int64_t)1 << (in_log2 < 0 ? 62 : 62 - in_log2);
    int64_t limit = (int64_t)1 << PLAN_VALUE_BITS;

    for (int64_t r = 0; r < m->rows; r++) {
        int64_t l1 = 0;
        for (int64_t k = 0; k < m->columns; k++) {
            int32_t v = m->weight[r * m->columns + k];
            l1 += v < 0 ? -v : v;
        }
        if (l1 > room || m->bias[r] > limit || m->bias[r] < -limit)
            return fail(ERR_LIMIT, "step '%s', output %lld: sums may leave the ring", s->name,
                        (long long)r);
    }
    return 0;
}

int plan_weights_check(const struct plan *p, const struct plan_weights *w)
{
    if (w->n_matrix != p->n_step)
        return fail(ERR_FORMAT, "weights for %d steps, the program has %d", w->n_matrix, p->n_step);
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        const struct plan_tensor *in = &p->tensor[s->in[0]];
        int64_t rows, columns;
        plan_matrix_size(p, s, &rows, &columns);
        if (w->matrix[i].rows != rows || w->matrix[i].columns != columns)
            return fail(ERR_FORMAT, "step '%s': weights of another shape", s->name);
        TRY(check_rows(s, &w->matrix[i], in->scale + in->max_log2));
    }
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Rank and sizes of a step's weights in the file. */
static int32_t weight_dims(const struct plan *p, const struct plan_step *s,
                           const struct plan_matrix *m, int64_t dim[4])
{
    dim[0] = m->rows;
    dim[1] = m->columns;
    if (s->kind == PLAN_GEMM)
        return 2;
    dim[1] = p->tensor[s->in[0]].dim[0] / s->u.linear.group;
    dim[2] = s->u.linear.kernel[0];
    dim[3] = s->u.linear.kernel[1];
    return 4;
}

static const char *tensor_name(struct arena *a, const struct plan_step *s, const char *what)
{
    return arena_printf(a, "%s.%s", s->name, what);
}

static int read_matrix(const struct plan *p, const struct plan_step *s, const struct st_reader *r,
                       struct arena *a, struct plan_matrix *m)
{
    const char *weight = tensor_name(a, s, "weight"), *bias = tensor_name(a, s, "bias");
    const void *w, *b;
    int64_t dim[4];
    int32_t rank = weight_dims(p, s, m, dim);

    if (weight == NULL || bias == NULL)
        return ERR_NOMEM;
    TRY(st_need(r, weight, ST_I16, rank, dim, &w));
    TRY(st_need(r, bias, ST_I64, 1, dim, &b));
    memcpy(m->weight, w, (size_t)(m->rows * m->columns) * sizeof *m->weight);
    memcpy(m->bias, b, (size_t)m->rows * sizeof *m->bias);
    return 0;
}

static int read_offset(const struct plan_step *s, const struct st_reader *r, struct arena *a,
                       struct plan_matrix *m)
{
    const char *name = tensor_name(a, s, "offset");
    const void *b;

    if (name == NULL)
        return ERR_NOMEM;
    TRY(st_need(r, name, ST_I64, 1, &m->rows, &b));
    memcpy(m->bias, b, (size_t)m->rows * sizeof *m->bias);
    return 0;
}

static int read_meta(const struct plan *p, const struct st_reader *r, struct plan_weights *w)
{
    const char *salt = st_meta(r, "linnet.salt"), *id = st_meta(r, "linnet.model_id");
    const char *source = st_meta(r, "linnet.source_sha256"), *maxima = st_meta(r, "linnet.maxima");

    if (salt == NULL || sha256_parse(salt, w->salt) < 0)
        return fail(ERR_FORMAT, "no salt of %d bytes in the metadata", PLAN_SALT);
    if (id == NULL || strcmp(id, p->model_id) != 0)
        return fail(ERR_FORMAT, "weights of model '%s', model.pi is of '%s'", id == NULL ? "" : id,
                    p->model_id);
    w->source_sha256 = arena_strdup(w->arena, source == NULL ? "" : source);
    w->maxima = arena_strdup(w->arena, maxima == NULL ? "" : maxima);
    return w->source_sha256 == NULL || w->maxima == NULL ? ERR_NOMEM : 0;
}

static int read_all(const struct plan *p, const struct st_reader *r, struct plan_weights *w)
{
    size_t tensors = 0;

    TRY(read_meta(p, r, w));
    for (int32_t i = 0; i < p->n_step; i++) {
        if (plan_is_linear(&p->step[i])) {
            TRY(read_matrix(p, &p->step[i], r, w->arena, &w->matrix[i]));
            tensors += 2;
        } else if (plan_has_lines(&p->step[i])) {
            TRY(read_offset(&p->step[i], r, w->arena, &w->matrix[i]));
            tensors++;
        }
    }
    if (st_count(r) != tensors)
        return fail(ERR_FORMAT, "%zu tensors, the program needs %zu", st_count(r), tensors);
    return plan_weights_check(p, w);
}

static int check_commitment(const struct plan *p, const void *data, size_t len)
{
    uint8_t digest[SHA256_SIZE];

    TRY(sha256_bytes(data, len, digest));
    if (memcmp(digest, p->commitment, SHA256_SIZE) != 0)
        return fail(ERR_FORMAT, "not the weights that model.pi commits to");
    return 0;
}

static int read_map(const struct plan *p, const struct file_map *map, const char *path,
                    struct plan_weights **out)
{
    SCOPED(st_reader_close_at) struct st_reader *r = NULL;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;
    int rc = check_commitment(p, map->data, map->len);

    if (rc < 0)
        return fail_context(rc, "%s", path);
    TRY(st_reader_bytes(map->data, map->len, path, &r));
    TRY(plan_weights_new(p, &w));
    if ((rc = read_all(p, r, w)) < 0)
        return fail_context(rc, "%s", path);
    *out = mem_hand_on(&w);
    return 0;
}

int plan_weights_read(const struct plan *p, const char *path, struct plan_weights **out)
{
    SCOPED(file_map_close) struct file_map map = {0};

    TRY(file_map_open(path, &map));
    return read_map(p, &map, path, out);
}

/* ---- writing ------------------------------------------------------------------------------ */

/* {"f":12,"0":13,"3":12}: f, then f_w by step number. */
static int scales_text(const struct plan *p, struct buf_writer *b)
{
    char entry[64];

    buf_put_bytes(b, entry, (size_t)snprintf(entry, sizeof entry, "{\"f\":%d", p->scale));
    for (int32_t i = 0; i < p->n_step; i++)
        if (plan_is_linear(&p->step[i])) {
            int n =
                snprintf(entry, sizeof entry, ",\"%d\":%d", i, p->step[i].u.linear.weight_scale);
            buf_put_bytes(b, entry, (size_t)n);
        }
    buf_put_bytes(b, "}", 2);
    return buf_status(b);
}

static int add_matrix(const struct plan *p, const struct plan_step *s, const struct plan_matrix *m,
                      struct arena *a, struct st_writer *out)
{
    const char *weight = tensor_name(a, s, "weight"), *bias = tensor_name(a, s, "bias");
    int64_t dim[4];
    int32_t rank = weight_dims(p, s, m, dim);

    if (weight == NULL || bias == NULL)
        return ERR_NOMEM;
    TRY(st_writer_add(out, weight, ST_I16, rank, dim, m->weight));
    return st_writer_add(out, bias, ST_I64, 1, dim, m->bias);
}

static int add_offset(const struct plan_step *s, const struct plan_matrix *m, struct arena *a,
                      struct st_writer *out)
{
    const char *name = tensor_name(a, s, "offset");

    return name == NULL ? ERR_NOMEM : st_writer_add(out, name, ST_I64, 1, &m->rows, m->bias);
}

static int add_scales(const struct plan *p, struct st_writer *out)
{
    SCOPED(buf_release) struct buf_writer b = buf_writer_to((size_t)1 << 20);

    TRY(scales_text(p, &b));
    return st_writer_meta(out, "linnet.scales", (const char *)b.data);
}

static int add_meta(const struct plan *p, const struct plan_weights *w, struct st_writer *out)
{
    char salt[SHA256_HEX];

    TRY(add_scales(p, out));
    TRY(st_writer_meta(out, "linnet.model_id", p->model_id));
    TRY(st_writer_meta(out, "linnet.salt", sha256_hex(w->salt, salt)));
    TRY(st_writer_meta(out, "linnet.source_sha256", w->source_sha256));
    return st_writer_meta(out, "linnet.maxima", w->maxima);
}

static int write_weights(const struct plan *p, const struct plan_weights *w, const char *path)
{
    SCOPED(st_writer_free_at) struct st_writer *out = NULL;
    SCOPED(arena_free_at) struct arena *a = NULL;

    TRY(arena_new(0, &a));
    TRY(st_writer_new(&out));
    TRY(add_meta(p, w, out));
    for (int32_t i = 0; i < p->n_step; i++) {
        if (plan_is_linear(&p->step[i]))
            TRY(add_matrix(p, &p->step[i], &w->matrix[i], a, out));
        if (plan_has_lines(&p->step[i]))
            TRY(add_offset(&p->step[i], &w->matrix[i], a, out));
    }
    return st_writer_save(out, path, FILE_PRIVATE);
}

int plan_write(struct plan *p, const struct plan_weights *w, const char *path,
               const char *weights_path)
{
    OWNED uint8_t *bytes = NULL;
    size_t len;

    TRY(plan_check(p));
    TRY(plan_weights_check(p, w));
    TRY(write_weights(p, w, weights_path));
    TRY(sha256_file(weights_path, p->commitment));
    TRY(plan_bytes(p, &bytes, &len));
    return file_write_atomic(path, FILE_PUBLIC, bytes, len);
}
