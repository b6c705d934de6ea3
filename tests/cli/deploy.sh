# --deploy adv|single, and what a student may learn of: other teachers, extra images, averaged weights,
# smoothed labels, trades. Killed in each stage of the student and continued: the same bytes.
model=$SRC/tests/demo/resnet8.onnx
expect_exit 0 "$LINNET" data synth:40 --seed 7 --split train -o x.npy --labels y.npy -q
expect_exit 0 "$LINNET" init resnet20 -o other.onnx -q
cut() { # FOLDER, OPTION...
    folder=$1
    shift
    "$LINNET" linearize "$model" --data synth:100 --relus 20% --preset quick --teacher-epochs 1 --mask-epochs 2 \
        --finetune-epochs 2 --attack-steps 1 --batch 30 --eval-attack-images 0 --eval-corrupt-images 0 --val-attack-images 5 \
        -q -o "$folder" "$@"
}
more="--deploy single --removed half --ema --trades 2 --label-smoothing 0.1 --extra npy:$PWD/x.npy,$PWD/y.npy
    --extra-share 0.2 --logit-teacher $PWD/other.onnx"

# ---- single: one branch, its name everywhere -------------------------------------------------------------
# shellcheck disable=SC2086
expect_exit 0 cut single $more --threads 2 --eval-attack-images 2
expect_text out '^Deployed file \(branch single\): clean .*, PGD-20 .*, AutoAttack fast .*\(n 2\)'
[ -e single/model.onnx ] && [ ! -e single/model.adv.onnx ] || die "single is one file"
for file in model.onnx checkpoint.safetensors; do
    expect_exit 0 "$LINNET" eval single/$file --data synth:100 --branch single --json e.json -q
    expect_text e.json '"name": "single"'
    expect_text e.json '"deployed": true'
done
expect_exit 0 "$LINNET_PI" info single/model.pi
expect_text out '^BN branch  single'
expect_exit 0 "$LINNET" validate single --data synth:100 --limit 10 --min-agreement 0 --max-accuracy-change 100
expect_error 2 "only one batch-norm branch, 'single'" "$LINNET" export single/checkpoint.safetensors --branch clean -o no.onnx -q
expect_text single/config.json '"deploy": "single"'
expect_text single/config.json '"single-share": 1'
expect_text single/config.json '"single-eps": 0.0235'
expect_text single/config.json '"logit-teacher": ".*other.onnx"'
grep -aq 'ema=0.999' single/checkpoint.safetensors || die "the state does not know of the average"

# ---- the same bytes --------------------------------------------------------------------------------------
same() {
    for file in teacher.safetensors checkpoint.safetensors; do
        expect_same "single/$file" "$1/$file"
    done
}
# shellcheck disable=SC2086
expect_exit 0 cut one $more --threads 1
same one
in_stage() { [ -e "$1" ] && head -c 65536 "$1" | grep -aq "\"stage\":\"$2\""; }
for stage in mask finetune; do
    # shellcheck disable=SC2086
    cut killed_$stage $more --threads 1 >log 2>&1 &
    pid=$!
    until in_stage killed_$stage/checkpoint.safetensors $stage; do
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    pkill -KILL -P $pid 2>/dev/null || kill -KILL $pid 2>/dev/null || true
    wait $pid || true
    # shellcheck disable=SC2086
    expect_exit 0 cut killed_$stage $more --resume
    same killed_$stage
done
# shellcheck disable=SC2086
expect_exit 2 cut single $more --resume --trades 3
expect_text err "it was written with '.*trades=2'"
# shellcheck disable=SC2086
expect_exit 2 cut single $more --resume --single-share 0.5
expect_text err "it was written with '.*clean=0'"
say "single: one and two threads, killed in both stages of the student: the same bytes"

# ---- attacked images alone: other passes, which would count for nothing, are left out, but where scores are read ----
passes() { # FOLDER, "clean=C augment=A" of its last stage, radius in training
    grep -aq " $2 " "$1/checkpoint.safetensors" || die "$1: not $2"
    grep -aqF "$3" "$1/model.onnx" || die "$1: not trained within $3"
}
passes single 'clean=0 augment=0' 6/255
expect_exit 0 cut mask --deploy single --single-eps 5/255 --stages teacher,mask
passes mask 'clean=1 augment=1' 5/255
expect_exit 0 cut attention --deploy single --finetune-loss kl+at
passes attention 'clean=1 augment=1' 6/255
expect_exit 0 cut mixed --deploy single --single-share 0.9 --recipe rlnet # whose scores need the clean pass
passes mixed 'clean=1 augment=1' 6/255
expect_exit 0 "$LINNET" linearize "$model" --data synth:100 --relus 20% --preset quick --deploy single --single-eps 5.5/255 \
    --teacher-epochs 1 --mask-epochs 1 --finetune-epochs 1 --attack-steps 1 --batch 30 --eval-attack-images 0 \
    --eval-corrupt-images 0 --val-attack-images 5 -o told
expect_text err 'ReLUs: 1 epoch .* with attacked ones \(eps 8/255\)'
expect_text err 'left: 1 epoch .* attacked ones alone \(eps 5.5/255\)'
say "single: trained on attacked images alone"

# ---- adv: the branch that is deployed is the file that stands first ----------------------------------------
expect_exit 0 cut adv --deploy adv --mask-epochs 0 --finetune-epochs 1
expect_same adv/model.onnx adv/model.adv.onnx
expect_different adv/model.onnx adv/model.clean.onnx
expect_exit 0 "$LINNET_PI" info adv/model.pi
expect_text out '^BN branch  adv'
expect_exit 0 "$LINNET" export adv/checkpoint.safetensors -o adv.onnx -q
expect_exit 0 "$LINNET" eval adv.onnx --data synth:100 --json e.json -q
expect_text e.json '"name": "adv"'
expect_text adv/report.json '"name": "adv"'

# ---- refusals --------------------------------------------------------------------------------------------
refused() { # PATTERN, OPTION...
    pattern=$1
    shift
    expect_exit 2 cut no "$@"
    expect_text err "$pattern"
}
refused 'is clean, adv or single' --deploy both
refused 'needs adversarial training' --deploy single --recipe senet
refused 'needs adversarial training' --trades 1 --recipe senet
expect_exit 0 "$LINNET" init resnet8 --classes 7 -o seven.onnx -q
refused 'its input or number of classes' --clean-teacher seven.onnx
expect_exit 4 cut no --extra synth:60
expect_text err '^linnet: linearize: .*--extra'
