# --removed half|line: what a removed ReLU becomes, through training, resume, ONNX, package and two-party
# simulation; what is public, and what is refused.
model=$SRC/tests/demo/resnet8.onnx
run() { # FOLDER, OPTION...
    folder=$1
    shift
    expect_exit 0 "$LINNET" linearize "$model" --data synth:60 --recipe senet --preset quick --stages mask,finetune \
        --mask-epochs 2 --finetune-epochs 1 --freeze none --batch 20 --eval-attack-images 0 --eval-corrupt-images 0 \
        --relus 20% --calib 40 -o "$folder" "$@"
}

# ---- half: trained, the same bytes whatever the threads, a package that publishes nothing but masks -----
run half --removed half -q
run half1 --removed half --threads 1 -q
expect_same half/checkpoint.safetensors half1/checkpoint.safetensors
expect_same half/model.onnx half1/model.onnx
expect_text half/config.json '"removed": "half"'
expect_text half/report.json '"removed": "half"'
expect_exit 0 "$LINNET" export half/checkpoint.safetensors -o again.onnx
expect_exit 0 "$LINNET" export half/model.onnx -o twice.onnx
expect_same half/model.onnx twice.onnx
expect_exit 0 "$LINNET_PI" info half/model.pi
expect_text out 'x / 2 \+ b in'
expect_exit 0 "$LINNET" validate half --data synth:60 --limit 20 --mode sim2pc
rm half/model.onnx
run half --removed half --resume -q
expect_same half/model.onnx half1/model.onnx
expect_error 2 'another|other settings|cannot continue' "$LINNET" linearize "$model" --data synth:60 --recipe senet \
    --preset quick --stages mask,finetune --mask-epochs 2 --finetune-epochs 1 --freeze none --batch 20 \
    --eval-attack-images 0 --eval-corrupt-images 0 --relus 20% --calib 40 --removed line --resume -o half -q
say "half: same bytes for 1 thread and 2, ONNX read and written again, sim2pc within tolerance"

# ---- line: no package unless the slopes may be public --------------------------------------------------
run line --removed line
expect_text err 'publish the slopes of removed ReLUs'
[ -f line/model.onnx ] && [ ! -e line/model.pi ] || die "a package with slopes nobody agreed to publish"
expect_error 3 'publish-slopes' "$LINNET" export line/model.onnx --pi line --data synth:60 --calib 40 -q
expect_exit 0 "$LINNET" export line/model.onnx --pi line --data synth:60 --calib 40 --publish-slopes -q
expect_exit 0 "$LINNET_PI" info line/model.pi
expect_text out 'PUBLIC'
expect_exit 0 "$LINNET" validate line --data synth:60 --limit 20
expect_error 2 'only the form where' "$LINNET" export line/model.onnx --masked-relu gather -o no.onnx -q
say "line: slopes are published on request only"

# ---- refusals --------------------------------------------------------------------------------------------
expect_error 2 'snl learns its masks beside the identity' "$LINNET" linearize "$model" --data synth:60 \
    --recipe snl --relus 20% --removed line -o no -q
expect_error 2 "reference's removed ReLUs" "$LINNET" linearize "$model" --data synth:60 --preset paper \
    --as-published --relus 20% --removed half -o no -q
expect_error 2 'belongs to --pi' "$LINNET" export "$model" --publish-slopes -o no.onnx -q
