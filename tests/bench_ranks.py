#!/usr/bin/env python3
"""Seconds of a training step on several ranks of this machine, beside what the model of trainer/CLUSTER.md predicts.

    bench_ranks.py BUILD [--model resnet20,resnet18] [--ranks 2,4] [--bn-shards N] [--steps N] [--turns N]

Needs BUILD/linnet, BUILD/linnet-mpi and BUILD/tests/bench_ranks (`make all bench`). Measured alone, and all that the
prediction knows: a step of one rank and one thread at batch 128 and 64 (so the part that ranks do not divide), the same
step while another process does one too (cores share memory and power), bytes a second and the wait of a message between
ranks, and the bytes of a step, which the program prints. Predicted from them and then measured: 2 and 4 ranks. More
ranks than cores share them. A JSON line for each. A step is the difference between a short and a longer run, the
median of the turns, so starting and validation do not count.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile

BATCH = 128
SHORT = 2  # steps of the shorter run
ENV = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
           OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_btl_base_warn_component_unused="0")


class Bench:
    def __init__(self, options, model, folder):
        self.build, self.steps, self.turns = os.path.abspath(options.build), options.steps, options.turns
        self.shards = options.bn_shards
        self.model, self.folder = os.path.join(folder, model + ".onnx"), folder
        subprocess.run([self.build + "/linnet", "init", model, "-o", self.model, "-q"], check=True)

    def start(self, name, batch, steps, ranks):
        """A run that trains for so many steps; a tenth of its images is for validation."""
        out = os.path.join(self.folder, name)
        for kind in ".onnx", ".safetensors":
            if os.path.exists(out + kind):
                os.remove(out + kind)
        images = -(-batch * steps * 10 // 9)
        command = [self.build + ("/linnet-mpi" if ranks > 1 else "/linnet"), "train", self.model, "--data",
                   f"synth:{images}", "--train-limit", str(batch * steps), "--val-limit", "1", "--normalize", "half",
                   "--epochs", "1", "--no-crop", "--precision", "fp32", "--batch", str(batch),
                   "--bn-shards", str(self.shards), "-o", out + ".onnx", "--json", out + ".json"]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
        return subprocess.Popen(command, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def seconds(self, name, child):
        self.said = child.communicate()[0]
        if child.returncode != 0:
            raise SystemExit(self.said)
        with open(os.path.join(self.folder, name + ".json")) as f:
            return json.load(f)["seconds"]

    def step(self, batch, ranks=1, copies=1):
        """Seconds of a step, of `copies` processes that run at once the slowest's."""
        turns = []
        for _ in range(self.turns):
            took = []
            for steps in SHORT, SHORT + self.steps:
                names = [f"run{i}" for i in range(copies)]
                children = [self.start(name, batch, steps, ranks) for name in names]
                took.append(max(self.seconds(name, child) for name, child in zip(names, children)))
            turns.append((took[1] - took[0]) / self.steps)
        return statistics.median(turns)

    def predict(self, ranks, alone, fixed, crowd, link, said, params, waits):
        cores = os.cpu_count()
        busy = crowd * max(1, ranks / cores) if ranks > 1 else 1
        computing = ((alone - fixed) / ranks + fixed) * busy
        total = int(re.search(r"between them (\d+) bytes a step", said).group(1)) / (ranks - 1)
        gradients = 2 * 4 * params
        waited = max(0, total - gradients)
        share = (ranks - 1) / ranks / link["bytes_per_s"]
        return (computing + waited * share + max(0, gradients * share - computing / 2) + waits * link["wait_s"])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("--model", default="resnet20,resnet18")
    parser.add_argument("--ranks", default="2,4")
    parser.add_argument("--bn-shards", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    for model in options.model.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options, model, folder)
            facts = json.loads(subprocess.run([bench.build + "/linnet", "inspect", bench.model, "-q", "--json", "-"],
                                              check=True, stdout=subprocess.PIPE, text=True).stdout)
            alone, half, two = bench.step(BATCH), bench.step(BATCH // 2), bench.step(BATCH, copies=2)
            known = {"model": model, "batch": BATCH, "bn_shards": options.bn_shards, "alone_s": alone,
                     "fixed_s": max(0.0, 2 * half - alone), "crowd": max(1.0, two / alone)}
            print(json.dumps({**known, "cores": os.cpu_count(), "load": os.getloadavg()[0]}), flush=True)
            waits = 2 * facts["operators"]["BatchNormalization"] + 1 if options.bn_shards == 1 else 2
            for ranks in map(int, options.ranks.split(",")):
                link = json.loads(subprocess.run(
                    ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks),
                     bench.build + "/tests/bench_ranks"], env=ENV, check=True, stdout=subprocess.PIPE, text=True).stdout)
                measured = bench.step(BATCH, ranks)
                predicted = bench.predict(ranks, alone, known["fixed_s"], known["crowd"], link, bench.said,
                                          facts["params"], waits)
                print(json.dumps({"model": model, **link, "predicted_s": predicted, "measured_s": measured,
                                  "ratio": measured / predicted, "speedup": alone / measured}), flush=True)


if __name__ == "__main__":
    main()
