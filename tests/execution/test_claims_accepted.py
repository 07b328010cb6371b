"""Reported is not verified: what must hold before a result counts, a worker's or any other system's."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, TaskDAG, TaskEdge, TaskNode
from orchestration.errors import SystemUnavailableError
from orchestration.models import TaskStatus
from orchestration.systems.command import CommandSystem
from orchestration.systems.command_spec import CommandSpec
from tests.execution.offered import Office, claimed, done, finished, for_agent, until

pytestmark = pytest.mark.anyio

ACCEPTED = [
    {"condition": "output.ok"},
    {"output_schema": {"type": "object", "properties": {"ok": {"const": True}}}},
]
"""Two ways to ask that the output's `ok` is true."""

LOOK = "import sys; sys.exit(0 if sys.argv[1] == 'True' else 'the tests fail: 2 of 7')"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def office() -> Office:
    return Office(None)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Hold what a test opens, for a bounded time."""
    with anyio.fail_after(30):
        async with AsyncExitStack() as opened:
            yield opened


async def begin(
    office: Office, stack: AsyncExitStack, *nodes: TaskNode, functions: Any = None, **more: Any
) -> AdvancedTaskOrchestrator:
    """Open an orchestrator and submit these tasks as `work-1`."""
    after = more.pop("after", ())
    orchestrator = await stack.enter_async_context(office.orchestrator(functions, **more))
    dag = TaskDAG("work")
    for node in nodes:
        dag.add_task(node)
    for target in after:
        dag.add_dependency(TaskEdge("a", target))
    await orchestrator.submit(dag)
    return orchestrator


class Fussy:
    """A function that fails for what is not right, and remembers what it saw."""

    def __init__(self, *, is_down: bool = False) -> None:
        self.seen: list[Any] = []
        self.is_down = is_down

    def look(self, result: Any, inputs: Any = None) -> None:
        self.seen.append((result, inputs))
        if self.is_down:
            raise SystemUnavailableError("python", "it is down")
        if result != {"ok": True}:
            raise ValueError("it is not ok")


async def both_ways(orchestrator: AdvancedTaskOrchestrator, office: Office) -> tuple[Any, Any]:
    """Report what is refused, then, as somebody else, what is accepted; return both answers."""
    refused = await done(orchestrator, await claimed(orchestrator, "ann"), {"ok": False})
    await until(orchestrator, "work-1", "a", TaskStatus.RETRYING, TaskStatus.OFFERED)
    office.clock.skip(2)
    accepted = await done(orchestrator, await claimed(orchestrator, "bob"), {"ok": True})
    return refused, accepted


@pytest.mark.parametrize("acceptance", ACCEPTED, ids=["condition", "schema"])
async def test_what_does_not_hold_is_refused_and_somebody_else_may_try(
    office: Office, stack: AsyncExitStack, acceptance: dict[str, Any]
) -> None:
    """The worker is told why in the answer to its report, and the totals keep both."""
    orchestrator = await begin(office, stack, for_agent("a", acceptance=acceptance))
    refused, accepted = await both_ways(orchestrator, office)
    result = await finished(orchestrator, "work-1")
    totals = await orchestrator.storage.load_claim_totals("work-1")

    assert refused.verdict.is_accepted, "the report was: what it says was not"
    assert refused.verdict.claim.is_accepted is False
    assert refused.verdict.claim.reason.startswith("The result is not accepted: ")
    assert accepted.verdict.claim.is_accepted is True
    assert result["results"]["a"] == {"ok": True}
    assert (totals.reported_done, totals.accepted, totals.refused) == (2, 1, 1)
    assert totals.by_worker == {"ann": (1, 1, 0), "bob": (1, 1, 1)}


async def test_a_function_may_look_at_a_result(office: Office, stack: AsyncExitStack) -> None:
    """With the output where `${output…}` says, and among its inputs."""
    fussy = Fussy()
    acceptance = {"tool": "look", "arguments": {"result": "${output}"}, "system_preference": "python"}
    orchestrator = await begin(
        office, stack, for_agent("a", acceptance=acceptance), functions={"look": fussy.look}
    )
    refused, _ = await both_ways(orchestrator, office)
    result = await finished(orchestrator, "work-1")

    assert result["success"] is True
    assert "look: it is not ok" in refused.verdict.claim.reason
    assert fussy.seen == [({"ok": value}, {"a": {"ok": value}}) for value in (False, True)]


async def test_a_command_may_look_at_a_result(office: Office, stack: AsyncExitStack) -> None:
    """What runs the tests: its exit code counts, what it prints is the reason."""
    shell = CommandSystem({"tests": CommandSpec(argv=[sys.executable, "-c", LOOK, "{ok}"])}, "shell")
    acceptance = {"tool": "tests", "arguments": {"ok": "${output.word}"}, "system_preference": "shell"}
    orchestrator = await begin(office, stack, for_agent("a", acceptance=acceptance), systems={"shell": shell})
    refused = await done(orchestrator, await claimed(orchestrator, "ann"), {"word": "False"})
    await until(orchestrator, "work-1", "a", TaskStatus.RETRYING, TaskStatus.OFFERED)
    told = await orchestrator.storage.load_claim(refused.verdict.claim.claim_id)
    office.clock.skip(2)
    await done(orchestrator, await claimed(orchestrator, "bob"), {"word": "True"})
    result = await finished(orchestrator, "work-1")

    assert "the tests fail: 2 of 7" in told.reason
    assert result["success"] is True


async def test_what_can_not_be_looked_at_now_is_no_refusal(office: Office, stack: AsyncExitStack) -> None:
    """The system of the check is down: a failure like any other."""
    fussy = Fussy(is_down=True)
    acceptance = {"tool": "look", "arguments": {"result": "${output}"}, "system_preference": "python"}
    orchestrator = await begin(
        office, stack, for_agent("a", acceptance=acceptance, max_retries=0), functions={"look": fussy.look}
    )
    await done(orchestrator, await claimed(orchestrator), {"ok": True})
    result = await finished(orchestrator, "work-1")

    assert result["errors"]["a"]["code"] == "system_unavailable"
    assert (await orchestrator.storage.load_claim_totals("work-1")).refused == 0


async def test_a_worker_that_did_what_must_not_be_repeated_is_not_followed_by_another_one(
    office: Office, stack: AsyncExitStack
) -> None:
    """It says that it was done; whether it is to be done again is for somebody to decide."""
    node = for_agent("a", acceptance={"condition": "output.ok"}, idempotent=False)
    orchestrator = await begin(office, stack, node)
    await done(orchestrator, await claimed(orchestrator), {"ok": False})
    await until(orchestrator, "work-1", "a", TaskStatus.UNKNOWN)
    totals = await orchestrator.storage.load_claim_totals("work-1")
    await orchestrator.decide("work-1", "a", "done", output={"ok": "enough"})
    result = await finished(orchestrator, "work-1")

    assert (totals.refused, totals.accepted) == (1, 0)
    assert result["results"]["a"] == {"ok": "enough"}


async def test_a_refusal_is_counted_where_the_task_goes_on_elsewhere_at_once(
    office: Office, stack: AsyncExitStack
) -> None:
    """The worker is told of it all the same."""
    node = for_agent(
        "a",
        acceptance={"condition": "output.ok"},
        max_retries=0,
        fallback={"system_preference": "python", "tool": "make"},
    )
    functions = {"make": lambda: {"ok": "by function"}}
    orchestrator = await begin(office, stack, node, functions=functions)
    told = await done(orchestrator, await claimed(orchestrator), {"ok": False})
    result = await finished(orchestrator, "work-1")
    totals = await orchestrator.storage.load_claim_totals("work-1")

    assert told.verdict.claim.is_accepted is False
    assert result["errors"]["a"]["code"] == "not_accepted", "a text is no yes, whoever says it"
    assert (totals.reported_done, totals.accepted, totals.refused) == (1, 0, 1)


@pytest.mark.parametrize("own", [None, {"condition": "true"}])
async def test_the_last_of_the_tasks_in_place_of_one_must_hold_the_same(
    office: Office, stack: AsyncExitStack, own: dict[str, Any] | None
) -> None:
    """What was to hold does not go away by a split, whatever the new task asks of itself."""
    orchestrator = await begin(office, stack, for_agent("a", acceptance={"condition": "output.ok"}))
    claim = await claimed(orchestrator)
    parts = [{"task_id": "part", "system_preference": "agent", "max_retries": 0, "acceptance": own}]
    await orchestrator.report_task(claim.claim_id, "progress", subtasks=parts)
    told = await done(orchestrator, await claimed(orchestrator), {"ok": False})
    result = await finished(orchestrator, "work-1")

    assert told.verdict.claim.is_accepted is False
    assert result["errors"]["part~1"]["code"] == "not_accepted"


# Every other system


class Maker:
    """Makes something that is right the second time."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs = list(outputs)
        self.calls = 0

    def make(self) -> Any:
        self.calls += 1
        return self.outputs.pop(0)


