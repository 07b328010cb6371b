"""Why things are as they are: what happened to a task, what replaced what, how a plan came about; in bounded reads."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
    story,
)
from orchestration.errors import OrchestrationNotFoundError, TaskNotFoundError
from orchestration.exports import to_mermaid
from orchestration.models import Fallback

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fine() -> str:
    return "fine"


def broken() -> str:
    raise NotImplementedError("it is broken")


class Planner:
    """Has an alternative where it is told one."""

    def __init__(self, tasks: list[dict[str, Any]] | None = None) -> None:
        self.tasks = tasks

    async def generate_alternative_plan(self, **_: Any) -> Mapping[str, Any]:
        return {"tasks": self.tasks or []}


@asynccontextmanager
async def opened(planner: Planner | None = None) -> AsyncIterator[AdvancedTaskOrchestrator]:
    async with create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"fine": fine, "broken": broken})}, sequential_thinking=planner
    ) as orchestrator:
        yield orchestrator


def chain(**load: Any) -> TaskDAG:
    """`get`, then `load`, which fails unless told otherwise, then `use`."""
    dag = TaskDAG("job", "Load it")
    dag.add_task(TaskNode("get", tool="fine"))
    dag.add_task(TaskNode("load", **{"tool": "broken", "max_retries": 0, **load}))
    dag.add_task(TaskNode("use", tool="fine"))
    dag.add_dependency(TaskEdge("get", "load"))
    dag.add_dependency(TaskEdge("load", "use"))
    return dag


async def ended(orchestrator: AdvancedTaskOrchestrator, dag: TaskDAG, **how: Any) -> str:
    name = await orchestrator.submit(dag, **how)
    with anyio.fail_after(5):
        await orchestrator.wait(name)
    return name


def told(why: dict[str, Any]) -> list[str]:
    return [event["told"] for event in why["events"]]


async def test_a_task_s_story_has_its_attempts_and_its_fallback() -> None:
    """In the order in which it happened, with why it went where it went."""
    async with opened() as orchestrator:
        name = await ended(orchestrator, chain(fallback=Fallback(tool="fine")))
        why = await orchestrator.load_why(name, "load")

    assert (why["status"], why["system"]) == ("completed", "python")
    assert why["because"] == "its fallback took over; it is the first with the tool 'fine'"
    assert told(why) == [
        "attempt 1 started on python",
        "attempt 1 failed: not_implemented_error: it is broken",
        "its fallback takes over",
        "attempt 2 started on python",
        "attempt 2 succeeded",
    ]
    assert why["waits_for"] == []
    assert why["before_seq"] is None


async def test_what_replaced_what_is_told_with_the_revision_and_the_reason() -> None:
    """To both sides of it, in the log, and in the drawing."""
    async with opened(Planner([{"task_id": "detour", "tool": "fine"}])) as orchestrator:
        name = await ended(orchestrator, chain(), mode="adaptive")
        old = await orchestrator.load_why(name, "load")
        new = await orchestrator.load_why(name, "detour~1")
        replaced = await orchestrator.load_replaced(name)
        plan = await orchestrator.load_plan_story(name)
        drawn = to_mermaid(await orchestrator.load_dag(name), replaced=replaced)

    assert told(old)[-1].startswith("replaced by detour~1 in revision 2 by planner")
    assert told(new)[0].startswith("came in the place of load in revision 2 by planner")
    assert [(each.task_id, each.tasks, each.delivers, each.revision) for each in replaced] == [
        ("load", ("detour~1",), "detour~1", 2)
    ]
    assert '-.->|"replaced by"| ' in drawn
    assert "%% revision 2 by planner: load was replaced by detour~1" in drawn
    assert (plan["revision"], plan["planner"], plan["plan_id"]) == (2, "caller", None)
    assert [(each["revision"], each["by"]) for each in plan["revisions"]] == [(2, "planner")]


async def test_a_task_that_asks_how_to_go_on_is_told_and_can_be_answered() -> None:
    """Where nobody has an alternative and the caller is there: run it again, done by somebody else, or given up."""
    async with opened(Planner()) as orchestrator:
        name = await orchestrator.submit(chain(), mode="adaptive", ask_caller=True)
        with anyio.fail_after(5):
            while not (status := await orchestrator.load_status(name))["waiting_for_answer"]:
                await orchestrator.wait_for_change(name, after_seq=status["last_seq"], timeout_seconds=5)
        live = orchestrator.get_orchestration_status(name)
        why = await orchestrator.load_why(name, "load")
        await orchestrator.decide(name, "load", "done", output="by hand", by="caller")
        with anyio.fail_after(5):
            result = await orchestrator.wait(name)

    assert status["waiting_for_answer"].keys() == live["waiting_for_answer"].keys() == {"load"}
    assert status["waiting_for_answer"]["load"].startswith("it is broken (")
    assert "how to go on" not in status["waiting_for_answer"]["load"]
    assert why["waits_for"] == ["somebody who says how to go on"]
    assert told(why)[-1].startswith("nobody had an alternative, so whoever submitted it is asked")
    assert (result["success"], result["results"]["load"], result["results"]["use"]) == (
        True,
        "by hand",
        "fine",
    )


async def test_what_a_task_waits_for_is_told() -> None:
    """The upstreams that have not settled, a yes, the parent that has not begun."""
    dag = TaskDAG("job")
    dag.add_task(TaskNode("ask", tool="fine", approval="caller"))
    dag.add_task(TaskNode("use", tool="fine"))
    dag.add_task(TaskNode("work"))
    dag.add_task(TaskNode("part", parent="work", tool="fine"))
    dag.add_dependency(TaskEdge("ask", "use"))
    dag.add_dependency(TaskEdge("ask", "work"))

    async with opened() as orchestrator:
        await orchestrator.submit(dag)
        with anyio.fail_after(5):
            while not (status := await orchestrator.load_status("job-1"))["waiting_for_approval"]:
                await orchestrator.wait_for_change("job-1", after_seq=status["last_seq"], timeout_seconds=5)
        waits = {
            name: (await orchestrator.load_why("job-1", name))["waits_for"] for name in ("ask", "use", "part")
        }

    assert waits == {
        "ask": ["the caller's or a person's yes to exactly what it would run"],
        "use": ["ask, which is awaiting approval"],
        "part": ["work, which it is a part of, to begin"],
    }


async def test_of_a_long_journal_only_a_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part in which the task ended; what lies before it is a page further."""
    monkeypatch.setattr(story, "WINDOW", 10)
    monkeypatch.setattr(story, "_PAGE", 4)
    names = [f"t{number}" for number in range(40)]
    dag = TaskDAG("job")
    for name in names:
        dag.add_task(TaskNode(name, tool="fine"))
    for source, target in itertools.pairwise(names):
        dag.add_dependency(TaskEdge(source, target))

    async with opened() as orchestrator:
        await ended(orchestrator, dag)
        read: list[int] = []
        original = orchestrator.storage.read_events

        async def counting(*args: Any, limit: int = 1000, **more: Any) -> Any:
            found = await original(*args, limit=limit, **more)
            read.append(len(found))
            return found

        monkeypatch.setattr(orchestrator.storage, "read_events", counting)
        middle = await orchestrator.load_why("job-1", "t20")
        is_cheap = sum(read)
        first, last = middle["looked_through"]
        before = await orchestrator.load_why("job-1", "t20", before_seq=middle["before_seq"])

    assert told(middle)[-1] == "attempt 1 succeeded"
    assert last - first == 9
    assert is_cheap <= 10 + 8
    assert before["looked_through"][1] == first - 1
    assert before["before_seq"] == before["looked_through"][0]


