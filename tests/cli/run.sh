#!/bin/sh
# Whole runs of both programs. Usage: tests/cli/run.sh BUILD [CASE...]   (default: every tests/cli case)
#
# A case is tests/cli/CASE.sh, run by `sh -eu` in a fresh folder with tests/cli/lib.sh read before it
# and these variables, all absolute:
#     LINNET, LINNET_PI  the programs
#     BUILD              the folder that they lie in
#     SRC                the repository
#     SHARED             real models and data (LINNET_SHARED, default ../shared); may not exist
#     PYTHON             with numpy and onnxruntime (LINNET_PYTHON, default build/venv/bin/python);
#                        may not exist
# Exit status of a case: 0 passed, 77 skipped, anything else failed. Lines "skipped: REASON" in its
# log are shown. LINNET_CASE_SECONDS (default 900) ends a case that hangs.
set -u
cd "$(dirname "$0")/../.." || exit 1
SRC=$(pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$SRC/$1" ;; esac; }
[ $# -ge 1 ] || { echo "usage: tests/cli/run.sh BUILD [CASE...]" >&2; exit 2; }
build=$(absolute "$1")
shift
BUILD=$build
LINNET=$build/linnet
LINNET_PI=$build/linnet-pi
SHARED=$(absolute "${LINNET_SHARED:-../shared}")
PYTHON=$(absolute "${LINNET_PYTHON:-build/venv/bin/python}")
export SRC BUILD LINNET LINNET_PI SHARED PYTHON
[ $# -gt 0 ] || set -- help models forms pi twopc serve crowd ops bundles train recipes resume attacks data pictures corrupt onnx bad api files kinds runs removed deploy normalize branches relu6 precision words progress

tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-cli.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0
seconds() { echo "$(($(date +%s) - $1)) s"; }
for name in "$@"; do
    log=$tmp/$name.log
    mkdir "$tmp/$name"
    start=$(date +%s)
    (cd "$tmp/$name" && exec timeout --foreground -k 10 "${LINNET_CASE_SECONDS:-900}" \
        sh -euc '. "$SRC/tests/cli/lib.sh"; . "$SRC/tests/cli/$0.sh"' "$name") >"$log" 2>&1
    status=$?
    reasons=$(sed -n 's/^skipped: //p' "$log" | paste -sd ';' -)
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
        printf '%-8s ok%s, %s\n' "$name" "${reasons:+ (skipped: $reasons)}" "$(seconds "$start")"
        sed -n 's/^figure: /    /p' "$log"
    elif [ $status -eq 77 ]; then
        skipped=$((skipped + 1))
        printf '%-8s skipped: %s\n' "$name" "$reasons"
    else
        failed=$((failed + 1))
        printf '%-8s FAILED, exit status %d, %s\n' "$name" "$status" "$(seconds "$start")"
        tail -n 60 "$log"
    fi
    rm -rf "${tmp:?}/$name"
done
echo "cli tests: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
