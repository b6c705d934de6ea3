#!/usr/bin/env python3
"""Timings of linnet beside PyTorch and onnxruntime: `make bench BENCH="--model resnet20 ..."`.

    bench.py BUILD [--model a,b] [--work train,input_grad,infer,rlnet_step] [--batch N]
             [--size N] [--precision fp32,bf16] [--threads N] [--rounds N] [--priority N] [--profile]
             [--no-peers] [--no-scaling]
    bench.py BUILD --against BUILD,... [--model ...] [--work ...] [--batch N] [--threads N] [--rounds N]

All engines of one work are started, then take turns of one step: first everyone once to warm up,
then `rounds` times; who is not at turn is stopped, so that no idle thread spins. The figure of an
engine is the median of its rounds. Every engine runs in fp32 and in bf16 (PyTorch: autocast, also
compiled; OpenVINO: its inference precision); linnet's bf16 is left out where the machine has neither AMX
nor a fast AVX512-BF16 (AMD), unless --precision names bf16: then it is emulation, and says so. --priority: a
real-time priority (root) for the timed rounds of all engines, on a machine that does other work. Peers are those of `make bench-peers`, and Debian's
python3-torch where it is installed. JSON lines on standard output, the first one about the machine. On
standard error: how much faster several threads are than one, beside OpenBLAS in the same turns (its own
choice of kernels, and those for AVX-512, which old versions do not choose on every CPU that has
it); with --profile linnet's time per layer.

--against: builds of linnet alone, of other revisions, in fp32. A timed step follows one of the same process
that is not timed, since whoever ran last has its data in the cache. The figure of a build is the median over
the rounds of its time over that of BUILD in the same round; BUILD itself runs twice, and how far its second
process is from 1 is the noise.
"""
import argparse
import atexit
import ctypes.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "bench_peer.py")
SIZE = 32  # pixels of a side


