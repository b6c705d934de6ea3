# Bad input, full disks, folders that cannot be written: one clear message, the exit code of the
# manual, nothing half-written. Nobody may end by a signal.
linnet=$LINNET
good=$SRC/tests/demo/resnet8.onnx
expect_exit 0 "$linnet" data synth:100 -o x.npy --labels y.npy

# ---- models ------------------------------------------------------------------------------------
n=$(size_of "$good")
for share in 0 1 10 50 90 99; do
    head -c $((n * share / 100)) "$good" >cut.onnx
    expect_error 3 'cut.onnx' "$linnet" inspect cut.onnx
    expect_error 3 'cut.onnx' "$linnet" run cut.onnx --input x.npy --output z.npy -q
done
head -c $((n - 1)) "$good" >cut.onnx
expect_error 3 'cut.onnx' "$linnet" eval cut.onnx --data synth:50 -q
flips=0
for at in 0 1 2 3 9 40 200 500 900 1300 $((n / 3)) $((n / 2)) $((n - 300)) $((n - 60)) $((n - 9)) $((n - 1)); do
    cp "$good" flipped.onnx
    flip flipped.onnx "$at"
    expect_exit "0 3" "$linnet" inspect flipped.onnx
    [ "$expect_status" -eq 0 ] || { expect_prefix "$linnet" inspect; flips=$((flips + 1)); }
    expect_exit "0 3" "$linnet" run flipped.onnx --input x.npy --output z.npy -q
done
say "models: 7 truncated ones refused; 16 with a bit flipped, $flips of them refused"

# Messages within messages: graphs in attributes in nodes, and types in types. A level is a list of
# tags, each followed by the length of what is inside; the innermost message is a name.
bomb() { # LEVELS TAGS PREFIX: tags of one level and of the messages around all, from outside
    LC_ALL=C awk -v levels="$1" -v tags="$2" -v prefix="$3" '
        function varint(v,    s) {
            for (s = ""; v > 127; v = int(v / 128)) s = s sprintf("\\%03o", v % 128 + 128)
            return s sprintf("\\%03o", v) }
        function wrap(list,    n, t, tag) {
            for (t = n = split(list, tag, " "); t >= 1; t--) {
                text[++k] = sprintf("\\%03o", tag[t]) varint(len)
                len += length(text[k]) / 4 } }
        BEGIN {
            text[0] = "\\012\\001x"
            len = 3
            while (levels-- > 0) wrap(tags)
            wrap(prefix)
            printf "\\010\\010"
            for (; k >= 0; k--) printf "%s", text[k] }' >escapes
    printf "$(cat escapes)"
}
bomb 2600 "10 42 50" 58 >graphs.onnx      # graph 7: node 1, attribute 5, g 6
bomb 4700 "34 10" "58 90 18" >types.onnx  # graph 7, input 11, type 2: sequence 4, elem 1
for file in graphs types; do
    n=$(size_of $file.onnx)
    [ "$n" -gt 25000 ] || die "$file.onnx has only $n bytes"
    expect_error 3 "$file.onnx" "$linnet" inspect $file.onnx
    expect_error 3 "$file.onnx" "$linnet" run $file.onnx --input x.npy --output z.npy -q
done
head -c 30000 /dev/zero | tr '\0' '\052' >noise.onnx
expect_error 3 'noise.onnx' "$linnet" inspect noise.onnx

cp "$good" nan.onnx
poke nan.onnx $(($(size_of nan.onnx) / 2)) '\377\377\377\377\377\377\377\377'
expect_error 3 'NaN|not finite|finite' "$linnet" inspect nan.onnx
expect_error 3 'NaN|not finite|finite' "$linnet" eval nan.onnx --data synth:50 -q
expect_error 1 'No such file' "$linnet" eval missing.onnx --data synth:50 -q
expect_error 1 'missing.onnx' "$linnet" inspect missing.onnx
expect_error 1 'folder|directory' "$linnet" inspect .

# ---- checkpoints -------------------------------------------------------------------------------
expect_exit 0 "$linnet" linearize "$good" --data synth:100 --preset none --relus 50% -o small -q \
    --eval-attack-images 10 --eval-corrupt-images 10
check=small/checkpoint.safetensors
n=$(size_of $check)
for size in 0 7 8 100 2000 $((n / 2)) $((n - 1)); do
    head -c "$size" $check >cut.safetensors
    expect_error 3 'cut.safetensors' "$linnet" eval cut.safetensors --data synth:50 -q
