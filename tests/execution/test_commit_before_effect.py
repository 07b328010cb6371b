"""Commit before effect: what is let out is durable, and what can't be made durable is not let out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    MemoryStorage,
    StaleFencingTokenError,
    StorageUnavailableError,
    TaskDAG,
    TaskEdge,
    TaskNode,
)
from orchestration.engine.events import AttemptStarted, AttemptSucceeded
from orchestration.execution.identity import this_process
from orchestration.ports import Commit

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


class Watched(MemoryStorage):
    """Notes what is durable, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.started: set[str] = set()
        self.succeeded: set[str] = set()
        self.fail_at: int | None = None
        self.appends = 0

    async def append(self, commits: Sequence[Commit]) -> None:
        self.appends += 1
        if self.appends == self.fail_at:
            raise StorageUnavailableError("memory", "disk full", "make room")
        await anyio.sleep(0.5)  # a slow disk: everything that does not wait for it would be seen
        await super().append(commits)
        for commit in commits:
            for recorded in commit.events:
                if isinstance(recorded.event, AttemptStarted):
                    self.started.add(recorded.event.task_id)
                if isinstance(recorded.event, AttemptSucceeded):
                    self.succeeded.add(recorded.event.task_id)


def pair() -> TaskDAG:
    dag = TaskDAG("pair")
    dag.add_task(TaskNode(task_id="a", tool="work", arguments={"name": "a"}))
    dag.add_task(TaskNode(task_id="b", tool="work", arguments={"name": "b"}))
    dag.add_dependency(TaskEdge("a", "b"))
    return dag


async def test_an_attempt_starts_only_after_its_start_and_its_upstreams_results_are_durable(
    make: Make,
) -> None:
    """Seen from inside the task, both are in storage."""
    storage = Watched()
    seen: list[tuple[str, bool, set[str]]] = []

    async def work(name: str) -> None:
        seen.append((name, name in storage.started, set(storage.succeeded)))

    result = await make({"work": work}, state_manager=storage).execute_dag(pair())

    assert result["success"] is True
    assert seen == [("a", True, set()), ("b", True, {"a"})]


@pytest.mark.parametrize("fail_at", [1, 2, 3])
async def test_a_commit_that_fails_stops_the_orchestration_where_storage_has_it(
    make: Make, fail_at: int
) -> None:
    """The caller gets the error, nothing undurable has effects, and resuming finishes without repeating."""
    storage = Watched()
    storage.fail_at = fail_at
    calls: list[str] = []

    async def work(name: str) -> str:
        assert name in storage.started
        calls.append(name)
        return name

    orchestrator = make({"work": work}, state_manager=storage)

    with pytest.raises(StorageUnavailableError, match="disk full"):
        await orchestrator.execute_dag(pair())
    done = set(storage.succeeded)
    before = list(calls)
    await orchestrator.resume("pair-1")
    result = await orchestrator.load_result("pair-1")

    assert result["results"] == {"a": "a", "b": "b"}
    assert not done & set(calls[len(before) :])


async def test_a_driver_that_lost_its_lease_stops_and_says_so(make: Make) -> None:
    """Its write is refused, its attempts are cancelled, the new driver's state stands."""
    storage = Watched()
    stopped: list[str] = []
    caught: list[Any] = []

    async def work(name: str) -> str:
        try:
            await anyio.sleep(10 if name == "a" else 1000)
        finally:
            stopped.append(name)
        return name

    orchestrator = make({"work": work}, state_manager=storage)

    async def run() -> None:
        with pytest.raises(StaleFencingTokenError) as info:
            await orchestrator.execute_dag(pair())
        caught.append(info.value)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(5)
        lease = await storage.acquire_lease("pair-1", this_process("another"), lambda *_: True)

    assert lease.token == 2
    assert str(caught[0]) == (
        "A write to 'pair-1' carried fencing token 1, but 2 is current: another process took over."
    )
    assert stopped == ["a"]
    assert storage.succeeded == set()
