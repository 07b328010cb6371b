"""Control from anywhere: two orchestrators on one SQLite file, one drives, the other asks; or nobody drives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    NotPossibleError,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
)
from orchestration.errors import (
    ControlPendingError,
    InvalidArgumentError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    RefusedByDriverError,
    TaskNotFoundError,
)
from orchestration.execution.identity import this_process
from orchestration.options import OrchestratorOptions
from orchestration.ports import ControlAction, ControlRequest, DriverIdentity
from storage import SqliteStorage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Gate:
    """Tasks that wait until they are let go, or fail when told to."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.running: list[str] = []
        self.is_broken = True

    async def work(self, name: str = "") -> str:
        self.running.append(name)
        await self.open.wait()
        return name

    async def flaky(self) -> str:
        if self.is_broken:
            raise RuntimeError("it is broken")
        return "fine"


Build = Callable[..., AdvancedTaskOrchestrator]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def build(tmp_path: Path, gate: Gate) -> Build:
    """Make orchestrators on one file."""

    def build(**options: Any) -> AdvancedTaskOrchestrator:
        functions = {"work": gate.work, "flaky": gate.flaky}
        return create_advanced_task_orchestrator(
            systems={"python": FunctionSystem(functions)},
            state_manager=SqliteStorage(tmp_path / "state.db"),
            settings=OrchestratorOptions(max_retries=0, **options),
        )

    return build


def pair() -> TaskDAG:
    dag = TaskDAG("pair")
    dag.add_task(TaskNode("a", tool="work", arguments={"name": "a"}))
    dag.add_task(TaskNode("b", tool="work", arguments={"name": "b"}))
    dag.add_dependency(TaskEdge("a", "b"))
    return dag


def flaky() -> TaskDAG:
    dag = TaskDAG("flaky")
    dag.add_task(TaskNode("a", tool="flaky"))
    return dag


@asynccontextmanager
async def two(build: Build) -> AsyncIterator[tuple[AdvancedTaskOrchestrator, AdvancedTaskOrchestrator]]:
    """Give one that drives and one that asks, with a bound on the waiting."""
    with anyio.fail_after(20):
        async with build() as driver:
            asker = build()
            try:
                yield driver, asker
            finally:
                await asker.aclose()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)  # nothing announces it


# Driven elsewhere


async def test_another_process_pauses_and_resumes_what_this_one_drives(build: Build, gate: Gate) -> None:
    """Its requests are answered by the driver, and both see the same state."""
    async with two(build) as (driver, asker):
        name = await driver.submit(pair())
        await until(lambda: gate.running == ["a"])

        await asker.pause(name)
        assert driver.get_orchestration_status(name)["state"] == "paused"
        assert (await asker.load_status(name))["state"] == "paused"
        gate.open.set()
        await asker.resume(name)
        result = await driver.wait(name)

    assert result["success"] is True
    assert gate.running == ["a", "b"]


async def test_another_process_cancels_what_this_one_drives(build: Build, gate: Gate) -> None:
    """The reason is told."""
    async with two(build) as (driver, asker):
        name = await driver.submit(pair())
        await until(lambda: gate.running == ["a"])

        assert await asker.cancel_orchestration(name, "not needed") is True
        result = await driver.wait(name)
        status = await asker.load_status(name)

    assert result["state"] == "cancelled"
    assert status["reason"] == "not needed"


async def test_a_request_is_answered_within_half_a_second(build: Build, gate: Gate) -> None:
    """The driver looks five times a second, and the asker twenty."""
    async with two(build) as (driver, asker):
        name = await driver.submit(pair())
        await until(lambda: gate.running == ["a"])

        with anyio.fail_after(2):  # generous for a busy machine; 0.25 s is usual
            await asker.pause(name)
        gate.open.set()


async def test_what_the_driver_refuses_is_refused_to_the_asker(build: Build, gate: Gate) -> None:
    """With the driver's words and code; nothing changes."""
    async with two(build) as (driver, asker):
        name = await driver.submit(pair())
        await until(lambda: gate.running == ["a"])

        with pytest.raises(RefusedByDriverError) as caught:
            await asker.decide(name, "a", "done")
        with pytest.raises(RefusedByDriverError, match="has no task 'z'"):
            await asker.decide(name, "z", "done")
        gate.open.set()
        result = await driver.wait(name)

    assert caught.value.code == "not_possible"
    assert str(caught.value) == (
        "Task 'a' is running, so it can't be decided. No task of it waits for a decision."
    )
    assert result["success"] is True


