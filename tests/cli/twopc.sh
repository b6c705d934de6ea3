# Two processes: serve and query against sim2pc, with and without a dealer, over TLS, with bundles; what
# is refused; what a proxy between them counts.
data=synth:3000
expect_exit 0 "$LINNET" export "$SRC/tests/demo/resnet8.onnx" -o model.onnx --pi . --data $data --calib 100 -q
expect_exit 0 "$LINNET" data $data --limit 3 -o x.npy --labels y.npy
expect_exit 0 "$LINNET" data $data --limit 1 -o one.npy
expect_exit 0 "$LINNET" data $data --limit 2 -o x2.npy
query() { "$LINNET_PI" query model.pi --connect "$at" --input x.npy "$@"; }
simulated() { # PROVIDER SEED FILE: sim2pc must give this file's logits, bit for bit
    expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode sim2pc --linear "$1" \
        --test-seed "$2" --input x.npy --expect "$3" --atol 0
}

# No third party, both backends.
for relu in gc ot; do
    serve --relu $relu --test-seed 7
    expect_exit 0 query --test-seed 7 --output z.npy --json q.json
    expect_keys q.json format relu_backend linear_backend dealer phases layers
    simulated rlwe 7 z.npy
    [ "$(json q.json relu_backend)" = $relu ] || die "comparisons by $(json q.json relu_backend)"
    stop
    # The same in one pass: prepared as a lot, so with the errors of one.
    serve --relu $relu --test-seed 7
    expect_exit 0 query --test-seed 7 --batch 3 --output zb.npy
    expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode sim2pc --lot 3 --test-seed 7 --input x.npy \
        --expect zb.npy --atol 0
    stop
done
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input x.npy --expect z.npy \
    --atol 0.1

# Bundles of a lot, prepared together: the same shares, but errors of their own, which sim2pc predicts too.
serve --relu ot --test-seed 7 --bundles lots_server
expect_exit 0 "$LINNET_PI" preprocess model.pi --connect "$at" --test-seed 7 --bundles lots --count 3 --lot 3 --json l.json
expect_exit 0 query --test-seed 7 --bundles lots --output zl.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode sim2pc --lot 3 --test-seed 7 --input x.npy \
    --expect zl.npy --atol 0 --json e.json
expect_keys e.json linear_error
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode sim2pc --linear exact --test-seed 7 \
    --input x.npy --expect zl.npy --atol 0.05
stop
expect_error 2 'with a dealer images go one by one' "$LINNET_PI" preprocess model.pi --connect 127.0.0.1:1 --dealer dc --bundles lots --count 2 --lot 2

# A dealer; random shares; several clients one after another; the label alone.
expect_exit 0 "$LINNET_PI" deal model.pi --count 12 --client-out dc --server-out ds --test-seed 8
serve --dealer ds --test-seed 8 --relu gc
expect_exit 0 query --dealer dc --test-seed 8 --output zd.npy
expect_text out 'third party that must collude with neither side'
simulated dealer 8 zd.npy
expect_error 8 'another setting of --test-seed' "$LINNET_PI" query model.pi --connect "$at" --dealer dc -i x.npy
expect_error 8 'another linear backend' "$LINNET_PI" query model.pi --connect "$at" --test-seed 8 -i x.npy
stop
serve --dealer ds --reveal label --max-queries 6
expect_exit 0 query --dealer dc --output labels.npy
expect_text out '^image 2: class'
expect_exit 0 query --dealer dc --output labels2.npy
wait $server || die "the server ended with $?"
expect_same labels.npy labels2.npy
expect_error 4 'correlations, 4 are needed|deal makes more' "$LINNET_PI" preprocess model.pi --connect 127.0.0.1:1 \
    --dealer dc --bundles bc --count 4

# Bundles: made in one connection, used in another, once.
serve --dealer ds --bundles bs
expect_exit 0 "$LINNET_PI" preprocess model.pi --connect "$at" --dealer dc --bundles bc --count 3
cp -r bc kept
expect_exit 0 query --bundles bc --dealer dc --json b.json
expect_error 4 'preprocess' "$LINNET_PI" query model.pi --connect "$at" --bundles bc --dealer dc -i x.npy
expect_error 8 'used before' "$LINNET_PI" query model.pi --connect "$at" --bundles kept --dealer dc -i x.npy
stop
[ "$(ls bs)" = used-ids ] || die "bundles left: $(ls bs)"

# No more bundles than the server wants to keep; what is made is said and kept.
expect_exit 0 "$LINNET_PI" deal model.pi --count 8 --client-out dc2 --server-out ds2
serve --dealer ds2 --bundles bs2 --max-bundles 2 --json s.json
expect_error 8 'bundle 3 of 4: .*no room for another bundle' "$LINNET_PI" preprocess model.pi --connect "$at" \
    --dealer dc2 --bundles bc2 --count 4
