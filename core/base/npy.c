/*
 * numpy's .npy format (NEP 1 and numpy.lib.format):
 *
 *     "\x93NUMPY" | major, minor | header length: u16 (version 1) or u32 (2, 3) | header | data
 *
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      spaces, "\n"
 *
 * The header is a Python literal; the three keys come in any order, once each, and nothing else is
 * understood. The data must fill the rest of the file exactly. The writer pads the header so that
 * the data start at a multiple of 64, with numpy's own spelling: its files are byte for byte those
 * of numpy.save.
 */
#include "core/base/npy.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/mem.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define PREFIX 10 /* magic, version, u16 */
#define ALIGN 64
#define MAX_HEADER 65535
#define HEADER_TEXT 384 /* 8 dims of 19 digits, 85 bytes of padding and some */
#define GROWTH_AXIS 21  /* digits numpy leaves room for, so that a file can grow in place */

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [NPY_U8] = {"|u1", 1},  [NPY_I32] = {"<i4", 4}, [NPY_I64] = {"<i8", 8},
    [NPY_F32] = {"<f4", 4}, [NPY_F64] = {"<f8", 8},
};

/* Types of files: kind and size as in numpy's descr, and what they are read as. */
static const struct {
    char kind; /* 'b' truth value, 'i' and 'u' integers, 'f' floats */
    size_t size;
    enum npy_type as;
} stored[] = {
    {'b', 1, NPY_U8},  {'u', 1, NPY_U8},  {'i', 1, NPY_I32}, {'i', 2, NPY_I32},
    {'u', 2, NPY_I32}, {'i', 4, NPY_I32}, {'u', 4, NPY_I64}, {'i', 8, NPY_I64},
    {'u', 8, NPY_I64}, {'f', 2, NPY_F32}, {'f', 4, NPY_F32}, {'f', 8, NPY_F64},
};
#define N_STORED (sizeof stored / sizeof stored[0])

struct layout { /* of the elements in the file */
    char descr[8];
    char kind;
    size_t size;
    bool swapped; /* big-endian */
    bool fortran; /* the first index runs fastest */
};

const char *npy_type_name(enum npy_type t)
{
    return types[t].name;
}

size_t npy_type_size(enum npy_type t)
{
    return types[t].size;
}

struct text { /* the header being read */
    const char *at, *end;
    const char *what;
};

static void skip_spaces(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t'))
        t->at++;
}

/* Takes `c`, with spaces in front, if it comes next. */
static bool take(struct text *t, char c)
{
    skip_spaces(t);
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool take_word(struct text *t, const char *word)
{
    size_t n = strlen(word);

    skip_spaces(t);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n) != 0)
        return false;
    t->at += n;
    return true;
}

static int fail_header(const struct text *t, const char *problem)
{
    return fail(ERR_FORMAT, "%s: .npy header: %s", t->what, problem);
}

/* 'text' or "text" without escapes, at most size - 1 bytes. */
static int read_string(struct text *t, char *out, size_t size)
{
    char quote = take(t, '\'') ? '\'' : '"';
    size_t n = 0;

    if (quote == '"' && !take(t, '"'))
        return fail_header(t, "a text is missing");
    while (t->at < t->end && *t->at != quote && n + 1 < size)
        if ((unsigned char)*t->at < 0x20 || (unsigned char)*t->at >= 0x7f || *t->at == '\\')
            return fail_header(t, "a text holds something odd");
        else
            out[n++] = *t->at++;
    out[n] = '\0';
    return t->at < t->end && *t->at++ == quote ? 0 : fail_header(t, "a text is too long");
}

