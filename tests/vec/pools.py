#!/usr/bin/env python3
"""Makes pools.inc: MaxPool and AveragePool of one 2x3x9x8 input, computed by PyTorch in float64.

    python3 tests/vec/pools.py > tests/vec/pools.inc

Input x and weights w come from ref_formula (tests/ref_check.c); stored are the output size, the sum
of w * pool(x), and the sum of v * gradient of that with respect to x. Needs torch and numpy.
"""
import numpy as np
import torch
import torch.nn.functional as F


def formula(name, *shape):
    phase = float(sum((k + 1) * b for k, b in enumerate(name.encode())))
    n = int(np.prod(shape))
    s = np.sin(np.arange(n, dtype=np.float64) * 12.9898 + phase * 0.78233) * 43758.5453
    return torch.from_numpy(np.float64(np.float32(2 * (s - np.floor(s)) - 1))).view(*shape)


def row(average, k, s, p, d, ceil, include):
    x = formula("x", 2, 3, 9, 8).requires_grad_()
    if average:
        y = F.avg_pool2d(x, k, s, p, ceil_mode=bool(ceil), count_include_pad=bool(include))
    else:
        y = F.max_pool2d(x, k, s, p, d, ceil_mode=bool(ceil))
    total = (y * formula("w", *y.shape)).sum()
    total.backward()
    grad = (x.grad * formula("v", *x.shape)).sum()
    print("    {%d, {{%d, %d}, {%d, %d}, {%d, %d, %d, %d}, {%d, %d}, %d, %d}, "
          "%d, %d, %.17g, %.17g},"
          % (average, *k, *s, *p, *p, *d, ceil, include, y.shape[2], y.shape[3], total.item(),
             grad.item()))


print("/* Made by pools.py with PyTorch %s; do not edit. */" % torch.__version__.split("+")[0])
print("static const struct {\n    int average;\n    struct pool_params p;\n    int64_t h, w;\n"
      "    double sum, grad;\n} torch_pool[] = {")
for k, s, p in [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (2, 3), (1, 0)),
                ((2, 3), (3, 3), (1, 1)), ((4, 4), (3, 3), (2, 2)), ((1, 1), (2, 2), (0, 0)),
                ((9, 8), (1, 1), (0, 0)), ((5, 3), (4, 2), (2, 1))]:
    for ceil in (0, 1):
        row(0, k, s, p, (1, 1), ceil, 0)
        for include in (0, 1):
            row(1, k, s, p, (1, 1), ceil, include)
row(0, (2, 3), (1, 2), (1, 1), (2, 2), 0, 0)
row(0, (2, 3), (2, 2), (1, 1), (3, 2), 1, 0)
print("};")
