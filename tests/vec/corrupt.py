"""Writes tests/vec/corrupt.txt: the corruptions without randomness, by the libraries that the
published script calls (numpy, OpenCV, scipy, scikit-image, Pillow).

    python tests/vec/corrupt.py > tests/vec/corrupt.txt

A line is "type severity side step hex": every step-th byte of the result in [C,H,W] order for the
picture of the generator below, which test_corrupt.c repeats. Sides up to 48 use the parameters for
CIFAR, 64 those for Tiny-ImageNet.
"""
import io

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import zoom
from skimage import color
from skimage.filters import gaussian


def made(side):
    state = side
    out = np.empty((3, side, side), np.uint8)
    for c in range(3):
        for y in range(side):
            for x in range(side):
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                noise = state >> 26
                out[c, y, x] = (x * (9 - 3 * c) + y * (2 + 4 * c) + 40 * c + noise) & 255
    return np.ascontiguousarray(out.transpose(1, 2, 0))


def disk(radius, alias):
    grid = np.arange(-8, 9)
    x, y = np.meshgrid(grid, grid)
    d = np.array((x ** 2 + y ** 2) <= radius ** 2, dtype=np.float32)
    return cv2.GaussianBlur(d / d.sum(), ksize=(3, 3), sigmaX=alias)


def clipped_zoom(image, factor):
    h = image.shape[0]
    ch = int(np.ceil(h / factor))
    top = (h - ch) // 2
    image = zoom(image[top:top + ch, top:top + ch], (factor, factor, 1), order=1)
    trim = (image.shape[0] - h) // 2
    return image[trim:trim + h, trim:trim + h]


def defocus_blur(x, p):
    return np.stack([cv2.filter2D(x[:, :, c], -1, disk(*p)) for c in range(3)], 2)


def gaussian_blur(x, sigma):
    return gaussian(x, sigma=sigma, channel_axis=-1)


def zoom_blur(x, stop):
    x = x.astype(np.float32)
    factors = np.arange(1, stop, 0.01)
    out = np.zeros_like(x)
    for f in factors:
        out += clipped_zoom(x, f)
    return (x + out) / (len(factors) + 1)


def hsv(x, a, b, v):
    x = color.rgb2hsv(x)
    x[:, :, 1] = np.clip(x[:, :, 1] * a + b, 0, 1)
    x[:, :, 2] = np.clip(x[:, :, 2] + v, 0, 1)
    return color.hsv2rgb(x)


def contrast(x, c):
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * c + mean


def pixelate(x, factor):
    side = x.shape[0]
    image = Image.fromarray(np.uint8(np.round(x * 255)))
    small = image.resize((int(side * factor),) * 2, Image.BOX)
    return np.asarray(small.resize((side, side), Image.BOX)) / 255.0


def jpeg(x, quality):
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.round(x * 255))).save(buffer, "JPEG", quality=quality)
    return (np.asarray(Image.open(buffer)) + 0.5) / 255.0


TYPES = {
    "defocus_blur": (defocus_blur, [(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)],
                     [(.5, .6), (1, .1), (1.5, .1), (2.5, .01), (3, .1)]),
    "gaussian_blur": (gaussian_blur, [.4, .6, .7, .8, 1], [.5, .75, 1, 1.25, 1.5]),
    "zoom_blur": (zoom_blur, [1.06, 1.11, 1.16, 1.21, 1.26], [1.06, 1.11, 1.16, 1.21, 1.26]),
    "brightness": (lambda x, c: hsv(x, 1, 0, c), [.05, .1, .15, .2, .3], [.1, .2, .3, .4, .5]),
    "saturate": (lambda x, p: hsv(x, p[0], p[1], 0), [(.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2)],
                 [(.3, 0), (.1, 0), (2, 0), (5, .1), (30, .2)]),
    "contrast": (contrast, [.75, .5, .4, .3, .15], [.4, .3, .2, .1, .05]),
    "pixelate": (pixelate, [.95, .9, .85, .75, .65], [.9, .8, .7, .6, .5]),
    "jpeg_compression": (jpeg, [80, 65, 58, 50, 40], [65, 58, 50, 40, 25]),
}


def main():
    for name, (apply, small, large) in TYPES.items():
        for side, step in ((12, 3), (32, 29), (64, 97)):
            for severity in range(1, 6):
                x = made(side) / 255.0
                out = apply(x, (large if side > 48 else small)[severity - 1])
                out = np.uint8(np.clip(out, 0, 1) * 255).transpose(2, 0, 1).ravel()[::step]
                print(name, severity, side, step, out.tobytes().hex())


if __name__ == "__main__":
    main()
