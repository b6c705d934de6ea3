# What a user mistypes, names oddly or breaks off: the right reason, the right exit code, nothing silent.
"$LINNET" init resnet8 -o a.onnx -q
quick="--data synth:100 --normalize half --preset none"

# ---- help ------------------------------------------------------------------------------------------
for program in "$LINNET" "$LINNET_PI"; do
    "$program" --help >whole
    expect_exit 0 "$program" help
    expect_same out whole
    "$program" info --help >one 2>/dev/null || "$program" eval --help >one
    grep -q 'Usage: linnet-pi info' one && name=info || name=eval
    expect_exit 0 "$program" help $name
    expect_same out one
    expect_exit 2 "$program" help nothing
    expect_text err "unknown command 'nothing'"
done
expect_exit 0 "$LINNET" init --help
tr -s ' \n' '  ' <out >line
# shellcheck disable=SC2013
for arch in $(sed 's/.*ARCH is one of \([a-z0-9_, ]*\).*/\1/; s/,//g' line); do
    expect_exit 0 "$LINNET" init "$arch" -o arch.onnx -q --size 32x32
    archs="${archs:-}$arch "
done
[ "$archs" = "resnet8 resnet20 resnet32 resnet18 resnet34 resnet50 wrn16_4 wrn22_8 wrn28_10 " ] || die "init --help: $archs"
rm arch.onnx

# ---- budgets ---------------------------------------------------------------------------------------
# shellcheck disable=SC2086
budget() { expect_exit "$1" "$LINNET" linearize a.onnx $quick --eval-attack-images 1 --eval-corrupt-images 1 --relus "$2" -o "$3"; }
budget 2 101% no
expect_text err "'101%': is more than all"
budget 2 1.5 no
budget 0 0.1 tenth
expect_text out '^ReLUs .* 7372$'
budget 0 10% percent
expect_same tenth/model.onnx percent/model.onnx
! grep -q 'warning: --relus' err || die "a budget that is one"
budget 0 0.001% nothing
expect_text err 'warning: --relus 0.001% of 73728 ReLUs is less than one: none is kept'
budget 0 0 zero
! grep -q 'warning: --relus' err || die "0 was asked for"

# ---- without training there is neither recipe nor accuracy in the file -------------------------------
grep -aq linnet.relus percent/model.onnx || die "no budget in the file"
for key in linnet.recipe linnet.accuracy linnet.data linnet.eps; do
    ! grep -aq $key percent/model.onnx || die "an untrained network has $key"
done
grep -q '<th>teacher (not trained)' percent/report.html || die "the page calls the teacher $(grep -o '<th>[a-z ]*teacher[^<]*' percent/report.html)"

# ---- masks that do not fit are refused before anything is evaluated or trained -----------------------
expect_exit 0 "$LINNET" init resnet20 -o other.onnx -q
for masks in other.onnx "percent/model.onnx --relus 20%" nosuch.onnx; do
    # shellcheck disable=SC2086
    expect_exit "1 2" "$LINNET" linearize a.onnx --data synth:100 --normalize half --masks $masks -o masks
    [ "$(wc -l <err)" -eq 1 ] && [ ! -e masks ] || die "work was done before the masks $masks were looked at: $(cat err)"
done

# ---- names that are no UTF-8 ------------------------------------------------------------------------
odd=$(printf 'caf\351')
cp a.onnx "$odd.onnx"
for command in inspect "eval --data synth:100 --normalize half" "export --for crypten -o x.onnx" "lint --for crypten"; do
    # shellcheck disable=SC2086
    set -- $command
    name=$1
    shift
    expect_exit "0 3" "$LINNET" "$name" "$odd.onnx" "$@" --json j.json
    ! grep -q 'memory' err || die "$command: $(cat err)"
done
expect_exit 0 "$LINNET" eval "$odd.onnx" --data synth:100 --normalize half --json j.json
grep -qF '"model": "caf\\xe9.onnx"' j.json || die "the name in JSON: $(grep '"model"' j.json)"
# shellcheck disable=SC2086
expect_exit 0 "$LINNET" linearize "$odd.onnx" $quick --relus 10% --eval-attack-images 1 --eval-corrupt-images 1 -o "$odd"
expect_keys "$odd/report.json" given result budget config
expect_exit 0 "$LINNET" validate "$odd" --data synth:100 --min-agreement 0 --max-accuracy-change 100 --json j.json
expect_exit 0 "$LINNET" data synth:40 -o x.npy --labels y.npy -q
expect_exit 0 "$LINNET_PI" eval "$odd/model.pi" --weights "$odd/model.pi.weights" --mode fixed --input x.npy --json j.json

