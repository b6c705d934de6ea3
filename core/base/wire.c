/*
 * The guard in front of protobuf-c.
 *
 * The walk keeps one frame per open message: its descriptor and where it ends. Each field is
 *
 *     tag (varint: number << 3 | wire type)   payload: 0 varint | 1 eight bytes | 5 four bytes
 *                                                      2 length (varint) and that many bytes
 *
 * A length-delimited field whose descriptor says "message" opens a frame, any other payload is
 * skipped after a check of its size, so the cost is one look per field (packed varints: one per
 * byte) and 100 MB of weights take microseconds. What the walk accepts, protobuf-c 1.4.1 unpacks
 * without leaving its buffers; the two agree on the length of every field.
 *
 * The memory of an unpacked message is one arena, which zeroes it: protobuf-c reads oneof unions
 * and unknown_fields uninitialised on some paths (its issues 690, 745). Its free is empty.
 *
 * Source: protobuf.dev, "Encoding"; protobuf-c/protobuf-c.c.
 */
#include "core/base/wire.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "core/base/mem.h"

#if PROTOBUF_C_VERSION_NUMBER < 1004001
#error "protobuf-c 1.4.1 or newer is needed: older ones underflow a length (issue 499)"
#endif

#define TAG_BYTES 5     /* a 32-bit varint */
#define VARINT_BYTES 10 /* a 64-bit varint */

struct frame {
    const ProtobufCMessageDescriptor *desc;
    size_t end;    /* offset after the message */
    uint64_t seen; /* single sub-messages that came, by index in desc->fields */
};
struct walk {
    const uint8_t *data;
    const char *what;
    size_t at;
    bool known; /* unknown fields are refused */
    uint32_t fields;
    int depth; /* open frames, at least 1 */
    struct frame frame[WIRE_MAX_DEPTH];
};
struct field { /* the one being looked at */
    size_t start;
    const ProtobufCMessageDescriptor *owner;
    const ProtobufCFieldDescriptor *desc; /* NULL: unknown */
    uint32_t wire_type;
    size_t len; /* payload, for length-delimited ones */
};

/* "model.onnx: bad length at offset 17 (field 'raw_data' of TensorProto)" */
static int fail_at(const struct walk *w, const struct field *f, int code, const char *problem)
{
    if (f->desc == NULL)
        return fail(code, "%s: %s at offset %zu (in %s)", w->what, problem, f->start,
                    f->owner->short_name);
    return fail(code, "%s: %s at offset %zu (field '%s' of %s)", w->what, problem, f->start,
                f->desc->name, f->owner->short_name);
}

