"""What other tools make of exported files: make_tools.py OUT. Needs the files of the set ts113."""
import os
import sys

import numpy as np
import onnx
from onnx import numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

out = sys.argv[1]


def path(name):
    return os.path.join(out, name)


class Pictures(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(3)
        self.rest = [{"x": rng.random((1, 3, 32, 32), dtype=np.float32)} for _ in range(4)]

    def get_next(self):
        return self.rest.pop() if self.rest else None


def save(model, name):
    onnx.save(model, path(name))
    print(name, flush=True)


for opset in (19, 22, 23):
    model = version_converter.convert_version(onnx.load(path("ts113_resnet8_bn_op13.onnx")), opset)
    save(model, f"converted_resnet8_op{opset}.onnx")

# Weights of the initializers as Constant nodes, and as inputs of an old file.
model = onnx.load(path("ts113_resnet8_op9.onnx"))
for t in model.graph.initializer:
    v = onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
    model.graph.input.append(v)
model.ir_version, model.opset_import[0].version = 3, 7
save(model, "old_resnet8_op7.onnx")
model = onnx.load(path("ts113_wrn10_op14.onnx"))
nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
rest = list(model.graph.node)
del model.graph.initializer[:], model.graph.node[:]
model.graph.node.extend(nodes + rest)
save(model, "constants_wrn10_op14.onnx")

# Weights kept in 16 bits, each cast to float32 where it is used.
for name, kind in ("half", onnx.TensorProto.FLOAT16), ("bfloat16", onnx.TensorProto.BFLOAT16):
    model = onnx.load(path("ts113_resnet8_bn_op13.onnx"))
    nodes = list(model.graph.node)
    casts = []
    for t in model.graph.initializer:
        if t.data_type != onnx.TensorProto.FLOAT:
            continue
        small = onnx.helper.make_tensor(t.name + "_small", kind, t.dims,
                                        numpy_helper.to_array(t).flatten().tolist())
        casts.append(onnx.helper.make_node("Cast", [small.name], [t.name], to=1))
        t.CopyFrom(small)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
    save(model, f"casts_{name}_resnet8_op13.onnx")

# Everything in another floating type, input and output too.
for name, kind in (("half", onnx.TensorProto.FLOAT16), ("bfloat16", onnx.TensorProto.BFLOAT16),
                   ("double", onnx.TensorProto.DOUBLE)):
    model = onnx.load(path("ts113_resnet8_bn_op13.onnx"))
    for t in model.graph.initializer:
        if t.data_type == onnx.TensorProto.FLOAT:
            t.CopyFrom(onnx.helper.make_tensor(t.name, kind, t.dims,
                                               numpy_helper.to_array(t).flatten().tolist()))
    for v in list(model.graph.input) + list(model.graph.output):
        v.type.tensor_type.elem_type = kind
    del model.graph.value_info[:]
    save(model, f"all_{name}_resnet8_op13.onnx")

quantize_static(path("ts113_resnet20a_op13.onnx"),
                path("qdq_resnet20a_op13.onnx"), Pictures())
print("qdq_resnet20a_op13.onnx")
quantize_dynamic(path("ts113_vnn_op9.onnx"), path("dynamic_vnn_op11.onnx"))
print("dynamic_vnn_op11.onnx")
