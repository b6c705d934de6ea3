"""Writes tests/vec/corrupt_random.txt: moments of the random corruptions, by the libraries that the
published script calls, and motion blur by ImageMagick itself.

    python tests/vec/corrupt_random.py > tests/vec/corrupt_random.txt

Lines "type severity side" and then ten pairs "mean deviation" over the draws: of the result's mean, its
variance, and its mean squared differences at distances 1, 2, 4, 8 along rows and along columns (which
hold what the power spectrum holds). Lines "motion radius sigma angle hex": one channel of the picture
of side 32. Needs numpy, OpenCV, scipy, scikit-image and the program `convert`.
"""
import subprocess
import sys
import cv2
import numpy as np
from scipy.ndimage import map_coordinates
from skimage.filters import gaussian
from corrupt import clipped_zoom, made

rng = np.random.default_rng(5)
DRAWS = 300


def motion(image, radius, sigma, angle):
    n = 2 * int(np.ceil(radius)) + 1
    k = np.exp(-np.arange(n) ** 2 / (2 * sigma ** 2))
    k /= k.sum()
    t = np.deg2rad(angle)
    h, w = image.shape[:2]
    out = np.zeros(image.shape)
    for i in range(n):
        dx, dy = int(np.ceil(i * np.cos(t) - .5)), int(np.ceil(i * np.sin(t) - .5))
        rows, cols = np.clip(np.arange(h) + dy, 0, h - 1), np.clip(np.arange(w) + dx, 0, w - 1)
        out += k[i] * image[rows][:, cols]
    return np.floor(257 * out + .5) // 257  # 16 bits, then truncated to 8


def gaussian_noise(x, c):
    return x + rng.normal(size=x.shape, scale=c)


def speckle_noise(x, c):
    return x + x * rng.normal(size=x.shape, scale=c)


def shot_noise(x, c):
    return rng.poisson(x * c) / c


def impulse_noise(x, amount):
    u, salt = rng.random(x.shape) < amount, rng.random(x.shape) < .5
    return np.where(u, np.where(salt, 1., 0.), x)


def glass_blur(x, c):
    sigma, delta, times = c
    x = np.uint8(gaussian(x, sigma=sigma, channel_axis=-1) * 255)
    side = x.shape[0]
    for _ in range(times):
        for h in range(side - delta, delta, -1):
            for w in range(side - delta, delta, -1):
                dx, dy = rng.integers(-delta, delta, size=2)
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return gaussian(x / 255., sigma=sigma, channel_axis=-1)


def motion_blur(x, c):
    return motion(np.round(x * 255), c[0], c[1], rng.uniform(-45, 45)) / 255 + 1e-6


def snow(x, c):
    x = np.float32(x)
    layer = rng.normal(size=x.shape[:2], loc=c[0], scale=c[1])[..., np.newaxis]
    layer = clipped_zoom(layer, c[2]).copy()
    layer[layer < c[3]] = 0
    layer = np.uint8(np.clip(layer.squeeze(), 0, 1) * 255)
    layer = motion(layer, c[4], c[5], rng.uniform(-135, -45))[..., np.newaxis] / 255.
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    x = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + .5)
    return x + layer + np.rot90(layer, k=2)


def plasma(size, decay):
    a = np.empty((size, size))
    a[0, 0] = 0
    step, wibble = size, 100

    def mean(b):
        return b / 4 + wibble * rng.uniform(-wibble, wibble, b.shape)

    while step >= 2:
        half = step // 2
        corner = a[0:size:step, 0:size:step]
        acc = corner + np.roll(corner, -1, 0)
        acc += np.roll(acc, -1, 1)
        a[half:size:step, half:size:step] = mean(acc)
        dr, ul = a[half:size:step, half:size:step], a[0:size:step, 0:size:step]
        a[0:size:step, half:size:step] = mean(dr + np.roll(dr, 1, 0) + ul + np.roll(ul, -1, 1))
        a[half:size:step, 0:size:step] = mean(dr + np.roll(dr, 1, 1) + ul + np.roll(ul, -1, 0))
        step //= 2
        wibble /= decay
    a -= a.min()
    return a / a.max()


def fog(x, c):
    most = x.max()
    return (x + c[0] * plasma(x.shape[0], c[1])[..., np.newaxis]) * most / (most + c[0])


