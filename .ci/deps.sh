#!/bin/sh
# Installs what a build and its tests need on Debian 12. Usage: .ci/deps.sh VENV [EXTRA_PACKAGE...]
# VENV "-": what a build needs, no Python.
#
# iproute2 makes the network between two hosts of tests/cli/hosts.sh, openssl the certificates of the tests over TLS.
# Packages first: nothing to do where they are there; apt where we are root; otherwise the line to
# type is printed and the script stops. Then a Python environment with pinned packages for
# cross-checks only; without an index for Python those checks say "skipped".
set -eu
venv=$1
shift
packages="gcc make pkg-config libopenblas-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
libjansson-dev libarchive-dev librandom123-dev libssl-dev libjpeg62-turbo-dev libpng-dev $*"
[ "$venv" = - ] || packages="$packages libcmocka-dev python3 python3-venv python3-onnx libonnx-testdata iproute2 openssl"

missing=""
for p in $packages; do
    state=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $p"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "These packages are missing. As root, type:" >&2
        echo "    apt-get update && apt-get install -y$missing" >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
[ "$venv" != - ] || exit 0

requirements=$(dirname "$0")/../tests/requirements.txt
if [ ! -e "$venv/ok" ] || ! cmp -s "$requirements" "$venv/ok"; then
    rm -rf "$venv"
    if why=$(/usr/bin/python3 -m venv "$venv" 2>&1) &&
        why=$("$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements" 2>&1); then
        cp "$requirements" "$venv/ok"
    else
        rm -rf "$venv"
        echo "deps: no Python packages to be had; cross-checks that need them will say skipped. pip: $(echo "$why" |
            cut -c 1-300 | grep -v '^$' | tail -n 3)" >&2
    fi
fi
