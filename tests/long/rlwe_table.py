"""Markdown tables of two-party runs: rlwe_table.py bench BENCH.json... | peers NETWORK FILE...

bench: one row a file of `linnet-pi bench --json` or `linnet-pi query --json`; predictions beside seconds.
peers: one row a run of one network on one machine: bench files, JSON lines of peer_spu.py and peer_crypten.py,
and the published figure of SPU's Cheetah.
"""
import json
import re
import sys

PHASES = "offline_linear", "offline_relu", "online"


def rows_of(path):
    """Objects of a file that holds one, or one a line; lines of other text are passed over."""
    text = open(path).read()
    try:
        return [json.loads(text)]
    except ValueError:
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    link = re.search(r"Link details: total send bytes (\d+), recv bytes (\d+)", text)  # SPU's profile
    for row in rows:
        if link:
            row["megabytes"] = (int(link.group(1)) + int(link.group(2))) / 1e6
    return rows


def megabytes(phase):
    return (phase["bytes_sent_client"] + phase["bytes_sent_server"]) / 1e6


def with_prediction(phase):
    predicted = phase.get("predicted_seconds")
    return "%.3f" % phase["seconds"] + ("" if predicted is None else " (%.3f)" % predicted)


def bench(paths):
    print("| network | ReLUs | ReLU | linear | link | offline linear MB | s (predicted) | offline ReLU MB | "
          "s (predicted) | online MB | rounds | s (predicted) | exact |")
    print("|" + "---|" * 13)
    for path in paths:
        b = rows_of(path)[0]
        linear, relu, online = (next(p for p in b["phases"] if p["name"] == name) for name in PHASES)
        kept = sum(layer["relus_kept"] for layer in b["layers"])
        print("| %s | %d | %s | %s | %s | %.1f | %s | %.1f | %s | %.2f | %g | %s | %s |" % (
            b["model"].split("/")[0], kept, b["relu_backend"], b["linear_backend"], b.get("link", "loopback"),
            megabytes(linear), with_prediction(linear), megabytes(relu), with_prediction(relu),
            megabytes(online), online["rounds"], with_prediction(online),
            {True: "yes", False: "NO"}.get(b.get("logits_equal_sim2pc"), "-")))


PUBLISHED = ("SPU Cheetah, published (SecretFlow SPU issue 701, ResNet-18, CIFAR-100, one machine)",
             "491,520 ReLUs; the run of the program", "9.81", "-", "none")


def in_a_lot(b):
    lot = b["totals"]["lot"]
    return ("in a lot of %d" % lot["images"], "an image's share of all of it", "%.2f" % lot["seconds"],
            "%.0f" % lot["mb"], "none")


def ours(b):
    phase = {p["name"]: p for p in b["phases"]}
    kept = sum(layer["relus_kept"] for layer in b["layers"])
    total = b["setup"]["seconds"] + sum(phase[n]["seconds"] for n in PHASES)
    online = phase["online"]
    return ("linnet, %s ReLUs, %s and %s" % (format(kept, ","), b["linear_backend"], b["relu_backend"]),
            "set-up, offline, online; of which online %.3f s, %.1f MB" % (online["seconds"], megabytes(online)),
            "%.2f" % total, "%.0f" % sum(megabytes(phase[n]) for n in PHASES),
            "third party" if b.get("dealer") else "none")


def spu(r):
    return ("%s, measured" % r["peer"], "the run of the program, OT set-up in it", "%.2f" % r["seconds"],
            "%.0f" % r["megabytes"] if r.get("megabytes") else "-", "none")


def crypten(r):
    return ("%s, measured" % r["peer"], "online only; triples of its default provider not counted",
            "%.2f" % r["seconds"], "%.0f" % (2 * r["megabytes"]), "dealer of triples")


def peers(network, paths):
    print("%s, one image, both parties on one machine; MB both ways\n" % network)
    print("| what | what is in it | seconds | MB | third party |")
    print("|" + "---|" * 5)
    for path in paths:
        for r in rows_of(path):
            if "phases" in r:
                row = ours(r)
            elif r["peer"].startswith("SPU"):
                row = spu(r)
            elif r["party"] == 0:
                row = crypten(r)
            else:
                continue
            print("| %s |" % " | ".join(row))
            if "lot" in r.get("totals", {}):
                print("| %s |" % " | ".join(in_a_lot(r)))
    if network == "ResNet-18":
        print("| %s |" % " | ".join(PUBLISHED))


if __name__ == "__main__":
    if sys.argv[1] == "bench":
        bench(sys.argv[2:])
    else:
        peers(sys.argv[2], sys.argv[3:])
