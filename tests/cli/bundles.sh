# Preprocessing bundles: encrypted on the disk, never used twice whatever is restored, refilled in the background.
data=synth:3000
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data $data --test-data synth:20 --relus 50 --preset none \
    --eval-attack-images 1 --eval-corrupt-images 1 -o cut -q
cp cut/model.pi cut/model.pi.weights .
expect_exit 0 "$LINNET" data $data --limit 1 -o one.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input one.npy --output fixed.npy
ask() { "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --retry 0 "$@"; }
umask 077
printf '%064d\n' 17 >key
printf '%064d\n' 18 >other.key

# Sealed on both sides; the same bundle without a key, or under another one, opens for nobody.
serve --bundles theirs --bundle-key key --relu gc
expect_exit 0 "$LINNET_PI" preprocess model.pi --connect "$at" --bundles mine --bundle-key key --count 5 --lot 2
cp -r mine mine.full
cp -r theirs theirs.full
expect_exit 0 ask --bundle-key key -o z.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input one.npy --expect z.npy --atol 2
expect_error 3 'sealed under another key' "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --bundle-key other.key
expect_exit 3 ask
expect_text err 'damaged|longer|another --bundle-key'
chmod 644 key
expect_error 2 "'key' is a secret" "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --bundle-key key
chmod 600 key

# One side restores its folder: the other one's list knows.
first=$(ls mine.full | grep client | head -n 1)
cp "mine.full/$first" mine/
expect_error 8 'used before' "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --bundle-key key
stop
cp theirs.full/*.server theirs/ # the server's bundles come back, its list stays
serve --bundles theirs --bundle-key key --relu gc
cp "mine.full/$first" mine/
expect_error 8 'used before' "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --bundle-key key
stop
cp theirs.full/*.server theirs/ # all of the server's folder comes back, the client's list stays
rm theirs/used-ids
serve --bundles theirs --bundle-key key --relu gc
cp "mine.full/$first" mine/
expect_error 4 'used before has come back, from a copy' "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles mine --bundle-key key
# Both sides roll back: nobody can know. (This is what the lists are for: without them it would always go so.)
cp theirs.full/*.server theirs/
rm theirs/used-ids mine/used-ids
cp "mine.full/$first" mine/
expect_exit 0 ask --bundle-key key
stop

# A folder that is kept filled, also across a server that goes away.
serve --bundles kept.server
port=${at#*:}
"$LINNET_PI" keep model.pi --connect "$at" --bundles kept --below 2 --count 3 --lot 3 --retry 0 >keep.out 2>keep.err &
keeper=$!
filled() { # N
    filled_left=300
    until [ "$(ls kept 2>/dev/null | grep -c 'client$')" -ge "$1" ]; do
        filled_left=$((filled_left - 1))
        [ $filled_left -gt 0 ] || { cat keep.out keep.err serve.err; die "the folder is not refilled"; }
        sleep 0.1
    done
}
filled 3
stop
rm kept/*client
sleep 2
"$LINNET_PI" serve model.pi --weights model.pi.weights --listen 127.0.0.1:$port --bundles kept.server >serve.out 2>serve.err &
server=$!
wait_for serve.out '^listening'
filled 3
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i one.npy --bundles kept
kill -TERM $keeper
wait $keeper || die "keep ended with $?"
stop
