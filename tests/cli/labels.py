"""labels.py A.npy B.npy: exit 1 unless the largest logit of every row is at the same place. No numpy needed."""
import struct
import sys


def labels(path):
    raw = open(path, "rb").read()
    start = 10 + struct.unpack("<H", raw[8:10])[0]
    shape = eval(raw[10:start].decode())["shape"]
    values = struct.unpack("<%df" % (shape[0] * shape[1]), raw[start:])
    rows = [values[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]
    return [row.index(max(row)) for row in rows]


sys.exit(labels(sys.argv[1]) != labels(sys.argv[2]))
