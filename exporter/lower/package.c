/* What goes along with the program: texts for people, and the weights rounded to integers. */
#define _GNU_SOURCE /* getrandom */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/buf.h"
#include "core/base/version.h"
#include "exporter/lower/lower.h"
#include "exporter/lower/lowering.h"

#define MAXIMA_LIMIT ((size_t)16 << 20)

/* ---- texts -------------------------------------------------------------------------------- */

static const char *text_of(struct plan *p, const char *from)
{
    return arena_strdup(p->arena, from == NULL ? "" : from);
}

int lower_texts(struct plan *p, const struct lower_options *o, const char *branch, bool softmax)
{
    p->producer = "linnet " LINNET_VERSION;
    p->input.normalize = text_of(p, o->normalize);
    p->input.preparation = text_of(p, o->preparation);
    p->branch = text_of(p, branch);
    p->label = arena_array(p->arena, (size_t)o->n_label, sizeof *p->label);
    p->claim = arena_array(p->arena, (size_t)o->n_claim, sizeof *p->claim);
    p->note = arena_array(p->arena, 1, sizeof *p->note);
    TRY(arena_status(p->arena));
    p->n_label = o->n_label;
    p->n_claim = o->n_claim;
    for (int32_t i = 0; i < o->n_label; i++)
        p->label[i] = text_of(p, o->label[i]);
    for (int32_t i = 0; i < o->n_claim; i++) {
        p->claim[i] = o->claim[i];
        p->claim[i].metric = text_of(p, o->claim[i].metric);
        p->claim[i].data = text_of(p, o->claim[i].data);
    }
    if (softmax)
        p->note[p->n_note++] = "the final Softmax was dropped: outputs are logits";
    return arena_status(p->arena);
}

/* {"0":2.64,"1":17.5,...}: exact maxima by tensor. */
static int maxima_text(const struct lowering *s, struct plan_weights *w)
{
    SCOPED(buf_release) struct buf_writer b = buf_writer_to(MAXIMA_LIMIT);

    for (int32_t i = 0; i < s->p->n_tensor; i++) {
        char entry[64];
        int n =
            snprintf(entry, sizeof entry, "%s\"%d\":%.9g", i == 0 ? "{" : ",", i, s->tensor_max[i]);
        buf_put_bytes(&b, entry, (size_t)n);
    }
    buf_put_bytes(&b, "}", 2);
    TRY(buf_status(&b));
    w->maxima = arena_strdup(w->arena, (const char *)b.data);
    return w->maxima != NULL ? 0 : ERR_NOMEM;
}

/* ---- weights ------------------------------------------------------------------------------ */

static int draw_salt(uint8_t salt[PLAN_SALT])
{
    size_t have = 0;

    while (have < PLAN_SALT) {
        ssize_t n = getrandom(salt + have, PLAN_SALT - have, 0);
        if (n < 0 && errno != EINTR)
            return fail(ERR_IO, "no random numbers from the system: %s", strerror(errno));
        have += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Ties to even; the scales were chosen so that everything fits. */
static void round_offsets(const struct draft *d, struct plan_matrix *m, int32_t scale)
{
    for (int64_t i = 0; i < m->rows; i++)
        m->bias[i] = (int64_t)nearbyint(ldexp(d->bias[i], scale));
}

static void round_matrix(const struct draft *d, struct plan_matrix *m, int32_t f_w,
                         int32_t bias_scale)
{
    for (int64_t i = 0; i < m->rows * m->columns; i++)
        m->weight[i] = (int16_t)nearbyint(ldexp(draft_weight(d, i), f_w));
    round_offsets(d, m, bias_scale);
}

int lower_weights(struct lowering *s, struct plan_weights **out)
{
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;

    TRY(plan_weights_new(s->p, &w));
    for (int32_t i = 0; i < s->p->n_step; i++) {
        const struct plan_step *step = &s->p->step[i];
        if (plan_has_lines(step))
            round_offsets(&s->draft[i], &w->matrix[i], s->p->scale);
        else if (plan_is_linear(step))
            round_matrix(&s->draft[i], &w->matrix[i], step->u.linear.weight_scale,
                         step->u.linear.weight_scale + s->p->tensor[step->in[0]].scale);
    }
    if (s->o->salt != NULL)
        memcpy(w->salt, s->o->salt, PLAN_SALT);
    else
        TRY(draw_salt(w->salt));
    TRY(maxima_text(s, w));
    w->source_sha256 =
        arena_strdup(w->arena, s->o->source_sha256 == NULL ? "" : s->o->source_sha256);
    if (w->source_sha256 == NULL)
        return ERR_NOMEM;
    *out = mem_hand_on(&w);
    return 0;
}
