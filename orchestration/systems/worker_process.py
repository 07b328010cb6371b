"""One worker process, seen from the program that started it: how it is started, woken, handed a call, and ended.

May import: orchestration.errors, orchestration.systems.{marked_processes, small_environment}, anyio, stdlib.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path

import anyio

from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.systems.marked_processes import MARK_VARIABLE, carries_any_part, end_processes, new_mark
from orchestration.systems.small_environment import inherited_environment

POLL_SECONDS = 0.25
"""How often to look whether a worker has died, on a system where nothing announces it."""

REAP_SECONDS = 5.0
"""Longest wait for a killed worker; only one stuck in the kernel takes it."""

_SCRIPT = Path(__file__).with_name("process_worker.py")


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How worker processes are kept.

    Raises:
        InvalidArgumentError: A number is too small.
    """

    workers: int | None = None
    """How many at once; as many as there are processors when absent."""
    max_tasks_per_worker: int | None = None
    """After so many calls a worker is replaced, should functions leak; never when absent."""
    memory_mb: int | None = None
    """Most address space of one worker, in MiB; without a limit when absent."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables besides the few that are inherited."""
    idle_seconds: float = 60.0
    """How long a worker without work stays."""
    kill_grace_seconds: float = 2.0
    """How long a worker may take to end after SIGTERM before it is killed."""

    def __post_init__(self) -> None:
        for name in ("workers", "max_tasks_per_worker", "memory_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidArgumentError(name, value, "a whole number of at least 1")
        for name in ("idle_seconds", "kill_grace_seconds"):
            if getattr(self, name) < 0:
                raise InvalidArgumentError(name, getattr(self, name), "a number of seconds, 0 or more")


class WorkerProcess:
    """One worker process, seen from here; only the thread that made it touches it.

    Raises:
        AttemptFailedError: It could not be started (`worker_not_started`).
    """

    def __init__(self, options: ProcessOptions) -> None:
        self.calls = 0
        self._mark = new_mark()
        self.connection, theirs = Pipe()
        read_end, self._lifeline = os.pipe()
        files = (theirs.fileno(), read_end)
        try:
            self.process = subprocess.Popen(  # noqa: S603  (this very interpreter, with a file of this package)
                [sys.executable, "-P", str(_SCRIPT), *map(str, files)],
                stdin=subprocess.DEVNULL,
                stdout=_our_stderr(),
                stderr=_our_stderr(),
                env={**inherited_environment(), **options.env, MARK_VARIABLE: self._mark},
                pass_fds=files,
                start_new_session=True,
            )
        except OSError as exc:
            self.connection.close()
            os.close(self._lifeline)
            raise not_started(str(exc)) from exc
        finally:
            theirs.close()
            os.close(read_end)
        self.sentinels: list[int] = []
        with contextlib.suppress(OSError, AttributeError):  # a kernel without it
            self.sentinels.append(os.pidfd_open(self.process.pid))
        self.poll_seconds = None if self.sentinels else POLL_SECONDS
        memory = options.memory_mb * 1024 * 1024 if options.memory_mb is not None else None
        self._is_greeted = False
        self._hello = pickle.dumps(("hello", list(sys.path), _main_module(), memory))

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; it may have left messages."""
        return self.process.poll() is not None and not self.connection.poll()

    def send(self, message: bytes) -> None:
        """Hand a call over, which wakes the worker for the first time.

        Raises:
            OSError: It has ended, and has not made the call.
        """
        if not self._is_greeted:
            self.connection.send_bytes(self._hello)
            self._is_greeted = True
        elif self.process.poll() is not None:
            raise BrokenPipeError
        self.connection.send_bytes(message)

    def end(self, grace_seconds: float) -> str:
        """End the process and all it has started, wherever that went; return how it ended."""
        if self.process.poll() is None:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_seconds)
        self._signal_group(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(REAP_SECONDS)
        self._end_what_left_the_group()
        self.connection.close()
        os.close(self._lifeline)
        for descriptor in self.sentinels:
            os.close(descriptor)
        code = self.process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _end_what_left_the_group(self) -> None:
        with contextlib.suppress(
            RuntimeError
        ):  # the interpreter is ending: no thread can be started any more
            anyio.run(functools.partial(end_processes, carries_any_part([self._mark]), grace_seconds=0))


def not_started(reason: str) -> AttemptFailedError:
    """Return the failure of a call no worker could be started for."""
    return AttemptFailedError(f"No worker process could be started: {reason}.", "worker_not_started")


def _our_stderr() -> int:
    """Return where a worker writes: our standard error, if there is one."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _main_module() -> dict[str, str | None]:
    """Return how a worker finds the program's main module, should a call name something in it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None)
    return {
        "name": spec.name if spec is not None else None,
        "path": str(Path(path).resolve()) if path else None,
    }
