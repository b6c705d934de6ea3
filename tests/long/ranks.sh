#!/bin/sh
# Several ranks give the bytes of one process, more forms than tests/cli/ranks.sh: every recipe, 2, 4 and 8 ranks, ResNet-18, whose
# large weights are divided by channels, bf16, and runs of train, linearize (each recipe), sweep and eval that lose a rank again and
# again and go on with another number of them.
# Usage: tests/long/ranks.sh BUILD      (BUILD/linnet and BUILD/linnet-mpi)
set -eu
SRC=$(cd "$(dirname "$0")/../.." && pwd)
case ${1:?usage: tests/long/ranks.sh BUILD} in /*) build=$1 ;; *) build=$SRC/$1 ;; esac
. "$SRC/tests/cli/lib.sh"
command -v mpirun >/dev/null && [ -x "$build/linnet-mpi" ] || skip "no mpirun, or no $build/linnet-mpi"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-ranks.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
PYTHON=${LINNET_PYTHON:-$SRC/build/venv/bin/python}
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
    same linnet out linearize resnet8.onnx $short --relus 20%
    same rlnet out linearize resnet8.onnx $short --relus 20% --recipe rlnet
    same senet out linearize resnet8.onnx $short --relus 20% --recipe senet
    same snl out linearize resnet8.onnx $short --relus 20% --recipe snl
    same residual out linearize resnet8.onnx $short --relus 20% --score residual --removed line
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

# ---- lost ranks

# The n-th of the children of a process, while there is one.
child() { pgrep -P "$1" | sed -n "$2p"; }

# lost NAME TIMES OUTPUT COMMAND...: a run that loses a rank so often and goes on with another number of ranks each time ends with
# the files of one process. Most kills have to fall into the run: a moment is a part of what one process takes for all of it.
lost() {
    name=$1 times=$2 tail=$3
    shift 3
    rm -rf whole cut
    mkdir whole cut
    begin=$(date +%s)
    "$build/linnet" "$@" -q -o "whole/$tail" >log 2>&1 || { cat log; die "$name"; }
    took=$(($(date +%s) - begin + 1))
    hits=0
    for moment in $(seq "$times"); do
        count=$((2 + moment % 3))
        (exec mpirun --oversubscribe -n $count "$build/linnet-mpi" "$@" -q -o "cut/$tail" --resume) >log 2>&1 </dev/null &
        pid=$!
        sleep "$(awk "BEGIN { print 0.7 + $took * (0.2 + 0.3 * ($moment * 7 % 10) / 10) / ($times > 4 ? 2 : 1) }")"
        victim=$(child $pid $((moment % count + 1)))
        [ -z "$victim" ] || ! kill -9 "$victim" 2>/dev/null || hits=$((hits + 1))
        wait $pid || :
    done
    ranks 2 "$@" -q -o "cut/$tail" --resume >log 2>&1 </dev/null || { cat log; die "$name, resumed"; }
    for file in $(cd whole && find . -name '*.safetensors' -o -name '*.onnx'); do
        expect_same "whole/$file" "cut/$file"
    done
    [ $((2 * hits)) -ge "$times" ] || die "$name: only $hits of $times kills fell into the run"
    echo "$name: $hits of $times runs lost a rank: the same bytes in the end"
}
lost "train, ResNet-20" 10 y.onnx train resnet20.onnx --data synth:200 --normalize half --adversarial pgd:steps=2 --augment augmix \
    --dual-bn --epochs 4 --batch 40 --val-attack-images 5
longer="--data synth:150 --normalize half --batch 24 --preset quick --teacher-epochs 3 --mask-epochs 3 --finetune-epochs 3
    --finetune-min-steps 0 --eval-attack-images 4 --eval-corrupt-images 0"
# shellcheck disable=SC2086 # words
{
    lost linnet 6 out linearize resnet8.onnx $longer --relus 20%
    lost rlnet 4 out linearize resnet8.onnx $longer --relus 20% --recipe rlnet
    lost "residual, lines" 4 out linearize resnet8.onnx $longer --relus 20% --removed line --score residual
    lost senet 4 out linearize resnet8.onnx $longer --relus 20% --recipe senet
    lost snl 4 out linearize resnet8.onnx $longer --relus 20% --recipe snl
    lost sweep 4 out sweep resnet8.onnx $longer --relus 30%,10%
}

# Attacks, whose progress is a file: what the attacks found is the same.
attack() { # NAME COMMAND...
    out=$1
    shift
    "$@" eval "$SRC/tests/demo/resnet8.onnx" --data synth:500 --limit 60 --batch 6 --attack apgd-ce:eps=2/255,steps=50,restarts=2 \
        --state "$out.state" --json "$out.json" -q
}
attack whole "$build/linnet"
for moment in 1 2 3; do
    (attack cut exec mpirun --oversubscribe -n $((2 + moment % 2)) "$build/linnet-mpi") >log 2>&1 </dev/null &
    pid=$!
    sleep "0.$((3 * moment))"
    victim=$(child $pid 1)
    [ -z "$victim" ] || kill -9 "$victim" 2>/dev/null || :
    wait $pid || :
done
attack cut ranks 2
for file in whole cut; do
    "$PYTHON" -c 'import json, sys; json.dump(json.load(open(sys.argv[1]))["branches"], sys.stdout)' $file.json |
        sed 's/"seconds": [0-9.e-]*/"seconds": 0/g' >$file.txt
done
expect_same whole.txt cut.txt
echo "attacks whose ranks were lost: the same result"