def for_python(task_id: str = "a", tool: str = "make", **fields: Any) -> TaskNode:
    return TaskNode(task_id, tool=tool, system_preference="python", **fields)


@pytest.mark.parametrize("acceptance", ACCEPTED, ids=["condition", "schema"])
async def test_what_any_system_delivers_is_looked_at_and_made_again_where_it_does_not_hold(
    office: Office, stack: AsyncExitStack, acceptance: dict[str, Any]
) -> None:
    """An answer is not a result."""
    maker = Maker({"ok": False}, {"ok": True})
    orchestrator = await begin(
        office, stack, for_python(acceptance=acceptance), functions={"make": maker.make}
    )
    result = await finished(orchestrator, "work-1")

    assert result["results"]["a"] == {"ok": True}
    assert maker.calls == 2


async def test_a_result_that_is_never_right_fails_the_task_and_says_why(
    office: Office, stack: AsyncExitStack
) -> None:
    """Nothing is delivered."""
    maker = Maker({"ok": False}, {"ok": 0})
    node = for_python(acceptance={"condition": "output.ok == true"}, max_retries=1)
    orchestrator = await begin(office, stack, node, functions={"make": maker.make})
    result = await finished(orchestrator, "work-1")

    assert result["errors"]["a"]["code"] == "not_accepted"
    assert "`output.ok == true` does not hold" in result["errors"]["a"]["message"]
    assert "a" not in result["results"]


