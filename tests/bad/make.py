#!/usr/bin/env python3
"""Writes the malformed files of this folder. Usage: tests/bad/make.py [FOLDER]

Protobuf is written by hand here (field numbers are facts of the formats), so that a file can be wrong
in any way. expected.txt says what linnet answers; tests/importer/test_bad.c compares.
"""
import os
import random
import struct
import sys

DIR = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def num(field, v):
    return varint(field << 3) + varint(v)


def msg(field, *parts):
    data = b"".join(p.encode() if isinstance(p, str) else p for p in parts)
    return varint(field << 3 | 2) + varint(len(data)) + data


def f32(field, v):
    return varint(field << 3 | 5) + struct.pack("<f", v)


FLOAT, INT64 = 1, 7


def tensor(name, dims, data=b"", dtype=FLOAT, extra=b""):
    return (b"".join(num(1, d) for d in dims) + num(2, dtype) + msg(8, name)
            + (msg(9, data) if data else b"") + extra)


def floats(n, value=0.5):
    return struct.pack("<f", value) * n


def ints(*v):
    return struct.pack("<%dq" % len(v), *v)


def attr(name, v):
    if isinstance(v, int):
        body = num(3, v) + num(20, 2)
    elif isinstance(v, float):
        body = f32(2, v) + num(20, 1)
    elif isinstance(v, str):
        body = msg(4, v) + num(20, 3)
    elif isinstance(v, bytes):  # a tensor
        body = msg(5, v) + num(20, 4)
    else:
        body = b"".join(num(8, x) for x in v) + num(20, 7)
    return msg(5, msg(1, name), body)


def node(op, ins, outs, name="", domain="", **attrs):
    return msg(1, *[msg(1, i) for i in ins], *[msg(2, o) for o in outs],
               msg(3, name) if name else b"", msg(4, op),
               msg(7, domain) if domain else b"", *[attr(k, v) for k, v in attrs.items()])


def info(field, name, dims, dtype=FLOAT):
    shape = b"".join(msg(1, msg(2, d) if isinstance(d, str) else num(1, d)) for d in dims)
    return msg(field, msg(1, name), msg(2, msg(1, num(1, dtype), msg(2, shape))))


def model(nodes, inits=(), inputs=None, outputs=None, opset=17, ir=8, extra=b""):
    graph = (b"".join(nodes) + msg(2, "g") + b"".join(msg(5, t) for t in inits)
             + (info(11, "x", ["N", 3, 4, 4]) if inputs is None else inputs)
             + (info(12, "y", ["N", 2]) if outputs is None else outputs))
    return (num(1, ir) + msg(7, graph) + extra
            + (msg(8, num(2, opset)) if opset is not None else b""))


CONV = [node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], "relu"),
        node("GlobalAveragePool", ["r"], ["p"], "pool"),
        node("Flatten", ["p"], ["y"], "flat")]
W, B = tensor("w", [2, 3, 3, 3], floats(54)), tensor("b", [2], floats(2))
GOOD = model(CONV, [W, B])


def conv(w=W, b=B, **kw):
    n = [node("Conv", ["x", "w", "b"], ["c"], "conv", **kw)] + CONV[1:]
    return model(n, [w, b])


def with_nodes(*nodes, inits=(), **kw):
    """Extra nodes, whose result "k" is added to the logits."""
    last = [node("Flatten", ["p"], ["f"], "flat"), node("Add", ["f", "k"], ["y"], "add")]
    return model(CONV[:3] + list(nodes) + last, [W, B, *inits], **kw)


def external(*pairs, dims=(2, 3, 3, 3)):
    rows = b"".join(msg(13, msg(1, k), msg(2, v)) for k, v in pairs)
    nodes = [node("Conv", ["x", "w"], ["c"], "conv")] + CONV[1:]
    return model(nodes, [tensor("w", dims, extra=rows + num(14, 1))])


def nested(levels, tags, prefix):
    data = b"\x0a\x01x"
    for _ in range(levels):
        for t in reversed(tags):
            data = varint(t) + varint(len(data)) + data
    for t in reversed(prefix):
        data = varint(t) + varint(len(data)) + data
    return b"\x08\x08" + data


