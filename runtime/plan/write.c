/*
 * The writer of model.pi; the reader is in read.c.
 *
 * It is deterministic: fields in number order, positions of a ReLU layer as a bitmap or as a list of indices, whichever
 * is smaller (bitmap if equal).
 */
#include "runtime/plan/plan.h"

#include <string.h>

#include "pi.pb-c.h"

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
    d->magic = text(PLAN_MAGIC);
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
    SCOPED(arena_free_at) struct arena *a = NULL;
    Pi__File file = PI__FILE__INIT;

    TRY(plan_check(p));
    TRY(arena_new(PLAN_ARENA, &a));
    TRY(write_file(a, p, &file));
    TRY(plan_identify(p, file.core.data, file.core.len));
    const size_t n = pi__file__get_packed_size(&file);
    if (n > PLAN_MAX_FILE)
        return fail(ERR_LIMIT, "a model.pi of %zu bytes, at most %zu", n, PLAN_MAX_FILE);
    if ((*out = mem_array(n, 1)) == NULL)
        return ERR_NOMEM;
    *len = pi__file__pack(&file, *out);
    return 0;
}
