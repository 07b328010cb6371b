"""What looks at results is found when work is submitted, kept with it, and asked where it was found."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration import FunctionSystem, TaskDAG, TaskNode, create_advanced_task_orchestrator
from orchestration.errors import UnroutableTaskError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def work(tool: str) -> TaskDAG:
    """Return one task that leaves its system to the router, and is looked at by a tool of another one."""
    dag = TaskDAG("work")
    acceptance: Any = {"tool": tool, "arguments": {"result": "${output}"}}
    dag.add_task(TaskNode("a", tool="make", acceptance=acceptance, max_retries=0))
    return dag


async def test_a_tool_elsewhere_looks_at_the_result_and_is_among_what_is_needed() -> None:
    """A misspelled one is refused before anything was made."""
    made: list[int] = []
    seen: list[Any] = []

    def make() -> int:
        made.append(1)
        return 7

    orchestrator = create_advanced_task_orchestrator(
        systems={
            "maker": FunctionSystem({"make": make}),
            "checker": FunctionSystem({"look": lambda result: seen.append(result)}),
        }
    )
    with anyio.fail_after(10):
        async with orchestrator:
            with pytest.raises(UnroutableTaskError) as caught:
                await orchestrator.submit(work("lok"))
            before = list(made)
            orchestration_id = str(await orchestrator.submit(work("look")))
            result = await orchestrator.wait(orchestration_id)
            stored = await orchestrator.storage.load_orchestration(orchestration_id)

    assert [problem.path for problem in caught.value.problems] == ["tasks[0].acceptance.tool"]
    assert before == []
    assert (result["results"], seen) == ({"a": 7}, [7])
    assert set(stored.needs) == {"maker", "checker"}