/* "<f4", ">i8", "|u1", "=f8". */
static int read_type(struct text *t, enum npy_type *out, struct layout *l)
{
    char descr[32];

    skip_spaces(t);
    if (t->at < t->end && *t->at == '[')
        return fail(ERR_UNSUPPORTED, "%s: structured .npy arrays are not supported", t->what);
    TRY(read_string(t, descr, sizeof descr));
    for (size_t i = 0; i < N_STORED; i++) {
        const char size[] = {(char)('0' + stored[i].size), '\0'};
        if (descr[0] == '\0' || strchr("<>|=", descr[0]) == NULL || descr[1] != stored[i].kind ||
            strcmp(descr + 2, size) != 0)
            continue;
        *out = stored[i].as;
        strcpy(l->descr, descr);
        l->kind = stored[i].kind;
        l->size = stored[i].size;
        l->swapped = descr[0] == '>';
        return 0;
    }
    return fail(
        ERR_UNSUPPORTED,
        "%s: .npy type %s is not supported; integers, truth values and floats of at most 64 bits are",
        t->what, descr);
}

/* A decimal number that fits int64. */
static int read_dim(struct text *t, int64_t *out)
{
    int64_t v = 0;
    size_t digits = 0;

    skip_spaces(t);
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++, digits++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *t->at - '0', &v))
            return fail_header(t, "a dimension is too large");
    *out = v;
    return digits > 0 ? 0 : fail_header(t, "a dimension is no number");
}

/* () or (3,) or (3, 4) or (3, 4, ). One number needs its comma, as in Python. */
static int read_shape(struct text *t, struct npy *a)
{
    bool comma = true;

    if (!take(t, '('))
        return fail_header(t, "shape is no tuple");
    a->rank = 0;
    while (!take(t, ')')) {
        if (!comma)
            return fail_header(t, "shape lacks a comma");
        if (a->rank == NPY_MAX_RANK)
            return fail(ERR_LIMIT, "%s: .npy of more than %d dimensions", t->what, NPY_MAX_RANK);
        TRY(read_dim(t, &a->dim[a->rank]));
        a->rank++;
        comma = take(t, ',');
    }
    return a->rank == 1 && !comma ? fail_header(t, "shape is a number, no tuple") : 0;
}

static int read_order(struct text *t, bool *fortran)
{
    *fortran = take_word(t, "True");
    return *fortran || take_word(t, "False") ? 0
                                             : fail_header(t, "fortran_order is no truth value");
}

/* One key and its value; `seen` has a bit per key. */
static int read_item(struct text *t, struct npy *a, struct layout *l, unsigned *seen)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[16];
    unsigned k = 0;

    TRY(read_string(t, key, sizeof key));
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3)
        return fail_header(t, "an unknown key");
    if ((*seen >> k & 1) != 0)
        return fail_header(t, "a key comes twice");
    *seen |= 1u << k;
    if (!take(t, ':'))
        return fail_header(t, "a colon is missing");
    if (k == 0)
        return read_type(t, &a->type, l);
    return k == 1 ? read_order(t, &l->fortran) : read_shape(t, a);
}

static int read_dict(struct text *t, struct npy *a, struct layout *l)
{
    unsigned seen = 0;
    bool comma = true;

    if (!take(t, '{'))
        return fail_header(t, "no dictionary");
    while (!take(t, '}')) {
        if (!comma)
            return fail_header(t, "a comma is missing");
        TRY(read_item(t, a, l, &seen));
        comma = take(t, ',');
    }
    skip_spaces(t);
    if (t->at != t->end)
        return fail_header(t, "text after the dictionary");
    return seen == 7 ? 0 : fail_header(t, "descr, fortran_order or shape is missing");
}

