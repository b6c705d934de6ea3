/*
 * The graph tables and their edit primitives; every change of structure goes through here.
 *
 * The three blocks (params, buffers, masks) grow by doubling, and value.data of their slices are
 * pointed anew after each move. Slices lie in the order of the values, so dropping some moves the rest
 * down in place. Names are kept unique by a set; a removed node's name is free at once, a removed
 * value's name after graph_compact.
 */
#include "core/graph/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- the flat blocks --------------------------------------------------------------------- */

struct block { /* one of the three, seen through pointers */
    float **data;
    int64_t *n, *cap;
};

static bool block_of(struct graph *g, enum value_kind kind, struct block *b)
{
    switch (kind) {
    case VALUE_PARAM:
        *b = (struct block){&g->params, &g->n_params, &g->cap_params};
        return true;
    case VALUE_BUFFER:
        *b = (struct block){&g->buffers, &g->n_buffers, &g->cap_buffers};
        return true;
    case VALUE_MASK:
        *b = (struct block){&g->masks, &g->n_masks, &g->cap_masks};
        return true;
    default:
        return false;
    }
}

static void block_repoint(struct graph *g, enum value_kind kind, const struct block *b)
{
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].kind == kind && g->value[v].offset >= 0)
            g->value[v].data = *b->data + g->value[v].offset;
}

/* Makes room for `more` floats; less than `slack` times as much as there are is not worth a move. */
static int block_grow(struct graph *g, enum value_kind kind, int64_t more, int64_t slack)
{
    struct block b;
    void *data;

    if (!block_of(g, kind, &b) || *b.n + more <= *b.cap)
        return 0;
    int64_t cap = *b.cap * slack > *b.n + more ? *b.cap * slack : *b.n + more;
    if (cap > SHAPE_MAX_COUNT)
        return fail(ERR_LIMIT, "graph: a block of %lld floats is too large", (long long)cap);
    data = *b.data;
    const int rc =
        mem_aligned_grow(&data, (size_t)*b.n * sizeof **b.data, (size_t)cap, sizeof **b.data);
    *b.data = data;
    block_repoint(g, kind, &b);
    if (rc == 0)
        *b.cap = cap;
    return rc;
}

static int block_reserve(struct graph *g, enum value_kind kind, int64_t more)
{
    return block_grow(g, kind, more, 2);
}

int graph_reserve_params(struct graph *g, int64_t n)
{
    return block_grow(g, VALUE_PARAM, n, 1);
}

/* ---- life cycle -------------------------------------------------------------------------- */

int graph_new(struct graph **out)
{
    SCOPED(graph_free_at) struct graph *g = mem_array(1, sizeof *g);

    if (g == NULL)
        return ERR_NOMEM;
    TRY(arena_new(0, &g->arena));
    g->name = g->batch_name = g->producer = "";
    g->input = g->output = NO_VALUE;
    g->version = 1;
    *out = mem_hand_on(&g);
    return 0;
}

void graph_free(struct graph *g)
{
    if (g == NULL)
        return;
    mem_free(g->value);
    mem_free(g->node);
    mem_free(g->params);
    mem_free(g->buffers);
    mem_free(g->masks);
    mem_free(g->meta);
    nameset_release(&g->value_names);
    nameset_release(&g->node_names);
    arena_free(g->arena);
    mem_free(g);
}

/* name_1, name_2 ... up to one that is free: the first one where those before it are all taken, found
 * by doubling and halving, since a file may give one name to everything. */
static int free_suffix(const struct nameset *taken, const char *name, char *buf, size_t size,
                       int32_t *suffix)
{
    int32_t last = 0, next = 1; /* last is taken, next is to be tried or free */

    for (;; last = next, next *= 2) {
        if (next > INT32_MAX / 2)
            return fail(ERR_LIMIT, "graph: too many names like '%.100s'", name);
        snprintf(buf, size, "%s_%d", name, next);
        if (!nameset_has(taken, buf))
            break;
    }
    while (next - last > 1) {
        const int32_t middle = last + (next - last) / 2;

        snprintf(buf, size, "%s_%d", name, middle);
        *(nameset_has(taken, buf) ? &last : &next) = middle;
    }
    *suffix = next;
    return 0;
}

