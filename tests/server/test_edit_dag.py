"""The tool `edit_dag`: plans and running orchestrations are changed by a model, within what a model may do."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.server.conftest import WAITING, Connect, Functions, text_of

pytestmark = pytest.mark.anyio

SET = {"op": "set", "task_id": "after", "arguments": {"a": 2, "b": 2}}


async def run_waiting(client: Any, functions: Functions) -> str:
    """Start a DAG whose first task waits, and return its orchestration's id."""
    started = await client.call_tool("execute_dag", {"dag": WAITING})
    await functions.reached.wait()
    name: str = started.structured_content["orchestration_id"]
    return name


async def test_a_running_orchestration_is_changed_and_ends_so(connect: Connect, functions: Functions) -> None:
    """The answer says what it touches, the new revision, what is left, and what to call next."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            more = {
                "op": "add",
                "task": {"id": "more", "tool": "add", "args": {"a": "${after}", "b": 1}, "after": "after"},
            }
            result = await client.call_tool(
                "edit_dag",
                {"target": name, "operations": [SET, more], "expected_revision": 1, "reason": "more is more"},
            )
            functions.gate.set()
            ended = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": name, "wait_seconds": 5}
            )

    assert not result.is_error
    answer = result.structured_content
    assert (answer["revision"], answer["outcome"], answer["target"]) == (2, "applied", name)
    assert answer["changes"][:3] == ["added: more", "changed: after (arguments)", "linked: after → more"]
    assert answer["next"] == [{"tool": "get_orchestration_status", "arguments": {"orchestration_id": name}}]
    assert text_of(result).startswith(f"{name} has revision 2 now: added more, changed after.\nrevision: 2\n")
    assert len(text_of(result)) <= 1_500
    assert ended.structured_content["counts"] == {"completed": 3}


async def test_a_dry_run_says_what_to_send_and_changes_nothing(
    connect: Connect, functions: Functions
) -> None:
    """The next call is the very edit, with the revision it was tried on."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            tried = await client.call_tool("edit_dag", {"target": name, "operations": [SET], "dry_run": True})
            (following,) = tried.structured_content["next"]
            done = await client.call_tool(following["tool"], following["arguments"])
            functions.gate.set()

    assert tried.structured_content["outcome"] == "dry_run"
    assert tried.structured_content["revision"] == 1
    assert text_of(tried).startswith(
        f"Nothing was changed yet. It would: changed after. {name} has revision 1 now."
    )
    assert following == {
        "tool": "edit_dag",
        "arguments": {"target": name, "expected_revision": 1, "operations": [SET]},
    }
    assert (done.structured_content["outcome"], done.structured_content["revision"]) == ("applied", 2)


async def test_without_operations_a_dry_run_shows_the_graph_and_its_log(
    connect: Connect, functions: Functions
) -> None:
    """What to look at before an edit."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            await client.call_tool(
                "edit_dag",
                {"target": name, "operations": [SET], "expected_revision": 1, "reason": "it is late"},
            )
            result = await client.call_tool("edit_dag", {"target": name, "dry_run": True})
            functions.gate.set()

    assert text_of(result).splitlines()[0] == f"{name} has revision 2 and 2 tasks."
    assert "revision 2 by caller: changed after (it is late)" in text_of(result)
    assert "hold running" in text_of(result)
    assert "after pending ← hold" in text_of(result)


async def test_every_refusal_is_listed_and_nothing_changed(connect: Connect, functions: Functions) -> None:
    """A failed call: the operation, the task, its status, a fix; and what to look at."""
    operations = [
        SET,
        {"op": "set", "task_id": "hold", "timeout": "1 min"},
        {"op": "remove", "task_id": "nobody"},
    ]
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            result = await client.call_tool(
                "edit_dag", {"target": name, "operations": operations, "expected_revision": 1}
            )
            functions.gate.set()

    answer = result.structured_content
    assert result.is_error
    assert (answer["outcome"], answer["revision"]) == ("refused", 1)
    assert [each["at"] for each in answer["refusals"]] == ["operations[1]", "operations[2].task_id"]
    assert (
        "refused: operations[1]: set hold: task 'hold' (running, attempt 1) can't be changed. Fix: "
        in text_of(result)
    )
    assert "code: edit_refused" in text_of(result)
    assert answer["next"] == [{"tool": "edit_dag", "arguments": {"target": name, "dry_run": True}}]


async def test_an_old_revision_is_refused_and_nothing_changed(connect: Connect, functions: Functions) -> None:
    """The next call shows the graph as it is."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            edit = {"target": name, "operations": [SET], "expected_revision": 1}
            await client.call_tool("edit_dag", edit)
            result = await client.call_tool("edit_dag", edit)
            functions.gate.set()

    assert result.is_error
    assert text_of(result) == (
        f"expected_revision is 1, but '{name}' has revision 2 by now; nothing was changed. Fix: look at the plan as it "
        "is, and send the change with its revision.\n"
        "code: revision_conflict\n"
        "field: expected_revision\n"
        'example: {"expected_revision": 1}\n'
        f'next: edit_dag({{"target": "{name}", "dry_run": true}})'
    )


