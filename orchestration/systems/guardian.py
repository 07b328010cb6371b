"""Ends processes of ours that would outlive us, however we end: `kill -9` and the kernel's own killer included.

May import: orchestration.logs, orchestration.systems.marked_processes, stdlib.

A process that is killed can end nothing any more, so another one must: the guardian, a small Python program of its own
(`guardian_program.py`) that is started with the first process to be watched and ended with the last. It holds one end
of a pipe whose other end only this process has. What is to be watched is written into it, by the mark every process of
a family carries in its environment; when the pipe breaks, or this process is gone, the guardian ends whatever still
carries a mark. On a platform without `/proc` it ends the process groups.

The guardian is a convenience, never a condition: where it can't be started, processes run unwatched.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from orchestration.logs import get_logger
from orchestration.systems.marked_processes import MARK_VARIABLE

PROGRAM = Path(__file__).with_name("guardian_program.py")

END_SECONDS = 2.0
"""Longest wait for a guardian that has nothing to watch to end; it needs a few milliseconds."""


class Guardian:
    """Has one guardian process at a time, while there is something to watch. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._watched: dict[str, int] = {}

    @contextlib.contextmanager
    def watching(self, mark: str, pid: int) -> Iterator[None]:
        """Have a family of processes ended should this process die meanwhile.

        Blocks for the few milliseconds it takes to start the guardian, for the first one.

        Args:
            mark: What all of them carry in their environment.
            pid: The one that leads their process group.
        """
        with self._lock:
            self._start()
            self._watched[mark] = pid
            self._tell(f"+{mark} {pid}")
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(mark, None)
                self._tell(f"-{mark} {pid}")
                if not self._watched:
                    self._end()

    @property
    def pid(self) -> int | None:
        """Return the process id of the guardian, while there is one."""
        process = self._process
        return None if process is None else process.pid

    def _start(self) -> None:
        if self._owner != os.getpid():  # a fork has the guardian of its parent, which watches that one
            self._process, self._watched, self._owner = None, {}, os.getpid()
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._end()  # somebody has killed it
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own program, nobody's input)
                [sys.executable, "-I", "-S", str(PROGRAM), str(os.getpid()), MARK_VARIABLE],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/" if os.name == "posix" else None,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            self._process = None
            get_logger().warning(
                "No guardian for child processes", operation="GUARDIAN_FAILED", reason=str(exc)
            )
        for mark, pid in self._watched.items():
            self._tell(f"+{mark} {pid}")

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None and self._owner == os.getpid():
            with contextlib.suppress(OSError):  # somebody has killed it; the next start makes another
                self._process.stdin.write(f"{line}\n".encode())

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


guardian = Guardian()
"""The one of this process: a second would only cost memory."""
