"""The newest operator sets, which no exporter writes yet: make_newer.py OUT. Needs the newest onnx and
the files of the set ts113.
"""
import os
import sys

import onnx
from onnx import helper, version_converter

out = sys.argv[1]
known = onnx.defs.onnx_opset_version()
sources = {"resnet8": "resnet8_bn_op13", "wrn10": "wrn10_op14", "resnet20a": "resnet20a_op13",
           "softmax": "softmax_op13"}
for name, source in sources.items():
    source = onnx.load(os.path.join(out, f"ts113_{source}.onnx"))
    for opset in range(24, min(known, 27) + 1):
        model = version_converter.convert_version(source, opset)
        model.ir_version = min(helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)], onnx.IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        file = f"newer_{name}_op{opset}.onnx"
        onnx.save(model, os.path.join(out, file))
        print(file, "IR", model.ir_version, flush=True)
