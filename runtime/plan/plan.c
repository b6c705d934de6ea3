/*
 * model.pi: reader and writer of one format, side by side. The schema is proto/pi.proto; the rules
 * are in check.c.
 *
 * The writer is deterministic: fields in number order, positions of a ReLU layer as a bitmap or as
 * a list of indices, whichever is smaller (bitmap if equal).
 */
#include "runtime/plan/plan.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/base/version.h"
#include "core/base/wire.h"
#include "pi.pb-c.h"
#include "runtime/plan/file_kind.h"

#define MAGIC "linnet.pi"
#define ARENA_LIMIT ((size_t)2 << 30)

/* ---- life cycle --------------------------------------------------------------------------- */

int plan_new(struct plan **out)
{
    struct arena *a;
    struct plan *p;

    TRY(arena_new(ARENA_LIMIT, &a));
    if ((p = arena_array(a, 1, sizeof *p)) == NULL) {
        arena_free(a);
        return ERR_NOMEM;
    }
    p->arena = a;
    p->model_id = p->branch = p->producer = p->input.name = p->input.normalize =
        p->input.preparation = "";
    p->input.high = 255;
    *out = p;
    return 0;
}

void plan_free(struct plan *p)
{
    if (p != NULL)
        arena_free(p->arena);
}

void plan_matrix_size(const struct plan *p, const struct plan_step *s, int64_t *rows,
                      int64_t *columns)
{
    *rows = plan_has_lines(s) ? p->tensor[s->out].dim[0] : 0;
    *columns = 0;
    if (s->kind != PLAN_CONV && s->kind != PLAN_GEMM)
        return;
    *rows = p->tensor[s->out].dim[0];
    *columns = p->tensor[s->in[0]].dim[0] / s->u.linear.group * s->u.linear.kernel[0] *
               s->u.linear.kernel[1];
}

int64_t plan_classes(const struct plan *p)
{
    return p->tensor[p->step[p->n_step - 1].out].count;
}