expect_text out '^2 bundles in'
# A query that fails after some images keeps their answers: the third bundle is nobody's.
cp "$(ls bc2/*.client | head -n 1)" bc2/bundle-00000009-00000000000000000000000000000000.client
expect_error 8 'image 2: .*2 of 3 answers are kept in kept.npy' "$LINNET_PI" query model.pi --connect "$at" --bundles bc2 \
    --dealer dc2 -i x.npy -o kept.npy --json kept.json
[ "$(json kept.json n)/$(json kept.json asked)" = 2/3 ] || die "kept $(json kept.json n) of $(json kept.json asked)"
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input x2.npy --expect kept.npy --atol 0.1
stop
expect_keys s.json format clients queries prepared phases
[ "$(json s.json queries) $(json s.json prepared) $(json s.json clients_failed)" = "2 2 2" ] || die "$(cat s.json)"

# Another model.pi, nobody there, rules about addresses.
expect_exit 0 "$LINNET" export "$SRC/tests/demo/resnet8.onnx" -o o.onnx --pi other --data $data --calib 50 -q
serve
expect_error 8 'another model.pi' "$LINNET_PI" query other/model.pi --connect "$at" -i x.npy
printf 'GET / HTTP/1.1\r\n\r\n%0200d' 0 >garbage
expect_exit 0 sh -c 'exec 3<&0; true' # the server goes on after garbage:
if command -v python3 >/dev/null 2>&1; then
    expect_exit 0 python3 -c "
import socket, sys
host, port = sys.argv[1].split(':')
s = socket.create_connection((host, int(port)))
s.sendall(open('garbage', 'rb').read())
s.close()" "$at"
fi
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy
stop

# Clients that say nothing, half of a greeting, or a greeting and no more keep nobody waiting.
if command -v python3 >/dev/null 2>&1; then
    serve --timeout 600
    python3 "$SRC/tests/cli/silent.py" "$at" model.pi >silent.out &
    silent=$!
    wait_for silent.out '^connected'
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --timeout 60
    kill $silent
    wait $silent 2>/dev/null || true
    stop
else
    skip_part "silent clients, there is no python3"
fi
expect_error 8 'refused' "$LINNET_PI" query model.pi --connect "$at" -i x.npy --retry 0
# Off this machine: TLS, or --insecure-plain on both sides, which is said at every start.
plain='not this machine: without TLS'
expect_error 2 "$plain" "$LINNET_PI" query model.pi --connect 192.0.2.1:7 -i x.npy
expect_error 2 'dealer who listens' "$LINNET_PI" query model.pi --connect 192.0.2.1:7 --dealer dc -i x.npy
expect_error 2 "$plain" "$LINNET_PI" preprocess model.pi --connect 192.0.2.1:7 --bundles bx
expect_error 2 "$plain" "$LINNET_PI" preprocess model.pi --weights model.pi.weights --listen 0.0.0.0:0 --bundles bx
for everywhere in :0 0.0.0.0:0; do
    expect_error 2 "$plain" "$LINNET_PI" serve model.pi --weights model.pi.weights --listen $everywhere
done
rm -f serve.out
"$LINNET_PI" serve model.pi -q --weights model.pi.weights --listen 0.0.0.0:0 --insecure-plain >serve.out 2>serve.err &
server=$!
wait_for serve.out '^listening'
expect_text serve.err 'warning: .*no TLS \(--insecure-plain\)'
port=$(sed -n 's/^listening on 0.0.0.0:\([0-9]*\) .*/\1/p' serve.out)
expect_exit 0 "$LINNET_PI" query model.pi --connect "127.0.0.1:$port" -i one.npy
outside=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -v : | head -n 1)
if [ -n "$outside" ]; then
    expect_error 2 "$plain" "$LINNET_PI" query model.pi --connect "$outside:$port" -i one.npy
    expect_exit 0 "$LINNET_PI" query model.pi -q --connect "$outside:$port" -i one.npy --insecure-plain
    expect_text err 'warning: .*no TLS \(--insecure-plain\)'
fi
stop
expect_error 2 'not this machine' "$LINNET_PI" query model.pi --connect 192.0.2.1:7 --test-seed 1 -i x.npy
expect_error 2 'belong together' "$LINNET_PI" serve model.pi --weights model.pi.weights --listen 127.0.0.1:0 --tls-cert c
cp x.npy no.weights
chmod 600 no.weights
expect_error 3 'weights' "$LINNET_PI" serve model.pi --weights no.weights --listen 127.0.0.1:0
expect_error 4 'no such folder' "$LINNET_PI" serve model.pi --weights model.pi.weights --listen 127.0.0.1:0 --dealer nowhere
expect_error 2 'two folders' "$LINNET_PI" deal model.pi --client-out both --server-out both

