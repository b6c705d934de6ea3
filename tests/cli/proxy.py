"""A proxy for one connection that counts bytes: proxy.py HOST:PORT. Prints where it listens, at the end
the bytes of the client and those of the server."""
import socket
import sys
import threading


def pump(source, sink, total):
    while True:
        data = source.recv(1 << 16)
        if not data:
            break
        total[0] += len(data)
        sink.sendall(data)
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


host, port = sys.argv[1].rsplit(":", 1)
listener = socket.create_server(("127.0.0.1", 0))
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
client, _ = listener.accept()
server = socket.create_connection((host, int(port)))
up, down = [0], [0]
thread = threading.Thread(target=pump, args=(client, server, up))
thread.start()
pump(server, client, down)
thread.join()
print("client %d server %d" % (up[0], down[0]))
