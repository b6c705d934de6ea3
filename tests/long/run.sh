#!/bin/sh
# What takes hours: packages of all real models on all test images, two parties as processes, the
# real conversion with the accuracies that it must reach, exports of many programs, an importer for
# private inference. Usage: tests/long/run.sh BUILD [validate|twopc|peers|rlwe|linnet|rlnet|senet|autoattack|ctime|serve|zoo|crypten|import|page|fuzz|ranks|covert|memory|data]...
# LINNET_ZOO_TORCH25=1 adds the files of PyTorch 2.5, which call functions of their own.
#
# Results stay in LINNET_LONG_OUT (default BUILD/long). Models and data: LINNET_SHARED (default
# ../shared). Python for cross-checks: LINNET_PYTHON (default build/venv/bin/python).
set -eu
cd "$(dirname "$0")/../.."
SRC=$(pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$SRC/$1" ;; esac; }
[ $# -ge 1 ] || { echo "usage: tests/long/run.sh BUILD [validate|twopc|peers|rlwe|linnet|rlnet|senet|autoattack|ctime|serve|zoo|crypten|import|page|fuzz|ranks|covert|memory|data]..." >&2; exit 2; }
build=$(absolute "$1")
shift
LINNET=$build/linnet
LINNET_PI=$build/linnet-pi
SHARED=$(absolute "${LINNET_SHARED:-../shared}")
PYTHON=$(absolute "${LINNET_PYTHON:-build/venv/bin/python}")
out=$(absolute "${LINNET_LONG_OUT:-$build/long}")
. tests/cli/lib.sh
. tests/long/page.sh
. tests/long/memory.sh
[ $# -gt 0 ] || set -- validate twopc peers rlwe linnet rlnet senet autoattack ctime zoo crypten import page fuzz ranks covert memory data
have_shared || skip "no folder of real models and data"
data=cifar10:$(shared data/cifar10)
mkdir -p "$out"
cd "$out"
failures=0
missed() {
    echo "MISSED: $*"
    failures=$((failures + 1))
}
at_least() { # VALUE FLOOR MEANING
    if awk "BEGIN { exit !($1 >= $2) }"; then
        echo "  $3: $1 (at least $2)"
    else
        missed "$3: $1, at least $2"
    fi
}

# accuracies REPORT: lines "COLUMN BRANCH clean|pgd VALUE"
accuracies() {
    python3 - "$1" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
for column in "given", "teacher", "result":
    for b in report[column]["branches"]:
        print(column, b["name"], "clean", b["clean"]["accuracy"])
        for a in b["attacks"]:
            print(column, b["name"], "pgd", a["accuracy"])
END
}
figure() { # COLUMN BRANCH WHAT
    awk -v c="$1" -v b="$2" -v w="$3" '$1 == c && $2 == b && $3 == w { print $4 }' accuracies.txt
}

validate_all() {
    manifest >models.txt
    while read -r file normalize relus accuracy; do
        mkdir -p "pi_$file"
        expect_exit 0 "$LINNET" export "$(shared "models/$file")" --normalize "$normalize" --data "$data" \
            -o "pi_$file/model.onnx" --pi "pi_$file" -q
        status=0
        "$LINNET" validate "pi_$file" --data "$data" --json v.json -q || status=$?
        [ $status -eq 0 ] || missed "validate $file: exit status $status"
        echo "$file: $(json v.json agreement) % equal labels of $(json v.json n)," \
            "fixed $(json v.json accuracy) %, float $(json v.json float_accuracy) % ($accuracy, $relus ReLUs)"
    done <models.txt
}

# check_logits NAME: NAME.onnx of the conversion in onnxruntime, on all test images
check_logits() {
    expect_exit 0 "$LINNET" run "$1.onnx" --input x.npy --output y.npy -q
    "$PYTHON" "$SRC/tests/compare_logits.py" "$1.onnx" x.npy y.npy --normalize imagenet --labels ||
        missed "$1.onnx: onnxruntime and linnet differ"
}

convert() { # RECIPE
    "$LINNET" linearize "$(shared models/resnet20_cifar10.onnx)" --data "$data" --normalize imagenet --relus 10% \
        --preset quick --recipe "$1" -o "$1" --progress plain
    expect_exit 0 "$LINNET" inspect "$1/model.onnx" --json inspect.json
    [ "$(json inspect.json relus_kept)/$(json inspect.json relus_total)" = 18841/188416 ] ||
        missed "$1: $(json inspect.json relus_kept) ReLUs are kept"
    accuracies "$1/report.json" >accuracies.txt
    cat accuracies.txt
    status=0
    "$LINNET" validate "$1" --data "$data" -q || status=$?
    [ $status -eq 0 ] || missed "validate $1: exit status $status"
    have_python || return 0
    expect_exit 0 "$LINNET" data "$data" -o x.npy -q
    check_logits "$1/model"
    [ ! -e "$1/model.adv.onnx" ] || check_logits "$1/model.adv"
}

. "$SRC/tests/long/twopc.sh"
. "$SRC/tests/long/peers.sh"
. "$SRC/tests/long/rlwe.sh"
. "$SRC/tests/long/autoattack.sh"

# secrets decide no branch and no address: memcheck's marks
check_ctime() {
    command -v valgrind >/dev/null || { echo "ctime: skipped, no valgrind" && return 0; }
    valgrind -q "$build/tests/test_ctime" >ctime.log 2>&1 || missed "ctime: see $out/ctime.log"
    valgrind -q "$build/tests/test_ctime_tags" >ctime_tags.log 2>&1 || missed "ctime: see $out/ctime_tags.log"
    grep -q 'OK \] test_check_can_fail' ctime.log || missed "ctime: built without valgrind's headers"
}

# Environments and files of tests/zoo, kept between runs: several gigabytes.
zoo=$(absolute "${LINNET_ZOO:-build/zoo}")
zoo_setup() {
    "$SRC/tests/zoo/setup.sh" "$zoo" ${LINNET_ZOO_TORCH25:+torch25}
}
zoo_check() {
    zoo_setup
    "$zoo/torch/bin/python" "$SRC/tests/zoo/check.py" "$LINNET" "$zoo/files" "$SRC/tests/zoo/zoo.tsv" ||
        missed "zoo: not all files are as expected"
}

# The real ResNet-20 with all, half and a tenth of its ReLUs, in CrypTen.
crypten_check() {
    zoo_setup
    models=
    expect_exit 0 "$LINNET" data "$data" --limit 20 -o twenty.npy -q
    for share in 1 0.5 0.1; do
        "$zoo/torch/bin/python" "$SRC/tests/zoo/cut.py" "$(shared models/resnet20_cifar10.onnx)" "cut_$share.in.onnx" $share
        expect_exit 0 "$LINNET" export "cut_$share.in.onnx" --normalize imagenet --for crypten -o "cut_$share.onnx" -q
        expect_exit 0 "$LINNET" run "cut_$share.onnx" --input twenty.npy --output "cut_$share.npy" -q
        models="$models cut_$share.onnx"
    done
    "$zoo/torch/bin/python" - <<'END'
import numpy as np
x = np.load("twenty.npy").astype(np.float32) / 255
x = x.transpose(0, 3, 1, 2) if x.shape[3] == 3 else x
mean, std = [np.array(v, np.float32).reshape(1, 3, 1, 1)
             for v in ([.485, .456, .406], [.229, .224, .225])]
np.save("twenty_normal.npy", (x - mean) / std)
np.save("twenty_labels.npy",
        np.stack([np.load(f"cut_{r}.npy").argmax(1) for r in ("1", "0.5", "0.1")]))
END
    # shellcheck disable=SC2086
    "$zoo/crypten/bin/python" "$SRC/tests/zoo/crypten_check.py" twenty_normal.npy twenty_labels.npy $models ||
        missed "crypten: labels or comparisons"
}

for part in "$@"; do
    echo "== $part"
    start=$(date +%s)
    case $part in
    validate) validate_all ;;
    twopc) twopc_all ;;
    peers) peer_crypten ;;
    rlwe) rlwe_all ;;
    linnet)
        convert linnet
        at_least "$(figure teacher clean clean)" 83 "teacher, clean branch, clean"
        at_least "$(figure teacher adv pgd)" 25 "teacher, adversarial branch, PGD-20"
        at_least "$(figure result clean clean)" 76 "result, clean branch, clean"
        at_least "$(figure result adv pgd)" 21 "result, adversarial branch, PGD-20"
        ;;
    rlnet)
        convert rlnet
        at_least "$(figure teacher clean clean)" 84 "teacher, clean branch, clean"
        at_least "$(figure teacher adv pgd)" 25 "teacher, adversarial branch, PGD-20"
        at_least "$(figure result clean clean)" 70 "result, clean branch, clean"
        at_least "$(figure result adv pgd)" 20 "result, adversarial branch, PGD-20"
        ;;
    senet) convert senet ;;
    autoattack) autoattack_all ;;
    ctime) check_ctime ;;
    serve) # 20,000 queries of 40 clients, 500 changed connections each way (MODE=asan: under ASan); 8 clients x 20 images
        LINNET_LONG=1 "$build/tests/test_server" || missed "the server under full counts"
        LINNET_LONG=1 "$SRC/tests/cli/run.sh" "$build" crowd || missed "many clients"
        ;;
    zoo) zoo_check ;;
    crypten) crypten_check ;;
    import) # peak and time of an import of 100 MB
        make -C "$SRC" BUILD="$build" tests/bench_import && "$build/tests/bench_import" 100 ||
            missed "import of 100 MB: more than 2.5 file sizes or 3 reading times"
        ;;
    page) page_all ;;
    covert) # detection in 200 rounds of each cheat, 10,020 honest preparations
        LINNET_LONG=1 "$build/tests/test_covert" || missed "clients that may deviate, under full counts"
        ;;
    memory) memory_all ;;
    fuzz) "$SRC/tests/long/fuzz.sh" || missed "fuzzing" ;;
    data) "$SRC/tests/long/data.sh" "$build" || missed "streamed data" ;;
    ranks) "$SRC/tests/long/ranks.sh" "$build" || missed "several ranks" ;;
    *) die "no part '$part'" ;;
    esac
    echo "$part: $(($(date +%s) - start)) s"
done
[ $failures -eq 0 ] || die "$failures floors or comparisons missed"
echo "long tests: passed"
