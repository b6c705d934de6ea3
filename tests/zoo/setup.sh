#!/bin/sh
# Environments of the zoo and its files, several gigabytes: tests/zoo/setup.sh FOLDER [torch25].
# Debian's python3-torch 1.13, torch 2.9 with torchvision and timm, TensorFlow with tf2onnx, the newest
# onnx; torch 2.5 only where asked for (its files call functions of the model). Needs Debian's and PyPI's packages.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: tests/zoo/setup.sh FOLDER [torch25]" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
dpkg-query -W -f '${Status}' python3-torch 2>/dev/null | grep -q 'install ok installed' ||
    apt-get install -y -qq --no-install-recommends python3-torch >/dev/null
environment() { # NAME [OPTION_OF_VENV]
    [ ! -e "$1/ok" ] || return 0
    /usr/bin/python3 -m venv ${2:-} "$1"
    "$1/bin/pip" install -q --disable-pip-version-check ${3:-} -r "$here/requirements-$1.txt"
    touch "$1/ok"
}
environment torch
environment tf
environment onnx
[ "${2:-}" != torch25 ] || environment torch25
environment crypten --system-site-packages --no-deps

made() { # NAME COMMAND...
    [ ! -e "files/$1.ok" ] || return 0
    name=$1
    shift
    "$@" >"files/$name.log" 2>&1 || { tail -20 "files/$name.log" >&2; exit 1; }
    touch "files/$name.ok"
}
mkdir -p files
made ts113 /usr/bin/python3 "$here/make_torch.py" files ts113
made t29 torch/bin/python "$here/make_torch.py" files t29
for set in depthwise tv timm; do
    made $set torch/bin/python "$here/make_torch.py" files $set
done
[ ! -e torch25/ok ] || made t25 torch25/bin/python "$here/make_torch.py" files t25
made keras tf/bin/python "$here/make_keras.py" files
made tools torch/bin/python "$here/make_tools.py" files
made newer onnx/bin/python "$here/make_newer.py" files
