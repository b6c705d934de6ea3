#!/bin/sh
# BUILD/linnet_VERSION_ARCH.deb out of a staged install: cli/dist/deb.sh BUILD. Needs dpkg-deb and
# dpkg-shlibdeps (dpkg-dev), which finds what the programs depend on. A build with MPI (BUILD/linnet linked with
# it) makes linnet-mpi_VERSION_ARCH.deb, which is installed in the place of linnet.
set -eu
cd "$(dirname "$0")/../.."
build=$1
version=$(sed -n 's/^#define LINNET_VERSION "\(.*\)"/\1/p' core/base/version.h)
arch=$(dpkg --print-architecture)
work=$(mktemp -d "${TMPDIR:-/tmp}/linnet-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
stage=$work/stage
DESTDIR=$stage PREFIX=/usr LIBDIR=/usr/lib SOVERSION=0 cli/dist/install.sh "$build"
find "$stage/usr/share/man" -name '*.1' -exec gzip -9n {} +
install -d "$stage/usr/share/doc/linnet" "$stage/DEBIAN" "$work/debian"
install -m 644 README.md LICENSE SECURITY.md CHANGELOG.md trainer/CLUSTER.md "$stage/usr/share/doc/linnet"
printf 'Source: linnet\nPackage: linnet\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info "$stage/usr/bin/linnet" "$stage/usr/bin/linnet-pi" \
    "$stage"/usr/lib/liblinnet*.so."$version" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "deb: dpkg-shlibdeps found no dependencies" >&2; exit 1; }
name=linnet
instead=
if ldd "$build/linnet" | grep -qE 'libmpi(ch)?\.so'; then
    name=linnet-mpi
    instead=$(printf 'Provides: linnet\nConflicts: linnet\nReplaces: linnet\n')
fi
{
    cat <<END
Package: $name
Version: $version
Architecture: $arch
Maintainer: the linnet developers <linnet@localhost>
Depends: $depends
Section: science
Priority: optional
END
    [ -z "$instead" ] || echo "$instead"
    cat <<END
Description: ONNX classifiers for private inference${instead:+, on several machines}
 Turns a pretrained ONNX ResNet into a network with few ReLUs that two parties can evaluate
 privately, and runs both parties.
END
} >"$stage/DEBIAN/control"
printf '#!/bin/sh\nset -e\nldconfig\n' >"$stage/DEBIAN/postinst"
cp "$stage/DEBIAN/postinst" "$stage/DEBIAN/postrm"
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/postrm"
dpkg-deb --root-owner-group --build "$stage" "$build/${name}_${version}_$arch.deb" >/dev/null
echo "$build/${name}_${version}_$arch.deb"
