"""Writes tests/vec/augmix.txt: what Pillow makes of the operations of AugMix.

    python tests/vec/augmix.py TEST_BATCH_BIN > tests/vec/augmix.txt        (made with Pillow 13.0.0)

A line is "kind index" and one CRC-32 an operation, in the order of enum augmix_kind. The CRC runs
over the results at all levels, each with positive, then negative sign; bytes in [C,H,W] order.
Kind `made`: pictures of the generator below, which test_augmix.c repeats. Kind `cifar`: picture
37 * index of the file of CIFAR-10's test images.
"""
import sys
import zlib

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LEVELS = [np.float32(v) for v in (0.1, 0.5, 1, 2, 2.5, 2.9, 9.9)]
N_OPS = 13


def whole(level, most):
    return int(float(level) * most / 10)


def fraction(level, most):
    return float(level) * most / 10.0


def affine(image, matrix):
    return image.transform(image.size, Image.AFFINE, matrix, resample=Image.BILINEAR)


def apply(op, image, level, sign):
    w, h = image.size
    if op == 0:
        return ImageOps.autocontrast(image)
    if op == 1:
        return ImageOps.equalize(image)
    if op == 2:
        return ImageOps.posterize(image, 4 - whole(level, 4))
    if op == 3:
        return image.rotate(sign * whole(level, 30), resample=Image.BILINEAR)
    if op == 4:
        return ImageOps.solarize(image, 256 - whole(level, 256))
    if op == 5:
        return affine(image, (1, sign * fraction(level, 0.3), 0, 0, 1, 0))
    if op == 6:
        return affine(image, (1, 0, 0, sign * fraction(level, 0.3), 1, 0))
    if op == 7:
        return affine(image, (1, 0, sign * whole(level, w / 3), 0, 1, 0))
    if op == 8:
        return affine(image, (1, 0, 0, 0, 1, sign * whole(level, h / 3)))
    kind = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness,
            ImageEnhance.Sharpness)[op - 9]
    return kind(image).enhance(fraction(level, 1.8) + 0.1)


def made(index):
    """[3,H,W]: noise, slopes with noise, few values, little contrast, nearly constant."""
    h, w = (24, 40) if index % 10 == 9 else (32, 32)
    state = (index * 2654435761 + 1) & 0xFFFFFFFF
    out = np.empty((3, h, w), np.uint8)
    for c in range(3):
        for y in range(h):
            for x in range(w):
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                r = state >> 24
                out[c, y, x] = (r, (x * 5 + y * 3 * c + (r >> 4)) & 255, (r & 3) * 60 + index,
                                100 + (r >> 3), 200 if r < 250 else r)[index % 5]
    return out


def line(kind, index, chw):
    image = Image.fromarray(np.ascontiguousarray(chw.transpose(1, 2, 0)))
    crcs = []
    for op in range(N_OPS):
        crc = 0
        for level in LEVELS:
            for sign in (1, -1):
                out = np.asarray(apply(op, image, level, sign))
                crc = zlib.crc32(np.ascontiguousarray(out.transpose(2, 0, 1)).tobytes(), crc)
        crcs.append("%08x" % crc)
    print(kind, index, *crcs)


for i in range(60):
    line("made", i, made(i))
cifar = np.fromfile(sys.argv[1], np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
for i in range(40):
    line("cifar", i, cifar[37 * i])
