"""`execute_dag` starts what it is given, once, and never lets go of it."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import ANY

import anyio
import pytest
from mcp import Client

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from server.app import OrchestrationServer, build_server
from tests.planning.model_server import model_server, plan
from tests.server.conftest import DIAMOND, WAITING, Connect, Functions, lend, text_of

pytestmark = pytest.mark.anyio


async def test_a_dag_is_run_and_its_final_outputs_come_with_the_answer(connect: Connect) -> None:
    """The whole structured answer of a run that ended within wait_seconds."""
    async with connect() as client:
        with anyio.fail_after(10):
            result = await client.call_tool("execute_dag", {"dag": DIAMOND, "wait_seconds": 10})

    assert result.structured_content == {
        "message": "diamond-1 is completed: 4 of 4 tasks completed.",
        "next": [{"tool": "get_metrics", "arguments": {"scope": "orchestration", "id": "diamond-1"}}],
        "orchestration_id": "diamond-1",
        "state": "completed",
        "counts": {"completed": 4},
        "progress_percentage": 100.0,
        "estimated_completion_time": 0.0,
        "elapsed_seconds": ANY,
        "last_seq": ANY,
        "outputs": [
            {
                "task_id": "sum",
                "status": "completed",
                "attempt": 1,
                "system": "python",
                "duration_seconds": ANY,
                "output": 112.0,
                "output_bytes": 5,
            }
        ],
    }
    lines = text_of(result).splitlines()
    assert lines[0] == "diamond-1 is completed: 4 of 4 tasks completed."
    assert lines[2:] == [
        "counts: completed 4",
        "output of sum: 112.0",
        'next: get_metrics({"scope": "orchestration", "id": "diamond-1"})',
    ]


async def test_the_answer_comes_at_once_and_says_how_to_wait(connect: Connect, functions: Functions) -> None:
    """Without wait_seconds nothing is waited for; the next call is exact."""
    async with connect() as client:
        with anyio.fail_after(5):
            result = await client.call_tool("execute_dag", {"dag": WAITING})
        functions.gate.set()

    assert result.structured_content is not None
    assert result.structured_content["state"] == "running"
    assert result.structured_content["next"] == [
        {
            "tool": "get_orchestration_status",
            "arguments": {"orchestration_id": "waiting-1", "wait_seconds": 30},
        }
    ]


async def test_a_dag_may_come_as_its_json_text(connect: Connect) -> None:
    """Some hosts send objects as strings."""
    async with connect() as client:
        with anyio.fail_after(10):
            result = await client.call_tool("execute_dag", {"dag": json.dumps(DIAMOND), "wait_seconds": "10"})

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"


async def test_a_failure_is_told_with_its_reason_and_where_to_look(connect: Connect) -> None:
    """What depends on it is skipped; the next call shows the failed task."""
    dag = {
        "dag_id": "broken",
        "tasks": [
            {"task_id": "first", "tool": "fail"},
            {"task_id": "second", "tool": "add", "arguments": {"a": 1, "b": 2}, "depends_on": ["first"]},
        ],
    }

    async with connect() as client:
        with anyio.fail_after(10):
            result = await client.call_tool("execute_dag", {"dag": dag, "wait_seconds": 10})

    assert result.is_error is not True  # the call did what it was asked to
    assert result.structured_content == {
        "message": "broken-1 is failed: 0 of 2 tasks completed, 1 failed, 1 skipped.",
        "next": [
            {
                "tool": "get_orchestration_status",
                "arguments": {"orchestration_id": "broken-1", "task": "first"},
            },
            {"tool": "get_metrics", "arguments": {"scope": "orchestration", "id": "broken-1"}},
        ],
        "orchestration_id": "broken-1",
        "state": "failed",
        "counts": {"failed": 1, "skipped": 1},
        "progress_percentage": 100.0,
        "estimated_completion_time": 0.0,
        "elapsed_seconds": ANY,
        "last_seq": ANY,
        "errors": {"first": "not_implemented_error: this never works"},
    }


async def test_a_plan_is_run_by_its_id(connect: Connect) -> None:
    """decompose_goal's `next` is the call that starts it."""
    async with connect() as client:
        planned = await client.call_tool("decompose_goal", {"goal": "Add up", "tasks": DIAMOND["tasks"]})
        assert planned.structured_content is not None
        (following,) = planned.structured_content["next"]
        with anyio.fail_after(10):
            result = await client.call_tool(following["tool"], following["arguments"])

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"
    assert result.structured_content["plan_id"] == planned.structured_content["plan_id"]