async def test_what_looks_at_a_result_can_not_change_it(office: Office, stack: AsyncExitStack) -> None:
    """It sees a copy."""

    def spoil(result: dict[str, Any], inputs: dict[str, Any]) -> None:
        result["ok"] = inputs["a"]["ok"] = "spoiled"

    acceptance = {"tool": "spoil", "arguments": {"result": "${output}"}}
    user = TaskNode("use", tool="use", system_preference="python", arguments={"value": "${a.ok}"})
    functions = {"make": Maker({"ok": True}).make, "spoil": spoil, "use": lambda value: value}
    orchestrator = await begin(
        office, stack, for_python(acceptance=acceptance), user, functions=functions, after=["use"]
    )
    result = await finished(orchestrator, "work-1")

    assert result["results"] == {"a": {"ok": True}, "use": True}


async def test_what_must_not_be_repeated_waits_for_a_decision_when_its_result_is_refused(
    office: Office, stack: AsyncExitStack
) -> None:
    """It was done, whatever came of it."""
    maker = Maker({"ok": False}, {"ok": True})
    node = for_python(acceptance={"condition": "output.ok"}, idempotent=False)
    orchestrator = await begin(office, stack, node, functions={"make": maker.make})
    await until(orchestrator, "work-1", "a", TaskStatus.UNKNOWN)
    assert maker.calls == 1
    await orchestrator.decide("work-1", "a", "retry")
    result = await finished(orchestrator, "work-1")

    assert (result["success"], maker.calls) == (True, 2)


async def test_what_verify_tells_is_looked_at_too(office: Office, stack: AsyncExitStack) -> None:
    """Else a result that was refused would come in by the back door."""
    maker = Maker({"ok": False})
    node = for_python(
        acceptance={"condition": "output.ok"}, idempotent=False, verify={"tool": "check", "arguments": {}}
    )
    functions = {"make": maker.make, "check": lambda: {"answer": "done", "output": {"ok": False}}}
    orchestrator = await begin(office, stack, node, functions=functions)
    await until(orchestrator, "work-1", "a", TaskStatus.UNKNOWN)
    with anyio.fail_after(5):
        while True:
            (row,) = await orchestrator.load_tasks("work-1", task_ids=["a"])
            if "`verify` could not say" in (row.note or ""):
                break
            await anyio.sleep(0.01)

    assert "not accepted" in (row.note or "")
    assert maker.calls == 1


async def test_a_refused_result_is_nobody_s_result_and_a_kept_one_must_hold_for_whoever_uses_it(
    office: Office, stack: AsyncExitStack
) -> None:
    """Neither stored in the cache, nor taken from it by who asks more of it."""
    maker = Maker({"ok": False}, {"ok": True, "size": 1}, {"ok": True, "size": 9})
    cache = {"ttl_seconds": 3600.0}
    orchestrator = await stack.enter_async_context(office.orchestrator({"make": maker.make}))
    asked = ["output.ok", "output.ok", "output.size > 5"]
    results = []
    for number, condition in enumerate(asked):
        dag = TaskDAG(f"work{number}")
        dag.add_task(for_python(cache=cache, acceptance={"condition": condition}))
        identifier = await orchestrator.submit(dag)
        results.append((await finished(orchestrator, str(identifier)))["results"]["a"])

    assert results == [{"ok": True, "size": 1}, {"ok": True, "size": 1}, {"ok": True, "size": 9}]
    assert maker.calls == 3
