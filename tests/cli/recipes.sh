# Recipes, stages, teachers, masks and budgets from files, sweep: what each writes, and that the parts
# of a conversion can be run one by one.
model=$SRC/tests/demo/resnet8.onnx
run() { # FOLDER, OPTION...
    folder=$1
    shift
    expect_exit 0 "$LINNET" linearize "$model" --data synth:100 --preset quick --teacher-epochs 2 --mask-epochs 2 \
        --finetune-epochs 2 --attack-steps 1 --batch 30 --eval-attack-images 0 --eval-corrupt-images 0 -q -o "$folder" "$@"
}

# ---- in one go, and stage by stage ---------------------------------------------------------------
run whole --relus 20%
run teacher --stages teacher
[ -f teacher/teacher.onnx ] && [ -f teacher/teacher.adv.onnx ] && [ ! -e teacher/model.onnx ] || die "teacher alone"
run student --relus 20% --teacher teacher/teacher.safetensors
expect_same whole/model.onnx student/model.onnx
run parts --stages teacher
run parts --stages mask,finetune --relus 20% --resume
expect_same whole/model.onnx parts/model.onnx
run settings --config whole/config.json
expect_same whole/checkpoint.safetensors settings/checkpoint.safetensors
expect_keys whole/report.json attention masks nhd turnover frozen stages seconds sensitivity
expect_text whole/report.json '"layer3.0.relu2"'
say "three stages in one go, one by one, from a teacher, from config.json: the same bytes"
expect_exit 2 "$LINNET" linearize "$model" --data synth:100 --relus 20% --teacher teacher/teacher.safetensors \
    --stages teacher -o no -q

# ---- baselines, losses, scores ---------------------------------------------------------------------
student() { run "$@" --relus 20% --teacher teacher/teacher.safetensors; }
student senet --recipe senet --finetune-loss kl+at+ce --mask-epochs 1 --finetune-epochs 1
student at3 --finetune-loss kl+at3+ce --stages finetune --finetune-epochs 1
student taylor --score taylor --mask-epochs 2 --finetune-epochs 0 --freeze-epoch 1
expect_text taylor/report.json '"frozen": true'
[ ! -e senet/model.adv.onnx ] && [ -f at3/model.adv.onnx ] || die "branches"
student snl --recipe snl --threads 2
student snl1 --recipe snl --threads 1
student snlp --recipe snl --mask-rule penalty --mask-travel 0 --lambda 1e-3
expect_different snl/model.onnx snlp/model.onnx
expect_same snl/checkpoint.safetensors snl1/checkpoint.safetensors
student rlnet --recipe rlnet --threads 2
student rlnet1 --recipe rlnet --score diff0 --threads 1
expect_same rlnet/checkpoint.safetensors rlnet1/checkpoint.safetensors
expect_different rlnet/model.onnx whole/model.onnx
student residual --recipe linnet --removed line --threads 2
student residual1 --recipe linnet --removed line --threads 1
expect_same residual/checkpoint.safetensors residual1/checkpoint.safetensors
student residualm --recipe rlnet --score residual --removed half --stages mask
for folder in whole rlnet senet at3 taylor snl snlp residual residualm; do
    expect_exit 0 "$LINNET" inspect $folder/model.onnx --json i.json
    expect_number "$(json i.json relus_kept) == 14745" "ReLUs of $folder"
done
expect_error 2 '--first-mask random: the score residual' "$LINNET" linearize "$model" --data synth:100 --relus 20% --score residual \
    --first-mask random -o no -q
recipe() { # FOLDER, its recipe, its score
    expect_text "$1/config.json" "\"recipe\": \"$2\""
    expect_text "$1/config.json" "\"score\": \"$3\""
}
run none --preset none --relus 20%
recipe whole linnet residual
recipe none rlnet diff0
recipe rlnet rlnet diff0
recipe residual linnet residual
recipe residualm rlnet residual
say "senet, snl, attention transfer on three domains, taylor, residual: 14,745 ReLUs each"

