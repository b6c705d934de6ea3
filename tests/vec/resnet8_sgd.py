#!/usr/bin/env python3
"""Makes resnet8_sgd.inc: ten SGD steps of a ResNet-8, computed by PyTorch on the CPU.

    python3 tests/vec/resnet8_sgd.py > tests/vec/resnet8_sgd.inc

Weights and images come from a formula that test_resnet8_grad.c has too, rounded to float32; the
training itself runs in float64 (stored) and in float32 (its deviation is printed as a comment).
Only needed to make the file again; needs torch and numpy.
"""
import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CLASSES, SIDE, BATCH, STEPS, RATE = 10, 16, 16, 10, 0.05


def formula(name, n):
    phase = float(sum((k + 1) * b for k, b in enumerate(name.encode())))
    s = np.sin(np.arange(n, dtype=np.float64) * 12.9898 + phase * 0.78233) * 43758.5453
    return 2 * (s - np.floor(s)) - 1


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False),
                                            nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2))
        self.layer3 = nn.Sequential(Block(32, 64, 2))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        mean = torch.tensor(np.float32([.4914, .4822, .4465])).to(x.dtype).view(3, 1, 1)
        std = torch.tensor(np.float32([.2023, .1994, .2010])).to(x.dtype).view(3, 1, 1)
        x = F.relu(self.bn1(self.conv1((x - mean) / std)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def set_by_formula(net):
    for name, p in net.named_parameters():
        scale, base = 0.1, 0.0
        if p.dim() == 4:
            scale = math.sqrt(6.0 / (p.shape[0] * p.shape[2] * p.shape[3]))
        if p.dim() == 1 and "weight" in name:
            base = 1.0
        v = np.float32(base + scale * formula(name, p.numel()))
        with torch.no_grad():
            p.copy_(torch.from_numpy(v).view(p.shape))


def images(step, dtype):
    v = np.float32(0.5 + 0.5 * formula("images %d" % step, BATCH * 3 * SIDE * SIDE))
    return torch.from_numpy(v).to(dtype).view(BATCH, 3, SIDE, SIDE)


def train(dtype):
    net = ResNet8().to(dtype)
    set_by_formula(net)
    labels = torch.tensor([i * 7 % CLASSES for i in range(BATCH)])
    opt = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    curve = []
    for step in range(STEPS):
        opt.zero_grad()
        loss = F.cross_entropy(net(images(step % 2, dtype)), labels)
        loss.backward()
        opt.step()
        curve.append(loss.item())
    net.eval()
    with torch.no_grad():
        logits = net(images(1, dtype)).norm().item()
    return net, curve, logits


def main():
    net, curve, logits = train(torch.float64)
    single = train(torch.float32)[1]
    print("/* Made by resnet8_sgd.py with PyTorch %s in float64; do not edit. The same in float32"
          % torch.__version__.split("+")[0])
    print(" * deviates by at most %.1e relative. */"
          % max(abs(a - b) / a for a, b in zip(curve, single)))
    print("enum { SGD_CLASSES = %d, SGD_SIDE = %d, SGD_BATCH = %d, SGD_STEPS = %d };"
          % (CLASSES, SIDE, BATCH, STEPS))
    print("#define SGD_RATE %g" % RATE)
    print("static const double sgd_loss[SGD_STEPS] = {")
    for v in curve:
        print("    %.17g," % v)
    print("};")
    print("/* Euclidean norms after the last step, and of all logits of the last images. */")
    print("static const struct {\n    const char *name;\n    double norm;\n} sgd_norm[] = {")
    for name, v in net.state_dict().items():
        if "num_batches" not in name:
            print('    {"%s", %.17g},' % (name, v.norm().item()))
    print("};")
    print("static const double sgd_logits_norm = %.17g;" % logits)


main()
