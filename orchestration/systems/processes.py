"""Runs one child process to its end, or ends it with everything it started. Nothing here knows about tasks.

May import: orchestration.systems.marked_processes, anyio, stdlib.

The child leads a session and process group of its own, so that everything it starts can be signalled at once; what
leaves the group is known by the mark in its environment (`marked_processes.py`). When the call is cancelled or fails:
SIGTERM to the group and to whatever carries the mark, SIGKILL after a grace, then the child is reaped; only then does
the exception leave.

When the program ends by itself, what it left in its group is killed: a command ends with its program. What it left
*outside* its group depends on how it ended:

* With another exit code than 0, all of it is ended: the next attempt must not meet the remains of this one.
* So it is when something was left in the group, or holds the output open: such a program does not clean up behind
  itself.
* A program that ended well, whose group is empty and whose output is closed, may have started a daemon on purpose (a
  build server, a key agent), by all the rules of doing so. That stays, as it would after a shell; and the common case
  costs no look at all processes of the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc

from orchestration.systems.marked_processes import (
    MARK_VARIABLE,
    carries_any_part,
    carries_mark,
    end_processes,
    find_processes,
    new_mark,
)

STDERR_TAIL_BYTES = 64 * 1024
"""How much of the end of standard error is kept; more than any message shows."""

POLL_SECONDS = 0.05
"""How often to look whether a program has ended whose output is still open, and whether a group is gone."""

REAP_SECONDS = 5.0
"""Longest wait for a killed process; only one stuck in the kernel takes it."""


class OutputTooLargeError(Exception):
    """Standard output went over its limit; the process has been ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended and what it wrote."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    stdout: bytes
    stderr_tail: bytes

    @property
    def signal_name(self) -> str | None:
        """Return the name of the signal that ended it; None when it exited."""
        if self.exit_code >= 0:
            return None
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return str(-self.exit_code)


async def run_process(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    stdin: bytes | None,
    max_output_bytes: int,
    timeout_seconds: float | None,
    kill_grace_seconds: float,
    on_output: Callable[[], None] = lambda: None,
    on_stdout: Callable[[bytes], None] = lambda _: None,
) -> Ended:
    """Run a program and return how it ended.

    Args:
        argv: The program and its arguments.
        env: Its whole environment, but for the mark that is added.
        cwd: Folder it runs in; this program's own when absent.
        stdin: What it reads; nothing when absent.
        max_output_bytes: Most it may write to standard output.
        timeout_seconds: Longest it may take; as long as it wants when absent.
        kill_grace_seconds: How long it may take to end after SIGTERM before it is killed.
        on_output: Called whenever it has written something.
        on_stdout: Called with each piece it has written to standard output, cut anywhere.

    Raises:
        OSError: It could not be started.
        TimeoutError: It ran longer than `timeout_seconds`.
        OutputTooLargeError: It wrote more than `max_output_bytes`.
    """
    mark = new_mark()
    with anyio.CancelScope(shield=True):  # a cancellation between fork and here would lose the child
        process = await anyio.open_process(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**env, MARK_VARIABLE: mark},
            start_new_session=True,
        )
    run = _Run(process, max_output_bytes, on_output, on_stdout)
    is_tidy = False
    try:
        with anyio.fail_after(timeout_seconds):
            ended = await run.to_the_end(stdin)
        is_tidy = ended.exit_code == 0 and not run.left_something
        return ended
    finally:
        with anyio.CancelScope(shield=True):
            await _end_everything(process, mark, kill_grace_seconds, is_tidy=is_tidy)
            await release(process)


