/* Reader of --masks; what it accepts is in the header. */
#include "pipeline/mask_file.h"

#include <string.h>

#include "pipeline/model.h"
#include "core/op/op.h"
#include "core/base/safetensors.h"
#include "linearizer/linearizer.h"

/* ---- from a network ------------------------------------------------------------------------ */

static const struct relu_site *site_named(const struct graph *g, int32_t n,
                                          const struct relu_site *site, const char *name)
{
    for (int32_t s = 0; s < n; s++)
        if (strcmp(g->node[site[s].node].name, name) == 0)
            return &site[s];
    return NULL;
}

static void fill_site(struct graph *g, const struct relu_site *to, const float *from, float all)
{
    float *mask = g->value[to->mask].data;

    for (int64_t i = 0; i < to->total; i++)
        mask[i] = (from ? from[i] : all) > 0.5f ? 1 : 0;
}

/* Every ReLU of the file must be one of ours, of the same size. */
static int check_sites(const char *path, const struct graph *mine, int32_t n,
                       const struct relu_site *site, const struct graph *file, int32_t n_file,
                       const struct relu_site *in_file)
{
    if (n_file == 0)
        return fail(ERR_ARG, "--masks '%s': the network has no ReLU", path);
    for (int32_t i = 0; i < n_file; i++) {
        const char *name = file->node[in_file[i].node].name;
        const struct relu_site *s = site_named(mine, n, site, name);

        if (s == NULL)
            return fail(
                ERR_ARG,
                "--masks '%s': its ReLU '%s' is not in the model; is it made from the same one?",
                path, name);
        if (s->total != in_file[i].total)
            return fail(ERR_ARG, "--masks '%s': ReLU '%s' has %lld positions, in the model %lld",
                        path, name, (long long)in_file[i].total, (long long)s->total);
    }
    return 0;
}

static int from_graph(const char *path, const struct graph *file, struct graph *g, int32_t n,
                      const struct relu_site *site)
{
    OWNED struct relu_site *in_file = NULL;
    int32_t n_file = 0;

    TRY(relu_sites(file, &in_file, &n_file));
    TRY(check_sites(path, g, n, site, file, n_file, in_file));
    for (int32_t s = 0; s < n; s++) {
        const struct relu_site *f = site_named(file, n_file, in_file, g->node[site[s].node].name);
        const bool masked = f && f->mask != NO_VALUE;

        fill_site(g, &site[s], masked ? file->value[f->mask].data : NULL, f ? 1 : 0);
    }
    return 0;
}

/* ---- from plain tensors -------------------------------------------------------------------- */

static const struct st_tensor *find_tensor(const struct st_reader *r, const char *node)
{
    const struct st_tensor *t = st_find(r, node);
    char name[512];

    snprintf(name, sizeof name, "%.500s.mask", node);
    return t ? t : st_find(r, name);
}

static int from_tensor(const char *path, const struct st_reader *r, struct graph *g,
                       const struct relu_site *s)
{
    const char *node = g->node[s->node].name;
    const struct st_tensor *t = find_tensor(r, node);
    float *mask = g->value[s->mask].data;

    if (t == NULL)
        return fail(ERR_ARG, "--masks '%s': no tensor '%s' or '%s.mask'", path, node, node);
    if ((t->dtype != ST_F32 && t->dtype != ST_U8 && t->dtype != ST_BOOL) ||
        t->count != (size_t)s->total)
        return fail(ERR_ARG,
                    "--masks '%s': tensor '%s' is %s with %zu values, expected F32 or U8 with %lld",
                    path, t->name, st_dtype_name(t->dtype), t->count, (long long)s->total);
    if (t->dtype == ST_F32) {
        fill_site(g, s, t->data, 0);
        return 0;
    }
    for (int64_t i = 0; i < s->total; i++)
        mask[i] = ((const uint8_t *)t->data)[i] ? 1 : 0;
    return 0;
}

/* ---- which of them ------------------------------------------------------------------------- */

static int from_network(const struct linnet_listener *l, const char *path, struct graph *g,
                        int32_t n, const struct relu_site *site)
{
    SCOPED(model_close) struct model m = {0};

    TRY(model_open(l, path, NULL, 0, &m));
    return from_graph(path, m.g, g, n, site);
}

static int from_tensors(const char *path, const struct st_reader *r, struct graph *g, int32_t n,
                        const struct relu_site *site)
{
    for (int32_t s = 0; s < n; s++)
        TRY(from_tensor(path, r, g, &site[s]));
    return 0;
}

static bool is_checkpoint(const struct st_reader *r)
{
    const char *format = st_meta(r, "format");

    return format && strncmp(format, "linnet.checkpoint/", 18) == 0;
}

int mask_file_read(const struct linnet_listener *l, const char *path, struct graph *g)
{
    OWNED struct relu_site *site = NULL;
    SCOPED(st_reader_close_at) struct st_reader *r = NULL;
    int32_t n = 0;
    int rc;

    TRY(relu_sites(g, &site, &n));
    if (model_is_safetensors(path))
        TRY(st_reader_open(path, &r));
    if (r == NULL || is_checkpoint(r))
        rc = from_network(l, path, g, n, site);
    else
        rc = from_tensors(path, r, g, n, site);
    graph_touch(g);
    return rc;
}

int mask_file_count(const char *path, const struct graph *g, int64_t *kept)
{
    OWNED struct relu_site *site = NULL;
    SCOPED(graph_free_at) struct graph *c = NULL;
    int32_t n = 0;

    *kept = 0;
    TRY(graph_clone(g, &c));
    TRY(mask_insert(c));
    TRY(mask_file_read(NULL, path, c));
    TRY(relu_sites(c, &site, &n));
    for (int32_t s = 0; s < n; s++)
        *kept += site[s].kept;
    return 0;
}
