#!/bin/sh
# A staged install, used as others would: only the public names are visible, the examples build against the
# installed headers and libraries alone and run, the headers are C++ too, the Python module works, uninstall
# leaves nothing. Usage: CC=gcc tests/install.sh BUILD
set -eu
cd "$(dirname "$0")/.."
build=$1
stage=$(mktemp -d "${TMPDIR:-/tmp}/linnet-install.XXXXXX")
trap 'rm -rf "$stage"' EXIT
fail() {
    echo "install: FAILED: $*" >&2
    exit 1
}
export DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib SOVERSION=0
cli/dist/install.sh "$build"
lib=$stage/usr/lib
grep -q "^ExecStart=/usr/bin/linnet-pi serve" "$lib/systemd/system/linnet-pi.service" || fail "no service unit"
[ -f "$lib/systemd/system/linnet-pi.socket" ] || fail "no socket unit"
[ -f "$stage/usr/share/doc/linnet/examples/linnet.sbatch" ] || fail "no job for Slurm"
for name in linnet linnet-pi; do
    prefix=$(echo "$name" | tr - _)_
    others=$(nm -D --defined-only "$lib/lib$name.so" | awk '{print $NF}' | grep -v "^$prefix" || true)
    [ -z "$others" ] || fail "lib$name.so shows names of others: $(echo "$others" | head -3 | tr '\n' ' ')"
    nm -D --defined-only "$lib/lib$name.so" | grep -q " $prefix" || fail "lib$name.so shows nothing"
done
[ -z "$(nm -D --defined-only "$lib/liblinnet.so" | grep ' linnet_pi_' || true)" ] || fail "liblinnet.so offers linnet_pi_ names"

export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage" LD_LIBRARY_PATH="$lib"
work=$stage/work
mkdir "$work"
example() { # SOURCE LIBRARY
    [ "$(wc -l <"tests/examples/$1.c")" -le 60 ] || fail "$1.c has more than 60 lines"
    cp "tests/examples/$1.c" "$work" # away from the tree, so that no header of it is in reach
    # shellcheck disable=SC2046
    (cd "$work" && ${CC:-gcc} -std=c11 -Wall -Wextra -Werror -o "$1" "$1.c" $(pkg-config --cflags --libs "$2") -lpthread) ||
        fail "$1 does not build against the installed tree"
}
example convert linnet
example private_query linnet-pi
"$work/convert" tests/demo/resnet8.onnx synth:300 50% "$work/out" none >"$work/convert.log" 2>&1 || { cat "$work/convert.log"; fail "convert"; }
head -c 3072 /dev/zero >"$work/image.raw"
"$work/private_query" "$work/out/model.pi" "$work/out/model.pi.weights" "$work/image.raw" >"$work/query.log" 2>&1 || { cat "$work/query.log"; fail "private_query"; }
for header in linnet.h linnet-pi.h; do
    if command -v g++ >/dev/null 2>&1; then
        echo "#include <$header>" | g++ -x c++ -std=c++11 -Wall -Wextra -Werror -pedantic -fsyntax-only -I"$stage/usr/include" - ||
            fail "$header is no C++"
    fi
done
python=${LINNET_PYTHON:-build/venv/bin/python}
if [ -x "$python" ]; then
    PYTHONPATH=$lib OMP_NUM_THREADS=2 "$python" tests/python_module.py tests/demo/resnet8.onnx || fail "Python module"
else
    echo "install: skipped: no Python for the module"
fi
# The authors' APGD-CE attacks our engine through the module; its flags are those of `linnet eval`.
if .ci/autoattack.sh build/autoattack; then
    "$build/linnet" data synth:500 --limit 10 -o "$work/x.npy" --labels "$work/y.npy" -q >/dev/null
    "$build/linnet" eval tests/demo/resnet8.onnx --data synth:500 --limit 10 --attack apgd-ce:eps=2/255 \
        --state "$work/apgd.state" -q >/dev/null
    PYTHONPATH=$lib OMP_NUM_THREADS=2 build/autoattack/bin/python tests/autoattack.py tests/demo/resnet8.onnx \
        --images "$work/x.npy" --labels "$work/y.npy" --state "$work/apgd.state" --eps 2/255 --attack apgd-ce ||
        fail "APGD-CE of pyautoattack and linnet differ"
else
    echo "install: skipped: APGD-CE by its authors, there is no python3-torch or pyautoattack"
fi
cli/dist/install.sh --remove
rm -rf "$work"
left=$(find "$stage" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"
echo "install: ok"
