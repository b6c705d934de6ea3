"""Corruptions and AugMix against independent code: python tests/corrupt_check.py LINNET DATA [N]

LINNET writes the first N (100) test images of DATA under every deterministic corruption; numpy, Pillow,
scipy and OpenCV make the same from the clean images. Bytes may differ by 1. Random types are compared
in mean and spread with a plain formula where there is one. Exit 77 where a package is missing.
"""
import io
import os
import subprocess
import sys
import tempfile

try:
    import cv2
    import numpy as np
    from PIL import Image
    from scipy import ndimage
except ImportError as missing:
    print("skipped: %s" % missing)
    sys.exit(77)


def gaussian(x, sigma):
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4)


def defocus(x, p):
    y, c = np.mgrid[-8:9, -8:9]
    disc = np.float32(y * y + c * c <= p[0] ** 2)
    disc = cv2.GaussianBlur(disc / disc.sum(), (3, 3), p[1])
    return cv2.filter2D(x, -1, disc)


def zoom(x, stop):
    side, out = x.shape[0], np.zeros(x.shape, np.float32)
    factors = np.arange(1, stop, .01)
    for f in factors:
        crop = int(np.ceil(side / f))
        top = (side - crop) // 2
        z = ndimage.zoom(np.float32(x[top:top + crop, top:top + crop]), (f, f, 1), order=1)
        trim = (z.shape[0] - side) // 2
        out += z[trim:trim + side, trim:trim + side]
    return (np.float32(x) + out) / (len(factors) + 1)


def hsv(x, a, b, v):
    """Hexcone model, written without the usual six cases: f(k) = V - V S max(min(k, 4-k, 1), 0)."""
    most, least = x.max(-1), x.min(-1)
    span = most - least
    with np.errstate(divide="ignore", invalid="ignore"):
        r, g, bl = (np.nan_to_num((most - x[..., i]) / span) for i in range(3))
        hue = np.where(x[..., 2] == most, 4 + g - r, np.where(x[..., 1] == most, 2 + r - bl, bl - g))
        sat = np.nan_to_num(span / most)
    hue = np.where(span == 0, 0, hue) % 6
    sat, most = np.clip(sat * a + b, 0, 1), np.clip(most + v, 0, 1)
    out = []
    for n in (5, 3, 1):
        k = (n + hue) % 6
        out.append(most - most * sat * np.clip(np.minimum(k, 4 - k), 0, 1))
    return np.stack(out, -1)


def contrast(x, c):
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * c + mean


def bytes_of(x):
    return np.uint8(np.round(x * 255))


def pixelate(x, f):
    side = x.shape[0]
    small = Image.fromarray(bytes_of(x)).resize((int(side * f),) * 2, Image.BOX)
    return np.asarray(small.resize((side, side), Image.BOX))


def jpeg(x, quality):
    out = io.BytesIO()
    Image.fromarray(bytes_of(x)).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


EXACT = {
    "defocus_blur": (defocus, [(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)]),
    "gaussian_blur": (gaussian, [.4, .6, .7, .8, 1]),
    "zoom_blur": (zoom, [1.06, 1.11, 1.16, 1.21, 1.26]),
    "brightness": (lambda x, c: hsv(x, 1, 0, c), [.05, .1, .15, .2, .3]),
    "saturate": (lambda x, p: hsv(x, p[0], p[1], 0), [(.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2)]),
    "contrast": (contrast, [.75, .5, .4, .3, .15]),
    "pixelate": (pixelate, [.95, .9, .85, .75, .65]),
    "jpeg_compression": (jpeg, [80, 65, 58, 50, 40]),
}
# standard deviation of the noise at a value x
NOISE = {
    "gaussian_noise": (lambda x, c: c + 0 * x, [.04, .06, .08, .09, .10]),
    "shot_noise": (lambda x, c: np.sqrt(x / c), [500, 250, 100, 75, 50]),
    "speckle_noise": (lambda x, c: x * c, [.06, .1, .12, .16, .2]),
    "impulse_noise": (lambda x, p: np.sqrt(p * (x * x + (1 - x) ** 2) / 2), [.01, .02, .03, .05, .07]),
}


def check_exact(name, got, clean):
    apply, parameters = EXACT[name]
    worst, off = 0, 0
    n = len(clean)
    for s, p in enumerate(parameters):
        for i in range(n):
            want = apply(clean[i] / 255., p)
            if want.dtype != np.uint8:
                want = np.uint8(np.clip(want, 0, 1) * 255)
            d = np.abs(np.int32(want) - got[s * n + i])
            worst, off = max(worst, d.max()), off + (d > 0).sum()
    print("%-18s largest difference %d, %.4f %% of the bytes differ" % (name, worst,
                                                                       100 * off / got.size))
    return worst <= 1


def check_noise(name, got, clean):
    deviation, parameters = NOISE[name]
    ok, n = True, len(clean)
    for s, p in enumerate(parameters):
        x = clean / 255.
        e = (got[s * n:(s + 1) * n] + .5) / 255 - x
        inside = (x > .45) & (x < .55)  # where hardly anything is clipped
        want = np.sqrt((deviation(x[inside], p) ** 2).mean())
        have = np.sqrt((e[inside] ** 2).mean())
        flat = np.where(inside[:, :, 1:] & inside[:, :, :-1], e[:, :, 1:] * e[:, :, :-1], 0)
        pairs = (inside[:, :, 1:] & inside[:, :, :-1]).sum()
        coupled = flat.sum() / pairs / have ** 2  # of white noise: 0
        ok &= abs(have / want - 1) < .05 and abs(coupled) < .03
        print("%-18s %d deviation %.4f, expected %.4f, neighbours correlate by %.3f"
              % (name, s + 1, have, want, coupled))
    return ok


def main():
    linnet, data, n = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "100"
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        x, y = os.path.join(folder, "x.npy"), os.path.join(folder, "y.npy")
        subprocess.run([linnet, "data", data, "--limit", n, "-o", x, "--labels", y, "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([linnet, "corrupt", "--data", data, "--limit", n, "-o", folder, "-q", "--types",
                        ",".join(list(EXACT) + list(NOISE))], check=True, stdout=subprocess.DEVNULL)
        clean = np.load(x).transpose(0, 2, 3, 1)
        labels = np.load(os.path.join(folder, "labels.npy"))
        ok &= np.array_equal(labels, np.tile(np.load(y), 5))
        for name in EXACT:
            ok &= check_exact(name, np.load(os.path.join(folder, name + ".npy")), clean)
        for name in NOISE:
            ok &= check_noise(name, np.load(os.path.join(folder, name + ".npy")), clean)
    sys.exit(0 if ok else 1)


main()
