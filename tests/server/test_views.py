"""Folding, drawing and telling why, over MCP: short, bounded, and the way to the rest."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult, TextResourceContents

from server.answers import LONG, SHORT
from tests.server.conftest import DIAMOND, Connect, Functions, text_of

pytestmark = pytest.mark.anyio

NESTED: dict[str, Any] = {
    "dag_id": "nested",
    "tasks": [
        {"task_id": "each", "tool": "add", "foreach": [1, 2, 3], "arguments": {"a": "${item}", "b": 0}},
        {"task_id": "work", "depends_on": ["each"]},
        {"task_id": "one", "parent": "work", "tool": "add", "arguments": {"a": 1, "b": 0}},
        {"task_id": "two", "parent": "work", "tool": "fail", "max_retries": 0, "depends_on": ["one"]},
        {"task_id": "end", "tool": "add", "arguments": {"a": 1, "b": 0}, "depends_on": ["work"]},
    ],
}
"""A task per item of a list, then a task with two parts, the second of which fails."""


async def call(client: Any, tool: str, **arguments: Any) -> CallToolResult:
    with anyio.fail_after(20):
        result: CallToolResult = await client.call_tool(tool, arguments)
    return result


async def status(client: Any, **arguments: Any) -> Any:
    return await call(client, "get_orchestration_status", **arguments)


async def test_parts_are_folded_into_their_task(connect: Connect) -> None:
    """One line that says how far they came, and the counts have only what runs."""
    async with connect() as client:
        await call(client, "execute_dag", dag=NESTED, wait_seconds=20)
        result = await status(client, orchestration_id="nested-1", view="tasks")

    assert [
        (task["task_id"], task.get("parts"), task.get("depends_on"))
        for task in result.structured_content["tasks"]
    ] == [
        ("each", "3 of 3 parts done", None),
        ("work", "1 of 2 parts done, 1 failed", ["each"]),
        ("end", None, ["work"]),
    ]
    lines = text_of(result).splitlines()
    assert lines[1] == "- each: 3 of 3 parts done on python"
    assert lines[2].startswith("- work: 1 of 2 parts done, 1 failed ← each")
    assert result.structured_content["counts"] == {"completed": 4, "failed": 1, "skipped": 1}


async def test_the_parts_of_one_task_are_listed_on_request(connect: Connect) -> None:
    """With the task named; of a task without parts there is the task itself."""
    async with connect() as client:
        await call(client, "execute_dag", dag=NESTED, wait_seconds=20)
        parts = await status(client, orchestration_id="nested-1", view="tasks", task="work")
        items = await status(client, orchestration_id="nested-1", view="tasks", task="each")
        plain = await status(client, orchestration_id="nested-1", view="tasks", task="end")
        folded = await status(client, orchestration_id="nested-1", task="work")

    assert parts.structured_content["message"] == "Task work of nested-1: 1 of 2 parts done, 1 failed."
    assert [task["task_id"] for task in parts.structured_content["tasks"]] == ["one", "two"]
    assert [task["task_id"] for task in items.structured_content["tasks"]] == [
        "each[0]",
        "each[1]",
        "each[2]",
    ]
    assert plain.structured_content["message"] == "Task end of nested-1 is skipped."
    assert folded.structured_content["tasks"][0]["parts"] == "1 of 2 parts done, 1 failed"
    assert folded.structured_content["tasks"][0]["error"].startswith("children_failed: ")


async def test_a_long_list_of_parts_is_paged(connect: Connect) -> None:
    """Each page's call leads to the next, and every part is shown once."""
    dag = {
        "dag_id": "nested",
        "tasks": [
            {"task_id": "each", "tool": "add", "foreach": list(range(250)), "arguments": {"a": 1, "b": 0}},
            {"task_id": "end", "tool": "add", "arguments": {"a": 1, "b": 0}, "depends_on": ["each"]},
        ],
    }
    shown: list[str] = []
    async with connect() as client:
        await call(client, "execute_dag", dag=dag, wait_seconds=20)
        page = await status(client, orchestration_id="nested-1", view="tasks", task="each")
        while True:
            assert len(text_of(page)) <= LONG
            shown += [task["task_id"] for task in page.structured_content["tasks"]]
            following = page.structured_content["next"]
            if not following or "cursor" not in following[0]["arguments"]:
                break
            assert following[0]["arguments"]["task"] == "each"
            page = await call(client, following[0]["tool"], **following[0]["arguments"])

    assert shown == [f"each[{index}]" for index in range(250)]


