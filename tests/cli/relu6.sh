# ReLU6 through the whole product: read, masked and trained, written and read again, private inference with
# two ReLU evaluations a kept position; --relu6 as-relu.
have_shared || skip "no folder of real models and data"
model=$(shared models/resnet32_cifar100_relu6.onnx)
for split in train val test; do
    expect_exit 0 "$LINNET" data "cifar100:$(shared data/cifar100)" --split $split --limit 60 -o x_$split.npy \
        --labels y_$split.npy -q
done
data=npy:x_test.npy,y_test.npy

expect_exit 0 "$LINNET" inspect "$model" --json i.json
expect_number "$(json i.json relus_total) == 303104" "ReLU6 are ReLUs of the budget"
expect_number "$(json i.json relu_evaluations) == 606208" "each is two ReLU evaluations"
expect_exit 0 "$LINNET" linearize "$model" --data npy:x_train.npy,y_train.npy --test-data "$data" \
    --val-data npy:x_val.npy,y_val.npy --normalize none --recipe senet --preset quick \
    --stages mask,finetune --mask-epochs 1 --finetune-epochs 1 --batch 20 \
    --eval-attack-images 0 --eval-corrupt-images 0 --relus 10% --calib 20 -o made -q
expect_text made/report.json '"evaluations": 60620'
expect_text made/report.html '<b>60,620 ReLU evaluations</b>, two for a ReLU6'
expect_text made/report.html '30,310 of 303,104 ReLUs, 60,620 ReLU evaluations \(a kept ReLU6 takes two\)'
expect_exit 0 "$LINNET" inspect made/model.onnx --json i.json
expect_number "$(json i.json relus_kept) == 30310" "a tenth"
expect_number "$(json i.json relu_evaluations) == 60620" "evaluations of a tenth"
expect_exit 0 "$LINNET" export made/model.onnx -o again.onnx -q
expect_same made/model.onnx again.onnx
expect_exit 0 "$LINNET" export made/model.onnx --masked-relu gather -o gather.onnx -q
expect_error 2 'it is a ReLU6 with a mask' "$LINNET" export made/model.onnx --masked-relu prelu -o no.onnx -q
expect_exit 0 "$LINNET" run made/model.onnx --input x_test.npy --output z.npy -q
if have_python; then
    for file in made/model.onnx gather.onnx; do
        expect_exit 0 "$PYTHON" "$SRC/tests/compare_logits.py" "$file" x_test.npy z.npy --normalize none
    done
else
    say "skipped: no Python with onnxruntime"
fi

# ---- private: both backends, two processes equal the simulation ----------------------------------------
expect_exit 0 "$LINNET_PI" info made/model.pi
expect_text out '30310 of 303104 kept, in [0-9]+ layers; a ReLU6 costs two ReLU evaluations: 60620'
expect_exit 0 "$LINNET" validate made --data "$data" --limit 10
for relu in gc ot; do
    expect_exit 0 "$LINNET_PI" bench made/model.pi --weights made/model.pi.weights --relu $relu --json b.json -v -q
    expect_text b.json '"logits_equal_sim2pc": true'
    expect_text b.json '"evaluations": [1-9]'
done
say "ReLU6: masked, exported, private by both backends"

# ---- as a Relu: another function, half the evaluations ---------------------------------------------------
expect_exit 0 "$LINNET" inspect "$model" --relu6 as-relu --json i.json
expect_number "$(json i.json relu_evaluations) == 303104" "as Relu"
expect_exit 0 "$LINNET" export "$model" --relu6 as-relu -o relu.onnx
expect_text err 'ReLU6 become Relu'
expect_error 2 'relu6' "$LINNET" inspect "$model" --relu6 refuse
