"""Who drives: this process, told apart from any other, and whether another one is still there.

May import: orchestration.ports, stdlib.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

from orchestration.ports import DriverIdentity

_START_FIELD = 19
"""Of `/proc/PID/stat`, counted from 0 after the name: the start time in clock ticks since boot (proc(5), field 22)."""


def this_process(instance: str) -> DriverIdentity:
    """Return the identity of a driver in this process.

    Args:
        instance: Tells several drivers of one process apart.
    """
    pid = os.getpid()
    return DriverIdentity(
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=pid,
        process_start=_process_start(pid) or 0,
        instance=instance,
        pid_namespace=_pid_namespace(),
    )


def is_on_this_host(driver: DriverIdentity) -> bool:
    """Whether a driver runs, or ran, on this machine since it was started last."""
    return (
        driver.host == socket.gethostname() and driver.boot_id == _boot_id() and _is_in_our_namespace(driver)
    )


def is_gone(driver: DriverIdentity) -> bool:
    """Whether a driver's process has certainly ended.

    True only for a process of this host whose pid is free, belongs to a process started at another time, or was given
    out before the machine last started. Of another host, or another sandbox on this one, nothing is certain.
    """
    if driver.host != socket.gethostname():
        return False
    if driver.boot_id != _boot_id():
        return True
    if not _is_in_our_namespace(driver):
        return False
    started = _process_start(driver.pid)
    if started is not None:
        return driver.process_start not in {0, started}
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _has_proc()  # there is a /proc, but it does not know the process: a zombie's last moment


@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_in_our_namespace(driver: DriverIdentity) -> bool:
    """Whether its pid means something here; a driver that does not say is taken for one of ours."""
    return driver.pid_namespace in {"", _pid_namespace()}


@lru_cache(maxsize=1)
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _process_start(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None when there is none or the platform does not tell.

    A zombie counts as gone: it can't drive anything any more.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[_START_FIELD])
