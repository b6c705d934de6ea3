#!/usr/bin/env python3
"""One engine of tests/bench.py in a process of its own: PyTorch, onnxruntime or OpenBLAS.

    bench_peer.py ENGINE LAYOUT MODEL WORK BATCH SIZE THREADS PRECISION [ONNX]

ENGINE pytorch (LAYOUT nchw or nhwc = channels_last; PRECISION fp32, bf16 = autocast, or
bf16-compiled), onnxruntime, openvino (PRECISION fp32 or bf16; LAYOUT nchw, ONNX the file) or
openblas (matrix products, whatever model and work: what more threads are worth to it).
Prints "ready VERSION"; then does one step for every line on standard input and prints its seconds;
at the end of input prints the peak memory in MiB. Each engine at its best: inference with
BatchNormalization folded and in inference mode; input gradients in evaluation mode with no gradient
of parameters; rlnet_step as in bench_model.c.
"""
import array
import ctypes
import ctypes.util
import resource
import sys
import time

PGD_STEPS = 7
GEMM_SIZE = 1536  # 9 MB a matrix, 7 GFLOP
ARCHS = {  # kind, stem, blocks, widths: as in core/graph/arch.c
    "resnet20": ("basic", 16, (3, 3, 3), (16, 32, 64)),
    "resnet18": ("basic", 64, (2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet50": ("bottleneck", 64, (3, 4, 6, 3), (64, 128, 256, 512)),
    "wrn16_4": ("preact", 16, (2, 2, 2), (64, 128, 256)),
    "wrn22_8": ("preact", 16, (3, 3, 3), (128, 256, 512)),
}


def make_network(torch, name, size, fold):
    """The network as a module; fold: Conv + BatchNormalization pairs as one Conv (evaluation)."""
    nn = torch.nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    def conv(i, o, k, s):
        return nn.Conv2d(i, o, k, s, k // 2, bias=False)

    def pair(i, o, k, s):
        c, b = conv(i, o, k, s), nn.BatchNorm2d(o)
        return fuse_conv_bn_eval(c.eval(), b.eval()) if fold else nn.Sequential(c, b)

    class Basic(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.a, self.b = pair(i, o, 3, s), pair(o, o, 3, 1)
            self.skip = pair(i, o, 1, s) if s != 1 or i != o else nn.Identity()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))).add_(self.skip(x)))

    class Bottleneck(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.a, self.b, self.c = pair(i, o, 1, 1), pair(o, o, 3, s), pair(o, 4 * o, 1, 1)
            self.skip = pair(i, 4 * o, 1, s) if s != 1 or i != 4 * o else nn.Identity()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))).add_(self.skip(x)))

    class Preact(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.bn, self.a, self.b = nn.BatchNorm2d(i), pair(i, o, 3, s), conv(o, o, 3, 1)
            self.skip = conv(i, o, 1, s) if i != o else None
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.relu(self.bn(x))
            z = self.b(self.relu(self.a(y)))
            return z.add_(x if self.skip is None else self.skip(y))

    kind, stem, blocks, widths = ARCHS[name]
    classes = {"basic": Basic, "bottleneck": Bottleneck, "preact": Preact}
    if kind == "preact":
        layers = [conv(3, stem, 3, 1)]
    elif size > 64 and stem == 64:  # large images
        layers = [pair(3, stem, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    else:
        layers = [pair(3, stem, 3, 1), nn.ReLU(True)]
    channels = stem
    for stage, (count, width) in enumerate(zip(blocks, widths)):
        for i in range(count):
            layers.append(classes[kind](channels, width, 2 if stage > 0 and i == 0 else 1))
            channels = 4 * width if kind == "bottleneck" else width
    if kind == "preact":
        layers += [nn.BatchNorm2d(channels), nn.ReLU(True)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers)


def torch_steps(layout, name, work, batch, size, threads, precision):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    net = make_network(torch, name, size, work == "infer").to(memory_format=memory)
    run = torch.compile(net) if precision == "bf16-compiled" else net

    def cast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32")

    x = torch.rand(batch, 3, size, size).contiguous(memory_format=memory)
    y = torch.randint(10, (batch,))
    loss_of = torch.nn.CrossEntropyLoss()

    def infer():
        with torch.inference_mode(), cast():
            run(x)

    def gradient(v, labels):
        v = v.detach().requires_grad_(True)
        with cast():
            loss = loss_of(run(v), labels)
        return torch.autograd.grad(loss, v)[0]

    def train(v, labels):
        with cast():
            loss = loss_of(run(v), labels)
        loss.backward()

    def clear():
        for p in net.parameters():
            p.grad = None

    def train_step():
        clear()
        train(x, y)

    teacher = make_network(torch, name, size, True).eval().to(memory_format=memory)

    def rlnet_step():
        half = batch // 2
        with torch.inference_mode(), cast():
            teacher(x)
        clear()
        net.train()
        train(x[:half], y[:half])
        net.eval()
        adv = x[half:].clone()
        for p in net.parameters():
            p.requires_grad_(False)
        for _ in range(PGD_STEPS):
            adv = (adv + 2 / 255 * gradient(adv, y[half:]).sign()).clamp_(0, 1)
        for p in net.parameters():
            p.requires_grad_(True)
        net.train()
        train(adv, y[half:])

    if work == "infer":
        net.eval()
    if work == "input_grad":
        net.eval()
        for p in net.parameters():
            p.requires_grad_(False)
    steps = {"infer": infer, "input_grad": lambda: gradient(x, y), "train": train_step,
             "rlnet_step": rlnet_step}
    return torch.__version__, steps[work]


def onnxruntime_steps(path, batch, size, threads):
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((batch, 3, size, size), dtype=np.float32)
    feed = {session.get_inputs()[0].name: x}
    return ort.__version__, lambda: session.run(None, feed)


def openvino_steps(path, batch, size, threads, precision):
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([batch, 3, size, size])
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"})
    x = np.random.default_rng(1).random((batch, 3, size, size), dtype=np.float32)
    return openvino.__version__.split("-")[0], lambda: compiled(x)


def openblas_steps(threads):
    blas = ctypes.CDLL(ctypes.util.find_library("openblas"))
    blas.openblas_get_corename.restype = ctypes.c_char_p
    blas.openblas_set_num_threads(threads)
    n = GEMM_SIZE
    matrix = [(ctypes.c_float * (n * n)).from_buffer(array.array("f", [0.5, -0.25]) * (n * n // 2))
              for _ in range(3)]
    size, one = ctypes.c_int(n), ctypes.c_float(1)
    row_major, plain = 101, 111

    def step():
        blas.cblas_sgemm(row_major, plain, plain, size, size, size, one, matrix[0], size,
                         matrix[1], size, ctypes.c_float(0), matrix[2], size)
    return blas.openblas_get_corename().decode(), step


def main():
    engine, layout, model, work, batch, size, threads, precision = sys.argv[1:9]
    batch, size, threads = int(batch), int(size), int(threads)
    if engine == "pytorch":
        version, step = torch_steps(layout, model, work, batch, size, threads, precision)
    elif engine == "openblas":
        version, step = openblas_steps(threads)
    elif engine == "openvino":
        version, step = openvino_steps(sys.argv[9], batch, size, threads, precision)
    else:
        version, step = onnxruntime_steps(sys.argv[9], batch, size, threads)
    print("ready", version, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)


main()