# ---- the reference's defects: 7 layers, each one ReLU short; two networks in one folder ------------
published() { # FOLDER, OPTION...
    run "$@" --preset paper --as-published --relus 20% --teacher-epochs 1 --mask-epochs 2 --finetune-epochs 1 \
        --finetune-batch 45 --val-attack-images 5
}
published published
recipe published rlnet actdiff
expect_text published/report.json '"kept": 14738,'
expect_text published/config.json '"as-published": true'
for file in published/checkpoint.safetensors published/teacher.safetensors published/model.onnx; do
    expect_exit 0 "$LINNET" eval $file --data synth:100 --normalize half -q
done
rm published/model.onnx
published published --resume
published again
expect_same published/model.onnx again/model.onnx
say "as published: 14,738 ReLUs, random student without identity skips, the same bytes again"

# ---- masks and budgets from files ------------------------------------------------------------------
run masked --recipe senet --masks snl/model.onnx --teacher-epochs 0 --finetune-epochs 0
expect_exit 0 "$LINNET" inspect masked/model.onnx --json b.json
run masked2 --recipe senet --masks snl/checkpoint.safetensors --teacher-epochs 0 --finetune-epochs 0
expect_same masked/model.onnx masked2/model.onnx
echo '{"relu": 0, "layer1.0.relu1": "50%", "layer1.0.relu2": 0.25}' >pins.json
run pinned --recipe senet --preset none --relus 20% --layer-budgets pins.json --empty-cheapest 1
"$LINNET" inspect pinned/model.onnx >pinned.txt
expect_text pinned/report.json '"kept": 8192,'
expect_text pinned/report.json '"kept": 4096,'
[ "$(grep -c '"kept": 0,' pinned/report.json)" -eq 2 ] || die "two empty layers"
run pinned2 --recipe senet --preset none --relus 20% --layer-budgets pins.json --score residual
expect_text pinned2/report.json '"kept": 8192,'
expect_text pinned2/report.json '"kept": 4096,'
layers() { grep -o '"kept": [0-9]*,' "$1/report.json"; }
run adopted --relus 20% --teacher teacher/teacher.safetensors --stages mask --masks rlnet/model.onnx # by the score residual
expect_text adopted/report.json '"turnover": 0\.[0-9]*[1-9]'
[ "$(layers adopted)" = "$(layers rlnet)" ] && [ "$(layers adopted)" != "$(layers whole)" ] || die "ReLUs of layers, --masks"
echo '[1, 2, 3]' >short.json
expect_error 2 'the list has 3 values, the network has 7' "$LINNET" linearize "$model" --data synth:100 \
    --preset none --layer-budgets short.json -o no -q
expect_error 2 'keeps 14745 ReLUs, --relus says 7372' "$LINNET" linearize "$model" --data synth:100 --preset none \
    --relus 10% --masks snl/model.onnx -o no -q
say "masks of a model and of a checkpoint, budgets pinned by name"

# ---- sweep -----------------------------------------------------------------------------------------
expect_error 2 "--relus 'x'" "$LINNET" sweep "$model" --data synth:100 --relus 30%,x -o slip
sweep() {
    expect_exit 0 "$LINNET" sweep "$model" --data synth:100 --relus 30%,20% --preset quick --teacher-epochs 2 \
        --mask-epochs 2 --finetune-epochs 2 --attack-steps 1 --batch 30 --eval-attack-images 10 \
        --eval-corrupt-images 0 -q -o sweep "$@"
}
sweep
expect_keys sweep/sweep.json format teacher given budgets relus folder pi_online_seconds
expect_text out '^20% +14745 '
cp out first.txt
# The files differ in what they say of the attack: here 10 images, there none.
expect_exit 0 "$LINNET" data synth:100 --limit 20 -o x.npy -q
for folder in sweep/relus-20p whole; do
    expect_exit 0 "$LINNET" run $folder/model.onnx --input x.npy --output $folder/y.npy -q
done
expect_same sweep/relus-20p/y.npy whole/y.npy
rm sweep/relus-20p/report.json
sweep --resume
expect_same out first.txt
expect_exit 2 "$LINNET" sweep "$model" --data synth:100 --relus 30% --preset quick -q -o sweep --resume
expect_text err 'was made with another --'
say "sweep: two budgets, continued, the same table"
