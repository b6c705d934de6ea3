"""The Python module against itself and finite differences: tests/python_module.py MODEL.onnx, PYTHONPATH set."""

import sys

import numpy as np

import linnet

rng = np.random.default_rng(1)
m = linnet.Model(sys.argv[1])
assert (m.channels, m.height, m.width, m.classes) == (3, 32, 32, 10), vars(m)
x = rng.random((4, 3, 32, 32), dtype=np.float32)
z = m.logits(x)
assert z.shape == (4, 10) and np.isfinite(z).all()
assert (m.logits(x[2:3]) == z[2]).all(), "an image's logits depend on its neighbours"

u = rng.standard_normal((4, 10)).astype(np.float32)
z2, g = m.gradient(x, u)
assert np.abs(z2 - z).max() < 1e-4 * np.abs(z).max()
d = rng.standard_normal(x.shape).astype(np.float32)
h = 1e-3
numeric = ((m.logits(x + h * d).astype(float) - m.logits(x - h * d)) * u).sum() / (2 * h)
analytic = (g.astype(float) * d).sum()
assert abs(numeric - analytic) < 0.05 * abs(analytic) + 0.05, (numeric, analytic)

for wrong in (lambda: m.logits(x[:, :2]), lambda: m.gradient(x, u[:, :3])):
    try:
        wrong()
        raise SystemExit("a wrong shape was taken")
    except ValueError:
        pass
try:
    linnet.Model("no-such-file.onnx")
    raise SystemExit("a missing file was opened")
except linnet.Error as e:
    assert "no-such-file.onnx" in str(e), e

report = m.evaluate(data="synth:300", limit=50)
assert report["format"] == "linnet.eval/1" and report["branches"][0]["clean"]["n"] == 50
try:
    m.evaluate(data="synth:300", attack="pgd:steps=50", progress=lambda *_: True)
    raise SystemExit("progress could not stop the evaluation")
except linnet.Interrupted:
    pass
print("python module: ok, linnet", linnet.version())
