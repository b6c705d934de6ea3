#!/bin/sh
# Installs the programs that `make bench` compares with: the newest PyTorch, onnxruntime and OpenVINO of the
# Python index into a virtual environment of their own (some gigabytes), and Debian's PyTorch where
# we are root. Nothing else needs them. Usage: .ci/peers.sh VENV
set -eu
venv=$1
if [ "$(id -u)" -eq 0 ] && ! dpkg-query -W -f '${Status}' python3-torch 2>/dev/null | grep -q ' installed$'; then
    apt-get -o DPkg::Lock::Timeout=600 update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends python3-torch >/dev/null
fi
if ! "$venv/bin/python" -c 'import torch, onnxruntime, openvino' 2>/dev/null; then
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check torch onnxruntime openvino numpy
fi
"$venv/bin/python" -c 'import torch, onnxruntime, openvino; print("peers: PyTorch", torch.__version__, "onnxruntime", onnxruntime.__version__, "OpenVINO", openvino.__version__)'
