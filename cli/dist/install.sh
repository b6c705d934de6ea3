#!/bin/sh
# Puts programs, libraries, headers, pkg-config files, man pages, shell completion, service units, the job for Slurm and the Python module into $DESTDIR$PREFIX, or takes them
# away: cli/dist/install.sh BUILD | --remove. Called by make, which sets DESTDIR, PREFIX, LIBDIR, SOVERSION.
set -eu
cd "$(dirname "$0")/../.."
bin=$DESTDIR$PREFIX/bin lib=$DESTDIR$LIBDIR include=$DESTDIR$PREFIX/include share=$DESTDIR$PREFIX/share
units=$DESTDIR$PREFIX/lib/systemd/system
bash=$share/bash-completion/completions zsh=$share/zsh/site-functions fish=$share/fish/vendor_completions.d
version=$(sed -n 's/^#define LINNET_VERSION "\(.*\)"/\1/p' core/base/version.h)

remove() {
    rm -f "$bin/linnet" "$bin/linnet-pi" "$include/linnet.h" "$include/linnet-pi.h" "$lib/linnet.py"
    rm -f "$units/linnet-pi.service" "$units/linnet-pi.socket"
    rm -f "$share/doc/linnet/examples/linnet.sbatch"
    rm -f "$share"/man/man1/linnet.1 "$share"/man/man1/linnet-*.1
    for name in linnet linnet-pi; do
        rm -f "$bash/$name" "$zsh/_$name" "$fish/$name.fish"
        rm -f "$lib/lib$name.so" "$lib/lib$name.so.$SOVERSION" "$lib/lib$name.so.$version" "$lib/lib$name.a" \
            "$lib/pkgconfig/$name.pc"
    done
}
if [ "$1" = --remove ]; then
    remove
    exit 0
fi
build=$1

# name, what it is, what a static link needs beside it
pkg_config() {
    cat >"$lib/pkgconfig/$1.pc" <<END
prefix=$PREFIX
libdir=$LIBDIR
includedir=\${prefix}/include

Name: $1
Description: $2
Version: $version
Libs: -L\${libdir} -l$1
Libs.private: $3
Cflags: -I\${includedir}
END
}
install -d "$bin" "$lib/pkgconfig" "$include"
install -m 755 "$build/linnet" "$build/linnet-pi" "$bin"
for name in linnet linnet-pi; do
    install -m 755 "$build/lib$name.so" "$lib/lib$name.so.$version"
    ln -sf "lib$name.so.$version" "$lib/lib$name.so.$SOVERSION"
    ln -sf "lib$name.so.$SOVERSION" "$lib/lib$name.so"
    install -m 644 "$build/static/lib$name.a" "$lib"
done
install -m 644 pipeline/linnet.h "$include/linnet.h"
install -m 644 runtime/pi.h "$include/linnet-pi.h"
install -m 644 pipeline/linnet.py "$lib/linnet.py"
install -d "$units"
for unit in linnet-pi.service linnet-pi.socket; do
    sed "s|/usr/local/bin/|$PREFIX/bin/|" "cli/dist/$unit" >"$units/$unit"
    chmod 644 "$units/$unit"
done
install -d "$share/doc/linnet/examples"
install -m 644 cli/dist/linnet.sbatch "$share/doc/linnet/examples"
install -d "$share/man/man1" "$bash" "$zsh" "$fish"
install -m 644 "$build"/manuals/man1/* "$share/man/man1"
install -m 644 "$build"/manuals/bash/* "$bash"
install -m 644 "$build"/manuals/zsh/* "$zsh"
install -m 644 "$build"/manuals/fish/* "$fish"
runtime="-lprotobuf-c -ljansson -lssl -lcrypto -lopenblas -lgomp -lm"
pkg_config linnet "ONNX classifiers with few ReLUs: read, train, attack, write" "$runtime -larchive -lpng -ljpeg"
pkg_config linnet-pi "private inference between two parties" "$runtime"