# TLS.
if command -v openssl >/dev/null 2>&1; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=elsewhere \
        -addext subjectAltName=DNS:elsewhere -keyout key2.pem -out cert2.pem 2>/dev/null
    serve --tls-cert cert.pem --tls-key key.pem --test-seed 9
    expect_exit 0 query --tls-ca cert.pem --test-seed 9 --output zt.npy
    simulated rlwe 9 zt.npy
    pin=$(sed -n 's/^key for --pin: //p' serve.out)
    expect_exit 0 query --pin "$pin" --test-seed 9 --output zp.npy
    expect_same zt.npy zp.npy
    expect_error 8 'not the pinned one' "$LINNET_PI" query model.pi --connect "$at" --tls-ca cert.pem --pin "$(printf %064d 0)" -i x.npy
    expect_error 2 '64 hexadecimal digits' "$LINNET_PI" query model.pi --connect "$at" --pin 12 -i x.npy
    expect_error 8 'certificate' "$LINNET_PI" query model.pi --connect "$at" --tls-ca cert2.pem -i x.npy
    expect_error 8 'only one side use TLS' "$LINNET_PI" query model.pi --connect "$at" --timeout 3 -i x.npy --retry 0
    expect_error 2 'No such file' "$LINNET_PI" query model.pi --connect "$at" --tls-ca nothing.pem -i x.npy
    stop
    serve --tls-cert cert.pem --tls-key key.pem --client-ca cert2.pem
    expect_error 8 'side.s certificate: it wants one' "$LINNET_PI" query model.pi --connect "$at" --tls-ca cert.pem -i one.npy
    expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" --tls-ca cert.pem --tls-cert cert2.pem --tls-key key2.pem -i one.npy
    stop
    expect_error 2 'give --client-ca, or --anonymous' "$LINNET_PI" serve model.pi --weights model.pi.weights --listen :0 \
        --tls-cert cert.pem --tls-key key.pem
    serve --tls-cert cert2.pem --tls-key key2.pem
    expect_error 8 'certificate is refused: IP address mismatch' "$LINNET_PI" query model.pi --connect "$at" --tls-ca cert2.pem -i x.npy
    stop
else
    skip_part "TLS, there is no openssl program"
fi

# The counters, by a proxy that counts: 32 bytes more than the client states, its goodbye.
if command -v python3 >/dev/null 2>&1; then
    for relu in gc ot; do
        serve --relu $relu
        rm -f proxy.out # that of the one before
        python3 "$SRC/tests/cli/proxy.py" "$at" >proxy.out &
        proxy=$!
        wait_for proxy.out '^listening'
        direct=$at
        at=$(sed -n 's/^listening on //p' proxy.out)
        expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --json p.json
        wait $proxy || die "the proxy ended with $?"
        at=$direct
        stop
        expect_exit 0 python3 "$SRC/tests/cli/check_bytes.py" p.json proxy.out $relu
        say "$(cat out)"
    done
else
    skip_part "byte-counting proxy, there is no python3"
fi

# bench, with a cut program beside the whole one.
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data $data --relus 10% --preset none --train-limit 100 \
    -o cut -q
expect_exit 0 "$LINNET_PI" bench model.pi --weights model.pi.weights --compare cut/model.pi \
    --compare-weights cut/model.pi.weights --link 1Gbit,1ms --relu gc -n 2 --json bench.json --save machine.txt
expect_keys bench.json format model relu_backend linear_backend link phases layers logits_equal_sim2pc ratio totals
for key in name cpu gc.online ot.offline rlwe.upload dealer.claim mac; do
    grep -q "^$key = ." machine.txt || die "machine.txt has no $key"
done
mkdir -p config/linnet
cp machine.txt config/linnet
expect_exit 0 env XDG_CONFIG_HOME="$PWD/config" "$LINNET_PI" info model.pi
expect_text out "constants of $(sed -n 's/^name = //p' machine.txt)"
[ "$(grep -c '"logits_equal_sim2pc": true' bench.json)" -eq 2 ] || die "bench differs from sim2pc"
expect_number "$(json bench.json online_relu_bytes) > 8" "bytes of comparisons follow the count of ReLUs"
# The same fresh and in a lot.
expect_exit 0 "$LINNET_PI" bench cut/model.pi --weights cut/model.pi.weights --lot 3 --json lot.json
expect_text out "in a lot of 3"
[ "$(grep -c '"logits_equal_sim2pc": true' lot.json)" -eq 2 ] || die "bench of a lot differs from sim2pc"
expect_exit 2 "$LINNET_PI" bench cut/model.pi --weights cut/model.pi.weights --lot 3 --linear dealer
say "bench resnet8, 1 Gbit/s, 1 ms, 10 % of the ReLUs: online without arithmetic" \
    "$(json bench.json online_seconds_without_linear) times faster, comparison bytes" \
    "$(json bench.json online_relu_bytes) times fewer"
