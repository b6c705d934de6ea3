/*
 * The restricted pickle reader.
 *
 * A pickle is a program for a stack machine. Objects live in one table and are named by index, so a
 * memo can name an object twice and nothing can point outside. Lists and dicts hold the indices of
 * their members in one growing pool per object: a list of integers is copied to plain int64 at the
 * end. Source of the opcodes: the documentation of Python's pickletools.
 *
 *     GLOBAL / STACK_GLOBAL   numpy.core.multiarray _reconstruct, numpy ndarray, numpy dtype,
 *                             _codecs encode (bytes written by Python 3 at protocol 2)
 *     REDUCE                  _reconstruct -> an empty array; dtype -> a type; encode -> bytes
 *     BUILD                   fills the array (shape, type, order, bytes) or the type
 */
#include "trainer/data/pickle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/mem.h"

enum kind {
    NONE,
    INTEGER,
    TEXT,
    LIST,
    TUPLE,
    DICT,
    NAME_RECONSTRUCT,
    NAME_NDARRAY,
    NAME_DTYPE,
    NAME_ENCODE,
    TYPE, /* a dtype */
    ARRAY
};
static const char *const kind_word[] = {"None",    "an integer", "a string", "a list",
                                        "a tuple", "a dict",     "a name",   "a name",
                                        "a name",  "a name",     "a dtype",  "an array"};

struct object {
    enum kind kind;
    int64_t integer; /* INTEGER; TYPE: 1 if it is u1 */
    size_t at, len;  /* TEXT: bytes in the file or, with `own`, in own memory */
    uint8_t *own;    /* TEXT that was decoded */
    int32_t *item;   /* LIST, TUPLE, DICT (key, value, ...) */
    int32_t n;
    size_t cap;
    int64_t dim[2]; /* ARRAY */
    int32_t bytes;  /* ARRAY: the TEXT with its bytes, -1: not built */
    int64_t *plain; /* LIST of integers, made on demand */
};

struct pickle {
    const uint8_t *data;
    size_t len, at;
    const char *what;
    struct object *object;
    int32_t n, depth, marks;
    int32_t *stack, *mark, *memo; /* mark: depths; memo: object of memo i, -1 */
    size_t cap, stack_cap, mark_cap, memos;
    int32_t root;
    size_t decoded; /* bytes of text that were decoded: at most as many as the file has */
};

#define MOST_MEMO 1000000

void pickle_free(struct pickle *p)
{
    if (p == NULL)
        return;
    for (int32_t i = 0; i < p->n; i++) {
        mem_free(p->object[i].own);
        mem_free(p->object[i].item);
        mem_free(p->object[i].plain);
    }
    mem_free(p->object);
    mem_free(p->stack);
    mem_free(p->mark);
    mem_free(p->memo);
    mem_free(p);
}

static int broken(const struct pickle *p, const char *why)
{
    return fail(ERR_DATA, "'%s': pickle, offset %zu: %s", p->what, p->at, why);
}

/* ---- growing tables -------------------------------------------------------------------------- */

static int push_index(struct pickle *p, int32_t index)
{
    if (p->depth >= PICKLE_MOST_ITEMS)
        return broken(p, "the stack is too deep");
    TRY(mem_grow(&p->stack, (size_t)p->depth + 1, &p->stack_cap, sizeof *p->stack));
    p->stack[p->depth++] = index;
    return 0;
}

/* A new object on the stack; *out stays valid until the next one. */
static int push(struct pickle *p, enum kind kind, struct object **out)
{
    if (p->n >= PICKLE_MOST_ITEMS)
        return broken(p, "too many objects");
    TRY(mem_grow(&p->object, (size_t)p->n + 1, &p->cap, sizeof *p->object));
    p->object[p->n] = (struct object){.kind = kind, .bytes = -1};
    if (out != NULL)
        *out = &p->object[p->n];
    return push_index(p, p->n++);
}

static int push_integer(struct pickle *p, int64_t v)
{
    struct object *o = NULL;

    TRY(push(p, INTEGER, &o));
    o->integer = v;
    return 0;
}

/* Objects above the last mark, or the whole stack. */
static int32_t floor_of(const struct pickle *p)
{
    return p->marks > 0 ? p->mark[p->marks - 1] : 0;
}

