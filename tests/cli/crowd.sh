# Many clients at once, honest ones among those who only want to keep others out.
data=synth:3000
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data $data --test-data synth:20 --relus 300 --preset none \
    --eval-attack-images 1 --eval-corrupt-images 1 -o cut -q
cp cut/model.pi cut/model.pi.weights .
expect_exit 0 "$LINNET" data $data --limit 1 -o one.npy
images=3
[ "${LINNET_LONG:-0}" != 1 ] || images=20
expect_exit 0 "$LINNET" data $data --limit $images -o x.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input x.npy --output fixed.npy
command -v python3 >/dev/null 2>&1 || skip "no python3"

# Whoever holds the server up, an honest client has its answer within 10 s.
serve --workers 4
for attack in byte greet stall drip; do
    python3 "$SRC/tests/cli/silent.py" "$at" model.pi $attack >attack.out &
    attacker=$!
    wait_for attack.out '^connected'
    start=$(date +%s%N)
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --retry 0 --timeout 60
    took=$(awk "BEGIN { print ($(date +%s%N) - $start) / 1e9 }")
    say "$attack: an honest client waits $took s"
    expect_number "$took <= 10" "$attack"
    kill $attacker
    wait $attacker 2>/dev/null || true
done
stop

# Without a descriptor left for anybody the server waits, and goes on when there are some.
if command -v prlimit >/dev/null 2>&1; then
    serve --workers 4
    most=$(($(ls /proc/$server/fd | wc -l) + 3))
    prlimit --pid $server --nofile=$most:
    python3 "$SRC/tests/cli/silent.py" "$at" model.pi byte >attack.out &
    attacker=$!
    wait_for attack.out '^connected'
    left=100
    until [ "$(ls /proc/$server/fd | wc -l)" -ge $most ]; do
        left=$((left - 1))
        [ $left -gt 0 ] || die "the server has descriptors left"
        sleep 0.05
    done
    sleep 1
    kill -0 $server || die "a server without descriptors ends"
    prlimit --pid $server --nofile=1024:
    kill $attacker
    wait $attacker 2>/dev/null || true
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --timeout 60
    say "no descriptor left: the server goes on"
    stop
fi

# Thirty honest clients at once.
serve --workers 4
i=0 clients=
while [ $i -lt 30 ]; do
    "$LINNET_PI" query model.pi --connect "$at" -i one.npy -o "z$i.npy" >"q$i.out" 2>"q$i.err" &
    clients="$clients $!"
    i=$((i + 1))
done
for client in $clients; do wait "$client" || { cat q*.err; die "one of 30 clients was not served"; }; done
say "30 honest clients: all served"

# Eight clients with several images each: the labels of fixed point.
i=0 clients=
while [ $i -lt 8 ]; do
    "$LINNET_PI" query model.pi --connect "$at" -i x.npy -o "y$i.npy" >"q$i.out" 2>"q$i.err" &
    clients="$clients $!"
    i=$((i + 1))
done
for client in $clients; do wait "$client" || { cat q*.err; die "one of 8 clients was not served"; }; done
for i in 0 1 2 3 4 5 6 7; do
    python3 "$SRC/tests/cli/labels.py" fixed.npy "y$i.npy" || die "client $i: other labels than fixed point"
done

say "8 clients with $images images each: the labels of fixed point"

# A child that is killed costs its client alone.
"$LINNET_PI" query model.pi --connect "$at" -i x.npy --retry 0 >killed.out 2>killed.err &
killed=$!
wait_left=100
until child=$(pgrep -P $server | head -n 1) && [ -n "$child" ]; do
    wait_left=$((wait_left - 1))
    [ $wait_left -gt 0 ] || die "no child of the server"
    sleep 0.05
done
kill -SEGV "$child"
! wait $killed || die "a client whose server process was killed ended well"
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy
expect_text serve.err ' crashed .*signal 11'
stop
