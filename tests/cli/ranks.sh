# Several ranks give the bytes of one process: training, a conversion with all its stages, evaluation, batch norm by
# shards; a run that lost a rank goes on with another number of them.
command -v mpirun >/dev/null || skip "no mpirun"
RANKS=$BUILD/linnet-mpi
[ -x "$RANKS" ] || RANKS=$LINNET
ldd "$RANKS" | grep -q libmpi || skip "no program with MPI ($BUILD/linnet-mpi)"
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_base_warn_component_unused=0
launch="mpirun --oversubscribe" # OpenMPI counts cores; MPICH starts what it is told
if mpirun --version 2>&1 | grep -q HYDRA; then launch=mpirun; fi
ranks() { # COUNT, COMMAND...
    count=$1
    shift
    $launch -n "$count" "$RANKS" "$@"
}
expect_exit 0 "$LINNET" init resnet8 -o start.onnx

# ---- what is equal: everything but seconds, images a second and the salt -------------------------
without_times() {
    sed -E 's/"(seconds|images_per_s)": ?[0-9.e+-]+//g; s/"sha256": ?"[0-9a-f]+"//g' "$1"
}
same_json() {
    without_times "$1" >json.one
    without_times "$2" >json.two
    expect_same json.one json.two
}
convert() { # FOLDER, PREFIX...
    folder=$1
    shift
    "$@" linearize start.onnx --data synth:100 --normalize half --relus 20% --preset quick \
        --teacher-epochs 1 --mask-epochs 2 --finetune-epochs 1 --finetune-min-steps 0 --batch 30 \
        --eval-attack-images 6 --eval-corrupt-images 6 $shards -o "$folder" --json "$folder.json"
}
shards=
expect_exit 0 convert one "$LINNET"
for count in 2 4; do
    expect_exit 0 convert "ranks$count" ranks $count
    for file in teacher.safetensors checkpoint.safetensors model.onnx model.adv.onnx config.json; do
        expect_same "one/$file" "ranks$count/$file"
    done
    same_json one/report.json "ranks$count/report.json"
    same_json one/metrics.jsonl "ranks$count/metrics.jsonl"
    same_json one.json "ranks$count.json"
    no_temporaries "ranks$count"
done

# ---- a rank is killed; another number of them goes on --------------------------------------------
train() { # FOLDER, OPTION..., after the prefix in $with
    folder=$1
    shift
    mkdir -p "$folder"
    $with train start.onnx --data synth:100 --normalize half --adversarial pgd:steps=2 \
        --augment augmix --dual-bn --epochs 5 --batch 30 --select mean --val-attack-images 5 \
        -o "$folder/y.onnx" "$@"
}
one_rank() { # of $pid, an mpirun; MPICH has a process between
    child=$(pgrep -P $pid | tail -n 1)
    pgrep -P "$child" | tail -n 1 | grep . || echo "$child"
}
all_ranks() {
    for child in $(pgrep -P $pid); do
        echo "$child"
        pgrep -P "$child" || true
    done
}
end_ranks() { # SIGNAL: of a rank; the whole run ends
    until [ -e cut/y.safetensors ]; do sleep 0.05; done
    victim=$(one_rank)
    ended=$(all_ranks)
    began=$(date +%s)
    kill -s "$1" "$victim"
    status=0
    wait $pid || status=$?
    for child in $ended; do # an mpirun may be gone before them, and then the folder is still theirs
        while kill -0 "$child" 2>/dev/null && [ $(($(date +%s) - began)) -lt 60 ]; do sleep 0.05; done
    done
    say "SIG$1 to one of the ranks: exit status $status after $(($(date +%s) - began)) s"
    [ $(($(date +%s) - began)) -lt 60 ] || die "the other ranks went on"
}
with=$LINNET
expect_exit 0 train whole
with="$launch -n 3 $RANKS"
(with="exec $with" && train cut) >log 2>&1 &
pid=$!
end_ranks KILL
[ $status -ne 0 ] || die "a lost rank was not noticed"
with="ranks 2"
expect_exit 0 train cut --resume
for file in y.safetensors y.onnx y.adv.onnx; do
    expect_same "whole/$file" "cut/$file"
done

# ---- a signal to one rank stops all of them, with the state saved ---------------------------------
rm -r cut
with="$launch -n 3 $RANKS"
(with="exec $with" && train cut) >log 2>&1 &
pid=$!
end_ranks USR1
[ $status -eq 75 ] || { cat log; die "exit status $status, expected 75"; }
with=$LINNET
expect_exit 0 train cut --resume
expect_same whole/y.safetensors cut/y.safetensors