/* A copy of `name` in the arena that is not yet in `taken`, with a suffix where it is. */
static int unique_name(struct graph *g, struct nameset *taken, const char *name, const char **out)
{
    const size_t size = strlen(name) + sizeof "_2147483647";
    int32_t suffix = 0;

    if (nameset_has(taken, name)) {
        OWNED char *buf = mem_array(size, 1);
        if (buf == NULL)
            return ERR_NOMEM;
        TRY(free_suffix(taken, name, buf, size, &suffix));
    }
    *out =
        suffix > 0 ? arena_printf(g->arena, "%s_%d", name, suffix) : arena_strdup(g->arena, name);
    return *out != NULL ? nameset_add(taken, *out) : ERR_NOMEM;
}

int graph_add_value(struct graph *g, const char *name, enum value_kind kind,
                    const struct shape *shape, const float *data, value_id *out)
{
    struct value v = {.kind = kind, .shape = *shape, .offset = -1, .producer = -1};
    struct block b;
    int64_t count;

    TRY(shape_count(shape, &count));
    TRY(mem_grow(&g->value, (size_t)g->n_value + 1, &g->cap_value, sizeof *g->value));
    TRY(block_reserve(g, kind, count));
    if (kind == VALUE_CONST &&
        (v.data = arena_array(g->arena, (size_t)count, sizeof(float))) == NULL)
        return ERR_NOMEM;
    TRY(unique_name(g, &g->value_names, name, &v.name));
    if (block_of(g, kind, &b)) {
        v.offset = *b.n;
        v.data = *b.data + *b.n;
        *b.n += count;
        if (data == NULL)
            memset(v.data, 0, (size_t)count * sizeof *v.data);
    }
    if (v.data && data)
        memcpy(v.data, data, (size_t)count * sizeof *data);
    g->value[g->n_value] = v;
    *out = g->n_value++;
    return 0;
}

/* The shape of a node's result, after the number of its inputs and that those it must have exist. */
static int result_shape(const struct graph *g, const struct node *n, struct shape *out)
{
    const struct op *op = n->op;

    if (n->n_in < op->in_min || n->n_in > op->in_max)
        return fail(ERR_FORMAT, "node '%s' (%s): has %d inputs, needs %d to %d", n->name, op->type,
                    n->n_in, op->in_min, op->in_max);
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] >= g->n_value || (n->in[i] < 0 && (n->in[i] != NO_VALUE || i < op->in_min)))
            return fail(ERR_FORMAT, "node '%s' (%s): input %d is missing", n->name, op->type, i);
    return op->shape(g, n, out);
}

int graph_insert_node(struct graph *g, int32_t after, const struct op *op, const char *name,
                      const value_id *in, int32_t n_in, const union op_params *p,
                      const char *out_name, value_id *out)
{
    struct node n = {.op = op, .name = name, .n_in = n_in};
    struct shape shape;
    int32_t at = after + 1;

    assert(at >= 0 && at <= g->n_node);
    if (n_in < 0 || n_in > NODE_MAX_IN)
        return fail(ERR_LIMIT, "node '%s' (%s): %d inputs, at most %d", name, op->type, n_in,
                    NODE_MAX_IN);
    memcpy(n.in, in, (size_t)n_in * sizeof *in);
    for (int32_t i = n_in; i < NODE_MAX_IN; i++)
        n.in[i] = NO_VALUE;
    if (p)
        n.p = *p;
    TRY(result_shape(g, &n, &shape));
    TRY(mem_grow(&g->node, (size_t)g->n_node + 1, &g->cap_node, sizeof *g->node));
    TRY(unique_name(g, &g->node_names, name, &n.name));
    TRY(graph_add_value(g, out_name, VALUE_TEMP, &shape, NULL, &n.out[0]));
    for (value_id v = 0; at < g->n_node && v < g->n_value; v++)
        if (g->value[v].producer >= at)
            g->value[v].producer++;
    memmove(&g->node[at + 1], &g->node[at], (size_t)(g->n_node - at) * sizeof *g->node);
    g->node[at] = n;
    g->n_node++;
    g->value[n.out[0]].producer = at;
    *out = n.out[0];
    return 0;
}

int graph_add_node(struct graph *g, const struct op *op, const char *name, const value_id *in,
                   int32_t n_in, const union op_params *p, const char *out_name, value_id *out)
{
    return graph_insert_node(g, g->n_node - 1, op, name, in, n_in, p, out_name, out);
}

