"""check_bytes.py QUERY.json PROXY.out BACKEND: what the client states against what a proxy counted, and
the bounds per kept ReLU and for linear layers."""
import json
import sys

GOODBYE = 32
query = json.load(open(sys.argv[1]))
counted = open(sys.argv[2]).read().split()
up, down = int(counted[-3]), int(counted[-1])
n = query["n"]
phases = query["phases"]
stated_up = query["setup"]["bytes_sent_client"] + n * sum(p["bytes_sent_client"] for p in phases)
stated_down = query["setup"]["bytes_sent_server"] + n * sum(p["bytes_sent_server"] for p in phases)
assert up == stated_up + GOODBYE, (up, stated_up)
assert down == stated_down, (down, stated_down)

worst_online = worst_offline = 0
for layer in query["layers"]:
    if layer["name"] in ("(input)", "(result)"):
        continue
    if layer["relus_kept"] == 0:
        assert layer["online_bytes"] == 0 and layer["online_rounds"] == 0, layer
        continue
    online, offline = (layer[k] / layer["relus_kept"] for k in ("online_bytes", "offline_bytes"))
    worst_online, worst_offline = max(worst_online, online), max(worst_offline, offline)
    if sys.argv[3] == "gc":
        m = layer["width"]
        assert online == 16 * m + 24, (layer, online)
        checks = 528 * (layer["relus_kept"] // 1024 + 2) / layer["relus_kept"]
        assert offline <= 32 * (m - 1) + 5 * m + 32 + checks, (layer, offline)
        assert layer["online_rounds"] == 1, layer
print("%s: proxy %d + %d bytes, as stated; a ReLU at most %.1f B online, %.1f B offline"
      % (sys.argv[3], up, down, worst_online, worst_offline))
