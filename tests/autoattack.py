"""AutoAttack by its authors (pyautoattack, PyTorch) on our engine, against the flags that `linnet eval --state` left.

    tests/autoattack.py MODEL --images X.npy --labels Y.npy --state STATE.json [--eps 8/255] [--normalize P]
                        [--branch clean|adv] [--attack apgd-ce] [--seeds 6]

PyTorch sees one function: its forward pass is Model.logits, its backward pass Model.gradient. An image stands if it is
classified correctly when clean and after every attack. The two programs draw their random starts from generators of
their own, so an image on the border may fall for one seed and stand for another. Images whose flags differ are therefore
attacked again by the authors' code, with other seeds: one of them must give our flag. Prints the figures; exit 1 where
none does, or where more than 3 % of the images (at least one) were on the border.
"""

import argparse
import json
import sys

import numpy as np
import torch
from pyautoattack import AutoAttack

import linnet

p = argparse.ArgumentParser()
p.add_argument("model")
for name, default in [("images", None), ("labels", None), ("state", None), ("eps", "8/255"), ("normalize", None),
                      ("branch", "clean"), ("attack", None), ("seeds", "6")]:
    p.add_argument("--" + name, default=default, required=name in ("images", "labels", "state"))
a = p.parse_args()
top, _, bottom = a.eps.partition("/")
eps = float(top) / float(bottom or 1)
model = linnet.Model(a.model, branch=a.branch, normalize=a.normalize)


class Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(model.logits(x.detach().numpy()))

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(model.gradient(x.detach().numpy(), upstream.numpy())[1])


class Engine(torch.nn.Module):
    def forward(self, x):
        return Logits.apply(x)


pixels = np.load(a.images)
if pixels.shape[1] != model.channels:
    pixels = pixels.transpose(0, 3, 1, 2)
x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255))
y = torch.from_numpy(np.load(a.labels).astype(np.int64))
runs = json.load(open(a.state))["runs"]
ours = np.array([c == "1" for c in runs[a.branch + "/0"]["robust"]])
assert len(ours) == len(x) == len(y), (len(ours), len(x), len(y))

engine = Engine()


def stand(x, y, seed):
    """The authors' flags."""
    only = {"attacks": [a.attack], "version": "custom"} if a.attack else {"version": "standard"}
    attack = AutoAttack(engine, norm="Linf", eps=eps, seed=seed, **only)
    attack.apgd.n_restarts = 1
    adversarial, _ = attack.run_standard_evaluation(x, y, batch_size=250)
    assert (adversarial - x).abs().max() <= eps + 1e-6 and adversarial.min() >= 0 and adversarial.max() <= 1
    return (engine(adversarial).argmax(1) == y).numpy()


theirs = stand(x, y, 0)
border = left = np.flatnonzero(theirs != ours)
for seed in range(1, int(a.seeds)):
    if len(left):
        left = left[stand(x[left], y[left], seed) != ours[left]]
print(f"{a.attack or 'autoattack'} at {a.eps}, {len(y)} images: linnet {ours.sum()} stand, pyautoattack {theirs.sum()};",
      f"differ {border.tolist()}, with every seed {left.tolist()}")
sys.exit(len(left) > 0 or len(border) > max(1, 0.03 * len(y)))
