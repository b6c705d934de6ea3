#!/usr/bin/env python3
"""Seconds of private inference beside what the cost model predicts: every phase of networks x backends x links.

    bench_predict.py BUILD [--networks LIST] [--relu gc,ot] [--links loopback,wan] [--turns N] [--rows FILE] [--models DIR]

Networks have random weights (shapes decide what a phase costs): resnet8, resnet20, resnet20:10%, resnet18, resnet18:50000;
after a colon the ReLUs that linearize keeps. A run is one `linnet-pi bench`: it fits the constants on the spot, predicts
with them and then measures one fresh image; link `lan` or `wan` is emulated by both parties, `loopback` is the machine's
own. Turns go through all runs, one after the other, so that a slow minute does not meet one network alone. A row is
the median of the turns of one phase, measured over predicted. 5 networks x 2 backends x 2 links x 3 phases are 60 rows.

Each run is a JSON line of --rows (default ../bench_predict.jsonl), written when it ends: the same command goes on where
it was interrupted, and measures anew what another linnet-pi has measured. Ends with status 1 where a row is off by more
than 1.5x. Takes about 3 minutes a turn on two quiet cores, and one for the models.
"""
import argparse
import collections
import hashlib
import json
import os
import statistics
import subprocess
import sys

LIMIT = 1.5
NETWORKS = "resnet8,resnet20,resnet20:10%,resnet18,resnet18:50000"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:16]


class Bench:
    def __init__(self, options):
        self.linnet, self.pi = (os.path.join(os.path.abspath(options.build), name) for name in ("linnet", "linnet-pi"))
        self.models, self.path, self.program = options.models, options.rows, digest(os.path.join(options.build, "linnet-pi"))
        self.rows = {}
        os.makedirs(self.models, exist_ok=True)

    def model(self, network):
        """The folder of its package, made once."""
        name, _, kept = network.partition(":")
        folder = os.path.join(self.models, network.replace(":", "_").replace("%", "p"))
        if os.path.exists(os.path.join(folder, "done")):
            return folder
        start = os.path.join(self.models, name + ".onnx")
        if not os.path.exists(start):
            run(self.linnet, "init", name, "-o", start, "-q")
        common = ["--data", "synth:256", "--normalize", "half", "-q"]
        if kept:
            run(self.linnet, "linearize", start, "--relus", kept, "--preset", "none", "--train-limit", "64", "-o", folder,
                *common)
        else:
            os.makedirs(folder, exist_ok=True)
            run(self.linnet, "export", start, "-o", os.path.join(folder, "model.onnx"), "--pi", folder, "--calib", "32",
                "--max-failure", "1", *common)
        open(os.path.join(folder, "done"), "w").close()
        return folder

    def read(self):
        """Rows of this program; a line that was cut off is none."""
        if not os.path.exists(self.path):
            return
        with open(self.path) as f:
            for line in f:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if row["program"] == self.program:
                    self.rows[row["network"], row["relu"], row["link"], row["turn"]] = row

    def write(self, row):
        ends = True
        if os.path.exists(self.path):
            with open(self.path, "rb") as f:
                ends = f.read()[-1:] in (b"", b"\n")
        with open(self.path, "a") as f:
            f.write(("" if ends else "\n") + json.dumps(row) + "\n")

    def measure(self, network, relu, link, turn):
        key = network, relu, link, turn
        if key in self.rows:
            return
        folder = self.model(network)
        package = os.path.join(folder, "model.pi")
        load = os.getloadavg()[0]
        report = json.loads(run(self.pi, "bench", package, "-w", package + ".weights", "--relu", relu, "-q", "--json", "-",
                                *([] if link == "loopback" else ["--link", link])))
        row = {"network": network, "relu": relu, "link": link, "turn": turn, "program": self.program, "load": load,
               "equal": report["logits_equal_sim2pc"],
               "phases": {p["name"]: [p["seconds"], p["predicted_seconds"]] for p in report["phases"]}}
        self.write(row)
        self.rows[key] = row
        print(f"# {network} {relu} {link}, turn {turn}, load {load:.1f}", file=sys.stderr, flush=True)

    def table(self):
        """(off by, network, relu, link, phase, measured, predicted, load), medians."""
        runs = collections.defaultdict(list)
        for (network, relu, link, _), row in self.rows.items():
            for phase, (measured, predicted) in row["phases"].items():
                runs[network, relu, link, phase].append((measured, predicted, row["load"]))
        for key, turns in runs.items():
            measured, predicted, load = (statistics.median(column) for column in zip(*turns))
            off = max(measured / predicted, predicted / measured) if min(measured, predicted) > 0 else float("inf")
            yield (off, *key, measured, predicted, load, len(turns))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--relu", default="gc,ot")
    parser.add_argument("--links", default="loopback,wan")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", default=os.path.join(ROOT, "..", "bench_predict.jsonl"))
    parser.add_argument("--models", default=os.path.join(ROOT, "..", "bench_predict.models"))
    options = parser.parse_args()
    bench = Bench(options)
    bench.read()
    for turn in range(options.turns):
        for network in options.networks.split(","):
            for link in options.links.split(","):
                for relu in options.relu.split(","):
                    bench.measure(network, relu, link, turn)
    print("| network | ReLU | link | phase | measured s | predicted s | measured / predicted | turns, load |")
    print("|---|---|---|---|---|---|---|---|")
    rows = list(bench.table())
    for off, network, relu, link, phase, measured, predicted, load, turns in rows:
        print(f"| {network} | {relu} | {link} | {phase} | {measured:.3f} | {predicted:.3f} | "
              f"{measured / predicted if predicted > 0 else float('inf'):.2f}{'' if off <= LIMIT else ' !'} | {turns}, {load:.1f} |")
    far = sum(row[0] > LIMIT for row in rows)
    worst = max(rows)
    print(f"{len(rows)} predictions, {far} off by more than {LIMIT}x; worst {worst[0]:.2f}x: {', '.join(worst[1:5])}")
    different = [key for key, row in bench.rows.items() if row["equal"] is not True]
    if different:
        print("logits differ from sim2pc:", *different)
    print("FAIL" if far or different else "PASS")
    return 1 if far or different else 0


if __name__ == "__main__":
    sys.exit(main())