done
flips=0
for at in 0 3 7 8 9 20 100 300 700 1500 3000 $((n / 2)) $((n - 2)); do
    cp $check flipped.safetensors
    flip flipped.safetensors "$at"
    expect_exit "0 3" "$linnet" eval flipped.safetensors --data synth:50 --limit 10 -q
    [ "$expect_status" -eq 0 ] || { expect_prefix "$linnet" eval; flips=$((flips + 1)); }
done
say "checkpoints: 7 truncated ones refused; 13 with a bit flipped, $flips of them refused"
expect_error 2 'starts from an ONNX model' "$linnet" linearize $check --data synth:50 --relus 5% -o no -q

# ---- descriptions and weights --------------------------------------------------------------------
pi_eval() { "$LINNET_PI" eval "$1" --weights "$2" --input x.npy --output pi.npy; }
pi_refuses() { # PI WEIGHTS
    expect_exit 3 pi_eval "$1" "$2"
    head -n 1 err | grep -q '^linnet-pi: eval: ' || die "the first line does not begin with 'linnet-pi: eval: '"
    [ ! -e pi.npy ] || die "a refused package gave logits"
}
n=$(size_of small/model.pi)
for share in 0 1 30 60 99; do
    head -c $((n * share / 100)) small/model.pi >cut.pi
    pi_refuses cut.pi small/model.pi.weights
    expect_error 3 'cut.pi' "$LINNET_PI" info cut.pi
done
flips=0
for at in 0 1 2 10 50 100 200 400 800 1600 $((n / 2)) $((n - 100)) $((n - 2)); do
    cp small/model.pi flipped.pi
    flip flipped.pi "$at"
    expect_exit "0 3" pi_eval flipped.pi small/model.pi.weights
    [ "$expect_status" -eq 0 ] || flips=$((flips + 1))
done
rm -f pi.npy
n=$(size_of small/model.pi.weights)
for at in 0 4 8 40 100 1000 $((n / 2)) $((n - 1)); do
    cp small/model.pi.weights flipped.weights
    flip flipped.weights "$at"
    pi_refuses small/model.pi flipped.weights
done
for size in 0 10 1000 $((n - 1)); do
    head -c "$size" small/model.pi.weights >cut.weights
    pi_refuses small/model.pi cut.weights
done
cat small/model.pi.weights small/model.pi >long.weights
pi_refuses small/model.pi long.weights
expect_exit 1 pi_eval missing.pi small/model.pi.weights
expect_exit 1 pi_eval small/model.pi missing.weights
say "packages: 5 truncated descriptions and 13 damaged weight files refused;" \
    "13 descriptions with a bit flipped, $flips of them refused"

# ---- data ----------------------------------------------------------------------------------------
mkdir cifar
for i in 1 2 3 4 5; do head -c 30730 /dev/zero >cifar/data_batch_$i.bin; done
cp cifar/data_batch_1.bin cifar/test_batch.bin
expect_exit 0 "$linnet" eval "$good" --data cifar10:cifar -q
head -c 30729 /dev/zero >cifar/test_batch.bin
expect_error 4 'test_batch.bin' "$linnet" eval "$good" --data cifar10:cifar -q
head -c 30730 /dev/zero >cifar/test_batch.bin
poke cifar/test_batch.bin 3073 '\012'
expect_error 4 'test_batch.bin' "$linnet" eval "$good" --data cifar10:cifar -q
expect_text err '10'
rm cifar/test_batch.bin
expect_exit "1 4" "$linnet" eval "$good" --data cifar10:cifar -q
expect_text err 'test_batch.bin'
mkdir nothing
expect_error 4 'nothing' "$linnet" eval "$good" --data nothing -q
expect_error 4 'synth' "$linnet" eval "$good" --data synth:many -q
expect_exit "1 4" "$linnet" eval "$good" --data no-such-folder -q

cp y.npy bad.npy
poke bad.npy $(($(size_of bad.npy) - 8)) '\310'
expect_error 4 'label' "$linnet" eval "$good" --data npy:x.npy,bad.npy -q
expect_error 4 'bad.npy.*label 200' "$LINNET_PI" eval small/model.pi --weights small/model.pi.weights --input x.npy --labels bad.npy
head -c 5000 x.npy >short.npy
expect_error 4 'short.npy' "$linnet" eval "$good" --data npy:short.npy,y.npy -q
expect_error 4 'short.npy' "$linnet" run "$good" --input short.npy --output z.npy -q
expect_error 4 'y.npy' "$linnet" run "$good" --input y.npy --output z.npy -q
expect_exit 0 "$linnet" data synth:50 --limit 5 -o five.npy -q
expect_error 4 'five.npy|label' "$linnet" eval "$good" --data npy:five.npy,y.npy -q

