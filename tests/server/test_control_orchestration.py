"""`control_orchestration` changes what an orchestration does, or says why it can't be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import Client

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.options import OrchestratorOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.systems.function import FunctionSystem
from server.answers import LONG, SHORT, json_size
from server.app import OrchestrationServer, build_server
from storage import SqliteStorage
from tests.server.conftest import DIAMOND, WAITING, Connect, Functions, lend, text_of

pytestmark = pytest.mark.anyio


class Post:
    """Sends letters that must not be sent twice, over a line that breaks before it answers."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_broken = True
        self.asked = anyio.Event()
        self.knows = anyio.Event()

    def send(self, letter: str) -> dict[str, str]:
        """Send a letter; the line breaks where it is broken."""
        self.sent.append(letter)
        if self.is_broken:
            raise ConnectionResetError("the line broke")
        return {"sent": letter}

    async def did_it(self) -> dict[str, Any]:
        """Say whether the letter was sent, once that is known."""
        self.asked.set()
        await self.knows.wait()
        return {"status": "done", "output": {"sent": "found in the outbox"}}


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def orchestrator(functions: Functions, post: Post) -> AdvancedTaskOrchestrator:
    """An orchestrator with its state in memory, and a post office."""
    return create_advanced_task_orchestrator(systems={"python": system(functions, post)})


def system(functions: Functions, post: Post) -> FunctionSystem:
    tools: dict[str, Callable[..., Any]] = {
        "add": functions.add,
        "fail": functions.fail,
        "wait": functions.wait,
        "send": post.send,
        "did_it": post.did_it,
    }
    return FunctionSystem(tools)


def letters(*names: str, **more: Any) -> dict[str, Any]:
    """Return a DAG that sends letters none of which may be sent twice."""
    return {
        "dag_id": "letters",
        "tasks": [
            {"task_id": name, "tool": "send", "arguments": {"letter": name}, "idempotent": False, **more}
            for name in names
        ],
    }


async def ask(client: Any, tool: str, **arguments: Any) -> Any:
    with anyio.fail_after(10):
        return await client.call_tool(tool, arguments)


async def control(client: Any, orchestration_id: str, action: str, **arguments: Any) -> Any:
    return await ask(
        client, "control_orchestration", orchestration_id=orchestration_id, action=action, **arguments
    )


async def ended(client: Any, orchestration_id: str) -> Any:
    status = await ask(client, "get_orchestration_status", orchestration_id=orchestration_id, wait_seconds=8)
    return status.structured_content


async def running(client: Any, functions: Functions) -> str:
    """Start the waiting DAG, and return its id once its first task runs."""
    started = await ask(client, "execute_dag", dag=WAITING)
    with anyio.fail_after(5):
        await functions.reached.wait()
    identifier: str = started.structured_content["orchestration_id"]
    return identifier


async def test_a_paused_one_lets_its_attempts_finish_and_goes_on_when_it_is_resumed(
    connect: Connect, functions: Functions
) -> None:
    """`next` of a paused one is the call that makes it go on."""
    async with connect() as client:
        name = await running(client, functions)
        paused = await control(client, name, "pause", reason="lunch")
        functions.gate.set()
        still = await ended(client, name)
        resumed = await control(client, name, "resume")
        done = await ended(client, name)

    assert paused.structured_content == {
        "message": "Done. waiting-1 is paused: 0 of 2 tasks completed, 1 running.",
        "next": [
            {
                "tool": "control_orchestration",
                "arguments": {"orchestration_id": "waiting-1", "action": "resume"},
            },
            {
                "tool": "get_orchestration_status",
                "arguments": {"orchestration_id": "waiting-1", "view": "tasks"},
            },
        ],
        "orchestration_id": "waiting-1",
        "action": "pause",
        "outcomes": [{"target": "waiting-1", "outcome": "done", "detail": "paused"}],
        "state": "paused",
        "counts": {"pending": 1, "running": 1},
        "last_seq": paused.structured_content["last_seq"],
    }
    assert (still["state"], functions.calls) == ("paused", ["add"])
    assert resumed.structured_content["outcomes"][0]["detail"] == "resumed"
    assert done["state"] == "completed"


