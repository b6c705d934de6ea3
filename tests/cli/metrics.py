"""metrics.py HOST:PORT [NAME[{LABELS}]=VALUE...]: reads the counters as strictly as the text exposition format 0.0.4 is written.

Exit 1 where a line is none of the format, a metric has no HELP and TYPE before it or comes back later, a series is there
twice, a histogram's buckets fall or miss +Inf, or a value is not the one given.
"""
import re
import socket
import sys

host, port = sys.argv[1].split(":")
line = socket.create_connection((host, int(port)), timeout=5)
line.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
raw = b""
while piece := line.recv(65536):
    raw += piece
head, body = raw.decode("utf-8").split("\r\n\r\n", 1)
assert head.split("\r\n")[0] == "HTTP/1.0 200 OK", head
assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head.split("\r\n"), head
assert body.endswith("\n") and "\r" not in body

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(r"(%s)(?:\{(%s(?:,%s)*)\})? (-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|NaN|[-+]Inf)$" % (NAME, LABEL, LABEL))
helped, typed, closed, seen, current = set(), {}, set(), {}, None
for text in body[:-1].split("\n"):
    if text.startswith("# HELP "):
        name = text.split(" ", 3)[2]
        assert name not in helped and re.fullmatch(NAME, name), text
        helped.add(name)
    elif text.startswith("# TYPE "):
        _, _, name, kind = text.split(" ")
        assert name in helped and name not in typed and kind in ("counter", "gauge", "histogram"), text
        if current:
            closed.add(current)
        typed[name], current = kind, name
    else:
        match = SAMPLE.match(text)
        assert match, "no sample: %r" % text
        name, labels, value = match.groups()
        family = re.sub("_(bucket|sum|count)$", "", name) if typed[current] == "histogram" else name
        assert family == current and family not in closed, text
        assert (name, labels) not in seen, "twice: " + text
        assert typed[family] != "counter" or (name.endswith("_total") and float(value) >= 0), text
        assert not re.search(r"\d+\.\d+\.\d+\.\d+|key", labels or ""), "says who: " + text
        seen[name, labels] = float(value)
for family in [name for name, kind in typed.items() if kind == "histogram"]:
    buckets = {}
    for (name, labels), value in seen.items():
        if name == family + "_bucket":
            rest = re.sub(r',?le="[^"]*"', "", labels)
            buckets.setdefault(rest, []).append((float(re.search(r'le="([^"]*)"', labels)[1]), value))
    assert buckets, family
    for rest, rows in buckets.items():
        assert rows == sorted(rows) and [v for _, v in rows] == sorted(v for _, v in rows), (family, rest)
        assert rows[-1][0] == float("inf") and rows[-1][1] == seen[family + "_count", rest], (family, rest)
        assert (family + "_sum", rest) in seen
for wanted in sys.argv[2:]:
    series, value = wanted.rsplit("=", 1)
    name, _, labels = series.partition("{")
    got = seen[name, labels[:-1] or None]
    assert got == float(value), "%s is %g" % (wanted, got)
if len(sys.argv) == 2:
    line = socket.create_connection((host, int(port)), timeout=5)
    line.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
    assert line.recv(64).startswith(b"HTTP/1.0 405 ")
print("%d series of %d metrics" % (len(seen), len(typed)))
