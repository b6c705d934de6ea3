# The job for Slurm, with programs that stand for srun, scontrol, squeue and linnet: what they are given, and after which
# ends the job is queued again. tests/cli/ranks.sh runs it with real ranks.
mkdir bin
printf '#!/bin/sh\necho "$SRUN_CPUS_PER_TASK $OMP_NUM_THREADS $*" >srun.args\nwhile [ "$1" != linnet ]; do shift; done\nexec "$@"\n' >bin/srun
printf '#!/bin/sh\necho "$*" >>requeued\n' >bin/scontrol
printf '#!/bin/sh\necho "$STATE"\n' >bin/squeue
cat >bin/linnet <<'END'
#!/bin/sh
echo "$*" >linnet.args
[ -z "$SAVES" ] || { mkdir -p "$(dirname "$SAVES")"; : >"$SAVES"; }
[ -z "$WAITS" ] || { trap 'exit 75' USR1; : >ready; while :; do sleep 0.1; done; }
exit "$ENDS"
END
chmod +x bin/*
export OUT=run PATH="$PWD/bin:$PATH" SLURM_JOB_ID=7 SLURM_CPUS_PER_TASK=16
# job STATUS QUEUED ENDS SAVES STATE: the job ends with STATUS, was queued again or not ("yes", "no")
job() {
    rm -f requeued
    status=0
    LINNET=linnet ENDS=$3 SAVES=$4 STATE=$5 WAITS= bash "$SRC/cli/dist/linnet.sbatch" >log 2>&1 || status=$?
    [ $status -eq "$1" ] || { cat log; die "exit status $status, expected $1"; }
    queued=no
    [ ! -e requeued ] || queued=yes
    [ $queued = "$2" ] || { cat log; die "exit status $1, $5: queued again: $queued, expected $2"; }
}

# Words as they stand in the file: threads for each rank, and a command that linnet takes.
job 0 no 0 "" RUNNING
expect_text srun.args '^16 16 '
read -r _ words <linnet.args
# shellcheck disable=SC2086 # words
expect_exit "1 3" "$LINNET" linearize $words # there is no model.onnx
expect_text err 'model.onnx'

job 75 yes 75 "" "RUNNING None"
expect_text requeued '^requeue 7$'
job 75 yes 75 "" "COMPLETING TimeLimit"
job 75 no 75 "" "COMPLETING None"
job 75 no 75 "" "CANCELLED None"
job 4 no 4 "" RUNNING
# A lost rank: again, where a state was saved that was not there before.
job 137 no 137 "" RUNNING
job 137 yes 137 run/checkpoint.safetensors RUNNING
job 143 no 143 "" RUNNING
job 137 yes 137 run/relus-10p/checkpoint.safetensors RUNNING
export OUT=y.onnx
job 137 yes 137 y.safetensors RUNNING
job 137 no 137 "" RUNNING

# Two minutes before the end: SIGTERM to the script, SIGUSR1 to what it has launched.
rm -f requeued
LINNET=linnet ENDS=1 SAVES= STATE=RUNNING WAITS=1 bash "$SRC/cli/dist/linnet.sbatch" >log 2>&1 &
pid=$!
until [ -e ready ]; do sleep 0.05; done
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status -eq 75 ] && [ -e requeued ] || { cat log; die "after SIGTERM: exit status $status"; }
