"""Tar shards of distinct JPEGs, 10 classes, in the layout of WebDataset, for tests/long/data.sh.

    shards.py FOLDER IMAGES SIDE [SEED]        FOLDER/train/0000.tar ..., FOLDER/val/0000.tar (a hundredth)

An image is noise of 7x7 pixels, scaled up, with one more patch that says its class."""
import io
import os
import sys
import tarfile

import numpy as np
from PIL import Image

PER_SHARD = 2500


def image(r, label, side):
    small = r.integers(40, 216, (7, 7, 3), dtype=np.uint8)
    small[2:5, 2:5] = [(label * 53 + 40) % 256, (label * 101 + 80) % 256, (label * 29 + 120) % 256]
    out = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR).save(out, "JPEG", quality=85)
    return out.getvalue()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write(folder, images, side, r):
    os.makedirs(folder, exist_ok=True)
    for first in range(0, images, PER_SHARD):
        with tarfile.open("%s/%04d.tar" % (folder, first // PER_SHARD), "w") as tar:
            for k in range(first, min(first + PER_SHARD, images)):
                label = int(r.integers(10))
                add(tar, "%08d.jpg" % k, image(r, label, side))
                add(tar, "%08d.cls" % k, b"%d" % label)


def main(folder, images, side, seed=1):
    r = np.random.default_rng(int(seed))
    write(folder + "/train", int(images), int(side), r)
    write(folder + "/val", max(int(images) // 100, 20), int(side), r)


main(*sys.argv[1:])
