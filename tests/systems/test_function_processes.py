"""Functions that run on an engine: in worker processes, and on any executor."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.errors import InvalidArgumentError, SystemUnavailableError
from orchestration.systems.base import error_record
from orchestration.systems.engines import ENGINES
from orchestration.systems.function import FunctionSystem
from orchestration.systems.process_pool import ProcessOptions
from tests.systems import worker_functions as functions
from tests.systems.support import IDEMPOTENCY_KEY, a_request, failure_of, is_alive, pids_in, until

pytestmark = pytest.mark.anyio


on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""Also in a quick run: what a loop itself does, it does in its own way."""


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run everything here on both; on the second one with `make test-all`."""
    backend: str = request.param
    return backend


@asynccontextmanager
async def processes(*tools: Any, **options: Any) -> AsyncIterator[FunctionSystem]:
    """Give a system of functions, called by their names, in one worker process."""
    system = FunctionSystem(
        {tool.__name__: tool for tool in tools},
        engine="process",
        processes=ProcessOptions(**{"workers": 1, **options}),
    )
    try:
        yield system
    finally:
        await system.aclose()


async def test_everything_an_attempt_is_told_crosses_over() -> None:
    """Inputs, context, the key, the attempt's id and the heartbeat."""
    beats: list[int] = []
    async with processes(functions.told) as system:
        output: Any = await system.execute(
            a_request(
                "told",
                inputs={"a": [1]},
                context={"c": "é"},
                attempt=2,
                heartbeat=lambda: beats.append(1),
            )
        )

    *seen, pid = output
    assert seen == [{"a": [1]}, {"c": "é"}, IDEMPOTENCY_KEY, "t#2"]
    assert beats == [1]
    assert pid != os.getpid()


@on_both_loops
async def test_a_cancelled_attempt_has_ended_when_the_cancellation_leaves(tmp_path: Path) -> None:
    """The worker and all that it started, here by a time limit; the next attempt gets another worker."""
    pids = tmp_path / "pids"
    async with processes(functions.wait_with_child, functions.add) as system:
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request("wait_with_child", {"path": str(pids)}))
            await until(pids.exists)
            attempts.cancel_scope.cancel()

        assert not any(is_alive(pid) for pid in pids_in(pids))
        assert await system.execute(a_request("add", {"a": 1})) == 3


async def test_a_crash_is_one_failed_attempt_that_leaves_its_effect_open() -> None:
    """Whether a task that must not run twice ran is not known."""
    async with processes(functions.crash, functions.add) as system:
        error = await failure_of(system, a_request("crash"))

        assert (error.code, error.retryable, error.effect_open) == ("worker_died", True, True)
        assert await system.execute(a_request("add", {"a": 1})) == 3


async def test_what_would_end_more_than_the_attempt_does_not() -> None:
    """`sys.exit` in a worker is a failure here, as on a thread."""
    async with processes(functions.raise_system_exit) as system:
        error = await failure_of(system, a_request("raise_system_exit"))

    assert (error.code, error.retryable) == ("system_exit", False)
    assert str(error) == "raise_system_exit raised SystemExit: enough."


async def test_an_odd_exception_still_gives_its_name_and_words() -> None:
    """And so its code."""
    async with processes(functions.raise_odd) as system:
        with pytest.raises(functions.OddError) as caught:
            await system.execute(a_request("raise_odd"))

    record = error_record(caught.value, "s", 1)
    assert (record.code, record.message, record.retryable) == ("odd_error", "5: no paper", True)


async def test_functions_are_found_by_import_string() -> None:
    """As a configuration names them."""
    system = FunctionSystem.from_import_strings(
        {"pid": "tests.systems.worker_functions:pid"},
        engine="process",
        processes=ProcessOptions(workers=1),
    )

    assert await system.execute(a_request("pid")) != os.getpid()

    await system.aclose()


async def test_a_worker_knows_its_driver() -> None:
    """So that whoever takes over finds what it has started."""
    async with processes(functions.environment) as system:
        variables: Any = await system.execute(a_request("environment", driver="driver-7"))

    assert variables["ADVANCED_ORCHESTRATION_DRIVER"] == "driver-7"


async def test_a_function_no_worker_could_find_is_refused_at_once() -> None:
    """A lambda or a closure; on a thread it does as well as any."""
    with pytest.raises(InvalidArgumentError, match=r"functions\['f'\].*define it at the top of a module"):
        FunctionSystem({"f": lambda: 1}, engine="process")


@pytest.mark.parametrize(("engine", "expected"), [("fork", "one of: thread, process"), (7, "Executor")])
async def test_an_unknown_engine_is_refused_with_those_there_are(engine: Any, expected: str) -> None:
    """A name that stands for none, and a thing that is none."""
    with pytest.raises(InvalidArgumentError, match=expected):
        FunctionSystem({}, engine=engine)

    assert list(ENGINES) == ["process"]


async def test_any_executor_does() -> None:
    """In the same process it even hears the heartbeat; it stays the caller's to shut down."""
    beats: list[int] = []
    with ThreadPoolExecutor(1) as executor:
        system = FunctionSystem({"add": functions.add_async, "beat": functions.beat}, engine=executor)

        assert await system.execute(a_request("add", {"a": 1})) == 3
        await system.execute(a_request("beat", heartbeat=lambda: beats.append(1)))
        await system.aclose()

        assert executor.submit(functions.add, 1).result(5) == 3
    assert beats == [1]
    with pytest.raises(SystemUnavailableError, match="shutdown"):
        await system.execute(a_request("add", {"a": 1}))


@on_both_loops
async def test_on_another_executor_a_cancelled_attempt_ends_though_its_call_goes_on() -> None:
    """Best effort: what runs there can't be stopped."""
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(5)

    with ThreadPoolExecutor(1) as executor:
        system = FunctionSystem({"work": work}, engine=executor)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as attempts:
                attempts.start_soon(system.execute, a_request("work"))
                await until(begun.is_set)
                attempts.cancel_scope.cancel()
        assert not may_end.is_set()
        may_end.set()


class Closing(Executor):
    """Drops what it was given, as one does that is shut down meanwhile."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


@on_both_loops
async def test_a_call_its_executor_drops_is_open() -> None:
    """It may have been dropped in the middle."""
    error = await failure_of(
        FunctionSystem({"add": functions.add}, engine=Closing()), a_request("add", {"a": 1})
    )

    assert (error.code, error.effect_open) == ("engine_closed", True)


@pytest.mark.slow
async def test_a_standard_process_pool_does_too() -> None:
    """It breaks as a whole when one of its workers dies; its heartbeats stay unheard."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        system = FunctionSystem(
            {"add": functions.add, "beat": functions.beat, "die": functions.exit_at_once}, engine=executor
        )

        assert await system.execute(a_request("add", {"a": 1})) == 3
        await system.execute(a_request("beat"))
        error = await failure_of(system, a_request("die"))
        assert (error.code, error.effect_open) == ("worker_died", True)
        with pytest.raises(SystemUnavailableError):
            await system.execute(a_request("add", {"a": 1}))
