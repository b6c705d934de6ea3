# Clients that may deviate: rounds of preparations, queries with their bundles, what does not go together.
data=synth:3000
expect_exit 0 "$LINNET" linearize "$SRC/tests/demo/resnet8.onnx" --data $data --test-data synth:20 --relus 200 --preset none \
    --eval-attack-images 1 --eval-corrupt-images 1 -o cut -q
cp cut/model.pi cut/model.pi.weights .
expect_exit 0 "$LINNET" data $data --limit 3 -o three.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input three.npy --output fixed.npy
umask 077
printf '%064d\n' 17 >key

# 20 preparations, 4 of them opened and thrown away; the others answer.
serve --clients covert --bundles theirs --bundle-key key --ledger ledger
expect_text serve.out 'comparisons gc.*clients covert'
expect_text serve.err 'without --client-ca a ban hits'
expect_exit 0 "$LINNET_PI" preprocess model.pi --connect "$at" --bundles mine --count 1
expect_text out '^16 bundles in'
[ "$(ls mine | grep -c '^bundle-')" -eq 16 ] && [ "$(ls theirs | grep -c '^bundle-')" -eq 16 ] || die "not 16 bundles each"
! ls mine theirs | grep -q pending || die "pending bundles are left"
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i three.npy --bundles mine -o z.npy
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input three.npy --expect z.npy --atol 2
expect_exit 0 "$LINNET_PI" query model.pi --connect "$at" -i three.npy --bundles mine -o z.npy --batch 3
expect_exit 0 "$LINNET_PI" eval model.pi --weights model.pi.weights --mode fixed --input three.npy --expect z.npy --atol 2
expect_exit 2 "$LINNET_PI" query model.pi --connect "$at" -i three.npy --retry 0
expect_text err 'make bundles first'
stop
expect_text ledger 'begin-prepare 20 '
expect_text ledger 'usable 16 '
! grep -Eq 'strike|ban ' ledger || die "an honest client was accused"

# Its bundles are of no use to a server that trusts its clients.
serve --bundles theirs --bundle-key key --relu gc
expect_exit 3 "$LINNET_PI" query model.pi --connect "$at" -i three.npy --bundles mine --retry 0
expect_text err 'made for a server with --clients covert'
stop

start="$LINNET_PI serve model.pi --weights model.pi.weights --clients covert"
expect_error 2 'give --bundles' $start --listen 127.0.0.1:0
expect_error 2 'has no tags' $start --listen 127.0.0.1:0 --bundles theirs --relu ot
expect_exit 2 $start --listen 0.0.0.0:0 --bundles theirs --insecure-plain # after a warning
expect_text err 'give --client-ca'
expect_exit 0 "$LINNET_PI" info model.pi
expect_text out 'caught with a chance of 1 in 5'
