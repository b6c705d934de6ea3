# Strong attacks from the command line: state files, interruption, other attacks refused, exported
# networks with hard masks.
model=$SRC/tests/demo/resnet8.onnx
attack() { # OUT, OPTION...
    attack_out=$1
    shift
    "$LINNET" eval "$model" --data synth:500 --limit 6 --batch 2 --attack autoattack:fast,eps=2/255 \
        --attack square:eps=2/255,steps=40 --json "$attack_out" "$@"
}
expect_exit 0 attack a.json --threads 2
expect_text out 'autoattack:fast +[0-9.]+ %'
expect_text out 'apgd-t:eps=0.00784313725,steps=100,restarts=1,targets=9,rho=0.75 +[0-9]+ stand'
expect_keys a.json ci95 robust_after targets version flags model_sha256
expect_exit 0 attack b.json --threads 1 --state whole.json
expect_same a.json b.json
expect_exit 0 attack b.json --state whole.json
expect_same a.json b.json
expect_exit 2 attack x.json -q --state whole.json --seed 5
expect_text err "belongs to another evaluation \('(data|seed)' differs\)"
expect_exit 2 attack x.json -q --state whole.json --attack pgd
expect_text err "'attacks' differs"
poke whole.json 0 'x'
expect_exit 3 attack x.json -q --state whole.json
expect_text err 'is not a state file'

(exec "$LINNET" eval "$model" --data synth:500 --limit 6 --batch 2 --attack autoattack:fast,eps=2/255 \
    --attack square:eps=2/255,steps=40 --json b.json --state cut.json -q) >log 2>&1 &
pid=$!
until [ -e cut.json ]; do sleep 0.05; done
kill -s INT $pid 2>/dev/null || true
status=0
wait $pid || status=$?
[ $status -eq 75 ] || [ $status -eq 0 ] || { cat log; die "exit status $status after SIGINT"; }
say "interrupted with exit status $status"
expect_exit 0 attack b.json --state cut.json
expect_same a.json b.json

expect_exit 0 "$LINNET" linearize "$model" --data synth:500 --relus 30% --preset none -o cut -q
expect_exit 0 "$LINNET" eval cut/model.onnx --data synth:500 --limit 4 --attack autoattack:fast,eps=1/255
expect_exit 0 "$LINNET" eval "$model" --data synth:500 --limit 4 --audit --transfer-from cut/model.onnx --json c.json -q
expect_text out 'falls to 0 with eps'
expect_keys c.json audit checks apgd_loss transfer
expect_error 2 "'fgsm' is not one of" "$LINNET" eval "$model" --data synth:500 --attack fgsm -q
expect_error 2 "'alpha' is not one of eps" "$LINNET" eval "$model" --data synth:500 --attack apgd-ce:alpha=1 -q
