# No command overwrites what it reads, by whatever name; outputs have a place before work begins.
model=$SRC/tests/demo/resnet8.onnx
cp "$model" m.onnx
expect_exit 0 "$LINNET" data synth:40 -o x.npy --labels y.npy
mkdir pi
expect_exit 0 "$LINNET" export m.onnx --pi pi --data synth:200 --calib 50
ln pi/model.pi.weights hard
ln -s x.npy soft.npy
cp -r pi before
cp m.onnx x.npy y.npy before
intact() {
    for intact_file in m.onnx x.npy y.npy; do expect_same $intact_file before/$intact_file; done
    for intact_file in model.pi model.pi.weights; do expect_same pi/$intact_file before/$intact_file; done
}
# keeps OPTION OTHER PROGRAM COMMAND...: refused with both named, nothing touched.
keeps() {
    keeps_out=$1 keeps_in=$2
    shift 2
    expect_error 2 "$keeps_out '[^']*' is an input, $keeps_in '[^']*', and would be overwritten" "$@"
    intact
}
w=pi/model.pi.weights
# The twelve that were seen.
keeps --output --weights "$LINNET_PI" eval pi/model.pi -w $w -i x.npy --output $w
keeps --output --input "$LINNET_PI" eval pi/model.pi -w $w -i x.npy --output x.npy
keeps --json --weights "$LINNET_PI" eval pi/model.pi -w $w -i x.npy --json $w
keeps --json --input "$LINNET_PI" eval pi/model.pi -w $w -i x.npy --json x.npy
keeps --json MODEL.pi "$LINNET_PI" info pi/model.pi --json pi/model.pi
keeps --output --input "$LINNET_PI" query pi/model.pi --connect 127.0.0.1:1 -i x.npy --output x.npy
keeps --json MODEL "$LINNET" inspect m.onnx --json m.onnx
keeps --json MODEL "$LINNET" lint m.onnx --for crypten --json m.onnx
keeps --json 'MODEL|CHECKPOINT' "$LINNET" eval m.onnx --data synth:20 --json m.onnx
keeps --json --data "$LINNET" eval m.onnx --data npy:x.npy,y.npy --json y.npy
keeps --labels SRC "$LINNET" data npy:x.npy,y.npy --labels y.npy
keeps --output --data "$LINNET" export m.onnx -o x.npy --pi other --data npy:x.npy,y.npy
# By other names, and where an output is checked by its command alone.
keeps --json --weights "$LINNET_PI" eval pi/model.pi -w $w -i x.npy --json hard
keeps --output --input "$LINNET" run m.onnx --input x.npy --output soft.npy
keeps --json --val-data "$LINNET" train m.onnx --data synth:100 --val-data npy:x.npy,y.npy -o t.onnx --json ./y.npy
keeps --json --masks "$LINNET" linearize m.onnx --data synth:100 --relus 9 --masks pi/model.pi -o l --json pi/model.pi
[ ! -e l ] || die "a refused command made its folder"
mkdir photos
cp x.npy photos
keeps --json --data "$LINNET" eval m.onnx --data imagefolder:photos --json photos/x.npy
expect_same photos/x.npy x.npy
expect_error 2 '--output and --labels both write' "$LINNET" data synth:20 -o one.npy --labels ./one.npy
[ ! -e one.npy ] || die "one file was written"
# A page or a report beside what it describes may be written again, the files described may not.
expect_exit 0 "$LINNET" export m.onnx -o pi/model.onnx --pi pi --data synth:200 --calib 50
for i in 1 2; do expect_exit 0 "$LINNET" validate pi --data synth:20 --json pi/validate.json; done
cp pi/model.onnx model.onnx
expect_error 2 'is an input, DIR' "$LINNET" validate pi --data synth:20 --json pi/model.onnx
expect_same pi/model.onnx model.onnx

# Before any work, not after it: the query has a bundle to lose and no server to ask.
for out in /nonexistent/x pi /dev/null; do
    expect_error 1 '--json: cannot write' "$LINNET" eval m.onnx --data nosuch:1 --json $out
    expect_error 1 '--output: cannot write' "$LINNET_PI" query pi/model.pi --connect 127.0.0.1:1 -i x.npy --output $out
done
touch note
expect_error 1 "--pi .note. is a file" "$LINNET" export m.onnx --pi note --data synth:100
no_temporaries .

# ---- a file in a folder that the same command makes ------------------------------------------------
expect_exit 0 "$LINNET" export m.onnx -o fresh/model.onnx --pi fresh --data synth:100 --calib 20 -q
[ -s fresh/model.onnx ] && [ -s fresh/model.pi ] || die "fresh/ is not filled"
expect_error 1 'cannot write absent/model.onnx' "$LINNET" export m.onnx -o absent/model.onnx --pi fresh --data synth:100 --calib 20 -q
