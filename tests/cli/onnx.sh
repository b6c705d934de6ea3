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
