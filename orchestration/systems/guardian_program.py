"""The guardian's own program: waits until the process that started it is gone, then ends what that one left.

    python -I -S guardian_program.py PARENT_PID MARK_VARIABLE      (`+MARK PID` and `-MARK PID` lines on stdin)

May import: stdlib, and of that only what starts fast: it runs without the packages of its parent.

It belongs to no terminal's session and ignores signals that ask it to end: only its parent's end, or the end of its
input, ends it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

GRACE_ROUNDS = 75
"""How often to look whether a left process has ended by itself: its input has just closed, and it was asked to."""

ROUND_SECONDS = 0.02

KILL_ROUNDS = 10
"""How often to look again for processes that were born while the others were killed."""

LOOK_SECONDS = 1.0
"""How often to look whether the parent is there, where the kernel does not tell."""


def main(parent: int, variable: str) -> None:
    """Watch until there is nobody to watch for, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched = _watch(parent)
    if watched:
        _end(watched, variable)


def _watch(parent: int) -> dict[str, int]:
    """Take lines until the input ends or the parent is gone; return the families that are watched then."""
    watched: dict[str, int] = {}
    rest = b""
    descriptors = [0]
    with contextlib.suppress(OSError, AttributeError):
        descriptors.append(os.pidfd_open(parent))
    while True:
        ready, _, _ = select.select(descriptors, [], [], LOOK_SECONDS)
        if 0 in ready:
            chunk = os.read(0, 65536)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _take(line.decode("ascii", "replace"), watched)
            if not chunk:
                return watched
        elif ready or os.getppid() != parent:
            return watched


def _take(line: str, watched: dict[str, int]) -> None:
    mark, _, pid = line[1:].partition(" ")
    if line[:1] == "+" and mark and pid.isdigit():
        watched[mark] = int(pid)
    elif line[:1] == "-":
        watched.pop(mark, None)


def _end(watched: dict[str, int], variable: str) -> None:
    """Ask, wait, kill; what is born meanwhile is found again."""
    _signal(watched, variable, signal.SIGTERM)
    for _ in range(GRACE_ROUNDS):
        if not _left(watched, variable):
            break
        _wait()
    for _ in range(KILL_ROUNDS):
        if not _signal(watched, variable, signal.SIGKILL):
            return
        _wait()


def _wait() -> None:
    select.select([], [], [], ROUND_SECONDS)


def _signal(watched: dict[str, int], variable: str, number: signal.Signals) -> bool:
    """Signal every process that is left; return whether there was one."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112  (pathlib takes longer to import than all the rest)
        for leader in watched.values():
            with contextlib.suppress(OSError):
                os.killpg(leader, number)
        return number != signal.SIGKILL
    left = _left(watched, variable)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return bool(left)


def _left(watched: dict[str, int], variable: str) -> list[int]:
    """Return the living processes that carry a watched mark as theirs, or as one they are nested in."""
    own = {mark.rpartition(".")[2].encode() for mark in watched}
    start = variable.encode() + b"="
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  (as above)
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123  (as above)
                environment = file.read().split(b"\0")
        except OSError:
            continue
        marks = next((each[len(start) :] for each in environment if each.startswith(start)), b"")
        if not own.isdisjoint(marks.split(b".")):
            found.append(int(name))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
