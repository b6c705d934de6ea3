# Training makes a model better; evaluation under attack and corruption.
# From scratch, synthetic images need more steps than a test has time for: a cut model recovers faster.
expect_exit 0 "$LINNET" init resnet8 -o start.onnx
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data synth:100 --preset none --relus 40% \
    --eval-attack-images 0 --eval-corrupt-images 0 -o cut -q
expect_exit 0 "$LINNET" eval cut/model.onnx --data synth:2000 --json before.json -q
expect_exit 0 "$LINNET" train cut/model.onnx --data synth:2000 --epochs 2 --lr 0.01 --batch 50 -o t.onnx \
    --json train.json -q
expect_keys train.json format config epochs kept_epoch loss seconds images_per_s validation
expect_exit 0 "$LINNET" eval t.onnx --data synth:2000 --json after.json -q
before=$(json before.json accuracy) after=$(json after.json accuracy)
expect_number "$after >= $before + 5" "training from $before % in two epochs"
say "a model with 40 % of its ReLUs, two epochs on 1,800 synthetic images: $before -> $after %"
expect_exit 0 "$LINNET" eval t.safetensors --data synth:2000 --json again.json -q
expect_number "$(json again.json accuracy) == $after" "checkpoint and model give the same accuracy"

expect_exit 0 "$LINNET" eval "$SRC/tests/demo/resnet8.onnx" --data synth:1000 --attack pgd:eps=8/255,alpha=2/255,steps=5 \
    --corruptions synth --types gaussian_noise --severities 3 --limit 100 --json e.json -q
expect_keys e.json format model n split branches name deployed clean accuracy ci95 attacks parameters eps alpha \
    steps restarts corruptions mean per_type gaussian_noise per_severity 3
expect_exit 0 "$LINNET" eval "$SRC/tests/demo/resnet8.onnx" --data synth:1000 --limit 100 --json c.json -q
clean=$(json c.json accuracy) mean=$(json e.json mean)
expect_number "$clean >= 85" "clean accuracy of the bundled model"
expect_number "$mean < $clean" "noise costs accuracy"
expect_number "$(json e.json n) == 100" "images"
expect_error 6 'below --require-clean' "$LINNET" eval start.onnx --data synth:100 --require-clean 99 -q
expect_exit 0 "$LINNET" eval "$SRC/tests/demo/resnet8.onnx" --data synth:100 --attack pgd:steps=2 --profile --json p.json
expect_keys p.json profile inference gradients images layers op shape ms share gflops
expect_text out '^layer2.0.conv2 .*fwd .* ms .* GFLOP/s  dx '
say "bundled model: clean $clean %, gaussian noise of severity 3 $mean %"
