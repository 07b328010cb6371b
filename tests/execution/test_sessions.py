"""What calls without `async with` leave behind, cancelled or not, and what they owe to calls beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    NotPossibleError,
    StorageUnavailableError,
    TaskDAG,
    TaskNode,
)
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.ports import Commit

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


def independent(count: int, tool: str = "work") -> TaskDAG:
    dag = TaskDAG("g")
    for number in range(count):
        dag.add_task(TaskNode(f"t{number}", tool=tool))
    return dag


async def work() -> str:
    await anyio.sleep(1)
    return "done"


@pytest.mark.parametrize("backend_under_test", ["trio", "asyncio"])
def test_a_call_whose_time_was_over_before_it_began_leaves_nothing_open(
    make: Make, backend_under_test: str
) -> None:
    """The caller's own scope ends as it should, and the next call works."""

    async def main() -> bool:
        orchestrator = make({"quick": lambda: 1})
        with anyio.move_on_after(0) as scope:
            await orchestrator.execute_dag(independent(1, "quick"))
        assert scope.cancelled_caught
        result = await orchestrator.execute_dag(independent(1, "quick"))
        return bool(result["success"])

    assert anyio.run(main, backend=backend_under_test)


async def test_slots_of_a_cancelled_call_go_to_those_who_wait(make: Make) -> None:
    """A call that is cancelled while it holds every slot does not leave the one beside it waiting for ever."""
    orchestrator = make({"work": work}, max_concurrent_tasks=2)
    states: list[str] = []

    async def cancelled() -> None:
        with anyio.move_on_after(0.5):
            await orchestrator.execute_dag(independent(4))

    async def beside() -> None:
        await anyio.sleep(0.1)
        states.append((await orchestrator.execute_dag(independent(3)))["state"])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as calls:
            calls.start_soon(cancelled)
            calls.start_soon(beside)

    assert states == ["completed"]


class FullForOne(MemoryStorage):
    """A storage that can store nothing more of one orchestration."""

    full: str | None = None

    async def append(self, commits: Sequence[Commit]) -> None:
        if any(commit.lease.orchestration_id == self.full for commit in commits):
            raise StorageUnavailableError("memory", "the disk is full.", "free some space.")
        await super().append(commits)


async def test_slots_of_an_orchestration_that_was_let_go_are_used_by_the_others(make: Make) -> None:
    """When one orchestration can't be stored any more, the next in the same session starts on its slots."""
    storage = FullForOne()
    orchestrator = make({"work": work}, max_concurrent_tasks=1, state_manager=storage)

    with anyio.fail_after(60):
        async with orchestrator:
            lost = await orchestrator.submit(independent(2))
            await anyio.sleep(0.5)
            waiting = await orchestrator.submit(independent(1))
            storage.full = lost
            result = await orchestrator.wait(waiting)

    assert result["state"] == "completed"


async def test_a_session_is_opened_once(make: Make) -> None:
    """A second `async with` around the same object is refused; the first goes on."""

    async def quick() -> int:  # a sync one would run on a thread, which virtual time does not wait for
        return 1

    orchestrator = make({"quick": quick})
    async with orchestrator:
        with pytest.raises(NotPossibleError, match="This orchestrator is open, so it can't be opened"):
            await orchestrator.__aenter__()
        result = await orchestrator.execute_dag(independent(1, "quick"))

    assert result["success"] is True


def test_one_orchestrator_serves_one_event_loop_at_a_time(make: Make) -> None:
    """A task that runs its own orchestrator in another event loop is told so instead of waiting for ever."""

    def elsewhere() -> str:
        result = anyio.run(orchestrator.execute_dag, independent(1, "quick"))
        return str(result["state"])

    orchestrator = make({"elsewhere": elsewhere, "quick": lambda: 1}, clock=None)

    async def main() -> dict[str, Any]:
        with anyio.fail_after(30):
            return await orchestrator.execute_dag(independent(1, "elsewhere"))

    result = anyio.run(main)

    assert result["errors"]["t0"]["message"] == (
        "This orchestrator is in use by another event loop, so it can't be used by this one. "
        "Make one orchestrator per event loop; they may share a database."
    )
    assert anyio.run(orchestrator.execute_dag, independent(1, "quick"), backend="trio")["success"] is True


async def test_what_was_let_go_is_not_called_driven(make: Make) -> None:
    """After the session has closed, the status from memory says what the storage says: nobody drives it."""
    orchestrator = make({"work": work})
    async with orchestrator:
        submitted = await orchestrator.submit(independent(1))
        await anyio.sleep(0.5)

    remembered = orchestrator.get_orchestration_status(submitted)
    stored = await orchestrator.load_status(submitted)

    assert (remembered["orphaned"], remembered["driven_by"]) == (True, None)
    assert {**remembered, "elapsed_seconds": 0} == {**stored, "elapsed_seconds": 0}
