#!/bin/sh
# Two builds give the same bytes: trained models, checkpoints, exported files, logits of the simulation and
# of two processes. For changes that must not change results.
# Usage: tests/long/same.sh BUILD OTHER_BUILD        (OTHER_BUILD: of an earlier revision, say)
# What differs is listed; exit 1 then. model.pi and the weights' file are not compared: formats may change.
set -eu
cd "$(dirname "$0")/../.."
SRC=$(pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$SRC/$1" ;; esac; }
[ $# -eq 2 ] || { echo "usage: tests/long/same.sh BUILD OTHER_BUILD" >&2; exit 2; }
one=$(absolute "$1") two=$(absolute "$2")
shared=$(absolute "${LINNET_SHARED:-../shared}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-same.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
demo=$SRC/tests/demo/resnet8.onnx

run_one() { # BUILD FOLDER: everything, with this build, in this folder
    linnet=$1/linnet pi=$1/linnet-pi
    mkdir "$2" && cd "$2"
    "$linnet" linearize "$demo" --data synth:1500 --relus 20% --preset quick --recipe rlnet --teacher-epochs 1 --mask-epochs 1 \
        --finetune-epochs 1 --finetune-min-steps 0 --eval-attack-images 20 --eval-corrupt-images 20 -o rlnet -q >/dev/null
    "$linnet" linearize "$demo" --data synth:1500 --relus 30% --preset quick --recipe senet --stages mask,finetune \
        --finetune-epochs 1 --finetune-min-steps 0 --eval-attack-images 20 --eval-corrupt-images 20 -o senet -q >/dev/null
    "$linnet" train "$demo" --data synth:1500 --epochs 1 -o trained.onnx -q >/dev/null
    for form in where prelu gather; do
        "$linnet" export rlnet/checkpoint.safetensors --masked-relu $form -o $form.onnx -q
    done
    "$linnet" data synth:1500 --limit 4 -o x.npy --labels y.npy -q >/dev/null
    for mode in fixed sim2pc; do
        "$pi" eval rlnet/model.pi --weights rlnet/model.pi.weights --mode $mode \
            $([ $mode = fixed ] || echo --test-seed 5) --input x.npy --output $mode.npy >/dev/null
    done
    if [ -f "$shared/models/resnet20_cifar10.onnx" ]; then
        "$linnet" export "$shared/models/resnet20_cifar10.onnx" -o resnet20.onnx -q
        "$linnet" run "$shared/models/resnet20_cifar10.onnx" --normalize imagenet --input x.npy --output resnet20.npy -q
    fi
    for relu in gc ot; do
        "$pi" serve rlnet/model.pi --weights rlnet/model.pi.weights --listen 127.0.0.1:0 --relu $relu --test-seed 7 \
            --max-queries 4 >serve.out 2>serve.err &
        until grep -q '^listening on [0-9.]*:[0-9]* ' serve.out; do sleep 0.1; done
        "$pi" query rlnet/model.pi --connect "127.0.0.1:$(sed -n 's/^listening on 127.0.0.1:\([0-9]*\) .*/\1/p' serve.out)" \
            --input x.npy --test-seed 7 --output twopc_$relu.npy >/dev/null
        wait $!
    done
    cd "$tmp"
}
run_one "$one" "$tmp/one"
run_one "$two" "$tmp/two"
differ=0
for f in $(cd one && find . -name '*.onnx' -o -name '*.npy' -o -name '*.safetensors' | sort); do
    if cmp -s "one/$f" "two/$f"; then
        echo "same    $f"
    else
        echo "DIFFERS $f"
        differ=1
    fi
done
[ $differ -eq 0 ]
