# Peak memory of a query of ResNet-50 at 224x224 with all its ReLUs, read by run.sh: whatever the client's
# half of a gc bundle takes (11 GB), it lies on the disk. LINNET_LONG_OUT needs 12 GB.

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

memory_all() {
    expect_exit 0 "$LINNET" init resnet50 --size 224x224 --classes 1000 -o r50.onnx -q
    "$PYTHON" -c '
import numpy as np
r = np.random.default_rng(1)
np.save("x224.npy", np.kron(r.integers(0, 256, (8, 3, 14, 14), np.uint8), np.ones((1, 1, 16, 16), np.uint8)))
np.save("y224.npy", r.integers(0, 1000, 8))'
    expect_exit 0 "$LINNET" export r50.onnx -o r50.out.onnx --pi r50 --data npy:x224.npy,y224.npy --calib 8 \
        --normalize imagenet --max-failure 1 -q
    for relu in gc "ot --ot softspoken" "ot --ot ferret"; do
        # shellcheck disable=SC2086
        TMPDIR=$out expect_exit 0 "$LINNET_PI" bench r50/model.pi --weights r50/model.pi.weights --relu $relu --json peak.json
        at_least $((500 * 1000 - $(peak_of peak.json client))) 0 "$relu: kB of the client's 500 MB left"
        at_least $((1500 * 1000 - $(peak_of peak.json server))) 0 "$relu: kB of the server's 1.5 GB left"
    done
}
