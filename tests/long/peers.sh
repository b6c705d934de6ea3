# CrypTen beside ours on the same machine in the same run, read by run.sh: ResNet-20 with random weights, all
# ReLUs and 10 % of them. Its virtual environment is its own and stands on Debian's python3-torch.
crypten_venv() { # sets $peer_venv; 1: there is none
    peer_venv=$out/venv-crypten
    /usr/bin/python3 -c 'import torch' 2>/dev/null || { skip_part "CrypTen, there is no python3-torch"; return 1; }
    [ ! -e "$peer_venv/ok" ] || return 0
    rm -rf "$peer_venv" # a half of one
    /usr/bin/python3 -m venv --system-site-packages "$peer_venv"
    # not all that crypten lists: the rest is for its examples, and pip says so
    expect_exit 0 "$peer_venv/bin/pip" install -q --no-deps crypten==0.4.1 onnx==1.12.0
    expect_exit 0 "$peer_venv/bin/pip" install -q 'protobuf<3.21' 'numpy<2' omegaconf
    touch "$peer_venv/ok"
}
peer_crypten() {
    crypten_venv || return 0
    [ -d mini ] || mini_cifar mini
    expect_exit 0 "$LINNET" init resnet20 -o peer.onnx
    expect_exit 0 "$LINNET" export peer.onnx -o peer/model.onnx --pi peer --data cifar10:mini --calib 64 -q
    expect_exit 0 "$LINNET" linearize peer.onnx --data cifar10:mini --relus 10% --preset none --train-limit 64 \
        -o peer_cut -q
    expect_exit 0 "$LINNET" export peer.onnx -o peer_all_crypten.onnx --for crypten -q
    expect_exit 0 "$LINNET" export peer_cut/model.onnx -o peer_cut_crypten.onnx --for crypten -q
    for form in all cut; do
        OMP_NUM_THREADS=1 "$peer_venv/bin/python" "$SRC/tests/long/peer_crypten.py" "peer_${form}_crypten.onnx" 2>/dev/null ||
            missed "CrypTen failed on the $form form"
    done
    for relu in gc ot; do
        "$LINNET_PI" bench peer/model.pi --weights peer/model.pi.weights --compare peer_cut/model.pi \
            --compare-weights peer_cut/model.pi.weights --relu $relu || missed "bench --relu $relu"
    done
    echo "CrypTen: online only, triples of its default provider (insecure) not counted; bytes of one party. Ours:" \
        "every phase, bytes of both"
}
