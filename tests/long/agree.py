"""agree.py A.npy B.npy: of two float32 [N,K] arrays, per cent of equal argmax and the largest difference."""
import ast
import struct
import sys


def load(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<H", raw[8:10])[0]
    n, k = ast.literal_eval(raw[10:10 + size].decode())["shape"]
    return n, k, struct.unpack("<%df" % (n * k), raw[10 + size:])


n, k, a = load(sys.argv[1])
_, _, b = load(sys.argv[2])
best = lambda v, i: max(range(k), key=lambda j: v[i * k + j])
equal = sum(best(a, i) == best(b, i) for i in range(n))
print("%g %.4g" % (100.0 * equal / n, max(abs(x - y) for x, y in zip(a, b))))