async def test_a_cancelled_one_ends_its_attempts_and_keeps_the_reason(
    connect: Connect, functions: Functions
) -> None:
    """What waits is cancelled at once, what runs as soon as it has stopped."""
    async with connect() as client:
        name = await running(client, functions)
        asked = await control(client, name, "cancel", reason="the wrong day")
        status = await ended(client, name)
        again = await control(client, name, "cancel")

    assert asked.structured_content["outcomes"] == [
        {"target": name, "outcome": "done", "detail": "asked to end"}
    ]
    assert (status["state"], status["reason"], status["counts"]) == (
        "cancelled",
        "the wrong day",
        {"cancelled": 2},
    )
    assert again.is_error is True
    assert text_of(again) == (
        "Orchestration 'waiting-1' is cancelled, so it can't be cancelled. It can be read, or retried.\n"
        "code: not_possible\n"
        "field: action\n"
        'example: {"action": "resume"}\n'
        'next: get_orchestration_status({"orchestration_id": "waiting-1"})'
    )


async def test_failed_tasks_run_again_and_completed_ones_stay(connect: Connect, post: Post) -> None:
    """Each task that is pending again is a target; the answer about a failure says how to retry."""
    dag = {
        "dag_id": "mixed",
        "tasks": [
            {"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 1}},
            {"task_id": "two", "tool": "send", "arguments": {"letter": "two"}, "max_retries": 0},
            {"task_id": "three", "tool": "send", "arguments": {"letter": "three"}, "depends_on": ["two"]},
        ],
    }
    async with connect() as client:
        failed = await ask(client, "execute_dag", dag=dag, wait_seconds=8)
        post.is_broken = False
        again = await control(client, "mixed-1", "retry", reason="the line was mended")
        done = await ended(client, "mixed-1")

    assert failed.structured_content["state"] == "failed"
    assert (
        "to run again what did not complete: "
        'control_orchestration({"orchestration_id": "mixed-1", "action": "retry"})'
    ) in text_of(failed)
    assert again.structured_content["message"].startswith("2 tasks run again. mixed-1 is running")
    assert [each["target"] for each in again.structured_content["outcomes"]] == ["two", "three"]
    assert (done["state"], post.sent) == ("completed", ["two", "two", "three"])


async def test_a_task_that_waits_for_a_decision_is_told_with_the_calls_that_decide(
    connect: Connect,
) -> None:
    """Waiting ends at once: nothing more happens on its own. The status says what is known."""
    async with connect() as client:
        status = await ask(client, "execute_dag", dag=letters("bill"), wait_seconds=8)
        one = await ask(client, "get_orchestration_status", orchestration_id="letters-1", task="bill")
        listed = await ask(client, "get_orchestration_status")

    assert status.structured_content["counts"] == {"unknown": 1}
    assert status.structured_content["waiting_for_decision"] == {
        "bill": "the line broke. Whether its effect happened is not known."
    }
    assert status.structured_content["next"] == one.structured_content["next"]
    assert status.structured_content["next"] == [
        {
            "tool": "control_orchestration",
            "arguments": {
                "orchestration_id": "letters-1",
                "action": "decide",
                "tasks": ["bill"],
                "value": value,
            },
        }
        for value in ("done", "retry")
    ]
    assert text_of(status).splitlines()[3:5] == [
        "waits for a decision: bill: the line broke. Whether its effect happened is not known.",
        "decide: done if it happened, retry if it did not, failed to give it up",
    ]
    assert "- letters-1: running (1 to decide), 0 %" in text_of(listed)
    assert listed.structured_content["orchestrations"][0]["waiting_for_decision"] == 1


@pytest.mark.parametrize(
    ("value", "state", "sent", "output"),
    [
        ("retry", "completed", ["bill", "bill"], {"sent": "bill"}),
        (" Done ", "completed", ["bill"], None),
        ({"decision": "done", "output": {"number": 17}}, "completed", ["bill"], {"number": 17}),
        ('{"decision": "DONE", "output": [1]}', "completed", ["bill"], [1]),
        ("failed", "failed", ["bill"], None),
    ],
)
async def test_each_decision_is_carried_out_and_said_to_be_the_callers(
    connect: Connect, post: Post, value: Any, state: str, sent: list[str], output: Any
) -> None:
    """As a word, an object, or its JSON text."""
    async with connect() as client:
        await ask(client, "execute_dag", dag=letters("bill"), wait_seconds=8)
        post.is_broken = False
        decided = await control(client, "letters-1", "decide", tasks="bill", value=value, reason="I looked")
        status = await ended(client, "letters-1")
        task = await ask(client, "get_orchestration_status", orchestration_id="letters-1", task="bill")
        events = await ask(client, "get_orchestration_status", orchestration_id="letters-1", view="events")

    assert decided.structured_content["message"].startswith("1 task decided. letters-1 is ")
    assert (status["state"], post.sent) == (state, sent)
    assert task.structured_content["tasks"][0].get("output") == output
    assert "by caller" in text_of(events)
    assert "reason I looked" in text_of(events)


async def test_of_several_decisions_each_has_its_outcome(connect: Connect, post: Post) -> None:
    """What can't be decided is told beside what was."""
    async with connect() as client:
        await ask(client, "execute_dag", dag=letters("bill", "reminder"), wait_seconds=8)
        result = await control(
            client, "letters-1", "decide", tasks=["bill", "reminder", "bil", "bill"], value="done"
        )

    assert result.is_error is False
    assert result.structured_content["message"].startswith("2 of 3 tasks decided, 1 refused. letters-1 is")
    assert {each["target"]: each["outcome"] for each in result.structured_content["outcomes"]} == {
        "bill": "done",
        "reminder": "done",
        "bil": "refused",
    }
    assert "bil: refused: task_not_found: Orchestration 'letters-1' has no task 'bil'." in text_of(result)


async def test_a_decision_nobody_asked_for_is_refused_and_changes_nothing(
    connect: Connect, functions: Functions
) -> None:
    """The refusal says which tasks do wait for one."""
    async with connect() as client:
        name = await running(client, functions)
        before = (await ask(client, "get_orchestration_status", orchestration_id=name)).structured_content
        refused = await control(client, name, "decide", tasks=["hold"], value="done")
        after = (await ask(client, "get_orchestration_status", orchestration_id=name)).structured_content
        functions.gate.set()

    assert refused.is_error is True
    assert text_of(refused).startswith(
        "Task 'hold' is running, so it can't be decided. No task of it waits for a decision.\ncode: not_possible\n"
    )
    assert before["last_seq"] == after["last_seq"]


async def test_waiting_goes_on_while_verify_is_asked(connect: Connect, post: Post) -> None:
    """It may answer by itself, and then nobody has to decide."""
    async with connect() as client:
        await ask(client, "execute_dag", dag=letters("bill", verify={"tool": "did_it"}))
        with anyio.fail_after(5):
            await post.asked.wait()
        waiting = await ask(
            client, "get_orchestration_status", orchestration_id="letters-1", wait_seconds=0.3
        )
        post.knows.set()
        status = await ended(client, "letters-1")

    assert waiting.structured_content["counts"] == {"unknown": 1}
    assert status["state"] == "completed"
    assert status["outputs"][0]["output"] == {"sent": "found in the outbox"}
    assert post.sent == ["bill"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"action": "pause"}, "Orchestration 'diamond-1' is completed, so it can't be paused."),
        ({"action": "resume"}, "Orchestration 'diamond-1' is completed, so it can't be resumed."),
        ({"action": "cancel"}, "Orchestration 'diamond-1' is completed, so it can't be cancelled."),
        ({"action": "retry"}, "Orchestration 'diamond-1' is completed, so it can't be retried."),
        (
            {"action": "decide", "tasks": ["one"], "value": "done"},
            "Orchestration 'diamond-1' is completed, so it can't be decided about.",
        ),
    ],
)
async def test_what_has_ended_is_refused_with_its_state_and_what_is_possible(
    connect: Connect, arguments: dict[str, Any], told: str
) -> None:
    """Reading it is."""
    async with connect() as client:
        await ask(client, "execute_dag", dag=DIAMOND, wait_seconds=8)
        result = await ask(client, "control_orchestration", orchestration_id="diamond-1", **arguments)

    assert result.is_error is True
    assert text_of(result) == (
        f"{told} It can be read.\n"
        "code: not_possible\n"
        "field: action\n"
        'example: {"action": "resume"}\n'
        'next: get_orchestration_status({"orchestration_id": "diamond-1"})'
    )


