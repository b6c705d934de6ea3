/* Reader of --layer-budgets; the format is in the header. */
#include "pipeline/layer_budget.h"

#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"

#define BUDGET_LIMIT ((size_t)1 << 20)

static int read_value(const char *path, const json_t *v, const char *layer, int64_t total,
                      int64_t *out)
{
    double share = -1;

    if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= total) {
        *out = json_integer_value(v);
        return 0;
    }
    if (json_is_string(v) && strchr(json_string_value(v), '%'))
        return budget_parse(json_string_value(v), total, out) < 0
                   ? fail_context(ERR_ARG, "'%s': layer '%s'", path, layer)
                   : 0;
    if (json_is_real(v))
        share = json_real_value(v);
    if (!(share >= 0 && share <= 1))
        return fail(
            ERR_ARG,
            "'%s': layer '%s': give a count from 0 to %lld, a share from 0.0 to 1.0, or a text \"P%%\"",
            path, layer, (long long)total);
    *out = (int64_t)floor(share * (double)total + 1e-9);
    return 0;
}

static int read_list(const char *path, const json_t *root, const struct graph *g, int32_t n,
                     const struct relu_site *site, int64_t *pinned)
{
    if (json_array_size(root) != (size_t)n)
        return fail(ERR_ARG, "'%s': the list has %zu values, the network has %d ReLU layers", path,
                    json_array_size(root), n);
    for (int32_t s = 0; s < n; s++)
        TRY(read_value(path, json_array_get(root, (size_t)s), g->node[site[s].node].name,
                       site[s].total, &pinned[s]));
    return 0;
}

static int read_object(const char *path, json_t *root, const struct graph *g, int32_t n,
                       const struct relu_site *site, int64_t *pinned)
{
    const char *key;
    json_t *v;

    json_object_foreach(root, key, v)
    {
        int32_t s = 0;

        while (s < n && strcmp(g->node[site[s].node].name, key) != 0)
            s++;
        if (s == n)
            return fail(ERR_ARG, "'%s': no ReLU node is called '%s'; `linnet inspect` lists them",
                        path, key);
        TRY(read_value(path, v, key, site[s].total, &pinned[s]));
    }
    return 0;
}

int layer_budget_read(const char *path, const struct graph *g, int32_t n,
                      const struct relu_site *site, int64_t *pinned)
{
    OWNED uint8_t *bytes = NULL;
    SCOPED(json_decref_at) json_t *root = NULL;
    size_t len = 0;
    json_error_t e;

    TRY(file_read(path, BUDGET_LIMIT, &bytes, &len));
    root = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &e);
    for (int32_t s = 0; s < n; s++)
        pinned[s] = -1;
    if (json_is_array(root))
        return read_list(path, root, g, n, site, pinned);
    if (json_is_object(root))
        return read_object(path, root, g, n, site, pinned);
    return fail(ERR_ARG, "'%s': %s", path, root ? "is neither a JSON list nor an object" : e.text);
}