/* Version and length; the text of the header in *t. */
static int read_prefix(struct buf_reader *r, struct text *t)
{
    const uint8_t *magic = NULL, *text = NULL;
    uint8_t major = 0, minor = 0;
    uint16_t n16 = 0;
    uint32_t n = 0;

    TRY(buf_get_view(r, MAGIC_BYTES, &magic));
    if (memcmp(magic, MAGIC, MAGIC_BYTES) != 0)
        return fail(ERR_FORMAT, "%s: not a .npy file", r->what);
    TRY(buf_get_u8(r, &major));
    TRY(buf_get_u8(r, &minor));
    if (major < 1 || major > 3 || minor != 0)
        return fail(ERR_UNSUPPORTED, "%s: .npy version %d.%d", r->what, major, minor);
    if (major == 1) {
        TRY(buf_get_u16(r, &n16));
        n = n16;
    } else {
        TRY(buf_get_u32(r, &n));
    }
    if (n > MAX_HEADER)
        return fail(ERR_LIMIT, "%s: .npy header of %" PRIu32 " bytes, at most %d", r->what, n,
                    MAX_HEADER);
    TRY(buf_get_view(r, n, &text));
    *t = (struct text){(const char *)text, (const char *)text + n, r->what};
    return 0;
}

/* Fills count; the product must be exactly the `left` bytes after the header. */
static int check_size(const char *what, size_t left, const struct layout *l, struct npy *a)
{
    int64_t n = 1;
    size_t bytes;

    for (int32_t i = 0; i < a->rank; i++)
        if (__builtin_mul_overflow(n, a->dim[i], &n))
            return fail(ERR_LIMIT, "%s: .npy shape has too many elements", what);
    a->count = (size_t)n;
    if (__builtin_mul_overflow(a->count, l->size, &bytes) || bytes != left)
        return fail(ERR_FORMAT, "%s: %zu elements of %s, but %zu bytes of data", what, a->count,
                    l->descr, left);
    return 0;
}

/* ---- elements that need work ----------------------------------------------------------------- */

/* One element of the file, its bits with the lowest byte first. */
static uint64_t element_bits(const uint8_t *p, const struct layout *l)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < l->size; i++)
        bits |= (uint64_t)p[l->swapped ? l->size - 1 - i : i] << (8 * i);
    return bits;
}

static int64_t signed_value(uint64_t bits, const struct layout *l)
{
    const unsigned unused = 64 - 8 * (unsigned)l->size;

    if (l->kind != 'i')
        return (int64_t)bits;
    return (int64_t)(bits << unused) >> unused;
}

static int put_element(const struct layout *l, const uint8_t *from, enum npy_type type, void *to,
                       size_t i, const char *what)
{
    const uint64_t bits = element_bits(from, l);
    const uint32_t low = (uint32_t)bits;

    if (l->kind == 'u' && bits > INT64_MAX)
        return fail(ERR_LIMIT, "%s: the value %" PRIu64 " is beyond int64", what, bits);
    if (type == NPY_U8)
        ((uint8_t *)to)[i] = (uint8_t)bits;
    else if (type == NPY_I32)
        ((int32_t *)to)[i] = (int32_t)signed_value(bits, l);
    else if (type == NPY_I64)
        ((int64_t *)to)[i] = signed_value(bits, l);
    else if (l->size == 2)
        ((float *)to)[i] = buf_half((uint16_t)bits);
    else if (type == NPY_F32)
        memcpy((float *)to + i, &low, sizeof low);
    else
        memcpy((double *)to + i, &bits, sizeof bits);
    return 0;
}

/* Where element i of C order stands in the file. */
static size_t place_of(const struct npy *a, const struct layout *l, size_t i)
{
    size_t at = 0, step = a->count;

    if (!l->fortran)
        return i;
    for (int32_t d = a->rank - 1; d >= 0; d--) { /* the last index of C order is the slowest here */
        const size_t n = (size_t)a->dim[d];
        step /= n;
        at += i % n * step;
        i /= n;
    }
    return at;
}

static int convert(const uint8_t *data, const struct layout *l, const char *what, struct npy *a)
{
    OWNED void *copy = mem_aligned(a->count, types[a->type].size);

    if (copy == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < a->count; i++)
        TRY(put_element(l, data + place_of(a, l, i) * l->size, a->type, copy, i, what));
    a->data = a->copy = mem_hand_on(&copy);
    return 0;
}

/* data: the elements of the array, `bytes` of them, in the layout of the file. Takes them as they are or as
 * a copy. */
