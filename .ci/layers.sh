#!/bin/sh
# Who may include whom, checked on the text of the sources. Prints offending lines; exit 1 if any.
#
#   core base  includes core base           (what the runtime may use: CORE_BASE of the Makefile)
#   core nn    includes core
#   stages     include core and themselves, never each other
#   runtime    includes core base and itself
#   exporter   includes core, itself and runtime/plan.h
#   cli tests  include anything but each other's insides: nothing includes cli/ or tests/ from below
#
# Third-party headers are pinned to the files that may know them. tests/ is free.
cd "$(dirname "$0")/.." || exit 2
if git rev-parse --git-dir >/dev/null 2>&1; then
    files=$(git ls-files -co --exclude-standard -- '*.c' '*.h' '*.inc' '*.def')
else
    files=$(find . -path ./build -prune -o -name '*.[ch]' -print | sed 's|^\./||')
fi
base=$(sed -n 's/^CORE_BASE *:= *//p' Makefile)

for f in $files; do
    if [ -f "$f" ]; then echo "$f"; fi
done | xargs awk -v base="$base version" '
BEGIN {
    n = split(base, list, " ")
    for (i = 1; i <= n; i++) is_base[list[i]] = 1
    # levels inside core; files not named here are bound by base and nn only
    split("err 0 mem 1 buf 2 file 2 cpu 2 sha256 3 wire 3 safetensors 3 npy 3 gemm 3 " \
          "rng 4 tensor 4 graph 5 op 6 pass 7 exec 8", level_list, " ")
    for (i = 1; i in level_list; i += 2) level[level_list[i]] = level_list[i + 1]
    # pinned headers and the files (regular expressions) that may include them
    pin["onnx.pb-c.h"] = "^importer/|^exporter/(onnx_write|lint)[.]c$"
    pin["pi.pb-c.h"] = "^runtime/plan[.]c$"
    pin["protobuf-c/"] = "^core/wire[.]c$"
    pin["cblas.h"] = "^core/gemm[.]c$"
    pin["omp.h"] = "^core/cpu[.]c$"
    pin["sys/socket.h"] = "^runtime/tcp[.]c$"
    pin["openssl/"] = "^core/sha256[.]c$|^runtime/(prg|baseot|tls)[.]c$"
    pin["Random123/"] = "^core/rng[.]c$"
    pin["jansson.h"] = "^core/safetensors[.]c$|^importer/report[.]c$|^cli/"
    pin["archive.h"] = pin["archive_entry.h"] = "^trainer/data_[a-z]*[.]c$"
    pin["jpeglib.h"] = pin["png.h"] = "^trainer/data_[a-z]*[.]c$"
    pin["argp.h"] = "^cli/"
    pin["cmocka.h"] = "^tests/"
}
function bad(why) {
    printf "%s:%d: %s  (%s)\n", FILENAME, FNR, $0, why
    failed = 1
}
function folder(path) {
    return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : ""
}
function module(path) { # core/op_conv.c -> op_conv
    sub(/^.*\//, "", path)
    sub(/[.][a-z]*$/, "", path)
    return path
}
function core_level(name) {
    return name in level ? level[name] : name ~ /^op_/ ? level["op"] : -1
}
function check_ours(from, to, target) {
    if (to == from || from == "cli" || from == "tests")
        return from == to && from == "core" ? check_core(target) : 0
    if (from == "core")
        bad("core includes only core")
    else if (to != "core" && !(from == "exporter" && target == "runtime/plan.h"))
        bad(from " must not include " to)
    else if (from == "runtime" && !(module(target) in is_base))
        bad("the runtime includes core base only")
}
function check_core(target,    mine, theirs) {
    mine = module(FILENAME)
    theirs = module(target)
    if (mine in is_base && !(theirs in is_base))
        bad("core base includes core base only")
    else if (FILENAME == "core/graph.c" && theirs == "op")
        return # building a graph runs the shape rule of the operator it adds
    else if (core_level(mine) >= 0 && core_level(theirs) > core_level(mine))
        bad(mine " lies below " theirs)
}
function check_pin(target,    p) {
    for (p in pin)
        if ((p ~ /\/$/ ? index(target, p) == 1 : target == p) && FILENAME !~ pin[p])
            bad("pinned to " pin[p])
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    target = $0
    sub(/^[^"<]*["<]/, "", target)
    sub(/[">].*$/, "", target)
    from = folder(FILENAME)
    to = folder(target)
    if (to ~ /^(core|importer|linearizer|trainer|exporter|runtime|cli|tests)$/)
        check_ours(from, to, target)
    else if (from != "tests")
        check_pin(target)
    next
}
# stdout and the end of the program belong to cli/
FILENAME !~ /^(cli|tests)\// && !/^[ \t]*(\*|\/\*|\/\/)/ {
    line = $0
    gsub(/"([^"\\]|\\.)*"/, "", line)
    gsub(/\/\*.*\*\//, "", line)
    if (line ~ /(^|[^a-zA-Z0-9_])((printf|puts|putchar|exit|_exit|abort)[ \t]*\(|stdout[^a-z])/)
        bad("only cli/ prints or ends the program")
}
END { exit failed }
' || exit 1
echo "layers: ok"
