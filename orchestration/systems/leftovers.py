"""Ends what a driver that died left running on this host.

May import: orchestration.systems.marked_processes, stdlib.

A driver that is ended by `kill -9`, or by the kernel when memory is short, can't end its commands. Each of them carries
the driver's name in its environment, so whoever takes over can. Daemons that a command put up on purpose go, too:
nobody is left who knows how the command ended.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestration.systems.marked_processes import (
    DRIVER_VARIABLE,
    MARK_VARIABLE,
    carries_any_part,
    carries_driver,
    end_processes,
    find_processes,
    variable,
)

KILL_GRACE_SECONDS = 2.0
"""How long a process may take to end after SIGTERM before it is killed."""

_PARENT_FIELD = 1
"""Of `/proc/PID/stat`, counted from 0 after the name: the id of the parent (proc(5), field 4)."""


async def end_leftovers(instance: str, *, grace_seconds: float = KILL_GRACE_SECONDS) -> int:
    """End every process of this host that a driver started, and what those started; return how many.

    Only for a driver that has certainly ended or lost its leases: one that lives would see its attempts fail. This
    process and those it descends from are left alone: it may itself be a command of that driver, and so are those it
    started then. On a platform without `/proc` nothing is found.

    Args:
        instance: The driver, as `DriverIdentity.instance` names it.
        grace_seconds: How long each may take to end after SIGTERM before it is killed.
    """
    if not instance:
        return 0
    own = os.getpid()
    line = _line_of(own)
    # Only as a command of that driver has this process children that seem to be the driver's. As the first process of a
    # container it has others, too: whatever lost its parent there.
    is_command = os.environ.get(DRIVER_VARIABLE) == instance

    def is_kin(pid: int) -> bool:
        return pid in line or (is_command and own in _line_of(pid))

    carries = carries_driver(instance)
    found = await find_processes(carries)
    marks = {variable(environment, MARK_VARIABLE) for pid, environment in found.items() if not is_kin(pid)}
    if not marks:
        return 0
    ended = await end_processes(carries, grace_seconds=grace_seconds, spares=is_kin)
    ended |= await end_processes(carries_any_part(marks - {""}), grace_seconds=0, spares=is_kin)
    return len(ended)


def _line_of(pid: int) -> set[int]:
    """Return a process and those it descends from; a line that breaks off ends there."""
    line: set[int] = set()
    while pid and pid not in line:
        line.add(pid)
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(text.rpartition(")")[2].split()[_PARENT_FIELD])
    return line
