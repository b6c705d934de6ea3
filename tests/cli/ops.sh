# What an operator relies on: budgets of clients known by their certificates, also across kill -9; counters;
# the log; a socket from a service manager.
data=synth:3000
command -v python3 >/dev/null 2>&1 && command -v openssl >/dev/null 2>&1 || skip "no python3 or no openssl"
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data $data --test-data synth:20 --relus 50 --preset none \
    --eval-attack-images 1 --eval-corrupt-images 1 -o cut -q
cp cut/model.pi cut/model.pi.weights .
expect_exit 0 "$LINNET" data $data --limit 1 -o one.npy
expect_exit 0 "$LINNET" data $data --limit 3 -o x.npy
for who in server ann bob; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$who \
        -addext subjectAltName=IP:127.0.0.1 -keyout $who.key -out $who.pem 2>/dev/null
done
cat ann.pem bob.pem >clients.pem
tls="--tls-cert server.pem --tls-key server.key --client-ca clients.pem"
ask() { # WHO IMAGES...: as that client
    who=$1 images=$2
    shift 2
    "$LINNET_PI" query model.pi --connect "$at" --tls-ca server.pem --tls-cert $who.pem --tls-key $who.key -i $images "$@"
}

# A budget is a certificate's own, and is charged whether the client waits for its answer or not.
serve $tls --budget 4/day --ledger ledger --metrics 127.0.0.1:0 --log json
counters=$(sed -n 's/^counters on //p' serve.out)
expect_exit 0 ask ann x.npy
expect_exit 8 ask ann x.npy --output kept.npy
expect_text err 'no budget left for this client today; 1 of 3 answers are kept in kept.npy'
expect_exit 0 ask bob one.npy
expect_exit 8 "$LINNET_PI" query model.pi --connect "$at" --tls-ca server.pem -i one.npy --retry 0
expect_exit 0 python3 "$SRC/tests/cli/metrics.py" "$counters"
expect_exit 0 python3 "$SRC/tests/cli/metrics.py" "$counters" linnet_answers_total=5 linnet_begun_total=5 \
    'linnet_refusals_total{reason="spent"}=1' 'linnet_phase_seconds_count{phase="online"}=5' \
    'linnet_workers{state="query"}=0' linnet_lost_total=0
stop
cp ledger ledger.first
# One line an event, JSON, with its time; and no word about what was asked or answered.
grep '^{' serve.err >log.json
expect_exit 0 python3 -c "
import json, re, sys
names = []
for line in open('log.json'):
    e = json.loads(line)
    assert set(e) == {'time', 'event', 'branch', 'client', 'images', 'seconds', 'text'}, e
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', e['time']), e
    names.append(e['event'])
assert names.count('query') == 5 and 'refused' in names and 'stopping' in names, names"
! grep -Eq 'BEGIN|class|logit|image [0-9]' serve.err || die "the log says what was asked or answered"

# The ledger outlives the server, a changed one is refused, a second server does not get it.
serve $tls --budget 4/day --ledger ledger
expect_exit 8 ask ann one.npy
expect_text err 'no budget left'
start="$LINNET_PI serve model.pi --weights model.pi.weights --listen 127.0.0.1:0 $tls"
expect_error 1 'another server holds it' $start --ledger ledger
stop
sed 's/begin-query 1 /begin-query 0 /' ledger.first >changed
chmod 600 changed
expect_error 3 "ledger 'changed', line 2: its check is wrong" $start --ledger changed
expect_error 2 "'4/week' is not a number and '/day'" $start --budget 4/week

# kill -9 at any moment: no image more than the budget is begun, and none is forgotten.
rm -f told
: >told
for moment in 0.6 0.9 1.2 1.5 1.8 2.1 2.4 2.7 30; do
    serve $tls --budget 8/day --ledger killed
    ask bob x.npy --retry 0 --json a.json >/dev/null 2>ask.err &
    client=$!
    if [ $moment = 30 ]; then
        wait $client || true
        stop
    else
        sleep $moment
        kill -9 $server
        wait $server 2>/dev/null || true
        wait $client || true
    fi
    grep -c ' query ' serve.err >>told || true
    left=100
    while pgrep -f "model.pi.weights --listen 127.0.0.1:0 $tls --budget 8" >/dev/null && [ $left -gt 0 ]; do
        left=$((left - 1))
        sleep 0.05
    done
    [ $left -gt 0 ] || die "a child outlives its server"
    [ ! -e a.json ] || rm a.json
done
begun=$(grep -c ' begin-query 1 ' killed || true)
answered=$(awk '{ n += $1 } END { print n }' told)
say "kill -9: $begun of 8 images begun in 9 lives, $answered answered"
[ "$begun" -le 8 ] && [ "$answered" -le "$begun" ] || die "more was begun than the budget allows, or forgotten"

# A socket from a service manager.
rm -f notify.sock
python3 "$SRC/tests/cli/activate.py" 127.0.0.1:0 "$PWD/notify.sock" "$LINNET_PI" serve model.pi --weights model.pi.weights \
    >activate.out 2>activate.err &
manager=$!
wait_for activate.out '^READY=1'
at=$(sed -n 's/^bound //p' activate.out)
server=$(sed -n 's/^pid //p' activate.out)
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy
kill -TERM "$server"
wait $manager || { cat activate.err; die "an inherited socket: exit $?"; }
expect_text activate.out '^STOPPING=1'
rm -f notify.sock
expect_exit 2 python3 "$SRC/tests/cli/activate.py" 0.0.0.0:0 "$PWD/notify.sock" "$LINNET_PI" serve model.pi --weights model.pi.weights
expect_text err 'not this machine: without TLS'

# The request that is being answered ends before the server does.
serve
"$LINNET_PI" query model.pi --connect "$at" -i one.npy --retry 0 >q.out 2>q.err &
client=$!
wait_left=100
until pgrep -P $server >/dev/null; do
    wait_left=$((wait_left - 1))
    [ $wait_left -gt 0 ] || die "no child of the server"
    sleep 0.02
done
sleep 0.2
stop
wait $client || { cat q.err serve.err; die "a query that had begun was cut off"; }
