# AutoAttack by its authors on our engine, image for image with `linnet eval --attack autoattack`; read by run.sh.
autoattack_one() { # NAME MODEL NORMALIZE EPS
    rm -f "aa_$1.state"
    expect_exit 0 "$LINNET" eval "$2" --normalize "$3" --data "$data" --limit 100 --branch clean \
        --attack "autoattack:eps=$4" --state "aa_$1.state" --progress none
    LINNET_LIBRARY=$build/liblinnet.so PYTHONPATH=$SRC/pipeline "$aa/bin/python" "$SRC/tests/autoattack.py" "$2" \
        --normalize "$3" --images aa_x.npy --labels aa_y.npy --state "aa_$1.state" --eps "$4" ||
        missed "AutoAttack on $1: its authors' code and linnet differ"
}
autoattack_all() {
    aa=$SRC/build/autoattack
    "$SRC/.ci/autoattack.sh" "$aa" --install || { skip_part "AutoAttack by its authors, there is no PyTorch"; return 0; }
    make -C "$SRC" BUILD="$build" "$build/liblinnet.so" >/dev/null || { missed "liblinnet.so"; return 0; }
    expect_exit 0 "$LINNET" data "$data" --limit 100 -o aa_x.npy --labels aa_y.npy -q
    autoattack_one resnet20 "$(shared models/resnet20_cifar10.onnx)" imagenet 0.5/255
    autoattack_one resnet_a "$(shared models/vnncomp22_sri_resnet_a.onnx)" cifar10-b 4/255
    # what the part rlnet made: robust at the usual eps
    [ ! -e rlnet/model.adv.onnx ] || autoattack_one rlnet rlnet/model.adv.onnx imagenet 8/255
}
