"""Where the functions of a `FunctionSystem` run when it is not in this process: the one seam for all engines.

May import: orchestration.errors, orchestration.systems.{process_pool, signs, threads}, anyio, stdlib.

An engine is a `concurrent.futures.Executor`: our own `ProcessPool`, one of the standard library, or what libraries
give that reach other machines (`MPIPoolExecutor` of mpi4py, `Client.get_executor()` of Dask, …). Of any of them
`submit` and `shutdown` are used, and of its futures `add_done_callback`, `cancel` and `result`.

An engine that sets `ends_running_calls = True` promises that `cancel()` of a running future ends the work, and that the
future is done soon after; a cancelled attempt then waits for that. With all others a call that runs can't be stopped:
its attempt ends at once, the call goes on unheard, and a repetition may meet it.

A further engine that a configuration may name is one more entry of `ENGINES`.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import Any, Protocol, runtime_checkable

import anyio

from orchestration.errors import AttemptFailedError, InvalidArgumentError, SystemUnavailableError
from orchestration.systems.process_pool import ProcessOptions, ProcessPool
from orchestration.systems.signs import RemoteFunction
from orchestration.systems.threads import announcer

END_SECONDS = 10.0
"""Longest wait for an engine to end a call that was cancelled, beyond what it asks for itself."""


@runtime_checkable
class Engine(Protocol):
    """What is needed of a `concurrent.futures.Executor`; whoever is one has it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a call made, and return its future."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls."""
        ...


def _process_pool(name: str, options: ProcessOptions) -> ProcessPool:
    return ProcessPool(options, name)


ENGINES: Mapping[str, Callable[[str, ProcessOptions], Engine]] = {"process": _process_pool}
"""How each engine that a name stands for is made, for a system's name and the options of its workers."""


def make_engine(engine: str, name: str, options: ProcessOptions | None = None) -> Engine:
    """Return a new engine of a kind.

    Raises:
        InvalidArgumentError: There is no such kind.
    """
    check_engine(engine)
    return ENGINES[engine](name, options or ProcessOptions())


def check_engine(engine: object) -> None:
    """Refuse what is neither the name of an engine nor one.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if isinstance(engine, str):
        if engine != "thread" and engine not in ENGINES:
            raise InvalidArgumentError(
                "engine", engine, f"one of: {', '.join(('thread', *ENGINES))}", "name one of these."
            )
    elif not isinstance(engine, Engine):
        expected = "the name of an engine, or a concurrent.futures.Executor"
        raise InvalidArgumentError("engine", engine, expected, 'write engine="process", or give an executor.')


def close_engine(engine: Engine) -> None:
    """End an engine and what runs on it; blocks until that has happened."""
    if isinstance(engine, ProcessPool):
        engine.stop()
    else:
        engine.shutdown(wait=False, cancel_futures=True)


async def run_on(
    engine: Engine,
    name: str,
    function: RemoteFunction,
    positional: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Any:
    """Return what a function gives when an engine calls it, or raise what it raises, `BaseException` included.

    When the caller is cancelled the call is, too; by an engine that can, it has been ended when this returns.

    Args:
        engine: Where it runs.
        name: What the function is called in errors.
        function: The function.
        positional: Its arguments by position.
        keywords: Its arguments by name.

    Raises:
        AttemptFailedError: The engine lost the call (`worker_died`, `engine_closed`), or could not hand over its
            arguments or result (`unpicklable_arguments`, `unpicklable_result`).
        SystemUnavailableError: The engine takes no calls any more; this one was not made.
    """
    try:
        future = engine.submit(function, *positional, **keywords)
    except (RuntimeError, BrokenExecutor) as exc:  # RuntimeError: it has been shut down
        raise SystemUnavailableError(name, str(exc) or type(exc).__name__) from exc
    await _until_done(future, getattr(engine, "ends_running_calls", False) is True)
    try:
        return future.result(0)
    except CancelledError:
        raise AttemptFailedError(
            f"The engine of {name} was closed before the call had ended.", "engine_closed", effect_open=True
        ) from None
    except BrokenExecutor as exc:
        raise AttemptFailedError(
            f"The engine of {name} broke in the middle of the call: {exc}", "worker_died", effect_open=True
        ) from exc
    except pickle.PicklingError as exc:
        raise AttemptFailedError(
            f"The arguments or the result of {name} can't be handed to another process ({exc}). "
            "Fix: use values that pickle, such as those of JSON.",
            "unpicklable_arguments",
            retryable=False,
            effect_open=True,
        ) from exc
    except StopIteration as exc:  # would come out of a coroutine as a RuntimeError
        raise AttemptFailedError(
            f"{name} raised {type(exc).__name__}.", "stop_iteration", retryable=False
        ) from exc


async def _until_done(future: Future[Any], ends_running_calls: bool) -> None:
    """Wait for a future; a cancelled caller cancels it first."""
    done = anyio.Event()
    announce = announcer()

    def tell(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            announce(done.set)

    future.add_done_callback(tell)
    try:
        await done.wait()
    except BaseException:
        future.cancel()
        if ends_running_calls:
            with anyio.CancelScope(shield=True), anyio.move_on_after(END_SECONDS):
                await done.wait()
        raise
