# Images that are streamed: the same model as with images in memory, whatever the buffer and the threads;
# kill -9 and resume; several sources; random crops; refusals.
if ! { [ -x "$PYTHON" ] && "$PYTHON" -c 'import numpy, PIL' >log 2>&1; }; then
    skip "there is no numpy or Pillow"
fi
"$PYTHON" - <<'END_PYTHON'
import io, os, tarfile
import numpy as np
from PIL import Image
r = np.random.default_rng(5)
k = 0
for part, n in (("train", 120), ("train", 80), ("val", 60)):
    os.makedirs("set/" + part, exist_ok=True)
    with tarfile.open("set/%s/%03d.tar" % (part, k), "w") as t:
        for _ in range(n):
            label = k % 3
            x = r.integers(0, 80, (5, 5, 3), dtype=np.uint8)
            x[..., label] += 120
            side = 34 + k % 7
            image = Image.fromarray(x).resize((side + 3, side), Image.Resampling.BILINEAR)
            out = io.BytesIO()
            image.save(out, "JPEG", quality=95)
            os.makedirs("folder/%s/c%d" % (part, label), exist_ok=True)
            with open("folder/%s/c%d/%04d.jpg" % (part, label, k), "wb") as f:
                f.write(out.getvalue())
            for end, data in ((".jpg", out.getvalue()), (".cls", b"%d" % label)):
                info = tarfile.TarInfo("%04d%s" % (k, end))
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
            k += 1
END_PYTHON
expect_exit 0 "$LINNET" init resnet8 --classes 3 -o start.onnx -q
sizes="--resize 34 --crop 32x32"
train() { # NAME SOURCE OPTIONS...: two epochs
    name=$1 source=$2
    shift 2
    # shellcheck disable=SC2086
    expect_exit 0 "$LINNET" train start.onnx --data "$source" $sizes --normalize none --epochs 2 --batch 16 -o "$name.onnx" -q "$@"
}

# In memory and streamed, from folders and from shards.
train memory shards:set --data-memory all
for how in "1 3" "50K 1"; do
    train streamed shards:set --data-memory "${how% *}" --data-threads "${how#* }"
    cmp memory.onnx streamed.onnx || die "streamed shards ($how threads) give another model"
done
train folder imagefolder:folder --data-memory all
train folder_streamed imagefolder:folder --data-memory 50K --data-threads 2
cmp folder.onnx folder_streamed.onnx || die "streamed folders give another model"

# Evaluation too.
expect_exit 0 "$LINNET" eval memory.onnx --data shards:set $sizes --data-memory all --json a.json -q
expect_exit 0 "$LINNET" eval memory.onnx --data shards:set $sizes --data-memory 20K --json b.json -q
[ "$(json a.json accuracy)/$(json a.json n)" = "$(json b.json accuracy)/60" ] ||
    die "streamed images have another accuracy"

# Random crops: streamed in any case; other threads and buffers change nothing.
train random shards:set --random-crop --data-memory 1 --data-threads 1
train random2 shards:set --random-crop --data-memory all --data-threads 4 --threads 1
cmp random.onnx random2.onnx || die "random crops depend on threads or memory"
! cmp -s random.onnx memory.onnx || die "--random-crop changes nothing"

# Several ranks: the same bytes, from several buffers.
ranks=$BUILD/linnet-mpi
if command -v mpirun >/dev/null && [ -x "$ranks" ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
    for count in 2 4; do
        # shellcheck disable=SC2086
        OMP_NUM_THREADS=1 expect_exit 0 mpirun --oversubscribe -n $count "$ranks" train start.onnx --data shards:set $sizes \
            --normalize none --epochs 2 --batch 16 -o ranks.onnx -q --random-crop --data-memory 90K --data-threads 1 </dev/null
        cmp random.onnx ranks.onnx || die "$count ranks give another model"
    done
fi

# Killed and stopped at several moments; what follows has another buffer, or images in memory.
seen=
for moment in 0.5 2; do
    for signal in KILL TERM; do
        rm -f killed.*
        # shellcheck disable=SC2086
        "$LINNET" train start.onnx --data shards:set $sizes --normalize none --epochs 2 --batch 16 -o killed.onnx -q \
            --data-memory 30K >kill.log 2>&1 &
        pid=$!
        sleep $moment
        kill -$signal $pid 2>signal.log || true
        status=0
        wait $pid 2>signal.log || status=$?
        seen="$seen $status"
        train killed shards:set --data-memory $([ $signal = KILL ] && echo 60K || echo all) --resume
        cmp memory.onnx killed.onnx || die "SIG$signal after $moment s: the run ends elsewhere"
    done
done
case $seen in
*75*) ;;
*) echo "no run was stopped in the middle:$seen" ;;
esac

# Refusals.
expect_error 2 '--data-memory.*5 apples' "$LINNET" eval memory.onnx --data shards:set --data-memory '5 apples' -q
expect_error 2 '--random-crop needs --crop' "$LINNET" train start.onnx --data shards:set --random-crop -o x.onnx -q
head -c 30000 set/train/000.tar >cut.tar
expect_error 4 'cut.tar.*it was cut' "$LINNET" data shards:cut.tar -q
expect_error 4 'set/train/00[123].tar' "$LINNET" data "shards:set/train/{000..003}.tar" -q
