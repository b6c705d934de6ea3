#!/usr/bin/env python3
"""Compares proto/onnx.proto with the official schema of the installed `onnx` package.

    onnx_proto_check.py DESCRIPTOR_SET      (protoc --descriptor_set_out of proto/onnx.proto)

Every message, field (number, type, label, oneof, packing) and enum value must agree. What ours has
and an older package lacks is listed as newer; what the package has and ours lacks is an error.
Exit code: 0 equal, 1 different, 77 the onnx package cannot be used (skipped).
"""
import sys

try:
    import onnx
    from google.protobuf import descriptor_pb2

    official_file = onnx.onnx_ml_pb2.DESCRIPTOR
except Exception as error:  # a missing or broken package is no fault of ours
    print("skipped:", error)
    sys.exit(77)

FIELD = descriptor_pb2.FieldDescriptorProto


def is_packed(field, proto3):
    scalar = field.label == FIELD.LABEL_REPEATED and field.type not in (
        FIELD.TYPE_STRING, FIELD.TYPE_BYTES, FIELD.TYPE_MESSAGE, FIELD.TYPE_GROUP)
    if not scalar:
        return False
    return field.options.packed if field.options.HasField("packed") else proto3


def collect(messages, enums, prefix, proto3, out):
    """Flattens a file: name -> facts, for messages' fields and enums' values."""
    for enum in enums:
        for value in enum.value:
            out["enum %s%s.%s" % (prefix, enum.name, value.name)] = (value.number,)
    for message in messages:
        name = prefix + message.name
        out["message " + name] = ()
        for field in message.field:
            repeated = field.label == FIELD.LABEL_REPEATED
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            out["field %s.%s" % (name, field.name)] = (
                field.number, field.type, field.type_name, "repeated" if repeated else "single",
                oneof, is_packed(field, proto3))
        collect(message.nested_type, message.enum_type, name + ".", proto3, out)
    return out


def facts_of(file):
    return collect(file.message_type, file.enum_type, "", file.syntax == "proto3", {})


def main():
    ours_set = descriptor_pb2.FileDescriptorSet()
    with open(sys.argv[1], "rb") as stream:
        ours_set.ParseFromString(stream.read())
    ours = facts_of(ours_set.file[0])
    official = descriptor_pb2.FileDescriptorProto()
    official_file.CopyToProto(official)
    theirs = facts_of(official)
    newest_ir = "enum Version.IR_VERSION"  # each schema's name for its own newest version
    ours.pop(newest_ir), theirs.pop(newest_ir)
    wrong = 0
    for key in sorted(theirs):
        if key not in ours:
            wrong += 1
            print("missing:  ", key, theirs[key])
        elif ours[key] != theirs[key]:
            wrong += 1
            print("different:", key, "ours", ours[key], "official", theirs[key])
    newer = sorted(set(ours) - set(theirs))
    for key in newer:
        print("newer:    ", key, ours[key])
    print("onnx %s: %d facts compared, %d wrong, %d newer than the package"
          % (onnx.__version__, len(theirs), wrong, len(newer)))
    return 1 if wrong else 0


sys.exit(main())