static int take_elements(const uint8_t *data, size_t bytes, const struct layout *l,
                         const char *what, struct npy *a)
{
    const bool as_it_is = !l->fortran && (!l->swapped || l->size == 1) &&
                          l->size == types[a->type].size && !(l->kind == 'u' && l->size == 8);

    a->data = data;
    if (!as_it_is)
        return convert(data, l, what, a);
    if ((uintptr_t)data % l->size == 0)
        return 0;
    if ((a->copy = mem_aligned(a->count, l->size)) == NULL)
        return ERR_NOMEM;
    a->data = memcpy(a->copy, data, bytes);
    return 0;
}

int npy_from_bytes(const void *bytes, size_t len, const char *what, struct npy *out)
{
    struct buf_reader r = buf_reader_on(bytes, len, what);
    struct layout l = {0};
    struct npy a = {0};
    struct text t = {0};

    TRY(read_prefix(&r, &t));
    TRY(read_dict(&t, &a, &l));
    TRY(check_size(what, buf_left(&r), &l, &a));
    l.fortran = l.fortran && a.rank > 1;
    TRY(take_elements(r.data + r.at, buf_left(&r), &l, what, &a));
    *out = a;
    return 0;
}

int npy_open(const char *path, struct npy *out)
{
    struct file_map map;

    TRY(file_map_open(path, &map));
    int rc = npy_from_bytes(map.data, map.len, path, out);
    if (rc < 0)
        file_map_close(&map);
    else
        out->map = map;
    return rc;
}

void npy_release(struct npy *a)
{
    mem_free(a->copy);
    file_map_close(&a->map);
    *a = (struct npy){0};
}

/* ---- rows of a file -------------------------------------------------------------------------- */

struct npy_rows {
    struct file_at file;
    struct layout layout;
    struct npy shape;
    uint64_t start; /* of the data in the file */
    size_t row;     /* bytes of one */
};

/* The header alone; the rest of the file need not be there. */
static int read_header(struct npy_rows *r, uint8_t *head, size_t len)
{
    struct buf_reader b = buf_reader_on(head, len, r->file.path);
    struct npy *a = &r->shape;
    struct text t = {0};

    TRY(file_at_read(&r->file, 0, head, len));
    TRY(read_prefix(&b, &t));
    TRY(read_dict(&t, a, &r->layout));
    TRY(check_size(r->file.path, (size_t)(r->file.len - b.at), &r->layout, a));
    if (a->rank == 0)
        return fail(ERR_UNSUPPORTED, "%s: one number, no rows", r->file.path);
    if (r->layout.fortran && a->rank > 1)
        return fail(ERR_UNSUPPORTED,
                    "%s: Fortran order: its rows lie apart; save numpy.ascontiguousarray(x)",
                    r->file.path);
    r->layout.fortran = false;
    r->start = b.at;
    r->row = a->dim[0] > 0 ? a->count / (size_t)a->dim[0] * r->layout.size : 0;
    return 0;
}

int npy_rows_open(const char *path, struct npy_rows **out)
{
    const size_t most = PREFIX + 2 + MAX_HEADER;
    SCOPED(npy_rows_close_at) struct npy_rows *r = mem_array(1, sizeof *r);

    if (r == NULL)
        return ERR_NOMEM;
    TRY(file_at_open(path, &r->file));
    const size_t len = r->file.len < most ? (size_t)r->file.len : most;
    OWNED uint8_t *head = mem_array(len, 1);
    if (head == NULL)
        return ERR_NOMEM;
    TRY(read_header(r, head, len));
    *out = mem_hand_on(&r);
    return 0;
}

const struct npy *npy_rows_shape(const struct npy_rows *r)
{
    return &r->shape;
}

