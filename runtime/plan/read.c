/*
 * The reader of model.pi. The schema is proto/pi.proto; the rules that a plan obeys are in check.c, the writer is in
 * write.c: a field stands in both.
 */
#include "runtime/plan/plan.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/wire.h"
#include "pi.pb-c.h"
#include "runtime/plan/file_kind.h"

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
    if (strcmp(d->magic, PLAN_MAGIC) != 0)
        return fail(ERR_FORMAT, "this is no model.pi made by linnet (no '%s')", PLAN_MAGIC);
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

/* Version 1 began with the magic alone in field 1, which is the core now. */
static int refuse_version_1(const uint8_t *bytes, size_t len, const char *what)
{
    static const char head[] = "\x0a\x09" PLAN_MAGIC;

    if (len < sizeof head - 1 || memcmp(bytes, head, sizeof head - 1) != 0)
        return 0;
    return fail(
        ERR_UNSUPPORTED,
        "%s: file version 1, which this program does not read; linnet export MODEL --pi DIR or linnet linearize makes it anew",
        what);
}

static int read_parts(struct plan *p, const Pi__File *file)
{
    SCOPED(wire_free_at) struct wire_message *core = NULL, *card = NULL;

    TRY(wire_unpack_known(&pi__core__descriptor, file->core.data, file->core.len, "core", &core));
    TRY(read_core(p, wire_root(core)));
    TRY(wire_unpack(&pi__card__descriptor, file->card.data, file->card.len, "card", &card));
    TRY(read_card(p, wire_root(card)));
    return plan_check(p);
}

int plan_read_bytes(const uint8_t *bytes, size_t len, const char *what, struct plan **out)
{
    SCOPED(wire_free_at) struct wire_message *m = NULL;
    SCOPED(plan_free_at) struct plan *p = NULL;
    int rc;

    TRY(refuse_version_1(bytes, len, what));
    TRY(wire_unpack(&pi__file__descriptor, bytes, len, what, &m));
    TRY(plan_new(&p));
    const Pi__File *file = wire_root(m);
    if (file->core.len == 0)
        return fail(ERR_FORMAT, "%s: this is no model.pi made by linnet", what);
    if ((rc = read_parts(p, file)) < 0)
        return fail_context(rc, "%s", what);
    TRY(plan_identify(p, file->core.data, file->core.len));
    *out = mem_hand_on(&p);
    return 0;
}

static int read_file(const char *path, struct plan **out)
{
    OWNED uint8_t *bytes = NULL;
    size_t len;

    TRY(file_read(path, PLAN_MAX_FILE, &bytes, &len));
    return plan_read_bytes(bytes, len, path, out);
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
