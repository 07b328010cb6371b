"""`decompose_goal` stores a plan, or says what to send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import LONG, SHORT
from tests.server.conftest import DIAMOND, Connect, text_of

pytestmark = pytest.mark.anyio

AGENT = "agent: any task, by its description"


async def test_the_callers_own_tasks_become_a_plan(connect: Connect) -> None:
    """The whole answer: ids, titles, dependencies, and the call that starts it."""
    async with connect() as client:
        result = await client.call_tool(
            "decompose_goal", {"goal": "Add things up", "tasks": DIAMOND["tasks"]}
        )

    answer = result.structured_content
    assert answer is not None
    plan_id = answer["plan_id"]
    answer.pop("notes", None)
    assert answer == {
        "message": f"Plan {plan_id} has 4 tasks.",
        "next": [{"tool": "execute_dag", "arguments": {"plan_id": plan_id, "wait_seconds": 30}}],
        "state": "planned",
        "plan_id": plan_id,
        "revision": 1,
        "planner": "caller",
        "tasks": [
            {"task_id": "one", "title": "one", "system": "auto"},
            {"task_id": "left", "title": "left", "depends_on": ["one"], "system": "auto"},
            {"task_id": "right", "title": "right", "depends_on": ["one"], "system": "auto"},
            {"task_id": "sum", "title": "Sum of both", "depends_on": ["left", "right"], "system": "auto"},
        ],
        "estimate": {"total_tasks": 4, "width": 2},
    }
    assert "- sum: Sum of both ← left, right" in text_of(result)


async def test_a_goal_no_playbook_fits_gets_an_example_and_nothing_is_stored(
    connect: Connect, orchestrator: AdvancedTaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over MCP a goal is never cut into sentences: the model can plan better than that."""
    saved: list[object] = []
    save = orchestrator.storage.save_plan

    async def noted(plan: Any) -> Any:
        saved.append(plan)
        return await save(plan)

    monkeypatch.setattr(orchestrator.storage, "save_plan", noted)

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Knit a scarf. Then wear it."})

    assert result.is_error is not True
    answer = result.structured_content
    assert answer is not None
    assert (
        answer["message"]
        == "No playbook is used for this goal, so nothing was stored: send the tasks yourself."
    )
    assert answer["state"] == "needs_tasks"
    assert len(answer["example"]) >= 2
    assert answer["systems"] == ["python: tools add, fail, text, wait", AGENT]
    assert "plan_id" not in answer
    assert saved == []


async def test_the_example_is_accepted_as_it_is(connect: Connect) -> None:
    """The call in `next` makes a plan: a model that only copies it is not sent round in circles."""
    async with connect() as client:
        first = await client.call_tool("decompose_goal", {"goal": "Knit a scarf"})
        assert first.structured_content is not None
        (following,) = first.structured_content["next"]
        second = await client.call_tool(following["tool"], following["arguments"])

    assert second.structured_content is not None
    assert second.structured_content["plan_id"]


async def test_a_playbook_makes_the_plan_where_one_fits(connect: Connect) -> None:
    """The specification's own goal has a playbook of at least eight tasks."""
    goal = "Build a web application with user authentication"

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": goal})

    answer = result.structured_content
    assert answer is not None
    assert answer["planner"] == "playbook:web-application"
    assert len(answer["tasks"]) >= 8
    assert answer["estimate"]["total_tasks"] == len(answer["tasks"])


async def test_a_plan_with_tasks_nothing_can_run_is_stored_and_lists_them(connect: Connect) -> None:
    """Executing it is refused; the person can configure a system and then run it."""
    tasks = [
        {"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 1}},
        {"task_id": "knit", "tool": "knit"},
    ]

    async with connect() as client:
        planned = await client.call_tool("decompose_goal", {"goal": "Knit", "tasks": tasks})
        answer = planned.structured_content
        assert answer is not None
        refused = await client.call_tool("execute_dag", {"plan_id": answer["plan_id"]})

    assert answer["state"] == "needs_systems"
    assert answer["message"] == f"Plan {answer['plan_id']} has 2 tasks, but nothing here can run 1 of them."
    assert [(task["task_id"], task["system"]) for task in answer["tasks"]] == [
        ("one", "auto"),
        ("knit", "none"),
    ]
    assert "nothing can run task 'knit'" in answer["problems"][0]
    assert answer["systems"] == ["python: tools add, fail, text, wait", AGENT]
    assert answer["next"] == []
    assert refused.is_error is True
    assert "\ncode: unroutable_task\n" in text_of(refused)


async def test_tasks_and_context_may_come_as_json_text(connect: Connect) -> None:
    """Some hosts send lists and objects as strings."""
    arguments = {
        "goal": "Add",
        "tasks": json.dumps(DIAMOND["tasks"]),
        "context": '{"unit": "apples"}',
        "thoughts": '["first one, then both"]',
        "max_tasks": "30",
    }

    async with connect() as client:
        result = await client.call_tool("decompose_goal", arguments)

    assert result.structured_content is not None
    assert len(result.structured_content["tasks"]) == 4


async def test_a_large_plan_is_told_within_the_limits(connect: Connect) -> None:
    """What is not listed is counted."""
    tasks = [
        {"task_id": f"task-{n}", "description": "x" * 300, "tool": "add", "arguments": {"a": n, "b": n}}
        for n in range(500)
    ]

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Much", "tasks": tasks, "max_tasks": 500})

    answer = result.structured_content
    assert answer is not None
    assert len(answer["tasks"]) + answer["more_tasks"] == 500
    assert len(text_of(result)) <= SHORT
    assert len(json.dumps(answer)) <= LONG


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "goal: is missing."),
        ({"goal": ""}, "goal: is missing."),
        ({"goal": "x", "max_tasks": 0}, "max_tasks: is 0; expected a number greater than or equal to 1."),
        (
            {"goal": "x", "task": []},
            "task is []; expected only goal, tasks, thoughts, context, mode, max_tasks",
        ),
    ],
)
async def test_bad_arguments_are_refused(connect: Connect, arguments: dict[str, Any], told: str) -> None:
    """The field, the value, what was expected."""
    async with connect() as client:
        result = await client.call_tool("decompose_goal", arguments)

    assert result.is_error is True
    assert text_of(result).startswith(told)


