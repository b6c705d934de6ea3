#!/usr/bin/env python3
"""Timings of linnet beside PyTorch and onnxruntime: `make bench BENCH="--model resnet20 ..."`.

    bench.py BUILD [--model a,b] [--work train,input_grad,infer,rlnet_step] [--batch N]
             [--threads N] [--rounds N] [--profile] [--no-peers]

All engines of one work are started, then take turns of one step: first everyone once to warm up,
then `rounds` times; who is not at turn is stopped, so that no idle thread spins. The figure of an
engine is the median of its rounds. Peers are those of `make bench-peers`, and Debian's
python3-torch where it is installed. JSON lines on standard output, as cli.md says; --profile adds
linnet's time per layer on standard error.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "bench_peer.py")


class Engine:
    """A child process that does one step for every line it is sent."""

    def __init__(self, name, layout, command, env):
        self.name, self.layout, self.seconds = name, layout, []
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=None if name == "linnet" else subprocess.DEVNULL,
                                      text=True, env=env)
        self.version = self.child.stdout.readline().split()[1:]
        self.stop()

    def stop(self):
        self.child.send_signal(signal.SIGSTOP)

    def step(self, keep):
        self.child.send_signal(signal.SIGCONT)
        self.child.stdin.write("step\n")
        self.child.stdin.flush()
        seconds = float(self.child.stdout.readline())
        self.stop()
        if keep:
            self.seconds.append(seconds)

    def end(self):
        """Peak memory in MiB."""
        self.child.send_signal(signal.SIGCONT)
        self.child.stdin.close()
        peak = int(self.child.stdout.readline())
        self.child.wait()
        return peak


def has(python, module):
    return os.path.exists(python) and subprocess.run(
        [python, "-c", "import " + module], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode == 0


def pythons(options):
    """Interpreters with PyTorch, the one with onnxruntime."""
    new = os.path.join(HERE, "..", "build", "peers", "bin", "python")
    if options.no_peers:
        return [], None
    return ([p for p in ("/usr/bin/python3", new) if has(p, "torch")],
            new if has(new, "onnxruntime") else None)


def start_all(options, model, work, onnx):
    env = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    tail = [model, work, str(options.batch), str(options.threads)]
    serve = [os.path.join(options.build, "tests", "bench_model"), "--serve", "--model", model,
             "--work", work, "--batch", str(options.batch), "--threads", str(options.threads)]
    engines = [Engine("linnet", "nhwc", serve + ["--profile"] * options.profile, env)]
    for python in options.torch:
        for layout in ("nchw", "nhwc"):
            engines.append(Engine("pytorch", layout,
                                  [python, PEER, "pytorch", layout] + tail, env))
    if options.ort and work == "infer":
        engines.append(Engine("onnxruntime", "nchw",
                              [options.ort, PEER, "onnxruntime", "nchw"] + tail + [onnx], env))
    return engines


def run(options, model, work, folder):
    onnx = os.path.join(folder, model + ".onnx")
    if options.ort and work == "infer":
        subprocess.run([os.path.join(options.build, "linnet"), "init", model, "-o", onnx],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    engines = start_all(options, model, work, onnx)
    for i in range(options.rounds + 1):
        for engine in engines:
            engine.step(keep=i > 0)
    for engine in engines:
        print(json.dumps({
            "engine": engine.name, "version": " ".join(engine.version), "layout": engine.layout,
            "model": model, "work": work, "batch": options.batch, "threads": options.threads,
            "images_per_s": round(options.batch / statistics.median(engine.seconds), 1),
            "peak_rss_mb": engine.end()}), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("--model", default="resnet20,resnet18")
    parser.add_argument("--work", default="train,input_grad,infer,rlnet_step")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    options.torch, options.ort = pythons(options)
    with tempfile.TemporaryDirectory() as folder:
        for model in options.model.split(","):
            for work in options.work.split(","):
                run(options, model, work, folder)
    return 0


sys.exit(main())
