# Part "rlwe" of the long tests: error of 10,000 products, lattice estimate; bytes, rounds and seconds of private ResNets over three
# links beside the cost model; ResNet-18 as two processes; the same networks in SecretFlow SPU's Cheetah and in
# CrypTen. Peers have Python environments of their own (LINNET_SPU, default BUILD/venv-spu; peers.sh); without a
# network and without them they are skipped. SPU_SECONDS: what a peer's network may take, default 1200.
rlwe_models() {
    [ -d mini ] || mini_cifar mini
    for net in resnet18 resnet20; do
        [ ! -d "$net" ] || continue
        if [ $net = resnet18 ]; then
            expect_exit 0 "$LINNET" init resnet18 -o resnet18.onnx
            from=resnet18.onnx cut=50000 normalize=cifar10
        else
            from=$(shared models/resnet20_cifar10.onnx) cut=10% normalize=imagenet
        fi
        expect_exit 0 "$LINNET" export "$from" -o $net/model.onnx --pi $net --data cifar10:mini --calib 64 \
            --normalize $normalize -q
        expect_exit 0 "$LINNET" linearize "$from" --data cifar10:mini --normalize $normalize --relus $cut --preset none \
            --train-limit 64 -o ${net}_cut -q
    done
}
rlwe_bench() { # DIR RELU LINK [OPTIONS...]
    bench_out=bench_$1_$2_$3.json
    bench_dir=$1 bench_relu=$2 bench_link=$3
    shift 3
    [ "$bench_link" = loopback ] || set -- --link "$bench_link" "$@"
    "$LINNET_PI" bench "$bench_dir/model.pi" -w "$bench_dir/model.pi.weights" --relu "$bench_relu" "$@" \
        --json "$bench_out" >/dev/null || missed "bench $bench_dir $bench_relu $bench_link"
    bench_files="$bench_files $bench_out"
}
# ResNet-18 with all ReLUs: two processes, no dealer, two pictures on one connection.
rlwe_processes() {
    expect_exit 0 "$LINNET" data "$data" --limit 2 -o two.npy
    twopc_start resnet18 --relu ot
    expect_exit 0 "$LINNET_PI" query resnet18/model.pi --connect "$at" -i two.npy -o z.npy --timeout 600 \
        --json query_resnet18.json
    twopc_stop
    expect_exit 0 "$LINNET_PI" eval resnet18/model.pi -w resnet18/model.pi.weights --mode fixed -i two.npy -o f.npy
    at_least "$(python3 "$SRC/tests/long/agree.py" z.npy f.npy | cut -d' ' -f1)" 100 "% equal labels, two processes and fixed"
    python3 "$SRC/tests/long/rlwe_table.py" bench query_resnet18.json
}
rlwe_spu() { # NETWORK: lines of JSON in spu_NETWORK.json
    spu=${LINNET_SPU:-$build/venv-spu}
    if [ ! -x "$spu/bin/python" ]; then
        python3 -m venv "$spu" && "$spu/bin/pip" install -q spu==0.9.5 || {
            echo "  peer SPU: not installed, skipped"
            rm -rf "$spu"
            return 0
        }
    fi
    timeout "${SPU_SECONDS:-1200}" "$spu/bin/python" "$SRC/tests/long/peer_spu.py" "$1" >"spu_$1.json" 2>"spu_$1.log" ||
        missed "peer_spu.py $1: exit status $?"
}
rlwe_crypten() { # NETWORK
    crypten_venv || return 0
    expect_exit 0 "$LINNET" export "$1/model.onnx" -o "$1_crypten.onnx" --for crypten -q
    OMP_NUM_THREADS=1 "$peer_venv/bin/python" "$SRC/tests/long/peer_crypten.py" "$1_crypten.onnx" \
        >"crypten_$1.json" 2>"crypten_$1.log" || missed "CrypTen, $1"
}
rlwe_peers() { # NETWORK TITLE
    rm -f "spu_$1.json" "crypten_$1.json"
    rlwe_spu "$1"
    rlwe_crypten "$1"
    peer_rows="bench_$1_ot_loopback.json bench_$1_gc_loopback.json bench_$1_cut_ot_loopback.json"
    for row in "spu_$1.json" "crypten_$1.json"; do
        [ ! -s "$row" ] || peer_rows="$peer_rows $row"
    done
    # shellcheck disable=SC2086
    python3 "$SRC/tests/long/rlwe_table.py" peers "$2" $peer_rows
}
rlwe_all() {
    make -C "$SRC" --no-print-directory BUILD="$build" "$build/tests/test_rlwe" "$build/tests/bench_rlwe"
    LINNET_PRODUCTS=10000 "$build/tests/test_rlwe" >noise.log 2>&1 || missed "test_rlwe, 10,000 products"
    grep 'sigma' noise.log
    python3 "$SRC/tests/long/lattice.py" | cmp - "$SRC/tests/long/lattice.txt" || missed "lattice.txt is not what lattice.py prints"
    rlwe_models
    bench_files=
    for net in resnet18 resnet18_cut resnet20_cut; do
        for link in loopback lan wan; do
            for relu in gc ot; do
                if [ $relu-$link = ot-loopback ]; then
                    rlwe_bench $net $relu $link --linear rlwe --lot "${LINNET_LOT:-64}"
                else
                    rlwe_bench $net $relu $link --linear rlwe
                fi
            done
        done
    done
    for relu in gc ot; do
        rlwe_bench resnet20 $relu loopback
    done
    # shellcheck disable=SC2086
    python3 "$SRC/tests/long/rlwe_table.py" bench $bench_files
    megabytes=$(python3 "$SRC/tests/long/rlwe_table.py" bench bench_resnet18_ot_loopback.json |
        awk -F'|' 'END { print $7 }')
    at_least "$(echo "$megabytes" | awk '{ print 61 - $1 }')" 0 "MB below 61, linear layers of ResNet-18"
    rlwe_processes
    rlwe_peers resnet20 ResNet-20
    rlwe_peers resnet18 ResNet-18
}
