#!/bin/sh
# Long fuzzing of every parser with clang's libFuzzer, ASan and UBSan: hours. What is found lies in
# BUILD_FUZZ/found/TARGET; add a minimised copy to tests/fuzz/corpus/TARGET when it is fixed.
#
# Usage: tests/long/fuzz.sh [TARGET...]          (default: all)
#   LINNET_FUZZ_RUNS   executions of each target, default 2000000
#   LINNET_FUZZ_SECONDS  at most so long for each target, default no limit
#   LINNET_FUZZ_GROWN  folder that keeps the grown corpora, default BUILD_FUZZ/grown
set -eu
cd "$(dirname "$0")/../.."
make fuzz
build=build/fuzz
grown=${LINNET_FUZZ_GROWN:-$build/grown}
[ $# -gt 0 ] || set -- $(ls tests/fuzz/fuzz_*.c | sed 's|.*/fuzz_||; s|\.c$||')
export OMP_NUM_THREADS=1
# Memory that was freed is used again soon: new pages cost more than most inputs.
export ASAN_OPTIONS=quarantine_size_mb=16
failed=""
for target in "$@"; do
    mkdir -p "$grown/$target" "$build/found/$target"
    dict=tests/fuzz/$target.dict
    [ -e "$dict" ] && dict="-dict=$dict" || dict=""
    echo "== $target"
    # One second an input, as many seconds as ASan on a busy machine may take for it.
    # shellcheck disable=SC2086
    "$build/fuzz_$target" -runs="${LINNET_FUZZ_RUNS:-2000000}" -max_total_time="${LINNET_FUZZ_SECONDS:-0}" \
        -max_len=16384 -timeout=10 -rss_limit_mb=1536 -malloc_limit_mb=256 -print_final_stats=1 \
        -artifact_prefix="$build/found/$target/" $dict "$grown/$target" "tests/fuzz/corpus/$target" \
        >"$build/$target.log" 2>&1 || failed="$failed $target"
    grep -E 'number_of_executed_units|ERROR|SUMMARY' "$build/$target.log" || true
done
[ -z "$failed" ] || { echo "findings in:$failed, see $build/found" >&2; exit 1; }
