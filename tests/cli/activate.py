"""activate.py HOST:PORT NOTIFY PROGRAM...: opens the socket, starts the program with it as a service manager does
(LISTEN_FDS, NOTIFY_SOCKET), prints what the program notifies, a line each, ends with its exit status."""
import os
import socket
import sys

host, port = sys.argv[1].split(":")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(sys.argv[2])
listener = socket.create_server((host, int(port)))
print("bound %s:%d" % listener.getsockname(), flush=True)
child = os.fork()
if child == 0:
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", NOTIFY_SOCKET=sys.argv[2])
    os.execv(sys.argv[3], sys.argv[3:])
print("pid %d" % child, flush=True)
listener.close()
notify.settimeout(0.2)
while True:
    done, status = os.waitpid(child, os.WNOHANG)
    try:
        print(notify.recv(4096).decode().replace("\n", " "), flush=True)
    except socket.timeout:
        if done:
            sys.exit(os.waitstatus_to_exitcode(status))
