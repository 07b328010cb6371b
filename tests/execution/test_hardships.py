"""Faults at bad moments: takeovers that fail half-way, fenced commits, plans that can't be stored, lost leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    OrchestrationMode,
    OrchestratorOptions,
    StorageUnavailableError,
    TaskDAG,
    TaskNode,
    Verification,
)
from orchestration.engine.events import AttemptStarted
from orchestration.errors import ControlPendingError, HistoryMismatchError, LeaseLostError
from orchestration.execution.recovery import load_state
from orchestration.ports import Commit, ControlAction, ControlRequest, PendingControl
from tests.execution.test_leases import Shared, elsewhere, task

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


class Failing(Shared):
    """Raises what it is told to, once for each entry."""

    def __init__(self) -> None:
        super().__init__()
        self.append_faults: list[Exception] = []
        self.inbox_faults: list[Exception] = []
        self.release_faults: list[Exception] = []

    async def append(self, commits: Sequence[Commit]) -> None:
        if self.append_faults and any(commit.events for commit in commits):
            raise self.append_faults.pop()
        await super().append(commits)

    async def pending_controls(self) -> list[PendingControl]:
        if self.inbox_faults:
            raise self.inbox_faults.pop()
        return await super().pending_controls()

    async def release_lease(self, lease: Any) -> None:
        if self.release_faults:
            raise self.release_faults.pop()
        await super().release_lease(lease)


def broken() -> StorageUnavailableError:
    return StorageUnavailableError("memory", "it was locked.", "wait.")


async def quick() -> str:
    return "done"


async def test_a_takeover_that_fails_half_way_leaves_nothing_behind(make: Make) -> None:
    """The next call takes it over as if nothing had been."""
    storage = Failing()
    name = await make({"work": quick}, state_manager=storage).submit(task())
    storage.inbox_faults = [broken()]

    with anyio.fail_after(60):
        async with make({"work": quick}, state_manager=storage) as orchestrator:
            with pytest.raises(StorageUnavailableError):
                await orchestrator.wait(name)
            result = await orchestrator.wait(name)

    assert result["success"] is True


async def test_a_request_that_meets_a_fenced_commit_is_not_answered_as_done(make: Make) -> None:
    """It follows the orchestration to whoever drives it now."""
    storage = Shared()

    async def work() -> None:
        await anyio.sleep(1000)

    settings = OrchestratorOptions(control_wait_seconds=1.0)
    with anyio.fail_after(600):
        async with make({"work": work}, state_manager=storage, settings=settings) as orchestrator:
            name = await orchestrator.submit(task())
            await anyio.sleep(2)
            await storage.acquire_lease(name, elsewhere(), lambda *_: True)

            with pytest.raises(ControlPendingError):
                await orchestrator.pause(name)
            status = await orchestrator.load_status(name)

    assert status["state"] == "running"


async def test_an_alternative_that_can_not_be_stored_ends_nothing_but_its_own_orchestration(
    make: Make,
) -> None:
    """Its tasks' deadlines mean nothing any more, and it can be gone on with."""

    class Planner:
        def analyze_task_decomposition(self, **_: Any) -> None: ...

        async def generate_alternative_plan(self, **_: Any) -> dict[str, Any]:
            await anyio.sleep(1)
            storage.append_faults = [broken()]
            return {"tasks": [{"task_id": "alt", "tool": "other", "description": "another way"}]}

    async def fails() -> None:
        raise TypeError("a mistake")

    async def steady() -> str:
        await anyio.sleep(5)
        return "steady"

    storage = Failing()
    functions = {"fails": fails, "steady": steady, "other": quick}
    dag = TaskDAG("replanned")
    dag.add_task(TaskNode("a", tool="fails"))
    with anyio.fail_after(600):
        async with make(functions, state_manager=storage, sequential_thinking=Planner()) as orchestrator:
            other = TaskDAG("other")
            other.add_task(TaskNode("b", tool="steady", timeout_seconds=100.0))
            steady_one = await orchestrator.submit(other)
            replanned = await orchestrator.submit(dag, mode=OrchestrationMode.ADAPTIVE)
            with pytest.raises(StorageUnavailableError):
                await orchestrator.wait(replanned)
            Planner.generate_alternative_plan = None  # type: ignore[assignment,method-assign]
            result = await orchestrator.wait(steady_one)

    assert result["results"]["b"] == "steady"


async def test_a_lease_that_could_not_be_given_back_is_found_by_its_own_process(make: Make) -> None:
    """It drives other things and looks alive, so nobody else would."""
    storage = Failing()
    taken: list[str] = []
    with anyio.fail_after(600):
        async with (
            make({"work": quick}, state_manager=storage) as orchestrator,
            anyio.create_task_group() as group,
        ):
            group.start_soon(orchestrator.take_over_orphans, taken.append)
            await anyio.sleep(1)
            storage.append_faults, storage.release_faults = [broken()], [broken()]
            name = await orchestrator.submit(task())
            await anyio.sleep(20)
            status = await orchestrator.load_status(name)
            group.cancel_scope.cancel()

    assert taken == [name]
    assert status["state"] == "completed"