# ---- a sweep: groups of ranks have budgets of their own; a signal to a rank of one group stops all -------------
budgets() { # FOLDER, OPTION...
    folder=$1
    shift
    $with sweep start.onnx --data synth:80 --normalize half --relus 30%,10% --preset quick --teacher-epochs 1 \
        --mask-epochs 1 --finetune-epochs 3 --finetune-min-steps 0 --batch 24 --eval-attack-images 2 \
        --eval-corrupt-images 0 -o "$folder" "$@"
}
with=$LINNET
expect_exit 0 budgets budgets1
with="ranks 3"
expect_exit 0 budgets budgets3
expect_text err "3 ranks work on 2 budgets in 2 groups"
with="$launch -n 3 $RANKS"
(with="exec $with" && budgets cut3) >log 2>&1 &
pid=$!
until [ -e cut3/relus-30p/checkpoint.safetensors ] || [ -e cut3/relus-10p/checkpoint.safetensors ]; do sleep 0.02; done
kill -USR1 "$(one_rank)"
status=0
wait $pid || status=$?
[ $status -eq 75 ] || { cat log; die "a sweep that one group stops: exit status $status, expected 75"; }
for budget in 30p 10p; do
    [ ! -e cut3/relus-$budget/report.json ] || die "budget $budget went on"
done
with="ranks 2"
expect_exit 0 budgets cut3 --resume
for budget in 30p 10p; do
    for file in checkpoint.safetensors model.onnx model.adv.onnx; do
        expect_same "budgets1/relus-$budget/$file" "budgets3/relus-$budget/$file"
        expect_same "budgets1/relus-$budget/$file" "cut3/relus-$budget/$file"
    done
done
same_json budgets1/sweep.json budgets3/sweep.json
no_temporaries budgets3

# ---- the job for Slurm: its time is up, it is queued again, it goes on ------------------------------
mkdir bin
printf '#!/bin/sh\necho "$@" >>requeued\n' >bin/scontrol
chmod +x bin/scontrol
job() {
    PATH=$PWD/bin:$PATH SLURM_JOB_ID=7 LINNET=$RANKS OUT=batch LAUNCH="$launch -n 2" \
        COMMAND="linearize start.onnx --data synth:100 --normalize half --relus 20% --preset quick --teacher-epochs 1
        --mask-epochs 2 --finetune-epochs 1 --finetune-min-steps 0 --batch 30 --eval-attack-images 6 --eval-corrupt-images 6" \
        exec "$SRC/cli/dist/linnet.sbatch"
}
job >log 2>&1 &
pid=$!
until [ -e batch/teacher.safetensors ]; do sleep 0.05; done
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status -eq 75 ] || { cat log; die "the job: exit status $status, expected 75"; }
expect_text requeued "^requeue 7$"
(job) >log 2>&1 || { cat log; die "the job, queued again, failed"; }
expect_same one/checkpoint.safetensors batch/checkpoint.safetensors
expect_same one/model.onnx batch/model.onnx

# ---- evaluation; a failure is told once and ends all ----------------------------------------------
measure() { # JSON, PREFIX...
    json=$1
    shift
    "$@" eval whole/y.safetensors --data synth:100 --limit 70 --batch 16 --attack pgd:steps=3 \
        --corruptions synth --types gaussian_noise --severities 2 --json "$json"
}
expect_exit 0 measure one.json "$LINNET"
mv out one.out
expect_exit 0 measure two.json ranks 3
expect_same one.out out
same_json one.json two.json
expect_exit 4 ranks 2 eval whole/y.onnx --data cifar10:nowhere
[ "$(grep -c '^linnet: eval: ' err)" -eq 1 ] || { cat err; die "not told once"; }

# ---- ranks that see other files: another model, another state --------------------------------------
apart() { # RANK 1's FOLDER: rank 0's is here
    command="train start.onnx --data synth:100 --normalize half --epochs 1 --batch 30 -o apart.onnx --resume"
    # shellcheck disable=SC2086 # words
    expect_exit 2 $launch -n 1 "$RANKS" $command : -n 1 -wdir "$PWD/$1" "$RANKS" $command
    expect_text err "train: stage 'train': the ranks do not begin with the same model, data and state"
}
mkdir other state
"$LINNET" init resnet8 --seed 2 -o other/start.onnx -q
apart other
cp start.onnx state
(cd state && "$LINNET" train start.onnx --data synth:100 --normalize half --epochs 1 --batch 30 -o apart.onnx -q)
apart state
# What befalls one rank alone is told by it, and ends the others.
mkdir nothing
# shellcheck disable=SC2086 # words
expect_exit 1 $launch -n 1 "$RANKS" $command : -n 1 -wdir "$PWD/nothing" "$RANKS" $command
expect_text err "^linnet: rank 1: cannot open start.onnx"