@pytest.mark.parametrize(
    ("arguments", "told", "field"),
    [
        ({"action": "agree"}, "action: is 'agree'; expected 'pause', 'resume', 'cancel',", "action"),
        (
            {"action": "approve"},
            "tasks is []; expected the tasks to approve. Fix: Name at least one.",
            "tasks",
        ),
        (
            {"action": "reject", "tasks": ["one"], "value": "0123abcd"},
            "value is '0123abcd'; expected nothing, with reject. Fix: Leave it out.",
            "value",
        ),
        (
            {"action": "approve", "tasks": ["one"], "value": "done"},
            "value is 'done'; expected the digest that was shown, with approve. Fix: Leave it out.",
            "value",
        ),
        ({"action": "decide", "value": "done"}, "tasks is []; expected the tasks to decide about.", "tasks"),
        (
            {"action": "decide", "tasks": ["one"]},
            "value is None; expected retry, done or failed.",
            "value",
        ),
        ({"action": "decide", "tasks": ["one"], "value": "maybe"}, "value", "value"),
        (
            {"action": "decide", "tasks": ["one"], "value": {"decision": "retry", "output": 1}},
            "output is 1; expected nothing. Fix: only the decision `done` takes an output.",
            "value",
        ),
        (
            {"action": "pause", "tasks": ["one"]},
            "tasks is ['one']; expected action=retry, approve, reject or decide beside it.",
            "tasks",
        ),
        (
            {"action": "retry", "value": "done"},
            "value is 'done'; expected action=decide or approve beside it.",
            "value",
        ),
        (
            {"action": "pause", "orchestration_id": "diamond-2"},
            "There is no orchestration 'diamond-2'.",
            "orchestration_id",
        ),
    ],
)
async def test_what_does_not_fit_is_refused_with_an_example_and_a_safe_call(
    connect: Connect, arguments: dict[str, Any], told: str, field: str
) -> None:
    """An unknown one, a choice there is not, arguments that don't belong together."""
    async with connect() as client:
        await ask(client, "execute_dag", dag=WAITING)
        result = await ask(client, "control_orchestration", **{"orchestration_id": "waiting-1", **arguments})

    assert result.is_error is True
    text = text_of(result)
    assert text.startswith(told)
    assert f"\nfield: {field}\nexample: {{" in text
    assert "\nnext: get_orchestration_status(" in text
    assert len(text) <= SHORT


