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
expect_exit 0 "$LINNET" inspect "$relu6" --json inspect.json
expect_number "$(json inspect.json relus_kept) == 303104" "resnet32_cifar100_relu6: ReLUs"
expect_number "$(json inspect.json relu_evaluations) == 606208" "resnet32_cifar100_relu6: ReLU evaluations"
if have_python; then
    expect_exit 0 "$LINNET" run "$relu6" --normalize none --input x.npy --output y.npy
    say "resnet32_cifar100_relu6: $("$PYTHON" "$SRC/tests/compare_logits.py" "$relu6" x.npy y.npy --normalize none --labels)"
fi
external=$(shared models/resnet18_missing_external_data.onnx)
expect_error 3 'external|resnet18' "$LINNET" run "$external" --input x.npy --output z.npy -q
expect_error 3 'external|resnet18' "$LINNET" inspect "$external" --json refused.json
expect_text refused.json '"hint": "..'
light=$(shared models/light_resnet50.onnx)
expect_exit 0 "$LINNET" inspect "$light" --json light.json
expect_number "$(json light.json relus_total) > 1000000" "light_resnet50: ReLUs"
# one image takes memory for one image: 0.48 GB, 0.97 GB for a batch
if have_python; then
    "$PYTHON" -c "import numpy as np; np.save('one.npy', np.zeros((1, 224, 224, 3), np.uint8))"
    expect_exit 0 sh -c 'ulimit -v 1000000 && exec "$@"' sh "$LINNET" run "$light" --input one.npy --output z.npy \
        --normalize imagenet --threads 2 -q
fi
say "refused with node, rule and hint: missing external data; light_resnet50 is inspected and run in 1 GB"
