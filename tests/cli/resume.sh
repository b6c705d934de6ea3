# Killed and interrupted runs: --resume ends with the same bytes as a run that was left alone; one
# and two threads give the same bytes.

# start FUNCTION...: train or cut below in the background; the process is $pid, its output ./log
in_place=
start() {
    (in_place=exec && "$@") >log 2>&1 &
    pid=$!
}
# when TEST...: waits until it holds while $pid runs
when() {
    until "$@"; do
        ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null ||
            { tail -n 20 log; die "the run was over before: $*"; }
        sleep 0.02
    done
}
# stop SIGNAL CODE: ends $pid, checks its exit status
stop() {
    kill -s "$1" $pid || { tail -n 20 log; die "the run was over before it was killed"; }
    status=0
    wait $pid || status=$?
    [ $status -eq "$2" ] || { tail -n 20 log; die "exit status $status after SIG$1, expected $2"; }
}
log_has() { grep -q "$1" log; }
# replaced FILE: was it written again since `remember FILE`?
remember() { inode=$(ls -i "$1"); }
replaced() { [ "$(ls -i "$1")" != "$inode" ]; }
in_stage() { [ -e "$1" ] && head -c 65536 "$1" | grep -aq "\"stage\":\"$2\""; }

# ---- train: five epochs, a checkpoint after each -------------------------------------------------
expect_exit 0 "$LINNET" init resnet8 -o start.onnx
train() { # FOLDER, OPTION...
    folder=$1
    shift
    mkdir -p "$folder"
    $in_place "$LINNET" train start.onnx --data synth:100 --normalize half --adversarial pgd:steps=2 \
        --augment augmix --dual-bn --epochs 5 --batch 30 --select mean --val-attack-images 5 \
        -o "$folder/y.onnx" "$@"
}
same_training() {
    for file in y.safetensors y.onnx y.adv.onnx; do
        expect_same "full/$file" "$1/$file"
    done
    no_temporaries "$1"
}
expect_exit 0 train full --threads 2
expect_exit 0 train one --threads 1
same_training one

start train early
when log_has 'train, .* validation images'
stop KILL 137
start train middle
when test -e middle/y.safetensors
stop KILL 137
start train late
when test -e late/y.safetensors
for i in 1 2; do
    remember late/y.safetensors
    when replaced late/y.safetensors
done
stop KILL 137
start train term
when test -e term/y.safetensors
stop TERM 75
expect_text log '^linnet: train: .*term/y.safetensors'
for folder in early middle late term; do
    [ ! -e $folder/y.onnx ] || die "$folder was over before it was killed"
    expect_exit 0 train $folder --resume
    same_training $folder
done
expect_exit 0 train full --resume
same_training full
expect_exit 2 train full --resume --lr 0.01
expect_text err "^linnet: train: .*it was written with 'lr="
say "train: killed at the start, in epochs 2 and 4, SIGTERM in epoch 2, one thread: the same bytes"

# ---- linearize: three stages ----------------------------------------------------------------------
cut() { # FOLDER, OPTION...
    folder=$1
    shift
    $in_place "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data synth:100 --relus 20% --preset quick \
        --teacher-epochs 3 --mask-epochs 3 --finetune-epochs 3 --attack-steps 1 --batch 30 \
        --eval-attack-images 0 --eval-corrupt-images 0 -o "$folder" "$@"
}
same_cut() {
    for file in teacher.safetensors checkpoint.safetensors model.onnx model.adv.onnx; do
        expect_same "cut/$file" "$1/$file"
    done
    [ -f "$1/model.pi" ] && [ -f "$1/model.pi.weights" ] && [ -f "$1/report.json" ] || die "$1 is incomplete"
    no_temporaries "$1"
    epochs_of cut >want.txt
    epochs_of "$1" >got.txt
    expect_same want.txt got.txt
    for stage in teacher mask finetune; do
        expect_text "$1/report.json" "\"name\": \"$stage\""
    done
}
# every epoch once, whatever was killed
epochs_of() { sed -n 's/^{"event":"\([a-z]*\)","stage":"\([a-z]*\)","epoch":\([0-9]*\),.*/\1 \2 \3/p' "$1/metrics.jsonl"; }
expect_exit 0 cut cut --threads 2
expect_exit 0 cut cut1 --threads 1
same_cut cut1

start cut teacher
when test -e teacher/teacher.safetensors
stop KILL 137
start cut mask
when in_stage mask/checkpoint.safetensors mask
stop KILL 137
start cut finetune
when in_stage finetune/checkpoint.safetensors finetune
stop KILL 137
start cut term2
when in_stage term2/checkpoint.safetensors mask
stop TERM 75
expect_exit 0 "$LINNET" export term2/checkpoint.safetensors -o part.onnx
expect_text err "warning: stage 'mask' is not finished"
expect_exit 0 "$LINNET" export cut/checkpoint.safetensors -o whole.onnx
! grep -q "not finished" err || die "a finished checkpoint is warned about"
for folder in teacher mask finetune term2; do
    [ ! -e $folder/model.onnx ] || die "$folder was over before it was killed"
    expect_exit 0 cut $folder --resume
    same_cut $folder
done
say "linearize: killed in each stage, SIGTERM in the second, one thread: the same bytes"
cp cut/config.json config.json
for changed in "--score actdiff" "--smoothing 0.25" "--normalize cifar10" "--data synth:110" "--relus 10%"; do
    # shellcheck disable=SC2086
    expect_exit 2 cut cut --resume $changed
    expect_text err "cut/[a-z]*.safetensors.*it was (written with|trained from)"
    expect_same config.json cut/config.json
done
say "settings that changed are refused and change nothing"

# ---- the baselines: killed in each of their stages, one and two threads -----------------------------
for recipe in senet snl; do
    baseline="--recipe $recipe --stages mask,finetune"
    # shellcheck disable=SC2086
    expect_exit 0 cut $recipe $baseline --threads 2
    for stage in mask finetune; do
        # shellcheck disable=SC2086
        start cut ${recipe}_$stage $baseline --threads 1
        when in_stage ${recipe}_$stage/checkpoint.safetensors $stage
        stop KILL 137
        # shellcheck disable=SC2086
        expect_exit 0 cut ${recipe}_$stage $baseline --threads 1 --resume
        expect_same $recipe/checkpoint.safetensors ${recipe}_$stage/checkpoint.safetensors
        expect_same $recipe/model.onnx ${recipe}_$stage/model.onnx
    done
done
say "senet, snl: killed in each stage and continued on one thread: the bytes of two threads"