int plan_name_model(struct plan *p, const uint8_t salt[PLAN_SALT])
{
    static const char tag[] = "linnet.pi model id";
    uint8_t text[sizeof tag - 1 + PLAN_SALT], digest[SHA256_SIZE];
    char hex[SHA256_HEX];

    memcpy(text, tag, sizeof tag - 1);
    memcpy(text + sizeof tag - 1, salt, PLAN_SALT);
    TRY(sha256_bytes(text, sizeof text, digest));
    p->model_id = arena_printf(p->arena, "%.16s", sha256_hex(digest, hex));
    return p->model_id == NULL ? ERR_NOMEM : 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Copies a text of the message; "" for none. */
static int copy_text(struct plan *p, const char *from, const char **to)
{
    *to = arena_strdup(p->arena, from == NULL ? "" : from);
    return *to == NULL ? ERR_NOMEM : 0;
}

static int copy_texts(struct plan *p, char *const *from, size_t n, const char ***to, int32_t *count)
{
    const char **v = arena_array(p->arena, n, sizeof *v);

    if (v == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        TRY(copy_text(p, from[i], &v[i]));
    *to = v;
    *count = (int32_t)n;
    return 0;
}

/* Exactly n numbers. */
static int copy_list(const char *what, const char *field, const uint32_t *from, size_t n_from,
                     int64_t *to, size_t n)
{
    if (n_from != n)
        return fail(ERR_FORMAT, "%s: %zu numbers in '%s', not %zu", what, n_from, field, n);
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
    return 0;
}

static int read_input(struct plan *p, const Pi__Input *m)
{
    if (m == NULL || strcmp(m->layout, "NCHW") != 0)
        return fail(ERR_FORMAT, "no input description, or a layout that is not NCHW");
    if (m->n_mean != m->n_std || m->n_mean > PLAN_MAX_CHANNELS ||
        (int64_t)m->n_mean != p->tensor[0].dim[0])
        return fail(ERR_FORMAT, "input: %zu means and %zu deviations for %lld channels", m->n_mean,
                    m->n_std, (long long)p->tensor[0].dim[0]);
    if (m->uint8_low > 255 || m->uint8_high > 255)
        return fail(ERR_FORMAT, "input: uint8 range %u ... %u", m->uint8_low, m->uint8_high);
    p->input.low = (int32_t)m->uint8_low;
    p->input.high = (int32_t)m->uint8_high;
    memcpy(p->input.mean, m->mean, m->n_mean * sizeof *m->mean);
    memcpy(p->input.std, m->std, m->n_std * sizeof *m->std);
    TRY(copy_text(p, m->name, &p->input.name));
    TRY(copy_text(p, m->normalize, &p->input.normalize));
    return copy_text(p, m->preparation, &p->input.preparation);
}

static int read_numbers(struct plan *p, const Pi__Numbers *m)
{
    if (m == NULL || m->ring_bits != PLAN_RING_BITS)
        return fail(ERR_UNSUPPORTED, "the ring is not Z_2^%d", PLAN_RING_BITS);
    if (m->truncation != PI__TRUNCATION__TRUNCATION_LOCAL)
        return fail(ERR_UNSUPPORTED, "truncation kind %d is not known here", (int)m->truncation);
    if (m->scale > PLAN_MAX_SCALE)
        return fail(ERR_FORMAT, "activations of scale %u", m->scale);
    p->scale = (int32_t)m->scale;
    p->failure_log2 = m->failure_log2;
    return 0;
}

static int read_tensors(struct plan *p, const Pi__Core *d)
{
    if (d->n_tensors < 2 || d->n_tensors > PLAN_MAX_TENSORS)
        return fail(ERR_LIMIT, "%zu tensors; 2 ... %d are possible", d->n_tensors,
                    PLAN_MAX_TENSORS);
    if ((p->tensor = arena_array(p->arena, d->n_tensors, sizeof *p->tensor)) == NULL)
        return ERR_NOMEM;
    p->n_tensor = (int32_t)d->n_tensors;
    for (size_t i = 0; i < d->n_tensors; i++) {
        const Pi__Tensor *m = d->tensors[i];
        struct plan_tensor *t = &p->tensor[i];
        if ((m->n_dims != 1 && m->n_dims != 3) || m->scale > PLAN_VALUE_BITS)
            return fail(ERR_FORMAT, "tensor %zu: %zu sizes, scale %u", i, m->n_dims, m->scale);
        t->rank = (int32_t)m->n_dims;
        t->scale = (int32_t)m->scale;
        t->max_log2 = m->max_log2;
        t->count = 1;
        for (size_t k = 0; k < 3; k++) {
            t->dim[k] = k < m->n_dims ? m->dims[k] : 1;
            if (t->dim[k] < 1 || t->dim[k] > PLAN_MAX_ELEMENTS / t->count)
                return fail(ERR_LIMIT, "tensor %zu: size 0, or more than %lld elements", i,
                            (long long)PLAN_MAX_ELEMENTS);
            t->count *= t->dim[k];
        }
    }
    return 0;
}

static int read_linear(struct plan_step *s, const Pi__Linear *m)
{
    struct plan_linear *l = &s->u.linear;

    if (m == NULL)
        return fail(ERR_FORMAT, "step '%s': no attributes", s->name);
    *l = (struct plan_linear){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    if (s->kind == PLAN_CONV) {
        TRY(copy_list(s->name, "kernel", m->kernel, m->n_kernel, l->kernel, 2));
        TRY(copy_list(s->name, "stride", m->stride, m->n_stride, l->stride, 2));
        TRY(copy_list(s->name, "pads", m->pads, m->n_pads, l->pad, 4));
        TRY(copy_list(s->name, "dilation", m->dilation, m->n_dilation, l->dilation, 2));
    }
    if (m->group < 1 || m->group > PLAN_MAX_ELEMENTS || m->weight_scale > PLAN_MAX_WEIGHT_SCALE)
        return fail(ERR_FORMAT, "step '%s': group %u, weight scale %u", s->name, m->group,
                    m->weight_scale);
    l->group = m->group;
    l->weight_scale = (int32_t)m->weight_scale;
    return 0;
}

static int read_pool(struct plan_step *s, const Pi__Pool *m)
{
    if (m == NULL || m->width > PLAN_MAX_WIDTH)
        return fail(ERR_FORMAT, "step '%s': no attributes, or a width beyond %d", s->name,
                    PLAN_MAX_WIDTH);
    s->u.pool.width = (int32_t)m->width;
    TRY(copy_list(s->name, "kernel", m->kernel, m->n_kernel, s->u.pool.kernel, 2));
    TRY(copy_list(s->name, "stride", m->stride, m->n_stride, s->u.pool.stride, 2));
    return copy_list(s->name, "pads", m->pads, m->n_pads, s->u.pool.pad, 4);
}

static int read_bitmap(struct plan_relu *r, const char *name, const ProtobufCBinaryData *map)
{
    int64_t n = 0;

    if ((int64_t)map->len != (r->total + 7) / 8)
        return fail(ERR_FORMAT, "step '%s': a bitmap of %zu bytes for %lld positions", name,
                    map->len, (long long)r->total);
    for (int64_t i = 0; i < 8 * (int64_t)map->len; i++) {
        if (!(map->data[i / 8] >> (i % 8) & 1))
            continue;
        if (i >= r->total || n >= r->kept)
            return fail(ERR_FORMAT, "step '%s': the bitmap has more than %lld bits set", name,
                        (long long)r->kept);
        r->index[n++] = (uint32_t)i;
    }
    if (n != r->kept)
        return fail(ERR_FORMAT, "step '%s': the bitmap has %lld bits set, not %lld", name,
                    (long long)n, (long long)r->kept);
    return 0;
}

static int read_lines(struct plan *p, struct plan_step *s, const Pi__Relu *m)
{
    struct plan_relu *r = &s->u.relu;

    if (m->line_shift > PLAN_MAX_LINE_SHIFT || m->n_slope > (size_t)PLAN_MAX_ELEMENTS)
        return fail(ERR_FORMAT, "step '%s': a line shift of %u, %zu slopes", s->name, m->line_shift,
                    m->n_slope);
    r->n_slope = (int32_t)m->n_slope;
    r->line_shift = (int32_t)m->line_shift;
    if (m->n_slope == 0)
        return 0;
    if ((r->slope = arena_array(p->arena, m->n_slope, sizeof *r->slope)) == NULL)
        return ERR_NOMEM;
    memcpy(r->slope, m->slope, m->n_slope * sizeof *r->slope);
    return 0;
}

static int read_relu(struct plan *p, struct plan_step *s, const Pi__Relu *m)
{
    struct plan_relu *r = &s->u.relu;

    if (m == NULL || m->kept > m->total || m->total > PLAN_MAX_ELEMENTS ||
        m->width > PLAN_MAX_WIDTH)
        return fail(ERR_FORMAT, "step '%s': no attributes, or counts out of range", s->name);
    if (m->bitmap.len > 0 && m->n_index > 0)
        return fail(ERR_FORMAT, "step '%s': both a bitmap and a list of positions", s->name);
    if (m->cap >= (uint64_t)1 << PLAN_VALUE_BITS)
        return fail(ERR_FORMAT, "step '%s': a bound of more than %d bits", s->name,
                    PLAN_VALUE_BITS);
    *r = (struct plan_relu){
        .total = m->total, .kept = m->kept, .width = (int32_t)m->width, .cap = (int64_t)m->cap};
    TRY(read_lines(p, s, m));
    if (m->bitmap.len == 0 && m->n_index != m->kept)
        return fail(ERR_FORMAT, "step '%s': %zu positions, %u kept", s->name, m->n_index, m->kept);
    if ((r->index = arena_array(p->arena, m->kept, sizeof *r->index)) == NULL)
        return ERR_NOMEM;
    if (m->bitmap.len > 0)
        return read_bitmap(r, s->name, &m->bitmap);
    if (m->kept > 0)
        memcpy(r->index, m->index, m->kept * sizeof *r->index);
    return 0; /* plan_check looks at the order */
}

static int read_pad(struct plan_step *s, const Pi__Pad *m)
{
    if (m == NULL)
        return fail(ERR_FORMAT, "step '%s': no attributes", s->name);
    TRY(copy_list(s->name, "begin", m->begin, m->n_begin, s->u.pad.begin, 3));
    return copy_list(s->name, "end", m->end, m->n_end, s->u.pad.end, 3);
}

static int read_slice(struct plan_step *s, const Pi__Slice *m)
{
    if (m == NULL)
        return fail(ERR_FORMAT, "step '%s': no attributes", s->name);
    TRY(copy_list(s->name, "start", m->start, m->n_start, s->u.slice.start, 3));
    return copy_list(s->name, "step", m->step, m->n_step, s->u.slice.step, 3);
}

static int read_attributes(struct plan *p, struct plan_step *s, const Pi__Step *m)
{
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return read_linear(s, m->linear);
    case PLAN_RELU:
        return read_relu(p, s, m->relu);
    case PLAN_SUM_POOL:
    case PLAN_MAX_POOL:
        return read_pool(s, m->pool);
    case PLAN_PAD:
        return read_pad(s, m->pad);
    case PLAN_SLICE:
        return read_slice(s, m->slice);
    case PLAN_ADD:
    case PLAN_FLATTEN:
        return 0;
    }
    return fail(ERR_UNSUPPORTED, "step '%s': kind %d is not known here", s->name, (int)m->kind);
}

static int read_step(struct plan *p, struct plan_step *s, const Pi__Step *m)
{
    if (m->n_inputs < 1 || m->n_inputs > 2 || m->n_input_shifts > 2 || m->shift > PLAN_VALUE_BITS ||
        m->output >= (uint32_t)p->n_tensor)
        return fail(ERR_FORMAT, "step '%s': operands, result or shift out of range", m->name);
    TRY(copy_text(p, m->name, &s->name));
    s->kind = (enum plan_kind)m->kind;
    s->n_in = (int32_t)m->n_inputs;
    s->out = (int32_t)m->output;
    s->shift = (int32_t)m->shift;
    for (size_t i = 0; i < m->n_inputs; i++) {
        if (m->inputs[i] >= (uint32_t)p->n_tensor)
            return fail(ERR_FORMAT, "step '%s': operand %u does not exist", m->name, m->inputs[i]);
        s->in[i] = (int32_t)m->inputs[i];
    }
    for (size_t i = 0; i < m->n_input_shifts; i++) {
        if (m->input_shifts[i] > PLAN_VALUE_BITS)
            return fail(ERR_FORMAT, "step '%s': shift out of range", m->name);
        s->input_shift[i] = (int32_t)m->input_shifts[i];
    }
    return read_attributes(p, s, m);
}

static int read_steps(struct plan *p, const Pi__Core *d)
{
    if (d->n_steps < 1 || d->n_steps >= PLAN_MAX_TENSORS)
        return fail(ERR_LIMIT, "%zu steps; 1 ... %d are possible", d->n_steps,
                    PLAN_MAX_TENSORS - 1);
    if ((p->step = arena_array(p->arena, d->n_steps, sizeof *p->step)) == NULL)
        return ERR_NOMEM;
    p->n_step = (int32_t)d->n_steps;
    for (size_t i = 0; i < d->n_steps; i++)
        TRY(read_step(p, &p->step[i], d->steps[i]));
    return 0;
}

static int read_totals(struct plan *p, const Pi__Totals *m)
{
    if (m == NULL || m->relus > INT64_MAX || m->relus_kept > INT64_MAX || m->macs > INT64_MAX ||
        m->relu_layers > PLAN_MAX_TENSORS || m->linear_layers > PLAN_MAX_TENSORS)
        return fail(ERR_FORMAT, "no totals, or totals out of range");
    p->relus = (int64_t)m->relus;
    p->relus_kept = (int64_t)m->relus_kept;
    p->macs = (int64_t)m->macs;
    p->relu_layers = (int32_t)m->relu_layers;
    p->linear_layers = (int32_t)m->linear_layers;
    return 0;
}

static int read_claims(struct plan *p, const Pi__Card *d)
{
    if ((p->claim = arena_array(p->arena, d->n_claims, sizeof *p->claim)) == NULL)
        return ERR_NOMEM;
    p->n_claim = (int32_t)d->n_claims;
    for (size_t i = 0; i < d->n_claims; i++) {
        p->claim[i].percent = d->claims[i]->percent;
        p->claim[i].images = d->claims[i]->images;
        TRY(copy_text(p, d->claims[i]->metric, &p->claim[i].metric));
        TRY(copy_text(p, d->claims[i]->data, &p->claim[i].data));
    }
    return 0;
}

static int read_identity(struct plan *p, const Pi__Core *d)
{
    if (strcmp(d->magic, MAGIC) != 0)
        return fail(ERR_FORMAT, "this is no model.pi made by linnet (no '%s')", MAGIC);
    if (d->version != PLAN_VERSION)
        return fail(ERR_UNSUPPORTED, "file version %u; this program reads version %d", d->version,
                    PLAN_VERSION);
    if (d->commitment.len != PLAN_HASH)
        return fail(ERR_FORMAT, "a commitment of %zu bytes, not %d", d->commitment.len, PLAN_HASH);
    memcpy(p->commitment, d->commitment.data, PLAN_HASH);
    TRY(copy_text(p, d->model_id, &p->model_id));
    return copy_text(p, d->branch, &p->branch);
}

static int read_core(struct plan *p, const Pi__Core *d)
{
    TRY(read_identity(p, d));
    TRY(read_numbers(p, d->numbers));
    TRY(read_tensors(p, d));
    TRY(read_input(p, d->input));
    TRY(read_steps(p, d));
    return copy_texts(p, d->labels, d->n_labels, &p->label, &p->n_label);
}

static int read_card(struct plan *p, const Pi__Card *d)
{
    TRY(copy_text(p, d->producer, &p->producer));
    TRY(read_totals(p, d->totals));
    TRY(read_claims(p, d));
    return copy_texts(p, d->notes, d->n_notes, &p->note, &p->n_note);
}

/* SHA-256("linnet model 2" + core). */
static int identify(struct plan *p, const uint8_t *core, size_t len)
{
    static const char tag[] = "linnet model 2";
    struct sha256 *h = NULL;
    int rc;

    TRY(sha256_new(&h));
    if ((rc = sha256_add(h, tag, sizeof tag - 1)) == 0 && (rc = sha256_add(h, core, len)) == 0)
        rc = sha256_end(h, p->identity);
    sha256_free(h);
    return rc;
}

/* Version 1 began with the magic alone in field 1, which is the core now. */
static int refuse_version_1(const uint8_t *bytes, size_t len, const char *what)
{
    static const char head[] = "\x0a\x09" MAGIC;

    if (len < sizeof head - 1 || memcmp(bytes, head, sizeof head - 1) != 0)
        return 0;
    return fail(
        ERR_UNSUPPORTED,
        "%s: file version 1, which this program does not read; linnet export MODEL --pi DIR or linnet linearize makes it anew",
        what);
}

static int read_parts(struct plan *p, const Pi__File *file, const char *what)
{
    struct wire_message *core = NULL, *card = NULL;
    int rc;

    if (file->core.len == 0)
        return fail(ERR_FORMAT, "%s: this is no model.pi made by linnet", what);
    if ((rc = wire_unpack_known(&pi__core__descriptor, file->core.data, file->core.len, "core",
                                &core)) < 0 ||
        (rc = read_core(p, wire_root(core))) < 0 ||
        (rc = wire_unpack(&pi__card__descriptor, file->card.data, file->card.len, "card", &card)) <
            0 ||
        (rc = read_card(p, wire_root(card))) < 0 || (rc = plan_check(p)) < 0)
        rc = fail_context(rc, "%s", what);
    else
        rc = identify(p, file->core.data, file->core.len);
    wire_free(core);
    wire_free(card);
    return rc;
}

int plan_read_bytes(const uint8_t *bytes, size_t len, const char *what, struct plan **out)
{
    struct wire_message *m = NULL;
    struct plan *p = NULL;
    int rc;

    TRY(refuse_version_1(bytes, len, what));
    if ((rc = wire_unpack(&pi__file__descriptor, bytes, len, what, &m)) < 0 ||
        (rc = plan_new(&p)) < 0 || (rc = read_parts(p, wire_root(m), what)) < 0)
        goto out;
    *out = p;
    p = NULL;
out:
    plan_free(p);
    wire_free(m);
    return rc;
}

static int read_file(const char *path, struct plan **out)
{
    uint8_t *bytes;
    size_t len;
    int rc;

    TRY(file_read(path, PLAN_MAX_FILE, &bytes, &len));
    rc = plan_read_bytes(bytes, len, path, out);
    mem_free(bytes);
    return rc;
}

int plan_read(const char *path, struct plan **out)
{
    int rc = read_file(path, out);
    const char *kind = rc == ERR_FORMAT || rc == ERR_LIMIT ? file_kind(path) : NULL;

    return kind == NULL
               ? rc
               : fail(
                     rc,
                     "%s: this is %s, not a model.pi; linnet export --pi and linnet linearize write one",
                     path, kind);
}

/* ---- writing ------------------------------------------------------------------------------ */

/* The message borrows texts from the plan (protobuf-c's structs are not const) and puts the rest
 * into an arena. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static uint32_t *list(struct arena *a, const int64_t *from, size_t n)
{
    uint32_t *v = arena_array(a, n, sizeof *v);

    for (size_t i = 0; v != NULL && i < n; i++)
        v[i] = (uint32_t)from[i];
    return v;
}

static Pi__Linear *write_linear(struct arena *a, const struct plan_step *s)
{
    const struct plan_linear *l = &s->u.linear;
    Pi__Linear *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__linear__init(m);
    if (s->kind == PLAN_CONV) {
        m->n_kernel = m->n_stride = m->n_dilation = 2;
        m->n_pads = 4;
        m->kernel = list(a, l->kernel, 2);
        m->stride = list(a, l->stride, 2);
        m->pads = list(a, l->pad, 4);
        m->dilation = list(a, l->dilation, 2);
        if (m->kernel == NULL || m->stride == NULL || m->pads == NULL || m->dilation == NULL)
            return NULL;
    }
    m->group = (uint32_t)l->group;
    m->weight_scale = (uint32_t)l->weight_scale;
    return m;
}

static Pi__Pool *write_pool(struct arena *a, const struct plan_pool *q)
{
    Pi__Pool *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__pool__init(m);
    m->n_kernel = m->n_stride = 2;
    m->n_pads = 4;
    m->kernel = list(a, q->kernel, 2);
    m->stride = list(a, q->stride, 2);
    m->pads = list(a, q->pad, 4);
    m->width = (uint32_t)q->width;
    return m->kernel == NULL || m->stride == NULL || m->pads == NULL ? NULL : m;
}

/* Bytes of the positions as packed varints. */
static int64_t index_bytes(const struct plan_relu *r)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < r->kept; i++)
        for (uint32_t v = r->index[i];; v >>= 7) {
            bytes++;
            if (v < 128)
                break;
        }
    return bytes;
}

