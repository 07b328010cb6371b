"""What the tasks of the acceptance tests do, inside a server process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path


def pid() -> int:
    """Return the id of the process that runs this: the server's."""
    return os.getpid()


def note(path: str, line: str) -> str:
    """Append a line to a file, and say so where a stray print would break the protocol."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    print(f"noted {line}")
    return line


def note_and_wait(path: str, line: str, until: str) -> str:
    """Append a line to a file, then wait until another file exists; a thread that nobody can interrupt."""
    note(path, line)
    while not Path(until).exists():
        time.sleep(0.01)
    return line
