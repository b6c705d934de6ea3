# What the cases of tests/cli share; run.sh reads it before each of them.

say() { echo "figure: $*"; }
skip_part() { echo "skipped: $*"; }
skip() {
    echo "skipped: $*"
    exit 77
}
die() {
    echo "FAILED: $*"
    exit 1
}

# expect_exit CODES COMMAND...: runs it, standard output to ./out, messages to ./err. CODES may be
# several, "0 3".
expect_exit() {
    expect_codes=$1
    shift
    expect_status=0
    "$@" >out 2>err || expect_status=$?
    for expect_code in $expect_codes; do
        [ "$expect_status" -ne "$expect_code" ] || return 0
    done
    echo "\$ $*"
    tail -n 15 out err
    die "exit status $expect_status, expected $expect_codes"
}

# expect_text FILE PATTERN: an extended regular expression that some line of the file must match.
expect_text() {
    grep -Eq -e "$2" "$1" && return 0
    tail -n 30 "$1"
    die "no line of $1 matches '$2'"
}

# expect_error CODE PATTERN PROGRAM COMMAND...: it ends with CODE, the first line of its messages
# begins with "program: command: ", and a line matches PATTERN. Nobody ends by a signal.
expect_error() {
    error_code=$1 error_pattern=$2
    shift 2
    expect_exit "$error_code" "$@"
    expect_prefix "$1" "$2"
    expect_text err "$error_pattern"
}
expect_prefix() {
    head -n 1 err | grep -q "^$(basename "$1"): $2: " || {
        cat err
        die "the first line does not begin with '$(basename "$1"): $2: '"
    }
}

expect_same() {
    cmp "$1" "$2" || die "$1 and $2 differ"
}
expect_different() {
    ! cmp -s "$1" "$2" || die "$1 and $2 are equal"
}

# expect_number EXPRESSION MEANING: arithmetic and comparisons of awk, "97.2 >= 95"
expect_number() {
    awk "BEGIN { exit !($1) }" || die "$2: $1 is not true"
}

# json FILE KEY: the first number, word or text of that key in a file that linnet wrote.
json() {
    sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" | head -n 1
}
expect_keys() {
    keys_file=$1
    shift
    for key in "$@"; do
        grep -q "\"$key\":" "$keys_file" || die "$keys_file has no key '$key'"
    done
}

# have_python: can it make cross-checks? Otherwise the case says so, once.
python_state=
have_python() {
    if [ -z "$python_state" ]; then
        python_state=no
        if [ -x "$PYTHON" ] && "$PYTHON" -c 'import numpy, onnxruntime' >/dev/null 2>&1; then
            python_state=yes
        else
            skip_part "comparison with onnxruntime, there is no such Python package"
        fi
    fi
    [ $python_state = yes ]
}

# have_shared: does the folder of real models and data exist? shared FILE prints a path in it.
have_shared() { [ -d "$SHARED" ]; }
shared() {
    [ -e "$SHARED/$1" ] || die "$SHARED exists, but there is no $1 in it" >&2
    echo "$SHARED/$1"
}

# Lines "file normalisation ReLUs accuracy" of the CIFAR-10 models in MANIFEST.md.
manifest() {
    awk -F'|' '$7 ~ /[0-9][0-9]\.[0-9]/ {
        gsub(/[ ,]/, "", $2); gsub(/[ ,]/, "", $6); gsub(/ /, "", $7)
        split($5, preset, "`"); print $2, preset[2], $6, $7 }' "$(shared models/MANIFEST.md)" >manifest.txt
    [ "$(wc -l <manifest.txt)" -eq 7 ] || die "MANIFEST.md: seven CIFAR-10 models expected"
    cat manifest.txt
}

# mini_cifar FOLDER: the first 300 images of each file of CIFAR-10, in its layout
mini_cifar() {
    mkdir "$1"
    for mini_part in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
        head -c $((300 * 3073)) "$(shared "data/cifar10/$mini_part.bin")" >"$1/$mini_part.bin"
    done
}

size_of() { wc -c <"$1" | tr -d ' '; }

# poke FILE OFFSET BYTES: overwrites bytes, given as printf escapes.
poke() {
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
# flip FILE OFFSET: inverts one bit, the lowest but two, of one byte.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    poke "$1" "$2" "\\$(printf %o $(((byte & ~4) | (~byte & 4))))"
}

# no_temporaries FOLDER
no_temporaries() {
    left=$(find "$1" -name '*.tmp-*')
    [ -z "$left" ] || die "left behind: $left"
}

# ---- two parties: a package model.pi, model.pi.weights in the folder of the case

wait_for() { # FILE PATTERN: until a line matches, 20 s at most
    wait_left=200
    until grep -q "$2" "$1" 2>/dev/null; do
        wait_left=$((wait_left - 1))
        [ $wait_left -gt 0 ] || die "no line of $1 matches '$2'"
        sleep 0.1
    done
}
serve() { # OPTIONS...: starts a server, sets $server and $at
    rm -f serve.out
    "$LINNET_PI" serve model.pi --weights model.pi.weights --listen 127.0.0.1:0 "$@" >serve.out 2>serve.err &
    server=$!
    wait_for serve.out '^listening'
    at=127.0.0.1:$(sed -n 's/^listening on 127.0.0.1:\([0-9]*\) .*/\1/p' serve.out)
}
stop() { # ends the server, which must end well
    kill -TERM $server
    stop_status=0
    wait $server || stop_status=$?
    [ $stop_status -eq 0 ] || { cat serve.err; die "the server ended with $stop_status"; }
}
