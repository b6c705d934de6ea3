/*
 * The operator table, made from ops.def. Searches are linear because there are fewer than thirty
 * operators and a file is read once.
 */
#include "core/graph/operator.h"

#include <string.h>

static const struct op *const table[] = {
#define OP(name) &op_##name,
#include "core/graph/ops.def"
#undef OP
    NULL,
};

const struct op *const *op_table(void)
{
    return table;
}

const struct op *op_find(const char *type)
{
    for (const struct op *const *o = table; *o != NULL; o++) {
        if (strcmp((*o)->type, type) == 0)
            return *o;
    }
    return NULL;
}

static void set_default(const struct attr *a, char *field)
{
    if (a->kind == ATTR_FLOAT) {
        *(float *)(void *)field = (float)a->dflt;
        return;
    }
    int64_t *v = (int64_t *)(void *)field;
    int32_t count = a->kind == ATTR_INT ? 1 : a->count;
    for (int32_t i = 0; i < count; i++)
        v[i] = (int64_t)a->dflt;
}

void op_defaults(const struct op *op, union op_params *p)
{
    if (op->attrs == NULL)
        return;
    for (const struct attr *a = op->attrs; a->name != NULL; a++)
        set_default(a, (char *)p + a->offset);
}
