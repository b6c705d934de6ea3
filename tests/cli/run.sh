#!/bin/sh
# Whole runs of both programs. Usage: tests/cli/run.sh BUILD [CASE...]   (default: every tests/cli case)
# As many cases run at once as there are processors (JOBS), the longest ones first.
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
# Threads that wait for each other must not spin: on a busy machine that took 22 of 24 s of a short run.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
[ $# -gt 0 ] || set -- resume recipes stream ranks slurm crowd pi deploy twopc hosts serve help models forms ops covert bundles train attacks data pictures corrupt onnx bad api files kinds runs removed normalize branches relu6 precision words progress dist

tmp=$(mktemp -d "${TMPDIR:-/tmp}/linnet-cli.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# One case. Its lines are printed in one piece, so that two cases do not mix theirs.
cat >"$tmp/one" <<'ONE'
tmp=$1 name=$2 log=$1/$2.log
mkdir "$tmp/$name"
start=$(date +%s)
(cd "$tmp/$name" && exec timeout --foreground -k 10 "${LINNET_CASE_SECONDS:-900}" \
    sh -euc '. "$SRC/tests/cli/lib.sh"; . "$SRC/tests/cli/$0.sh"' "$name") >"$log" 2>&1
status=$?
took="$(($(date +%s) - start)) s"
reasons=$(sed -n 's/^skipped: //p' "$log" | paste -sd ';' -)
if [ $status -eq 0 ]; then
    said=$(printf '%-8s ok%s, %s' "$name" "${reasons:+ (skipped: $reasons)}" "$took"
        echo
        sed -n 's/^figure: /    /p' "$log")
    : >"$tmp/passed.$name"
elif [ $status -eq 77 ]; then
    said=$(printf '%-8s skipped: %s' "$name" "$reasons")
    : >"$tmp/skipped.$name"
else
    said=$(printf '%-8s FAILED, exit status %d, %s' "$name" "$status" "$took"
        echo
        tail -n 60 "$log")
    : >"$tmp/failed.$name"
fi
printf '%s\n' "$said"
rm -rf "${tmp:?}/$name"
ONE
start=$(date +%s)
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -n 1 sh "$tmp/one" "$tmp"
count() { find "$tmp" -maxdepth 1 -name "$1.*" | wc -l; }
echo "cli tests: $(count passed) passed, $(count failed) failed, $(count skipped) skipped, $(($(date +%s) - start)) s"
[ "$(count failed)" -eq 0 ] && [ $(($(count passed) + $(count skipped))) -eq $# ]
