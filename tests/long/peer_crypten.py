"""One image through CrypTen, two processes on loopback: peer_crypten.py MODEL.onnx. For comparison only.

Prints seconds, bytes and rounds of one party online, as CrypTen counts them. Triples come from its default
provider (TFP, insecure, nothing counted). Needs the packages torch and crypten and a model whose masked
ReLUs are in the form `gather` (linnet export --for crypten --masked-relu gather).
"""
import logging
import os
import sys
import time

import torch

import crypten
import crypten.communicator as comm
import crypten.mpc as mpc

logging.disable(logging.WARNING)


@mpc.run_multiprocess(world_size=2)
def infer(path):
    model = crypten.nn.from_onnx(open(path, "rb"))
    model.encrypt(src=0)
    model.eval()
    torch.manual_seed(1)
    image = crypten.cryptensor(torch.rand(1, 3, 32, 32), src=1)
    model(image)  # warm
    crypten.reset_communication_stats()
    start = time.time()
    model(image)
    seconds = time.time() - start
    stats = comm.get().get_communication_stats() if hasattr(comm.get(), "get_communication_stats") else None
    return seconds, stats


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    for party, (seconds, stats) in enumerate(infer(sys.argv[1])):
        print("party %d: %.3f s online, %s" % (party, seconds, stats))