static Pi__Relu *write_relu(struct arena *a, const struct plan_relu *r)
{
    Pi__Relu *m = arena_array(a, 1, sizeof *m);
    size_t map = (size_t)(r->total + 7) / 8;

    if (m == NULL)
        return NULL;
    pi__relu__init(m);
    m->total = (uint32_t)r->total;
    m->kept = (uint32_t)r->kept;
    m->width = (uint32_t)r->width;
    m->line_shift = (uint32_t)r->line_shift;
    m->cap = (uint64_t)r->cap;
    m->slope = r->slope;
    m->n_slope = (size_t)r->n_slope;
    if (index_bytes(r) < (int64_t)map) {
        m->index = r->index;
        m->n_index = (size_t)r->kept;
        return m;
    }
    if ((m->bitmap.data = arena_array(a, map, 1)) == NULL)
        return NULL;
    m->bitmap.len = map;
    for (int64_t i = 0; i < r->kept; i++)
        m->bitmap.data[r->index[i] / 8] |= (uint8_t)(1u << r->index[i] % 8);
    return m;
}

static Pi__Pad *write_pad(struct arena *a, const struct plan_pad *q)
{
    Pi__Pad *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__pad__init(m);
    m->n_begin = m->n_end = 3;
    m->begin = list(a, q->begin, 3);
    m->end = list(a, q->end, 3);
    return m->begin == NULL || m->end == NULL ? NULL : m;
}

