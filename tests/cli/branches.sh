# The name of a batch-norm branch goes with it: checkpoint, ONNX file, package, every report.
demo=$SRC/tests/demo/resnet8.onnx
data=synth:200
expect_exit 0 "$LINNET" train "$demo" --data $data --epochs 1 --batch 30 --dual-bn --adversarial pgd:eps=4/255,steps=1 \
    --val-attack-images 0 -o two.onnx -q
# branches FILE: "name deployed" of every branch in it
branches() {
    tr -d ' \n' <"$1" | grep -o '"deployed":[a-z]*,"name":"[a-z]*"' | sed 's/.*:\([a-z]*\),"name":"\([a-z]*\)"/\2 \1/' | paste -sd ';' -
}
evaluate() { # MODEL NAMES TEXT OPTIONS...
    evaluate_model=$1 evaluate_names=$2 evaluate_text=$3
    shift 3
    expect_exit 0 "$LINNET" eval "$evaluate_model" --data $data --json e.json "$@"
    [ "$(branches e.json)" = "$evaluate_names" ] || die "eval $evaluate_model $*: branches $(branches e.json)"
    expect_text out "^branch $evaluate_text\$"
}
evaluate two.safetensors 'clean true;adv false' 'clean \(deployed\)'
evaluate two.safetensors 'adv false' adv --branch adv
evaluate two.safetensors 'clean true' 'clean \(deployed\)' --branch clean
evaluate two.onnx 'clean true' 'clean \(deployed\)'
evaluate two.adv.onnx 'adv false' adv
evaluate two.adv.onnx 'adv false' adv --branch adv
evaluate "$demo" 'clean true' 'clean \(deployed\)'
expect_error 2 "only one batch-norm branch, 'adv'" "$LINNET" eval two.adv.onnx -q --data $data --branch clean
expect_error 2 "only one batch-norm branch, 'clean'" "$LINNET" eval two.onnx -q --data $data --branch adv
expect_error 2 'is clean, adv or single' "$LINNET" eval two.onnx -q --data $data --branch other

# The goal is that of the deployed branch, whatever else is evaluated.
evaluate two.safetensors 'clean true;adv false' adv --require-clean 5
expect_error 6 'deployed branch is below' "$LINNET" eval two.safetensors --data $data -q --require-clean 100
for what in "two.safetensors --branch adv" two.adv.onnx; do
    # shellcheck disable=SC2086
    expect_error 2 "guards the deployed branch, 'clean', and 'adv'" "$LINNET" eval $what --data $data -q --require-clean 5
done

# Export, package and validation say which one they are.
expect_exit 0 "$LINNET" export two.safetensors --branch adv -o again.onnx -q
expect_exit 0 "$LINNET" export again.onnx -o third.onnx -q
expect_same again.onnx third.onnx
evaluate again.onnx 'adv false' adv
for branch in clean adv; do
    expect_exit 0 "$LINNET" export two.safetensors --branch $branch --pi $branch -o $branch/model.onnx --data $data --calib 50 -q
    # weights lose bits, so labels are compared with the float network: through that branch
    expect_exit 0 "$LINNET" export two.safetensors --branch $branch --pi fewer --data $data --calib 180 --max-failure 1e-6
    expect_text err 'layers have fewer bits'
    expect_exit 0 "$LINNET_PI" info $branch/model.pi
    expect_text out "^BN branch  $branch"
    expect_exit 0 "$LINNET" validate $branch --data $data --limit 20 --min-agreement 0 --max-accuracy-change 100 --json v.json
    [ "$(branches v.json)" = "$branch true" ] || die "validate: branches $(branches v.json)"
    expect_text out ", branch $branch"
done
expect_exit 0 "$LINNET" data $data --limit 4 -o x.npy --labels y.npy -q
expect_exit 0 "$LINNET_PI" eval adv/model.pi --weights adv/model.pi.weights --mode fixed --input x.npy --labels y.npy --json p.json
[ "$(branches p.json)" = "adv true" ] || die "linnet-pi eval: branches $(branches p.json)"
expect_exit 0 "$LINNET_PI" bench adv/model.pi --weights adv/model.pi.weights --json b.json
[ "$(json b.json branch)" = adv ] || die "bench: branch $(json b.json branch)"
(
    cd adv
    serve --log json --json serve.json --max-queries 4
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" --input ../x.npy
    wait $server || die "the server ended with $?"
    expect_text serve.out '^listening .*, branch adv\)'
    grep -c '"branch":"adv"' serve.err >said && [ "$(cat said)" -eq "$(grep -c '"event"' serve.err)" ] ||
        die "events without their branch: $(cat serve.err)"
    [ "$(json serve.json branch)" = adv ] || die "serve: branch $(json serve.json branch)"
)
cp clean/model.pi clean/model.pi.weights adv/
expect_error 3 "is made from branch 'clean', .* holds 'adv'" "$LINNET" validate adv --data $data -q --limit 20

# What is trained again with one branch is no longer the adversarial one.
expect_exit 0 "$LINNET" train two.adv.onnx --data $data --epochs 1 --batch 30 -o plain.onnx -q
evaluate plain.onnx 'clean true' 'clean \(deployed\)'
say "branches keep their names through checkpoint, ONNX, package and reports"
