"""Who drives an orchestration when several calls, of one object or of two, come upon it at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    NotPossibleError,
    OrchestrationInterruptedError,
    StorageUnavailableError,
    TaskDAG,
    TaskEdge,
    TaskNode,
)
from orchestration.engine.inputs import Pause
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.ports import DriverIdentity, DriverView, Lease

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


def chain() -> TaskDAG:
    dag = TaskDAG("g")
    for number in range(3):
        dag.add_task(TaskNode(f"t{number}", tool="work"))
    dag.add_dependency(TaskEdge("t0", "t1"))
    dag.add_dependency(TaskEdge("t1", "t2"))
    return dag


class Counted:
    """Tasks of one second, counted."""

    def __init__(self) -> None:
        self.calls = 0

    async def work(self) -> int:
        self.calls += 1
        await anyio.sleep(1)
        return self.calls


class Overtaken(MemoryStorage):
    """A storage that takes its time, and in which something may happen just before the next lease is taken."""

    before: Callable[[], Awaitable[object]] | None = None

    async def load_dag(self, orchestration_id: str) -> bytes:
        await anyio.sleep(0.1)
        return await super().load_dag(orchestration_id)

    async def acquire_lease(
        self,
        orchestration_id: str,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity, DriverView | None], bool],
    ) -> Lease:
        before, self.before = self.before, None
        if before is not None:
            await before()
        return await super().acquire_lease(orchestration_id, holder, is_gone)


@pytest.mark.parametrize("inside", [True, False], ids=["inside async with", "without"])
async def test_calls_that_wait_for_the_same_orchestration_drive_it_once(make: Make, inside: bool) -> None:
    """Of three calls one drives; all get the result, and no task runs twice."""
    counted = Counted()
    storage = Overtaken()
    submitted = await make({"work": counted.work}, state_manager=storage).submit(chain())
    orchestrator = make({"work": counted.work}, state_manager=storage)
    results: list[dict[str, Any]] = []

    async def wait() -> None:
        results.append(await orchestrator.wait(submitted))

    async def all_at_once() -> None:
        async with anyio.create_task_group() as calls:
            for _ in range(3):
                calls.start_soon(wait)

    with anyio.fail_after(60):
        if inside:
            async with orchestrator:
                await all_at_once()
        else:
            await all_at_once()

    assert [result["state"] for result in results] == ["completed"] * 3
    assert counted.calls == 3


async def test_resuming_twice_at_once_begins_once(make: Make) -> None:
    """The second call is refused and disturbs nothing."""
    counted = Counted()
    storage = Overtaken()
    submitted = await make({"work": counted.work}, state_manager=storage).submit(chain())
    refusals: list[str] = []

    with anyio.fail_after(60):
        async with make({"work": counted.work}, state_manager=storage) as orchestrator:

            async def resume() -> None:
                try:
                    await orchestrator.resume(submitted)
                except NotPossibleError as refusal:
                    refusals.append(str(refusal))

            async with anyio.create_task_group() as calls:
                calls.start_soon(resume)
                calls.start_soon(resume)
            result = await orchestrator.wait(submitted)

    assert refusals == [
        f"Orchestration '{submitted}' is running, so it can't be resumed. Only paused ones can."
    ]
    assert result["state"] == "completed"
    assert counted.calls == 3


async def test_a_call_goes_on_when_the_one_that_drove_is_cancelled(make: Make) -> None:
    """Who waited beside it takes the orchestration over instead of being told that it was interrupted."""
    counted = Counted()
    orchestrator = make({"work": counted.work})
    submitted = await orchestrator.submit(chain())
    states: list[str] = []

    async def cancelled() -> None:
        with anyio.move_on_after(1.5):
            await orchestrator.wait(submitted)

    async def beside() -> None:
        await anyio.sleep(0.5)
        states.append((await orchestrator.wait(submitted))["state"])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as calls:
            calls.start_soon(cancelled)
            calls.start_soon(beside)

    assert states == ["completed"]


async def test_what_ended_just_before_it_was_taken_over_is_not_waited_for(make: Make) -> None:
    """Another driver finished it between the look and the lease: every call says so instead of waiting for ever."""
    counted = Counted()
    storage = Overtaken()
    first = make({"work": counted.work}, state_manager=storage)
    second = make({"work": counted.work}, state_manager=storage)

    async def overtaken() -> str:
        submitted = await first.submit(chain())
        storage.before = lambda: first.wait(submitted)
        return submitted

    with anyio.fail_after(60):
        assert (await second.wait(await overtaken()))["state"] == "completed"
        assert await second.cancel_orchestration(await overtaken()) is False
        submitted = await overtaken()
        with pytest.raises(NotPossibleError, match=f"'{submitted}' is completed, so it can't be paused"):
            await second.pause(submitted)
        submitted = await overtaken()
        with pytest.raises(NotPossibleError, match=f"'{submitted}' is completed, so it can't be resumed"):
            await second.resume(submitted)
        await overtaken()
        assert await second.resume_all() == []
    assert all(status["driven_by"] is None for status in await second.list_orchestrations())


async def test_cancelling_twice_at_once_says_who_was_first(make: Make) -> None:
    """The second call is answered False, also when the orchestration is gone by the time its request is looked at."""
    counted = Counted()
    answers: list[bool] = []
    with anyio.fail_after(60):
        async with make({"work": counted.work}) as orchestrator:

            async def cancel(orchestration_id: str) -> None:
                answers.append(await orchestrator.cancel_orchestration(orchestration_id))

            at_submit = await orchestrator.submit(chain())
            async with anyio.create_task_group() as calls:
                calls.start_soon(cancel, at_submit)
                calls.start_soon(cancel, at_submit)
            await cancel(at_submit)
            result = await orchestrator.wait(at_submit)

    assert sorted(answers) == [False, False, True]
    assert result["state"] == "cancelled"


async def test_a_request_to_a_session_that_closes_is_answered(make: Make) -> None:
    """A request that the loop never came to is refused as interrupted; its caller does not wait for ever."""

    class Slow(MemoryStorage):
        async def append(self, commits: Any) -> None:
            await anyio.sleep(5)
            await super().append(commits)

    orchestrator = make({"work": Counted().work}, state_manager=Slow())
    told: list[str] = []
    with anyio.fail_after(60):
        async with anyio.create_task_group() as calls:

            async def pause(orchestration_id: str) -> None:
                coordinator = orchestrator._world.sessions[0].coordinator
                with pytest.raises(OrchestrationInterruptedError) as caught:
                    await coordinator.request(Pause(orchestration_id=orchestration_id))
                told.append(str(caught.value))

            async with orchestrator:
                submitted = await orchestrator.submit(chain())
                await anyio.sleep(1)
                calls.start_soon(pause, submitted)
                await anyio.sleep(1)

    assert told == [f"Orchestration '{submitted}' was interrupted before it ended. Fix: resume it."]


class FullAfterCreation(MemoryStorage):
    """A storage that can store nothing any more once an orchestration has been created."""

    async def append(self, commits: Any) -> None:
        raise StorageUnavailableError("memory", "the disk is full.", "free some space.")


async def test_a_cancellation_that_could_not_be_stored_is_no_cancellation(make: Make) -> None:
    """Cancelling what nobody drives raises what the storage said; nothing is called cancelled that is not."""
    orchestrator = make({"work": Counted().work}, state_manager=FullAfterCreation())
    submitted = await orchestrator.submit(chain())

    with anyio.fail_after(60), pytest.raises(StorageUnavailableError, match="disk is full"):
        await orchestrator.cancel_orchestration(submitted)

    with anyio.fail_after(60), pytest.raises(StorageUnavailableError, match="disk is full"):
        await orchestrator.resume_all()
    assert (await orchestrator.load_status(submitted))["state"] == "running"