static Pi__Slice *write_slice(struct arena *a, const struct plan_slice *q)
{
    Pi__Slice *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__slice__init(m);
    m->n_start = m->n_step = 3;
    m->start = list(a, q->start, 3);
    m->step = list(a, q->step, 3);
    return m->start == NULL || m->step == NULL ? NULL : m;
}

/* False if memory ran out. */
static bool write_attributes(struct arena *a, const struct plan_step *s, Pi__Step *m)
{
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return (m->linear = write_linear(a, s)) != NULL;
    case PLAN_RELU:
        return (m->relu = write_relu(a, &s->u.relu)) != NULL;
    case PLAN_SUM_POOL:
    case PLAN_MAX_POOL:
        return (m->pool = write_pool(a, &s->u.pool)) != NULL;
    case PLAN_PAD:
        return (m->pad = write_pad(a, &s->u.pad)) != NULL;
    case PLAN_SLICE:
        return (m->slice = write_slice(a, &s->u.slice)) != NULL;
    case PLAN_ADD:
        m->n_input_shifts = 2;
        m->input_shifts = arena_array(a, 2, sizeof *m->input_shifts);
        if (m->input_shifts == NULL)
            return false;
        m->input_shifts[0] = (uint32_t)s->input_shift[0];
        m->input_shifts[1] = (uint32_t)s->input_shift[1];
        return true;
    case PLAN_FLATTEN:
        return true;
    }
    return true;
}