async def test_the_same_key_starts_only_once(connect: Connect, functions: Functions) -> None:
    """A repeated call is answered with the first one's run."""
    async with connect() as client:
        with anyio.fail_after(10):
            first = await client.call_tool("execute_dag", {"dag": DIAMOND, "key": "k", "wait_seconds": 10})
            again = await client.call_tool("execute_dag", {"dag": DIAMOND, "key": "k", "wait_seconds": 10})
            listed = await client.call_tool("get_orchestration_status", {})

    assert again.structured_content == first.structured_content
    assert functions.calls == ["add"] * 4
    assert listed.structured_content is not None
    assert len(listed.structured_content["orchestrations"]) == 1


async def test_the_same_key_with_something_else_is_refused(connect: Connect) -> None:
    """The refusal names the key and the orchestration that has it."""
    other = {**DIAMOND, "tasks": DIAMOND["tasks"][:1]}

    async with connect() as client:
        await client.call_tool("execute_dag", {"dag": DIAMOND, "key": "k"})
        result = await client.call_tool("execute_dag", {"dag": other, "key": "k"})

    assert result.is_error is True
    assert text_of(result).startswith("Key 'k' was used for 'diamond-1' with other arguments.")
    assert "\ncode: idempotency_conflict\nfield: key\n" in text_of(result)


async def test_a_client_that_goes_away_stops_nothing(
    orchestrator: AdvancedTaskOrchestrator, functions: Functions, era: str
) -> None:
    """The orchestration belongs to the server: another client sees it end."""
    from mcp import Client

    async with orchestrator:
        server = build_server(lambda: _lent(orchestrator))
        async with Client(server, mode=era) as client:
            await client.call_tool("execute_dag", {"dag": WAITING})
            with anyio.fail_after(5):
                await functions.reached.wait()
        functions.gate.set()
        async with Client(server, mode=era) as client:
            with anyio.fail_after(10):
                result = await client.call_tool(
                    "get_orchestration_status", {"orchestration_id": "waiting-1", "wait_seconds": 10}
                )

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"


async def test_a_call_that_is_given_up_stops_nothing(connect: Connect, functions: Functions) -> None:
    """Cancelling the request that waits for it leaves the orchestration running."""
    async with connect() as client:
        with anyio.move_on_after(5) as given_up:
            async with anyio.create_task_group() as calls:
                calls.start_soon(_call, client, "execute_dag", {"dag": WAITING, "wait_seconds": 45})
                await functions.reached.wait()
                calls.cancel_scope.cancel()
        assert not given_up.cancelled_caught
        functions.gate.set()
        with anyio.fail_after(10):
            result = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": "waiting-1", "wait_seconds": 10}
            )

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"


async def test_progress_is_told_while_a_call_waits(connect: Connect, functions: Functions) -> None:
    """A host shows it, and knows that the call lives."""
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))
        functions.gate.set()

    async with connect() as client:
        with anyio.fail_after(10):
            await client.call_tool(
                "execute_dag", {"dag": WAITING, "wait_seconds": 10}, progress_callback=on_progress
            )
            while told[-1][0] < 2:  # the last notification may come after the answer
                await anyio.lowlevel.checkpoint()

    assert [total for _, total, _ in told] == [2] * len(told)
    assert told[0][0] == 0
    assert told[-1] == (2, 2, "2 of 2 tasks settled")