async def test_the_graph_folds_and_one_task_can_be_looked_into(connect: Connect) -> None:
    """In Mermaid."""
    async with connect() as client:
        await call(client, "execute_dag", dag=NESTED, wait_seconds=20)
        whole = await status(client, orchestration_id="nested-1", view="graph")
        inside = await status(client, orchestration_id="nested-1", view="graph", task="work")

    assert '[["work<br/>1 of 2 parts done, 1 failed"]]:::failed' in whole.structured_content["graph"]
    assert '"one"' not in whole.structured_content["graph"]
    assert '"one"' in inside.structured_content["graph"]
    assert '"end"' not in inside.structured_content["graph"]


async def test_why_a_task_stands_where_it_does(connect: Connect) -> None:
    """Which system and why, and what happened, from its events."""
    async with connect() as client:
        await call(client, "execute_dag", dag=NESTED, wait_seconds=20)
        failed = await status(client, orchestration_id="nested-1", view="why", task="two")
        skipped = await status(client, orchestration_id="nested-1", view="why", task="end")

    why = failed.structured_content["why"]
    assert failed.structured_content["message"] == "Task two of nested-1 is failed."
    assert (why["system"], why["tool"], why["because"]) == (
        "python",
        "fail",
        "it is the first with the tool 'fail'",
    )
    assert [event["told"] for event in why["events"]] == [
        "attempt 1 started on python",
        "attempt 1 failed: not_implemented_error: this never works",
        "failed for good: not_implemented_error: this never works",
    ]
    assert "goes to python: it is the first with the tool 'fail'" in text_of(failed).splitlines()
    assert "skipped: nothing came from work" in text_of(skipped)


async def test_a_task_that_asks_is_told_with_what_may_answer(connect: Connect) -> None:
    """ADAPTIVE over MCP: nobody has an alternative, so the caller is asked, and answers."""
    dag = {
        "dag_id": "job",
        "tasks": [
            {"task_id": "load", "tool": "fail", "max_retries": 0},
            {"task_id": "use", "tool": "add", "arguments": {"a": "${load}", "b": 1}, "depends_on": ["load"]},
        ],
    }
    async with connect() as client:
        asked = await call(client, "execute_dag", dag=dag, mode="adaptive", wait_seconds=20)
        why = await call(
            client,
            asked.structured_content["next"][0]["tool"],
            **asked.structured_content["next"][0]["arguments"],
        )
        decided = await call(
            client,
            "control_orchestration",
            orchestration_id="job-1",
            action="decide",
            tasks=["load"],
            value={"decision": "done", "output": 41},
        )
        ended = await status(client, orchestration_id="job-1", wait_seconds=20)

    assert asked.structured_content is not None
    assert asked.structured_content["waiting_for_answer"].keys() == {"load"}
    assert [each["arguments"].get("action") for each in asked.structured_content["next"]] == [None, "decide"]
    assert "answer: edit_dag replaces or changes the task" in text_of(asked)
    assert len(text_of(asked)) <= SHORT
    assert why.structured_content["why"]["waits_for"] == ["somebody who says how to go on"]
    assert decided.structured_content["outcomes"][0]["outcome"] == "done"
    assert ended.structured_content["outputs"][0]["output"] == 42