async def test_a_start_that_was_let_out_before_a_gap_is_not_carried_out_after_it(make: Make) -> None:
    """Right before it begins, the driver makes sure that it still is the driver."""
    storage = Shared()
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)
        await anyio.lowlevel.checkpoint()

    orchestrator = make({"work": work}, state_manager=storage)
    dag = TaskDAG("g")
    dag.add_task(TaskNode("a", tool="work", arguments={"name": "a"}))
    async with orchestrator:
        coordinator = orchestrator._session.coordinator  # type: ignore[union-attr]
        confirm = coordinator._workers._confirm

        async def taken_over_meanwhile() -> None:
            await storage.acquire_lease("g-1", elsewhere(), lambda *_: True)
            await orchestrator._session.watch.renew()  # type: ignore[union-attr]
            await confirm()

        coordinator._workers._confirm = taken_over_meanwhile
        with pytest.raises(LeaseLostError):
            await orchestrator.execute_dag(dag)

    assert began == []


async def test_a_stored_resume_is_carried_out_though_its_driver_died_paused(make: Make) -> None:
    """A server looks for requests that nobody will answer, paused or not."""
    storage = Shared()
    first = make({"work": quick}, state_manager=storage)
    name = await first.submit(task())
    await first.pause(name)
    await storage.send_control(name, ControlRequest(action=ControlAction.RESUME), sent_at_us=0)

    with anyio.fail_after(600):
        async with (
            make({"work": quick}, state_manager=storage) as server,
            anyio.create_task_group() as group,
        ):
            group.start_soon(server.take_over_orphans)
            await anyio.sleep(30)
            status = await server.load_status(name)
            group.cancel_scope.cancel()

    assert status["state"] == "completed"
    assert await storage.pending_controls() == []


async def test_a_stored_retry_of_what_has_ended_is_carried_out(make: Make) -> None:
    """Its driver ended the orchestration before it came to the request."""
    storage = Shared()
    is_broken = True

    async def work() -> str:
        if is_broken:
            raise TypeError("a mistake")
        return "fine"

    functions = {"work": work}
    name = (await make(functions, state_manager=storage).execute_dag(task()))["orchestration_id"]
    await storage.send_control(name, ControlRequest(action=ControlAction.RETRY), sent_at_us=0)
    is_broken = False

    with anyio.fail_after(600):
        async with make(functions, state_manager=storage) as server, anyio.create_task_group() as group:
            group.start_soon(server.take_over_orphans)
            await anyio.sleep(30)
            status = await server.load_status(name)
            group.cancel_scope.cancel()

    assert status["state"] == "completed"


async def test_a_journal_that_names_a_task_that_is_not_there_is_refused_as_such(make: Make) -> None:
    """And the orphans beside it are taken over all the same."""
    storage = Shared()
    orchestrator = make({"work": quick}, state_manager=storage)
    bad = await orchestrator.submit(task("bad"))
    good = await orchestrator.submit(task("good"))
    storage._orchestrations[bad].dag_json = b'{"dag_id": "bad", "tasks": [{"task_id": "z"}]}'
    entry = storage._orchestrations[bad].events[0]
    started = AttemptStarted(task_id="a", attempt=1, system="python")
    storage._orchestrations[bad].events.append(replace(entry, seq=2, event=started))

    with pytest.raises(HistoryMismatchError, match="'a'"):
        await load_state(storage, bad)
    with anyio.fail_after(60):
        taken = await orchestrator.resume_all()

    assert taken == [good]


async def test_the_worker_of_an_attempt_that_ends_slowly_is_replaced(make: Make) -> None:
    """What was let go must not hold up what goes on."""
    storage = Failing()

    async def slow() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(50)

    with anyio.fail_after(600):
        async with make(
            {"work": slow, "quick": quick}, state_manager=storage, max_concurrent_tasks=1
        ) as orchestrator:
            name = await orchestrator.submit(task())
            await anyio.sleep(1)
            storage.append_faults = [broken()]
            with pytest.raises(StorageUnavailableError):
                await orchestrator.pause(name)
            dag = TaskDAG("next")
            dag.add_task(TaskNode("b", tool="quick", timeout_seconds=5.0))
            result = await orchestrator.execute_dag(dag)

    assert result["success"] is True


@pytest.mark.parametrize("answer", ["done", "unclear"])
async def test_what_waits_for_a_decision_is_logged_and_what_verify_settles_is_not(
    make: Make, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    """Whoever runs it without looking at it learns that it waits; nobody is alarmed by a question being asked."""

    async def slow() -> None:
        await anyio.sleep(1000)

    async def ask() -> str:
        return answer

    dag = TaskDAG("once")
    node = TaskNode("a", tool="slow", idempotent=False, timeout_seconds=5.0, verify=Verification(tool="ask"))
    dag.add_task(node)
    with anyio.fail_after(600):
        async with make({"slow": slow, "ask": ask}) as orchestrator:
            name = await orchestrator.submit(dag)
            await anyio.sleep(30)
            status = orchestrator.get_orchestration_status(name)

    told = [record for record in caplog.records if "waits for a decision" in record.getMessage()]
    assert status["counts"] == ({"completed": 1} if answer == "done" else {"unknown": 1})
    assert len(told) == (0 if answer == "done" else 1)
