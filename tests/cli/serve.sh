# A server among strangers: files that others may read, what a killed process left behind, no dump of its
# memory.
data=synth:3000
expect_exit 0 "$LINNET" export "$SRC/tests/demo/resnet8.onnx" -o model.onnx --pi . --data $data --calib 100 -q
expect_exit 0 "$LINNET" data $data --limit 1 -o one.npy

# Who sends a byte now and then within a request loses the server after 20 s of waiting, not after hours.
if command -v python3 >/dev/null 2>&1; then
    serve
    python3 "$SRC/tests/cli/silent.py" "$at" model.pi trickle >trickle.out &
    trickle=$!
    wait_for trickle.out '^connected'
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --timeout 40
    wait $trickle
    expect_text trickle.out '^closed after (1[89]|2[0-9]) s'
    expect_text serve.err 'too slow: the time for this phase is used up'
    say "trickling client $(tail -n 1 trickle.out)"
    stop
else
    skip_part "trickling client, there is no python3"
fi

# A client that begins and leaves has used up what --max-queries allows.
if command -v python3 >/dev/null 2>&1; then
    serve --max-queries 1
    python3 "$SRC/tests/cli/silent.py" "$at" model.pi leave >trickle.out
    left=100
    while kill -0 $server 2>/dev/null && [ $left -gt 0 ]; do left=$((left - 1)); sleep 0.1; done
    [ $left -gt 0 ] || die "the server goes on after a preparation that --max-queries should count"
    wait $server || die "the server ended with $?"
fi

# Secrets that are open to others are refused, one by one, by both sides; --allow-permissions overrides.
start="$LINNET_PI serve model.pi --weights model.pi.weights --listen 127.0.0.1:0"
mkdir -m 700 ours dealt
for open in 640 604 620; do
    chmod $open model.pi.weights
    expect_error 2 "'model.pi.weights' is a secret, but others may .* chmod go-rwx it; or --allow-permissions" $start
done
serve --allow-permissions
stop
chmod 600 model.pi.weights
for folder in bundles:ours dealer:dealt; do
    chmod 750 ${folder#*:}
    expect_error 2 "'${folder#*:}' is a secret" $start --${folder%:*} ${folder#*:}
    expect_error 2 "'${folder#*:}' is a secret" "$LINNET_PI" query model.pi --connect 127.0.0.1:1 -i one.npy \
        --${folder%:*} ${folder#*:}
    chmod 700 ${folder#*:}
done
if [ "$(id -u)" -eq 0 ]; then
    chown 1 model.pi.weights
    expect_error 2 "belongs to user 1, not 0" $start
    chown 0 model.pi.weights
fi
: >key.pem
chmod 644 key.pem
expect_error 2 "'key.pem' is a secret" $start --tls-cert key.pem --tls-key key.pem

# What a killed process was writing goes; what a living one writes stays. Nobody dumps the server.
sleep 0 &
dead=$!
wait $dead
: >ours/bundle-1.client.tmp-$dead-0
: >ours/bundle-1.client.tmp-$$-0
serve --bundles ours
[ ! -e ours/bundle-1.client.tmp-$dead-0 ] || die "a dead process's temporary is left"
[ -e ours/bundle-1.client.tmp-$$-0 ] || die "a living process's temporary is gone"
if [ -r /proc/self/limits ] && ! grep -q __asan_init "$LINNET_PI"; then
    [ "$(id -u)" -eq 0 ] || [ ! -r /proc/$server/environ ] || die "the server's memory is open to others"
    grep -Eq '^Max core file size +0 +0 ' /proc/$server/limits || die "the server may dump core"
fi
umask 022
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy -o answer.npy
[ -z "$(find answer.npy -perm /077)" ] || die "the answer is open to others"
stop
