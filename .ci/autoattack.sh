#!/bin/sh
# The authors' AutoAttack for a test, pinned, in a virtual environment of its own. PyTorch is Debian's
# python3-torch: --install installs it where we are root, otherwise it must be there.
# Usage: .ci/autoattack.sh VENV [--install]. Exit 1: not to be had.
set -eu
venv=$1
if [ "${2:-}" = --install ] && [ "$(id -u)" -eq 0 ] && ! dpkg-query -W -f '${Status}' python3-torch 2>/dev/null | grep -q ' installed$'; then
    apt-get -o DPkg::Lock::Timeout=600 update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends python3-torch >/dev/null
fi
/usr/bin/python3 -c 'import torch' 2>/dev/null || exit 1
if ! [ -e "$venv/ok" ]; then
    rm -rf "$venv"
    /usr/bin/python3 -m venv --system-site-packages "$venv" 2>/dev/null || exit 1
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps pyautoattack==0.2.0 >/dev/null 2>&1 || exit 1
    touch "$venv/ok"
fi
