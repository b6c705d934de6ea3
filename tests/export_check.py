#!/usr/bin/env python3
"""Check the files of tests/exporter/test_export.c with onnx and onnxruntime.

FOLDER holds input.npy, logits.npy (from linnet's executor) and, for the forms where, prelu and
gather and the opsets 13 to 21, FORM_OPSET.onnx and FORM_OPSET_folded.onnx (BN folded); full.onnx
with plain ReLUs, and almost.onnx where each loses one position; relu6_FORM_OPSET.onnx, the
same with ReLU6, and relu6_logits.npy; channel_OPSET.onnx and
whole_OPSET.onnx with masks of whole channels in the forms channel and where. Every file must pass the full
checker; all logits must agree; where and gather must agree bit by bit; almost.onnx with its masks
set to ones must equal full.onnx bit by bit; real_NAME.onnx must have the logits of
MODELS/NAME.onnx, from which it was imported. Arguments: FOLDER MODELS. Prints one line; exit
status 1 and the file's name at the first failure.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import shape_inference


def run(model, x, optimize=False):
    """Logits of a model; image by image where its batch is fixed to 1."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options,
                                   providers=["CPUExecutionProvider"])
    step = len(x) if isinstance(session.get_inputs()[0].shape[0], str) else 1
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i:i + step]})[0]
                           for i in range(0, len(x), step)])


def each(model, x):
    """The same image by image, so that sums have the same order as with a fixed batch."""
    return np.concatenate([run(model, x[i:i + 1]) for i in range(len(x))])


def all_true(model):
    """The model with every boolean mask set to ones."""
    for t in model.graph.initializer:
        if t.data_type == onnx.TensorProto.BOOL:
            t.raw_data = b"\1" * len(t.raw_data)
    return model


def require(condition, name, what):
    if not condition:
        sys.exit(f"{name}: {what}")


def check_real(model, source, name):
    """Both on random images; returns the largest difference relative to the largest logit."""
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = np.random.default_rng(0).random((3, *dims), dtype=np.float32)
    have, want = run(model, x), run(source, x)
    relative = np.abs(have - want).max() / np.abs(want).max()
    require(relative <= 1e-4, name, f"logits differ from the source by {relative}, relative")
    return float(relative)


def main():
    folder, sources = sys.argv[1:]
    x = np.load(f"{folder}/input.npy")
    want = np.load(f"{folder}/logits.npy")
    relu6 = np.load(f"{folder}/relu6_logits.npy")
    worst, n = 0.0, 0
    models = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".onnx"):
            continue
        model = onnx.load(f"{folder}/{name}")
        onnx.checker.check_model(model, full_check=True)
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        models[name] = model
        if name in ("full.onnx", "almost.onnx") or name.startswith(("real_", "whole_", "channel_")):
            continue
        logits = relu6 if name.startswith("relu6_") else want
        limit = 1e-4 * np.abs(logits).max()
        for optimize in False, True:
            diff = np.abs(run(model, x, optimize) - logits).max()
            require(diff <= limit, name, f"logits differ by {diff}, allowed {limit}")
            worst = max(worst, float(diff / np.abs(logits).max()))
        n += 1
    for opset in range(13, 22):
        a = each(models[f"where_{opset}_folded.onnx"], x)
        b = each(models[f"gather_{opset}_folded.onnx"], x)
        require(np.array_equal(a.view(np.uint32), b.view(np.uint32)), f"gather_{opset}",
                "is not bit-equal to the where form")
    channel = 0.0
    for opset in range(13, 22):
        a, b = each(models[f"whole_{opset}.onnx"], x), each(models[f"channel_{opset}.onnx"], x)
        require(any(n.op_type == "Where" for n in models[f"whole_{opset}.onnx"].graph.node) and
                not any(n.op_type == "Where" for n in models[f"channel_{opset}.onnx"].graph.node),
                f"channel_{opset}", "is not written in its own form")
        relative = float(np.abs(a - b).max() / np.abs(a).max())
        require(relative <= 1e-5, f"channel_{opset}", f"differs from the where form by {relative}")
        channel = max(channel, relative)
    full, almost = models["full.onnx"], all_true(models["almost.onnx"])
    require(sum(node.op_type == "Where" for node in almost.graph.node) == 7, "almost.onnx",
            "should hold seven masks")
    require(np.array_equal(run(full, x).view(np.uint32), run(almost, x).view(np.uint32)),
            "almost.onnx", "with masks of ones is not bit-equal to plain ReLUs")
    real = [check_real(model, onnx.load(f"{sources}/{name[5:]}"), name)
            for name, model in models.items() if name.startswith("real_")]
    require(sum(name.startswith("relu6_") for name in models) == 18, folder,
            "should hold 18 models with ReLU6")
    require(len(real) == 8, folder, "should hold eight imported models")
    print(f"export_check: {n} files, largest relative difference {worst:.3g}; "
          f"form channel, relative to where, "
          f"{channel:.3g}; {len(real)} imported models, largest relative difference {max(real):.3g}")


if __name__ == "__main__":
    main()
