#ifndef CORE_BASE_WIRE_H
#define CORE_BASE_WIRE_H
/*
 * Safe unpacking of protobuf files that strangers wrote, for model.onnx and model.pi.
 *
 * protobuf-c recurses without a limit, allocates up to 150 times the input and gives no reasons.
 * wire_check walks the raw bytes first, without recursion or allocation; wire_unpack then unpacks
 * into memory with a budget.
 *
 *     struct wire_message *m = NULL;
 *     rc = wire_unpack(&onnx__model_proto__descriptor, data, len, path, &m);
 *     const Onnx__ModelProto *model = wire_root(m);
 *     ...
 *     wire_free(m);                // never protobuf_c_message_free_unpacked
 *
 * The bytes may be released after wire_unpack: protobuf-c copies everything.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define WIRE_MAX_DEPTH 32                                 /* real models need 6 to 8 */
#define WIRE_MAX_FIELDS (1 << 22)                         /* a ResNet-152 has under 20 000 */
#define WIRE_MAX_BYTES ((size_t)INT32_MAX)                /* protobuf's own limit: 2 GiB - 1 */
#define WIRE_BUDGET(len) (3 * (len) + ((size_t)64 << 20)) /* bytes that unpacking may allocate */

struct ProtobufCMessageDescriptor;

/* ERR_LIMIT (size, depth, fields) or ERR_FORMAT; the message names `what`, the offset and, where
 * known, the field. Accepts both forms of packed scalars and skips unknown fields; refuses groups,
 * wrong wire types and a single sub-message given twice (protobuf would merge the two). */
int wire_check(const struct ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
               const char *what) MUST_CHECK;

struct wire_message;
/* wire_check, then protobuf-c within WIRE_BUDGET(len), all memory zeroed. */
int wire_unpack(const struct ProtobufCMessageDescriptor *root, const uint8_t *data, size_t len,
                const char *what, struct wire_message **out) MUST_CHECK;
/* The same for what must be understood as a whole: ERR_UNSUPPORTED names a field that root, or a message
 * inside it, does not know. */
int wire_unpack_known(const struct ProtobufCMessageDescriptor *root, const uint8_t *data,
                      size_t len, const char *what, struct wire_message **out) MUST_CHECK;
/* The generated struct of `root`; strings are never NULL in proto3. Lives as long as m. */
const void *wire_root(const struct wire_message *m);
void wire_free(struct wire_message *m); /* NULL is fine */
FREE_AT(wire_free, struct wire_message)
#endif
