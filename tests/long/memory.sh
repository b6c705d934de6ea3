# Peak memory of ResNet-50 at 224x224 with all its ReLUs, read by run.sh: of the export of its package, whose weights
# (102 MB as floats) must not lie there again for each step of the way; and of a query: whatever the client's
# half of a gc bundle takes (11 GB), it lies on the disk. Once in one process, by bench, and once as a bundle
# between processes: prepared by one, used by another, labels as the simulation has them.
# LINNET_LONG_OUT needs 13 GB.

peak_of() { # FILE PARTY: kB
    "$PYTHON" -c '
import json, sys
def find(v, key):
    if isinstance(v, dict) and key in v:
        return v[key]
    found = [find(w, key) for w in (v.values() if isinstance(v, dict) else v if isinstance(v, list) else [])]
    return next((f for f in found if f is not None), None)
print(find(json.load(open(sys.argv[1])), "peak_rss_" + sys.argv[2] + "_kb"))' "$1" "$2"
}

# within MB FILE MEANING: a peak
within() {
    at_least $(($1 * 1000 - $(cat "$2"))) 0 "$3 $(cat "$2") kB: kB left of $1 MB"
}

# memory_bundle: one image by a bundle, gc
memory_bundle() {
    rm -rf mine theirs serve.out
    python3 "$SRC/tests/long/peak.py" server.kb "$LINNET_PI" serve r50/model.pi --weights r50/model.pi.weights \
        --listen 127.0.0.1:0 --bundles theirs --relu gc --test-seed 11 --timeout 600 >serve.out 2>serve.err &
    server=$!
    until grep -q '^listening' serve.out 2>/dev/null; do
        kill -0 $server 2>/dev/null || die "no server: $(cat serve.err)"
        sleep 0.1
    done
    at=127.0.0.1:$(sed -n 's/^listening on 127.0.0.1:\([0-9]*\) .*/\1/p' serve.out)
    expect_exit 0 python3 "$SRC/tests/long/peak.py" preprocess.kb "$LINNET_PI" preprocess r50/model.pi --connect "$at" \
        --bundles mine --count 1 --test-seed 11 --timeout 600
    echo "  bundle of the client: $(du -cm mine/bundle-* | sed -n '$s/\t.*//p') MB, of the server: $(du -cm theirs/bundle-* | sed -n '$s/\t.*//p') MB"
    expect_exit 0 python3 "$SRC/tests/long/peak.py" query.kb "$LINNET_PI" query r50/model.pi --connect "$at" --bundles mine \
        -i one224.npy -o z.npy --test-seed 11 --timeout 600 -q
    kill -TERM $server
    wait $server || die "the server ended with $?"
    within 500 preprocess.kb "bundle, gc: client that prepares"
    within 500 query.kb "bundle, gc: client that asks"
    within 1500 server.kb "bundle, gc: server"
    status=0
    "$LINNET_PI" eval r50/model.pi -w r50/model.pi.weights --mode sim2pc --linear rlwe --test-seed 11 -i one224.npy \
        --expect z.npy --atol 0 >sim.out || status=$?
    [ $status -eq 0 ] || missed "bundle, gc: logits differ from sim2pc"
}

memory_all() {
    expect_exit 0 "$LINNET" init resnet50 --size 224x224 --classes 1000 -o r50.onnx -q
    "$PYTHON" -c '
import numpy as np
r = np.random.default_rng(1)
np.save("x224.npy", np.kron(r.integers(0, 256, (8, 3, 14, 14), np.uint8), np.ones((1, 1, 16, 16), np.uint8)))
np.save("y224.npy", r.integers(0, 1000, 8))
np.save("one224.npy", np.load("x224.npy")[:1])'
    "$PYTHON" -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$LINNET" export r50.onnx --pi r50 \
        --data npy:x224.npy,y224.npy --calib 8 --normalize imagenet --max-failure 1 -q >export.kb
    echo "export --pi: $(cat export.kb) kB"
    at_least $((680 * 1000 - $(cat export.kb))) 0 "kB of the export's 680 MB left"
    for relu in gc "ot --ot softspoken" "ot --ot ferret"; do
        # shellcheck disable=SC2086
        TMPDIR=$out expect_exit 0 "$LINNET_PI" bench r50/model.pi --weights r50/model.pi.weights --relu $relu --json peak.json
        at_least $((500 * 1000 - $(peak_of peak.json client))) 0 "$relu: kB of the client's 500 MB left"
        at_least $((1500 * 1000 - $(peak_of peak.json server))) 0 "$relu: kB of the server's 1.5 GB left"
    done
    memory_bundle
}
