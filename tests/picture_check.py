"""Pictures of every kind of PNG and JPEG: what linnet reads against Pillow's convert("RGB").

    picture_check.py make FOLDER          writes FOLDER/train/only/*.png, *.jpg and FOLDER/broken/*
    picture_check.py compare FOLDER X.npy largest difference: PNG 0, JPEG 1

PNG files are written here chunk by chunk, because Pillow writes only some kinds."""
import io
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image

SIDE = 24


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values, bits):
    """Rows of samples, the first one in the high bits."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in values]
    if bits == 8:
        return [row.astype(np.uint8).tobytes() for row in values]
    per = 8 // bits
    return [bytes(int(sum(int(v) << (8 - bits * (k + 1)) for k, v in enumerate(row[i:i + per])))
                  for i in range(0, len(row), per)) for row in values]


def png(colour, bits, samples, extra=(), interlace=False):
    """samples [SIDE][SIDE][channels] in 0 ... 2^bits - 1."""
    side = samples.shape[0]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                  (1, 0, 2, 1)]
    raw = b""
    for y, x, dy, dx in passes:
        part = samples[y::dy, x::dx]
        rows = part.reshape(part.shape[0], -1)
        if rows.size:
            raw += b"".join(b"\0" + row for row in packed(rows, bits))
    head = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, int(interlace))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunk(*e) for e in extra) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def png_files(r):
    gamma = (b"gAMA", struct.pack(">I", 100000))
    srgb = (b"sRGB", b"\0")
    kinds = {0: ("grey", (1, 2, 4, 8, 16), 1), 2: ("rgb", (8, 16), 3), 3: ("palette", (1, 2, 4, 8), 1),
             4: ("greyalpha", (8, 16), 2), 6: ("rgba", (8, 16), 4)}
    for colour, (name, depths, channels) in kinds.items():
        for bits in depths:
            samples = r.integers(0, 1 << bits, (SIDE, SIDE, channels))
            extra, clear = [], []
            if colour == 3:
                size = 1 << bits
                extra = [(b"PLTE", r.integers(0, 256, 3 * size, dtype=np.uint8).tobytes())]
                clear = [(b"tRNS", r.integers(0, 256, size, dtype=np.uint8).tobytes())]
            if colour in (0, 2):
                clear = [(b"tRNS", struct.pack(">%dH" % channels, *samples[0, 0]))]
            for interlace in (False, True):
                for tag, before, after in (("", [], []), ("_gamma", [gamma], []), ("_srgb", [srgb], []),
                                           ("_clear", [], clear)):
                    if tag == "_clear" and not clear:
                        continue
                    label = "%s%d%s%s" % (name, bits, tag, "_interlaced" if interlace else "")
                    yield label, png(colour, bits, samples, before + extra + after, interlace)
    short = r.integers(0, 16, (SIDE, SIDE, 1))
    yield "palette_short", png(3, 8, short, [(b"PLTE", bytes(range(30)))])


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def jpeg_files(r):
    smooth = np.cumsum(np.cumsum(r.integers(-9, 10, (SIDE, SIDE, 4)), 0), 1) % 256
    image = Image.fromarray(smooth[:, :, :3].astype(np.uint8))
    inks = Image.frombytes("CMYK", (SIDE, SIDE), smooth.astype(np.uint8).tobytes())
    for quality in (30, 75, 95):
        for subsampling in (0, 1, 2):
            yield "q%d_s%d" % (quality, subsampling), jpeg(image, quality=quality, subsampling=subsampling)
    yield "progressive", jpeg(image, progressive=True)
    yield "grey", jpeg(image.convert("L"))
    yield "cmyk", jpeg(inks)
    yield "cmyk_rough", jpeg(inks, quality=20, subsampling=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "turned", jpeg(image, exif=exif)


def make(folder):
    r = np.random.default_rng(5)
    only, broken = os.path.join(folder, "train", "only"), os.path.join(folder, "broken")
    os.makedirs(only)
    os.makedirs(broken)
    files = {}
    for name, data in png_files(r):
        files[name + ".png"] = data
    for name, data in jpeg_files(r):
        files[name + ".jpg"] = data
    for name, data in files.items():
        with open(os.path.join(only, name), "wb") as f:
            f.write(data)
    whole = files["q75_s2.jpg"]
    cut = {"half.jpg": whole[:len(whole) // 2], "no_end.jpg": whole[:-2], "tail.jpg": whole[:-20],
           "half.png": files["rgb8.png"][:700], "no_end.png": files["rgb8.png"][:-12]}
    for name, data in cut.items():
        with open(os.path.join(broken, name), "wb") as f:
            f.write(data)


def compare(folder, path):
    only = os.path.join(folder, "train", "only")
    names = sorted(os.listdir(only))
    ours = np.load(path)
    assert len(ours) == len(names), (ours.shape, len(names))
    if ours.shape[1] == 3:
        ours = ours.transpose(0, 2, 3, 1)
    worst = {".png": 0, ".jpg": 0}
    for image, name in zip(ours, names):
        theirs = Image.open(os.path.join(only, name))
        if name.startswith("grey16"):
            want = np.asarray(theirs).astype(np.int64)[:, :, None].repeat(3, 2) >> 8
        else:
            want = np.asarray(theirs.convert("RGB")).astype(np.int64)
        difference = int(abs(image.astype(np.int64) - want).max())
        kind = os.path.splitext(name)[1]
        worst[kind] = max(worst[kind], difference)
        if difference > (kind == ".jpg"):
            print("%s differs by %d" % (name, difference))
    print("%d pictures, largest difference PNG %d, JPEG %d" % (len(names), worst[".png"], worst[".jpg"]))
    return worst[".png"] > 0 or worst[".jpg"] > 1


def broken(folder):
    """What Pillow says of the cut files: one word a line."""
    for name in sorted(os.listdir(os.path.join(folder, "broken"))):
        try:
            Image.open(os.path.join(folder, "broken", name)).convert("RGB")
            print(name, "read")
        except (OSError, SyntaxError, ValueError) as e:
            print(name, "refused:", e)


if __name__ == "__main__":
    sys.exit({"make": make, "compare": compare, "broken": broken}[sys.argv[1]](*sys.argv[2:]) or 0)
