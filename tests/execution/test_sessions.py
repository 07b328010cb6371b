"""What calls without `async with` leave behind, cancelled or not, and what they owe to calls beside them."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, TaskDAG, TaskNode

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
