# The plan of stages, one line of progress cut to the window, one time for all that is left, colours.
small="--data synth:300 --preset quick --teacher-epochs 1 --mask-epochs 1 --finetune-epochs 1 --teacher-min-steps 1
    --finetune-min-steps 1 --mask-min-steps 1 --attack-steps 1 --eval-attack-images 10 --eval-corrupt-images 10"
# shellcheck disable=SC2086
expect_exit 0 "$LINNET" sweep "$SRC/tests/demo/resnet8.onnx" $small --relus 30%,10% -o s --progress none
sed -n 's/^  \([0-9]*\/[0-9]*\) \([a-z]*\) .*/\1 \2/p' err | paste -sd ' ' - >plan
[ "$(cat plan)" = "1/9 given 2/9 teacher 3/9 teacher 4/9 mask 5/9 finetune 6/9 result 7/9 mask 8/9 finetune 9/9 result" ] ||
    die "the plan is: $(cat plan)"
[ "$(grep -n '^plan:' err | cut -d : -f 1)" -le 3 ] || die "the plan does not come first"
[ "$(grep -c '^plan:' err)" -eq 1 ] || die "there are several plans"
head -n 1 s/relus-10p/metrics.csv | grep -q '\bloss\b.*\bval\.clean\b' || die "metrics.csv has the columns $(head -n 1 s/relus-10p/metrics.csv)"
[ "$(wc -l <s/relus-10p/metrics.csv)" -eq $((1 + $(grep -c '"event":"epoch"' s/relus-10p/metrics.jsonl))) ] || die "metrics.csv: another number of rows"
grep -q '<th>robust teacher</th>' s/report.html || die "the page calls the teacher $(grep -o '<th>[a-z ]*teacher[^<]*' s/report.html)"
expect_exit 0 "$LINNET" train "$SRC/tests/demo/resnet8.onnx" --data synth:60 --test-data synth:30 --epochs 1 -o t.onnx
expect_text err '1/2 train +1 epoch of 50 images'
expect_text err '2/2 test +accuracy on 6 test images'

if ! script -qec true /dev/null </dev/null >/dev/null 2>&1; then
    skip "progress on a terminal, there is no script(1)"
fi
# terminal COLUMNS [NAME=VALUE] COMMAND...: what a terminal of that width gets, to ./screen
terminal() {
    terminal_columns=$1
    shift
    script -qec "stty cols $terminal_columns; exec env TERM=xterm $*" screen </dev/null >/dev/null 2>&1 || die "$*"
}
# lines: what is drawn from each start of a line on, without colours
lines() { tr '\r' '\n' <screen | sed "s/$(printf '\033')\[[0-9;]*[mK]//g"; }
longest() { lines | grep ' eta ' | awk '{ if (length > n) n = length } END { print n + 0 }'; }
evaluate="$LINNET eval $SRC/tests/demo/resnet8.onnx --data synth:4000 --attack pgd:steps=4"
for columns in 100 50 30; do
    terminal $columns "$evaluate"
    n=$(longest)
    [ "$n" -gt 0 ] && [ "$n" -lt $columns ] || die "a line of $n characters in $columns columns"
done
# A window that becomes narrow while the bar is drawn: from then on no line is longer than it.
narrow="while ! grep -aq '[%] eta ' screen; do sleep 0.02; done; stty cols 40 </dev/tty"
script -qefc "stty cols 100; { $narrow; } & exec env TERM=xterm $evaluate" screen </dev/null >/dev/null 2>&1 || die "$evaluate"
lines | grep '% eta ' | awk '{ long += length >= 40; if (length < 40) short = 1; else if (short) again = 1 }
    END { exit !(long && short && !again) }' || die "the bar does not follow the window: $(lines | grep '% eta ' | awk '{ print length }' | uniq -c | paste -sd ' ' -)"
terminal 100 "$evaluate"
lines | grep -q 'eval \[#.*\] *[0-9]*% eta' || die "no bar"
colour=$(printf '\033\\[3[0-9]m')
grep -aq "$colour" screen || die "no colour on a terminal"
terminal 100 "NO_COLOR=1 $evaluate"
lines | grep -q 'eval \[#.*\] *[0-9]*% eta' || die "NO_COLOR takes the bar away"
! grep -aq "$colour" screen || die "colour in spite of NO_COLOR"
terminal 100 "TERM=dumb $evaluate"
! grep -aq "$(printf '\033')" screen || die "escapes on a dumb terminal"
expect_exit 0 sh -c "$evaluate --progress bar"
! grep -q "$colour" err || die "colour in a file"
# A message in between has its own line; the time left is one, that of all stages.
terminal 100 "$LINNET train $SRC/tests/demo/resnet8.onnx --data synth:2000 --epochs 2 -o u.onnx"
lines | grep -q '^epoch 1: validation clean' || die "the message of an epoch shares its line with the bar"
! lines | grep -q ' eta .* eta ' || die "two times are left"
lines | grep -q '^1/1 train \[' || die "no number of the stage"
say "progress: plan first, cut to 100, 50 and 30 columns and to a window that shrinks, NO_COLOR, dumb"
