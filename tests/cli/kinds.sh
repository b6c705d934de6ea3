# One array means one thing in both programs: floats are pixels in [0,1] unless --input-kind says otherwise.
expect_exit 0 "$LINNET" export "$SRC/tests/demo/resnet8.onnx" -o m.onnx --pi . --data synth:200 --calib 50
# array FILE TYPE BYTES FILL: two images of zeros in [2,3,32,32], the first pixel set
array() {
    printf '%-127s\n' "{'descr': '$2', 'fortran_order': False, 'shape': (2, 3, 32, 32), }" >head
    { printf '\223NUMPY\001\000\200\000' && cat head && head -c $((2 * 3072 * $3)) /dev/zero; } >"$1"
    poke "$1" 138 "$4"
}
array bytes.npy '|u1' 1 '\377'
array pixels.npy '<f4' 4 '\000\000\200\077' # 1
array rounded.npy '<f4' 4 '\001\000\200\077' # the next float above 1
array two.npy '<f4' 4 '\000\000\000\100'
array nan.npy '<f4' 4 '\000\000\300\177'
pi() { "$LINNET_PI" eval model.pi -w model.pi.weights "$@"; }
for x in bytes pixels rounded; do
    expect_exit 0 "$LINNET" run m.onnx --input $x.npy --output $x.run.npy
    for mode in float fixed; do expect_exit 0 pi -m $mode -i $x.npy -o $x.$mode.npy; done
    expect_exit 0 pi -m float -i $x.npy --expect $x.run.npy --atol 1e-2
    for how in run float fixed; do expect_same bytes.$how.npy $x.$how.npy; done
done
expect_exit 0 "$LINNET" run m.onnx --input pixels.npy --input-kind normalized --output normalized.npy
expect_exit 0 pi -m float -i pixels.npy --input-kind normalized --expect normalized.npy --atol 1e-2
expect_exit 5 pi -m float -i bytes.npy --expect normalized.npy --atol 1e-2
for x in two nan; do
    expect_error 4 'no pixel in \[0,1\].*--input-kind normalized' "$LINNET" run m.onnx --input $x.npy --output y.npy
    expect_error 4 'no pixel in \[0,1\].*--input-kind normalized' "$LINNET_PI" eval model.pi -w model.pi.weights -i $x.npy
done
expect_error 4 'uint8 pixels are not normalised' "$LINNET" run m.onnx --input bytes.npy --input-kind normalized --output y.npy
expect_error 4 'uint8 pixels are not normalised' "$LINNET_PI" eval model.pi -w model.pi.weights -i bytes.npy --input-kind normalized
expect_error 2 'nothing to do' "$LINNET" run m.onnx --input two.npy --input-kind normalized --normalize half --output y.npy
[ ! -e y.npy ] || die "a refused array gave outputs"
