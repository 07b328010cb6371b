"""A pool of worker processes that survives what its functions do: one that dies takes one call with it.

May import: orchestration.errors, orchestration.systems.{base, carried_errors, signs, worker_process}, stdlib.

`ProcessPool` is a `concurrent.futures.Executor` that promises more than the standard one:

* A worker that dies (`os._exit`, a segmentation fault, SIGKILL, memory) fails its own call; the others go on, and the
  next call gets a new worker.
* `cancel()` of a running future ends the work: the worker is killed with everything it has started. The future is done
  when that has happened.
* A worker ends with this process, however this process ends (`process_worker.py` says how).
* A worker sees a small environment, and its standard output is our standard error: standard output may be a protocol.

One thread looks after each worker: it starts the worker when the first call comes, hands it one call at a time, is the
only one that ends and reaps it, and goes, with its worker, when there has been nothing to do for a while.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, ParamSpec, TypeVar

from orchestration.errors import AttemptFailedError
from orchestration.systems.base import bounded
from orchestration.systems.carried_errors import rebuilt
from orchestration.systems.signs import Heartbeat, ProgressReport, RemoteFunction
from orchestration.systems.worker_process import NoMessageError, ProcessOptions, WorkerProcess, not_started

__all__ = ["ProcessOptions", "ProcessPool"]

P = ParamSpec("P")
T = TypeVar("T")


class ProcessPool(Executor):
    """A pool of worker processes.

    Functions and arguments are pickled; a `RemoteFunction` with an import string is found by it over there. A
    `Heartbeat` or `ProgressReport` given as an argument works from there.

    Args:
        options: How workers are kept.
        name: What the pool is called in messages.
    """

    ends_running_calls = True
    """That `cancel()` of a running future ends the work, and the future with it."""

    def __init__(self, options: ProcessOptions | None = None, name: str = "processes") -> None:
        self.name = name
        self.options = options or ProcessOptions()
        self.workers = self.options.workers or os.cpu_count() or 1
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._keepers: set[_Keeper] = set()
        self._idle = 0
        self._is_closed = False

    @property
    def worker_pids(self) -> list[int]:
        """Return the ids of the worker processes there are now."""
        with self._changed:
            return sorted(keeper.pid for keeper in self._keepers if keeper.pid is not None)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call made in a worker, and return its future.

        The future fails with what the function raised, or with an `AttemptFailedError`: `worker_died`,
        `worker_not_started`, `resource_limit`, `unpicklable_arguments`, `unpicklable_result`.

        Raises:
            RuntimeError: The pool has been shut down.
        """
        job = _Job(fn, args, kwargs)
        with self._changed:
            if self._is_closed:
                raise RuntimeError(f"{self.name} has been shut down, so no further call is made.")
            self._waiting.append(job)
            if self._idle < len(self._waiting) and len(self._keepers) < self.workers:
                keeper = _Keeper(self)
                self._keepers.add(keeper)
                keeper.start()
            self._changed.notify()
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls and end each worker when there is none left for it; idempotent.

        Args:
            wait: Whether to return only when all workers have ended.
            cancel_futures: Whether to drop the calls that have not begun.
        """
        with self._changed:
            self._is_closed = True
            dropped = list(self._waiting) if cancel_futures else []
            keepers = list(self._keepers)
            self._changed.notify_all()
        for job in dropped:
            job.cancel()
        if wait:
            for keeper in keepers:
                keeper.join()

    def stop(self) -> None:
        """Cancel every call, end every worker, and return when all have ended."""
        with self._changed:
            self._is_closed = True
            running = [keeper.job for keeper in self._keepers]
        self.shutdown(wait=False, cancel_futures=True)
        for job in running:
            if job is not None:
                job.cancel()
        self.shutdown()

    def next_job(self, keeper: _Keeper) -> _Job | None:
        """Wait for the next call; None when the keeper should go, which the pool has then forgotten."""
        with self._changed:
            self._idle += 1
            try:
                while not self._waiting:
                    if self._is_closed or not self._changed.wait(self.options.idle_seconds):
                        if self._waiting:
                            break
                        self._keepers.discard(keeper)
                        return None
                keeper.job = self._waiting.popleft()
                return keeper.job
            finally:
                self._idle -= 1


class _Job(Future[Any]):
    """One call, as a future whose `cancel` ends it although it runs."""

    def __init__(
        self, function: Callable[..., Any], positional: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        super().__init__()
        self.call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
        self.call = (function, positional, keywords)
        self.heartbeat: Heartbeat | None = None
        self.progress: ProgressReport | None = None
        self.is_stopped = False
        self.wake: Callable[[], None] = lambda: None

    def cancel(self) -> bool:
        """End the call, also when it runs; False when it has ended already."""
        if super().cancel():
            return True
        if self.done():
            return False
        self.is_stopped = True
        self.wake()
        return True

    def message(self) -> bytes:
        """Return the call as it is sent to a worker."""
        assert self.call is not None
        function, positional, keywords = self.call
        arguments, named = list(positional), dict(keywords)
        places: dict[int | str, str] = {}
        everything: list[tuple[int | str, Any]] = [*enumerate(positional), *keywords.items()]
        for place, value in everything:
            if isinstance(value, Heartbeat):
                self.heartbeat, places[place] = value, "heartbeat"
            elif isinstance(value, ProgressReport):
                self.progress, places[place] = value, "progress"
        for place in places:
            if isinstance(place, int):
                arguments[place] = None
            else:
                named[place] = None
        target: str | None = None
        variables: dict[str, str] = {}
        if isinstance(function, RemoteFunction):
            target, variables = function.target, function.variables
            function = function.function
        sent = None if target else function
        return pickle.dumps(
            ("call", target, sent, variables, places, arguments, named), pickle.HIGHEST_PROTOCOL
        )


class _Keeper(threading.Thread):
    """Looks after one worker."""

    def __init__(self, pool: ProcessPool) -> None:
        super().__init__(name=f"{pool.name} keeper", daemon=True)
        self.job: _Job | None = None
        self._pool = pool
        self._worker: WorkerProcess | None = None
        self._wake, self._waker = Pipe(duplex=False)

    @property
    def pid(self) -> int | None:
        """Return the worker's process id; None while there is none."""
        worker = self._worker
        return worker.process.pid if worker is not None else None

    def run(self) -> None:
        """Make calls, one after the other."""
        try:
            while (job := self._pool.next_job(self)) is not None:
                job.wake = self._wake_up
                if job.set_running_or_notify_cancel():
                    self._settle(job)
                job.call, job.wake = None, lambda: None  # the arguments must not live on with the future
                self.job = None
                del job
        finally:
            self._end_worker()
            self._wake.close()
            self._waker.close()

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # it has gone meanwhile, and the call has ended
            self._waker.send_bytes(b"!")

    def _settle(self, job: _Job) -> None:
        """Make a call and say how it ended."""
        try:
            value = self._make(job)
        except BaseException as exc:  # noqa: BLE001  (handed to the caller, whatever it is)
            job.set_exception(exc)
        else:
            job.set_result(value)

    def _make(self, job: _Job) -> Any:
        try:
            message = job.message()
        except Exception as exc:
            raise _unpicklable("arguments", f"{type(exc).__name__}: {exc}") from exc
        worker = self._sent(message, job)
        limit = self._pool.options.max_tasks_per_worker
        try:
            value = self._watch(job, worker)
        except MemoryError as exc:
            self._end_worker()  # who knows what is missing in it
            mb = self._pool.options.memory_mb
            if mb is None:
                raise
            raise AttemptFailedError(
                f"The worker process went over its limit memory_mb: {mb}. "
                "Fix: use less memory, or raise the limit.",
                "resource_limit",
                retryable=False,
            ) from exc
        finally:
            worker.calls += 1
            if limit is not None and worker.calls >= limit:
                self._end_worker()
        return value

    def _sent(self, message: bytes, job: _Job) -> WorkerProcess:
        """Hand a message to a worker that lives: one that died while it was idle never had it."""
        for is_last_try in (False, True):
            worker = self._worker
            if worker is None:
                worker = self._worker = WorkerProcess(self._pool.options)
            try:
                worker.send(message, lambda: job.is_stopped, self._wake)
            except OSError:
                self._end_worker()
                if is_last_try:
                    raise not_started("it ended before it took its call") from None
            except BaseException:
                self._end_worker()
                raise
            else:
                return worker
        raise AssertionError("unreachable")

    def _watch(self, job: _Job, worker: WorkerProcess) -> Any:
        """Return or raise what the function did.

        Raises:
            CancelledError: It was stopped; all of it has ended.
            AttemptFailedError: The worker died.
        """
        while True:
            if job.is_stopped:
                self._end_worker()
                raise CancelledError
            ready = wait([worker.connection, self._wake, *worker.sentinels], worker.poll_seconds)
            if self._wake in ready:
                self._wake.recv_bytes()
                continue
            if worker.connection in ready:
                for message in self._messages(worker):
                    match message:
                        case ("result", value):
                            return value
                        case ("error", chain):
                            raise rebuilt(chain)
                        case ("unpicklable", what, why):
                            raise _unpicklable(what, why)
                        case _ if not _pass_on(message, job):
                            raise self._wrote(f"it begins {bounded(repr(message), 50)}")
            elif worker.has_ended:
                raise self._died()

    def _messages(self, worker: WorkerProcess) -> Iterator[Any]:
        """Yield what has come from a worker.

        Raises:
            AttemptFailedError: It died, it wrote what is no message, or a result can't be read here.
        """
        received = worker.receive()
        while True:
            try:
                data = next(received, None)
            except NoMessageError as exc:
                raise self._wrote(str(exc)) from None
            except (EOFError, OSError):
                raise self._died() from None
            if data is None:
                return
            try:
                message = pickle.loads(data)  # noqa: S301  (from a function we chose)
            except Exception as exc:
                raise _unpicklable("result", f"{type(exc).__name__}: {exc}") from exc
            yield message

    def _wrote(self, what: str) -> AttemptFailedError:
        """End a worker that wrote to the pipe of its answers what is none, and return the failure of its call."""
        self._end_worker()
        return AttemptFailedError(
            f"The worker process wrote to the pipe of its answers what is no answer ({what}), and was ended. "
            "Fix: let the function write only to files that it has opened itself.",
            "worker_died",
            effect_open=True,
        )

    def _died(self) -> AttemptFailedError:
        """Return the failure of a call whose worker has died."""
        how = self._end_worker()
        limit = self._pool.options.memory_mb
        hint = f" It may have gone over its limit memory_mb: {limit}." if limit is not None else ""
        return AttemptFailedError(
            f"The worker process died in the middle of the call ({how}).{hint}",
            "worker_died",
            effect_open=True,
        )

    def _end_worker(self) -> str:
        """End the worker and all it has started; return how it ended."""
        worker, self._worker = self._worker, None
        return worker.end(self._pool.options.kill_grace_seconds) if worker is not None else ""


def _pass_on(message: Any, job: _Job) -> bool:
    """Hand a sign of life on; return whether it was one."""
    match message:
        case ("beat",):
            if job.heartbeat is not None:
                job.heartbeat()
        case ("progress", done, total, words):
            if job.progress is not None:
                job.progress(done, total, words)
        case ("ready",):
            pass
        case _:
            return False
    return True


def _unpicklable(what: str, why: str) -> AttemptFailedError:
    """Return the failure of a call that can't be sent, or whose result can't."""
    is_result = what.startswith("result")
    return AttemptFailedError(
        f"The {what} can't be handed to another process ({why}). "
        "Fix: use values that pickle, such as those of JSON, or run this function with `engine: thread`.",
        "unpicklable_result" if is_result else "unpicklable_arguments",
        retryable=False,
        effect_open=is_result,
    )