async def test_a_retry_of_a_task_that_is_not_there_names_those_that_are(connect: Connect) -> None:
    """The field is `tasks`, with an example of task ids."""
    dag = {"dag_id": "bad", "tasks": [{"task_id": "a", "tool": "fail", "max_retries": 0}]}
    async with connect() as client:
        await ask(client, "execute_dag", dag=dag, wait_seconds=8)
        result = await control(client, "bad-1", "retry", tasks=["b"])

    assert text_of(result).startswith("Orchestration 'bad-1' has no task 'b'. It has: a.")
    assert '\nfield: tasks\nexample: {"tasks": ["extract"]}\n' in text_of(result)


async def test_many_outcomes_stay_within_the_limit(connect: Connect) -> None:
    """What is not shown is counted."""
    names = [f"{'long-' * 18}{number}" for number in range(90)]
    async with connect() as client:
        await ask(client, "execute_dag", dag=letters(*names), wait_seconds=8)
        status = await ask(client, "get_orchestration_status", orchestration_id="letters-1", wait_seconds=8)
        result = await control(client, "letters-1", "decide", tasks=names, value="failed")

    assert len(text_of(status)) <= SHORT
    assert len(text_of(result)) <= SHORT
    assert json_size(result.structured_content) <= LONG
    content = result.structured_content
    assert len(content["outcomes"]) + content["more_outcomes"] == 90