def safetensors(header, data=b"", size=None):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def npy(header, data=b"", version=1):
    h = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(h)) + h + data


random.seed(1)
NOISE = bytes(random.randrange(256) for _ in range(512))
flip = bytearray(GOOD)
flip[len(flip) // 3] ^= 0x10
chain = [node("Add", ["k%d" % k] * 2, ["k%d" % (k + 1)]) for k in range(20)]
gathers = (CONV[:2] + [node("Flatten", ["r"], ["f0"]), node("Gather", ["f0", "i"], ["s0"], axis=1)]
           + [node("Concat", ["s%d" % k] * 2, ["s%d" % (k + 1)], axis=1) for k in range(24)]
           + [node("Relu", ["s24"], ["y"])])

FILES = {
    # no ONNX at all
    "empty.onnx": b"",
    "lfs.onnx": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 46833\n",
    "html.onnx": b"<!DOCTYPE html>\n<html><head><title>Not found</title></head></html>\n",
    "zip.onnx": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + b"\x00" * 20 + b"archive/data.pkl",
    "ort.onnx": b"\x28\x00\x00\x00ORTM" + b"\x00" * 32,
    "noise.onnx": NOISE,
    "text.onnx": b"conv1.weight 0.5 0.25\n" * 8,
    # damaged protobuf
    "truncated.onnx": GOOD[: len(GOOD) // 2],
    "cut_in_length.onnx": GOOD[:3],
    "flipped.onnx": bytes(flip),
    "long_length.onnx": b"\x08\x08\x3a\xff\xff\xff\xff\x7f" + b"\x00" * 8,
    "overlong_varint.onnx": b"\x08" + b"\xff" * 12,
    "group.onnx": b"\x08\x08\x0b\x0c",
    "wrong_wire_type.onnx": num(7, 5) + num(1, 8),
    "graph_twice.onnx": GOOD + GOOD,
    # bombs
    "bomb_graphs.onnx": nested(2600, [10, 42, 50], [58]),
    "bomb_types.onnx": nested(4700, [34, 10], [58, 90, 18]),
    "amplifier_nodes.onnx": num(1, 8) + msg(7, b"\x0a\x00" * 500) + msg(8, num(2, 17)),
    "amplifier_attributes.onnx": model([msg(1, msg(1, "x"), msg(2, "y"), msg(4, "Relu"), b"\x2a\x00" * 15000)]),
    "amplifier_tensors.onnx": num(1, 8) + msg(7, b"\x2a\x00" * 500) + msg(8, num(2, 17)),
    "computed_constants.onnx": with_nodes(
        node("ConstantOfShape", ["s"], ["k0"]), *chain, node("Slice", ["k20", "a", "e"], ["k"]),
        inits=[tensor("s", [1], ints(1000000), INT64), tensor("a", [1], ints(0), INT64),
               tensor("e", [1], ints(2), INT64)]),
    "huge_constant.onnx": with_nodes(node("ConstantOfShape", ["s"], ["k"]),
                                     inits=[tensor("s", [2], ints(1 << 30, 1 << 30), INT64)]),
    "huge_range.onnx": with_nodes(
        node("Range", ["r0", "r1", "r2"], ["k"]),
        inits=[tensor(n, [], ints(v), INT64) for n, v in (("r0", 0), ("r1", 1 << 40), ("r2", 1))]),
    "doubling_concat.onnx": model(gathers, [W, B, tensor("i", [32], ints(*range(32)), INT64)],
                                  outputs=info(12, "y", ["N", 512])),
    "huge_dims.onnx": conv(w=tensor("w", [1 << 31, 1 << 31, 3, 3], floats(1))),
    "more_dims_than_data.onnx": conv(w=tensor("w", [1 << 18, 3, 3, 3], floats(54))),
    "negative_dim.onnx": conv(w=tensor("w", [2, -3, 3, 3], floats(54))),
    "rank_9.onnx": conv(w=tensor("w", [1] * 9, floats(1))),
    # accepted, but what inspect says of their memory must not take it
    "wide_chain.onnx": model(
        [node("Relu", ["x"], ["0"], "relu")]
        + [node("Conv", [str(k), "w"], [str(k + 1)]) for k in range(28)]
        + [node("Conv", ["28", "w"], ["c"], "conv")] + CONV[1:],
        [tensor("w", [1, 1, 1, 1], floats(1))], info(11, "x", ["N", 1, 1024, 1024]), info(12, "y", ["N", 1])),
    "computed_weights.onnx": model(
        [node("ConstantOfShape", ["s"], ["w"]), node("ConstantOfShape", ["t"], ["v"]),
         node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["r1"]),
         node("Conv", ["r1", "v"], ["c"], pads=[1, 1, 1, 1])] + CONV[1:],
        [tensor("s", [4], ints(450, 3, 3, 3), INT64), tensor("t", [4], ints(450, 450, 3, 3), INT64)],
        info(11, "x", ["N", 3, 512, 512]), info(12, "y", ["N", 450])),
    "huge_image.onnx": model(CONV, [W, B], info(11, "x", ["N", 3, 1 << 30, 1 << 30])),
    "large_image.onnx": model(CONV, [W, B], info(11, "x", ["N", 3, 1 << 20, 1 << 20])),
    # numbers
    "nan.onnx": conv(w=tensor("w", [2, 3, 3, 3], floats(53) + struct.pack("<f", float("nan")))),
    "infinite.onnx": conv(b=tensor("b", [2], struct.pack("<2f", 1, float("inf")))),
    "numbers_twice.onnx": conv(b=tensor("b", [2], floats(2), extra=msg(4, floats(2)))),
    "float8.onnx": conv(w=tensor("w", [2, 3, 3, 3], b"\x38" * 54, 17)),
    "strings.onnx": conv(w=tensor("w", [1], b"", 8, msg(6, "a"))),
    "type_99.onnx": conv(w=tensor("w", [2, 3, 3, 3], floats(54), 99)),
    # header and names
    "no_opset.onnx": model(CONV, [W, B], opset=None),
    "opset_6.onnx": model(CONV, [W, B], opset=6),
    "ir_2.onnx": model(CONV, [W, B], ir=2),
    "training_info.onnx": GOOD + msg(20, msg(1, msg(2, "t"))),
    "sparse.onnx": model(CONV, [W, B], extra=b"").replace(msg(2, "g"), msg(2, "g"), 1)[:2]
    + msg(7, b"".join(CONV), msg(15, msg(1, tensor("v", [1], floats(1)))),
          info(11, "x", ["N", 3, 4, 4]), info(12, "y", ["N", 2])) + msg(8, num(2, 17)),
    "name_twice.onnx": model([CONV[0], node("Relu", ["c"], ["c"], "again"), *CONV[1:]], [W, B]),
    "escape_in_name.onnx": model([CONV[0], node("Tan\x1b[2J", ["c"], ["r"], "evil\x1b[31m"), *CONV[2:]], [W, B]),
    "cycle.onnx": model([node("Add", ["x", "z"], ["c"]), node("Relu", ["c"], ["z"]),
                         node("Flatten", ["z"], ["y"])]),
    "undefined.onnx": model([CONV[0], node("Relu", ["nowhere"], ["r"], "relu"), *CONV[2:]], [W, B]),
    # operators and attributes
    "quantised.onnx": model([node("QLinearConv", ["x"] * 8, ["c"], "q"), *CONV[1:]]),
    "loop.onnx": model([node("Loop", ["x"], ["c"], "l"), *CONV[1:]]),
    "custom_domain.onnx": model([node("Conv", ["x", "w"], ["c"], "mine", "com.example"), *CONV[1:]], [W]),
    "stride_0.onnx": conv(strides=[0, 1]),
    "stride_huge.onnx": conv(strides=[1 << 20, 1 << 20], pads=[1 << 20] * 4),
    "group_0.onnx": conv(group=0),
    "group_7.onnx": conv(group=7),
    "pads_negative.onnx": conv(pads=[-1, 0, 0, 0]),
    "pads_2000.onnx": conv(pads=[1] * 2000),
    "dilation_huge.onnx": conv(dilations=[1 << 62, 1]),
    "text_for_strides.onnx": conv(strides="two"),
    "unknown_attribute.onnx": conv(mode=1),
    "bias_of_3.onnx": conv(b=tensor("b", [3], floats(3))),
    "variance_negative.onnx": model(
        [node("BatchNormalization", ["x", "g", "g", "g", "v"], ["r"], "bn"), *CONV[2:]],
        [tensor("g", [3], floats(3)), tensor("v", [3], floats(3, -1.0))],
        outputs=info(12, "y", ["N", 3])),
    "pool_huge_pads.onnx": model([node("MaxPool", ["x"], ["c"], "mp", kernel_shape=[1 << 20] * 2,
                                       pads=[(1 << 20) - 1] * 4), *CONV[1:]]),
    # not the kind of model
    "two_inputs.onnx": model([node("Add", ["x", "z"], ["a"], "add"), node("Conv", ["a", "w", "b"], ["c"], "conv"), *CONV[1:]], [W, B],
                             info(11, "x", ["N", 3, 4, 4]) + info(11, "z", ["N", 3, 4, 4])),
    "two_outputs.onnx": model(CONV, [W, B], outputs=info(12, "y", ["N", 2]) + info(12, "p", ["N", 2, 1, 1])),
    "no_classifier.onnx": model(CONV[:2], [W, B], outputs=info(12, "r", ["N", 2, 4, 4])),
    "constant_output.onnx": model([node("ConstantOfShape", ["s"], ["y"])], [tensor("s", [2], ints(1, 2), INT64)]),
    # external data
    "external_absolute.onnx": external(("location", "/etc/passwd")),
    "external_dotdot.onnx": external(("location", "../expected.txt")),
    "external_missing.onnx": external(("location", "weights.bin"), ("length", "216")),
    "external_beyond.onnx": external(("location", "html.onnx"), ("offset", "50"), ("length", "216")),
    "external_huge_length.onnx": external(("location", "html.onnx"), ("length", "999999999999999999")),
    "external_negative.onnx": external(("location", "html.onnx"), ("offset", "-8")),
    "external_no_location.onnx": external(("length", "216")),
    "external_key.onnx": external(("location", "html.onnx"), ("url", "x")),
    "external_huge_dims.onnx": external(("location", "html.onnx"), dims=(1 << 30, 3, 3, 3)),
    # checkpoints
    "empty.safetensors": b"",
    "header_huge.safetensors": safetensors("{}", size=1 << 62),
    "header_cut.safetensors": safetensors('{"a":{"dtype":"F32","shape":[1],"data', size=200),
    "no_json.safetensors": safetensors(NOISE[:64]),
    "json_bomb.safetensors": safetensors("[" * 30000),
    "overlap.safetensors": safetensors(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8)),
    "shape_overflow.safetensors": safetensors(
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    "no_checkpoint.safetensors": safetensors('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  ', bytes(4)),
    # descriptions
    "empty.pi": b"",
    "noise.pi": NOISE,
    "onnx.pi": GOOD,
    "bomb.pi": nested(9000, [10], [58]),
    "version_1.pi": b"\x0a\x09linnet.pi\x10\x01\x18\x01\x22\x10" + b"0123456789abcdef",
    "version_3.pi": b"\x0a\x0d\x0a\x09linnet.pi\x10\x03\x12\x00",
    "unknown_in_core.pi": b"\x0a\x10\x0a\x09linnet.pi\x10\x02\xe8\x04\x01\x12\x00",
    # data
    "noise.npy": NOISE,
    "object.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x03N."),
    "huge.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }"),
    "fortran.npy": npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 4, 4), }", bytes(384)),
    "short.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 32, 32), }", bytes(100)),
    "header_nested.npy": npy("(" * 20000),
}

for name, data in FILES.items():
    with open(os.path.join(DIR, name), "wb") as f:
        f.write(data)
print("%d files, %d bytes" % (len(FILES), sum(map(len, FILES.values()))))
