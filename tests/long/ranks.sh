#!/bin/sh
# Several ranks give the bytes of one process, more forms than tests/cli/ranks.sh: every recipe, 2, 4 and 8 ranks, ResNet-18, whose
# large weights are divided by channels, bf16, and ten runs of ResNet-20 that lose a rank at a random moment.
# Usage: tests/long/ranks.sh BUILD      (BUILD/linnet and BUILD/linnet-mpi)
set -eu
SRC=$(cd "$(dirname "$0")/../.." && pwd)
case ${1:?usage: tests/long/ranks.sh BUILD} in /*) build=$1 ;; *) build=$SRC/$1 ;; esac
. "$SRC/tests/cli/lib.sh"
command -v mpirun >/dev/null && [ -x "$build/linnet-mpi" ] || skip "no mpirun, or no $build/linnet-mpi"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-ranks.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
ranks() {
    count=$1
    shift
    mpirun --oversubscribe -n "$count" "$build/linnet-mpi" "$@" </dev/null
}
for net in resnet8 resnet20 resnet18; do "$build/linnet" init $net -o $net.onnx -q; done

# same NAME OUTPUT_OPTION COMMAND...: the files of one process, and of 2, 4 and 8 ranks
same() {
    name=$1 tail=$2
    shift 2
    rm -rf files
    mkdir files files/1
    "$build/linnet" "$@" -q -o "files/1/$tail" >log 2>&1 || { cat log; die "$name"; }
    for count in 2 4 8; do
        mkdir files/$count
        ranks $count "$@" -q -o "files/$count/$tail" >log 2>&1 || { cat log; die "$name, $count ranks"; }
        for file in $(cd files/1 && find . -name '*.safetensors' -o -name '*.onnx'); do
            expect_same "files/1/$file" "files/$count/$file"
        done
    done
    echo "$name: the same bytes from 1, 2, 4 and 8 ranks"
}
short="--data synth:80 --normalize half --batch 24 --preset quick --teacher-epochs 1 --mask-epochs 1 --finetune-epochs 1
    --finetune-min-steps 0 --eval-attack-images 4 --eval-corrupt-images 0"
# shellcheck disable=SC2086 # words
{
    same rlnet out linearize resnet8.onnx $short --relus 20%
    same senet out linearize resnet8.onnx $short --relus 20% --recipe senet
    same snl out linearize resnet8.onnx $short --relus 20% --recipe snl
    same taylor out linearize resnet8.onnx $short --relus 20% --score taylor
    same "lines, ema" out linearize resnet8.onnx $short --relus 20% --removed line --ema
    same "trades, single" out linearize resnet8.onnx $short --relus 20% --trades 2 --deploy single
    same sweep out sweep resnet8.onnx $short --relus 30%,10%
    same "shards, ema" out linearize resnet8.onnx $short --relus 20% --ema --batch 32 --bn-shards 8
    same "sweep by shards" out sweep resnet8.onnx $short --relus 30%,20%,10% --batch 32 --bn-shards 8
}
plain="--data synth:80 --normalize half --epochs 1"
# shellcheck disable=SC2086
{
    same "ResNet-18" y.onnx train resnet18.onnx $plain --batch 24 --precision fp32
    same "ResNet-18 by shards" y.onnx train resnet18.onnx $plain --batch 24 --precision fp32 --bn-shards 8
    same "ResNet-20, bf16" y.onnx train resnet20.onnx $plain --batch 72 --precision bf16
}

# ---- ten lost ranks
train() { # FOLDER
    train_folder=$1
    shift
    mkdir -p "$train_folder"
    "$@" train resnet20.onnx --data synth:200 --normalize half --adversarial pgd:steps=2 --augment augmix --dual-bn --epochs 4 \
        --batch 40 --val-attack-images 5 -o "$train_folder/y.onnx" --resume -q
}
expect_exit 0 train whole "$build/linnet"
for moment in 1 2 3 4 5 6 7 8 9 10; do
    count=$((2 + moment % 3))
    (train cut exec mpirun --oversubscribe -n $count "$build/linnet-mpi") >log 2>&1 </dev/null &
    pid=$!
    sleep "$((moment % 5 + 1)).$moment"
    victim=$(pgrep -P $pid | sed -n "$((moment % count + 1))p")
    [ -z "$victim" ] || kill -9 "$victim" 2>/dev/null || :
    wait $pid || :
done
expect_exit 0 train cut ranks 2
expect_same whole/y.onnx cut/y.onnx
expect_same whole/y.adv.onnx cut/y.adv.onnx
expect_same whole/y.safetensors cut/y.safetensors
echo "ten runs lost a rank: the same bytes in the end"