def elastic_transform(x, c):
    side = x.shape[0]
    alpha, sigma, affine = (side * v for v in c)
    x = np.float32(x)
    centre, q = np.float32([side // 2, side // 2]), side // 3
    one = np.float32([centre + q, [centre[0] + q, centre[1] - q], centre - q])
    two = one + rng.uniform(-affine, affine, size=one.shape).astype(np.float32)
    x = cv2.warpAffine(x, cv2.getAffineTransform(one, two), (side, side),
                       borderMode=cv2.BORDER_REFLECT_101)
    d = [gaussian(rng.uniform(-1, 1, size=(side, side)), sigma, mode="reflect", truncate=3) * alpha
         for _ in range(2)]
    col, row = np.meshgrid(np.arange(side), np.arange(side))
    return np.stack([map_coordinates(x[..., k], [row + d[1], col + d[0]], order=1, mode="reflect")
                     for k in range(3)], -1)


def spatter(x, c):
    x = np.float32(x)
    liquid = gaussian(rng.normal(size=x.shape[:2], loc=c[0], scale=c[1]), sigma=c[2])
    liquid[liquid < c[3]] = 0
    if c[5] == 1:
        m = gaussian(np.float32(np.where(liquid > c[3], 1, 0)), sigma=c[4])
        m[m < .8] = 0
        m = m[..., np.newaxis]
        return x * (1 - m) + m * np.array([63, 42, 20]) / 255.
    liquid = np.uint8(np.int64(liquid * 255) & 255)
    dist = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    dist = np.uint8(cv2.blur(np.minimum(dist, 20), (3, 3)))
    dist = cv2.filter2D(cv2.equalizeHist(dist), cv2.CV_8U,
                        np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    m = liquid * np.float32(cv2.blur(dist, (3, 3)))
    m = m / max(m.max(), 1e-9) * c[4]
    return x + m[..., np.newaxis] * np.array([175, 238, 238]) / 255.


TYPES = {
    "gaussian_noise": (gaussian_noise, [.04, .06, .08, .09, .10], [.04, .08, .12, .15, .18]),
    "shot_noise": (shot_noise, [500, 250, 100, 75, 50], [250, 100, 50, 30, 15]),
    "impulse_noise": (impulse_noise, [.01, .02, .03, .05, .07], [.01, .02, .05, .08, .14]),
    "glass_blur": (glass_blur, [(.05, 1, 1), (.25, 1, 1), (.4, 1, 1), (.25, 1, 2), (.4, 1, 2)],
                   [(.1, 1, 1), (.5, 1, 1), (.6, 1, 2), (.7, 2, 1), (.9, 2, 2)]),
    "motion_blur": (motion_blur, [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
                    [(10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)]),
    "snow": (snow, [(.1, .2, 1, .6, 8, 3, .95), (.1, .2, 1, .5, 10, 4, .9),
                    (.15, .3, 1.75, .55, 10, 4, .9), (.25, .3, 2.25, .6, 12, 6, .85),
                    (.3, .3, 1.25, .65, 14, 12, .8)],
             [(.1, .2, 1, .6, 8, 3, .8), (.1, .2, 1, .5, 10, 4, .8), (.15, .3, 1.75, .55, 10, 4, .7),
              (.25, .3, 2.25, .6, 12, 6, .65), (.3, .3, 1.25, .65, 14, 12, .6)]),
    "fog": (fog, [(.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)],
            [(.4, 3), (.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)]),
    "elastic_transform": (elastic_transform, [(0, 0, .08), (.05, .2, .07), (.08, .06, .06),
                                              (.1, .04, .05), (.1, .03, .03)],
                          [(0, 0, .08), (.05, .3, .06), (.1, .08, .06), (.1, .03, .03),
                           (.16, .03, .02)]),
    "speckle_noise": (speckle_noise, [.06, .1, .12, .16, .2], [.15, .2, .25, .3, .35]),
    "spatter": (spatter, [(.62, .1, .7, .7, .5, 0), (.65, .1, .8, .7, .5, 0), (.65, .3, 1, .69, .5, 0),
                          (.65, .1, .7, .69, .6, 1), (.65, .1, .5, .68, .6, 1)],
                [(.62, .1, .7, .7, .6, 0), (.65, .1, .8, .7, .6, 0), (.65, .3, 1, .69, .6, 0),
                 (.65, .1, .7, .68, .6, 1), (.65, .1, .5, .67, .6, 1)]),
}


def moments(image):
    v = image / 255.
    out = [v.mean(), v.var()]
    for lag in (1, 2, 4, 8):
        out.append(((v[:, lag:] - v[:, :-lag]) ** 2).mean())
        out.append(((v[lag:] - v[:-lag]) ** 2).mean())
    return out


def main():
    for name, (apply, small, large) in TYPES.items():
        for side in (32, 64):
            draws = DRAWS if side == 32 or name != "glass_blur" else DRAWS // 5
            for severity in range(1, 6):
                x = made(side) / 255.
                c = (small if side == 32 else large)[severity - 1]
                m = np.array([moments(np.uint8(np.clip(apply(x.copy(), c), 0, 1) * 255))
                              for _ in range(draws)])
                pairs = np.stack([m.mean(0), m.std(0)], 1).ravel()
                print(name, severity, side, " ".join("%.6g" % p for p in pairs))
    image = np.ascontiguousarray(made(32)[..., 1])
    pgm = b"P5 32 32 255\n" + image.tobytes()
    for radius, sigma, angle in ((6, 1, 0), (6, 2, 30), (8, 2, -44), (9, 2.5, 17.3), (10, 4, -90),
                                 (12, 6, -133.7), (14, 12, -61.5)):
        arg = "%gx%g%+g" % (radius, sigma, angle)
        out = subprocess.run(["convert", "pgm:-", "-motion-blur", arg, "-depth", "8", "gray:-"],
                             input=pgm, stdout=subprocess.PIPE, check=True).stdout
        own = motion(image, radius, sigma, angle)
        if np.abs(own - np.frombuffer(out, np.uint8).reshape(32, 32)).max() > 0:
            sys.exit("motion: ImageMagick disagrees at " + arg)
        print("motion", radius, sigma, angle, out.hex())


main()
