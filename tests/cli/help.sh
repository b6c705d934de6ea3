# Help, versions, options from a file, where results and messages go.
for program in "$LINNET" "$LINNET_PI"; do
    name=$(basename "$program")
    expect_exit 0 "$program" --help
    expect_text out "^Usage: $name COMMAND"
    grep -E '^  [a-z]' out >commands
    grep -v 'not in this version' commands | awk '{ print $1 }' >have
    grep 'not in this version' commands | awk '{ print $1 }' >later
    [ "$(wc -l <have)" -ge 2 ] || die "$name has no commands"
    while read -r command; do
        expect_exit 0 "$program" "$command" --help
        expect_text out "^ *Example:"
        expect_text out "^  $name $command "
        expect_text out "--config"
        # argp (glibc 2.36) puts blanks into the line above where its buffer ends at them; other words before them help
        ! grep -E '^ {30,}--?[a-z]' out || die "$name $command --help: an option is not in its column"
        [ ! -s err ] || die "$name $command --help writes to standard error"
        expect_exit 0 "$program" "$command" --usage
        expect_text out "^Usage: $name $command"
        expect_exit 0 "$program" "$command" --version
        expect_text out "^$name"
        expect_error 2 "unknown option '--no-such-option'" "$program" "$command" --no-such-option
    done <have
    while read -r command; do
        expect_error 2 'not in this version' "$program" "$command"
    done <later
    say "$name: $(tr '\n' ' ' <have)explain themselves; later: $(tr '\n' ' ' <later)"
    expect_exit 0 "$program" --version
    expect_text out "^$name [0-9]+\.[0-9]+"
    expect_text out '^CPU: (generic|avx2|avx512|avx512bf16|amx)($|;)'
    expect_exit 0 env LINNET_CPU=generic "$program" --version
    expect_text out '^CPU: generic'
    expect_exit 2 env LINNET_CPU=quantum "$program" --version
    expect_text err "^$name: LINNET_CPU=quantum: must be generic, avx2, avx512, avx512bf16 or amx"
    expect_exit 2 "$program"
    expect_exit 2 "$program" no-such-command
    expect_text err "unknown command 'no-such-command'"
done

expect_exit 2 "$LINNET" inspct x.onnx
expect_text err "did you mean 'inspect'"
expect_error 2 "did you mean '--limit'" "$LINNET" eval x.onnx --limti 3
expect_error 2 "'--limit' needs a value" "$LINNET" eval x.onnx --limit
expect_error 2 "'abc' is not a whole number" "$LINNET" eval x.onnx --limit abc
expect_error 2 "outside" "$LINNET" eval x.onnx --limit 0
expect_error 2 "missing argument" "$LINNET" eval --limit 3
expect_error 2 "unexpected argument" "$LINNET" eval a.onnx b.onnx
expect_error 2 "give --data" "$LINNET" eval x.onnx
expect_error 2 "not one of where" "$LINNET" export x.onnx -o y.onnx --masked-relu no

model=$SRC/tests/demo/resnet8.onnx
expect_error 2 'belongs to --recipe rlnet --preset paper' "$LINNET" linearize "$model" --data synth:50 --relus 5% -o d \
    --preset short --as-published
expect_error 2 'sets --score, --first-mask' "$LINNET" linearize "$model" --data synth:50 --relus 5% -o d \
    --preset paper --as-published --score diff0
# Slips that need no data to be seen are told before any is read (there is no folder 'none').
expect_error 2 "--relus 'x'" "$LINNET" linearize "$model" --data none --relus x -o d
expect_error 2 'has only 73728 ReLUs' "$LINNET" linearize "$model" --data none --relus 99999 -o d
expect_error 2 "'20%' is there twice" "$LINNET" sweep "$model" --data none --relus 20%,10%,20% -o d
expect_error 2 'must be 64 hexadecimal' "$LINNET" export "$model" -o x.onnx --pi d --data none --salt abc
expect_error 2 'belongs to --pi' "$LINNET" export "$model" -o x.onnx --salt "$(printf '%064d' 0)"
expect_error 2 'outside' "$LINNET" train "$model" --data none --lr 0 -o x.onnx
expect_error 2 'number from 1 to' "$LINNET" eval "$model" --data synth:50 --attack pgd:steps=0
mkdir folder
expect_error 2 'is a folder; name a file in it' "$LINNET" eval folder --data synth:50
[ ! -e x.onnx ] && [ ! -e d ] || die "a refused command wrote something"

# Options of a file; the command line wins; --json - leaves nothing but JSON on standard output.
echo '{"data": "synth:100", "limit": 5, "seed": 3, "attack": ["pgd:steps=1", "pgd:steps=2"]}' >c.json
expect_exit 0 "$LINNET" eval "$model" --config c.json --json all.json
expect_number "$(json all.json n) == 5" "limit of the file"
[ "$(grep -c '"name": "pgd' all.json)" -eq 2 ] || die "a list in --config gives two attacks"
expect_exit 0 "$LINNET" eval "$model" --config c.json --limit 7 --attack pgd:steps=1 --json -
expect_number "$(json out n) == 7" "the command line wins"
[ "$(grep -c '"name": "pgd' out)" -eq 1 ] || die "the command line replaces a list of the file"
[ "$(head -c 1 out)" = "{" ] && [ "$(tail -n 1 out)" = "}" ] || die "--json - writes only JSON"
[ ! -x "$PYTHON" ] || "$PYTHON" -c 'import json, sys; json.load(sys.stdin)' <out
expect_text err 'clean'
echo '{"limti": 5}' >bad.json
expect_error 2 "did you mean '--limit'" "$LINNET" eval "$model" --config bad.json
echo '{"limit": ' >bad.json
expect_error 2 "config 'bad.json'" "$LINNET" eval "$model" --config bad.json
echo '{"limit": true}' >bad.json
expect_error 2 "'limit' is neither a text nor a number" "$LINNET" eval "$model" --config bad.json

for command in "inspect $model" "data synth:50" "eval $model --data synth:50"; do
    # shellcheck disable=SC2086
    expect_exit 0 "$LINNET" $command --json - -q
    [ "$(head -c 1 out)" = "{" ] || die "$command --json - writes only JSON"
    [ ! -x "$PYTHON" ] || "$PYTHON" -c 'import json, sys; json.load(sys.stdin)' <out
done
expect_exit 0 "$LINNET" inspect "$model" --json -
expect_keys out format ir_version opset producer inputs outputs params macs relus_total relus_kept \
    relu_layers problems
