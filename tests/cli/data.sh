# Layouts of data: one set of pictures in every layout reads as the same bytes.
same_data() { # SOURCE: its test split equals x.npy and y.npy
    expect_exit 0 "$LINNET" data "$1" -o got.npy --labels labels.npy
    expect_same got.npy x.npy
    expect_same labels.npy y.npy
}

if have_shared; then
    mini_cifar mini
    tar -cf mini.tar mini
    tar -czf cifar-10-binary.tar.gz mini
    for split in test val train; do
        expect_exit 0 "$LINNET" data mini --split $split -o a.npy --labels b.npy
        for archive in mini.tar cifar10:cifar-10-binary.tar.gz; do
            expect_exit 0 "$LINNET" data "$archive" --split $split -o c.npy --labels d.npy
            expect_text out 'CIFAR-10 binary archive'
            expect_same a.npy c.npy
            expect_same b.npy d.npy
        done
    done
    expect_text out 'WARNING: MD5 [0-9a-f]*, published c32a1d4ab5d03f1284b67883e8d87530'
    tar -czf short.tar.gz mini/batches.meta 2>/dev/null || tar -czf short.tar.gz mini/test_batch.bin
    expect_error 4 'archive: ' "$LINNET" data short.tar.gz --split train -q
    head -c 5000 cifar-10-binary.tar.gz >cut.tar.gz
    expect_error 4 'cut.tar.gz.*archive' "$LINNET" data cut.tar.gz -q
else
    skip_part "archives of CIFAR-10, there is no shared folder"
fi

# One set without parts: cut by seed; sources of their own beside it; what was trained on is no test.
model=$SRC/tests/demo/resnet8.onnx
expect_exit 0 "$LINNET" data synth:400 --split train+val -o x.npy --labels y.npy
expect_exit 0 "$LINNET" data synth:400 -o x2.npy --labels y2.npy
expect_exit 0 "$LINNET" data npy:x.npy,y.npy --split train
expect_text out 'one set, cut by class with seed 1: a tenth for testing, a tenth of the rest for validation'
expect_exit 0 "$LINNET" data npy:x.npy,y.npy --split train --test-data npy:x2.npy,y2.npy
expect_text out 'no test images, a tenth of the rest'
expect_exit 0 "$LINNET" eval "$model" --data npy:x.npy,y.npy --json a.json
expect_text a.json '"split": "all"'
expect_exit 0 "$LINNET" eval "$model" --data npy:x.npy,y.npy --test-data npy:x2.npy,y2.npy --json a.json
expect_text a.json '"split": "test"'
expect_text a.json '"n": 80'
expect_error 4 'test images.*are training images' "$LINNET" linearize "$model" --relus 50% --preset none -q \
    --data npy:x.npy,y.npy --test-data npy:x.npy,y.npy -o cut
expect_error 4 'validation images.*are training images' "$LINNET" train "$model" --epochs 1 -q \
    --data npy:x.npy,y.npy --val-data npy:x.npy,y.npy -o t.onnx
expect_exit 0 "$LINNET" linearize "$model" --relus 50% --preset none \
    --data npy:x.npy,y.npy --test-data npy:x2.npy,y2.npy -o cut --json a.json
expect_text err '360 train, 40 validation, 80 test images'

if [ -x "$PYTHON" ] && "$PYTHON" -c 'import numpy, PIL' >log 2>&1; then
    expect_exit 0 "$LINNET" data synth:200 -o x.npy --labels y.npy
    "$PYTHON" - <<'END'
import os, pickle, zipfile
import numpy as np
from PIL import Image
x, y = np.load("x.npy"), np.load("y.npy")
n = len(x)
rows = x.reshape(n, 3072)
for folder, protocol in (("py2", 2), ("py4", 4)):
    os.mkdir(folder)
    for i in range(1, 6):
        with open("%s/data_batch_%d" % (folder, i), "wb") as f:
            pickle.dump({"data": rows, "labels": [int(v) for v in y]}, f, protocol)
    with open("%s/test_batch" % folder, "wb") as f:
        pickle.dump({b"batch_label": b"testing", "labels": [int(v) for v in y], "data": rows,
                     "filenames": ["a%d.png" % i for i in range(n)]}, f, protocol)
os.mkdir("hundred")
for name in ("train", "test"):
    with open("hundred/" + name, "wb") as f:
        pickle.dump({"data": rows, "fine_labels": [int(v) for v in y],
                     "coarse_labels": [0] * n}, f, 2)
with open("evil", "wb") as f:
    pickle.dump(os.system, f, 2)
np.savez("one.npz", images=x, labels=y)
np.savez_compressed("two.npz", x_train=x[:10], y_train=y[:10], x_test=x.transpose(0, 2, 3, 1), y_test=y)
order = np.argsort(y, kind="stable")
np.savez("med.npz", train_images=x[:10], train_labels=y[:10, None], val_images=x[10:30],
         val_labels=y[10:30, None], test_images=x.transpose(0, 2, 3, 1), test_labels=y[:, None])
f = (x / np.float32(255)).astype(np.float32)
os.mkdir("forms")
np.save("forms/fortran.npy", np.asfortranarray(x))
np.save("forms/hwc.npy", x.transpose(0, 2, 3, 1))
np.save("forms/int64.npy", x.astype(np.int64))
np.save("forms/big.npy", f.astype(">f4"))
np.save("forms/double.npy", f.astype(np.float64))
np.save("forms/float_hwc.npy", f.transpose(0, 2, 3, 1))
np.save("forms/above.npy", (f * np.float32(1.0000001)).astype(np.float32))
np.save("half.npy", f.astype(np.float16))
np.save("labels_onehot.npy", np.eye(10)[y])
np.save("labels_column.npy", y[:, None].astype(np.int16))
np.save("xs.npy", x[order])
np.save("ys.npy", y[order])
pictures = [Image.fromarray(p.transpose(1, 2, 0)) for p in x]
for part in ("train", "val"):
    for c in range(10):
        os.makedirs("tree/%s/class%d" % (part, c))
