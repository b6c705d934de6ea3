# Killed and interrupted runs: --resume ends with the same bytes as a run that was left alone; one
# and two threads give the same bytes.

# start COMMAND...: in the background; its process is $pid, its output ./log
start() {
    "$@" >log 2>&1 &
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
    set -- "$LINNET" train start.onnx --data synth:400 --normalize half --adversarial pgd:steps=2 \
        --augment augmix --dual-bn --epochs 5 --batch 40 --select mean --val-attack-images 20 \
        -o "$folder/y.onnx" "$@"
}
same_training() {
    for file in y.safetensors y.onnx y.adv.onnx; do
        expect_same "full/$file" "$1/$file"
    done
    no_temporaries "$1"
}
train full --threads 2
expect_exit 0 "$@"
train one --threads 1
expect_exit 0 "$@"
same_training one

train early
start "$@"
when log_has 'train, .* validation images'
stop KILL 137
train middle
start "$@"
when test -e middle/y.safetensors
stop KILL 137
train late
start "$@"
when test -e late/y.safetensors
for i in 1 2; do
    remember late/y.safetensors
    when replaced late/y.safetensors
done
stop KILL 137
train term
start "$@"
when test -e term/y.safetensors
stop TERM 75
expect_text log '^linnet: train: .*term/y.safetensors'
for folder in early middle late term; do
    rm -f $folder/*.tmp-*
    [ ! -e $folder/y.onnx ] || die "$folder was over before it was killed"
    train $folder --resume
    expect_exit 0 "$@"
    same_training $folder
done
train full --resume
expect_exit 0 "$@"
same_training full
train full --resume --lr 0.01
expect_error 2 "it was written with 'lr=" "$@"
say "train: killed at the start, in epochs 2 and 4, SIGTERM in epoch 2, one thread: the same bytes"

# ---- linearize: three stages ----------------------------------------------------------------------
cut() { # FOLDER, OPTION...
    folder=$1
    shift
    set -- "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data synth:300 --relus 20% --preset quick \
        --teacher-epochs 3 --mask-epochs 3 --finetune-epochs 3 --attack-steps 1 --batch 40 \
        --eval-attack-images 10 --eval-corrupt-images 10 -o "$folder" "$@"
}
same_cut() {
    for file in teacher.safetensors checkpoint.safetensors model.onnx model.adv.onnx; do
        expect_same "cut/$file" "$1/$file"
    done
    [ -f "$1/model.pi" ] && [ -f "$1/model.pi.weights" ] && [ -f "$1/report.json" ] || die "$1 is incomplete"
    no_temporaries "$1"
}
cut cut --threads 2
expect_exit 0 "$@"
cut cut1 --threads 1
expect_exit 0 "$@"
same_cut cut1

cut teacher
start "$@"
when test -e teacher/teacher.safetensors
stop KILL 137
cut mask
start "$@"
when in_stage mask/checkpoint.safetensors mask
stop KILL 137
cut finetune
start "$@"
when in_stage finetune/checkpoint.safetensors finetune
stop KILL 137
cut term2
start "$@"
when in_stage term2/checkpoint.safetensors mask
stop TERM 75
for folder in teacher mask finetune term2; do
    rm -f $folder/*.tmp-*
    [ ! -e $folder/model.onnx ] || die "$folder was over before it was killed"
    cut $folder --resume
    expect_exit 0 "$@"
    same_cut $folder
done
say "linearize: killed in each stage, SIGTERM in the second, one thread: the same bytes"
