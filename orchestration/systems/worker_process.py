"""One worker process, seen from the program that started it: how it is started, woken, handed a call, and ended.

May import: orchestration.errors, orchestration.systems.{marked_processes, small_environment}, anyio, stdlib.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import anyio

from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.systems.marked_processes import MARK_VARIABLE, carries_any_part, end_processes, new_mark
from orchestration.systems.small_environment import inherited_environment

POLL_SECONDS = 0.25
"""How often to look whether a worker has died, on a system where nothing announces it."""

REAP_SECONDS = 5.0
"""Longest wait for a killed worker; only one stuck in the kernel takes it."""

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Longest message of a worker. It is also how garbage is told: text read as a length is far more than that."""

CHUNK_BYTES = 1024 * 1024

_LENGTH = struct.Struct("!i")
"""What stands before each message, as `multiprocessing` writes it; -1 is followed by a longer one."""

_LONG_LENGTH = struct.Struct("!iQ")

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


class NoMessageError(Exception):
    """A worker wrote to its pipe what is no message; the text says what it was."""


class WorkerProcess:
    """One worker process, seen from here; only the thread that made it touches it.

    Nothing here waits for the pipe alone: a function can write to it, or keep its worker from reading it.

    Raises:
        AttemptFailedError: It could not be started (`worker_not_started`).
    """

    def __init__(self, options: ProcessOptions) -> None:
        self.calls = 0
        self._mark = new_mark()
        self.connection, theirs = Pipe()
        os.set_blocking(self.connection.fileno(), False)  # this end only
        self._incoming = bytearray()
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
        self._hello = pickle.dumps(("hello", list(sys.path), _main_module(), memory, MAX_MESSAGE_BYTES))

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; it may have left messages."""
        return self.process.poll() is not None and not self.connection.poll()

    def send(self, message: bytes, is_stopped: Callable[[], bool], wake: Connection) -> None:
        """Hand a call over, which wakes the worker for the first time; in part only when the call is stopped.

        Args:
            message: The call.
            is_stopped: Whether the call has been stopped.
            wake: What can be read when the answer to that may have changed.

        Raises:
            OSError: It has ended, or written what nobody asked for, and has not made the call.
        """
        if not self._is_greeted:
            self._write(_framed(self._hello), is_stopped, wake)
            self._is_greeted = True
        elif self.process.poll() is not None or self._incoming or self.connection.poll():
            raise BrokenPipeError
        self._write(_framed(message), is_stopped, wake)

    def _write(self, data: bytes, is_stopped: Callable[[], bool], wake: Connection) -> None:
        number = self.connection.fileno()
        left = memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(number, selectors.EVENT_WRITE)
            selector.register(wake, selectors.EVENT_READ)
            for sentinel in self.sentinels:
                selector.register(sentinel, selectors.EVENT_READ)
            while left and not is_stopped():
                ready = {key.fileobj for key, _ in selector.select(self.poll_seconds)}
                if wake in ready:
                    wake.recv_bytes()
                if self.process.poll() is not None:
                    raise BrokenPipeError
                if number in ready:
                    with contextlib.suppress(BlockingIOError):
                        left = left[os.write(number, left[:CHUNK_BYTES]) :]

    def receive(self) -> Iterator[bytearray]:
        """Read once, and yield each message that is whole; what has come of the next one is kept.

        Raises:
            EOFError: It has closed its end.
            OSError: The connection is lost.
            NoMessageError: It wrote something else.
        """
        try:
            chunk = os.read(self.connection.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            raise EOFError
        self._incoming += chunk
        while len(self._incoming) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._incoming)
            if not 0 < size <= MAX_MESSAGE_BYTES:
                raise NoMessageError(f"it begins {bytes(self._incoming[:16])!r}")
            end = _LENGTH.size + size
            if len(self._incoming) < end:
                return
            message = self._incoming[_LENGTH.size : end]
            if not (message.startswith(b"\x80") and message.endswith(b".")):  # every pickle does
                raise NoMessageError(f"it begins {bytes(self._incoming[:16])!r}")
            del self._incoming[:end]
            yield message

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


def _framed(message: bytes) -> bytes:
    """Return a message with its length before it."""
    is_long = len(message) > 0x7FFF_FFFF
    return (_LONG_LENGTH.pack(-1, len(message)) if is_long else _LENGTH.pack(len(message))) + message


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