async def test_a_plan_with_mistakes_is_refused_with_where_they_are(connect: Connect) -> None:
    """A dependency that does not exist is named, with the nearest that does."""
    tasks = [{"task_id": "fetch"}, {"task_id": "report", "depends_on": ["fetsch"]}]

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Report", "tasks": tasks})

    assert result.is_error is True
    assert "fetsch" in text_of(result)
    assert "'fetch'" in text_of(result)


async def test_ten_thousand_tasks_are_refused_and_nothing_is_stored(
    connect: Connect, orchestrator: AdvancedTaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those inside others count; the fix says where such a graph belongs."""

    async def refused(_: Any) -> Any:
        raise AssertionError("nothing is to be stored")

    monkeypatch.setattr(orchestrator.storage, "save_plan", refused)
    tasks = [{"id": f"g{n}", "subtasks": [{"id": f"t{n}-{m}"} for m in range(99)]} for n in range(100)]

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Much", "tasks": tasks})

    assert result.is_error is True
    assert "tasks: has 10,000 tasks; at most 1,000 are taken here. Fix: Plan in larger steps" in text_of(
        result
    )
    assert "\nfield: tasks\n" in text_of(result)


async def test_tasks_inside_tasks_are_told_with_where_they_are(connect: Connect) -> None:
    """A task with parts runs nowhere itself, and is counted in no total."""
    tasks = [
        {
            "id": "both",
            "subtasks": [
                {"id": "one", "tool": "add", "args": {"a": 1, "b": 2}, "estimate": "5 min"},
                {"id": "two", "tool": "add", "args": {"a": "${one}", "b": 2}, "depends_on": ["one"]},
            ],
        },
        {"id": "end", "tool": "add", "args": {"a": "${both}", "b": 1}, "depends_on": ["both"]},
    ]

    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Add", "tasks": tasks})

    answer = result.structured_content
    assert answer is not None
    assert answer["message"] == f"Plan {answer['plan_id']} has 3 tasks, and 1 made of others."
    assert [task["system"] for task in answer["tasks"]] == ["parts", "auto", "auto", "auto"]
    assert answer["estimate"] == {
        "total_tasks": 3,
        "width": 1,
        "critical_path_seconds": 900.0,
        "expected_seconds": 900.0,
    }
    assert "- two (in both) ~5 min (mean) ← one" in text_of(result)


async def test_where_estimates_come_from_is_said(connect: Connect) -> None:
    """The plan's own, earlier tasks of the same tool, the mean of the others, or nothing at all."""
    run = {"dag_id": "first", "tasks": [{"task_id": "a", "tool": "add", "arguments": {"a": 1, "b": 1}}]}
    tasks = [
        {"task_id": "planned", "tool": "text", "arguments": {"lines": 1}, "estimate": 30},
        {"task_id": "known", "tool": "add", "arguments": {"a": 1, "b": 1}},
        {"task_id": "new", "tool": "wait"},
    ]

    async with connect() as client:
        nothing = await client.call_tool("decompose_goal", {"goal": "Add", "tasks": run["tasks"]})
        await client.call_tool("execute_dag", {"dag": run, "wait_seconds": 5})
        some = await client.call_tool("decompose_goal", {"goal": "Add", "tasks": tasks})

    assert nothing.structured_content is not None
    assert nothing.structured_content["notes"][-1] == "Durations: 1 assumed, for nothing is known."
    assert some.structured_content is not None
    assert some.structured_content["notes"][-1] == (
        "Durations: 1 from the plan, 1 from earlier tasks of the same tool, 1 the mean of the others."
    )
    assert "- planned ~30 s (plan)" in text_of(some)


async def test_a_brief_has_only_the_tools_that_fit_the_goal(connect: Connect) -> None:
    """With what a task may say beside what the example shows."""
    async with connect() as client:
        result = await client.call_tool("decompose_goal", {"goal": "Add up the numbers of the year"})

    answer = result.structured_content
    assert answer is not None
    assert answer["state"] == "needs_tasks"
    assert answer["systems"] == ["python: tools add (Add two numbers.) (and 3 others)", AGENT]
    assert "approval" in text_of(result)
    assert "foreach" in text_of(result)
    assert len(text_of(result)) <= SHORT
