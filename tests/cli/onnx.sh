# Files of other programs on the command line: two files, functions, chosen outputs, orders; what
# importers for private inference get.
small=$SRC/tests/zoo/small

expect_exit 0 "$LINNET" run "$small/dy29_two_files.onnx" --input "$small/x.npy" --output y.npy -q
expect_exit 0 "$LINNET" export "$small/dy29_two_files.onnx" -o one.onnx -q
expect_exit 0 "$LINNET" run one.onnx --input "$small/x.npy" --output z.npy -q
cmp y.npy z.npy || die "written again, the outputs differ"
expect_exit 0 "$LINNET" export one.onnx --external-data -o two.onnx -q
[ -e two.onnx.data ] || die "no second file"
expect_exit 0 "$LINNET" run two.onnx --input "$small/x.npy" --output z.npy -q
cmp y.npy z.npy || die "from two files, the outputs differ"
rm two.onnx.data
expect_exit 3 "$LINNET" run two.onnx --input "$small/x.npy" --output z.npy -q
expect_text err "two.onnx.data"

expect_exit 0 "$LINNET" run "$small/ts113_softmax.onnx" --strip-softmax --input "$small/x.npy" --output y.npy -q
expect_exit 0 "$LINNET" export "$small/ts113_softmax.onnx" --strip-softmax -o logits.onnx -q
expect_exit 0 "$LINNET" run logits.onnx --input "$small/x.npy" --output z.npy -q
cmp y.npy z.npy || die "logits of the file and of the file without Softmax differ"
expect_exit 3 "$LINNET" run "$small/ts113_softmax.onnx" --output-name nothing --input "$small/x.npy" --output y.npy
expect_text err "E1504"
expect_exit 2 "$LINNET" run "$small/ts113_softmax.onnx" --input-shape x:1,3,8 --input "$small/x.npy" --output y.npy
expect_text err "NAME:1,C,H,W"

expect_exit 3 "$LINNET" lint "$small/ts113_option_a.onnx" --for crypten --json lint.json -q
expect_exit 0 "$LINNET" export "$small/ts113_option_a.onnx" --for crypten -o crypten.onnx -q
expect_exit 0 "$LINNET" lint crypten.onnx --for crypten
expect_exit 2 "$LINNET" export "$small/ts113_option_a.onnx" --for ezpc --masked-relu where -o e.onnx
expect_exit 2 "$LINNET" lint crypten.onnx

# ---- the graph as text; arrays in the order that the file declares; metadata that say nothing -------
expect_exit 0 "$LINNET" inspect "$small/ts113_option_a.onnx" --graph
cp out graph.txt
[ "$(head -n 1 graph.txt)" = "input x [N,3,8,8]" ] || die "first line: $(head -n 1 graph.txt)"
tail -n 1 graph.txt | grep -q "^output .* \[N,10\]$" || die "last line: $(tail -n 1 graph.txt)"
expect_exit 0 "$LINNET" export "$small/ts113_option_a.onnx" -o again.onnx -q
expect_exit 0 "$LINNET" inspect again.onnx --graph
cmp out graph.txt || die "written again, the graph is another text"
[ "$(wc -l <graph.txt)" -gt 10 ] || die "fewer lines than nodes"

