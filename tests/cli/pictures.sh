# Every kind of PNG and JPEG reads as Pillow's convert("RGB") has it; files that end early are refused.
if ! { [ -x "$PYTHON" ] && "$PYTHON" -c 'import numpy, PIL' >log 2>&1; }; then
    skip "there is no numpy or Pillow"
fi
check="$SRC/tests/picture_check.py"
"$PYTHON" "$check" make p
expect_exit 0 "$LINNET" data imagefolder:p --split train+val -o x.npy --labels y.npy
"$PYTHON" -W ignore "$check" compare p x.npy || die "pictures differ from Pillow's"
for file in half.jpg no_end.jpg tail.jpg half.png no_end.png; do
    rm -rf q
    mkdir -p q/train/only
    cp "p/broken/$file" q/train/only
    expect_error 4 "$file.*(truncated|too short|rror)" "$LINNET" data imagefolder:q --split train+val -q
done