static int pop(struct pickle *p, int32_t *index)
{
    if (p->depth <= floor_of(p))
        return broken(p, "the stack is empty");
    *index = p->stack[--p->depth];
    return 0;
}

static int set_mark(struct pickle *p)
{
    if (p->marks >= PICKLE_MOST_ITEMS)
        return broken(p, "too many marks");
    TRY(mem_grow(&p->mark, (size_t)p->marks + 1, &p->mark_cap, sizeof *p->mark));
    p->mark[p->marks++] = p->depth;
    return 0;
}

/* Depth of the last mark, which is taken away. */
static int take_mark(struct pickle *p, int32_t *depth)
{
    if (p->marks == 0)
        return broken(p, "no mark");
    *depth = p->mark[--p->marks];
    return 0;
}

/* Appends stack[from ...] to the items of an object and takes them off the stack. */
static int move_items(struct pickle *p, int32_t object, int32_t from)
{
    struct object *o = &p->object[object];
    const int32_t count = p->depth - from;

    if (o->n > PICKLE_MOST_ITEMS - count)
        return broken(p, "too many items");
    TRY(mem_grow(&o->item, (size_t)(o->n + count), &o->cap, sizeof *o->item));
    if (count > 0)
        memcpy(o->item + o->n, p->stack + from, (size_t)count * sizeof *o->item);
    o->n += count;
    p->depth = from;
    return 0;
}

/* ---- bytes of the file ----------------------------------------------------------------------- */

static int take(struct pickle *p, size_t n, const uint8_t **v)
{
    if (n > p->len - p->at)
        return broken(p, "the file ends too early");
    *v = p->data + p->at;
    p->at += n;
    return 0;
}

static int take_number(struct pickle *p, int bytes, uint64_t *v)
{
    const uint8_t *b = NULL;

    TRY(take(p, (size_t)bytes, &b));
    *v = buf_number(b, (size_t)bytes);
    return 0;
}

static int take_line(struct pickle *p, const char **text, size_t *len)
{
    const uint8_t *end = memchr(p->data + p->at, '\n', p->len - p->at);

    if (end == NULL)
        return broken(p, "a name without end");
    *text = (const char *)p->data + p->at;
    *len = (size_t)(end - (p->data + p->at));
    p->at += *len + 1;
    return 0;
}

static int push_text(struct pickle *p, int size_bytes)
{
    const size_t start = p->at - 1;
    struct object *o = NULL;
    const uint8_t *v = NULL;
    uint64_t len = 0;

    TRY(take_number(p, size_bytes, &len));
    if (len > p->len - p->at) {
        p->at = start;
        return broken(p, "a string that is longer than the file");
    }
    TRY(take(p, (size_t)len, &v));
    TRY(push(p, TEXT, &o));
    o->at = (size_t)(v - p->data);
    o->len = (size_t)len;
    return 0;
}

static const uint8_t *text_of(const struct pickle *p, const struct object *o)
{
    return o->own != NULL ? o->own : p->data + o->at;
}

