"""Finds and ends processes by what their environment says, wherever they went: another group, session or parent.

May import: anyio, stdlib.

A process inherits its environment from whoever started it, so a variable that only one command was given names
everything that command started, also what left its process group (`setsid`) and its parent (a double fork). Two
variables are given to each command: which driver started it, and a mark of its own. A command may run this program
again, whose commands then carry both marks, the inner one behind the outer one and a dot.

What this can't find: a process that was started with an emptied environment (`env -i`), that wrote over it, or that
runs as another user who lets nobody look; and anything on a platform without `/proc`, where nothing is found at all.

Looking costs about 5 µs for each process of the machine. It is done on a thread, because the kernel may let a reader of
`/proc/PID/environ` wait for a process that is stuck.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterable
from typing import TypeAlias

import anyio
import anyio.to_thread

DRIVER_VARIABLE = "ADVANCED_ORCHESTRATION_DRIVER"
"""Names the driver that started a command."""

MARK_VARIABLE = "ADVANCED_ORCHESTRATION_PROCESS_MARK"
"""Tells the processes of one run of a command from all others."""

POLL_SECONDS = 0.02
"""How often to look whether signalled processes have gone."""

KILL_SECONDS = 5.0
"""Longest wait for killed processes to go; only one stuck in the kernel takes it."""

READ_BYTES = 64 * 1024
"""More than nearly every environment has."""

KILL_ROUNDS = 10
"""How often to look again for processes that were born while the others were killed."""

Carries: TypeAlias = Callable[[bytes], bool]
"""Whether an environment, as `/proc/PID/environ` holds it, belongs to the processes that are looked for."""


def new_mark() -> str:
    """Return a mark no other run of a command has, behind the marks of the command this program was itself run by."""
    outer = os.environ.get(MARK_VARIABLE, "")
    own = secrets.token_hex(8)
    return f"{outer}.{own}" if outer else own


def carries_mark(mark: str) -> Carries:
    """Return the question whether an environment has this mark as its own: a process of that very command."""
    return lambda environment: variable(environment, MARK_VARIABLE) == mark


def carries_any_part(marks: Iterable[str]) -> Carries:
    """Return the question whether an environment has one of these marks, or one behind it.

    Such a process belongs to one of those commands, or to a command that was run by it.
    """
    own = frozenset(mark.rpartition(".")[2] for mark in marks)
    return lambda environment: not own.isdisjoint(variable(environment, MARK_VARIABLE).split("."))


def carries_driver(instance: str) -> Carries:
    """Return the question whether an environment says that this driver started the process."""
    return lambda environment: variable(environment, DRIVER_VARIABLE) == instance


def variable(environment: bytes, name: str) -> str:
    """Return a variable's value; empty where there is none."""
    wanted = name.encode() + b"="
    if wanted not in environment:
        return ""
    _, found, rest = (b"\0" + environment).partition(b"\0" + wanted)
    return rest.partition(b"\0")[0].decode("utf-8", "replace") if found else ""


async def find_processes(carries: Carries, among: Iterable[int] | None = None) -> dict[int, bytes]:
    """Return the environments, by process id, of the living processes that are looked for.

    Args:
        carries: Tells them.
        among: Where to look; everywhere when absent.
    """
    own_turn = anyio.CapacityLimiter(1)  # the common one may be taken up by tasks for as long as they like
    with anyio.move_on_after(KILL_SECONDS):
        return await anyio.to_thread.run_sync(_find, carries, among, abandon_on_cancel=True, limiter=own_turn)
    return {}


def _find(carries: Carries, among: Iterable[int] | None) -> dict[int, bytes]:
    environments = {pid: environment_of(pid) for pid in (_every_pid() if among is None else among)}
    return {pid: environment for pid, environment in environments.items() if carries(environment)}


async def end_processes(
    carries: Carries, *, grace_seconds: float, spares: Callable[[int], bool] = lambda _: False
) -> set[int]:
    """End the processes that are looked for, SIGTERM first, and return the ids of those that were ended.

    Args:
        carries: Tells them.
        grace_seconds: How long they may take to end after SIGTERM before they are killed; 0 kills at once.
        spares: Which of them to leave alone after all.
    """
    ended: set[int] = set()
    if grace_seconds:
        sent = await _signal_all(signal.SIGTERM, carries, spares)
        ended |= sent
        await _wait_for(sent, carries, grace_seconds)
    for _ in range(KILL_ROUNDS if ended or not grace_seconds else 0):
        sent = await _signal_all(signal.SIGKILL, carries, spares)
        ended |= sent
        if not sent or not await _wait_for(sent, carries, KILL_SECONDS):
            break
    return ended


async def _signal_all(number: signal.Signals, carries: Carries, spares: Callable[[int], bool]) -> set[int]:
    """Send a signal to every process that is looked for, and return those that could be sent one."""
    found = await find_processes(carries)
    return {pid for pid in found if not spares(pid) and _send(pid, number, carries)}


async def _wait_for(pids: set[int], carries: Carries, seconds: float) -> bool:
    """Wait until processes have gone; return whether they have."""
    with anyio.move_on_after(seconds):
        while pids and await find_processes(carries, pids):  # noqa: ASYNC110  (nothing announces it)
            await anyio.sleep(POLL_SECONDS)
        return True
    return False


def _send(pid: int, number: signal.Signals, carries: Carries) -> bool:
    """Send a signal to a process, unless its id went to another one meanwhile; return whether it was sent."""
    descriptor: int | None = None
    try:
        with contextlib.suppress(OSError):  # a kernel without it, or the process has gone
            descriptor = os.pidfd_open(pid)
        if not carries(environment_of(pid)):
            return False
        if descriptor is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False  # it has gone, or belongs to another user
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def environment_of(pid: int) -> bytes:
    """Return a process's environment; empty where it has gone, is a zombie, or is not ours to look at."""
    try:
        descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(descriptor, READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _every_pid() -> list[int]:
    """Return the ids of all processes; none where there is no `/proc`."""
    try:
        with os.scandir("/proc") as entries:
            return [int(entry.name) for entry in entries if entry.name.isdigit()]
    except OSError:
        return []
