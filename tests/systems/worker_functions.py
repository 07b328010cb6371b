"""Functions that run in worker processes: those find them by name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.lowlevel

from orchestration.errors import AttemptFailedError, SystemUnavailableError


def add(a: int, b: int = 2) -> int:
    return a + b


async def add_async(a: int, b: int = 2) -> int:
    await anyio.lowlevel.checkpoint()
    return a + b


def fail(message: str) -> None:
    raise RuntimeError(message)


def show(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs


def key(idempotency_key: str) -> str:
    return idempotency_key


def beat(heartbeat: Callable[[], None]) -> None:
    heartbeat()


def told(
    inputs: dict[str, Any],
    context: dict[str, Any],
    idempotency_key: str,
    attempt_id: str,
    heartbeat: Callable[[], None],
) -> list[Any]:
    heartbeat()
    return [inputs, context, idempotency_key, attempt_id, os.getpid()]


def read_three(progress: Callable[..., None]) -> str:
    progress(1, 3, "one")
    progress(3, 3)
    return "read"


def pid() -> int:
    return os.getpid()


def wait_with_child(path: str) -> None:
    """Have a child in the group and one that left it, and wait for ever."""
    children = [subprocess.Popen(["sleep", "300"], start_new_session=apart) for apart in (False, True)]
    note(path, os.getpid(), *(child.pid for child in children))
    threading.Event().wait()


def ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(path, os.getpid())
    while True:
        threading.Event().wait(60)


def note(path: str, *pids: int) -> None:
    new = Path(path).with_suffix(".new")
    new.write_text("\n".join(map(str, pids)))
    new.rename(path)


def exit_at_once() -> None:
    os._exit(3)


def crash() -> None:
    ctypes.string_at(0)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_and_die(path: str) -> None:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    note(path, child.pid)
    os._exit(4)


def write_everywhere(text: bytes, path: str = "") -> str:
    """Write to every file this process has, and wait for ever where there is a path to say so in."""
    for number in range(3, 4096):  # a pipe keeps the number it had in the parent, which may have many files
        with contextlib.suppress(OSError):
            os.write(number, text)
    if path:
        note(path, os.getpid())
        threading.Event().wait()
    return "written"


def raise_system_exit() -> None:
    sys.exit("enough")


def refuse() -> None:
    raise AttemptFailedError("too many", "rate_limited", retry_after_seconds=7.0, effect_open=True)


def lose() -> None:
    raise SystemUnavailableError("there", "gone", effect_open=True)


class OddError(Exception):
    """One whose constructor does not take what pickle would give it."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code_number = code


class NetworkError(Exception):
    """Goes by the name that HTTP libraries give."""


def raise_odd() -> None:
    raise OddError(5, "no paper")


def raise_odd_after_network_error() -> None:
    try:
        raise NetworkError("slow")
    except NetworkError as exc:
        raise OddError(5, "no paper") from exc


def raise_local_timeout() -> None:
    class LocalTimeoutError(TimeoutError):
        """Known nowhere else."""

    raise LocalTimeoutError("a while")


def give_lock() -> object:
    return threading.Lock()


def take(value: object) -> str:
    return type(value).__name__


def count_up() -> Iterator[int]:
    yield from (1, 2, 3)


def print_much() -> str:
    print("to standard output")
    os.write(1, b"to descriptor 1\n")
    return "done"


def grow(mb: int) -> int:
    return len(bytearray(mb * 1024 * 1024))


def environment() -> dict[str, str]:
    return dict(os.environ)


def read_stdin() -> str:
    return sys.stdin.read()
