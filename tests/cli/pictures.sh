# Every kind of PNG and JPEG reads as Pillow's convert("RGB") has it; files that end early are refused.
if ! { [ -x "$PYTHON" ] && "$PYTHON" -c 'import numpy, PIL' >log 2>&1; }; then
    skip "there is no numpy or Pillow"
fi
check="$SRC/tests/picture_check.py"
"$PYTHON" "$check" make p
expect_exit 0 "$LINNET" data imagefolder:p --split train+val -o x.npy --labels y.npy
"$PYTHON" -W ignore "$check" compare p x.npy || die "pictures differ from Pillow's"
for file in half.jpg no_end.jpg tail.jpg half.png no_end.png; do
    rm -rf q
    mkdir -p q/train/only
    cp "p/broken/$file" q/train/only
    expect_error 4 "$file.*(truncated|too short|rror)" "$LINNET" data imagefolder:q --split train+val -q
done

# Several sizes brought to one: Pillow's filters, the crop of torchvision's CenterCrop.
"$PYTHON" - <<'END'
import os
import numpy as np
from PIL import Image
r = np.random.default_rng(7)
os.makedirs("sizes/cat")
os.makedirs("sizes/dog")
for i, (h, w) in enumerate([(40, 60), (61, 40), (33, 33), (120, 50), (24, 90), (50, 41)]):
    smooth = np.cumsum(np.cumsum(r.integers(-9, 10, (h, w, 3)), 0), 1) % 256
    Image.fromarray(smooth.astype(np.uint8)).save("sizes/%s/%d.png" % ("cat" if i < 3 else "dog", i))
END
expect_error 4 'bring them to one size' "$LINNET" data imagefolder:sizes -q
for filter in bilinear bicubic; do
    expect_exit 0 "$LINNET" data imagefolder:sizes --resize 36,$filter --crop 32x30 -o x.npy --labels y.npy
    expect_text out 'names +0 cat, 1 dog'
    "$PYTHON" - $filter <<'END' || die "scaled pictures differ from Pillow's"
import sys
import numpy as np
from PIL import Image
kind = getattr(Image.Resampling, sys.argv[1].upper())
worst = 0
for i, got in enumerate(np.load("x.npy")):
    p = Image.open("sizes/%s/%d.png" % ("cat" if i < 3 else "dog", i))
    w, h = p.size
    size = (36, int(36 * h / w)) if w <= h else (int(36 * w / h), 36)
    p = p.resize(size, kind)
    top, left = round((p.size[1] - 32) / 2), round((p.size[0] - 30) / 2)
    want = np.asarray(p.crop((left, top, left + 30, top + 32))).transpose(2, 0, 1)
    worst = max(worst, abs(want.astype(int) - got).max())
print("largest difference", worst)
sys.exit(int(worst > 1))
END
done
expect_error 2 '--resize.*36,nearest' "$LINNET" data imagefolder:sizes --resize 36,nearest -q
expect_error 2 '--crop.*32' "$LINNET" data imagefolder:sizes --crop 32 -q
expect_error 4 'for image folders' "$LINNET" data synth:50 --resize 16 -q