async def test_progress_always_grows_even_while_nothing_happens(
    connect: Connect, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol wants it; a client that hears nothing for long gives up."""
    monkeypatch.setattr("server.tools.waiting.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("server.tools.waiting.PROGRESS_SECONDS", 0.01)
    told: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        if len(told) == 4:
            functions.gate.set()

    async with connect() as client:
        with anyio.fail_after(10):
            await client.call_tool(
                "execute_dag", {"dag": WAITING, "wait_seconds": 10}, progress_callback=on_progress
            )
            while told[-1] < 2:  # the last notification may come after the answer
                await anyio.lowlevel.checkpoint()

    assert told == sorted(set(told))
    assert told[3] < 1
    assert told[-1] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {},
            "plan_id is None; expected exactly one of plan_id, dag and goal, and none came. Fix: Send one of",
        ),
        (
            {"plan_id": "p-1", "goal": "g"},
            (
                "plan_id is 'p-1'; expected exactly one of plan_id, dag and goal, and plan_id and goal came. "
                "Fix: Send one of the three."
            ),
        ),
        (
            {"plan_id": "p-1"},
            (
                "There is no plan 'p-1'. Fix: make one (`advanced-orchestration decompose`, or decompose_goal) "
                "and use the plan_id it answers."
            ),
        ),
        (
            {"dag": DIAMOND, "wait_seconds": 60},
            "wait_seconds: is 60; expected a number less than or equal to 45.",
        ),
        ({"dag": "not json"}, "dag: is 'not json'; expected JSON, but the text is none: "),
        (
            {"dag": DIAMOND, "mode": "fast"},
            "mode: is 'fast'; expected 'simple', 'hierarchical' or 'adaptive'.",
        ),
        (
            {"dag": DIAMOND, "wait": 5},
            "wait is 5; expected only plan_id, dag, goal, mode, action, key, reuse, wait_seconds",
        ),
        ({"goal": "Knit a scarf"}, "There is no plan for the goal 'Knit a scarf': no playbook is used"),
    ],
)
async def test_bad_arguments_are_refused_and_nothing_is_started(
    connect: Connect, arguments: dict[str, Any], told: str
) -> None:
    """One line says what is wrong, and how it should be."""
    async with connect() as client:
        result = await client.call_tool("execute_dag", arguments)
        listed = await client.call_tool("get_orchestration_status", {})

    assert result.is_error is True
    assert text_of(result).startswith(told)
    assert "\ncode: " in text_of(result)
    assert text_of(listed).startswith("Nothing is unfinished, and nothing was ever started here.")


async def test_a_dag_with_mistakes_is_refused_with_all_of_them(connect: Connect) -> None:
    """A cycle and a wrong priority are both named."""
    dag = {
        "dag_id": "wrong",
        "tasks": [
            {"task_id": "a", "depends_on": ["b"], "priority": "top"},
            {"task_id": "b", "depends_on": ["a"]},
        ],
    }

    async with connect() as client:
        result = await client.call_tool("execute_dag", {"dag": dag})

    assert result.is_error is True
    assert "priority" in text_of(result)
    assert "\ncode: invalid_dag\n" in text_of(result)


async def test_a_task_nothing_can_run_is_refused_naming_the_systems(connect: Connect) -> None:
    """The model learns what there is; the person, where more is declared."""
    async with connect() as client:
        result = await client.call_tool(
            "execute_dag", {"dag": {"dag_id": "odd", "tasks": [{"task_id": "knit", "tool": "knit"}]}}
        )

    assert result.is_error is True
    text = text_of(result)
    assert "nothing can run task 'knit'" in text
    assert "\nsystem python: tools add, fail, text, wait\n" in text
    assert "unified_controller=" in text
    assert "`systems:`" in text
    assert "\ncode: unroutable_task\n" in text


async def test_a_preference_that_cannot_be_met_is_told(connect: Connect) -> None:
    """The task runs where auto would have put it."""
    task = {"task_id": "add", "arguments": {"a": 1, "b": 2}, "system_preference": "kgot"}

    async with connect() as client:
        with anyio.fail_after(10):
            result = await client.call_tool(
                "execute_dag", {"dag": {"dag_id": "odd", "tasks": [task]}, "wait_seconds": 10}
            )

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"
    assert result.structured_content["warnings"] == [
        "No system is called 'kgot', so 1 task went where auto would: add. There are: python, agent."
    ]
    assert "warning: No system is called 'kgot'" in text_of(result)


async def test_an_unknown_tool_is_a_protocol_error(connect: Connect) -> None:
    """-32602, as the protocol says."""
    from mcp import MCPError

    async with connect() as client:
        with pytest.raises(MCPError, match="did you mean 'execute_dag'") as caught:
            await client.call_tool("execute_dags", {})

    assert caught.value.code == -32602


async def test_what_breaks_inside_is_not_told_to_the_client(
    server: OrchestrationServer,
    connect: Connect,
    orchestrator: AdvancedTaskOrchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unexpected exception keeps its text in the server's log."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(orchestrator, "submit", broken)

    async with connect() as client:
        result = await client.call_tool("execute_dag", {"dag": DIAMOND})

    assert result.is_error is True
    assert text_of(result).startswith(
        "execute_dag failed inside the server; its log has the reason.\ncode: internal"
    )


async def _call(client: Any, tool: str, arguments: dict[str, Any]) -> None:
    await client.call_tool(tool, arguments)


def _lent(orchestrator: AdvancedTaskOrchestrator) -> Any:
    """Hand out an orchestrator that somebody else opens and closes."""
    from contextlib import nullcontext

    return nullcontext(orchestrator)


async def test_results_of_an_earlier_run_are_used_where_nothing_changed(
    connect: Connect, functions: Functions
) -> None:
    """What was edited runs, and what comes after it; the answer says how much was there already."""
    tasks = [*DIAMOND["tasks"]]
    tasks[2] = {**tasks[2], "arguments": {"a": "${one}", "b": 1000}}

    async with connect() as client:
        with anyio.fail_after(10):
            await client.call_tool("execute_dag", {"dag": DIAMOND, "wait_seconds": 10})
            functions.calls.clear()
            result = await client.call_tool(
                "execute_dag", {"dag": {**DIAMOND, "tasks": tasks}, "reuse": "diamond-1", "wait_seconds": 10}
            )
            page = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": "diamond-2", "view": "events"}
            )

    assert result.structured_content["outputs"][0]["output"] == 1012.0
    assert functions.calls == ["add", "add"]
    assert "result_reused left: because reuse; source diamond-1:left" in text_of(page)


async def test_a_goal_runs_while_a_model_plans_it(functions: Functions, era: str) -> None:
    """Where the configuration wants it; why the plan is as it is can be read like that of any other."""
    tasks = [
        {"task_id": "first", "tool": "add", "arguments": {"a": 1, "b": 2}},
        {"task_id": "second", "tool": "add", "arguments": {"a": "${first}", "b": 1}, "depends_on": ["first"]},
    ]
    async with model_server(plan(tasks, ["Two sums will do."])) as provider:
        options = ModelOptions(name="own", base_url=provider.url, max_retries=0, start_early=True)
        orchestrator = create_advanced_task_orchestrator(
            systems={"python": functions.system()}, model=ModelPlanner(options)
        )
        with anyio.fail_after(20):
            async with Client(build_server(lambda: lend(orchestrator)), mode=era) as client:
                started = await client.call_tool("execute_dag", {"goal": "Add things up", "wait_seconds": 10})
                name = started.structured_content["orchestration_id"]
                story = await client.call_tool(
                    "get_orchestration_status", {"orchestration_id": name, "view": "plan"}
                )
        events = [recorded.event.type for recorded in await orchestrator.storage.read_events(name)]

    assert started.structured_content["state"] == "completed"
    assert events.count("plan_extended") == 2
    assert "Two sums will do." in text_of(story)