void graph_replace_uses(struct graph *g, value_id from, value_id to, int32_t except)
{
    for (int32_t n = 0; n < g->n_node; n++)
        for (int32_t i = 0; n != except && i < g->node[n].n_in; i++)
            if (g->node[n].in[i] == from)
                g->node[n].in[i] = to;
    if (g->output == from)
        g->output = to;
}

void graph_remove_node(struct graph *g, int32_t node)
{
    assert(node >= 0 && node < g->n_node);
    assert(graph_count_uses(g, g->node[node].out[0]) == 0);
    g->value[g->node[node].out[0]].producer = -1;
    nameset_remove(&g->node_names, g->node[node].name);
    g->n_node--;
    memmove(&g->node[node], &g->node[node + 1], (size_t)(g->n_node - node) * sizeof *g->node);
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].producer > node)
            g->value[v].producer--;
}

/* ---- clone and compact ------------------------------------------------------------------- */

/* Copies value v of `from` to the end of `to`. */
static int copy_value(const struct graph *from, value_id v, struct graph *to, value_id *out)
{
    const struct value *s = &from->value[v];

    TRY(graph_add_value(to, s->name, s->kind, &s->shape, s->data, out));
    to->value[*out].producer = s->producer;
    return 0;
}

static value_id mapped(const value_id *map, value_id v)
{
    return v == NO_VALUE ? NO_VALUE : map[v];
}

static int copy_node(const struct node *s, const value_id *map, struct graph *to)
{
    struct node n = *s;

    TRY(mem_grow(&to->node, (size_t)to->n_node + 1, &to->cap_node, sizeof *to->node));
    TRY(unique_name(to, &to->node_names, s->name, &n.name));
    for (int32_t i = 0; i < n.n_in; i++)
        n.in[i] = mapped(map, n.in[i]);
    n.out[0] = map[n.out[0]];
    to->node[to->n_node++] = n;
    return 0;
}

static int copy_header(const struct graph *from, struct graph *to)
{
    to->name = arena_strdup(to->arena, from->name);
    to->batch_name = arena_strdup(to->arena, from->batch_name);
    to->producer = arena_strdup(to->arena, from->producer);
    if (!to->name || !to->batch_name || !to->producer)
        return ERR_NOMEM;
    if (from->tail != TAIL_NONE) {
        to->tail_node = arena_strdup(to->arena, from->tail_node);
        to->tail_output = arena_strdup(to->arena, from->tail_output);
        if (!to->tail_node || !to->tail_output)
            return ERR_NOMEM;
    }
    to->tail = from->tail;
    to->channels_last = from->channels_last;
    to->norm = from->norm;
    to->ir_version = from->ir_version;
    to->opset = from->opset;
    to->file_input = from->file_input;
    to->file_output = from->file_output;
    for (int32_t i = 0; i < from->n_meta; i++)
        TRY(graph_set_meta(to, from->meta[i].key, from->meta[i].text));
    return 0;
}

/* Marks the values that something refers to. */
static void mark_used(const struct graph *g, bool *used)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        for (int32_t i = 0; i < g->node[n].n_in; i++)
            if (g->node[n].in[i] != NO_VALUE)
                used[g->node[n].in[i]] = true;
        used[g->node[n].out[0]] = true;
    }
    if (g->input != NO_VALUE)
        used[g->input] = true;
    if (g->output != NO_VALUE)
        used[g->output] = true;
}

int graph_clone(const struct graph *g, struct graph **out)
{
    OWNED value_id *map = mem_array((size_t)g->n_value + 1, sizeof *map);
    SCOPED(graph_free_at) struct graph *to = NULL;

    if (map == NULL)
        return ERR_NOMEM;
    TRY(graph_new(&to));
    TRY(copy_header(g, to));
    TRY(block_reserve(to, VALUE_PARAM, g->n_params));
    TRY(block_reserve(to, VALUE_BUFFER, g->n_buffers));
    TRY(block_reserve(to, VALUE_MASK, g->n_masks));
    for (value_id v = 0; v < g->n_value; v++)
        TRY(copy_value(g, v, to, &map[v]));
    for (int32_t n = 0; n < g->n_node; n++)
        TRY(copy_node(&g->node[n], map, to));
    to->input = mapped(map, g->input);
    to->output = mapped(map, g->output);
    to->version = g->version + 1;
    *out = mem_hand_on(&to);
    return 0;
}

