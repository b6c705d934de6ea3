"""Networks of the zoo, written for export tests: random weights, batch norm that does something."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def randomise(model, seed):
    """Batch norm with statistics and scales far from the neutral ones; weights as initialised."""
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)):
            n = m.num_features
            if m.weight is not None:
                m.weight.data = 0.5 + torch.rand(n, generator=g)
                m.bias.data = 0.4 * torch.randn(n, generator=g)
            m.running_mean = 0.3 * torch.randn(n, generator=g)
            m.running_var = 0.3 + torch.rand(n, generator=g)
        elif isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None:
            m.bias.data = 0.1 * torch.randn(m.bias.shape, generator=g)
    return model.eval()


def settle(model, x, seed):
    """A deep network's batch norm fitted to x, then moved a little, so that values stay in range
    through any number of blocks; weights as initialised."""
    g = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for m in norms:
        n = m.num_features
        m.weight.data = 0.8 + 0.4 * torch.rand(n, generator=g)
        m.bias.data = 0.2 * torch.randn(n, generator=g)
        m.running_mean += 0.1 * m.running_var.sqrt() * torch.randn(n, generator=g)
        m.running_var *= 0.8 + 0.4 * torch.rand(n, generator=g)
    return model.eval()


class Depthwise(nn.Module):
    """MobileNet of the first kind: depthwise 3x3 and 1x1 in turn, BN and an activation behind each."""

    def __init__(self, act=nn.ReLU, width=16, classes=10):
        super().__init__()

        def part(cin, cout, kernel, stride, groups=1):
            return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups,
                                           bias=False), nn.BatchNorm2d(cout), act())

        parts, c = [part(3, width, 3, 1)], width
        for stride in 1, 2, 1, 2, 1:
            parts += [part(c, c, 3, stride, c), part(c, c * stride, 1, 1)]
            c *= stride
        self.body, self.fc = nn.Sequential(*parts), nn.Linear(c, classes)

    def forward(self, x):
        return self.fc(self.body(x).mean([2, 3]))


class OptionA(nn.Module):
    """Strided identity with zero channels on both sides: no parameters."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


class OptionAJoined(nn.Module):
    """The same for twice the channels, the zeros made of the picture itself and behind it."""

    def forward(self, x):
        x = F.avg_pool2d(x, 1, 2)
        return torch.cat((x, x.mul(0)), 1)


class Basic(nn.Module):
    def __init__(self, cin, cout, stride, shortcut="B", act=nn.ReLU):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.act1, self.act2 = act(), act()
        self.short = nn.Identity()
        if stride != 1 or cin != cout:
            if shortcut == "A":
                self.short = OptionA(cout - cin)
            elif shortcut == "A, joined":
                self.short = OptionAJoined()
            else:
                self.short = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False),
                                           nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(y)) + self.short(x))


class ResNetCifar(nn.Module):
    """head: how pooling and flattening are said."""

    def __init__(self, n=1, width=8, shortcut="B", head="adaptive", classes=10, act=nn.ReLU,
                 size=32):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = act()
        blocks, cin = [], width
        for stage in range(3):
            for i in range(n):
                cout = width << stage
                blocks.append(Basic(cin, cout, 2 if stage and not i else 1, shortcut, act))
                cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.head, self.size = head, size // 4
        self.fc = nn.Linear(cin * (self.size**2 if head == "flat" else 1), classes)

    def forward(self, x):
        x = self.blocks(self.act(self.bn(self.conv(x))))
        if self.head == "adaptive":
            x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        elif self.head == "mean":
            x = x.mean([2, 3])
        elif self.head == "mean_keep":
            x = x.mean((-1, -2), keepdim=True).squeeze(3).squeeze(2)
        elif self.head == "view_mean":
            x = x.view(x.size(0), x.size(1), -1).mean(2)
        elif self.head == "avg_view":
            x = F.avg_pool2d(x, self.size)
            x = x.view(x.size(0), -1)
        elif self.head == "reshape":
            x = F.avg_pool2d(x, x.size()[3])
            x = x.reshape(-1, x.shape[1])
        else:
            x = torch.flatten(x, 1)
        return self.fc(x)


class PreAct(nn.Module):
    """Block of a wide ResNet: BN, ReLU, conv, twice; the BN after an Add cannot be folded."""

    def __init__(self, cin, cout, stride, drop=0.0):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(cin), nn.BatchNorm2d(cout)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.drop = nn.Dropout(drop)
        self.short = None
        if stride != 1 or cin != cout:
            self.short = nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        h = F.relu(self.bn1(x))
        y = self.conv2(self.drop(F.relu(self.bn2(self.conv1(h)))))
        return y + (x if self.short is None else self.short(h))


class WideResNet(nn.Module):
    def __init__(self, n=1, k=1, drop=0.0, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        blocks, cin = [], 8
        for stage in range(3):
            for i in range(n):
                cout = (8 << stage) * k
                blocks.append(PreAct(cin, cout, 2 if stage and not i else 1, drop))
                cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(cin)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.conv(x))))
        x = F.avg_pool2d(x, 8)
        return self.fc(x.view(-1, x.shape[1]))


class Vnn(nn.Module):
    """Shape of the verification benchmarks: no pooling, a ReLU between two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.b1, self.b2 = Basic(8, 16, 2), Basic(16, 16, 1)
        self.fc1, self.fc2 = nn.Linear(16 * 64, 40), nn.Linear(40, 10)

    def forward(self, x):
        x = self.b2(self.b1(F.relu(self.conv(x))))
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


class Stem(nn.Module):
    """ImageNet stem: 7x7 stride 2, max pool 3x3 stride 2; groups as in ResNeXt."""

    def __init__(self, groups=1, classes=10, pool="max"):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool == "max" else nn.AvgPool2d(3, 2, 1)
        self.reduce = nn.Conv2d(16, 16, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.expand = nn.Conv2d(16, 32, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.short = nn.Conv2d(16, 32, 1)
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn(self.conv(x))))
        y = F.relu(self.bn1(self.reduce(x)))
        y = self.bn3(self.expand(F.relu(self.bn2(self.grouped(y)))))
        x = F.relu(y + self.short(x))
        return self.fc(x.mean([2, 3]))


class Normalised(nn.Module):
    """Normalisation inside of the model, and a Softmax behind it."""

    def __init__(self, body, softmax=False, scale=1.0):
        super().__init__()
        self.body, self.softmax, self.scale = body, softmax, scale
        self.register_buffer("means", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("deviations", torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1))

    def forward(self, x):
        y = self.body((x * self.scale - self.means) / self.deviations)
        return F.softmax(y, dim=1) if self.softmax else y


class Two(nn.Module):
    """Logits and features: two outputs."""

    def __init__(self):
        super().__init__()
        self.body = ResNetCifar()
        self.extra = nn.Linear(10, 3)

    def forward(self, x):
        y = self.body(x)
        return y, self.extra(y)


class LogSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = ResNetCifar()

    def forward(self, x):
        return F.log_softmax(self.body(x), dim=1)


class Shared(nn.Module):
    """Two layers with one weight and one bias."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1)
        self.a = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = F.relu(self.a(x))
        x = F.relu(self.a(x) + x)
        return self.fc(x.mean([2, 3]))


class Squeeze(nn.Module):
    """Squeeze-and-excitation: refused."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, 1, 1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.body(x))
        g = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.fc((x * g).mean([2, 3]))


class Dense(nn.Module):
    """Concatenation of different things: refused."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1)
        self.more = nn.Conv2d(8, 4, 3, 1, 1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = F.relu(torch.cat([x, self.more(x)], 1))
        return self.fc(x.mean([2, 3]))