cat >order.py <<'END'
import struct, sys
raw = open(sys.argv[1], "rb").read()
head = 10 + int.from_bytes(raw[8:10], "little")
shape = eval(raw[10:head].decode())["shape"]
n, c, h, w = shape
x = struct.unpack("<%df" % (n * c * h * w), raw[head:])
last = [x[((i * c + k) * h + y) * w + v] for i in range(n) for y in range(h) for v in range(w) for k in range(c)]
text = ("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d, %d, %d), }" % (n, h, w, c)).ljust(117) + "\n"
open(sys.argv[2], "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + struct.pack("<%df" % len(last), *last))
END
python3 order.py "$small/x.npy" last.npy
expect_exit 0 "$LINNET" run "$small/keras_channels_last.onnx" --input "$small/x.npy" --output y.npy -q
expect_exit 0 "$LINNET" run "$small/keras_channels_last.onnx" --input last.npy --output z.npy -q
cmp y.npy z.npy || die "an array in the file's own order gives other outputs"
expect_exit 4 "$LINNET" run "$small/ts113_softmax.onnx" --input last.npy --output z.npy -q

python3 - "$SRC/tests/demo/resnet8.onnx" <<'END'
import sys
raw = open(sys.argv[1], "rb").read()
at = raw.index(b"linnet.normalize") + len(b"linnet.normalize")
n = raw[at + 1]
open("damaged.onnx", "wb").write(raw[:at + 2] + b"x" * n + raw[at + 2 + n:])
END
for command in "inspect damaged.onnx" "eval damaged.onnx --data synth:" "export damaged.onnx -o e.onnx" \
    "run damaged.onnx --input $small/x.npy --output z.npy" "linearize damaged.onnx --data synth: --relus 50% -o d"; do
    expect_exit 3 "$LINNET" $command
    expect_text err "its metadata linnet.normalize"
done

# ---- what --normalize auto tells of images that the model was not made for -----------------------
demo=$SRC/tests/demo/resnet8.onnx
auto() { # DATA: the warnings
    expect_exit 0 "$LINNET" eval "$2" --data "$1" --normalize auto --limit 20
    grep -c 'warning\[E160' err >warnings || :
}
expect_exit 0 "$LINNET" init resnet8 -o untrained.onnx -q
auto synth:400 untrained.onnx
expect_text err 'warning\[E1604\].*guessing one of 10 classes'
[ "$(cat warnings)" -eq 1 ] || die "an untrained model: $(cat warnings) warnings"

# Images with colours and an up and down that no model can miss; its own answers are the labels.
expect_exit 0 "$LINNET" data synth:400 -o x.npy --labels y.npy -q
cat >images.py <<'END'
import struct, sys

def read(name):
    raw = open(name, "rb").read()
    head = 10 + int.from_bytes(raw[8:10], "little")
    return raw[:head], raw[head:]

if sys.argv[1] == "images":
    head, x = read("x.npy")
    x = bytes(v * (3 - k // 1024 % 3) // 3 * (64 if k % 32 < 16 else 32) // 64 for k, v in enumerate(x))
    planes = [x[k:k + 1024] for k in range(0, len(x), 1024)]
    turned = [b"".join(p[h::32] for h in range(32)) for p in planes]
    bgr = [planes[k - k % 3 + 2 - k % 3] for k in range(len(planes))]
    for name, rows in ("right", planes), ("turned", turned), ("bgr", bgr):
        open(name + ".npy", "wb").write(head + b"".join(rows))
else:
    (head, y), (_, z) = read("y.npy"), read("z.npy")
    n = len(z) // 40
    rows = [struct.unpack_from("<10f", z, 40 * k) for k in range(n)]
    open("own.npy", "wb").write(head + b"".join(r.index(max(r)).to_bytes(len(y) // n, "little") for r in rows))
END
python3 images.py images
expect_exit 0 "$LINNET" run "$demo" --input right.npy --output z.npy --normalize half -q
python3 images.py labels
auto npy:right.npy,own.npy "$demo"
[ "$(cat warnings)" -eq 0 ] || die "the right images: $(cat warnings) warnings"
auto npy:bgr.npy,own.npy "$demo"
expect_text err 'warning\[E1605\].*red and blue'
[ "$(cat warnings)" -eq 1 ] || die "swapped colours: $(cat warnings) warnings"
auto npy:turned.npy,own.npy "$demo"
expect_text err 'warning\[E1605\].*height and width'
[ "$(cat warnings)" -eq 1 ] || die "turned images: $(cat warnings) warnings"
say "--normalize auto warns of chance, of swapped colours and of turned images"

# ---- inspect takes the options that the file needs ------------------------------------------------
expect_exit 3 "$LINNET" inspect "$SRC/tests/bad/two_outputs.onnx"
expect_text err 'output-name'
expect_exit 0 "$LINNET" inspect "$SRC/tests/bad/two_outputs.onnx" --output-name y
expect_exit 2 "$LINNET" inspect "$demo" --input-shape 1,3,8
expect_text err 'NAME:1,C,H,W'

# ---- provenance ------------------------------------------------------------------------------------
expect_exit 0 "$LINNET" train "$demo" --data synth:300 --epochs 1 --batch 30 --adversarial pgd:eps=4/255,steps=1 \
    --val-attack-images 10 -o trained.onnx -q
for text in linnet.data synth linnet.eps 4/255 linnet.seed linnet.version linnet.accuracy.clean \
    linnet.accuracy.pgd 'val images'; do
    grep -aqF "$text" trained.onnx || die "trained.onnx says nothing of $text"
done
grep -aqF "$(pwd)" trained.onnx && die "trained.onnx names a folder of this machine"
expect_exit 0 "$LINNET" train trained.onnx --data synth:100 --epochs 1 --batch 30 -o again.onnx -q
grep -aqF 'not measured' again.onnx || die "again.onnx keeps the accuracy of the model before it"

# ---- a network that cannot run privately is still trained, written and reported -------------------
python3 - "$demo" <<'END'
import sys
raw = open(sys.argv[1], "rb").read()
open("product.onnx", "wb").write(raw.replace(b"\x22\x03Add", b"\x22\x03Mul"))
END
mkdir product
touch product/model.pi product/model.pi.weights # of another network
expect_exit 0 "$LINNET" linearize product.onnx --data synth:100 --relus 50% --preset none --eval-attack-images 0 \
    --eval-corrupt-images 0 -o product
expect_text err "no model.pi: node '.*' \(Mul\) cannot run privately"
for file in model.onnx checkpoint.safetensors report.json report.html; do
    [ -s "product/$file" ] || die "product has no $file"
done
[ ! -e product/model.pi ] && [ ! -e product/model.pi.weights ] || die "product has a package"
say "a network without private inference: everything but the package"
