#!/bin/sh
# linnet-pi may load only what this list allows: our own direct needs, and what OpenBLAS drags in.
set -eu
allowed='libc libm libprotobuf-c libcrypto libssl libopenblas libgomp libjansson libgfortran libquadmath libgcc_s libpthread libdl ld-linux-x86-64 ld-linux-aarch64 linux-vdso'
bad=""
for lib in $(ldd "$1" | sed -E 's/^[[:space:]]*([^ ]+).*/\1/; s|.*/||; s/\.so.*//'); do
    case " $allowed " in
    *" $lib "*) ;;
    *) bad="$bad $lib" ;;
    esac
done
[ -z "$bad" ] || { echo "ldd: $1 loads$bad" >&2; exit 1; }
echo "ldd: $1 loads nothing unexpected"
