#!/bin/sh
# The whole path on the bundled model and synthetic images, in three steps. Usage: tests/demo/run.sh BUILD
set -eu
build=$1
model=tests/demo/resnet8.onnx
out=$(mktemp -d "${TMPDIR:-/tmp}/linnet-demo.XXXXXX")
step() { printf '\n[%s of 3] %s\n' "$1" "$2"; }
say() { printf '$ %s\n' "$*"; "$@"; }

step 1 "Keep 20 % of the ReLUs of a small ResNet: a robust teacher, then a student of it. The long step."
echo "\$ $build/linnet linearize $model --data synth: --relus 20% --preset quick -o $out --eval-attack-images 1000"
"$build/linnet" linearize $model --data synth: --relus 20% --preset quick -o "$out" --eval-attack-images 1000 >"$out/table.txt"

step 2 "Run the private-inference package in fixed point beside the float network: do they agree?"
say "$build/linnet" validate "$out" --data synth: -q

step 3 "Ask privately: client and server as two processes; the given network (first), then the result (second)."
"$build/linnet" export $model --pi "$out/given" --data synth: --calib 500 -q
echo "\$ $build/linnet-pi bench $out/given/model.pi --compare $out/model.pi ..."
"$build/linnet-pi" bench "$out/given/model.pi" --weights "$out/given/model.pi.weights" \
    --compare "$out/model.pi" --compare-weights "$out/model.pi.weights" >"$out/private.txt"
grep '^logits' "$out/private.txt" | tail -n 1
rm "$out/given/model.pi.weights"

printf '\nWhat was given, its teacher, and the result:\n\n'
cat "$out/table.txt"
printf '\nPrivate inference of one image, measured between two processes on this machine:\n\n'
sed -n '/^ratio/,/^online seconds/p' "$out/private.txt"
printf '\nThe page to look at:  %s\nEverything else:      %s\n' "$out/report.html" "$out"