# ---- what they tell each other, by the formula of trainer/CLUSTER.md: 336 channels of batch norms, 77,370 other
# parameters, 30 images, 10 classes
expect_exit 0 ranks 3 train start.onnx --data synth:100 --normalize half --epochs 1 --batch 30 -o plain.onnx
expect_text err "3 ranks, between them $((2 * (16 * 16 * 336 + 16 * 8 * 336 + 4 * 30 * 10 + 8 * 77370))) bytes a step"

# ---- batch norm by shards -------------------------------------------------------------------------------
# The last 8 images of an epoch are two passes of 4, which are cut into two shards, fewer than there are ranks.
by_shards() { # FOLDER, PREFIX...
    folder=$1
    shift
    mkdir -p "$folder"
    "$@" train start.onnx --data synth:100 --train-limit 68 --normalize half --adversarial pgd:steps=2 --dual-bn \
        --epochs 2 --batch 30 --val-attack-images 5 --bn-shards 4 -o "$folder/y.onnx" --json "$folder/y.json"
}
expect_exit 0 by_shards shards1 "$LINNET"
expect_text out "batch norm in 4 shards"
expect_text shards1/y.json '"bn_shards": 4'
for count in 2 4; do
    expect_exit 0 by_shards shards$count ranks $count
    for file in y.safetensors y.onnx y.adv.onnx; do
        expect_same shards1/$file shards$count/$file
    done
done
expect_exit 0 env OMP_NUM_THREADS=3 "$LINNET" train start.onnx --data synth:100 --train-limit 68 --normalize half \
    --adversarial pgd:steps=2 --dual-bn --epochs 2 --batch 30 --val-attack-images 5 --bn-shards 4 -o threads.onnx
expect_same shards1/y.onnx threads.onnx
expect_exit 0 "$LINNET" train start.onnx --data synth:100 --train-limit 68 --normalize half \
    --adversarial pgd:steps=2 --dual-bn --epochs 2 --batch 30 --val-attack-images 5 -o threads.onnx
expect_different shards1/y.onnx threads.onnx

shards="--bn-shards 4 --recipe rlnet"
expect_exit 0 convert sharded1 "$LINNET"
expect_text out "statistics from each of 4 shards"
expect_text sharded1/report.json '"bn_shards": 4'
expect_text sharded1/report.html "each of 4 shards of a batch"
expect_exit 0 convert sharded4 ranks 4
for file in teacher.safetensors checkpoint.safetensors model.onnx model.adv.onnx config.json; do
    expect_same sharded1/$file sharded4/$file
done
same_json sharded1/report.json sharded4/report.json

# One of four ranks is killed; another number of shards is refused, another number of ranks goes on.
rm -r cut
with=$LINNET
expect_exit 0 train sharded --bn-shards 4
with="$launch -n 4 $RANKS"
(with="exec $with" && train cut --bn-shards 4) >log 2>&1 &
pid=$!
end_ranks KILL
with=$LINNET
expect_exit 2 train cut --bn-shards 2 --resume
expect_text err "it was written with 'bn-shards=4', now it is 'bn-shards=2'"
expect_exit 2 train cut --resume
expect_text err "it was written with 'bn-shards=4', now it is without"
expect_exit 2 train whole --bn-shards 4 --resume
expect_text err "it was written without 'bn-shards=4'"
with="ranks 2"
expect_exit 0 train cut --bn-shards 4 --resume
expect_same sharded/y.safetensors cut/y.safetensors

# Nor does a sweep take what was made with another number of shards.
with=$LINNET
expect_exit 2 budgets budgets1 --resume --bn-shards 4
expect_text err "was made with another --bn-shards"
sed -i '1s/{/{"bn-shards": 4,/' budgets1/teacher/config.json
expect_exit 2 budgets budgets1 --resume
expect_text err "was made with another --bn-shards"

# What cannot be. Bytes by the formula: sums for running statistics once a pass, gamma and beta as other gradients.
plain() { # RANKS, SHARDS, OUTPUT
    rm -f "$3" plain.safetensors
    ranks "$1" train start.onnx --data synth:100 --normalize half --epochs 1 --batch 30 --bn-shards "$2" -o "$3"
}
expect_exit 2 plain 1 3 plain.onnx
expect_text err "must divide the 16 blocks"
expect_exit 2 plain 4 2 plain.onnx
expect_text err "a shard must lie in one rank.*Hint: --bn-shards 4"
expect_exit 2 plain 3 4 plain.onnx
expect_text err "Hint: start 1, 2, 4, 8 or 16 ranks"
expect_exit 2 plain 1 16 plain.onnx
expect_text err "16 shards of batch norm need 2 images each, but a pass has 30"
for count in 2 4; do
    expect_exit 0 plain $count 4 plain.onnx
    expect_text err "$count ranks, between them $(((count - 1) * (4 * 16 * 336 + 2 * 8 * 336 + 4 * 30 * 10 + 8 * 77370))) bytes a step"
done