for i, p in enumerate(pictures):
    for part in ("train", "val"):
        p.save("tree/%s/class%d/%05d.png" % (part, y[i], i))
os.makedirs("tiny/val/images")
ids = ["n%05d" % (c * 7) for c in range(10)]
with open("tiny/wnids.txt", "w") as f:
    f.write("\n".join(reversed(ids)) + "\n")
with open("tiny/val/val_annotations.txt", "w") as f:
    for i, p in enumerate(pictures):
        p.save("tiny/val/images/val_%d.JPEG" % i, "PNG")
        f.write("val_%d.JPEG\t%s\t0\t0\t31\t31\n" % (i, ids[y[i]]))
for c in range(10):
    os.makedirs("tiny/train/%s/images" % ids[c])
grey = Image.fromarray(x[0, 0])
for c in range(10):
    grey.save("tiny/train/%s/images/a.JPEG" % ids[c], "JPEG")
with zipfile.ZipFile("py2.zip", "w") as z:
    for name in os.listdir("py2"):
        z.write("py2/" + name)
grey.save("grey.jpg")
np.save("grey.npy", np.asarray(Image.open("grey.jpg").convert("RGB")).transpose(2, 0, 1)[None].repeat(10, 0))
END
    for source in py2 py4 cifar10:py2 py2.zip cifar100:hundred one.npz two.npz tiny; do
        same_data "$source"
    done
    expect_text out 'Tiny-ImageNet folder'
    for file in forms/*.npy; do # 8 bits either way: floats come back to the same steps
        for labels in y.npy labels_onehot.npy labels_column.npy; do
            expect_exit 0 "$LINNET" data "npy:$file,$labels" -o got.npy --labels labels.npy
            expect_same labels.npy y.npy
            "$PYTHON" -c 'import sys, numpy as n
a, b = n.load("got.npy"), n.load("x.npy")
a = a if a.dtype == n.uint8 else n.rint(a * 255)
sys.exit(not (a == b).all())' || die "$file reads otherwise"
        done
    done
    expect_exit 0 "$LINNET" data npy:half.npy,y.npy
    expect_text out 'all: 40 images|all: 200 images'
    same_data med.npz
    expect_exit 0 "$LINNET" data med.npz --split val
    expect_text out 'val: 20 images'
    mkdir unpacked unpacked100
    cp -r py2 unpacked/cifar-10-batches-py
    cp -r hundred unpacked100/cifar-100-python
    same_data unpacked
    same_data unpacked100
    cp xs.npy x.npy
    cp ys.npy y.npy
    same_data tree
    same_data imagefolder:tree/val
    tar -cf tree.tar tree
    tar -czf tree.tar.gz -C tree train val
    tar -cJf tree.tar.xz ./tree
    tar -czf flat.tgz -C tree val
    "$PYTHON" -m zipfile -c tree.zip tree
    "$PYTHON" -m zipfile -c tiny.zip tiny
    for source in tree.tar tree.tar.gz tree.tar.xz tree.zip imagefolder:tree.zip flat.tgz; do
        same_data "$source"
        expect_text out "image archive"
    done
    head -c 20000 tree.tar.gz >cut.tgz
    expect_error 4 'cut.tgz.*archive' "$LINNET" data cut.tgz -q
    mkfifo fifo.tar
    expect_error 4 'regular file' "$LINNET" data fifo.tar -q
    expect_exit 0 "$LINNET" data tiny --split train+val -o got.npy --labels labels.npy
    expect_same got.npy grey.npy
    expect_exit 0 "$LINNET" data tiny.zip --split train+val -o got.npy --labels labels.npy
    expect_same got.npy grey.npy
    expect_text out 'Tiny-ImageNet archive'
    expect_error 4 "'npz:' is none of cifar10:.*give 'one.npz' alone" "$LINNET" data npz:one.npz -q
    cp evil py2/test_batch
    expect_error 4 "posix.system' is not allowed" "$LINNET" data py2 -q
    cp grey.jpg tree/val/class0/0.png
    head -c 300 grey.jpg >tree/val/class9/zz.jpg
    expect_error 4 'zz.jpg.*JPEG' "$LINNET" data tree -q
    printf 'x' >tree/val/class9/zz.jpg
    expect_error 4 'zz.jpg.*neither a JPEG nor a PNG' "$LINNET" data tree -q
else
    skip_part "pickles, pictures and .npz, there is no numpy or Pillow"
fi

# A file that asks for a program to unpack it does not get one started.
mkdir programs
printf '#!/bin/sh\n: >started\n' >programs/lrzip
chmod +x programs/lrzip
printf 'LRZI\000\006%0100d' 0 >asks.tar
expect_exit 4 env PATH="$PWD/programs:$PATH" "$LINNET" data asks.tar -q
expect_text err 'asks.tar.*archive'
[ ! -e started ] || die "asks.tar started a program"

# Names out of a file reach the terminal as text on one line.
mkdir -p "odd/a$(printf '\033')[2J" odd/b
printf 'x' | tee odd/b/1.png >"odd/a$(printf '\033')[2J/1.png"
expect_error 4 "'odd': 'a[?].2J/1.png'" "$LINNET" data imagefolder:odd -q
