"""silent.py HOST:PORT MODEL.pi [trickle|leave]: connections that hold a server up, if it lets them; until killed.

Twenty say nothing, one sends half of a greeting, one a whole one (PROTOCOL.md) and no request.
"""
import hashlib
import socket
import sys
import time

host, port = sys.argv[1].split(":")
file = open(sys.argv[2], "rb").read()
at, size, shift = 1, 0, 0  # the core: field 1, its length a varint
while True:
    size |= (file[at] & 127) << shift
    shift += 7
    at += 1
    if file[at - 1] < 128:
        break
model = hashlib.sha256(b"linnet model 2" + file[at:at + size]).digest()
hello = b"linnetPI" + bytes([2, 0, 0, 64, 2, 0, 0, 4]) + model
hello += bytes(80 - len(hello) + 32)  # and what it wishes

def trickle():
    """Asks as it should, then sends a byte of the set-up every half a second until the server has enough."""
    line = socket.create_connection((host, int(port)))
    line.sendall(hello)
    time.sleep(0.5)
    line.sendall(bytes([1]) + bytes(31))
    print("connected", flush=True)
    start = time.time()
    if sys.argv[3] == "leave":
        line.recv(4096)
        line.close()
        return
    try:
        while time.time() - start < 60:
            line.sendall(b"x")
            time.sleep(0.5)
    except OSError:
        pass
    print("closed after %d s" % (time.time() - start))


if sys.argv[3:]:
    trickle()
    sys.exit()
lines = [socket.create_connection((host, int(port))) for _ in range(22)]
lines[20].sendall(hello[:40])
lines[21].sendall(hello)
print("connected", flush=True)
time.sleep(600)