static bool text_is(const struct pickle *p, const struct object *o, const char *want)
{
    return o->kind == TEXT && o->len == strlen(want) && memcmp(text_of(p, o), want, o->len) == 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool same(const char *text, size_t len, const char *want)
{
    return len == strlen(want) && memcmp(text, want, len) == 0;
}

static int push_name(struct pickle *p, const char *module, size_t m, const char *name, size_t n)
{
    static const struct {
        const char *module, *name;
        enum kind kind;
    } known[] = {{"numpy.core.multiarray", "_reconstruct", NAME_RECONSTRUCT},
                 {"numpy._core.multiarray", "_reconstruct", NAME_RECONSTRUCT},
                 {"numpy", "ndarray", NAME_NDARRAY},
                 {"numpy", "dtype", NAME_DTYPE},
                 {"_codecs", "encode", NAME_ENCODE}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (same(module, m, known[i].module) && same(name, n, known[i].name))
            return push(p, known[i].kind, NULL);
    return fail(ERR_DATA, "'%s': pickle, offset %zu: the name '%.*s.%.*s' is not allowed", p->what,
                p->at, (int)(m < 40 ? m : 40), module, (int)(n < 40 ? n : 40), name);
}

static int global(struct pickle *p)
{
    const char *module = NULL, *name = NULL;
    size_t m = 0, n = 0;

    TRY(take_line(p, &module, &m));
    TRY(take_line(p, &name, &n));
    return push_name(p, module, m, name, n);
}

static int stack_global(struct pickle *p)
{
    int32_t name = 0, module = 0;

    TRY(pop(p, &name));
    TRY(pop(p, &module));
    const struct object *a = &p->object[module], *b = &p->object[name];
    if (a->kind != TEXT || b->kind != TEXT)
        return broken(p, "a name that is no string");
    return push_name(p, (const char *)text_of(p, a), a->len, (const char *)text_of(p, b), b->len);
}

/* ---- REDUCE and BUILD ------------------------------------------------------------------------ */

/* Latin-1 text, stored as UTF-8, back to the bytes it stands for. */
static int decode_latin1(struct pickle *p, const struct object *text)
{
    const uint8_t *in = text_of(p, text);
    const size_t len = text->len;
    if (len > p->len - p->decoded)
        return broken(p, "more text is decoded than the file holds");
    p->decoded += len;
    OWNED uint8_t *out = mem_array(len > 0 ? len : 1, 1);
    struct object *o = NULL;
    size_t n = 0;

    if (out == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < len; i++) {
        if (in[i] < 0x80) {
            out[n++] = in[i];
        } else if ((in[i] & 0xfe) == 0xc2 && i + 1 < len && (in[i + 1] & 0xc0) == 0x80) {
            out[n++] = (uint8_t)((in[i] & 3) << 6 | (in[i + 1] & 0x3f));
            i++;
        } else {
            return broken(p, "text that is not Latin-1");
        }
    }
    TRY(push(p, TEXT, &o));
    o->own = mem_hand_on(&out);
    o->len = n;
    return 0;
}

static int reduce(struct pickle *p)
{
    struct object *o = NULL;
    int32_t arguments = 0, callee = 0;

    TRY(pop(p, &arguments));
    TRY(pop(p, &callee));
    const struct object *a = &p->object[arguments];
    const struct object *first = a->n > 0 ? &p->object[a->item[0]] : NULL;
    if (a->kind != TUPLE || first == NULL)
        return broken(p, "a call without arguments");
    switch (p->object[callee].kind) {
    case NAME_RECONSTRUCT:
        if (first->kind != NAME_NDARRAY)
            return broken(p, "only numpy.ndarray is rebuilt");
        return push(p, ARRAY, NULL);
    case NAME_DTYPE: {
        const bool is_u1 = text_is(p, first, "u1") || text_is(p, first, "|u1");
        TRY(push(p, TYPE, &o));
        o->integer = is_u1;
        return 0;
    }
    case NAME_ENCODE:
        if (first->kind != TEXT)
            return broken(p, "encode of something that is no string");
        return decode_latin1(p, first);
    default:
        return broken(p, "a call that is not allowed");
    }
}

/* state = (version, shape, dtype, is_fortran, bytes) */
static int build_array(struct pickle *p, int32_t array, const struct object *state)
{
    struct object *o = &p->object[array];

    if (state->kind != TUPLE || state->n != 5)
        return broken(p, "an array whose state is no tuple of five");
    const struct object *shape = &p->object[state->item[1]], *type = &p->object[state->item[2]];
    const struct object *order = &p->object[state->item[3]], *bytes = &p->object[state->item[4]];
    if (type->kind != TYPE || type->integer != 1)
        return broken(p, "an array that is not of type u1");
    if (order->kind != INTEGER || order->integer != 0)
        return broken(p, "an array in Fortran order");
    if (shape->kind != TUPLE || shape->n != 2 || bytes->kind != TEXT)
        return broken(p, "an array that is not of rank 2");
    for (int i = 0; i < 2; i++) {
        const struct object *d = &p->object[shape->item[i]];
        if (d->kind != INTEGER || d->integer < 1 || d->integer > INT32_MAX)
            return broken(p, "an array with an odd shape");
        o->dim[i] = d->integer;
    }
    if ((uint64_t)o->dim[0] * (uint64_t)o->dim[1] != bytes->len)
        return broken(p, "an array whose bytes do not fill its shape");
    o->bytes = state->item[4];
    return 0;
}

static int build(struct pickle *p)
{
    int32_t state = 0;

    TRY(pop(p, &state));
    if (p->depth <= floor_of(p))
        return broken(p, "the stack is empty");
    const int32_t object = p->stack[p->depth - 1];
    if (p->object[object].kind == TYPE)
        return 0; /* byte order and alignment say nothing about u1 */
    if (p->object[object].kind != ARRAY)
        return broken(p, "a state for something that has none");
    return build_array(p, object, &p->object[state]);
}

/* ---- containers ------------------------------------------------------------------------------ */

static int tuple(struct pickle *p, int32_t count)
{
    const int32_t from = p->depth - count;

    if (from < floor_of(p))
        return broken(p, "the stack is empty");
    TRY(push(p, TUPLE, NULL));
    const int32_t made = p->stack[--p->depth];
    TRY(move_items(p, made, from));
    return push_index(p, made);
}

/* The objects above the mark become a tuple, list or dict. */
static int gather(struct pickle *p, enum kind kind)
{
    int32_t from = 0;

    TRY(take_mark(p, &from));
    TRY(push(p, kind, NULL));
    const int32_t made = p->stack[--p->depth];
    if (kind == DICT && (p->depth - from) % 2 != 0)
        return broken(p, "a dict with a key too many");
    TRY(move_items(p, made, from));
    return push_index(p, made);
}

/* stack[from ...] goes into the container below it. */
static int put_into(struct pickle *p, int32_t from, enum kind kind)
{
    if (from < 1 || from > p->depth || from - 1 < floor_of(p))
        return broken(p, "no container to put items into");
    const int32_t container = p->stack[from - 1];
    if (p->object[container].kind != kind || (kind == DICT && (p->depth - from) % 2 != 0))
        return broken(p, "items for something that cannot hold them");
    return move_items(p, container, from);
}

static int put_marked(struct pickle *p, enum kind kind)
{
    int32_t from = 0;

    TRY(take_mark(p, &from));
    return put_into(p, from, kind);
}

/* ---- memo ------------------------------------------------------------------------------------ */

static int memo_put(struct pickle *p, uint64_t index)
{
    if (p->depth <= floor_of(p))
        return broken(p, "the stack is empty");
    if (index >= MOST_MEMO)
        return broken(p, "a memo index that is too large");
    const size_t before = p->memos;

    TRY(mem_grow(&p->memo, (size_t)index + 1, &p->memos, sizeof *p->memo));
    for (size_t i = before; i < p->memos; i++)
        p->memo[i] = -1;
    p->memo[index] = p->stack[p->depth - 1];
    return 0;
}

static int memo_get(struct pickle *p, uint64_t index)
{
    if (index >= p->memos || p->memo[index] < 0)
        return broken(p, "a memo that was never set");
    return push_index(p, p->memo[index]);
}

/* ---- the machine ----------------------------------------------------------------------------- */

static int numbered(struct pickle *p, int bytes, int (*then)(struct pickle *, uint64_t))
{
    uint64_t v = 0;

    TRY(take_number(p, bytes, &v));
    return then(p, v);
}

static int push_unsigned(struct pickle *p, uint64_t v)
{
    return push_integer(p, (int64_t)v);
}

static int push_signed32(struct pickle *p, uint64_t v)
{
    return push_integer(p, (int32_t)(uint32_t)v);
}

static int skip(struct pickle *p, uint64_t v)
{
    (void)p;
    (void)v;
    return 0;
}

static int memoize(struct pickle *p, int32_t *next)
{
    return memo_put(p, (uint64_t)(*next)++);
}

/* One opcode after p->at; *next: the counter of MEMOIZE. */
static int step(struct pickle *p, uint8_t op, int32_t *next)
{
    switch (op) {
    case 0x80: /* PROTO */
        return numbered(p, 1, skip);
    case 0x95: /* FRAME */
        return numbered(p, 8, skip);
    case '}':
        return push(p, DICT, NULL);
    case ']':
        return push(p, LIST, NULL);
    case ')':
        return push(p, TUPLE, NULL);
    case '(':
        return set_mark(p);
    case 't':
        return gather(p, TUPLE);
    case 'l':
        return gather(p, LIST);
    case 'd':
        return gather(p, DICT);
    case 0x85:
    case 0x86:
    case 0x87:
        return tuple(p, op - 0x84);
    case 'a':
        return put_into(p, p->depth - 1, LIST);
    case 'e':
        return put_marked(p, LIST);
    case 's':
        return put_into(p, p->depth - 2, DICT);
    case 'u':
        return put_marked(p, DICT);
    case 'J':
        return numbered(p, 4, push_signed32);
    case 'K':
        return numbered(p, 1, push_unsigned);
    case 'M':
        return numbered(p, 2, push_unsigned);
    case 'N':
        return push(p, NONE, NULL);
    case 0x88:
        return push_integer(p, 1);
    case 0x89:
        return push_integer(p, 0);
    case 'U': /* SHORT_BINSTRING */
    case 'C': /* SHORT_BINBYTES */
    case 0x8c:
        return push_text(p, 1);
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
    case 'X':
        return push_text(p, 4);
    case 'q':
        return numbered(p, 1, memo_put);
    case 'r':
        return numbered(p, 4, memo_put);
    case 0x94:
        return memoize(p, next);
    case 'h':
        return numbered(p, 1, memo_get);
    case 'j':
        return numbered(p, 4, memo_get);
    case 'c':
        return global(p);
    case 0x93:
        return stack_global(p);
    case 'R':
        return reduce(p);
    case 'b':
        return build(p);
    default:
        p->at--;
        return fail(ERR_DATA, "'%s': pickle, offset %zu: opcode 0x%02x is not allowed", p->what,
                    p->at, op);
    }
}

static int run(struct pickle *p)
{
    int32_t next = 0;
    const uint8_t *op = NULL;

    for (;;) {
        TRY(take(p, 1, &op));
        if (*op == '.')
            break;
        TRY(step(p, *op, &next));
    }
    TRY(pop(p, &p->root));
    if (p->object[p->root].kind != DICT)
        return broken(p, "the whole is not a dict");
    return 0;
}

int pickle_read(const uint8_t *data, size_t len, const char *what, struct pickle **out)
{
    SCOPED(pickle_free_at) struct pickle *p = mem_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    *p = (struct pickle){.data = data, .len = len, .what = what};
    TRY(run(p));
    *out = mem_hand_on(&p);
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static struct object *find(const struct pickle *p, const char *key)
{
    const struct object *root = &p->object[p->root];

    for (int32_t i = 0; i + 1 < root->n; i += 2)
        if (text_is(p, &p->object[root->item[i]], key))
            return &p->object[root->item[i + 1]];
    return NULL;
}

static int missing(const struct pickle *p, const char *key, const struct object *o,
                   const char *want)
{
    return fail(ERR_DATA, "'%s': pickle: '%s' is %s, not %s", p->what, key,
                o != NULL ? kind_word[o->kind] : "missing", want);
}

int pickle_integers(const struct pickle *p, const char *key, const int64_t **v, int64_t *n)
{
    struct object *o = find(p, key);

    if (o == NULL || o->kind != LIST)
        return missing(p, key, o, "a list of integers");
    if (o->plain == NULL && (o->plain = mem_array((size_t)o->n + 1, sizeof *o->plain)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < o->n; i++) {
        const struct object *item = &p->object[o->item[i]];
        if (item->kind != INTEGER)
            return missing(p, key, item, "a list of integers only");
        o->plain[i] = item->integer;
    }
    *v = o->plain;
    *n = o->n;
    return 0;
}

int pickle_bytes(const struct pickle *p, const char *key, const uint8_t **v, int64_t dim[2])
{
    const struct object *o = find(p, key);

    if (o == NULL || o->kind != ARRAY || o->bytes < 0)
        return missing(p, key, o, "an array");
    *v = text_of(p, &p->object[o->bytes]);
    dim[0] = o->dim[0];
    dim[1] = o->dim[1];
    return 0;
}
