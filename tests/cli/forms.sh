# Cutting without training; the three forms of a masked ReLU; export is a fixed point.
#
# check_forms NAME MODEL DATA KEPT TOTAL NORMALIZE
check_forms() {
    name=$1 kept=$4 normalize=$6
    expect_exit 0 "$LINNET" linearize "$2" --data "$3" --normalize "$normalize" --preset none --relus 10% \
        --eval-attack-images 10 --eval-corrupt-images 10 -o "$name" -q
    for file in model.onnx model.pi model.pi.weights checkpoint.safetensors report.json metrics.jsonl; do
        [ -f "$name/$file" ] || die "linearize wrote no $file"
    done
    expect_keys "$name/report.json" format config seed budget total kept layers teacher result stages
    expect_exit 0 "$LINNET" inspect "$name/model.onnx" --json inspect.json
    expect_number "$(json inspect.json relus_kept) == $kept" "$name: kept ReLUs"
    expect_number "$(json inspect.json relus_total) == $5" "$name: all ReLUs"

    expect_exit 0 "$LINNET" data "$3" --split test --limit 64 -o x.npy -q
    expect_exit 0 "$LINNET" run "$name/model.onnx" --input x.npy --output want.npy
    expect_exit 0 "$LINNET" run "$name/checkpoint.safetensors" --input x.npy --output y.npy
    expect_same want.npy y.npy
    # the gather form folds batch norm, which rounds differently from a model that keeps it
    expect_exit 0 "$LINNET" export "$name/model.onnx" --fold-bn -o folded.onnx
    expect_exit 0 "$LINNET" run folded.onnx --input x.npy --output folded.npy
    for form in where prelu gather; do
        for opset in 13 17 21; do
            f=$name/$form$opset.onnx
            expect_exit 0 "$LINNET" export "$name/model.onnx" --masked-relu $form --opset $opset -o "$f"
            [ $form != gather ] || expect_text err "one image at a time: this form fixes the batch at 1"
            expect_exit 0 "$LINNET" export "$f" --masked-relu $form --opset $opset -o again.onnx
            expect_same "$f" again.onnx
            expect_exit 0 "$LINNET" inspect "$f" --json inspect.json
            expect_number "$(json inspect.json relus_kept) == $kept" "$f: kept ReLUs"
            expect_number "$(json inspect.json opset) == $opset" "$f: opset"
            expect_exit 0 "$LINNET" run "$f" --input x.npy --output y.npy
            case $form in gather) expect_same folded.npy y.npy ;; *) expect_same want.npy y.npy ;; esac
            if have_python; then
                "$PYTHON" "$SRC/tests/compare_logits.py" "$f" x.npy want.npy --normalize "$normalize" --labels
            fi
        done
    done
    expect_same "$name/model.onnx" "$name/where17.onnx"
    expect_exit 0 "$LINNET" export "$name/checkpoint.safetensors" -o again.onnx
    expect_exit 0 "$LINNET" run again.onnx --input x.npy --output y.npy
    expect_same want.npy y.npy
    say "$name: $kept of $5 ReLUs; where, prelu, gather at opsets 13, 17, 21 agree and are fixed points"
}

check_forms demo "$SRC/tests/demo/resnet8.onnx" synth:400 7372 73728 half
if have_shared; then
    mini_cifar cifar
    check_forms resnet20 "$(shared models/resnet20_cifar10.onnx)" cifar10:cifar \
        18841 188416 imagenet
else
    skip_part "resnet20_cifar10.onnx, there is no folder of real models"
fi
