/*
 * The safetensors format (github.com/huggingface/safetensors):
 *
 *     u64 n   n bytes of JSON, padded with spaces   data
 *
 *     {"__metadata__": {"key": "text", ...},
 *      "name": {"dtype": "F32", "shape": [64,3,3,3], "data_offsets": [begin, end]}, ...}
 *
 * Offsets count from the start of the data. The ranges must cover it exactly: no hole, no overlap,
 * nothing after. The writer lays the tensors out by element size, largest first, then by name,
 * so every tensor is aligned to its elements; the reader copies those of other writers that are not.
 *
 * Limits: jansson needs up to 50 bytes of memory per value, so the number of commas is bounded
 * before it sees the header (MAX_COMMAS, about 80 000 tensors).
 */
#include "core/base/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/json.h"
#include "core/base/mem.h"

#define MAX_COMMAS (1 << 20)
#define PREFIX 8 /* bytes of the header's length */
#define META "__metadata__"
#define DIMS_TEXT (ST_MAX_RANK * 21 + 3)

static const struct {
    const char *name;
    size_t size;
} dtypes[ST_DTYPE_COUNT] = {
#define X(name, bytes) [ST_##name] = {#name, bytes},
    ST_DTYPES(X)
#undef X
};

struct pair {
    const char *key, *value;
};

const char *st_dtype_name(enum st_dtype t)
{
    return dtypes[t].name;
}

/* "[64,3,3,3]" */
static const char *dims_text(int32_t rank, const int64_t *dim, char text[DIMS_TEXT])
{
    size_t at = 0;

    text[at++] = '[';
    for (int32_t i = 0; i < rank; i++)
        at += (size_t)snprintf(text + at, DIMS_TEXT - at, "%s%" PRId64, i > 0 ? "," : "", dim[i]);
    text[at++] = ']';
    text[at] = '\0';
    return text;
}

/* Fills count and bytes from dtype, rank and dim; false for a negative dim or an overflow. */
static bool measure(struct st_tensor *t)
{
    int64_t n = 1;

    for (int32_t i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(n, t->dim[i], &n))
            return false;
    t->count = (size_t)n;
    return !__builtin_mul_overflow(t->count, dtypes[t->dtype].size, &t->bytes);
}

/* Names reach terminals and file names. */
static bool name_ok(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return name[0] != '\0' && strcmp(name, META) != 0;
}

