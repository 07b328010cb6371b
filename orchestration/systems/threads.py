"""Runs blocking calls on daemon threads: one that nobody can stop never holds up the end of the program.

May import: orchestration.errors, anyio, stdlib.

Why not `anyio.to_thread`: its threads are not daemons. A function that hangs is abandoned when its attempt is
cancelled, but the interpreter would still wait for it at exit. Here the number of calls at once is limited,
and so is the number of abandoned ones that are still running.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from orchestration.errors import AttemptFailedError

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""How long a thread without work stays."""

ABANDONED_PER_THREAD = 4
"""For each thread of the limit, how many abandoned calls may still run before new ones are refused."""


class DaemonThreads:
    """A pool of daemon threads for one event loop.

    Args:
        limit: Calls that may run at once; more wait for a thread.
        name: What the threads are called.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.name = name
        self.abandoned = 0
        """Calls that were given up and have not ended yet."""
        self._limit = limit
        self._limiter = anyio.CapacityLimiter(limit)
        self._idle: deque[_Worker] = deque()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises, `BaseException` included.

        A cancelled caller leaves at once; the call itself can't be stopped and goes on, its result unheard.

        Raises:
            AttemptFailedError: Too many abandoned calls are still running (`threads_exhausted`).
        """
        if self.abandoned >= self._limit * ABANDONED_PER_THREAD:
            raise AttemptFailedError(
                f"{self.abandoned} calls of {self.name} that were cancelled or timed out are still running, "
                "so no further one is started. Fix: give the functions time limits of their own.",
                "threads_exhausted",
            )
        async with self._limiter:
            job = _Job(call)
            self._take_worker().jobs.put(job)
            try:
                await job.done.wait()
            except BaseException:
                if not job.done.is_set():
                    job.abandoned_by = self
                    self.abandoned += 1
                raise
        return job.outcome()

    def close(self) -> None:
        """Let idle threads end; busy ones end after their call."""
        while self._idle:
            self._idle.pop().jobs.put(None)

    def _take_worker(self) -> _Worker:
        try:
            return self._idle.pop()
        except IndexError:
            worker = _Worker(self._idle, self.name)
            worker.start()
            return worker


class _Job(Generic[T]):
    """One call on its way through a thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.done = anyio.Event()
        self.abandoned_by: DaemonThreads | None = None
        self._call = call
        self._context = _thread_context()
        self._announce = announcer()
        self._result: T
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, in the thread."""
        try:
            self._result = self._context.run(self._call)
        except BaseException as exc:  # noqa: BLE001  (handed to the caller, whatever it is)
            self._error = exc

    def report(self) -> None:
        """Tell the event loop, if it still runs, that the call has ended."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._announce(self._finish)

    def _finish(self) -> None:
        if self.abandoned_by is not None:
            self.abandoned_by.abandoned -= 1
        self.done.set()

    def outcome(self) -> T:
        """Return or raise what the call did."""
        if self._error is not None:
            raise self._error
        return self._result


class _Worker(threading.Thread):
    """A thread that makes calls until it has been idle for a while."""

    def __init__(self, idle: deque[_Worker], name: str) -> None:
        super().__init__(name=f"{name} worker", daemon=True)
        self.jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._idle = idle

    def run(self) -> None:
        """Take jobs, one after the other."""
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # taken meanwhile: a job is on its way
                return
            if job is None:
                return
            job.run()
            self._idle.append(self)
            job.report()
            del job  # the result must not live on while the thread is idle


def announcer() -> Callable[[Callable[[], None]], object]:
    """Return what lets another thread have something called on this event loop, without waiting for it.

    `anyio.from_thread.run_sync` would wait, which doubles the cost of a call.
    """
    loop: Any = anyio.lowlevel.current_token().native_token
    announce: Callable[[Callable[[], None]], object]
    announce = loop.call_soon_threadsafe if hasattr(loop, "call_soon_threadsafe") else loop.run_sync_soon
    return announce


def _thread_context() -> Context:
    """Return a copy of the context that knows of no running event loop: the call may start one."""
    context = copy_context()
    for variable in context:
        if variable.name == "current_async_library_cvar":
            context.run(variable.set, None)
    return context
