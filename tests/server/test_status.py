"""`get_orchestration_status` tells the truth about every orchestration, in views that are never too long."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import ANY

import anyio
import pytest

from server.answers import LONG, SHORT
from tests.server.conftest import DIAMOND, WAITING, Connect, Functions, text_of

pytestmark = pytest.mark.anyio


async def _finished(client: Any, dag: dict[str, Any] = DIAMOND) -> str:
    with anyio.fail_after(20):
        result = await client.call_tool("execute_dag", {"dag": dag, "wait_seconds": 20})
    identifier: str = result.structured_content["orchestration_id"]
    return identifier


async def _status(client: Any, **arguments: Any) -> Any:
    with anyio.fail_after(20):
        return await client.call_tool("get_orchestration_status", arguments)


async def test_with_nothing_ever_started_it_says_how_to_begin(connect: Connect) -> None:
    """The first call of a new user."""
    async with connect() as client:
        result = await _status(client)

    assert result.structured_content == {
        "message": "Nothing is unfinished, and nothing was ever started here.",
        "next": [
            {"tool": "decompose_goal", "arguments": {"goal": "Report on the health of this Python codebase"}}
        ],
        "orchestrations": [],
    }


async def test_without_an_id_it_lists_what_is_unfinished(connect: Connect, functions: Functions) -> None:
    """What ended is not in the list while something is unfinished."""
    async with connect() as client:
        await _finished(client)
        await client.call_tool("execute_dag", {"dag": WAITING})
        result = await _status(client)
        functions.gate.set()

    assert result.structured_content == {
        "message": "1 orchestration is unfinished.",
        "next": [{"tool": "get_orchestration_status", "arguments": {"orchestration_id": "waiting-1"}}],
        "orchestrations": [
            {"orchestration_id": "waiting-1", "goal": "", "state": "running", "progress_percentage": 0.0}
        ],
    }


async def test_when_nothing_is_unfinished_it_lists_what_ended_last(connect: Connect) -> None:
    """A client that reconnects finds its result."""
    async with connect() as client:
        await _finished(client)
        result = await _status(client)

    assert text_of(result).splitlines() == [
        "Nothing is unfinished; these ended last.",
        "- diamond-1: completed, 100 %: Add things up",
        'next: get_orchestration_status({"orchestration_id": "diamond-1"})',
    ]


async def test_a_running_one_is_told_with_what_runs(connect: Connect, functions: Functions) -> None:
    """State, counts and the running tasks, and the call that waits."""
    async with connect() as client:
        await client.call_tool("execute_dag", {"dag": WAITING})
        with anyio.fail_after(5):
            await functions.reached.wait()
        result = await _status(client, orchestration_id="waiting-1")
        functions.gate.set()

    assert result.structured_content == {
        "message": "waiting-1 is running: 0 of 2 tasks completed, 1 running.",
        "next": [
            {
                "tool": "get_orchestration_status",
                "arguments": {"orchestration_id": "waiting-1", "wait_seconds": 30},
            }
        ],
        "orchestration_id": "waiting-1",
        "state": "running",
        "counts": {"pending": 1, "running": 1},
        "progress_percentage": 0.0,
        "elapsed_seconds": ANY,
        "last_seq": ANY,
        "running": ["hold"],
    }


async def test_waiting_ends_with_the_first_event_after_since(connect: Connect, functions: Functions) -> None:
    """An agent that follows along is not made to wait for the end."""
    async with connect() as client:
        await client.call_tool("execute_dag", {"dag": WAITING})
        with anyio.fail_after(5):
            await functions.reached.wait()
        seen = (await _status(client, orchestration_id="waiting-1")).structured_content["last_seq"]
        functions.gate.set()
        result = await _status(client, orchestration_id="waiting-1", since=seen, wait_seconds=20)

    assert result.structured_content["last_seq"] > seen


async def test_a_wait_that_is_over_answers_with_how_it_stands(connect: Connect, functions: Functions) -> None:
    """Time is up, nothing has changed, and that is an answer."""
    async with connect() as client:
        await client.call_tool("execute_dag", {"dag": WAITING})
        result = await _status(client, orchestration_id="waiting-1", wait_seconds=0.2)
        functions.gate.set()

    assert result.structured_content["state"] == "running"


async def test_one_task_is_told_with_its_output_and_upstreams(connect: Connect) -> None:
    """The whole answer about a completed task."""
    async with connect() as client:
        await _finished(client)
        result = await _status(client, orchestration_id="diamond-1", task="sum")

    assert result.structured_content["message"] == "Task sum of diamond-1 is completed after 1 attempt."
    assert result.structured_content["tasks"] == [
        {
            "task_id": "sum",
            "status": "completed",
            "attempt": 1,
            "system": "python",
            "duration_seconds": ANY,
            "depends_on": ["left", "right"],
            "output": 112.0,
            "output_bytes": 5,
        }
    ]
    lines = text_of(result).splitlines()
    assert lines[1] == "description: Sum of both"
    assert lines[3] == "output of sum: 112.0"


async def test_a_long_output_is_cut_at_a_line_with_the_address_of_the_whole(connect: Connect) -> None:
    """The handle is a resource, which gives all of it."""
    dag = {"dag_id": "long", "tasks": [{"task_id": "text", "arguments": {"lines": 5_000}}]}

    async with connect() as client:
        await _finished(client, dag)
        result = await _status(client, orchestration_id="long-1", task="text")
        (task,) = result.structured_content["tasks"]
        (whole,) = (await client.read_resource(task["output_uri"])).contents

    assert task["output_uri"] == "orchestration://long-1/tasks/text/output"
    assert task["output"].endswith(" of the text…")
    assert f"… the whole ({task['output_bytes']:,} bytes): {task['output_uri']}" in text_of(result)
    assert len(text_of(result)) <= LONG
    assert whole.text == "\n".join(f"line {number} of the text" for number in range(5_000))


async def test_the_tasks_are_paged_and_every_one_is_shown_once(connect: Connect) -> None:
    """Following next_cursor gives all tasks in the order of the DAG."""
    count = 250
    dag = {
        "dag_id": "many",
        "tasks": [
            {"task_id": f"task-{number}", "tool": "add", "arguments": {"a": number, "b": 0}}
            for number in range(count)
        ],
    }
    found: list[str] = []
    cursor = ""

    async with connect() as client:
        await _finished(client, dag)
        with anyio.fail_after(20):
            while True:
                result = await _status(client, orchestration_id="many-1", view="tasks", cursor=cursor)
                _check_size(result)
                found += [task["task_id"] for task in result.structured_content["tasks"]]
                cursor = result.structured_content.get("next_cursor", "")
                if not cursor:
                    break

    assert found == [f"task-{number}" for number in range(count)]


async def test_the_events_are_paged_and_every_one_is_shown_once(connect: Connect) -> None:
    """Following next_cursor gives the whole journal without gaps."""
    dag = {
        "dag_id": "many",
        "tasks": [{"task_id": f"t{n}", "tool": "add", "arguments": {"a": n, "b": 0}} for n in range(100)],
    }
    found: list[int] = []
    cursor = ""

    async with connect() as client:
        await _finished(client, dag)
        with anyio.fail_after(20):
            while True:
                result = await _status(client, orchestration_id="many-1", view="events", cursor=cursor)
                _check_size(result)
                found += [event["seq"] for event in result.structured_content["events"]]
                cursor = result.structured_content.get("next_cursor", "")
                if not cursor:
                    break

    last_seq = result.structured_content["last_seq"]
    assert found == list(range(1, last_seq + 1))


async def test_events_after_since_are_shown(connect: Connect) -> None:
    """`since` is a last_seq seen before."""
    async with connect() as client:
        await _finished(client)
        everything = (await _status(client, orchestration_id="diamond-1", view="events")).structured_content
        rest = await _status(
            client, orchestration_id="diamond-1", view="events", since=everything["last_seq"] - 1
        )
        none = await _status(
            client, orchestration_id="diamond-1", view="events", since=everything["last_seq"]
        )

    assert everything["events"][0]["type"] == "orchestration_submitted"
    assert rest.structured_content["events"] == [
        {
            "seq": everything["last_seq"],
            "at": ANY,
            "type": "orchestration_finished",
            "detail": "outcome completed",
        }
    ]
    assert none.structured_content["events"] == []
    assert "no events after that" in text_of(none)


async def test_an_event_about_an_attempt_names_it_in_its_line(connect: Connect) -> None:
    """`task#attempt`, as everywhere."""
    async with connect() as client:
        await _finished(client)
        result = await _status(client, orchestration_id="diamond-1", view="events")

    assert any(line.endswith("attempt_started one#1: system python") for line in text_of(result).splitlines())


async def test_the_graph_is_mermaid(connect: Connect) -> None:
    """It can be pasted into a document."""
    async with connect() as client:
        await _finished(client)
        result = await _status(client, orchestration_id="diamond-1", view="graph")

    assert result.structured_content["graph"].startswith("flowchart TD\n")
    assert "completed" in result.structured_content["graph"]


async def test_no_view_of_a_large_orchestration_is_too_long(connect: Connect) -> None:
    """Long ids, long descriptions, many failures: every answer stays within its limit."""
    tasks = [
        {"task_id": f"{'long-' * 18}{n}", "description": "d" * 500, "tool": "fail", "max_retries": 0}
        for n in range(120)
    ]
    dag = {"dag_id": "large", "goal": "g" * 3_000, "tasks": tasks}

    async with connect() as client:
        identifier = await _finished(client, dag)
        summary = await _status(client, orchestration_id=identifier)
        listed = await _status(client)
        views = [
            await _status(client, orchestration_id=identifier, view=view)
            for view in ("tasks", "events", "graph", "plan")
        ]

    assert len(text_of(summary)) <= SHORT
    assert len(text_of(listed)) <= SHORT
    for result in (summary, listed, *views):
        _check_size(result)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"orchestration_id": "x-1"}, "There is no orchestration 'x-1'."),
        (
            {"orchestration_id": "diamond-1", "task": "sun"},
            "Orchestration 'diamond-1' has no task 'sun'. It has: one,",
        ),
        ({"task": "sum"}, "task is 'sum'; expected an orchestration_id beside it."),
        ({"since": 4}, "since is 4; expected an orchestration_id beside it."),
        ({"orchestration_id": "diamond-1", "view": "y"}, "view: is 'y'; expected 'summary', 'tasks',"),
        ({"orchestration_id": "diamond-1", "view": "why"}, "task is ''; expected a task beside view=why."),
        (
            {"orchestration_id": "diamond-1", "view": "tasks", "cursor": "abc"},
            "cursor is 'abc'; expected the next_cursor of an answer.",
        ),
    ],
)
async def test_bad_arguments_are_refused(connect: Connect, arguments: dict[str, Any], told: str) -> None:
    """The field, the value, what was expected."""
    async with connect() as client:
        await _finished(client)
        result = await _status(client, **arguments)

    assert result.is_error is True
    assert text_of(result).startswith(told)


def _check_size(result: Any) -> None:
    assert len(text_of(result)) <= LONG
    assert len(json.dumps(result.structured_content)) <= LONG