class Engine:
    """A child process that does one step for every line it is sent."""

    def __init__(self, name, layout, precision, threads, command, env):
        self.name, self.layout, self.threads, self.seconds = name, layout, threads, []
        self.precision = precision
        env = dict(env, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads))
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=None if name == "linnet" else subprocess.DEVNULL,
                                      text=True, env=env)
        atexit.register(self.child.kill)  # a stopped process would outlive an interrupted benchmark
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

    def prefer(self, priority):
        """All of its threads before every ordinary process."""
        for thread in os.listdir(f"/proc/{self.child.pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(priority))

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
    """Interpreters with PyTorch, the ones with onnxruntime and with OpenVINO."""
    new = os.path.join(HERE, "..", "build", "peers", "bin", "python")
    if options.no_peers:
        return [], None, None
    return ([p for p in ("/usr/bin/python3", new) if has(p, "torch")],
            new if has(new, "onnxruntime") else None, new if has(new, "openvino") else None)


def linnet(options, model, work, threads, precision="fp32", build=None):
    command = [os.path.join(build or options.build, "tests", "bench_model"), "--serve", "--model", model,
               "--work", work, "--batch", str(options.batch), "--threads", str(threads)]
    if options.size != SIZE:  # builds of old revisions know neither option
        command += ["--size", str(options.size)]
    if precision != "fp32":
        command += ["--precision", precision]
    profile = options.profile and threads == options.threads
    return Engine("linnet", "nhwc", precision, threads, command + ["--profile"] * profile, os.environ)


def start_all(options, model, work, onnx):
    tail = [model, work, str(options.batch), str(options.size), str(options.threads)]

    def peer(python, name, layout, precision, *more):
        return Engine(name, layout, precision, options.threads,
                      [python, PEER, name, layout, *tail, precision, *more], os.environ)

    engines = [linnet(options, model, work, options.threads, p) for p in options.linnet]
    for python in options.torch:
        engines += [peer(python, "pytorch", layout, "fp32") for layout in ("nchw", "nhwc")]
        if "bf16" in options.precisions:
            engines += [peer(python, "pytorch", "nhwc", p) for p in ("bf16", "bf16-compiled")]
    if options.ort and work == "infer":
        engines.append(peer(options.ort, "onnxruntime", "nchw", "fp32", onnx))
    if options.openvino and work == "infer":
        engines += [peer(options.openvino, "openvino", "nchw", p, onnx) for p in options.precisions]
    return engines


def openblas(options, threads, core):
    env = dict(os.environ, OPENBLAS_CORETYPE=core) if core else os.environ
    return Engine("openblas", "", "fp32", threads,
                  [sys.executable, PEER, "openblas", "-", "-", "-", "0", "0", str(threads), "fp32"], env)


def cpu():
    """Model name and flags of this machine's CPU."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        fields = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines())
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return fields.get("model name", "unknown"), fields.get("flags", "").split()


def has_avx512():
    return "avx512f" in cpu()[1]


def has_fast_bf16():
    """As core/base/cpu_path.c decides."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        return "avx512_bf16" in cpu()[1] and "AuthenticAMD" in f.read()


def print_head(options):
    """The machine, and what its figures cannot say."""
    name, flags = cpu()
    told = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16") if f in flags]
    print(json.dumps({"cpu": name, "flags": told, "threads": options.threads,
                      "load": round(os.getloadavg()[0], 1)}), flush=True)
    if "amx_bf16" in flags:
        return
    linnet_does = "left out"
    if "bf16" in options.linnet:
        linnet_does = "AVX512-BF16" if has_fast_bf16() else "emulation, no figure of its speed"
    print(f"this machine has no AMX: bf16 of linnet is {linnet_does}, and that of the peers is not "
          "their best", file=sys.stderr, flush=True)


def start_scaling(options, model, work):
    """Pairs of engines: one thread, all threads; linnet's second is already there."""
    if options.no_scaling or options.threads < 2:
        return []
    pairs = [[linnet(options, model, work, 1)]]
    if ctypes.util.find_library("openblas"):
        for core in [None, "SkylakeX"] if has_avx512() else [None]:
            pairs.append([openblas(options, n, core) for n in (1, options.threads)])
    return pairs


def print_scaling(pairs, work):
    """`pairs` as start_scaling returns it, with the engine of all threads behind linnet's."""
    gains = []
    for one, many in pairs:
        gains.append(statistics.median(one.seconds) / statistics.median(many.seconds))
        print(f"{work}: {many.threads} threads beside one, {one.name} {one.version[-1]}: "
              f"{gains[-1]:.2f} times as fast, {gains[0] / gains[-1]:.2f} of it by linnet",
              file=sys.stderr, flush=True)


def run(options, model, work, folder):
    onnx = os.path.join(folder, model + ".onnx")
    if (options.ort or options.openvino) and work == "infer":
        subprocess.run([os.path.join(options.build, "linnet"), "init", model, "--size",
                        f"{options.size}x{options.size}", "-o", onnx],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    engines = start_all(options, model, work, onnx)
    pairs = start_scaling(options, model, work)
    extra = [engine for pair in pairs for engine in pair]
    for i in range(options.rounds + 1):
        for engine in engines + extra:
            if i == 1 and options.priority > 0:
                engine.prefer(options.priority)
            engine.step(keep=i > 0)
    if pairs:
        pairs[0].append(engines[0])
        print_scaling(pairs, f"{model} {work}")
    for engine in extra:
        engine.end()
    for engine in engines:
        print(json.dumps({
            "engine": engine.name, "version": " ".join(engine.version), "layout": engine.layout,
            "model": model, "work": work, "precision": engine.precision.split("-")[0],
            "compiled": engine.precision.endswith("compiled"), "batch": options.batch,
            "size": options.size, "threads": options.threads,
            "images_per_s": round(options.batch / statistics.median(engine.seconds), 1),
            "peak_rss_mb": engine.end()}), flush=True)


def compare(options, model, work):
    builds = [options.build, options.build, *options.against.split(",")]
    for build in builds:
        program = os.path.join(build, "tests", "bench_model")
        if not os.path.exists(program):
            sys.exit(f"bench.py: no {program}; build it there: make build/release/tests/bench_model")
    engines = [linnet(options, model, work, options.threads, build=build) for build in builds]
    for _ in range(options.rounds):
        for engine in engines:
            engine.step(keep=False)
            engine.step(keep=True)
    for build, engine in zip(builds, engines):
        ratio = statistics.median(s / first for s, first in zip(engine.seconds, engines[0].seconds))
        print(json.dumps({
            "build": build, "version": " ".join(engine.version), "model": model, "work": work,
            "batch": options.batch, "size": options.size, "threads": options.threads,
            "images_per_s": round(options.batch / statistics.median(engine.seconds), 1),
            "time_ratio": round(ratio, 3), "peak_rss_mb": engine.end()}), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("--model", default="resnet20,resnet18")
    parser.add_argument("--work", default="train,input_grad,infer,rlnet_step")
    parser.add_argument("--precision")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--priority", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-scaling", action="store_true")
    parser.add_argument("--against")
    options = parser.parse_args()
    if options.against and (options.precision or options.profile or options.priority):
        parser.error("--against runs fp32 alone; leave --precision, --profile and --priority out")
    options.precisions = (options.precision or "fp32,bf16").split(",")
    options.linnet = [p for p in options.precisions
                      if p == "fp32" or options.precision or "amx_bf16" in cpu()[1] or has_fast_bf16()]
    options.torch, options.ort, options.openvino = pythons(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    print_head(options)
    with tempfile.TemporaryDirectory() as folder:
        for model in options.model.split(","):
            for work in options.work.split(","):
                if options.against:
                    compare(options, model, work)
                else:
                    run(options, model, work, folder)
    return 0


sys.exit(main())
