# --precision: what eval, run, train, linearize and validate compute in, and say; training in bf16 gives the
# same bytes for 1, 2 and 4 threads, and after being killed.
model=$SRC/tests/demo/resnet8.onnx

# ---- eval, run ------------------------------------------------------------------------------------------
evaluate() { # FILE, OPTION...
    file=$1
    shift
    expect_exit 0 "$LINNET" eval "$model" --data synth:100 --attack pgd:steps=2 --json "$file" -q "$@"
}
evaluate fp32.json
evaluate same.json --precision fp32
evaluate bf16.json --precision bf16
evaluate one.json --precision bf16 --threads 1
LINNET_CPU=avx512 evaluate vectors.json --precision bf16
expect_same bf16.json vectors.json
expect_same fp32.json same.json
expect_same bf16.json one.json
[ "$(json fp32.json precision)" = fp32 ] && [ "$(json bf16.json precision)" = bf16 ] || die "precision in JSON"
[ "$(json bf16.json attack_precision)" = bf16 ] || die "precision of attacks in JSON"
expect_exit 0 "$LINNET" eval "$model" --data synth:100 --precision bf16
expect_text out ', bf16$'
expect_exit 0 "$LINNET" eval "$model" --data synth:20
expect_text out ', fp32$'
expect_error 2 "'fp16' is not one of|auto.fp32.bf16" "$LINNET" eval "$model" --data synth:20 --precision fp16
LINNET_CPU=avx512 expect_exit 0 "$LINNET" eval "$model" --data synth:100 --precision bf16
expect_text err 'bf16 without AMX: the same bits, slower'
LINNET_CPU=avx512 expect_exit 0 "$LINNET" eval "$model" --data synth:20 --precision auto
expect_text out ', fp32$'
say "eval: fp32 by default, bf16 said in text and JSON, 1 thread and 2 the same"

expect_exit 0 "$LINNET" export "$model" -o plain.onnx --precision fp32 -q
expect_error 2 'calibration computes in fp32' "$LINNET" export "$model" -o half.onnx --precision bf16
# Four images are computed as a hundred are.
LINNET_CPU=avx512 expect_exit 0 "$LINNET" eval "$model" --data synth:20 --precision bf16
expect_text out ', bf16$'

# ---- train: bytes, kill and resume ----------------------------------------------------------------------
expect_exit 0 "$LINNET" init resnet8 -o start.onnx
in_place=
train() { # FOLDER, OPTION...
    folder=$1
    shift
    mkdir -p "$folder"
    $in_place "$LINNET" train start.onnx --data synth:100 --normalize half --adversarial pgd:steps=2 --augment augmix \
        --dual-bn --epochs 3 --batch 70 --val-attack-images 5 --precision bf16 -o "$folder/y.onnx" "$@"
}
same_training() {
    for file in y.safetensors y.onnx y.adv.onnx; do
        expect_same "full/$file" "$1/$file"
    done
}
expect_exit 0 train full --threads 2
expect_text out 'y.onnx: bf16, '
for threads in 1 4; do
    expect_exit 0 train $threads --threads $threads
    same_training $threads
done
(in_place=exec && train killed) >log 2>&1 &
pid=$!
until [ -e killed/y.safetensors ]; do
    ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || { tail log; die "the run was over before it was killed"; }
    sleep 0.02
done
kill -s KILL $pid
wait $pid || true
[ ! -e killed/y.onnx ] || die "the run was over before it was killed"
expect_exit 2 train killed --resume --precision fp32
expect_exit 0 train killed --resume
same_training killed
expect_exit 0 train fp32 --precision fp32 -q
expect_different full/y.onnx fp32/y.onnx
say "train: 1, 2, 4 threads and a killed run the same bytes in bf16; fp32 does not continue it"

# ---- linearize, validate ----------------------------------------------------------------------------------
expect_exit 0 "$LINNET" linearize "$model" --data synth:60 --recipe senet --preset quick --stages finetune,mask \
    --mask-epochs 1 --finetune-epochs 1 --batch 20 --eval-attack-images 0 --eval-corrupt-images 0 --relus 20% \
    --calib 40 --precision bf16 -o cut -q
expect_text cut/report.json '^    "precision": "fp32"'
expect_text cut/report.json '^  "precision": "bf16"'
expect_text cut/config.json '"precision": "bf16"'
expect_exit 0 "$LINNET" validate cut --data synth:60 --limit 20 --precision bf16 --json v.json
[ "$(json v.json precision)" = bf16 ] || die "validate says its precision"
say "linearize: trained in bf16, measured in fp32, both in the report"
