# One run per output folder; what killed runs leave; signals; streams that are closed.
when() {
    until "$@"; do
        kill -0 $pid 2>/dev/null || { tail -n 20 log; die "the run was over before: $*"; }
        sleep 0.02
    done
}
# ends SIGNAL CODE: of $pid
ends() {
    kill -s "$1" $pid
    status=0
    wait $pid || status=$?
    [ $status -eq "$2" ] || { tail -n 20 log; die "exit status $status after SIG$1, expected $2"; }
}
pid=
trap '[ -z "$pid" ] || kill -s KILL $pid 2>/dev/null || true' EXIT
log_has() { grep -q "$1" log; }
"$LINNET" init resnet8 -o start.onnx
cut() {
    "$LINNET" linearize start.onnx --data synth:100 --normalize half --relus 50% --teacher-epochs 1 --mask-epochs 1 \
        --finetune-epochs 1 --attack-steps 1 --eval-attack-images 1 --eval-corrupt-images 1 "$@"
}

# ---- a folder has one owner ----------------------------------------------------------------------
(exec "$LINNET" linearize start.onnx --data synth:100 --normalize half --relus 50% --teacher-epochs 500 -o mine) >log 2>&1 &
pid=$!
when test -s mine/.linnet.lock
when test -e mine/teacher.safetensors
for again in "" --resume; do
    # shellcheck disable=SC2086
    expect_exit 1 cut -o mine $again
    expect_text err "^linnet: linearize: folder 'mine': another run writes there \(process $pid on .* since 20.*\)"
done
expect_error 1 'another run writes there' "$LINNET" export start.onnx --normalize half --pi mine --data synth:100 --calib 10 -q
expect_error 1 'another run writes there' "$LINNET" corrupt --data synth:20 -o mine --types contrast --severity 1 -q
[ ! -e mine/model.pi ] || die "the second run wrote into the folder"
ends KILL 137
rm -f mine/teacher.safetensors mine/metrics.jsonl
echo half >mine/model.onnx.tmp-4194304-0 # above every process number
echo half >"mine/x.json.tmp-$$-0"        # this process lives
expect_exit 0 cut -o mine -q
[ ! -e mine/model.onnx.tmp-4194304-0 ] || die "what a killed run left is still there"
[ -e "mine/x.json.tmp-$$-0" ] || die "a living process lost its temporary"
[ ! -e mine/.linnet.lock ] || die "the lock is still there"
rm "mine/x.json.tmp-$$-0"
no_temporaries mine
(exec "$LINNET" train start.onnx --data synth:100 --normalize half --epochs 500 -o t.onnx) >log 2>&1 &
pid=$!
when test -s .t.lock
expect_error 1 "t: another run writes there \(process $pid" "$LINNET" train start.onnx --data synth:100 --normalize half \
    --epochs 1 -o t.onnx -q
expect_exit 0 "$LINNET" train start.onnx --data synth:60 --normalize half --epochs 1 -o other.onnx -q

# ---- signals: at once a word, 75 only where a state was saved --------------------------------------
when test -e t.safetensors
ends HUP 75
log_has 'stopping after this step' || die "no word after the signal"
log_has '^linnet: train: .*the state is in' || die "no word of the state"
(exec "$LINNET" eval "$SRC/tests/demo/resnet8.onnx" --data synth:20000 --attack autoattack) >log 2>&1 &
pid=$!
when log_has '^eval ' # signals are caught from the first step on
ends TERM 1 # without --state
log_has 'starts anew' || die "no word of what is lost"
mkfifo silent.npy
for source in npy:silent.npy,silent.npy; do
    (exec "$LINNET" train start.onnx --data $source --normalize half --epochs 1 -o f.onnx) >log 2>&1 &
    pid=$!
    sleep 0.3
    kill -s TERM $pid 2>/dev/null || true
    for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid 2>/dev/null && sleep 0.2; done
    kill -0 $pid 2>/dev/null && { kill -s KILL $pid; die "a blocked read survives SIGTERM"; }
    wait $pid && die "it trained on nothing"
done
for input in silent.npy /dev/zero; do
    expect_exit "1 3" timeout 10 "$LINNET" inspect $input
    expect_exit "1 3" timeout 10 "$LINNET" linearize start.onnx --data synth:100 --normalize half --preset none --masks $input -o m
done

# ---- nobody listens --------------------------------------------------------------------------------
{
    "$LINNET" train start.onnx --data synth:100 --normalize half --epochs 2 -o p.onnx -v && echo done >piped
} 2>&1 >/dev/null | true
[ -e piped ] && [ -e p.onnx ] || die "a closed pipe ends the training"
"$LINNET" train start.onnx --data synth:100 --normalize half --epochs 2 -o c.onnx -v 2>&- || die "without stderr: exit status $?"
expect_same p.onnx c.onnx
say "one owner of a folder, leftovers, signals, closed streams"