/* Reads a varint of at most `most` bytes that ends before `end`; false if there is none. */
static bool get_varint(struct walk *w, size_t end, size_t most, uint64_t *v)
{
    uint64_t value = 0;

    for (size_t i = 0; i < most && w->at + i < end; i++) {
        uint8_t byte = w->data[w->at + i];
        value |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80) {
            w->at += i + 1;
            *v = value;
            return true;
        }
    }
    return false;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *d, uint32_t id)
{
    unsigned lo = 0, hi = d->n_fields;

    while (lo < hi) { /* fields are sorted by number */
        unsigned mid = lo + (hi - lo) / 2;
        if (d->fields[mid].id == id)
            return &d->fields[mid];
        if (d->fields[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The wire type of one value. */
static uint32_t wire_type_of(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

/* Every varint of the next n bytes ends inside them and is short enough. */
static bool packed_varints_ok(const uint8_t *p, size_t n)
{
    size_t run = 0;

    for (size_t i = 0; i < n; i++) {
        run = p[i] < 0x80 ? 0 : run + 1;
        if (run >= VARINT_BYTES)
            return false;
    }
    return run == 0;
}

/* The payload of a packed repeated field starts at w->at. */
static int check_packed(const struct walk *w, const struct field *f)
{
    uint32_t element = wire_type_of(f->desc->type);
    bool ok = element == PROTOBUF_C_WIRE_TYPE_32BIT   ? f->len % 4 == 0
              : element == PROTOBUF_C_WIRE_TYPE_64BIT ? f->len % 8 == 0
                                                      : packed_varints_ok(w->data + w->at, f->len);

    return ok ? 0 : fail_at(w, f, ERR_FORMAT, "bad packed values");
}

static int open_message(struct walk *w, const struct field *f)
{
    struct frame *owner = &w->frame[w->depth - 1];
    size_t index = (size_t)(f->desc - f->owner->fields);

    if (f->desc->label != PROTOBUF_C_LABEL_REPEATED && index < 64) {
        if ((owner->seen >> index & 1) != 0)
            return fail_at(w, f, ERR_FORMAT, "a second value");
        owner->seen |= (uint64_t)1 << index;
    }
    if (w->depth == WIRE_MAX_DEPTH)
        return fail_at(w, f, ERR_LIMIT, "too many nested messages");
    w->frame[w->depth++] = (struct frame){.desc = f->desc->descriptor, .end = w->at + f->len};
    return 0;
}

/* Reads the tag; everything about f but len. */
static int read_tag(struct walk *w, struct field *f)
{
    const struct frame *top = &w->frame[w->depth - 1];
    uint64_t tag;

    *f = (struct field){.start = w->at, .owner = top->desc};
    if (++w->fields > WIRE_MAX_FIELDS)
        return fail_at(w, f, ERR_LIMIT, "too many fields");
    if (!get_varint(w, top->end, TAG_BYTES, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return fail_at(w, f, ERR_FORMAT, "bad field number");
    f->wire_type = (uint32_t)tag & 7;
    f->desc = find_field(top->desc, (uint32_t)(tag >> 3));
    return 0;
}

/* Whether the field's type may come with this wire type. */
static bool type_matches(const struct field *f)
{
    if (f->desc == NULL || f->wire_type == wire_type_of(f->desc->type))
        return true;
    return f->desc->label == PROTOBUF_C_LABEL_REPEATED &&
           f->wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
}

/* Goes past the payload of a number. */
static int skip_number(struct walk *w, const struct field *f, size_t end)
{
    uint64_t value;

    if (f->wire_type == PROTOBUF_C_WIRE_TYPE_VARINT)
        return get_varint(w, end, VARINT_BYTES, &value) ? 0
                                                        : fail_at(w, f, ERR_FORMAT, "bad varint");
    size_t size = f->wire_type == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4;
    if (end - w->at < size)
        return fail_at(w, f, ERR_FORMAT, "cut number");
    w->at += size;
    return 0;
}

/* Reads the length; opens a message or goes past the bytes. */
static int enter_bytes(struct walk *w, struct field *f, size_t end)
{
    uint64_t len;

    if (!get_varint(w, end, TAG_BYTES, &len) || len > end - w->at)
        return fail_at(w, f, ERR_FORMAT, "bad length");
    f->len = (size_t)len;
    if (f->desc != NULL && f->desc->type == PROTOBUF_C_TYPE_MESSAGE)
        return open_message(w, f);
    if (f->desc != NULL && wire_type_of(f->desc->type) != f->wire_type)
        TRY(check_packed(w, f));
    w->at += f->len;
    return 0;
}

static int next_field(struct walk *w)
{
    size_t end = w->frame[w->depth - 1].end;
    struct field f;

    TRY(read_tag(w, &f));
    if (w->known && f.desc == NULL)
        return fail_at(w, &f, ERR_UNSUPPORTED, "a field that this version does not know");
    if (!type_matches(&f))
        return fail_at(w, &f, ERR_FORMAT, "wrong wire type");
    switch (f.wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
    case PROTOBUF_C_WIRE_TYPE_64BIT:
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        return skip_number(w, &f, end);
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        return enter_bytes(w, &f, end);
    default:
        return fail_at(w, &f, ERR_FORMAT, "unsupported wire type");
    }
}

static int check(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
                 const char *what, bool known)
{
    struct walk w = {.data = data, .what = what, .known = known, .depth = 1};

    if (len > WIRE_MAX_BYTES)
        return fail(ERR_LIMIT, "%s: %zu bytes, at most %zu", what, len, WIRE_MAX_BYTES);
    w.frame[0] = (struct frame){.desc = root, .end = len};
    while (w.depth > 0)
        if (w.at == w.frame[w.depth - 1].end)
            w.depth--;
        else
            TRY(next_field(&w));
    return 0;
}

int wire_check(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
               const char *what)
{
    return check(root, data, len, what, false);
}

/* ---- unpacking ---------------------------------------------------------------------------- */

struct wire_message {
    struct arena *arena;
    size_t budget;
    int status; /* why an allocation was refused */
    const ProtobufCMessage *root;
};

static void *budget_alloc(void *data, size_t size)
{
    struct wire_message *m = data;
    size_t used = arena_used(m->arena);

    if (size > m->budget || used > m->budget - size) {
        m->status = fail(ERR_LIMIT, "unpacking needs more than %zu bytes of memory", m->budget);
        return NULL;
    }
    void *p = arena_array(m->arena, size, 1);
    if (p == NULL)
        m->status = ERR_NOMEM;
    return p;
}

static void budget_free(void *data, void *pointer)
{
    (void)data; /* everything dies with the arena */
    (void)pointer;
}

static int unpack(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
                  const char *what, bool known, struct wire_message **out)
{
    SCOPED(wire_free_at) struct wire_message *m = NULL;

    TRY(check(root, data, len, what, known));
    if ((m = mem_array(1, sizeof *m)) == NULL)
        return ERR_NOMEM;
    m->budget = WIRE_BUDGET(len);
    TRY(arena_new(0, &m->arena));
    ProtobufCAllocator alloc = {.alloc = budget_alloc, .free = budget_free, .allocator_data = m};
    m->root = protobuf_c_message_unpack(root, &alloc, len, data);
    if (m->root == NULL)
        return m->status < 0 ? fail_context(m->status, "%s", what)
                             : fail(ERR_FORMAT, "%s: not a valid %s", what, root->short_name);
    *out = mem_hand_on(&m);
    return 0;
}

int wire_unpack(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
                const char *what, struct wire_message **out)
{
    return unpack(root, data, len, what, false, out);
}

int wire_unpack_known(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
                      const char *what, struct wire_message **out)
{
    return unpack(root, data, len, what, true, out);
}

const void *wire_root(const struct wire_message *m)
{
    return m->root;
}

void wire_free(struct wire_message *m)
{
    if (m == NULL)
        return;
    arena_free(m->arena);
    mem_free(m);
}
