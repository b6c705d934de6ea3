"""Every file of the zoo through linnet and onnxruntime.

    check.py LINNET FILES TABLE [--write | PART...]

Takes each line of TABLE (zoo.tsv): file, exporter, network, expected. Expected "ok": the file is
imported, its outputs equal onnxruntime's (max |difference| <= 1e-5 max |value|), it is written
again, the outputs of that file in onnxruntime equal those of the first, and a further import and
export changes no byte. Both programs round; where they are more than half of that apart, the truth
decides: onnx's reference evaluator in double precision, the same bound. Otherwise expected is the code of the refusal and words of its message.
"--write" writes the table with what was measured. PART: only the files whose name has one of these in it.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

TOLERANCE = 1e-5
DOUBTFUL = TOLERANCE / 2
NEWEST_OPSET = 22
NARROW = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
FLOATING = NARROW | {onnx.TensorProto.DOUBLE}
linnet, folder, table = sys.argv[1:4]
write = "--write" in sys.argv
parts = [] if write else sys.argv[4:]
onnxruntime.set_default_logger_severity(4)


def run(*args):
    p = subprocess.run([linnet, *args], capture_output=True, text=True)
    return p.returncode, p.stderr.strip()


def in_type(m, types, kind, dtype):
    """Tensors, Casts, inputs and outputs of these types become those of kind, with the same numbers."""
    def convert(t):
        if t.data_type in types:
            name = t.name
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(dtype), name))

    for t in m.graph.initializer:
        convert(t)
    for n in m.graph.node:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                convert(a.t)
            if n.op_type == "Cast" and a.name == "to" and a.i in types:
                a.i = kind
    for v in list(m.graph.input) + list(m.graph.output):
        if v.type.tensor_type.elem_type in types:
            v.type.tensor_type.elem_type = kind
    del m.graph.value_info[:]


def in_float(m):
    """What linnet makes of half and double files, and the only type in which onnxruntime computes all
    of them."""
    in_type(m, FLOATING, onnx.TensorProto.FLOAT, np.float32)


def for_onnxruntime(path):
    """The file, or what onnxruntime can compute of it: it knows neither the newest operator sets,
    whose operators of a ResNet are those of set 22, nor 16-bit and double convolutions."""
    m = onnx.load(path)
    opset = next(o for o in m.opset_import if o.domain in ("", "ai.onnx"))
    types = {v.type.tensor_type.elem_type for v in m.graph.input}
    types |= {t.data_type for t in m.graph.initializer}
    if opset.version <= NEWEST_OPSET and not types & FLOATING:
        return path
    if opset.version > NEWEST_OPSET:
        opset.version, m.ir_version = NEWEST_OPSET, 10
    in_float(m)
    return m.SerializeToString()


def session(path):
    o = onnxruntime.SessionOptions()
    o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(for_onnxruntime(path), o, providers=["CPUExecutionProvider"])


def outputs(inputs, names, run, x, output):
    """Outputs for x [N,C,H,W], whatever batch and order the file has."""
    shape = [d if isinstance(d, int) else None for d in inputs[0].shape]
    last = shape[3] == x.shape[1] and shape[1] != x.shape[1]
    x = x.transpose(0, 2, 3, 1) if last else x
    step = shape[0] or len(x)
    parts = [run([output or names[0]], {inputs[0].name: x[k:k + step]})[0]
             for k in range(0, len(x), step)]
    return np.concatenate(parts).astype(np.float64).reshape(len(x), -1)


def reference(path, x, output=None):
    s = session(path)
    return outputs(s.get_inputs(), [o.name for o in s.get_outputs()], s.run, x, output)


class Input:
    def __init__(self, v):
        self.name = v.name
        self.shape = [d.dim_value or None for d in v.type.tensor_type.shape.dim]


def precise(path, x, output=None):
    """The same in double precision, of the weights as the file has them."""
    m = onnx.load(path)
    in_type(m, NARROW | {onnx.TensorProto.FLOAT}, onnx.TensorProto.DOUBLE, np.float64)
    known = {t.name for t in m.graph.initializer}
    inputs = [Input(v) for v in m.graph.input if v.name not in known]
    names = [o.name for o in m.graph.output]
    return outputs(inputs, names, ReferenceEvaluator(m).run, x.astype(np.float64), output)


def image_shape(path):
    m = onnx.load(path, load_external_data=False)
    known = {t.name for t in m.graph.initializer}
    v = next(v for v in m.graph.input if v.name not in known)
    d = [x.dim_value for x in v.type.tensor_type.shape.dim]
    return (d[3], d[1], d[2]) if d[3] in (1, 3) and d[1] not in (1, 3) else tuple(d[1:])


def difference(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def check_ok(path, options, tmp):
    m = onnx.load(path, load_external_data=False)
    shape = image_shape(path)
    x = np.random.default_rng(7).random((8 if shape[1] <= 64 else 2, *shape), dtype=np.float32)
    training = "training" in path
    output = options[1] if options else None
    npy, y = os.path.join(tmp, "x.npy"), os.path.join(tmp, "y.npy")
    np.save(npy, x)
    code, text = run("run", path, "--input", npy, "--output", y, "-q", *options)
    if code:
        return f"not imported: {text}", None
    ours = np.load(y)
    source = inference_form(path, tmp) if training else path
    want = reference(source, x, output)
    d1 = difference(ours, want)
    one, two = os.path.join(tmp, "one.onnx"), os.path.join(tmp, "two.onnx")
    for a, b in ((path, one), (one, two)):
        code, text = run("export", a, "-o", b, "-q", *(options if a == path else []))
        if code:
            return f"not exported: {text}", None
    onnx.checker.check_model(one)
    d2 = difference(reference(one, x), want)
    if max(d1, d2) > DOUBTFUL:
        truth = precise(source, x, output)
        print(f"    {os.path.basename(path)}: {d1:.1e} from onnxruntime, which is "
              f"{difference(want, truth):.1e} from double precision", flush=True)
        d1, d2 = difference(ours, truth), difference(precise(one, x), truth)
    same = open(one, "rb").read() == open(two, "rb").read()
    if max(d1, d2) > TOLERANCE or not same:
        return f"differs: {d1:.1e}, written {d2:.1e}, stable {same}", None
    return None, max(d1, d2)


def inference_form(path, tmp):
    """BatchNormalization and Dropout of a training export as they are at test time."""
    m = onnx.load(path)
    for n in m.graph.node:
        if n.op_type == "BatchNormalization":
            keep = [a for a in n.attribute if a.name != "training_mode"]
            del n.attribute[:], n.output[1:]
            n.attribute.extend(keep)
        if n.op_type == "Dropout":
            del n.input[1:], n.output[1:]
    out = os.path.join(tmp, "inference.onnx")
    onnx.save(m, out)
    return out


def facts(path):
    m = onnx.load(path, load_external_data=False)
    opset = next(o.version for o in m.opset_import if o.domain in ("", "ai.onnx"))
    return f"{m.ir_version}", f"{opset}"


rows, failed, opsets, exporters, nets = [], 0, set(), set(), set()
for line in open(table):
    if line.startswith("#") or not line.strip():
        continue
    name, exporter, net, expected = line.rstrip("\n").split("\t")[:4]
    path = os.path.join(folder, name)
    if parts and not any(p in name for p in parts):
        continue
    if not os.path.exists(path) and exporter.startswith("torch 2.5"):
        print("skipped", name, "(setup.sh makes it with torch25)")
        continue
    if not os.path.exists(path):
        print("FAILED", name, "no such file: what makes it said nothing", flush=True)
        failed += 1
        rows.append((name, exporter, net, "", "", expected, "no file"))
        continue
    ir, opset = facts(path)
    options = []
    if expected.startswith("ok "):
        options = expected.split()[1:]
    with tempfile.TemporaryDirectory() as tmp:
        if expected.startswith("ok"):
            problem, d = check_ok(path, options, tmp)
            result = problem or f"{d:.1e}"
        else:
            code, text = run("inspect", path, "--json", os.path.join(tmp, "j.json"))
            first = text.splitlines()[-1] if text else ""
            problem = None
            if code != 3 or not all(w in first for w in expected.split(" ", 1)):
                problem = f"exit {code}: {first}"
            result = problem or "refused"
    failed += problem is not None
    opsets.add(opset), exporters.add(exporter), nets.add(net)
    rows.append((name, exporter, net, ir, opset, expected, result))
    print("FAILED" if problem else "ok    ", name, f"IR {ir} opset {opset}", result, flush=True)
print(f"zoo: {len(rows)} files of {len(exporters)} exporters and settings, {len(nets)} networks, "
      f"{len(opsets)} opsets; {len(rows) - failed} as expected, {failed} not")
if write:
    with open(os.path.join(os.path.dirname(table), "RESULTS.tsv"), "w") as f:
        f.write("# file\texporter\tnetwork\tIR\topset\texpected\tlargest relative difference\n")
        f.writelines("\t".join(r) + "\n" for r in rows)
sys.exit(failed > 0)