class _Run:
    """A running process with what it has written so far."""

    def __init__(
        self,
        process: anyio.abc.Process,
        max_output_bytes: int,
        on_output: Callable[[], None],
        on_stdout: Callable[[bytes], None],
    ) -> None:
        self.left_something = False
        """Whether anything of its group outlived it, or holds its output open."""
        self._process = process
        self._max_output_bytes = max_output_bytes
        self._on_output = on_output
        self._on_stdout = on_stdout
        self._stdout = bytearray()
        self._stderr_tail = bytearray()
        self._is_too_large = False

    async def to_the_end(self, stdin: bytes | None) -> Ended:
        """Feed and read the process until it has ended."""
        async with anyio.create_task_group() as reading:
            if stdin is not None:
                reading.start_soon(self._feed, stdin)
            reading.start_soon(self._watch, reading.cancel_scope)
            async with anyio.create_task_group() as pipes:
                pipes.start_soon(self._read_stdout, reading.cancel_scope)
                pipes.start_soon(self._read_stderr)
            await self._process.wait()
            reading.cancel_scope.cancel()
        if self._is_too_large:
            raise OutputTooLargeError
        exit_code = self._process.returncode
        assert exit_code is not None
        return Ended(exit_code, bytes(self._stdout), bytes(self._stderr_tail))

    async def _feed(self, data: bytes) -> None:
        stream = self._process.stdin
        if stream is not None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await stream.send(data)  # a program may end without reading
            with contextlib.suppress(anyio.BrokenResourceError, OSError):
                await stream.aclose()

    async def _read_stdout(self, scope: anyio.CancelScope) -> None:
        if self._process.stdout is not None:
            async for chunk in self._process.stdout:
                self._on_output()
                self._on_stdout(chunk)
                self._stdout += chunk
                if len(self._stdout) > self._max_output_bytes:
                    self._is_too_large = True
                    scope.cancel()
                    return

    async def _read_stderr(self) -> None:
        if self._process.stderr is not None:
            async for chunk in self._process.stderr:
                self._on_output()
                self._stderr_tail += chunk
                del self._stderr_tail[:-STDERR_TAIL_BYTES]

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Stop reading when the program has ended but something it left behind holds its output open."""
        await _exit_of(self._process, POLL_SECONDS)
        self.left_something = signal_group(self._process.pid, signal.SIGKILL)
        await anyio.sleep(POLL_SECONDS * 4)  # the rest of the output is in the pipe: time to read it
        self.left_something = True
        scope.cancel()


def signal_group(pid: int, number: signal.Signals) -> bool:
    """Send a signal to the process group that `pid` leads; return whether there was one."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def _end_everything(
    process: anyio.abc.Process, mark: str, grace_seconds: float, *, is_tidy: bool
) -> None:
    """End the process, its group, and what left the group; the process has been reaped when this returns.

    Commands of a command that runs this program again are left to that one as long as the grace lasts.
    """
    everywhere = carries_any_part([mark])
    if process.returncode is None:
        async with anyio.create_task_group() as ending:
            ending.start_soon(_end_group, process, grace_seconds)
            ending.start_soon(_end_outside_group, process.pid, mark, grace_seconds)
    elif not await _end_group(process, grace_seconds) and is_tidy:
        return
    elif await find_processes(everywhere):
        await _end_outside_group(process.pid, mark, grace_seconds)
    else:
        return
    await end_processes(everywhere, grace_seconds=0)


async def _end_outside_group(pid: int, mark: str, grace_seconds: float) -> None:
    """End what left the group of `pid`; what is in it has had its signal."""
    await end_processes(
        carries_mark(mark), grace_seconds=grace_seconds, spares=lambda other: _group_of(other) == pid
    )


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


async def _end_group(process: anyio.abc.Process, grace_seconds: float) -> bool:
    """End the process and everything in its group, and return whether any of it had to be killed.

    The process has been reaped when this returns.
    """
    if process.returncode is None:
        signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(grace_seconds):
            await _exit_of(process, POLL_SECONDS / 5)
            await _end_of_group(process.pid)
    was_left = signal_group(process.pid, signal.SIGKILL)
    with anyio.move_on_after(REAP_SECONDS):
        await _exit_of(process, POLL_SECONDS / 5)
    return was_left


async def _exit_of(process: anyio.abc.Process, interval_seconds: float) -> None:
    """Wait until the process itself has exited; `wait()` would also wait for whoever holds its pipes."""
    while process.returncode is None:  # noqa: ASYNC110  (nothing announces it)
        await anyio.sleep(interval_seconds)


async def _end_of_group(pid: int) -> None:
    """Give the children of a program that ended on SIGTERM a moment to do the same."""
    for _ in range(4):
        if not signal_group(pid, signal.SIGTERM):
            return
        await anyio.sleep(POLL_SECONDS)


async def release(process: anyio.abc.Process, patience_seconds: float = POLL_SECONDS * 4) -> None:
    """Close the pipes, also where something outside the group still holds their other end."""
    with anyio.move_on_after(patience_seconds) as limit:
        await process.aclose()
    if limit.cancelled_caught:
        # asyncio closes the pipes only when the other end is gone; nothing public does it earlier.
        transport = getattr(getattr(process, "_process", None), "_transport", None)
        close = getattr(transport, "close", None)
        if callable(close):
            close()
