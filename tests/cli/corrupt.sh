# linnet corrupt and eval --corruptions: the same bytes for any number of threads, drawn and read
# corruptions score alike, frost is never made up, independent code gives the same pictures.
model=$SRC/tests/demo/resnet8.onnx

expect_exit 0 "$LINNET" corrupt --data synth:500 -o one --limit 40 --seed 3 --threads 1 --json one.json
expect_text out "14 types, 14 of the 15 standard ones \\(no frost without --frost-dir\\)"
expect_keys one.json types severities seed source
[ "$(find one -name '*.npy' | wc -l)" -eq 15 ] || die "14 types and labels expected"
expect_exit 0 "$LINNET" corrupt --data synth:500 -o two --limit 40 --seed 3 --threads 3
for file in one/*.npy; do
    expect_same "$file" "two/$(basename "$file")"
done
expect_exit 0 "$LINNET" corrupt --data synth:500 -o two --limit 40 --seed 4 --types fog
expect_different one/fog.npy two/fog.npy

expect_exit 0 "$LINNET" eval "$model" --data synth:500 --limit 40 --seed 3 --corruptions synth --json a.json
expect_text err '14 of 15'
expect_exit 0 "$LINNET" eval "$model" --data synth:500 --limit 40 --seed 3 --corruptions one --json b.json
sed 's/"source": "re-implementation"/"source": "files"/' a.json >c.json
expect_same b.json c.json

expect_exit 0 "$LINNET" corrupt --data synth:500 -o part --limit 20 --types fog,snow --severity 2,4
expect_exit 0 "$LINNET" eval "$model" --data synth:500 --limit 20 --corruptions part --severities 4
expect_exit 0 "$LINNET" eval "$model" --data synth:500 --limit 20 --corruptions part --json c.json
[ "$(grep -c '"fog"' c.json)" -ge 1 ] || die "no fog in c.json"
expect_text out 'fog, severity 2'
expect_text out 'fog, severity 4'
rm part/severities.txt
expect_error 4 'severities.txt.*which severities' "$LINNET" eval "$model" -q --data synth:500 --corruptions part
echo "2 4" >part/severities.txt
expect_error 4 'holds no severity 3' "$LINNET" eval "$model" -q --data synth:500 --corruptions part --severities 3
expect_error 4 'holds no corruption' "$LINNET" eval "$model" -q --data synth:500 --corruptions part --types contrast
expect_error 2 'frost.*--frost-dir' "$LINNET" corrupt -q --data synth:500 -o x --types frost
expect_error 4 'frost1.png' "$LINNET" corrupt -q --data synth:500 -o x --frost-dir .
expect_error 2 'numbers from 1 to 5' "$LINNET" corrupt -q --data synth:500 -o x --severity 6
expect_error 2 "'rain' is not one of the corruptions" "$LINNET" corrupt -q --data synth:500 -o x --types rain

data=synth:500
if have_shared; then data=cifar10:$(shared data/cifar10); fi
if [ -x "$PYTHON" ]; then
    status=0
    "$PYTHON" "$SRC/tests/corrupt_check.py" "$LINNET" "$data" 100 >check.log || status=$?
    case $status in
    0) say "100 images: $(awk '/largest/ { if ($4 + 0 > m) m = $4 + 0; n++ } END { print n " deterministic corruptions, largest difference " m }' check.log)" ;;
    77) skip_part "comparison with Pillow, scipy and OpenCV: $(cat check.log)" ;;
    *) cat check.log; die "corruptions differ from independent code" ;;
    esac
else
    skip_part "comparison with Pillow, scipy and OpenCV, there is no Python"
fi