static Pi__Step *write_step(struct arena *a, const struct plan_step *s)
{
    Pi__Step *m = arena_array(a, 1, sizeof *m);
    uint32_t *in = arena_array(a, 2, sizeof *in);

    if (m == NULL || in == NULL)
        return NULL;
    pi__step__init(m);
    m->kind = (Pi__StepKind)s->kind;
    m->name = text(s->name);
    m->n_inputs = (size_t)s->n_in;
    m->inputs = in;
    for (int32_t i = 0; i < s->n_in; i++)
        in[i] = (uint32_t)s->in[i];
    m->output = (uint32_t)s->out;
    m->shift = (uint32_t)s->shift;
    return write_attributes(a, s, m) ? m : NULL;
}

static Pi__Tensor *write_tensor(struct arena *a, const struct plan_tensor *t)
{
    Pi__Tensor *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__tensor__init(m);
    m->n_dims = (size_t)t->rank;
    m->dims = list(a, t->dim, m->n_dims);
    m->scale = (uint32_t)t->scale;
    m->max_log2 = t->max_log2;
    return m->dims == NULL ? NULL : m;
}

static Pi__Claim *write_claim(struct arena *a, const struct plan_claim *c)
{
    Pi__Claim *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__claim__init(m);
    m->metric = text(c->metric);
    m->data = text(c->data);
    m->percent = c->percent;
    m->images = c->images;
    return m;
}

