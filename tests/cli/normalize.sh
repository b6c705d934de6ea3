# What a model expects of pixels, where neither an option nor the file says it.
model=nameless.onnx
sed 's/linnet\.normalize/linnet.xxxxxxxxx/' "$SRC/tests/demo/resnet8.onnx" >$model
# accuracy OPTIONS...
accuracy() {
    expect_exit 0 "$LINNET" eval $model --json a.json "$@"
    json a.json accuracy
}

# With images the presets are tried; the winner and its lead are told.
right=$(accuracy --data synth:1000 --normalize half)
found=$(accuracy --data synth:1000)
expect_text err "no --normalize and none in the file: 'half' is taken, the best preset on [0-9]* training images with [0-9.]* %, cross-entropy [0-9.]*; next '[a-z0-9-]*' with "
expect_number "$found == $right" "the preset that was found"
wrong=$(accuracy --data synth:1000 --normalize 255)
expect_number "$wrong < $right - 10" "another preset"
accuracy --data synth:1000 --normalize half >log
! grep -q 'none in the file' err || die "a guess where --normalize says it"
# One set without parts, and a folder that holds test images alone.
expect_exit 0 "$LINNET" data synth:1000 -o x.npy --labels y.npy -q
expect_number "$(accuracy --data npy:x.npy,y.npy) >= $right - 5" "one set"
expect_text err "'half' is taken"

# What is trained stays wrong: presets that the images do not tell apart, or a model that knows nothing.
train() { expect_error 2 "$1" "$LINNET" train "$2" --data "$3" --epochs 1 -o t.onnx -q; }
expect_exit 0 "$LINNET" train $model --data synth:2000 --normalize cifar10 --epochs 1 --lr 0.01 -o t.onnx -q
sed 's/linnet\.normalize/linnet.xxxxxxxxx/' t.onnx >near.onnx
rm t.onnx
train "do not tell '[a-z0-9-]*' .* from '[a-z0-9-]*'.*--normalize [a-z0-9-]* if you do not know" near.onnx synth:200
# More images decide, or show that it does not matter; the preset is told in both cases.
expect_exit 0 "$LINNET" train near.onnx --data synth:8000 --train-limit 100 --epochs 1 -o t.onnx
expect_text err "is taken, the best preset on [0-9]{4,} training images"
rm t.onnx
expect_exit 0 "$LINNET" eval near.onnx --data synth:200
expect_text err "warning: it may be '[a-z0-9-]*' as well"
expect_exit 0 "$LINNET" init resnet8 -o start.onnx -q
train 'no preset makes the model better than guessing .*untrained' start.onnx synth:1000
expect_error 2 'no preset makes' "$LINNET" linearize start.onnx --data synth:1000 --relus 50% --preset quick -o cut -q
expect_error 2 'no preset makes' "$LINNET" sweep start.onnx --data synth:1000 --relus 50% --preset quick -o cut -q
[ ! -e cut/model.onnx ] && [ ! -e t.onnx ] || die "something was written"
expect_exit 0 "$LINNET" train start.onnx --data synth:100 --epochs 1 -o t.onnx --normalize none -q
expect_exit 0 "$LINNET" eval start.onnx --data synth:1000
expect_text err 'pixels in \[0,1\] go in as they are'
# The teacher's file is asked before the images are.
expect_exit 0 "$LINNET" linearize start.onnx --data synth:100 --train-limit 50 --relus 50% --preset quick --stages mask,finetune \
    --teacher t.safetensors --mask-epochs 1 --finetune-epochs 1 --finetune-min-steps 1 --attack-steps 1 --eval-attack-images 1 \
    --eval-corrupt-images 1 -o cut
expect_text cut/model.onnx linnet.normalize

# Guessing is named, whatever the normalisation; too few images say nothing about it.
expect_exit 0 "$LINNET" eval start.onnx --data synth:1000 --normalize none
expect_text err 'warning\[E1604\].*guessing one of 10 classes.*--normalize auto'
expect_exit 0 "$LINNET" eval start.onnx --data synth:1000 --normalize none --limit 20
! grep -q E1604 err || die "20 images tell nothing"

# Every command that takes --normalize lists the presets; without images the user hears what is done.
for command in run train linearize sweep eval export validate; do
    "$LINNET" $command --help >out
    tr -s ' \n' '  ' <out >line
    expect_text line 'none, imagenet, cifar10, cifar10-b, cifar100, half, 255, or m,m,m/s,s,s'
done
expect_exit 0 "$LINNET" run $model --input x.npy --output z.npy
expect_text err 'no --normalize and none in the file: pixels in \[0,1\] go in as they are'

if have_shared; then
    data=$(shared data/cifar10)
    expect_exit 0 "$LINNET" data "cifar10:$data" --limit 4000 -o x.npy --labels y.npy -q
    model=$(shared models/resnet20_cifar10.onnx)
    found=$(accuracy --data npy:x.npy,y.npy)
    expect_number "$found >= 90.5" "ResNet-20 without --normalize"
    say "ResNet-20 on CIFAR-10 without --normalize: $found %"
    mkdir only
    cp "$data/test_batch.bin" only/
    expect_number "$(accuracy --data cifar10:only --limit 1000) >= 90" "a folder of test images alone"
else
    skip_part "ResNet-20 without --normalize, there is no shared folder"
fi
say "presets found, told, and refused where it is not clear"