/* The numbers of a value that stays move to the end of those before it. */
static void move_numbers(struct graph *g, struct value *v)
{
    struct block b;

    if (!block_of(g, v->kind, &b))
        return;
    const int64_t count = shape_elems(&v->shape);
    assert(v->offset >= *b.n);
    if (v->offset > *b.n)
        memmove(*b.data + *b.n, v->data, (size_t)count * sizeof *v->data);
    v->offset = *b.n;
    v->data = *b.data + *b.n;
    *b.n += count;
}

/* map[v] = the new id of a value that stays. */
static void move_values(struct graph *g, const bool *used, value_id *map)
{
    value_id n = 0;

    g->n_params = g->n_buffers = g->n_masks = 0;
    for (value_id v = 0; v < g->n_value; v++) {
        if (!used[v]) {
            nameset_remove(&g->value_names, g->value[v].name);
            continue;
        }
        move_numbers(g, &g->value[v]);
        g->value[n] = g->value[v];
        map[v] = n++;
    }
    g->n_value = n;
}

int graph_compact(struct graph *g)
{
    OWNED bool *used = mem_array((size_t)g->n_value + 1, sizeof *used);
    OWNED value_id *map = mem_array((size_t)g->n_value + 1, sizeof *map);

    if (used == NULL || map == NULL)
        return ERR_NOMEM;
    mark_used(g, used);
    move_values(g, used, map);
    for (int32_t n = 0; n < g->n_node; n++) {
        struct node *x = &g->node[n];

        for (int32_t i = 0; i < x->n_in; i++)
            x->in[i] = mapped(map, x->in[i]);
        x->out[0] = map[x->out[0]];
    }
    g->input = mapped(map, g->input);
    g->output = mapped(map, g->output);
    graph_touch(g);
    return 0;
}

/* ---- verification ------------------------------------------------------------------------ */

static int verify_value(const struct graph *g, value_id v)
{
    const struct value *x = &g->value[v];
    const bool in_block =
        x->kind == VALUE_PARAM || x->kind == VALUE_BUFFER || x->kind == VALUE_MASK;
    const int64_t n = x->kind == VALUE_PARAM    ? g->n_params
                      : x->kind == VALUE_BUFFER ? g->n_buffers
                                                : g->n_masks;
    int64_t count;

    if (x->name == NULL)
        return fail(ERR_FORMAT, "value %d has no name", v);
    TRY(shape_count(&x->shape, &count));
    if (value_is_activation(x)) {
        if (!shape_has_batch(&x->shape))
            return fail(ERR_FORMAT, "value '%s': an activation must have the batch as dim 0",
                        x->name);
        return 0;
    }
    if (x->data == NULL || x->producer >= 0 || shape_has_batch(&x->shape))
        return fail(ERR_FORMAT, "value '%s': a constant needs data and fixed dims", x->name);
    if (in_block && (x->offset < 0 || x->offset > n - count))
        return fail(ERR_FORMAT, "value '%s': slice outside its block", x->name);
    return 0;
}

static int verify_node(const struct graph *g, int32_t i)
{
    const struct node *n = &g->node[i];
    struct shape s;

    if (n->op == NULL || n->name == NULL || n->n_in < n->op->in_min || n->n_in > n->op->in_max)
        return fail(ERR_FORMAT, "node %d: operator, name or number of inputs is wrong", i);
    for (int32_t k = 0; k < n->n_in; k++) {
        value_id v = n->in[k];

        if (v == NO_VALUE)
            continue;
        if (v < 0 || v >= g->n_value)
            return fail(ERR_FORMAT, "node '%s': input %d is value %d of %d", n->name, k, v,
                        g->n_value);
        if (g->value[v].producer >= i ||
            (g->value[v].kind == VALUE_TEMP && g->value[v].producer < 0))
            return fail(ERR_FORMAT, "node '%s': input '%s' is not computed before it", n->name,
                        g->value[v].name);
    }
    if (n->out[0] < 0 || n->out[0] >= g->n_value || g->value[n->out[0]].producer != i)
        return fail(ERR_FORMAT, "node '%s': its output names another producer", n->name);
    TRY(result_shape(g, n, &s));
    if (!shape_equal(&s, &g->value[n->out[0]].shape)) {
        char want[SHAPE_TEXT], have[SHAPE_TEXT];

        return fail(ERR_FORMAT, "node '%s' (%s): output shape %s, should be %s", n->name,
                    n->op->type, shape_text(&g->value[n->out[0]].shape, have),
                    shape_text(&s, want));
    }
    return 0;
}

