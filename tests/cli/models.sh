# The real models of MANIFEST.md: logits, accuracy, ReLUs; and those to be refused.
have_shared || skip "no folder of real models and data"
data=cifar10:$(shared data/cifar10)
expect_exit 0 "$LINNET" data "$data" --split test --limit 256 -o x.npy -q

manifest >models.txt
while read -r file normalize relus accuracy; do
    model=$(shared "models/$file")
    expect_exit 0 "$LINNET" inspect "$model" --json inspect.json
    expect_number "$(json inspect.json relus_total) == $relus" "$file: ReLUs"
    expect_number "$(json inspect.json relus_kept) == $relus" "$file: kept ReLUs"
    compared="not compared"
    if have_python; then
        expect_exit 0 "$LINNET" run "$model" --normalize "$normalize" --input x.npy --output y.npy
        compared=$("$PYTHON" "$SRC/tests/compare_logits.py" "$model" x.npy y.npy --normalize "$normalize" --labels)
    fi
    expect_exit 0 "$LINNET" eval "$model" --normalize "$normalize" --data "$data" --json eval.json -q
    have=$(json eval.json accuracy)
    expect_number "$(json eval.json n) == 10000" "$file: images"
    expect_number "($have - $accuracy)^2 <= 0.02000001^2" "$file: accuracy, MANIFEST says $accuracy"
    say "$file: $relus ReLUs, $have % (MANIFEST $accuracy), $compared"
done <models.txt

relu6=$(shared models/resnet32_cifar100_relu6.onnx)
expect_error 3 'Clip' "$LINNET" eval "$relu6" --data "$data" -q
expect_text err "[Nn]ode '[^']*Clip|Clip[^ ]*'"
expect_error 3 'Clip' "$LINNET" inspect "$relu6" --json refused.json
expect_keys refused.json problems code node message hint
expect_text refused.json '"hint": "..'
[ "$(grep -c '"op": "Clip"' refused.json)" -eq 1 ] || die "one row stands for all Clips"
expect_text refused.json '"more": 30'
external=$(shared models/resnet18_missing_external_data.onnx)
expect_error 3 'external|resnet18' "$LINNET" run "$external" --input x.npy --output z.npy -q
expect_error 3 'external|resnet18' "$LINNET" inspect "$external" --json refused.json
expect_text refused.json '"hint": "..'
light=$(shared models/light_resnet50.onnx)
expect_exit 0 "$LINNET" inspect "$light" --json light.json
expect_number "$(json light.json relus_total) > 1000000" "light_resnet50: ReLUs"
say "refused with node, rule and hint: ReLU6, missing external data; light_resnet50 is inspected"
