"""Runs a command and writes the peak of its resident memory, that of its largest process, in kB.
Usage: peak.py FILE COMMAND...   A SIGTERM goes on to the command."""
import resource
import signal
import subprocess
import sys

child = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
status = child.wait()
with open(sys.argv[1], "w") as out:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=out)
sys.exit(status if status >= 0 else 128 - status)