static int by_name(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static int by_key(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* ---- reader ---------------------------------------------------------------------------------- */

struct st_reader {
    struct arena *arena;
    struct file_map map; /* zeroed where the bytes are borrowed */
    const char *what;
    const uint8_t *data; /* after the header */
    size_t data_len;
    struct st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    struct pair *meta;
    size_t n_meta;
};

static int read_dtype(const struct st_reader *r, const char *name, const json_t *v,
                      enum st_dtype *out)
{
    const char *text = json_string_value(v);

    for (int t = 0; text != NULL && t < ST_DTYPE_COUNT; t++)
        if (strcmp(text, dtypes[t].name) == 0) {
            *out = (enum st_dtype)t;
            return 0;
        }
    if (text == NULL)
        return fail(ERR_FORMAT, "%s: tensor '%s': no dtype", r->what, name);
    return fail(ERR_UNSUPPORTED, "%s: tensor '%s': dtype %.16s", r->what, name, text);
}

/* A JSON array of at most `most` integers >= 0; *n is their number. */
static int read_integers(const struct st_reader *r, const char *name, const char *key,
                         const json_t *v, size_t most, int64_t *out, size_t *n)
{
    if (!json_is_array(v) || json_array_size(v) > most)
        return fail(ERR_FORMAT, "%s: tensor '%s': %s is no list of at most %zu numbers", r->what,
                    name, key, most);
    *n = json_array_size(v);
    for (size_t i = 0; i < *n; i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_integer(e) || json_integer_value(e) < 0)
            return fail(ERR_FORMAT, "%s: tensor '%s': %s holds no count", r->what, name, key);
        out[i] = json_integer_value(e);
    }
    return 0;
}

/* {"dtype", "shape", "data_offsets"} and nothing else. */
static int read_tensor(struct st_reader *r, const char *name, const json_t *v,
                       struct st_tensor *out)
{
    struct st_tensor t = {0};
    int64_t range[2];
    size_t rank = 0, n = 0;
    char dims[DIMS_TEXT];

    if (!name_ok(name))
        return fail(ERR_FORMAT, "%s: a tensor's name is empty or holds control characters",
                    r->what);
    if (!json_is_object(v) || json_object_size(v) != 3)
        return fail(ERR_FORMAT, "%s: tensor '%s': not dtype, shape and data_offsets", r->what,
                    name);
    if ((t.name = arena_strdup(r->arena, name)) == NULL)
        return ERR_NOMEM;
    TRY(read_dtype(r, name, json_object_get(v, "dtype"), &t.dtype));
    TRY(read_integers(r, name, "shape", json_object_get(v, "shape"), ST_MAX_RANK, t.dim, &rank));
    TRY(read_integers(r, name, "data_offsets", json_object_get(v, "data_offsets"), 2, range, &n));
    t.rank = (int32_t)rank;
    if (n != 2 || range[0] > range[1] || (uint64_t)range[1] > r->data_len)
        return fail(ERR_FORMAT, "%s: tensor '%s': data_offsets outside the %zu bytes of data",
                    r->what, name, r->data_len);
    if (!measure(&t) || t.bytes != (uint64_t)(range[1] - range[0]))
        return fail(ERR_FORMAT, "%s: tensor '%s': %s%s does not fill %" PRId64 " bytes", r->what,
                    name, dtypes[t.dtype].name, dims_text(t.rank, t.dim, dims),
                    range[1] - range[0]);
    t.data = r->data + range[0];
    *out = t;
    return 0;
}

static int read_meta(struct st_reader *r, json_t *v)
{
    const char *key;
    json_t *value;

    if (!json_is_object(v))
        return fail(ERR_FORMAT, "%s: " META " is no object", r->what);
    if ((r->meta = arena_array(r->arena, json_object_size(v), sizeof *r->meta)) == NULL)
        return ERR_NOMEM;
    json_object_foreach(v, key, value)
    {
        struct pair *p = &r->meta[r->n_meta];
        if (!json_is_string(value))
            return fail(ERR_FORMAT, "%s: " META " holds something that is no text", r->what);
        p->key = arena_strdup(r->arena, key);
        p->value = arena_strdup(r->arena, json_string_value(value));
        if (p->key == NULL || p->value == NULL)
            return ERR_NOMEM;
        r->n_meta++;
    }
    qsort(r->meta, r->n_meta, sizeof *r->meta, by_key);
    return 0;
}

struct range { /* of one tensor's bytes in the file */
    size_t begin, end;
};

static int by_begin(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The ranges cover the data exactly. */
static int check_cover(const struct st_reader *r, struct range *ranges, size_t n)
{
    size_t at = 0;

    qsort(ranges, n, sizeof *ranges, by_begin);
    for (size_t i = 0; i < n; at = ranges[i++].end)
        if (ranges[i].begin != at)
            return fail(ERR_FORMAT, "%s: the data %s at byte %zu", r->what,
                        ranges[i].begin < at ? "overlap" : "have a hole",
                        ranges[i].begin < at ? ranges[i].begin : at);
    if (at != r->data_len)
        return fail(ERR_FORMAT, "%s: %zu bytes of data belong to no tensor", r->what,
                    r->data_len - at);
    return 0;
}

/* Copies the tensors that are not aligned to their elements; each byte at most once, for they do
 * not overlap any more. */
static int align_tensors(struct st_reader *r)
{
    for (size_t i = 0; i < r->n_tensors; i++) {
        struct st_tensor *t = &r->tensors[i];
        if ((uintptr_t)t->data % dtypes[t->dtype].size == 0)
            continue;
        void *copy = arena_array(r->arena, t->count, dtypes[t->dtype].size);
        if (copy == NULL)
            return ERR_NOMEM;
        t->data = memcpy(copy, t->data, t->bytes);
    }
    return 0;
}

static int read_tensors(struct st_reader *r, json_t *root)
{
    size_t most = json_object_size(root);
    struct range *ranges = arena_array(r->arena, most, sizeof *ranges);
    const char *name;
    json_t *value;

    r->tensors = arena_array(r->arena, most, sizeof *r->tensors);
    if (ranges == NULL || r->tensors == NULL)
        return ERR_NOMEM;
    json_object_foreach(root, name, value)
    {
        if (strcmp(name, META) == 0) {
            TRY(read_meta(r, value));
            continue;
        }
        TRY(read_tensor(r, name, value, &r->tensors[r->n_tensors]));
        const json_t *offsets = json_object_get(value, "data_offsets");
        ranges[r->n_tensors++] = (struct range){
            .begin = (size_t)json_integer_value(json_array_get(offsets, 0)),
            .end = (size_t)json_integer_value(json_array_get(offsets, 1)),
        };
    }
    TRY(check_cover(r, ranges, r->n_tensors));
    TRY(align_tensors(r));
    qsort(r->tensors, r->n_tensors, sizeof *r->tensors, by_name);
    return 0;
}

/* Bounds what jansson may be asked for. */
static int check_header(const char *what, const uint8_t *text, size_t n)
{
    size_t commas = 0;

    if (n == 0 || text[0] != '{')
        return fail(ERR_FORMAT, "%s: not a safetensors file: the header is no JSON object", what);
    for (size_t i = 0; i < n; i++)
        commas += text[i] == ',';
    if (commas > MAX_COMMAS)
        return fail(ERR_LIMIT, "%s: more than %d commas in the header", what, MAX_COMMAS);
    return 0;
}

static int parse(struct st_reader *r, const uint8_t *bytes, size_t len)
{
    struct buf_reader b = buf_reader_on(bytes, len, r->what);
    const uint8_t *header = NULL;
    json_error_t error;
    uint64_t n = 0;

    TRY(buf_get_u64(&b, &n));
    if (n > ST_MAX_HEADER)
        return fail(ERR_LIMIT,
                    "%s: not a safetensors file: a header of %" PRIu64 " bytes, at most %zu",
                    r->what, n, ST_MAX_HEADER);
    TRY(buf_get_view(&b, (size_t)n, &header));
    TRY(check_header(r->what, header, (size_t)n));
    r->data = header + n;
    r->data_len = buf_left(&b);
    json_t *root = json_loadb((const char *)header, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return fail(ERR_FORMAT, "%s: header: %s at byte %d", r->what, error.text, error.position);
    int rc = json_object_size(root) > ST_MAX_TENSORS
                 ? fail(ERR_LIMIT, "%s: more than %d tensors", r->what, ST_MAX_TENSORS)
                 : read_tensors(r, root);
    json_decref(root);
    return rc;
}

int st_reader_bytes(const void *data, size_t len, const char *what, struct st_reader **out)
{
    SCOPED(st_reader_close_at) struct st_reader *r = mem_array(1, sizeof *r);

    if (r == NULL)
        return ERR_NOMEM;
    TRY(arena_new(0, &r->arena));
    if ((r->what = arena_strdup(r->arena, what)) == NULL)
        return ERR_NOMEM;
    TRY(parse(r, data, len));
    *out = mem_hand_on(&r);
    return 0;
}

int st_reader_open(const char *path, struct st_reader **out)
{
    struct file_map map;

    TRY(file_map_open(path, &map));
    int rc = st_reader_bytes(map.data, map.len, path, out);
    if (rc < 0)
        file_map_close(&map);
    else
        (*out)->map = map;
    return rc;
}

void st_reader_close(struct st_reader *r)
{
    if (r == NULL)
        return;
    file_map_close(&r->map);
    arena_free(r->arena);
    mem_free(r);
}

size_t st_count(const struct st_reader *r)
{
    return r->n_tensors;
}

const struct st_tensor *st_at(const struct st_reader *r, size_t i)
{
    assert(i < r->n_tensors);
    return &r->tensors[i];
}

const struct st_tensor *st_find(const struct st_reader *r, const char *name)
{
    struct st_tensor key = {.name = name};

    return bsearch(&key, r->tensors, r->n_tensors, sizeof key, by_name);
}

int st_need(const struct st_reader *r, const char *name, enum st_dtype dtype, int32_t rank,
            const int64_t *dim, const void **data)
{
    const struct st_tensor *t = st_find(r, name);
    char got[DIMS_TEXT], wanted[DIMS_TEXT];

    if (t == NULL)
        return fail(ERR_FORMAT, "%s: no tensor '%s'", r->what, name);
    bool same = t->dtype == dtype && t->rank == rank;
    for (int32_t i = 0; same && i < rank; i++)
        same = t->dim[i] == dim[i];
    if (!same)
        return fail(ERR_FORMAT, "%s: tensor '%s' is %s%s, expected %s%s", r->what, name,
                    dtypes[t->dtype].name, dims_text(t->rank, t->dim, got), dtypes[dtype].name,
                    dims_text(rank, dim, wanted));
    *data = t->data;
    return 0;
}

const char *st_meta(const struct st_reader *r, const char *key)
{
    struct pair wanted = {.key = key};
    const struct pair *p =
        r->n_meta > 0 ? bsearch(&wanted, r->meta, r->n_meta, sizeof wanted, by_key) : NULL;

    return p != NULL ? p->value : NULL;
}

/* ---- writer ---------------------------------------------------------------------------------- */

struct st_writer {
    struct arena *arena; /* names, keys, values */
    struct st_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct pair *meta;
    size_t n_meta, cap_meta;
};

int st_writer_new(struct st_writer **out)
{
    SCOPED(st_writer_free_at) struct st_writer *w = mem_array(1, sizeof *w);

    if (w == NULL)
        return ERR_NOMEM;
    TRY(arena_new(0, &w->arena));
    *out = mem_hand_on(&w);
    return 0;
}

void st_writer_free(struct st_writer *w)
{
    if (w == NULL)
        return;
    arena_free(w->arena);
    mem_free(w->tensors);
    mem_free(w->meta);
    mem_free(w);
}

/* JSON holds valid UTF-8 only. */
static bool utf8_ok(const char *text)
{
    json_t *s = json_string(text);
    bool ok = s != NULL;

    json_decref(s);
    return ok;
}

int st_writer_add(struct st_writer *w, const char *name, enum st_dtype dtype, int32_t rank,
                  const int64_t *dim, const void *data)
{
    struct st_tensor t = {.dtype = dtype, .rank = rank, .data = data};
    if (!name_ok(name) || !utf8_ok(name))
        return fail(ERR_ARG, "a tensor's name is empty, not UTF-8 or holds control characters");
    if (rank < 0 || rank > ST_MAX_RANK)
        return fail(ERR_ARG, "tensor '%s': rank %" PRId32 ", at most %d", name, rank, ST_MAX_RANK);
    for (int32_t i = 0; i < rank; i++)
        t.dim[i] = dim[i];
    if (!measure(&t))
        return fail(ERR_ARG, "tensor '%s': bad or too large shape", name);
    if (w->n_tensors >= ST_MAX_TENSORS - 1) /* one entry is the metadata's */
        return fail(ERR_LIMIT, "more than %d tensors in one file", ST_MAX_TENSORS - 1);
    TRY(mem_grow(&w->tensors, w->n_tensors + 1, &w->cap_tensors, sizeof *w->tensors));
    if ((t.name = arena_strdup(w->arena, name)) == NULL)
        return ERR_NOMEM;
    w->tensors[w->n_tensors++] = t;
    return 0;
}

int st_writer_meta(struct st_writer *w, const char *key, const char *value)
{
    if (!utf8_ok(key) || !utf8_ok(value))
        return fail(ERR_ARG, "metadata of a safetensors file must be UTF-8");
    TRY(mem_grow(&w->meta, w->n_meta + 1, &w->cap_meta, sizeof *w->meta));
    struct pair p = {arena_strdup(w->arena, key), arena_strdup(w->arena, value)};
    if (p.key == NULL || p.value == NULL)
        return ERR_NOMEM;
    w->meta[w->n_meta++] = p;
    return 0;
}

/* Largest elements first, then by name: the order of the data in the file. */
static int by_layout(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    size_t sx = dtypes[x->dtype].size, sy = dtypes[y->dtype].size;

    return sx != sy ? (sx < sy) - (sx > sy) : strcmp(x->name, y->name);
}

/* Sorted copies of the lists; ERR_ARG for a name or key that is there twice. */
static int sort_lists(const struct st_writer *w, struct arena *a, struct st_tensor **tensors,
                      struct pair **meta)
{
    struct st_tensor *t = arena_array(a, w->n_tensors, sizeof *t);
    struct pair *m = arena_array(a, w->n_meta, sizeof *m);

    if (t == NULL || m == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < w->n_tensors; i++)
        t[i] = w->tensors[i];
    for (size_t i = 0; i < w->n_meta; i++)
        m[i] = w->meta[i];
    qsort(t, w->n_tensors, sizeof *t, by_name);
    qsort(m, w->n_meta, sizeof *m, by_key);
    for (size_t i = 1; i < w->n_tensors; i++)
        if (by_name(&t[i - 1], &t[i]) == 0)
            return fail(ERR_ARG, "tensor '%s' was added twice", t[i].name);
    for (size_t i = 1; i < w->n_meta; i++)
        if (by_key(&m[i - 1], &m[i]) == 0)
            return fail(ERR_ARG, "metadata '%s' was added twice", m[i].key);
    qsort(t, w->n_tensors, sizeof *t, by_layout);
    *tensors = t;
    *meta = m;
    return 0;
}

static json_t *tensor_json(const struct st_tensor *t, uint64_t begin)
{
    json_t *shape = json_array();

    for (int32_t i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[t->dtype].name, "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + t->bytes));
}

/* The header's text, mem_free() it; NULL where memory ran out (all text was checked before). */
static char *header_text(const struct st_writer *w, const struct st_tensor *tensors,
                         const struct pair *meta)
{
    json_t *root = json_object(), *map = json_object();
    uint64_t at = 0;
    int bad = 0;

    for (size_t i = 0; i < w->n_meta; i++)
        bad |= json_object_set_new(map, meta[i].key, json_string(meta[i].value));
    if (w->n_meta > 0)
        bad |= json_object_set(root, META, map);
    for (size_t i = 0; i < w->n_tensors; at += tensors[i++].bytes)
        bad |= json_object_set_new(root, tensors[i].name, tensor_json(&tensors[i], at));
    char *text = bad == 0 ? json_spell(root, JSON_COMPACT) : NULL;
    json_decref(map);
    json_decref(root);
    return text;
}

/* Length, header and the spaces that bring the data to a multiple of 8. */
static int write_header(struct file_writer *f, const char *text)
{
    static const char spaces[] = "       ";
    size_t n = strlen(text), pad = (8 - n % 8) % 8;
    SCOPED(buf_release) struct buf_writer b = buf_writer_to(PREFIX);

    if (n + pad > ST_MAX_HEADER)
        return fail(ERR_LIMIT, "a header of %zu bytes, at most %zu", n + pad, ST_MAX_HEADER);
    buf_put_u64(&b, n + pad);
    TRY(buf_status(&b));
    TRY(file_writer_append(f, b.data, b.len));
    TRY(file_writer_append(f, text, n));
    return file_writer_append(f, spaces, pad);
}

static int write_file(const struct st_writer *w, const struct st_tensor *tensors, const char *text,
                      const char *path, enum file_access access)
{
    SCOPED(file_writer_abort_at) struct file_writer *f = NULL;

    TRY(file_writer_open(path, access, &f));
    TRY(write_header(f, text));
    for (size_t i = 0; i < w->n_tensors; i++)
        TRY(file_writer_append(f, tensors[i].data, tensors[i].bytes));
    return file_writer_commit(&f);
}

int st_writer_save(const struct st_writer *w, const char *path, enum file_access access)
{
    SCOPED(arena_free_at) struct arena *a = NULL;
    struct st_tensor *tensors = NULL;
    struct pair *meta = NULL;

    TRY(arena_new(0, &a));
    TRY(sort_lists(w, a, &tensors, &meta));
    OWNED char *text = header_text(w, tensors, meta);
    if (text == NULL)
        return fail(ERR_NOMEM, "out of memory (header of %s)", path);
    return write_file(w, tensors, text, path, access);
}
