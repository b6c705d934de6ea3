#!/bin/sh
# The Debian package in a clean system: debootstrap's minimal Debian in a folder, the package and what it
# depends on from Debian's index, and there, as chroot: the programs, a conversion, a private query between two
# processes, man pages, completion, libraries; purged, nothing is left. Usage: tests/deb.sh BUILD
# Skipped where we are not root, without debootstrap, or without Debian's index. LINNET_DEB_BASE (default
# BUILD/deb-base.tar) keeps the minimal system between runs.
set -eu
cd "$(dirname "$0")/.."
build=$1
skip() {
    echo "deb: skipped: $*"
    exit 0
}
fail() {
    echo "deb: FAILED: $*" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || skip "not root"
command -v debootstrap >/dev/null || skip "no debootstrap"
base=${LINNET_DEB_BASE:-$build/deb-base.tar}
package=$(cli/dist/deb.sh "$build")
work=$(mktemp -d "${TMPDIR:-/tmp}/linnet-root.XXXXXX")
root=$work/root
finish() {
    if mountpoint -q "$root/proc" 2>/dev/null; then
        umount "$root/proc"
    fi
    rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir "$root"
if [ ! -e "$base" ]; then
    debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 || {
        tail -3 "$work/debootstrap.log"
        skip "debootstrap reaches no index of Debian"
    }
    tar -C "$root" -cf "$base.part" .
    mv "$base.part" "$base"
else
    tar -C "$root" -xf "$base"
fi
within() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 OMP_NUM_THREADS=2 "$@"
}
inside() { # TEXT OF sh
    within sh -euc "$1" >"$work/log" 2>&1 || {
        tail -20 "$work/log"
        fail "$1"
    }
}
mount -t proc proc "$root/proc"
mknod -m 666 "$root/dev/null" c 1 3 2>/dev/null || true
mkdir -p "$root/try"
cp "$package" "$root/try/linnet.deb"
dpkg-deb -f "$package" >"$root/try/control"
cp tests/demo/resnet8.onnx "$root/try"
cp /etc/resolv.conf "$root/etc/resolv.conf"
inside 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /try/linnet.deb'

# ---- what a user does first -----------------------------------------------------------------------------
inside 'linnet --version && linnet-pi --version && linnet --help'
inside 'cd /try && linnet inspect resnet8.onnx --json i.json && grep -q relus_total i.json'
inside 'cd /try && linnet linearize resnet8.onnx --data synth:200 --relus 50% --preset none --calib 50 -o half -q'
inside 'cd /try && linnet-pi info half/model.pi && linnet data synth:20 -o x.npy --limit 1 -q'
inside 'cd /try
linnet-pi serve half/model.pi --weights half/model.pi.weights --listen 127.0.0.1:0 --max-queries 1 >serve.log 2>&1 &
server=$!
trap "kill $server 2>/dev/null || true" EXIT
for i in $(seq 300); do
    grep -q listening serve.log && break
    sleep 0.2
done
linnet-pi query half/model.pi --connect "$(sed -n "s/^listening on \([^ ]*\).*/\1/p" serve.log)" --input x.npy --output z.npy
wait $server
test -s z.npy'

# ---- around the programs --------------------------------------------------------------------------------
for page in linnet linnet-inspect linnet-linearize linnet-pi linnet-pi-query; do
    inside "zcat /usr/share/man/man1/$page.1.gz | grep -q '^\.TH'"
done
inside 'bash -c ". /usr/share/bash-completion/completions/linnet && complete -p linnet"'
inside 'bash -c ". /usr/share/bash-completion/completions/linnet-pi && complete -p linnet-pi"'
inside 'test -s /usr/share/zsh/site-functions/_linnet && test -s /usr/share/fish/vendor_completions.d/linnet.fish'
inside 'ldconfig -p | grep -q liblinnet.so.0 && ldconfig -p | grep -q liblinnet-pi.so.0'
inside 'cd /usr/share/doc/linnet && test -s README.md && test -s LICENSE'

# ---- and away with it -----------------------------------------------------------------------------------
inside 'DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq "$(sed -n "s/^Package: //p" /try/control)"'
inside 'find /usr /etc /opt -xdev -iname "*linnet*" >/try/left; cat /try/left; ! test -s /try/left'
echo "deb: $(basename "$package"), $(($(stat -c %s "$package") / 1024)) kB: installed, used and purged in a clean Debian 12"