async def test_a_plan_is_edited_undone_and_run(connect: Connect) -> None:
    """The same tool for what does not run yet; revisions are kept."""
    tasks = [{"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 1}}]
    two = {
        "op": "add",
        "task": {
            "task_id": "two",
            "tool": "add",
            "arguments": {"a": "${one}", "b": 1},
            "depends_on": ["one"],
        },
    }
    with anyio.fail_after(10):
        async with connect() as client:
            planned = await client.call_tool("decompose_goal", {"goal": "Add up", "tasks": tasks})
            plan_id = planned.structured_content["plan_id"]
            added = await client.call_tool(
                "edit_dag", {"target": plan_id, "operations": [two], "expected_revision": 1}
            )
            undone = await client.call_tool(
                "edit_dag", {"target": plan_id, "undo_to": 1, "expected_revision": 2}
            )
            back = await client.call_tool(
                "edit_dag", {"target": plan_id, "undo_to": 2, "expected_revision": 3}
            )
            (following,) = back.structured_content["next"]
            ended = await client.call_tool(following["tool"], {**following["arguments"], "wait_seconds": 5})

    assert added.structured_content["next"] == [{"tool": "execute_dag", "arguments": {"plan_id": plan_id}}]
    assert undone.structured_content["message"] == (
        f"{plan_id} has revision 3 now: went back to revision 1: removed two."
    )
    assert ended.structured_content["counts"] == {"completed": 2}


async def test_a_model_takes_no_approval_away(connect: Connect) -> None:
    """It is told the command that the user may type."""
    tasks = [{"task_id": "pay", "tool": "add", "approval": "person"}]
    with anyio.fail_after(10):
        async with connect() as client:
            planned = await client.call_tool("decompose_goal", {"goal": "Pay", "tasks": tasks})
            plan_id = planned.structured_content["plan_id"]
            operation = {"op": "set", "task_id": "pay", "fields": {"approval": None}}
            result = await client.call_tool(
                "edit_dag", {"target": plan_id, "operations": [operation], "expected_revision": 1}
            )

    assert result.is_error
    assert result.structured_content["refusals"][0]["fix"].startswith(
        f"Show the user this command: `advanced-orchestration edit {plan_id} --op "
    )


@pytest.mark.parametrize(
    "operations",
    [
        '[{"op": "set", "task_id": "after", "arguments": "{\\"a\\": 2, \\"b\\": 2}"}]',
        {"op": "Update", "id": "AFTER", "args": {"a": 2, "b": 2}},
        [{"set": {"task": "after", "parameters": {"a": 2, "b": 2}}}],
        '{"operations": [{"operation": "set", "taskId": "after", "arguments": {"a": 2, "b": 2}}]}',
    ],
)
async def test_operations_are_understood_as_models_send_them(
    connect: Connect, functions: Functions, operations: object
) -> None:
    """JSON inside strings, one operation without a list, other words for fields."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            result = await client.call_tool(
                "edit_dag", {"target": name, "operations": operations, "expected_revision": "1"}
            )
            functions.gate.set()

    assert result.structured_content["changes"][0] == "changed: after (arguments)"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"operations": [SET]},
            (
                "expected_revision is None; expected the revision the change is made for. Fix: Look at it first; it "
                "has "
                "revision 1 now.\ncode: invalid_argument\nfield: expected_revision\n"
            ),
        ),
        (
            {"expected_revision": 1},
            (
                "operations is (); expected at least one operation, or undo_to. Fix: Send for example "
                '{"op": "set", "task_id": "load", "timeout_seconds": 600}.\n'
                "code: invalid_argument\nfield: operations\n"
            ),
        ),
        (
            {"expected_revision": 1, "operations": "[{"},
            "operations: is '[{'; expected JSON, but the text is none",
        ),
        (
            {"target": "nobody-1", "operations": [SET], "expected_revision": 1},
            "There is no orchestration 'nobody-1'.",
        ),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused_with_a_next_call(
    connect: Connect, functions: Functions, arguments: dict[str, Any], told: str
) -> None:
    """A sentence, a code, the field, an example, one safe call."""
    with anyio.fail_after(10):
        async with connect() as client:
            name = await run_waiting(client, functions)
            result = await client.call_tool("edit_dag", {"target": name, **arguments})
            functions.gate.set()

    assert result.is_error
    assert text_of(result).startswith(told)
    assert "\nnext: " in text_of(result)


async def test_a_long_answer_stays_short(connect: Connect) -> None:
    """However much was changed or refused."""
    tasks = [{"task_id": f"task-{number}", "description": "d" * 500, "tool": "add"} for number in range(200)]
    wrong = [{"op": "remove", "task_id": f"nobody-{number}"} for number in range(200)]
    right = [
        {"op": "set", "task_id": f"task-{number}", "max_retries": 1, "timeout": "5 min"}
        for number in range(200)
    ]
    with anyio.fail_after(20):
        async with connect() as client:
            planned = await client.call_tool(
                "decompose_goal", {"goal": "Much", "tasks": tasks, "max_tasks": 200}
            )
            plan_id = planned.structured_content["plan_id"]
            refused = await client.call_tool(
                "edit_dag", {"target": plan_id, "operations": wrong, "expected_revision": 1}
            )
            shown = await client.call_tool("edit_dag", {"target": plan_id, "dry_run": True})
            done = await client.call_tool(
                "edit_dag", {"target": plan_id, "operations": right, "expected_revision": 1}
            )

    assert refused.structured_content["refusals"][-1]["problem"] == "and 192 more reasons"
    assert all(len(text_of(each)) <= 1_500 for each in (refused, shown, done))
    assert done.structured_content["outcome"] == "applied"