expect_exit 0 "$linnet" init resnet8 --classes 7 -o seven.onnx -q
expect_error 4 'class' "$linnet" eval seven.onnx --data synth:50 -q
expect_error 4 'class' "$linnet" train seven.onnx --data synth:50 -o t.onnx -q
expect_error 4 'class' "$linnet" linearize seven.onnx --data synth:50 --relus 5% -o no -q
expect_error 4 'class' "$linnet" export seven.onnx --pi no --data synth:50 -o t.onnx -q
expect_exit 0 "$linnet" init resnet8 --size 16x16 -o little.onnx -q
expect_error 4 '16' "$linnet" eval little.onnx --data synth:50 -q
expect_error 2 'relus|budget|ReLU' "$linnet" linearize "$good" --data synth:50 --relus 101% -o no -q
if have_shared; then
    expect_error 4 'class' "$linnet" eval "$good" --data "cifar100:$(shared data/cifar100)" -q
fi

# ---- a full disk: what was there stays, nothing is left over ------------------------------------------
limited() { # BLOCKS of 512 bytes (more in some shells), COMMAND...
    blocks=$1
    shift
    (trap '' XFSZ && ulimit -f "$blocks" && exec "$@")
}
mkdir full
full_disk() { # FILE COMMAND...: FILE, which COMMAND would write, stays as it is
    target=$1
    shift
    echo old >"$target"
    expect_exit 1 limited 16 "$@"
    expect_prefix "$1" "$2"
    expect_text err 'File too large|No space'
    [ "$(cat "$target")" = old ] || die "$* changed $target"
    no_temporaries full
}
full_disk full/a.onnx "$linnet" init resnet8 -o full/a.onnx -q
full_disk full/a.onnx "$linnet" export "$good" -o full/a.onnx -q
full_disk full/x.npy "$linnet" data synth:100 -o full/x.npy
full_disk full/b.safetensors "$linnet" train "$good" --data synth:50 --epochs 1 --batch 10 --normalize half \
    -o full/b.onnx -q
expect_exit 0 "$linnet" data synth:5000 -o many.npy -q
full_disk full/z.npy "$linnet" run "$good" --input many.npy --output full/z.npy -q
status=0
"$linnet" inspect "$good" --json - >/dev/full 2>err || status=$?
[ $status -eq 1 ] || die "results on a full device: exit status $status"
expect_text err '^linnet: inspect: '
status=0
"$linnet" --help >/dev/full 2>err || status=$?
[ $status -eq 1 ] || die "help on a full device: exit status $status"

# ---- folders that cannot be written -----------------------------------------------------------------
echo text >file
for command in "init resnet8 -o" "export $good -o" "data synth:50 -o" "run $good --input x.npy --output"; do
    # shellcheck disable=SC2086
    expect_error 1 'no/such|file/' "$linnet" $command no/such/folder.npy -q
    # shellcheck disable=SC2086
    expect_error 1 'file/' "$linnet" $command file/x -q
done
expect_error 1 "'file'|file" "$linnet" linearize "$good" --data synth:50 --relus 5% --preset none -o file -q
expect_error 1 'no/such' "$linnet" train "$good" --data synth:50 --epochs 1 -o no/such/y.onnx -q
expect_error 1 'regular file' "$linnet" export "$good" -o /dev/null -q
expect_error 1 'no/such' "$linnet" inspect "$good" --json no/such/r.json -q
[ "$(cat file)" = text ] || die "a file was overwritten"
no_temporaries .

# ---- an input is no output ----------------------------------------------------------------------------
mkdir own
cp "$good" own/model.onnx
cp x.npy own/x.npy
ln -s model.onnx own/link.onnx
expect_error 2 'own/model.onnx.*is an input' "$linnet" export own/model.onnx -o own/model.onnx -q
expect_error 2 'is an input' "$linnet" export own/link.onnx -o own/../own/model.onnx -q
expect_error 2 'is an input' "$linnet" run own/model.onnx --input own/x.npy --output own/x.npy -q
expect_error 2 'is an input' "$linnet" train own/model.onnx --data synth:50 --epochs 1 -o own/model.onnx -q
expect_error 2 'is an input' "$linnet" linearize own/model.onnx --data synth:50 --relus 50% --preset none -o own -q
cmp -s "$good" own/model.onnx || die "an input was overwritten"
