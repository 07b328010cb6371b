"""A command that spreads: a child in its own process group, one in a session of its own, one whose parent has gone.

    python left_command.py PIDS

It writes the ids of all its processes to PIDS, one a line, once every one of them runs; then it waits. None of them
ends on its own, and the last one also ignores SIGTERM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILDREN = 3

SLEEPER = "import time; print('up', flush=True); time.sleep(300)"


def sleeper(*, new_session: bool) -> int:
    """Start a program that waits, and return its process id once it runs."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=new_session
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def daemon() -> int:
    """Start a daemon by the book, in a session of its own and with no parent left, and return its process id."""
    reading, writing = os.pipe()
    first = os.fork()
    if not first:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        os.write(writing, f"{os.getpid()}\n".encode())
        os.close(writing)
        time.sleep(300)
        os._exit(0)
    os.waitpid(first, 0)
    return int(os.read(reading, 20))


def main(path: str) -> None:
    """Start everything, write it down, and wait."""
    pids = [os.getpid(), sleeper(new_session=False), sleeper(new_session=True), daemon()]
    written = Path(f"{path}.new")
    written.write_text("".join(f"{pid}\n" for pid in pids))
    written.rename(path)
    time.sleep(300)


if __name__ == "__main__":
    main(sys.argv[1])
