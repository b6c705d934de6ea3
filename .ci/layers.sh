#!/bin/sh
# Who may include whom, checked on the text of the sources. Prints offending lines; exit 1 if any.
#
# A room is a folder of sources. The table below says which rooms each room may include beside
# itself; ARCHITECTURE.md explains it. Rooms that may include each other would be one room, so the
# table itself is checked for circles. Inside importer, exporter, core and cli files must not
# include each other in circles either (a header counts together with its .c file).
#
# Third-party headers are pinned to the files that may know them. tests/ is free.
cd "$(dirname "$0")/.." || exit 2
if git rev-parse --git-dir >/dev/null 2>&1; then
    files=$(git ls-files -co --exclude-standard -- '*.c' '*.h' '*.inc' '*.def')
else
    files=$(find . -path ./build -prune -o -name '*.[ch]' -print | sed 's|^\./||')
fi

for f in $files; do
    if [ -f "$f" ]; then echo "$f"; fi
done | xargs awk '
function room(name, below,    n, i, list) {
    known[name] = 1
    n = split(below, list, " ")
    for (i = 1; i <= n; i++) may[name, list[i]] = 1
}
function rooms(names, below,    n, i, list) {
    n = split(names, list, " ")
    for (i = 1; i <= n; i++) room(list[i], below)
}
BEGIN {
    core = "core/base core/graph core/kernel core/op core/exec"
    room("core/base", "")
    room("core/graph", "core/base")
    room("core/kernel", "core/base")
    room("core/op", "core/base core/graph core/kernel")
    room("core/exec", "core/base core/graph core/kernel core/op")
    # importer: folding and rewriting share the state of an import, the walk stands on all of them
    room("importer/base", core)
    room("importer/fold", core " importer/base")
    room("importer/canon", core " importer/base")
    room("importer", core " importer/base importer/fold importer/canon")
    room("linearizer", core)
    room("trainer", core) # losses: what all of trainer stands on
    room("trainer/data", core " trainer")
    room("trainer/corrupt", core " trainer trainer/data")
    room("trainer/attack", core " trainer trainer/data")
    room("trainer/eval", core " trainer trainer/data trainer/corrupt trainer/attack")
    room("trainer/train", core " trainer trainer/data trainer/corrupt trainer/attack trainer/eval")
    room("exporter", core)
    room("exporter/lower", core " runtime/plan")
    base = "core/base"
    room("runtime/plan", base)
    room("runtime/net", base)
    room("runtime/ring", base " runtime/plan")
    room("runtime/crypto", base " runtime/net runtime/ring")
    room("runtime/relu", base " runtime/plan runtime/net runtime/ring runtime/crypto")
    room("runtime/linear", base " runtime/plan runtime/net runtime/ring runtime/crypto")
    room("runtime/party", base " runtime/plan runtime/net runtime/ring runtime/crypto runtime/relu runtime/linear")
    below = base " runtime/plan runtime/net runtime/ring runtime/crypto runtime/relu runtime/linear runtime/party"
    room("runtime/serve", below)
    room("runtime/cost", below)
    # the public API and what reports need: on top of all rooms
    room("runtime", below " runtime/serve runtime/cost")
    room("pipeline/page", base " runtime/plan runtime/net runtime/relu runtime/linear runtime/cost")
    room("pipeline", core " pipeline/page importer linearizer trainer trainer/data trainer/corrupt trainer/attack trainer/eval" \
         " trainer/train exporter exporter/lower runtime runtime/plan runtime/cost")
    room("cli", base)
    room("cli/linnet", base " cli pipeline")
    only["cli/linnet", "pipeline"] = "pipeline/linnet.h" # the public API and nothing else
    room("cli/pi", base " cli runtime")
    # pinned headers and the files (regular expressions) that may include them
    pin["onnx.pb-c.h"] = "^importer/|^exporter/(onnx_write|lint)[.]c$"
    pin["pi.pb-c.h"] = "^runtime/plan/(read|write)[.]c$"
    pin["protobuf-c/"] = "^core/base/wire[.]c$"
    pin["cblas.h"] = "^core/base/gemm[.]c$"
    pin["mpi.h"] = "^core/base/ranks_mpi[.]c$"
    pin["omp.h"] = "^core/base/cpu[.]c$"
    pin["sys/socket.h"] = "^runtime/net/(tcp|system)[.]c$"
    pin["openssl/"] = "^core/base/sha256[.]c$|^trainer/data/published[.]c$|^runtime/crypto/(prg|baseot|seal)[.]c$|^runtime/net/tls[.]c$"
    pin["Random123/"] = "^core/graph/rng[.]c$"
    pin["jansson.h"] = "^core/base/(safetensors[.]c|json[.][ch])$|^importer/report[.]c$|^cli/|^pipeline/"
    pin["archive.h"] = pin["archive_entry.h"] = "^trainer/data/"
    pin["jpeglib.h"] = pin["png.h"] = "^trainer/data/"
    pin["argp.h"] = "^cli/"
    pin["cmocka.h"] = "^tests/"
}
function bad(why) {
    printf "%s:%d: %s  (%s)\n", FILENAME, FNR, $0, why
    failed = 1
}
function folder(path) {
    return path ~ /\// ? substr(path, 1, match(path, /\/[^\/]*$/) - 1) : ""
}
function check_ours(from, to) {
    if (to == from || from ~ /^tests/)
        return
    if (!(from in known))
        bad("room " from " is not in the table")
    else if (!((from, to) in may))
        bad(from " must not include " to)
    else if ((from, to) in only && target != only[from, to])
        bad(from " may include " only[from, to] " alone of " to)
}
function check_pin(target,    p) {
    for (p in pin)
        if ((p ~ /\/$/ ? index(target, p) == 1 : target == p) && FILENAME !~ pin[p])
            bad("pinned to " pin[p])
}
function unit(path) {
    sub(/[.][a-z]*$/, "", path)
    return path
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    target = $0
    sub(/^[^"<]*["<]/, "", target)
    sub(/[">].*$/, "", target)
    from = folder(FILENAME)
    to = folder(target)
    if (to ~ /^(core|importer|linearizer|trainer|exporter|pipeline|runtime|cli|tests)(\/|$)/) {
        check_ours(from, to)
        if (FILENAME !~ /^tests/ && unit(FILENAME) != unit(target)) {
            arrow[unit(FILENAME), unit(target)] = 1
            unit_of[unit(FILENAME)] = unit_of[unit(target)] = 1
        }
    } else if (from !~ /^tests/)
        check_pin(target)
    next
}
# stdout and the end of the program belong to cli/; worker.c ends the child that it runs in
FILENAME !~ /^(cli|tests)\// && FILENAME != "runtime/serve/worker.c" && !/^[ \t]*(\*|\/\*|\/\/)/ {
    line = $0
    gsub(/"([^"\\]|\\.)*"/, "", line)
    gsub(/\/\*.*\*\//, "", line)
    if (line ~ /(^|[^a-zA-Z0-9_])((printf|puts|putchar|exit|_exit|abort)[ \t]*\(|stdout[^a-z])/)
        bad("only cli/ prints or ends the program")
}
# Circles of modules (Tarjan): forbidden between rooms, and inside the rooms named here.
function visit(u,    v, w, n, list, text, crossing) {
    number[u] = low[u] = ++visited
    stack[++depth] = u
    on[u] = 1
    n = split(goes[u], list, " ")
    for (w = 1; w <= n; w++) {
        v = list[w]
        if (!(v in number)) {
            visit(v)
            if (low[v] < low[u]) low[u] = low[v]
        } else if (on[v] && number[v] < low[u])
            low[u] = number[v]
    }
    if (low[u] != number[u])
        return
    n = 0
    do {
        v = stack[depth--]
        on[v] = 0
        n++
        text = text " " v
        if (folder(v) != folder(u)) crossing = 1
    } while (v != u)
    if (n > 1 && (crossing || u ~ /^(importer|exporter|core|cli|pipeline)\//)) {
        printf "circle of includes:%s\n", text
        failed = 1
    }
}
function circles(    a, parts, u) {
    for (a in arrow) {
        split(a, parts, SUBSEP)
        goes[parts[1]] = goes[parts[1]] " " parts[2]
    }
    for (u in unit_of)
        if (!(u in number)) visit(u)
}
END {
    circles()
    exit failed
}
' || exit 1
echo "layers: ok"
