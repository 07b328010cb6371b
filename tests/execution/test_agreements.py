"""What an agreement covers, over a real database: exactly what would run, and what a change makes of it.

Who may agree, and from where, is in `test_approvals.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, Fallback, FunctionSystem, TaskDAG, TaskEdge, TaskNode
from orchestration.errors import NotPossibleError
from orchestration.models import Approver, TaskPriority, TaskStatus
from tests.execution.durable import Calls, assert_replayable, opened, orchestrator_over, statuses, until_task

pytestmark = pytest.mark.anyio

NAME = "release-1"
AWAITING = TaskStatus.AWAITING_APPROVAL


@pytest.fixture
def anyio_backend() -> str:
    """The database needs asyncio, and real time."""
    return "asyncio"


async def build() -> dict[str, Any]:
    return {"version": "1.2", "files": ["a", "b"]}


async def publish(version: str = "", inputs: dict[str, Any] | None = None) -> str:
    return f"published {version}"


async def quick() -> str:
    return "quick"


FUNCTIONS: dict[str, Callable[..., Any]] = {"build": build, "publish": publish, "quick": quick}


def release(approval: Approver | None = "person", **fields: Any) -> TaskDAG:
    """Return build → publish → tell; somebody must agree to `publish`."""
    dag = TaskDAG("release")
    dag.add_task(TaskNode("build", tool="build"))
    fields = {"tool": "publish", "arguments": {"version": "${build.version}"}, **fields}
    dag.add_task(TaskNode("publish", description="Put it out", approval=approval, **fields))
    dag.add_task(TaskNode("tell", tool="quick"))
    dag.add_dependency(TaskEdge("build", "publish", data_requirements=["files"]))
    dag.add_dependency(TaskEdge("publish", "tell"))
    return dag


async def asked(orchestrator: AdvancedTaskOrchestrator) -> dict[str, Any]:
    """Wait until somebody is asked about `publish`, and return what is shown."""
    await until_task(orchestrator, NAME, "publish", AWAITING)
    (found,) = await orchestrator.load_approvals(NAME)
    return found


async def test_what_would_run_is_shown_exactly_and_nothing_more_runs(tmp_path: Path) -> None:
    """References put in, inputs as the edges hand them on."""
    calls = Calls()

    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(release())
        found = await asked(orchestrator)
        before = dict(calls)
        await orchestrator.approve(NAME, "publish", digest=found["digest"], reason="looks fine")
        result = await orchestrator.wait(NAME)
        (row,) = await orchestrator.load_tasks(NAME, task_ids=["publish"])
        await assert_replayable(orchestrator, NAME)

    assert json.loads(found["shown"]) == {
        "system": "python",
        "tool": "publish",
        "description": "Put it out",
        "arguments": {"version": "1.2"},
        "inputs": {"build": {"files": ["a", "b"]}},
    }
    assert before == {"build": 1}
    assert result["results"]["publish"] == "published 1.2"
    assert (row.attempt, row.note) == (1, "approved by person (looks fine)")
    assert calls == {"build": 1, "publish": 1, "quick": 1}


async def test_what_is_long_is_cut_where_it_is_shown_and_agreed_to_whole(tmp_path: Path) -> None:
    """The digest is over everything."""

    async def long(end: str) -> dict[str, Any]:
        return {"version": "x" * 30_000 + end, "files": []}

    digests = []
    for end in "ab":
        folder = tmp_path / end
        folder.mkdir()
        dag = release()
        dag.nodes["build"] = TaskNode("build", tool="long", arguments={"end": end})
        async with opened(folder, {"python": FunctionSystem({**FUNCTIONS, "long": long})}) as orchestrator:
            await orchestrator.submit(dag)
            found = await asked(orchestrator)
            digests.append(found["digest"])
            assert "more characters)" in found["shown"]

    assert digests[0] != digests[1]


async def test_a_refusal_is_final(tmp_path: Path) -> None:
    """Neither a fallback nor an alternative plan gets round it."""

    class Collaborator:
        async def generate_alternative_plan(self, **_: Any) -> Any:
            return {"tasks": [{"task_id": "round", "tool": "quick"}]}

    calls = Calls()
    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=Collaborator()
    ) as orchestrator:
        await orchestrator.submit(release(fallback=Fallback(tool="quick")), mode="ADAPTIVE", ask_caller=True)
        await asked(orchestrator)
        await orchestrator.reject(NAME, "publish", reason="not today")
        result = await orchestrator.wait(NAME)

    assert result["success"] is False
    assert result["errors"]["publish"]["code"] == "rejected"
    assert "not today" in result["errors"]["publish"]["message"]
    assert calls == {"build": 1}


async def test_a_changed_task_is_asked_about_anew(tmp_path: Path) -> None:
    """What was shown before the change can't be agreed to any more."""
    async with opened(tmp_path, {"python": FunctionSystem(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(release())
        shown = await asked(orchestrator)
        changed = {"op": "set", "task_id": "publish", "arguments": {"version": "2"}}
        await orchestrator.edit(NAME, [changed], expected_revision=1)
        again = await asked(orchestrator)
        with pytest.raises(NotPossibleError, match="other arguments"):
            await orchestrator.approve(NAME, "publish", digest=shown["digest"])
        await orchestrator.approve(NAME, "publish", digest=again["digest"])
        result = await orchestrator.wait(NAME)

    assert json.loads(again["shown"])["arguments"] == {"version": "2"}
    assert result["results"]["publish"] == "published 2"


async def test_an_edit_voids_what_was_agreed_to(tmp_path: Path) -> None:
    """While it waits for a slot."""
    gate = anyio.Event()
    calls = Calls()

    async def hold() -> None:
        await gate.wait()

    dag = release()
    dag.add_task(TaskNode("hold", tool="hold", priority=TaskPriority.URGENT))
    other = TaskDAG("other")
    other.add_task(TaskNode("hold", tool="hold"))
    systems = {"python": calls.system({**FUNCTIONS, "hold": hold})}
    async with opened(tmp_path, systems, max_concurrent_tasks=2) as orchestrator:
        await orchestrator.submit(dag)
        await asked(orchestrator)
        await orchestrator.submit(other)
        await until_task(orchestrator, "other-1", "hold", TaskStatus.RUNNING)
        await orchestrator.approve(NAME, "publish")
        ready = (await statuses(orchestrator, NAME))["publish"]
        changed = {"op": "set", "task_id": "publish", "arguments": {"version": "2"}}
        await orchestrator.edit(NAME, [changed], expected_revision=1)
        gate.set()
        again = await asked(orchestrator)
        await orchestrator.approve(NAME, "publish")
        result = await orchestrator.wait(NAME)

    assert ready == "ready"
    assert json.loads(again["shown"])["arguments"] == {"version": "2"}
    assert result["results"]["publish"] == "published 2"
    assert calls["publish"] == 1


async def test_an_agreement_and_a_question_survive_a_restart(tmp_path: Path) -> None:
    """Who drives next asks nothing again, and runs what was agreed to."""
    calls = Calls()
    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(release())
        before = await asked(orchestrator)

    away = orchestrator_over(tmp_path, {"python": calls.system(FUNCTIONS)})
    with anyio.fail_after(10):
        (shown,) = await away.load_approvals(NAME)
        await away.approve(NAME, "publish", digest=shown["digest"])
        rested = await statuses(away, NAME)
        await away.resume(NAME)
        result = await away.load_result(NAME)
        events = [recorded.event.type for recorded in await away.load_events(NAME)]
        await assert_replayable(away, NAME)
    await away.aclose()

    assert shown["digest"] == before["digest"]
    assert (rested["publish"], rested["tell"]) == ("ready", "pending")
    assert result["success"] is True
    assert events.count("approval_requested") == events.count("approval_given") == 1
    assert calls == {"build": 1, "publish": 1, "quick": 1}


async def test_another_declaration_voids_what_was_agreed_to(tmp_path: Path) -> None:
    """What would run has changed since, so it is asked about again, and nothing ran meanwhile."""
    calls = Calls()
    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(release())
        before = await asked(orchestrator)
    away = orchestrator_over(tmp_path, {"python": calls.system(FUNCTIONS)})
    await away.approve(NAME, "publish")
    await away.aclose()

    async def republish(version: str, *, loudly: bool = True) -> str:
        return f"shouted {version}"

    systems = {"python": calls.system({**FUNCTIONS, "publish": republish})}
    async with opened(tmp_path, systems) as orchestrator:
        await orchestrator.resume(NAME)
        again = await asked(orchestrator)
        running = orchestrator.get_orchestration_status(NAME)["current_running_tasks"]
        called = calls["publish"]
        await orchestrator.approve(NAME, "publish", digest=again["digest"])
        result = await orchestrator.wait(NAME)
        await assert_replayable(orchestrator, NAME)

    assert again["digest"] != before["digest"]
    assert (running, called) == ([], 0)
    assert result["results"]["publish"] == "shouted 1.2"


async def test_a_task_that_waits_for_a_yes_holds_no_slot(tmp_path: Path) -> None:
    """With a single one, everything else runs meanwhile."""
    dag = release()
    for number in range(3):
        dag.add_task(TaskNode(f"beside{number}", tool="quick"))

    async with opened(
        tmp_path, {"python": FunctionSystem(FUNCTIONS)}, max_concurrent_tasks=1
    ) as orchestrator:
        await orchestrator.submit(dag)
        await asked(orchestrator)
        for number in range(3):
            await until_task(orchestrator, NAME, f"beside{number}", TaskStatus.COMPLETED)
        await orchestrator.approve(NAME, "publish")
        result = await orchestrator.wait(NAME)

    assert result["success"] is True


async def test_in_simple_mode_it_holds_its_place(tmp_path: Path) -> None:
    """What comes after it in the order waits for the yes, though it does not depend on it."""
    dag = TaskDAG("release")
    dag.add_task(TaskNode("publish", tool="publish", approval="person"))
    dag.add_task(TaskNode("later", tool="quick"))
    calls = Calls()

    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(dag, mode="SIMPLE")
        await asked(orchestrator)
        before = await statuses(orchestrator, NAME)
        await orchestrator.approve(NAME, "publish")
        result = await orchestrator.wait(NAME)

    assert before == {"publish": "awaiting_approval", "later": "ready"}
    assert result["success"] is True
    assert calls == {"publish": 1, "quick": 1}


async def test_what_was_agreed_to_once_is_asked_again_next_time(tmp_path: Path) -> None:
    """Its output is in no cache."""
    async with opened(tmp_path, {"python": FunctionSystem(FUNCTIONS)}) as orchestrator:
        for name in ("release-1", "release-2"):
            await orchestrator.submit(release("caller"))
            await until_task(orchestrator, name, "publish", AWAITING)
            await orchestrator.approve(name, "publish", by="caller")
            result = await orchestrator.wait(name)
            assert result["performance_metrics"]["tasks_reused"] == 0


async def test_the_time_of_the_whole_does_not_stand_still(tmp_path: Path) -> None:
    """Nobody's yes in time is a failure like any other."""
    dag = release()
    dag.timeout_seconds = 0.5

    async with opened(tmp_path, {"python": FunctionSystem(FUNCTIONS)}) as orchestrator:
        result = await orchestrator.execute_dag(dag)
        found = await statuses(orchestrator, NAME)
        with pytest.raises(NotPossibleError):
            await orchestrator.approve(NAME, "publish")

    assert (result["success"], result["state"]) == (False, "failed")
    assert (found["publish"], found["tell"]) == ("cancelled", "cancelled")


async def test_arguments_that_can_not_be_put_in_fail_the_task_without_a_question(tmp_path: Path) -> None:
    """There is nothing to agree to."""
    async with opened(tmp_path, {"python": FunctionSystem(FUNCTIONS)}) as orchestrator:
        result = await orchestrator.execute_dag(release(arguments={"version": "${build.missing}"}))
        events = [recorded.event.type for recorded in await orchestrator.load_events(NAME)]

    assert result["errors"]["publish"]["code"] == "reference_error"
    assert "approval_requested" not in events


async def test_a_fallback_needs_a_yes_of_its_own(tmp_path: Path) -> None:
    """What runs then is something else."""

    async def fail(version: str) -> None:
        raise ConnectionError("down")

    fallback = Fallback(tool="publish", arguments={"version": "${build.version} elsewhere"})
    dag = release(tool="fail", max_retries=0, fallback=fallback)
    async with opened(tmp_path, {"python": FunctionSystem({**FUNCTIONS, "fail": fail})}) as orchestrator:
        await orchestrator.submit(dag)
        first = await asked(orchestrator)
        await orchestrator.approve(NAME, "publish", digest=first["digest"])
        seq = 0
        while True:
            found = await orchestrator.load_approvals(NAME)
            if found and found[0]["digest"] != first["digest"]:
                break
            seq = await orchestrator.wait_for_change(NAME, after_seq=seq, timeout_seconds=0.5)
        await orchestrator.approve(NAME, "publish")
        result = await orchestrator.wait(NAME)

    assert json.loads(found[0]["shown"])["arguments"] == {"version": "1.2 elsewhere"}
    assert result["results"]["publish"] == "published 1.2 elsewhere"


async def test_pausing_and_cancelling_while_somebody_is_asked(tmp_path: Path) -> None:
    """A yes counts while it is paused, and runs nothing; what is cancelled can't be agreed to."""
    calls = Calls()
    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(release())
        await asked(orchestrator)
        await orchestrator.pause(NAME)
        await orchestrator.approve(NAME, "publish")
        paused = await statuses(orchestrator, NAME)
        called = calls["publish"]
        await orchestrator.resume(NAME)
        await orchestrator.wait(NAME)
        await orchestrator.submit(release())
        await until_task(orchestrator, "release-2", "publish", AWAITING)
        await orchestrator.cancel_orchestration("release-2")
        cancelled = await orchestrator.wait("release-2")
        with pytest.raises(NotPossibleError):
            await orchestrator.approve("release-2", "publish")

    assert (paused["publish"], called) == ("ready", 0)
    assert calls["publish"] == 1
    assert cancelled["state"] == "cancelled"


async def test_words_push_nothing_out_of_sight(tmp_path: Path) -> None:
    """What would be done comes first, whatever the description says and however long."""
    dag = TaskDAG("wordy")
    dag.add_task(
        TaskNode(
            "publish", "harmless " * 10_000, tool="quick", approval="person", arguments={"note": "everything"}
        )
    )

    async def quick(note: str) -> str:
        return note

    async with opened(tmp_path, {"python": FunctionSystem({"quick": quick})}) as orchestrator:
        name = await orchestrator.submit(dag)
        await until_task(orchestrator, name, "publish", TaskStatus.AWAITING_APPROVAL)
        (found,) = await orchestrator.load_approvals(name)

    assert "everything" in found["shown"]
    assert len(found["shown"]) < 1_000


async def test_an_earlier_result_agrees_to_nothing(tmp_path: Path) -> None:
    """What ran without being asked about does not stand for what somebody is to agree to."""
    before, after = TaskDAG("job"), TaskDAG("job")
    before.add_task(TaskNode("publish", tool="quick"))
    after.add_task(TaskNode("publish", tool="quick", approval="person"))

    async def quick() -> str:
        return "done"

    async with opened(tmp_path, {"python": FunctionSystem({"quick": quick})}) as orchestrator:
        first = await orchestrator.execute_dag(before)
        name = await orchestrator.submit(after, reuse=first["orchestration_id"])
        await until_task(orchestrator, name, "publish", TaskStatus.AWAITING_APPROVAL)