int graph_verify(const struct graph *g)
{
    if (g->input < 0 || g->input >= g->n_value || g->output < 0 || g->output >= g->n_value ||
        g->value[g->input].kind != VALUE_INPUT)
        return fail(ERR_FORMAT, "graph '%s': input or output is missing", g->name);
    for (value_id v = 0; v < g->n_value; v++)
        TRY(verify_value(g, v));
    for (int32_t n = 0; n < g->n_node; n++)
        TRY(verify_node(g, n));
    return 0;
}

/* ---- questions --------------------------------------------------------------------------- */

value_id graph_find_value(const struct graph *g, const char *name)
{
    for (value_id v = 0; v < g->n_value; v++)
        if (strcmp(g->value[v].name, name) == 0)
            return v;
    return NO_VALUE;
}

int32_t graph_find_node(const struct graph *g, const char *name)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (strcmp(g->node[n].name, name) == 0)
            return n;
    return -1;
}

int32_t graph_count_uses(const struct graph *g, value_id v)
{
    int32_t uses = g->output == v;

    for (int32_t n = 0; n < g->n_node; n++)
        for (int32_t i = 0; i < g->node[n].n_in; i++)
            uses += g->node[n].in[i] == v;
    return uses;
}

int32_t graph_single_user(const struct graph *g, value_id v)
{
    int32_t user = -1;

    if (g->output == v)
        return -1;
    for (int32_t n = 0; n < g->n_node; n++)
        for (int32_t i = 0; i < g->node[n].n_in; i++)
            if (g->node[n].in[i] == v) {
                if (user >= 0)
                    return -1;
                user = n;
            }
    return user;
}

void graph_touch(struct graph *g)
{
    g->version++;
}

int64_t graph_mask_kept(const struct value *mask)
{
    int64_t kept = 0;

    for (int64_t i = 0, n = shape_elems(&mask->shape); i < n; i++)
        kept += mask->data[i] > 0.5f;
    return kept;
}

int graph_branches(const struct graph *g)
{
    int branches = 0;

    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_batchnorm)
            branches = g->node[n].n_in > 5 ? 2 : branches > 1 ? branches : 1;
    return branches;
}

int64_t graph_macs(const struct graph *g)
{
    int64_t macs = 0;

    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];

        if (x->op != &op_conv && x->op != &op_gemm)
            continue;
        const struct shape *w = &op_in(g, x, 1)->shape;
        const int64_t per_output = shape_elems(w) / w->dim[0]; /* weights of one output channel */
        macs += shape_elems(&g->value[x->out[0]].shape) * per_output;
    }
    return macs;
}

/* ---- metadata ---------------------------------------------------------------------------- */

static int32_t meta_position(const struct graph *g, const char *key, bool *found)
{
    int32_t i = 0;

    while (i < g->n_meta && strcmp(g->meta[i].key, key) < 0)
        i++;
    *found = i < g->n_meta && strcmp(g->meta[i].key, key) == 0;
    return i;
}

int graph_set_meta(struct graph *g, const char *key, const char *text)
{
    struct graph_meta m = {0};
    bool found;
    int32_t at = meta_position(g, key, &found);

    if (text == NULL) {
        if (found)
            memmove(&g->meta[at], &g->meta[at + 1], (size_t)(--g->n_meta - at) * sizeof m);
        return 0;
    }
    if ((m.text = arena_strdup(g->arena, text)) == NULL)
        return ERR_NOMEM;
    if (found) {
        g->meta[at].text = m.text;
        return 0;
    }
    if ((m.key = arena_strdup(g->arena, key)) == NULL)
        return ERR_NOMEM;
    TRY(mem_grow(&g->meta, (size_t)g->n_meta + 1, &g->cap_meta, sizeof *g->meta));
    memmove(&g->meta[at + 1], &g->meta[at], (size_t)(g->n_meta - at) * sizeof m);
    g->meta[at] = m;
    g->n_meta++;
    return 0;
}

const char *graph_get_meta(const struct graph *g, const char *key)
{
    bool found;
    int32_t at = meta_position(g, key, &found);

    return found ? g->meta[at].text : NULL;
}
