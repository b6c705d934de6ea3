# Two processes on loopback, read by run.sh: every CIFAR-10 model and a linearised ResNet-20, 100 images
# each, against sim2pc and fixed; a thousand queries in a row and 20 clients, watching the server's memory.
# Every claim of a correlation syncs its folder: LINNET_LONG_OUT on a memory file system is quicker.

twopc_start() { # DIR OPTIONS...: sets $server and $at
    twopc_dir=$1
    shift
    rm -f serve.out
    "$LINNET_PI" serve "$twopc_dir/model.pi" --weights "$twopc_dir/model.pi.weights" --listen 127.0.0.1:0 \
        --timeout 600 "$@" >serve.out 2>serve.err &
    server=$!
    until grep -q '^listening' serve.out 2>/dev/null; do
        kill -0 $server 2>/dev/null || die "no server: $(cat serve.err)"
        sleep 0.1
    done
    at=127.0.0.1:$(sed -n 's/^listening on 127.0.0.1:\([0-9]*\) .*/\1/p' serve.out)
}
twopc_stop() {
    kill -TERM $server
    wait $server || die "the server ended with $?"
}

# twopc_exact NAME DIR BACKEND: 100 images; the dealer, because it is quick
twopc_exact() {
    rm -rf for-client for-server
    expect_exit 0 "$LINNET_PI" deal "$2/model.pi" --count 100 --client-out for-client --server-out for-server \
        --test-seed 11 -q
    twopc_start "$2" --dealer for-server --test-seed 11 --relu "$3"
    expect_exit 0 "$LINNET_PI" query "$2/model.pi" --connect "$at" --dealer for-client --test-seed 11 -i x100.npy \
        -o z.npy --timeout 600 -q
    twopc_stop
    status=0
    "$LINNET_PI" eval "$2/model.pi" -w "$2/model.pi.weights" --mode sim2pc --linear dealer --test-seed 11 -i x100.npy \
        --expect z.npy --atol 0 >sim.out || status=$?
    [ $status -eq 0 ] || missed "$1: logits differ from sim2pc"
    expect_exit 0 "$LINNET_PI" eval "$2/model.pi" -w "$2/model.pi.weights" --mode fixed -i x100.npy -o f.npy
    agree=$(python3 "$SRC/tests/long/agree.py" z.npy f.npy)
    at_least "${agree% *}" 99 "$1, $3: exact; labels of 100 equal to fixed, logits at most ${agree#* } apart"
}

# twopc_batch DIR BACKEND B: 20 images in passes of B, prepared in lots by ring-LWE, which sim2pc predicts bit for bit
twopc_batch() {
    twopc_start "$1" --test-seed 11 --relu "$2"
    expect_exit 0 "$LINNET_PI" query "$1/model.pi" --connect "$at" --test-seed 11 -i x20.npy --batch "$3" -o z.npy --timeout 600 -q
    twopc_stop
    status=0
    "$LINNET_PI" eval "$1/model.pi" -w "$1/model.pi.weights" --mode sim2pc --lot "$3" --test-seed 11 -i x20.npy \
        --expect z.npy --atol 0 >sim.out || status=$?
    if [ $status -eq 0 ]; then
        echo "  $2, 20 images in batches of $3: equal bit for bit"
    else
        missed "$2, 20 images in batches of $3: logits differ from sim2pc"
    fi
}

memory_of() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

# The tiny model: no growth of the server between the 100th and the 1,000th query, nor over 20 clients.
twopc_many() {
    tiny=$SRC/tests/demo/resnet8.onnx
    expect_exit 0 "$LINNET" linearize "$tiny" --data synth:600 --relus 10% --preset none --train-limit 100 -o tiny -q
    expect_exit 0 "$LINNET" data synth:10000 --limit 900 -o x900.npy
    expect_exit 0 "$LINNET" data synth:600 --limit 5 -o x5.npy
    rm -rf for-client for-server
    expect_exit 0 "$LINNET_PI" deal tiny/model.pi --count 1200 --client-out for-client --server-out for-server -q
    twopc_start tiny --dealer for-server --relu gc
    i=0
    while [ $i -lt 20 ]; do
        expect_exit 0 "$LINNET_PI" query tiny/model.pi --connect "$at" --dealer for-client -i x5.npy --timeout 600 -q
        i=$((i + 1))
    done
    before=$(memory_of $server)
    expect_exit 0 "$LINNET_PI" query tiny/model.pi --connect "$at" --dealer for-client -i x900.npy --timeout 600 -q
    i=0
    while [ $i -lt 20 ]; do
        expect_exit 0 "$LINNET_PI" query tiny/model.pi --connect "$at" --dealer for-client -i x5.npy --timeout 600 -q
        i=$((i + 1))
    done
    after=$(memory_of $server)
    twopc_stop
    echo "server after 20 clients and 100 queries $before kB, after 1,100 queries and 41 clients $after kB"
    at_least "$((before + 2048 - after))" 0 "kB left of 2 MB allowed growth"
}

twopc_all() {
    expect_exit 0 "$LINNET" data "$data" --limit 100 -o x100.npy
    manifest >models.txt
    while read -r file normalize _; do
        mkdir -p "tp_$file"
        expect_exit 0 "$LINNET" export "$(shared "models/$file")" --normalize "$normalize" --data "$data" --calib 500 \
            -o "tp_$file/model.onnx" --pi "tp_$file" -q
        twopc_exact "$file" "tp_$file" gc </dev/null
    done <models.txt
    [ -d mini ] || mini_cifar mini
    expect_exit 0 "$LINNET" linearize "$(shared models/resnet20_cifar10.onnx)" --normalize imagenet --data cifar10:mini \
        --preset none --relus 10% -o tp_cut -q
    twopc_exact "ResNet-20 at 10 %" tp_cut gc
    twopc_exact "ResNet-20 at 10 %" tp_cut ot
    expect_exit 0 "$LINNET" data "$data" --limit 20 -o x20.npy
    for relu in gc ot; do
        for batch in 1 4 20; do
            twopc_batch tp_resnet20_cifar10.onnx $relu $batch
        done
    done
    twopc_many
}