# --- What another process drives ----------------------------------------------------------------------------------


@pytest.fixture
def other(functions: Functions, post: Post, tmp_path: Any) -> OrchestrationServer:
    """Another server on the same database."""
    return build_server(lambda: lend(durable(functions, post, tmp_path)))


def durable(functions: Functions, post: Post, folder: Any, **options: Any) -> AdvancedTaskOrchestrator:
    return create_advanced_task_orchestrator(
        systems={"python": system(functions, post)},
        state_manager=SqliteStorage(folder / "o.db"),
        settings=OrchestratorOptions(**options),
    )


async def test_what_another_server_drives_is_controlled_through_this_one(
    functions: Functions, post: Post, other: OrchestrationServer, tmp_path: Any
) -> None:
    """The request is carried out by the driver, within a second, and both tell the same."""
    driver = build_server(lambda: lend(durable(functions, post, tmp_path)))
    async with Client(driver) as one, Client(other) as two:
        name = await running(one, functions)
        began = anyio.current_time()
        paused = await control(two, name, "pause")
        took = anyio.current_time() - began
        functions.gate.set()
        seen = await ask(one, "get_orchestration_status", orchestration_id=name)
        refused = await control(two, name, "pause")
        await control(two, name, "resume")
        done = await ended(two, name)

    assert paused.structured_content["state"] == "paused"
    assert took < 1
    assert seen.structured_content["state"] == "paused"
    assert text_of(refused).startswith("Orchestration 'waiting-1' is paused, so it can't be paused.")
    assert done["state"] == "completed"


async def test_decisions_reach_the_driver_through_any_server(
    functions: Functions, post: Post, other: OrchestrationServer, tmp_path: Any
) -> None:
    """With the output they bring."""
    driver = build_server(lambda: lend(durable(functions, post, tmp_path)))
    async with Client(driver) as one, Client(other) as two:
        await ask(one, "execute_dag", dag=letters("bill"), wait_seconds=8)
        told = await ask(two, "get_orchestration_status", orchestration_id="letters-1")
        await control(
            two, "letters-1", "decide", tasks=["bill"], value={"decision": "done", "output": {"number": 17}}
        )
        done = await ended(one, "letters-1")

    assert told.structured_content["waiting_for_decision"].keys() == {"bill"}
    assert done["outputs"][0]["output"] == {"number": 17}


async def test_a_request_its_driver_has_not_answered_is_told_to_be_stored(
    functions: Functions, post: Post, tmp_path: Any
) -> None:
    """Not a failure: it will be carried out; the next call looks."""
    driver = build_server(lambda: lend(durable(functions, post, tmp_path)))
    hasty = build_server(lambda: lend(durable(functions, post, tmp_path, control_wait_seconds=0.0)))
    async with Client(driver) as one, Client(hasty) as two:
        name = await running(one, functions)
        result = await control(two, name, "pause")
        with anyio.fail_after(5):
            status = await ask(one, "get_orchestration_status", orchestration_id=name)
            while status.structured_content["state"] != "paused":
                status = await ask(one, "get_orchestration_status", orchestration_id=name)
        functions.gate.set()

    assert result.is_error is False
    assert result.structured_content["message"].startswith("Asked for, and not carried out yet. waiting-1 is")
    (outcome,) = result.structured_content["outcomes"]
    assert outcome["outcome"] == "pending"
    assert outcome["detail"].startswith("The request for 'waiting-1' is stored, but process ")
