# Part "rlwe" of the long tests: noise of 10,000 products, ResNet-18's linear layers, and SecretFlow SPU's
# Cheetah on the same shapes in a Python environment of its own (LINNET_SPU, default BUILD/venv-spu; without
# a network and without that folder the peer is skipped).
rlwe_peer() { # NETWORK
    spu=${LINNET_SPU:-$build/venv-spu}
    if [ ! -x "$spu/bin/python" ]; then
        python3 -m venv "$spu" && "$spu/bin/pip" install -q spu==0.9.5 || {
            echo "  peer SPU: not installed, skipped"
            rm -rf "$spu"
            return 0
        }
    fi
    "$spu/bin/python" "$SRC/tests/long/peer_spu.py" "$1" 2>"peer_spu_$1.log" || missed "peer_spu.py $1"
}
rlwe_all() {
    make -C "$SRC" --no-print-directory BUILD="$build" "$build/tests/test_rlwe" "$build/tests/bench_rlwe"
    LINNET_PRODUCTS=10000 "$build/tests/test_rlwe" >noise.log 2>&1 || missed "test_rlwe, 10,000 products"
    grep '^largest noise' noise.log
    "$build/tests/bench_rlwe" | tee bench_rlwe.log
    megabytes=$(sed -n 's/^image 1: .* \([0-9.]*\) MB in all.*/\1/p' bench_rlwe.log)
    at_least "$(echo "$megabytes" | awk '{ print 160 - $1 }')" 0 "MB below 160, linear layers of ResNet-18"
    rlwe_peer resnet20
    rlwe_peer resnet18
}