int npy_rows_read(const struct npy_rows *r, int64_t first, int64_t n, struct npy *out)
{
    const size_t bytes = (size_t)n * r->row;
    OWNED uint8_t *data = mem_aligned(bytes, 1);
    struct npy a = r->shape;

    assert(first >= 0 && n >= 1 && first + n <= a.dim[0]);
    if (data == NULL)
        return ERR_NOMEM;
    a.dim[0] = n;
    a.count = bytes / r->layout.size;
    TRY(file_at_read(&r->file, r->start + (uint64_t)first * r->row, data, bytes));
    TRY(take_elements(data, bytes, &r->layout, r->file.path, &a));
    if (a.copy == NULL)
        a.copy = mem_hand_on(&data);
    *out = a;
    return 0;
}

void npy_rows_close(struct npy_rows *r)
{
    if (r == NULL)
        return;
    file_at_close(&r->file);
    mem_free(r);
}

double npy_double(const struct npy *a, size_t i)
{
    assert(i < a->count);
    switch (a->type) {
    case NPY_U8:
        return ((const uint8_t *)a->data)[i];
    case NPY_I32:
        return ((const int32_t *)a->data)[i];
    case NPY_I64:
        return (double)((const int64_t *)a->data)[i];
    case NPY_F32:
        return (double)((const float *)a->data)[i];
    default:
        return ((const double *)a->data)[i];
    }
}

int npy_int(const struct npy *a, size_t i, int64_t *v)
{
    if (a->type == NPY_I64) {
        *v = ((const int64_t *)a->data)[i];
        return 0;
    }
    double d = npy_double(a, i);
    if (!(d >= -0x1p63 && d < 0x1p63) || d != floor(d))
        return fail(ERR_DATA, "element %zu is %g, no whole number", i, d);
    *v = (int64_t)d;
    return 0;
}

/* numpy's header with its padding; returns the number of bytes, a multiple of 64. */
static size_t write_prefix(char text[HEADER_TEXT], enum npy_type type, int32_t rank,
                           const int64_t *dim)
{
    size_t at = PREFIX;

    memset(text, ' ', HEADER_TEXT);
    at += (size_t)snprintf(text + at, HEADER_TEXT - at,
                           "{'descr': '%s', 'fortran_order': False, 'shape': (", types[type].name);
    for (int32_t i = 0; i < rank; i++)
        at += (size_t)snprintf(text + at, HEADER_TEXT - at, i > 0 ? ", %" PRId64 : "%" PRId64,
                               dim[i]);
    at += (size_t)snprintf(text + at, HEADER_TEXT - at, rank == 1 ? ",), }" : "), }");
    assert(at < HEADER_TEXT - ALIGN - GROWTH_AXIS);
    text[at] = ' '; /* over the terminating zero */
    if (rank > 0) { /* numpy pads the first axis to 21 digits after the dictionary */
        char digits[24];
        at += (size_t)(GROWTH_AXIS - snprintf(digits, sizeof digits, "%" PRId64, dim[0]));
    }
    size_t total = (at + 1) / ALIGN * ALIGN + ALIGN; /* 1 ... 64 bytes of padding, as numpy */
    text[total - 1] = '\n';
    memcpy(text, MAGIC "\x01\x00", MAGIC_BYTES + 2);
    text[8] = (char)((total - PREFIX) & 0xff);
    text[9] = (char)((total - PREFIX) >> 8);
    return total;
}

int npy_write(const char *path, enum npy_type type, int32_t rank, const int64_t *dim,
              const void *data)
{
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;
    char text[HEADER_TEXT];
    size_t n = types[type].size;

    if (rank < 0 || rank > NPY_MAX_RANK)
        return fail(ERR_ARG, "%s: rank %" PRId32 ", at most %d", path, rank, NPY_MAX_RANK);
    for (int32_t i = 0; i < rank; i++)
        if (dim[i] < 0 || __builtin_mul_overflow(n, (size_t)dim[i], &n))
            return fail(ERR_ARG, "%s: bad or too large shape", path);
    TRY(file_writer_open(path, FILE_PUBLIC, &w));
    TRY(file_writer_append(w, text, write_prefix(text, type, rank, dim)));
    TRY(file_writer_append(w, data, n));
    return file_writer_commit(&w);
}
