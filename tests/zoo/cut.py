"""Removes ReLUs at random: cut.py IN.onnx OUT.onnx SHARE. SHARE of every layer's positions is kept.

Relu(x) becomes Where(mask, Relu(x), x), the form that linnet writes and reads.
"""
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

model = onnx.load(sys.argv[1])
share = float(sys.argv[3])
shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
          for v in shape_inference.infer_shapes(model, data_prop=True).graph.value_info}
rng = np.random.default_rng(11)
nodes = []
for node in model.graph.node:
    nodes.append(node)
    if node.op_type != "Relu" or share >= 1:
        continue
    shape = [1, *shapes[node.output[0]][1:]]
    n = int(np.prod(shape))
    mask = np.zeros(n, bool)
    mask[rng.permutation(n)[:int(share * n)]] = True
    name, y, r = node.name or node.output[0], node.output[0], node.output[0] + "/kept"
    model.graph.initializer.append(numpy_helper.from_array(mask.reshape(shape), name + ".mask"))
    node.output[0] = r
    nodes.append(helper.make_node("Where", [name + ".mask", r, node.input[0]], [y], name + "/Where"))
del model.graph.node[:]
model.graph.node.extend(nodes)
onnx.save(model, sys.argv[2])
