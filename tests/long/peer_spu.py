"""Measures SecretFlow SPU's Cheetah on ResNet shapes for 32x32 images: seconds and bytes of one image.

Usage: peer_spu.py resnet18|resnet20 [IMAGES]

Random weights (timing does not depend on them), batch norm folded into the convolutions, weights and image
both secret, FM64. Both parties are threads of this process, joined by SPU's in-memory link. The figure is
the run of the compiled program: what Cheetah needs from the image to the shared logits, its OT set-up in the
first run included. SPU's own profile on stderr says how many bytes each party sent ("Link details").
"""
import json
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import spu.api as spu_api
from spu import libspu
from spu.utils import frontend


def conv(x, w, b, stride):
    y = jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME" if stride == 1 else [(w.shape[2] // 2,) * 2] * 2,
                                     dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y + b[None, :, None, None]


def shapes(name):
    """[(in, out, kernel, stride)] in execution order, blocks of (conv, conv, shortcut or None)."""
    widths, blocks = ([64, 128, 256, 512], 2) if name == "resnet18" else ([16, 32, 64], 3)
    stem, c, plan = (3, widths[0], 3, 1), widths[0], []
    for stage, w in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            cut = (c, w, 1, stride) if stride == 2 and name == "resnet18" else None
            plan.append(((c, w, 3, stride), (w, w, 3, 1), cut, stride))
            c = w
    return stem, plan, c


def network(name):
    rng = np.random.default_rng(1)
    stem, plan, last = shapes(name)
    params = []

    def add(s):
        i, o, k, _ = s
        params.append((rng.normal(0, (2 / (i * k * k)) ** 0.5, (o, i, k, k)).astype(np.float32),
                       np.zeros(o, np.float32)))

    add(stem)
    for a, b, cut, _ in plan:
        add(a)
        add(b)
        if cut:
            add(cut)
    params.append((rng.normal(0, 0.05, (last, 10)).astype(np.float32), np.zeros(10, np.float32)))

    def forward(x, params):
        p = iter(params)
        x = jax.nn.relu(conv(x, *next(p), 1))
        for a, _, cut, stride in plan:
            y = jax.nn.relu(conv(x, *next(p), stride))
            y = conv(y, *next(p), 1)
            if cut:
                x = conv(x, *next(p), stride)
            elif stride == 2:  # the shortcut without weights: every second pixel, new channels zero
                x = x[:, :, ::2, ::2]
                x = jnp.pad(x, ((0, 0), (a[1] // 4, a[1] // 4), (0, 0), (0, 0)))
            x = jax.nn.relu(x + y)
        w, b = next(p)
        return x.mean(axis=(2, 3)) @ w + b

    return forward, params


def run(name, images):
    forward, params = network(name)
    x = np.random.default_rng(2).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    flat, _ = jax.tree_util.tree_flatten(((x, params), {}))
    config = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.CHEETAH, field=libspu.FieldType.FM64)
    config.enable_pphlo_profile = True
    names = [f"in{i}" for i in range(len(flat))]
    program, _ = frontend.compile(frontend.Kind.JAX, forward, (x, params), {}, names,
                                  [libspu.Visibility.VIS_SECRET] * len(flat),
                                  lambda out: [f"out{i}" for i in range(len(out))])
    io = spu_api.Io(2, config)
    shares = [io.make_shares(v, libspu.Visibility.VIS_SECRET) for v in flat]
    desc = libspu.link.Desc()
    desc.recv_timeout_ms = 600 * 1000  # a busy machine
    for rank in range(2):
        desc.add_party(f"id_{rank}", f"thread_{rank}")
    results, outputs = [[], []], [None, None]

    def party(rank):
        link = libspu.link.create_mem(desc, rank)
        runtime = spu_api.Runtime(link, config)
        for n, s in zip(names, shares):
            runtime.set_var(n, s[rank])
        for _ in range(images):
            start = time.monotonic()
            runtime.run(program)
            results[rank].append(time.monotonic() - start)
        outputs[rank] = [runtime.get_var(n) for n in program.output_names]

    threads = [threading.Thread(target=party, args=(r,)) for r in range(2)]
    cpu = time.process_time()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    cpu = time.process_time() - cpu
    got = io.reconstruct([outputs[0][0], outputs[1][0]])
    want = np.array(forward(x, params))
    for k in range(images):
        row = {"peer": "SPU Cheetah", "network": name, "image": k + 1,
               "seconds": round(max(results[0][k], results[1][k]), 3),
               "cpu_seconds_both": round(cpu / images, 3),
               "largest_error": float(np.abs(got - want).max())}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