async def test_how_a_stored_plan_came_about_is_kept() -> None:
    """Who made it, the thoughts in order, and its revisions; for the plan and for what runs of it."""
    async with opened() as orchestrator:
        plan = await orchestrator.decompose(
            "Load it", tasks=[{"task_id": "get", "tool": "fine"}], thoughts=["First get it", "That is all"]
        )
        assert plan.plan_id is not None
        stored = await orchestrator.load_plan_story(plan.plan_id)
        name = await orchestrator.submit(plan.plan_id)
        with anyio.fail_after(5):
            await orchestrator.wait(name)
        run = await orchestrator.load_plan_story(name)

    assert (stored["planner"], stored["goal"], stored["revision"]) == ("caller", "Load it", 1)
    texts = [thought["text"] for thought in stored["thoughts"]]
    assert texts[:2] == ["First get it", "That is all"]
    assert [thought["number"] for thought in stored["thoughts"]] == list(range(1, len(texts) + 1))
    assert [each["revision"] for each in stored["plan_revisions"]] == [1]
    assert "orchestration_id" not in stored
    assert run == {**stored, "orchestration_id": name}


async def test_what_is_not_there_is_refused_by_name() -> None:
    """An orchestration, a plan, a task."""
    async with opened() as orchestrator:
        name = await ended(orchestrator, chain(tool="fine"))
        with pytest.raises(OrchestrationNotFoundError):
            await orchestrator.load_plan_story("job-7")
        with pytest.raises(OrchestrationNotFoundError):
            await orchestrator.load_approvals("job-7")
        with pytest.raises(TaskNotFoundError, match=r"has no task 'lode'\. It has: get, load, use"):
            await orchestrator.load_why(name, "lode")
        assert await orchestrator.load_approvals(name) == []
        assert await orchestrator.load_replaced(name) == []
