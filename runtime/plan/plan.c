/* A plan in memory: its life cycle, what follows from it, and its names (plan.h). */
#include "runtime/plan/plan.h"

#include <string.h>

#include "core/base/sha256.h"

int plan_new(struct plan **out)
{
    struct arena *a;
    struct plan *p;

    TRY(arena_new(PLAN_ARENA, &a));
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

int plan_identify(struct plan *p, const uint8_t *core, size_t len)
{
    static const char tag[] = "linnet model 2";
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    TRY(sha256_new(&h));
    TRY(sha256_add(h, tag, sizeof tag - 1));
    TRY(sha256_add(h, core, len));
    return sha256_end(h, p->identity);
}