static Pi__Input *write_input(struct arena *a, const struct plan *p)
{
    Pi__Input *m = arena_array(a, 1, sizeof *m);
    size_t channels = (size_t)p->tensor[0].dim[0];
    double *v = arena_array(a, 2 * channels, sizeof *v);

    if (m == NULL || v == NULL)
        return NULL;
    pi__input__init(m);
    m->name = text(p->input.name);
    m->layout = text("NCHW");
    m->uint8_low = (uint32_t)p->input.low;
    m->uint8_high = (uint32_t)p->input.high;
    m->n_mean = m->n_std = channels;
    m->mean = memcpy(v, p->input.mean, channels * sizeof *v);
    m->std = memcpy(v + channels, p->input.std, channels * sizeof *v);
    m->normalize = text(p->input.normalize);
    m->preparation = text(p->input.preparation);
    return m;
}

static Pi__Numbers *write_numbers(struct arena *a, const struct plan *p)
{
    Pi__Numbers *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__numbers__init(m);
    m->ring_bits = PLAN_RING_BITS;
    m->scale = (uint32_t)p->scale;
    m->truncation = PI__TRUNCATION__TRUNCATION_LOCAL;
    m->failure_log2 = p->failure_log2;
    return m;
}

static Pi__Totals *write_totals(struct arena *a, const struct plan *p)
{
    Pi__Totals *m = arena_array(a, 1, sizeof *m);

    if (m == NULL)
        return NULL;
    pi__totals__init(m);
    m->relus = (uint64_t)p->relus;
    m->relus_kept = (uint64_t)p->relus_kept;
    m->macs = (uint64_t)p->macs;
    m->relu_layers = (uint32_t)p->relu_layers;
    m->linear_layers = (uint32_t)p->linear_layers;
    return m;
}

