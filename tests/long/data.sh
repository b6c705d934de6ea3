#!/bin/sh
# Data larger than memory: an epoch over 100,000 JPEGs of 224x224 in shards with ResNet-8 on 32x32 parts in less than 3 GB, the
# same killed in the middle and resumed, 2,000 of them with ResNet-50, and what decoding gives against what training takes.
# Usage: tests/long/data.sh BUILD     LINNET_DATA_IMAGES: fewer than 100,000; LINNET_DATA_FOLDER: where shards stay
set -eu
SRC=$(cd "$(dirname "$0")/../.." && pwd)
case ${1:?usage: tests/long/data.sh BUILD} in /*) build=$1 ;; *) build=$SRC/$1 ;; esac
. "$SRC/tests/cli/lib.sh"
PYTHON=${LINNET_PYTHON:-$SRC/build/venv/bin/python}
"$PYTHON" -c 'import numpy, PIL' >/dev/null 2>&1 || skip "there is no numpy or Pillow"
LINNET=$build/linnet
images=${LINNET_DATA_IMAGES:-100000}
most_mb=3000
tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-data.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
folder=${LINNET_DATA_FOLDER:-$tmp/shards}
[ -d "$folder/train" ] || "$PYTHON" "$SRC/tests/long/shards.py" "$folder" "$images" 224
"$LINNET" init resnet8 --classes 10 -o r8.onnx -q

# measured NAME COMMAND...: seconds and peak memory in NAME.txt
measured() {
    name=$1
    shift
    "$PYTHON" - "$name" "$@" <<'END_PYTHON'
import resource, subprocess, sys, time
start = time.time()
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
with open(sys.argv[1] + ".txt", "w") as f:
    print(round(time.time() - start, 1), peak, file=f)
sys.exit(code)
END_PYTHON
    read -r seconds peak <"$name.txt"
    echo "$name: $seconds s, at most $peak MB"
}
train() { # NAME OPTIONS...
    out=$1
    shift
    measured "$out" "$LINNET" train r8.onnx --data "shards:$folder" --normalize half --random-crop --resize 36 --crop 32x32 \
        --data-memory 256M --epochs 1 --batch 128 -o "$out.onnx" -q "$@"
}

train whole
[ "$peak" -lt $most_mb ] || die "peak memory $peak MB, at most $most_mb"
echo "  $(awk "BEGIN { printf \"%.0f\", $images / $seconds }") images/s, all in all"
# Stopped in the middle, killed a little later; other threads finish it.
"$LINNET" train r8.onnx --data "shards:$folder" --normalize half --random-crop --resize 36 --crop 32x32 --data-memory 64M --epochs 1 \
    --batch 128 -o killed.onnx -q --data-threads 1 &
pid=$!
sleep "$(awk "BEGIN { print $seconds * 0.5 }")"
kill -TERM $pid 2>/dev/null || true
status=0
wait $pid || status=$?
echo "stopped: exit status $status"
"$LINNET" train r8.onnx --data "shards:$folder" --normalize half --random-crop --resize 36 --crop 32x32 --data-memory 64M --epochs 1 \
    --batch 128 -o killed.onnx -q --data-threads 8 --resume &
pid=$!
sleep 5
kill -KILL $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
train killed --data-threads 3 --resume
expect_same whole.onnx killed.onnx

# ResNet-50 at 224 on 2,000 of them.
"$LINNET" init resnet50 --classes 10 --size 224x224 -o r50.onnx -q
measured r50 "$LINNET" train r50.onnx --data "shards:$folder" --normalize imagenet --random-crop --resize 256 --crop 224x224 \
    --train-limit 2000 --val-limit 50 --epochs 1 --batch 16 -o r50_trained.onnx -q
make -C "$SRC" BUILD="$build" "$build/tests/bench_data" >/dev/null 2>&1 || die "bench_data cannot be built"
decoded=$("$build/tests/bench_data" "shards:$folder" 224x224 4000 2 | sed 's/.* \([0-9]*\) images.s$/\1/')
taken=$(awk "BEGIN { printf \"%.2f\", 2000 / $seconds }")
echo "decoded and cut: $decoded images/s, ResNet-50 takes $taken images/s"
awk "BEGIN { exit !($decoded >= 2 * $taken) }" || die "decoding is slower than twice the training"
echo "data: passed"
