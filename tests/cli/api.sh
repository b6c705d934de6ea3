# The example of the C API does what the program does: the same files, the same accuracies.
model=$SRC/tests/demo/resnet8.onnx
expect_exit 0 "$BUILD/examples/convert" "$model" synth:100 40% library none
expect_text err '^first masks chosen from 90 images$'
expect_text out '^library/model.onnx: clean [0-9.]+ %, under PGD-20 [0-9.]+ %$'
cp out said
expect_exit 0 "$LINNET" linearize "$model" --data synth:100 --relus 40% --preset none -o program -q
for file in model.onnx checkpoint.safetensors config.json report.json; do
    expect_same library/$file program/$file
done
expect_exit 0 "$LINNET" eval library/model.onnx --data synth:100 --json clean.json -q
expect_exit 0 "$LINNET" eval library/model.onnx --data synth:100 --attack pgd:eps=8/255,steps=20 --json pgd.json -q
robust=$(json pgd.json accuracy) # "attacks" comes before "clean"
expect_text said "clean $(printf %.2f "$(json clean.json accuracy)") %, under PGD-20 $(printf %.2f "$robust") %"
expect_error_of_example() { # CODE, PATTERN, ARGUMENT...
    code=$1 pattern=$2
    shift 2
    expect_exit "$code" "$BUILD/examples/convert" "$@"
    expect_text err "$pattern"
}
expect_error_of_example 2 '^usage: ' "$model"
expect_error_of_example 1 "--relus 'x': give a count" "$model" synth:100 x out none
expect_error_of_example 1 'nofile' nofile synth:100 40% out none
expect_error_of_example 1 "'fast' is not one of" "$model" synth:100 40% out fast
say "convert.c: the files of linnet linearize, $(cat said)"
