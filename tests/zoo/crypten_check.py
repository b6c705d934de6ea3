"""Exports for CrypTen in CrypTen: crypten_check.py IMAGES.npy LABELS.npy MODEL.onnx...

Each model (linnet export --for crypten; the first keeps every ReLU, each other one fewer) is read by
crypten.nn.from_onnx, encrypted, and run on encrypted images, one process that plays both parties.
LABELS are what linnet says. Prints the comparisons of one image; exit status 1 if a label differs or
the comparisons do not fall from model to model.
"""
import sys
import types
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch

# CrypTen 0.4.1 asks for a module of PyTorch that 1.13 no longer has; only from_pytorch uses it.
sys.modules.setdefault("torch.onnx.symbolic_registry", types.ModuleType("symbolic_registry"))
import crypten
from crypten.mpc import MPCTensor

images, labels = np.load(sys.argv[1]), np.load(sys.argv[2])
crypten.init()
counted = [0]
compare = MPCTensor._ltz


def counting(self):
    counted[0] += self.nelement()
    return compare(self)


MPCTensor._ltz = counting
counts, failed = [], False
for k, path in enumerate(sys.argv[3:]):
    with open(path, "rb") as f:
        model = crypten.nn.from_onnx(f)
    model.encrypt()
    model.eval()
    wrong = 0
    for i, x in enumerate(images):
        counted[0] = 0
        y = model(crypten.cryptensor(torch.from_numpy(x[None])))
        wrong += int(y.get_plain_text().argmax()) != int(labels[k][i])
    counts.append(counted[0])
    print(f"{path}: {counted[0]} comparisons an image, {wrong} of {len(images)} labels differ",
          flush=True)
    failed |= wrong > 0
failed |= any(b >= a for a, b in zip(counts, counts[1:]))
sys.exit(failed)
