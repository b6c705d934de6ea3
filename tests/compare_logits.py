#!/usr/bin/env python3
"""Logits of linnet against onnxruntime's for the same images.

usage: compare_logits.py MODEL.onnx IMAGES.npy LOGITS.npy [--normalize PRESET] [--bound 1e-4]
                         [--labels]

IMAGES: uint8 [N,C,H,W]. The normalisation is done here, from the presets' definitions. Allowed is a
difference of BOUND times the largest logit; with --labels the predictions must be equal too, except
where the two largest logits are that close. Prints one line; exit status 1 on a difference.
"""
import argparse
import sys

import numpy as np
import onnxruntime as ort

PRESETS = {
    "none": ((0, 0, 0), (1, 1, 1)),
    "half": ((.5, .5, .5), (.5, .5, .5)),
    "255": ((0, 0, 0), (1 / 255, 1 / 255, 1 / 255)),
    "imagenet": ((.485, .456, .406), (.229, .224, .225)),
    "cifar10-b": ((.4914, .4822, .4465), (.2471, .2435, .2616)),
}


def onnxruntime_logits(path, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    step = shape[0] if isinstance(shape[0], int) else 64
    parts = [session.run(None, {name: x[i:i + step]})[0] for i in range(0, len(x), step)]
    return np.concatenate([p.reshape(-1, p.shape[-1]) for p in parts])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("logits")
    parser.add_argument("--normalize", choices=PRESETS, default="none")
    parser.add_argument("--bound", type=float, default=1e-4)
    parser.add_argument("--labels", action="store_true")
    a = parser.parse_args()

    mean, std = (np.array(v, np.float64).reshape(1, 3, 1, 1) for v in PRESETS[a.normalize])
    images = np.load(a.images)
    if images.dtype != np.uint8:
        sys.exit(f"{a.images}: {images.dtype}, expected uint8")
    x = ((images / 255.0 - mean) / std).astype(np.float32)
    want, have = onnxruntime_logits(a.model, x), np.load(a.logits)
    if want.shape != have.shape:
        sys.exit(f"{a.model}: logits {have.shape}, onnxruntime gives {want.shape}")
    largest, diff = float(np.abs(want).max()), float(np.abs(want - have).max())
    print(f"{len(x)} images, largest difference {diff / largest:.2e} of the largest logit {largest:.4g}")
    if not diff <= a.bound * largest:
        sys.exit(f"{a.model}: allowed {a.bound:g}")
    other = np.flatnonzero(want.argmax(1) != have.argmax(1))
    top = np.sort(want, axis=1)
    clear = [i for i in other if top[i, -1] - top[i, -2] > 2 * diff]
    if a.labels and clear:
        sys.exit(f"{a.model}: other predictions for images {clear[:10]}")


if __name__ == "__main__":
    main()
