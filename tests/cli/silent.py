"""silent.py HOST:PORT MODEL.pi [MODE [COUNT]]: connections that hold a server up, if it lets them; until killed.

(none)   twenty say nothing, one sends half of a greeting, one a whole one (PROTOCOL.md) and no request
trickle  asks as it should, then sends a byte of the set-up every half a second until the server has enough
leave    asks as it should and leaves
byte     COUNT connections (20) that send one byte; each comes again when it is closed
greet    COUNT (50) that greet and ask for nothing, and come again
stall    COUNT (2) that begin a preparation and say no more, and come again
drip     COUNT (2) that begin a preparation and send 5 bytes every 2.2 s, and come again
"""
import hashlib
import socket
import sys
import threading
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
hello = b"linnetPI" + bytes([3, 0, 0, 64, 2, 0, 0, 4]) + model
hello += bytes(80 - len(hello) + 40)  # and what it wishes
ask = bytes([1]) + bytes(31)


def connect():
    return socket.create_connection((host, int(port)), timeout=60)


def trickle():
    line = connect()
    line.sendall(hello)
    time.sleep(0.5)
    line.sendall(ask)
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


def wait_closed(line):
    while line.recv(1 << 16):
        pass


def drip(line):
    line.sendall(hello + ask)
    while True:
        line.sendall(bytes(5))
        time.sleep(2.2)


HABITS = {
    "byte": (20, lambda line: (line.sendall(b"l"), wait_closed(line))),
    "greet": (50, lambda line: (line.sendall(hello), wait_closed(line))),
    "stall": (2, lambda line: (line.sendall(hello + ask), wait_closed(line))),
    "drip": (2, drip),
}


def again_and_again(habit):
    while True:
        try:
            with connect() as line:
                habit(line)
        except OSError:
            time.sleep(0.05)


if sys.argv[3:] and sys.argv[3] in HABITS:
    count, habit = HABITS[sys.argv[3]]
    for _ in range(int(sys.argv[4]) if sys.argv[4:] else count):
        threading.Thread(target=again_and_again, args=(habit,), daemon=True).start()
    time.sleep(1)
    print("connected", flush=True)
    time.sleep(600)
elif sys.argv[3:]:
    trickle()
else:
    lines = [connect() for _ in range(22)]
    lines[20].sendall(hello[:40])
    lines[21].sendall(hello)
    print("connected", flush=True)
    time.sleep(600)
