#!/bin/sh
# Runs test programs, as many at once as there are processors (JOBS), and prints what each says at
# its end; the whole output of one that fails.
# Usage: tests/run.sh BUILD [PROGRAM...]      (default: every tests/*/test_*.c, then the fuzz targets on their corpora)
set -u
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # waiting threads that spin cost much on a busy machine
build=$1
shift
[ $# -gt 0 ] || set -- $(ls tests/*/test_*.c tests/fuzz/fuzz_*.c | sed 's|tests/fuzz/|test_|; s|.*/||; s|\.c$||')
tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-tests.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# One program. What it says is printed in one piece, so that two programs do not mix their lines.
cat >"$tmp/one" <<'ONE'
build=$1 tmp=$2 name=$3
log=$tmp/$name.log start=$(date +%s)
if "$build/tests/$name" >"$log" 2>&1; then
    said=$(grep -E '^\[  PASSED  \]|^\[==========\].* run|[Ss]kipped' "$log")
    printf '%s %s s\n%s\n' "$name" "$(($(date +%s) - start))" "$said"
else
    # What failed stands first: reports of leaks that a failed test leaves are long.
    said=$(grep -E '^\[ +(ERROR|LINE|FAILED) +\]|^ERROR: |runtime error' "$log" | head -n 20; tail -n 60 "$log")
    : >"$tmp/$name.failed"
    printf '%s FAILED\n%s\n' "$name" "$said"
fi
ONE
start=$(date +%s)
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -n 1 sh "$tmp/one" "$build" "$tmp"
echo "unit tests: $(($(date +%s) - start)) s"
failed=$(cd "$tmp" && ls | sed -n 's/\.failed$//p' | paste -sd ' ' -)
[ -z "$failed" ] || { echo "failed: $failed" >&2; exit 1; }