async def test_why_this_plan(connect: Connect) -> None:
    """Who planned it, the thoughts in order, notes and revisions: of a plan, of a run, and as a resource."""
    tasks = [{"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 0}}]
    async with connect() as client:
        planned = await call(
            client, "decompose_goal", goal="Add", tasks=tasks, thoughts=["First one", "Then none"]
        )
        plan_id = planned.structured_content["plan_id"]
        of_plan = await status(client, orchestration_id=plan_id, view="plan")
        started = await call(client, "execute_dag", plan_id=plan_id, wait_seconds=20)
        name = started.structured_content["orchestration_id"]
        of_run = await status(client, orchestration_id=name, view="plan")
        (resource,) = (await client.read_resource(f"orchestration://{name}/plan")).contents
        (stored,) = (await client.read_resource(f"orchestration://{plan_id}/plan")).contents

    plan = of_plan.structured_content["plan"]
    assert of_plan.structured_content["message"] == (
        f"The plan of {plan_id} was made by caller; it is at revision 1."
    )
    assert [thought["text"] for thought in plan["thoughts"]][:2] == ["First one", "Then none"]
    assert of_plan.structured_content["next"] == [
        {"tool": "execute_dag", "arguments": {"plan_id": plan_id, "action": "preview"}}
    ]
    assert of_run.structured_content["plan"]["thoughts"] == plan["thoughts"]
    assert of_run.structured_content["state"] == "completed"
    assert "thought 1: First one" in text_of(of_run).splitlines()
    assert any(line.startswith("revision 1 by caller, ") for line in text_of(of_run).splitlines())
    assert isinstance(resource, TextResourceContents)
    assert isinstance(stored, TextResourceContents)
    assert json.loads(resource.text) == {**json.loads(stored.text), "orchestration_id": name}


async def test_a_plan_of_many_long_thoughts_stays_within_its_limit(connect: Connect) -> None:
    """The rest is counted, with the address of the whole."""
    tasks = [{"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 0}}]
    async with connect() as client:
        planned = await call(
            client, "decompose_goal", goal="g" * 3_000, tasks=tasks, thoughts=["t" * 3_000] * 60
        )
        plan_id = planned.structured_content["plan_id"]
        result = await status(client, orchestration_id=plan_id, view="plan")

    assert len(text_of(result)) <= LONG
    assert len(json.dumps(result.structured_content)) <= LONG
    assert f"more lines: orchestration://{plan_id}/plan" in text_of(result)


async def test_a_preview_tells_what_a_run_would_take_and_starts_nothing(
    connect: Connect, functions: Functions
) -> None:
    """Width, longest path, time, cost, where each task would go and why."""
    dag = {**DIAMOND, "tasks": [{**task, "estimated_time_seconds": 2} for task in DIAMOND["tasks"]]}
    dag["tasks"][3]["approval"] = "person"
    async with connect() as client:
        result = await call(client, "execute_dag", dag=dag, action="preview")
        listed = await status(client)

    found = result.structured_content
    assert found is not None
    assert found["message"] == (
        "It would take about 6.0 s with 5 at once: 4 tasks, at most 2 side by side. Nothing was started."
    )
    preview = found["preview"]
    assert (preview["width"], preview["critical_path"]) == (2, ["one", "left", "sum"])
    assert (preview["expected_seconds"], preview["can_run"]) == (6.0, True)
    assert preview["approvals"] == {"sum": "person"}
    assert preview["tasks"][3] == {
        "task_id": "sum",
        "system": "python",
        "tool": "add",
        "because": "it is the first with the tool 'add'",
        "depends_on": ["left", "right"],
        "approval": "person",
        "estimated_seconds": 2.0,
        "seconds_from": "plan",
        "cost": 0.0,
        "cost_from": "default",
    }
    assert "needs a yes: sum, from a person" in text_of(result).splitlines()
    assert len(text_of(result)) <= SHORT
    assert listed.structured_content["orchestrations"] == []
    assert functions.calls == []


async def test_a_preview_says_what_is_missing(connect: Connect) -> None:
    """A run of the same would be refused; the plan is named, and there is nothing to run next."""
    tasks = [{"task_id": "one", "tool": "sing"}, {"task_id": "two", "tool": "add"}]
    async with connect() as client:
        planned = await call(client, "decompose_goal", goal="Sing", tasks=tasks)
        plan_id = planned.structured_content["plan_id"]
        result = await call(client, "execute_dag", plan_id=plan_id, action="PREVIEW")

    assert result.structured_content is not None
    assert result.structured_content["message"] == (
        "It can't run as it is: nothing here can run 1 of its 2 tasks. Nothing was started."
    )
    assert result.structured_content["next"] == []
    assert "- one: nothing here can run it" in text_of(result).splitlines()
    assert any(line.startswith("missing: tasks[0].tool: ") for line in text_of(result).splitlines())


async def test_a_large_preview_stays_within_its_limit(connect: Connect) -> None:
    """Tasks that are not listed are counted."""
    tasks = [
        {"task_id": f"task-{number}", "tool": "add", "description": "d" * 300, "approval": "person"}
        for number in range(400)
    ]
    async with connect() as client:
        result = await call(client, "execute_dag", dag={"dag_id": "large", "tasks": tasks}, action="preview")

    assert len(text_of(result)) <= SHORT
    assert len(json.dumps(result.structured_content)) <= LONG
    preview = result.structured_content["preview"]
    assert preview["more_tasks"] == 400 - len(preview["tasks"])
