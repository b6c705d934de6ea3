"""One image through CrypTen, two processes on loopback: peer_crypten.py MODEL.onnx. For comparison only.

Prints seconds, megabytes sent and rounds of each party online, as CrypTen counts them, a line of JSON each. Triples come from its default
provider (TFP, insecure, nothing counted). Needs the packages torch and crypten and a model whose masked
ReLUs are in the form `gather` (linnet export --for crypten --masked-relu gather).
"""
import io
import json
import logging
import os
import sys
import time

import onnx
import torch

import crypten
import crypten.communicator as comm
import crypten.mpc as mpc
from crypten.config import cfg

logging.disable(logging.WARNING)


def load(path):
    """The model's bytes; CrypTen wants the default mode of Pad and zeros written out."""
    model = onnx.load(path)
    for node in model.graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.INT:
                a.i = a.i
            elif a.type == onnx.AttributeProto.FLOAT:
                a.f = a.f
        if node.op_type == "Pad" and not any(a.name == "mode" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("mode", "constant"))
    return io.BytesIO(model.SerializeToString())


@mpc.run_multiprocess(world_size=2)
def infer(path):
    cfg.communicator.verbose = True  # counts
    model = crypten.nn.from_onnx(load(path))
    model.encrypt(src=0)
    model.eval()
    torch.manual_seed(1)
    image = crypten.cryptensor(torch.rand(1, 3, 32, 32), src=1)
    model(image)  # warm
    crypten.reset_communication_stats()
    start = time.time()
    model(image)
    seconds = time.time() - start
    return seconds, comm.get().get_communication_stats()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    for party, (seconds, stats) in enumerate(infer(sys.argv[1])):
        print(json.dumps({"peer": "CrypTen " + crypten.__version__, "model": sys.argv[1], "party": party,
                          "seconds": round(seconds, 3), "megabytes": round(stats["bytes"] / 1e6, 1),
                          "rounds": stats["rounds"]}))