/* d->field := one message a row of p->row; jumps out without memory. */
#define WRITE_ROWS(field, row, count, write)                                                       \
    do {                                                                                           \
        d->n_##field = (size_t)(count);                                                            \
        d->field = arena_array(a, d->n_##field, sizeof *d->field);                                 \
        for (size_t i_ = 0; d->field != NULL && i_ < d->n_##field; i_++)                           \
            if ((d->field[i_] = write(a, &(row)[i_])) == NULL)                                     \
                return ERR_NOMEM;                                                                  \
        if (d->field == NULL)                                                                      \
            return ERR_NOMEM;                                                                      \
    } while (0)

static int write_core(struct arena *a, const struct plan *p, Pi__Core *d)
{
    d->magic = text(MAGIC);
    d->version = PLAN_VERSION;
    d->model_id = text(p->model_id);
    d->branch = text(p->branch);
    d->commitment.len = PLAN_HASH;
    if ((d->commitment.data = arena_array(a, PLAN_HASH, 1)) == NULL)
        return ERR_NOMEM;
    memcpy(d->commitment.data, p->commitment, PLAN_HASH);
    d->input = write_input(a, p);
    d->numbers = write_numbers(a, p);
    if (d->input == NULL || d->numbers == NULL)
        return ERR_NOMEM;
    WRITE_ROWS(tensors, p->tensor, p->n_tensor, write_tensor);
    WRITE_ROWS(steps, p->step, p->n_step, write_step);
    d->n_labels = (size_t)p->n_label;
    d->labels = (char **)(uintptr_t)p->label;
    return 0;
}

static int write_card(struct arena *a, const struct plan *p, Pi__Card *d)
{
    d->producer = text(p->producer);
    if ((d->totals = write_totals(a, p)) == NULL)
        return ERR_NOMEM;
    WRITE_ROWS(claims, p->claim, p->n_claim, write_claim);
    d->n_notes = (size_t)p->n_note;
    d->notes = (char **)(uintptr_t)p->note;
    return 0;
}

/* Both parts packed into the arena. */
static int write_file(struct arena *a, const struct plan *p, Pi__File *file)
{
    Pi__Core core = PI__CORE__INIT;
    Pi__Card card = PI__CARD__INIT;

    TRY(write_core(a, p, &core));
    TRY(write_card(a, p, &card));
    file->core.len = pi__core__get_packed_size(&core);
    file->card.len = pi__card__get_packed_size(&card);
    file->core.data = arena_array(a, file->core.len, 1);
    file->card.data = arena_array(a, file->card.len, 1);
    if (file->core.data == NULL || file->card.data == NULL)
        return ERR_NOMEM;
    pi__core__pack(&core, file->core.data);
    pi__card__pack(&card, file->card.data);
    return 0;
}

int plan_bytes(struct plan *p, uint8_t **out, size_t *len)
{
    Pi__File file = PI__FILE__INIT;
    struct arena *a = NULL;
    uint8_t *bytes;
    size_t n;
    int rc;

    if ((rc = plan_check(p)) < 0 || (rc = arena_new(ARENA_LIMIT, &a)) < 0 ||
        (rc = write_file(a, p, &file)) < 0 || (rc = identify(p, file.core.data, file.core.len)) < 0)
        goto out;
    n = pi__file__get_packed_size(&file);
    if (n > PLAN_MAX_FILE) {
        rc = fail(ERR_LIMIT, "a model.pi of %zu bytes, at most %zu", n, PLAN_MAX_FILE);
        goto out;
    }
    if ((bytes = mem_array(n, 1)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    *len = pi__file__pack(&file, bytes);
    *out = bytes;
    rc = 0;
out:
    arena_free(a);
    return rc;
}
