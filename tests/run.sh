#!/bin/sh
# Runs test programs and prints what each says at its end; the whole output of one that fails.
# Usage: tests/run.sh BUILD [PROGRAM...]      (default: every tests/*/test_*.c, then the fuzz targets on their corpora)
set -u
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # waiting threads that spin cost much on a busy machine
build=$1
shift
[ $# -gt 0 ] || set -- $(ls tests/*/test_*.c tests/fuzz/fuzz_*.c | sed 's|tests/fuzz/|test_|; s|.*/||; s|\.c$||')
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=""
start=$(date +%s)
for t in "$@"; do
    if "$build/tests/$t" >"$log" 2>&1; then
        echo "$t"
        grep -E '^\[  PASSED  \]|^\[==========\].* run|[Ss]kipped' "$log"
    else
        failed="$failed $t"
        echo "$t FAILED"
        tail -n 60 "$log"
    fi
done
echo "unit tests: $(($(date +%s) - start)) s"
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
