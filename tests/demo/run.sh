#!/bin/sh
# The whole path on the bundled model and synthetic images. Usage: tests/demo/run.sh BUILD
set -eu
build=$1
out=$(mktemp -d "${TMPDIR:-/tmp}/linnet-demo.XXXXXX")
say() { printf '\n$ %s\n' "$*"; "$@"; }

say "$build/linnet" inspect tests/demo/resnet8.onnx
say "$build/linnet" linearize tests/demo/resnet8.onnx --data synth: --relus 20% --preset quick -o "$out" \
    --eval-attack-images 1000 -q
say "$build/linnet" validate "$out" --data synth: -q
say "$build/linnet-pi" info "$out/model.pi"
echo
echo "The results are in $out"
