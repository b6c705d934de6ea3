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
    [ "$(grep -o "$file" err | wc -l)" -eq 1 ] || die "the file is named twice: $(cat err)"
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

# Images that are no files are scaled the same way, in memory and streamed.
"$LINNET" data synth:200 --split train+val -o small.npy --labels y.npy -q
for source in synth:200 npy:small.npy,y.npy; do
    expect_exit 0 "$LINNET" data $source --split test --resize 200,bicubic --crop 180x190 -o x.npy --labels z.npy
    expect_exit 0 "$LINNET" data $source --split test -o as_it_is.npy --labels y_test.npy
    cmp -s y_test.npy z.npy || die "$source: labels of scaled images differ"
    "$PYTHON" - <<'END' || die "scaled images of $source differ from Pillow's"
import sys
import numpy as np
from PIL import Image
small, got = np.load("as_it_is.npy"), np.load("x.npy")
if len(small) != len(got) or not len(got):
    sys.exit("counts")
for i, image in enumerate(small):
    p = Image.fromarray(image.transpose(1, 2, 0)).resize((200, 200), Image.Resampling.BICUBIC)
    if (np.asarray(p.crop((5, 10, 195, 190))).transpose(2, 0, 1) != got[i]).any():
        sys.exit(f"image {i}")
END
done
"$PYTHON" -c 'import numpy as np; np.save("floats.npy", np.load("small.npy").astype(np.float32) / 255)'
"$LINNET" init resnet8 --size 48x64 -o wide.onnx -q
expect_error 4 'RGB images of 8 bits' "$LINNET" data npy:floats.npy,y.npy --resize 16 -q
expect_error 4 'RGB images of 8 bits' "$LINNET" train wide.onnx --data npy:floats.npy,y.npy --random-crop --crop 48x64 -o no.onnx -q
expect_error 4 'less than the crop of 40x40' "$LINNET" data synth:50 --crop 40x40 -q
expect_error 4 'resize 64 --crop 48x64 scales them' "$LINNET" eval wide.onnx --data synth:50 --normalize half -q
# 30K: the array is read by rows, and what is scaled from either is streamed.
for source in synth:200 npy:small.npy,y.npy; do
    for memory in all 30K; do
        expect_exit 0 "$LINNET" eval wide.onnx --data $source --resize 64 --crop 48x64 --normalize half --data-memory $memory --attack pgd:steps=2 --json $memory.json
        grep accura $memory.json >$memory.txt
        if grep -q streamed out err; then echo "$source $memory" >>seen.txt; fi
    done
    cmp all.txt 30K.txt || die "accuracy depends on whether scaled images are streamed"
done
[ "$(grep -c ' 30K$' seen.txt)" = 2 ] && [ "$(grep -c ' all$' seen.txt)" = 0 ] || die "streamed: $(cat seen.txt)"
for t in 1 2; do
    expect_exit 0 "$LINNET" train wide.onnx --data synth:50 --random-crop --crop 48x64 --resize 64 --normalize half --batch 16 --epochs 1 --threads $t -o wide$t.onnx -q
done
cmp -s wide1.onnx wide2.onnx || die "random parts of synthetic images depend on the threads"