# ---- the right kind of thing -------------------------------------------------------------------------
expect_error 2 "is a file; name its folder, 'percent'" "$LINNET" validate percent/model.pi --data synth:
expect_error 2 "is a file; name its folder, '.'" "$LINNET" validate a.onnx --data synth:
printf 'PK\003\004aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' >m.pth
printf '\211HDF\r\n\032\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' >m.h5
printf '\034\000\000\000TFL3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' >m.tflite
for file in "m.pth torch.onnx.export" "m.h5 Keras" "m.tflite tf2onnx" "percent/model.pi linnet-pi reads it"; do
    for command in inspect "eval --data synth: --normalize none" "run --input x.npy --output z.npy"; do
        # shellcheck disable=SC2086
        set -- $command
        name=$1
        shift
        expect_exit 3 "$LINNET" "$name" "${file%% *}" "$@"
        expect_text err "${file#* }"
    done
done
mkdir locked
chmod 500 locked
if [ ! -w locked ]; then # not so for root
    # shellcheck disable=SC2086
    expect_error 1 'output: cannot write locked/out: Permission denied' "$LINNET" linearize a.onnx $quick --relus 10% -o locked/out -q
fi
chmod 700 locked
mkdir own
cp x.npy own/x.npy
cp y.npy own/labels.npy
cp y.npy own/contrast.npy
for arrays in own/x.npy,own/labels.npy ./own/x.npy,own/../own/contrast.npy; do
    expect_error 2 'is an input and would be overwritten' "$LINNET" corrupt --data npy:$arrays -o own --types contrast -q
done
expect_same y.npy own/labels.npy
expect_same y.npy own/contrast.npy
expect_exit 0 "$LINNET" corrupt --data synth:40 -o c --types contrast,speckle_noise --severity 2,3
expect_text out 'c: 2 types, 1 of the 15 standard ones, severities: 2, images of each: 8'

# ---- numbers that are none ---------------------------------------------------------------------------
floats() { # FILE BYTES: float32 [1,3,32,32] of that value
    printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 32, 32), }" >"$1"
    printf "$2" >block
    for double in 1 2 3 4 5 6 7 8 9 10; do # 1,024 numbers
        cat block block >twice
        mv twice block
    done
    cat block block block >>"$1"
}
floats nan.npy '\000\000\300\177'
floats huge.npy '\000\000\160\177'
floats half.npy '\000\000\000\077'
run() { expect_exit "$1" "$LINNET" run a.onnx --input "$2" --input-kind normalized --output out.npy; }
run 4 nan.npy
expect_text err 'nan is no number'
run 7 huge.npy
expect_text err 'image 0: output [0-9] is -?(nan|inf)'
[ ! -e out.npy ] || die "outputs that are no numbers were written"
run 0 half.npy

# ---- --json of commands that only write files ----------------------------------------------------------
expect_exit 0 "$LINNET" init resnet8 -o b.onnx --json init.json
expect_same a.onnx b.onnx
[ "$(json init.json relus_total)" = 73728 ] && [ "$(json init.json sha256)" = "$(sha256sum <b.onnx | cut -d ' ' -f 1)" ] || die "init.json"
expect_exit 0 "$LINNET" run a.onnx --input x.npy --normalize half --output z.npy --json run.json
[ "$(json run.json n)" = 8 ] && expect_keys run.json labels output model
expect_exit 0 "$LINNET" export a.onnx --normalize half -o c.onnx --pi p --data synth:100 --calib 20 --json export.json
[ "$(grep -c sha256 export.json)" -eq 3 ] || die "export.json names $(grep -c sha256 export.json) files"
[ "$(json export.json sha256)" = "$(sha256sum <c.onnx | cut -d ' ' -f 1)" ] || die "export.json: another sha256"
expect_exit 0 "$LINNET" train a.onnx --data synth:100 --test-data synth:200 --normalize half --epochs 1 -o t.onnx --json train.json
expect_text out 'test [0-9.]* % \(40 images\)'
expect_keys train.json test validation

# ---- inspect ------------------------------------------------------------------------------------------
expect_exit 0 "$LINNET" inspect a.onnx
expect_text out 'with the built-in constants|with the constants of '
expect_text out '^  gc .* LAN|^  gc .*lan'
expect_exit 3 "$LINNET" inspect "$SRC/tests/bad/amplifier_attributes.onnx"
expect_text out '^problems: 15001, of 2 kinds$'

# ---- nobody reads on -----------------------------------------------------------------------------------
for results in "inspect a.onnx" "inspect a.onnx --json - -q" "eval a.onnx --data synth:40 --normalize half -q" "help"; do
    # shellcheck disable=SC2086
    { sleep 0.3; code=0; "$LINNET" $results 2>pipe.err || code=$?; echo $code >code; } | true
    [ "$(cat code)" -eq 141 ] && ! grep -q 'cannot write' pipe.err || die "$results | true: exit status $(cat code), $(cat pipe.err)"
done
if [ -w /dev/full ]; then
    expect_exit 1 sh -c '"$0" inspect a.onnx >/dev/full' "$LINNET"
    expect_text err 'cannot write to standard output'
fi
say "words, names, kinds of file, numbers and pipes"
