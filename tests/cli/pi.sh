# The private-inference package: made, described, validated, the same on one and two threads.
data=synth:3000
model=$SRC/tests/demo/resnet8.onnx
expect_exit 0 "$LINNET" export "$model" -o model.onnx --pi . --data $data --calib 500
expect_exit 0 "$LINNET" validate . --data $data --json v.json
expect_text out '^PASSED'
expect_keys v.json format model n split branches agreement max_abs_diff
expect_exit 0 "$LINNET" validate . --data $data --mode sim2pc --limit 300
expect_text out '^PASSED'
expect_text out 'two-party accuracy'
say "bundled model: $(json v.json agreement) % equal labels on $(json v.json n) images," \
    "$(json v.json accuracy) % (float $(json v.json float_accuracy))"
expect_exit 0 "$LINNET_PI" info model.pi --json -
[ "$(head -c 1 out)" = "{" ] || die "info --json - writes only JSON"
expect_exit 0 "$LINNET_PI" info model.pi
expect_text out '73,?728'
expect_error 3 'model.pi.weights: this is a safetensors file .*not a model.pi' "$LINNET_PI" info model.pi.weights
expect_error 3 'resnet8.onnx: this is an ONNX model, not a model.pi' "$LINNET_PI" info "$model"

# Predictions use the constants of the user's machine.txt; what the package is does not depend on them.
export XDG_CONFIG_HOME=$PWD/config
mkdir -p config/linnet
expect_exit 0 "$LINNET_PI" info model.pi --json built_in.json
expect_keys built_in.json identity branch machine costs
printf 'name = a box\nrlwe.upload = 5\n' >config/linnet/machine.txt
expect_exit 0 "$LINNET_PI" info model.pi --json boxed.json
expect_text out 'constants of a box'
expect_exit 0 "$LINNET" inspect "$model"
expect_text out 'constants of a box'
! grep -q delphi out || die "inspect names a backend that no command can select"
for key in identity model_id commitment; do
    [ "$(json built_in.json $key)" = "$(json boxed.json $key)" ] || die "constants changed $key"
done
expect_number "$(json boxed.json offline_linear_seconds) > $(json built_in.json offline_linear_seconds) + 5" \
    "constants change predictions"
printf 'rlwe.uploads = 5\n' >config/linnet/machine.txt
expect_error 3 "machine.txt: line 1: no constant is called 'rlwe.uploads'" "$LINNET_PI" info model.pi
rm config/linnet/machine.txt
printf '\012\011linnet.pi\020\001' >version_1.pi
expect_error 3 'file version 1.*linnet export MODEL --pi DIR' "$LINNET_PI" info version_1.pi

# The same salt, the same bytes; another salt only changes the salt.
salt=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
for i in 1 2; do
    mkdir salt$i
    expect_exit 0 "$LINNET" export "$model" -o salt$i/model.onnx --pi salt$i --data $data --calib 100 --salt $salt \
        --threads $i
done
expect_same salt1/model.pi salt2/model.pi
expect_same salt1/model.pi.weights salt2/model.pi.weights
expect_same salt1/model.onnx salt2/model.onnx

expect_exit 0 "$LINNET" data $data --limit 200 -o x.npy --labels y.npy
pi_eval() { # MODE THREADS OUTPUT...
    mode=$1 threads=$2
    shift 2
    "$LINNET_PI" eval model.pi --weights model.pi.weights --mode "$mode" --threads "$threads" \
        --input x.npy --labels y.npy "$@"
}
expect_exit 0 pi_eval fixed 1 --output fixed1.npy --json one.json
expect_exit 0 pi_eval fixed 2 --output fixed2.npy --json two.json
expect_exit 0 pi_eval float 2 --output float.npy
expect_same fixed1.npy fixed2.npy
expect_same one.json two.json
expect_different fixed1.npy float.npy
expect_keys one.json format model n split branches clean accuracy ci95 logits_sha256
expect_exit 0 "$LINNET" run model.onnx --input x.npy --output run.npy
expect_exit 0 pi_eval fixed 2 --expect run.npy --atol 0.5
expect_exit 5 pi_eval fixed 2 --expect run.npy --atol 0
expect_text err '^linnet-pi: eval: logits differ'
expect_exit 0 pi_eval fixed 2 --expect fixed1.npy --atol 0

# Verdicts and refusals.
expect_error 2 'outside' "$LINNET" validate . --data $data --limit 20 --min-agreement 100.1
mkdir other
cp model.pi model.pi.weights other
expect_exit 0 "$LINNET" init resnet8 -o other/model.onnx
expect_error 5 'equal labels' "$LINNET" validate other --data $data --limit 100 -q
expect_text out '^FAILED'
cp model.onnx other
flip other/model.pi.weights 5000
expect_error 3 'weights' "$LINNET" validate other --data $data --limit 20 -q
expect_error 3 'weights' "$LINNET_PI" eval other/model.pi --weights other/model.pi.weights --input x.npy

have_shared || { skip_part "real models, there is no folder of them"; return 0; }
cifar=cifar10:$(shared data/cifar10)
manifest >models.txt
while read -r file normalize relus accuracy; do
    mkdir "d_$file"
    expect_exit 0 "$LINNET" export "$(shared "models/$file")" --normalize "$normalize" --data "$cifar" --calib 500 \
        -o "d_$file/model.onnx" --pi "d_$file" -q
    expect_exit 0 "$LINNET" validate "d_$file" --data "$cifar" --limit 500 --json v.json -q
    say "$file: $(json v.json agreement) % equal labels, fixed $(json v.json accuracy) %," \
        "float $(json v.json float_accuracy) %, of 500 ($accuracy of 10,000)"
done <models.txt