async def test_what_is_driven_and_not_paused_can_not_be_resumed_elsewhere(build: Build, gate: Gate) -> None:
    """The refusal names the driver."""
    async with two(build) as (driver, asker):
        name = await driver.submit(pair())

        with pytest.raises(LeaseHeldError, match=rf"'{name}' is driven by process \d+ on "):
            await asker.resume(name)
        gate.open.set()


async def test_a_failed_task_of_what_another_one_drives_is_retried_there(build: Build, gate: Gate) -> None:
    """The answer names the tasks that are pending again."""
    dag = pair()
    dag.add_task(TaskNode("c", tool="flaky"))
    async with two(build) as (driver, asker):
        name = await driver.submit(dag)
        await until(lambda: bool(driver.get_orchestration_status(name)["errors"]))
        gate.is_broken = False

        assert await asker.retry(name) == ("c",)
        gate.open.set()
        result = await driver.wait(name)

    assert result["success"] is True
    assert result["results"]["c"] == "fine"


@pytest.mark.parametrize("action", ["pause", "cancel"])
async def test_a_request_the_driver_does_not_answer_is_carried_out_by_the_next_one_before_anything_starts(
    build: Build, gate: Gate, action: str
) -> None:
    """It stays stored, and whoever takes over finds it first."""
    with anyio.fail_after(20):
        first = build(control_wait_seconds=0.2)
        name = await first.submit(pair())
        storage = first.storage
        me = this_process("")
        stuck = DriverIdentity(
            host=me.host, boot_id=me.boot_id, pid=me.pid, process_start=me.process_start, instance="stuck"
        )
        lease = await storage.acquire_lease(name, stuck, lambda *_: False)

        with pytest.raises(ControlPendingError, match=r"is stored, but process \d+ on .* within 0.2 s"):
            await (first.pause(name) if action == "pause" else first.cancel_orchestration(name))
        await storage.release_lease(lease)
        async with build() as second:
            assert await second.resume_all() == [name]
            status = await second.load_status(name)
            pending = await storage.pending_controls()
        await first.aclose()

    assert status["state"] == {"pause": "paused", "cancel": "cancelled"}[action]
    assert gate.running == []
    assert pending == []


async def test_a_request_for_what_has_ended_is_not_carried_out_when_it_is_retried(
    build: Build, gate: Gate
) -> None:
    """Its sender died before it could take it back; a day later it would be a surprise."""
    with anyio.fail_after(20):
        orchestrator = build()
        await orchestrator.execute_dag(flaky())
        gate.is_broken = False
        late = ControlRequest(action=ControlAction.CANCEL)
        control_id = await orchestrator.storage.send_control("flaky-1", late, sent_at_us=0)

        await orchestrator.retry("flaky-1")
        status = await orchestrator.load_status("flaky-1")
        answer = await orchestrator.storage.load_control_answer(control_id)
        await orchestrator.aclose()

    assert status["state"] == "completed"
    assert answer is not None
    assert (answer.is_done, answer.code) == (False, "not_possible")


# Driven by nobody


async def test_what_nobody_drives_is_paused_and_left_to_nobody(build: Build, gate: Gate) -> None:
    """Under a lease that is given back."""
    with anyio.fail_after(20):
        orchestrator = build()
        name = await orchestrator.submit(pair())

        await orchestrator.pause(name)
        status = await orchestrator.load_status(name)
        await orchestrator.aclose()

    assert (status["state"], status["driven_by"], status["orphaned"]) == ("paused", None, True)
    assert gate.running == []


async def test_what_nobody_drives_is_cancelled(build: Build, gate: Gate) -> None:
    """Nothing of it starts on the way."""
    with anyio.fail_after(20):
        orchestrator = build()
        name = await orchestrator.submit(pair())

        assert await orchestrator.cancel_orchestration(name) is True
        assert await orchestrator.cancel_orchestration(name) is False
        status = await orchestrator.load_status(name)
        await orchestrator.aclose()

    assert status["state"] == "cancelled"
    assert gate.running == []


async def test_a_failed_orchestration_is_reopened_and_seen_through(build: Build, gate: Gate) -> None:
    """Outside a session `retry` returns when it has ended again; the key is a new one."""
    with anyio.fail_after(20):
        orchestrator = build()
        first = await orchestrator.execute_dag(flaky())
        gate.is_broken = False

        assert await orchestrator.retry("flaky-1") == ("a",)
        status = await orchestrator.load_status("flaky-1")
        result = await orchestrator.load_result("flaky-1")
        await orchestrator.aclose()

    assert first["success"] is False
    assert status["state"] == "completed"
    assert result["results"]["a"] == "fine"


