"""A preview says what a run would be like, from the plan and from what is known, and leaves no trace."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    InvalidDagError,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
)
from orchestration.errors import InvalidArgumentError, PlanNotFoundError
from orchestration.models import Fallback

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


CALLS: list[str] = []


def work() -> list[int]:
    CALLS.append("work")
    return [1, 2, 3]


@pytest.fixture
def orchestrator() -> AdvancedTaskOrchestrator:
    CALLS.clear()
    return create_advanced_task_orchestrator(
        systems={
            "python": FunctionSystem({"work": work}),
            "spare": FunctionSystem({"work": work, "pay": work}),
        },
        max_concurrent_tasks=2,
    )


def release() -> TaskDAG:
    """A list, a task per item, an approval, and a task with two parts."""
    dag = TaskDAG("release", "Release it")
    for node in (
        TaskNode("list", tool="work", estimated_time_seconds=2.0, cost=1.0),
        TaskNode("each", tool="work", foreach="${list}", estimated_time_seconds=4.0),
        TaskNode(
            "publish",
            system_preference="spare",
            tool="pay",
            approval="person",
            fallback=Fallback(tool="work", system_preference="python"),
        ),
        TaskNode("after"),
        TaskNode("tell", parent="after", tool="work"),
        TaskNode("log", parent="after", tool="work", system_preference="nowhere"),
    ):
        dag.add_task(node)
    for source, target in (("list", "each"), ("each", "publish"), ("publish", "after"), ("tell", "log")):
        dag.add_dependency(TaskEdge(source, target))
    return dag


async def test_a_preview_tells_how_long_where_why_and_who_must_agree(
    orchestrator: AdvancedTaskOrchestrator,
) -> None:
    """And where each figure comes from."""
    async with orchestrator:
        found = await orchestrator.preview(release(), assumed_items=4)
        nothing = await orchestrator.list_orchestrations()

    tasks = {task["task_id"]: task for task in found["tasks"]}
    assert (found["mode"], found["workers"], found["width"]) == ("hierarchical", 2, 1)
    assert found["critical_path"] == ["list", "each", "publish", "tell", "log"]
    assert found["expected_seconds"] == 2 + 8 + 3 * 3
    assert found["critical_path_seconds"] == 2 + 4 + 3 * 3
    assert found["total_tasks"] == 8
    assert found["estimates"] == {"plan": 2, "mean": 3}
    assert found["told"] == "Durations: 2 from the plan, 3 the mean of the others."
    assert found["assumed_items"] == {"each": 4}
    assert found["approvals"] == {"publish": "person"}
    assert (found["can_run"], found["problems"]) == (True, [])
    assert (found["cost"], found["expected_cost"]) == (1.0, 8.0)
    assert (tasks["list"]["system"], tasks["list"]["because"], tasks["list"]["others"]) == (
        "python",
        "it is the first with the tool 'work'",
        ["spare"],
    )
    assert (tasks["publish"]["system"], tasks["publish"]["because"]) == ("spare", "the task names it")
    assert tasks["publish"]["fallbacks"] == ["python"]
    assert tasks["log"]["because"] == (
        "no system is called 'nowhere', so as with auto: it is the first with the tool 'work'"
    )
    assert (tasks["after"]["system"], tasks["after"]["is_parent"]) == (None, True)
    assert tasks["each"]["items"] == 4
    assert (tasks["list"]["seconds_from"], tasks["tell"]["seconds_from"]) == ("plan", "mean")
    assert nothing == []
    assert CALLS == []


async def test_what_is_missing_is_told_and_the_rest_is_routed_all_the_same(
    orchestrator: AdvancedTaskOrchestrator,
) -> None:
    """A run would be refused; a preview says by what."""
    dag = release()
    dag.nodes["tell"] = TaskNode("tell", parent="after", tool="sing")

    async with orchestrator:
        found = await orchestrator.preview(dag)

    tasks = {task["task_id"]: task for task in found["tasks"]}
    assert found["can_run"] is False
    assert [problem["path"] for problem in found["problems"]] == ["tasks[4].tool"]
    assert found["problems"][0]["message"].startswith("nothing can run task 'tell'")
    assert (tasks["tell"]["system"], tasks["log"]["system"]) == (None, "python")


async def test_what_ran_before_says_what_it_will_take(orchestrator: AdvancedTaskOrchestrator) -> None:
    """The history of the same system and tool, where the plan is silent."""
    dag = TaskDAG("d")
    dag.add_task(TaskNode("a", tool="work"))

    async with orchestrator:
        before = await orchestrator.preview(dag)
        with anyio.fail_after(5):
            await orchestrator.execute_dag(dag)
        after = await orchestrator.preview(dag)

    assert (before["estimates"], before["expected_seconds"]) == ({"default": 1}, 1.0)
    assert after["estimates"] == {"history": 1}
    assert after["expected_seconds"] < 1.0


async def test_a_stored_plan_is_previewed_by_its_id(orchestrator: AdvancedTaskOrchestrator) -> None:
    """With its own mode, unless another is asked for."""
    tasks = [{"task_id": "a", "tool": "work"}, {"task_id": "b", "tool": "work"}]
    async with orchestrator:
        plan = await orchestrator.decompose("Do both", tasks=tasks, mode="simple")
        assert plan.plan_id is not None
        found = await orchestrator.preview(plan.plan_id)
        faster = await orchestrator.preview(plan.plan_id, mode="ADAPTIVE", workers=7)

    assert (found["plan_id"], found["revision"], found["goal"]) == (plan.plan_id, 1, "Do both")
    assert (found["mode"], found["workers"], found["expected_seconds"]) == ("simple", 1, 2.0)
    assert (faster["mode"], faster["workers"], faster["expected_seconds"]) == ("adaptive", 7, 1.0)


@pytest.mark.parametrize(
    ("work", "options", "error"),
    [
        ("plan-x-1", {}, PlanNotFoundError),
        (7, {}, InvalidArgumentError),
        (TaskDAG("d"), {"mode": "slow"}, InvalidArgumentError),
        (TaskDAG("empty"), {}, InvalidDagError),
    ],
)
async def test_what_can_not_be_previewed_is_refused(
    orchestrator: AdvancedTaskOrchestrator, work: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    """As a run would be."""
    async with orchestrator:
        with pytest.raises(error):
            await orchestrator.preview(work, **options)