async def test_a_retry_inside_a_session_goes_on_in_the_background(build: Build, gate: Gate) -> None:
    """It returns at once, and `wait` waits for the new end."""
    with anyio.fail_after(20):
        async with build() as orchestrator:
            await orchestrator.execute_dag(flaky())
            gate.is_broken = False

            await orchestrator.retry("flaky-1", ["a"], "the server is back")
            result = await orchestrator.wait("flaky-1")

    assert result["success"] is True


async def test_a_task_left_running_by_a_driver_that_is_gone_can_be_decided(
    build: Build, gate: Gate, tmp_path: Path
) -> None:
    """It is no longer running then, and nothing else is started before somebody resumes."""
    dag = pair()
    dag.nodes["a"] = TaskNode("a", tool="work", idempotent=False)
    with anyio.fail_after(20):
        async with build() as driver:
            name = await driver.submit(dag)
            await until(lambda: len(gate.running) == 1)
        asker = build()
        before = await asker.load_status(name)

        await asker.decide(name, "a", "done", output="by hand", reason="saw it")
        after = await asker.load_status(name)
        gate.open.set()
        await asker.resume(name)
        result = await asker.load_result(name)
        await asker.aclose()

    assert before["counts"] == {"pending": 1, "running": 1}
    assert after["counts"] == {"completed": 1, "ready": 1}
    assert result["results"] == {"a": "by hand", "b": "b"}
    assert gate.running == ["", "b"]


# Refusals


async def test_a_finished_orchestration_refuses_everything_and_says_what_is_possible(
    build: Build, gate: Gate
) -> None:
    """A failed one says that it can be retried."""
    gate.open.set()
    with anyio.fail_after(20):
        orchestrator = build()
        done = (await orchestrator.execute_dag(pair()))["orchestration_id"]
        failed = (await orchestrator.execute_dag(flaky()))["orchestration_id"]

        with pytest.raises(NotPossibleError, match=r"is completed, so it can't be paused. It can be read.$"):
            await orchestrator.pause(done)
        with pytest.raises(NotPossibleError, match=r"is completed, so it can't be retried. It can be read.$"):
            await orchestrator.retry(done)
        with pytest.raises(NotPossibleError, match=r"is failed, so it can't be resumed.*read, or retried"):
            await orchestrator.resume(failed)
        with pytest.raises(NotPossibleError, match=r"is failed, so it can't be decided about"):
            await orchestrator.decide(failed, "a", "done")
        await orchestrator.aclose()


async def test_an_unknown_orchestration_is_refused_by_its_id(build: Build) -> None:
    """Whatever is asked of it."""
    with anyio.fail_after(20):
        orchestrator = build()
        for request in (
            orchestrator.pause("nowhere-1"),
            orchestrator.resume("nowhere-1"),
            orchestrator.cancel_orchestration("nowhere-1"),
            orchestrator.retry("nowhere-1"),
            orchestrator.decide("nowhere-1", "a", "done"),
        ):
            with pytest.raises(OrchestrationNotFoundError, match="There is no orchestration 'nowhere-1'"):
                await request
        await orchestrator.aclose()


async def test_a_retry_of_a_task_that_is_not_there_is_refused_and_changes_nothing(
    build: Build, gate: Gate
) -> None:
    """The orchestration is as failed as before, and nobody holds it."""
    with anyio.fail_after(20):
        orchestrator = build()
        await orchestrator.execute_dag(flaky())
        before = await orchestrator.load_status("flaky-1")

        with pytest.raises(TaskNotFoundError):
            await orchestrator.retry("flaky-1", ["z"])
        after = await orchestrator.load_status("flaky-1")
        await orchestrator.aclose()

    assert before == after


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"decision": "maybe"}, "decision is 'maybe'; expected retry, done or failed."),
        (
            {"decision": "retry", "output": 1},
            "output is 1; expected nothing. Fix: only the decision `done` takes an output.",
        ),
        ({"decision": "done", "output": float("nan")}, "output is '…'; expected JSON that is not too large."),
        ({"decision": "done", "reason": 7}, "reason is 7; expected a text."),
    ],
)
async def test_a_decision_that_makes_no_sense_is_refused(
    build: Build, arguments: dict[str, Any], refusal: str
) -> None:
    """Before anything is asked of anybody."""
    orchestrator = build()
    name = await orchestrator.submit(pair())

    with pytest.raises(InvalidArgumentError) as caught:
        await orchestrator.decide(name, "a", **arguments)
    await orchestrator.aclose()

    assert str(caught.value).startswith(refusal)
