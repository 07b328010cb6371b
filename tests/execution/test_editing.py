"""Editing stored plans and running orchestrations: a real SQLite file, a real driver, here, elsewhere or nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    FunctionSystem,
    NotPossibleError,
    OrchestrationMode,
    TaskDAG,
    TaskEdge,
    TaskNode,
    create_advanced_task_orchestrator,
)
from orchestration.edits.editing import EditRefusedError
from orchestration.engine.events import PlanEdited
from orchestration.errors import (
    ControlPendingError,
    InvalidArgumentError,
    OrchestrationNotFoundError,
    RefusedByDriverError,
    RevisionConflictError,
    UnroutableTaskError,
)
from orchestration.options import Limits, OrchestratorOptions
from storage import SqliteStorage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Jobs:
    """Tasks that note that they ran; `hold` and `stay` wait until they are let go."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.held = anyio.Event()
        self.leave = anyio.Event()
        self.stayed = anyio.Event()
        self.ran: list[str] = []

    async def note(self, name: str = "") -> dict[str, Any]:
        self.ran.append(name)
        return {"name": name, "rows": 3}

    async def hold(self) -> str:
        self.held.set()
        await self.open.wait()
        return "let go"

    async def stay(self) -> str:
        self.stayed.set()
        await self.leave.wait()
        return "left"

    async def fail(self) -> str:
        raise NotImplementedError("it never works")


Build = Callable[..., AdvancedTaskOrchestrator]


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def build(tmp_path: Path, jobs: Jobs) -> Build:
    """Make orchestrators on one file."""

    def build(**options: Any) -> AdvancedTaskOrchestrator:
        functions: dict[str, Callable[..., Any]] = {
            "note": jobs.note,
            "hold": jobs.hold,
            "stay": jobs.stay,
            "fail": jobs.fail,
        }
        return create_advanced_task_orchestrator(
            systems={"python": FunctionSystem(functions)},
            state_manager=SqliteStorage(tmp_path / "state.db"),
            settings=OrchestratorOptions(max_retries=0, **options),
        )

    return build


def note(name: str, **fields: Any) -> TaskNode:
    return TaskNode(name, tool="note", arguments={"name": name, **fields.pop("arguments", {})}, **fields)


def nightly() -> TaskDAG:
    """Return done, and hold → load → report."""
    dag = TaskDAG("nightly")
    dag.add_task(note("done"))
    dag.add_task(TaskNode("hold", tool="hold"))
    dag.add_task(note("load"))
    dag.add_task(note("report"))
    dag.add_dependency(TaskEdge("hold", "load"))
    dag.add_dependency(TaskEdge("load", "report"))
    return dag


async def until_ran(jobs: Jobs, name: str) -> None:
    """Wait until a task has begun."""
    while True:
        if name in jobs.ran:
            return
        await anyio.sleep(0.01)


async def until_counted(orchestrator: AdvancedTaskOrchestrator, name: str, status: str, count: int) -> None:
    """Wait until so many tasks have a status."""
    while True:
        if (await orchestrator.load_status(name))["counts"].get(status, 0) >= count:
            return
        await anyio.sleep(0.01)


async def until_revised(orchestrator: AdvancedTaskOrchestrator, name: str, revision: int) -> None:
    """Wait until the graph has a revision."""
    while True:
        if (await orchestrator.load_status(name))["revision"] >= revision:
            return
        await anyio.sleep(0.01)


async def until_asked(orchestrator: AdvancedTaskOrchestrator, name: str) -> None:
    """Wait until it is asked how `load` is to go on."""
    while True:
        (row,) = await orchestrator.load_tasks(name, task_ids=["load"])
        if row.status == "replanning" and row.note:
            return
        await anyio.sleep(0.01)


@asynccontextmanager
async def driven(
    build: Build, jobs: Jobs, dag: TaskDAG | None = None, **how: Any
) -> AsyncIterator[tuple[AdvancedTaskOrchestrator, str]]:
    """Give an orchestrator and an orchestration it drives, in which everything but `hold` has ended."""
    with anyio.fail_after(20):
        async with build() as orchestrator:
            name = await orchestrator.submit(nightly() if dag is None else dag, **how)
            await jobs.held.wait()
            await until_counted(orchestrator, name, "completed", 1)
            yield orchestrator, name


ADD = {
    "op": "add",
    "task": {"task_id": "audit", "tool": "note", "arguments": {"name": "audit"}, "depends_on": ["load"]},
}
LOAD = {"task_id": "load", "tool": "note", "arguments": {"name": "load"}}


# --- Plans --------------------------------------------------------------------------------------------------------


async def test_a_plan_is_edited_and_the_new_revision_is_what_runs(build: Build, jobs: Jobs) -> None:
    """Each edit is a revision of its own; the log says who, why and what."""
    with anyio.fail_after(20):
        async with build() as orchestrator:
            plan = await orchestrator.decompose("Do it", tasks=[LOAD])
            assert plan.plan_id is not None
            report = await orchestrator.edit(
                plan.plan_id, [ADD], expected_revision=1, reason="the auditors want it"
            )
            log = await orchestrator.revisions(plan.plan_id)
            result = await orchestrator.execute_dag(plan.plan_id)

    assert (report.revision, report.is_applied, report.is_plan) == (2, True, True)
    assert (report.added, report.linked, report.told) == (("audit",), (("load", "audit"),), "added audit")
    assert [(each.revision, each.by, each.reason) for each in log] == [
        (1, "caller", ""),
        (2, "person", "the auditors want it"),
    ]
    assert (result["success"], jobs.ran) == (True, ["load", "audit"])


async def test_what_a_person_is_to_type_names_the_database(build: Build, tmp_path: Path) -> None:
    """Without it the command would look elsewhere."""
    async with build() as orchestrator:
        plan = await orchestrator.decompose("Do it", tasks=[{**LOAD, "approval": "person"}])
        assert plan.plan_id is not None
        weaker = {"op": "set", "task_id": "load", "approval": None}
        with pytest.raises(EditRefusedError) as caught:
            await orchestrator.edit(plan.plan_id, [weaker], expected_revision=1, by="caller")

    command = f"advanced-orchestration edit {plan.plan_id} --database {tmp_path / 'state.db'} --op "
    assert command in caught.value.problems[0].fix


async def test_a_plan_goes_back_to_any_revision(build: Build) -> None:
    """Undoing is a revision, too, so it can be undone."""
    async with build() as orchestrator:
        plan = await orchestrator.decompose("Do it", tasks=[LOAD])
        assert plan.plan_id is not None
        await orchestrator.edit(plan.plan_id, [ADD], expected_revision=1)
        undone = await orchestrator.edit(plan.plan_id, undo_to=1, expected_revision=2, by="caller")
        redone = await orchestrator.edit(plan.plan_id, undo_to=2, expected_revision=3)
        log = await orchestrator.revisions(plan.plan_id)

    assert (undone.told, undone.undoes) == ("went back to revision 1: removed audit", 1)
    assert (redone.revision, redone.added) == (4, ("audit",))
    assert [(each.revision, each.by, each.undoes) for each in log] == [
        (1, "caller", None),
        (2, "person", None),
        (3, "caller", 1),
        (4, "person", 2),
    ]


async def test_a_plan_whose_tools_nobody_has_is_stored_with_a_warning(build: Build) -> None:
    """As with a new plan: somebody may configure the system before it runs."""
    async with build() as orchestrator:
        plan = await orchestrator.decompose("Do it", tasks=[LOAD])
        assert plan.plan_id is not None
        report = await orchestrator.edit(
            plan.plan_id, [{"op": "set", "task_id": "load", "tool": "fly"}], expected_revision=1
        )

    assert report.is_applied
    assert report.warnings[0].startswith("operations[0].tool: nothing can run task 'load'")


async def test_of_two_who_edit_one_revision_one_is_refused(build: Build) -> None:
    """Whoever is second looks again; nothing of the second edit is there."""
    async with build() as one:
        plan = await one.decompose("Do it", tasks=[LOAD])
        assert plan.plan_id is not None
        other = build()
        await one.edit(plan.plan_id, [ADD], expected_revision=1)
        with pytest.raises(RevisionConflictError, match="has revision 2 by now; nothing was changed"):
            await other.edit(plan.plan_id, [{"remove": "load"}], expected_revision=1)
        revisions = await other.revisions(plan.plan_id)
        await other.aclose()

    assert len(revisions) == 2


# --- Orchestrations -----------------------------------------------------------------------------------------------


async def test_a_running_orchestration_is_edited_and_goes_on(build: Build, jobs: Jobs) -> None:
    """What is done stays done; what was added runs; the journal, the log and the status tell of it."""
    async with driven(build, jobs) as (orchestrator, name):
        report = await orchestrator.edit(
            name,
            [
                ADD,
                {"op": "set", "task_id": "report", "arguments": {"name": "short report"}},
                {"op": "link", "from": "done", "to": "report", "condition": "output.rows > 0"},
                {"op": "priority", "task_id": "load", "priority": "urgent"},
            ],
            expected_revision=1,
            reason="it is late",
        )
        status = await orchestrator.load_status(name)
        jobs.open.set()
        result = await orchestrator.wait(name)
        log = await orchestrator.revisions(name)
        events = [recorded.event for recorded in await orchestrator.load_events(name)]

    assert (report.revision, status["revision"], result["success"]) == (2, 2, True)
    assert report.changed == {"load": ["priority"], "report": ["arguments"]}
    assert report.estimate is not None
    assert report.estimate["tasks"] == 4
    assert jobs.ran == ["done", "load", "audit", "short report"] or jobs.ran == [
        "done",
        "load",
        "short report",
        "audit",
    ]
    assert [(each.revision, each.by, each.reason) for each in log[1:]] == [(2, "person", "it is late")]
    (edit,) = [event for event in events if isinstance(event, PlanEdited)]
    assert (edit.revision, edit.by) == (2, "person")


async def test_a_dry_run_tells_what_an_edit_does_and_does_nothing(build: Build, jobs: Jobs) -> None:
    """Exactly what the real one then does; the present revision comes with it."""
    operations = [{"op": "skip", "task_id": "load", "reason": "loaded by hand"}]
    async with driven(build, jobs) as (orchestrator, name):
        before = (await orchestrator.load_status(name))["last_seq"]
        told = await orchestrator.edit(name, operations, dry_run=True)
        after = (await orchestrator.load_status(name))["last_seq"]
        done = await orchestrator.edit(name, operations, expected_revision=told.revision)
        jobs.open.set()
        result = await orchestrator.wait(name)

    assert (before, told.is_applied, told.revision) == (after, False, 1)
    assert (told.skipped, told.follows.skipped) == (("load",), ("report",))
    assert (done.skipped, done.follows, done.estimate) == (told.skipped, told.follows, told.estimate)
    assert result["dag"].nodes["load"].status == result["dag"].nodes["report"].status == "skipped"


async def test_a_dry_run_lists_refusals_and_an_edit_raises_them(build: Build, jobs: Jobs) -> None:
    """All at once, each with its operation; nothing is changed."""
    operations = [
        {"op": "set", "task_id": "hold", "timeout_seconds": 5},
        {"op": "remove", "task_id": "done"},
        {"op": "set", "task_id": "report", "tool": "fly"},
    ]
    async with driven(build, jobs) as (orchestrator, name):
        told = await orchestrator.edit(name, operations, dry_run=True)
        with pytest.raises(EditRefusedError) as refused:
            await orchestrator.edit(name, operations, expected_revision=1)
        status = await orchestrator.load_status(name)

    assert [problem.path for problem in told.refusals] == [
        "operations[0]",
        "operations[1]",
        "operations[2].tool",
    ]
    assert refused.value.problems == told.refusals
    assert str(refused.value).startswith(
        "The edit has 3 mistakes:\n  operations[0]: set hold: task 'hold' (running"
    )
    assert status["revision"] == 1


async def test_a_task_nothing_can_run_is_refused_before_anything_changes(build: Build, jobs: Jobs) -> None:
    """An orchestration that goes on would fail of it."""
    async with driven(build, jobs) as (orchestrator, name):
        with pytest.raises(UnroutableTaskError, match=r"operations\[0\]\.tool: nothing can run task 'audit'"):
            await orchestrator.edit(name, [{"op": "add", "task": {"task_id": "audit"}}], expected_revision=1)


async def test_undo_takes_back_what_has_not_begun(build: Build, jobs: Jobs) -> None:
    """By the same log as everything else; what began meanwhile is named."""
    async with driven(build, jobs) as (orchestrator, name):
        await orchestrator.edit(name, [ADD, {"op": "remove", "task_id": "report"}], expected_revision=1)
        undone = await orchestrator.edit(name, undo_to=1, expected_revision=2)
        started = {"op": "add", "task": {"task_id": "now", "tool": "note", "arguments": {"name": "now"}}}
        await orchestrator.edit(name, [started], expected_revision=3)
        await until_ran(jobs, "now")
        await until_counted(orchestrator, name, "completed", 2)
        with pytest.raises(EditRefusedError, match=r"undo_to: task 'now' \(completed\) can't be removed"):
            await orchestrator.edit(name, undo_to=3, expected_revision=4)
        jobs.open.set()
        result = await orchestrator.wait(name)
        log = await orchestrator.revisions(name)

    assert (undone.added, undone.removed, undone.undoes) == (("report",), ("audit",), 1)
    assert [(each.revision, each.undoes) for each in log] == [(1, None), (2, None), (3, 1), (4, None)]
    assert (result["success"], jobs.ran) == (True, ["done", "now", "load", "report"])


async def test_an_edit_reaches_the_process_that_drives(build: Build, jobs: Jobs) -> None:
    """It is validated and routed by whoever asks, and carried out by the driver."""
    async with driven(build, jobs) as (driver, name):
        other = build()
        report = await other.edit(name, [ADD], expected_revision=1, by="caller")
        with pytest.raises(RevisionConflictError):
            await other.edit(name, [{"remove": "report"}], expected_revision=1)
        await other.aclose()
        jobs.open.set()
        result = await driver.wait(name)

    assert (report.revision, result["success"], jobs.ran) == (2, True, ["done", "load", "report", "audit"])


async def test_the_driver_asks_once_more_what_has_begun(
    build: Build, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the change a task begins: refused by the driver, and nothing is changed."""
    dag = nightly()
    dag.nodes["load"] = TaskNode("load", tool="stay")
    async with driven(build, jobs, dag) as (driver, name):
        other = build()
        control = other.control

        async def late(*args: Any) -> Any:
            jobs.open.set()
            await jobs.stayed.wait()
            return await control(*args)

        monkeypatch.setattr(other, "control", late)
        with pytest.raises(RefusedByDriverError, match="Task 'load' is running, so it can't be changed"):
            await other.edit(name, [{"op": "set", "task_id": "load", "max_retries": 9}], expected_revision=1)
        await other.aclose()
        jobs.leave.set()
        result = await driver.wait(name)
        status = await driver.load_status(name)

    assert (result["success"], status["revision"]) == (True, 1)
    assert result["dag"].nodes["load"].max_retries is None


async def test_an_orchestration_nobody_drives_is_edited_where_it_lies(build: Build, jobs: Jobs) -> None:
    """Under a lease that is given back at once; nothing of it starts."""
    dag = TaskDAG("alone")
    dag.add_task(note("load"))
    with anyio.fail_after(20):
        outside = build()
        name = await outside.submit(dag)
        report = await outside.edit(name, [ADD], expected_revision=1)
        ran = list(jobs.ran)
        result = await outside.wait(name)
        await outside.aclose()

    assert (report.revision, ran, jobs.ran) == (2, [], ["load", "audit"])
    assert result["success"]


async def test_an_edit_waits_for_a_driver_that_does_not_answer(build: Build, jobs: Jobs) -> None:
    """The request stays stored, and that is said."""
    async with driven(build, jobs) as (driver, name):
        other = build(control_wait_seconds=0.0)
        with pytest.raises(ControlPendingError):
            await other.edit(name, [ADD], expected_revision=1)
        await other.aclose()
        await until_revised(driver, name, 2)
        jobs.open.set()
        result = await driver.wait(name)

    assert (result["success"], "audit" in jobs.ran) == (True, True)


async def test_an_answer_goes_on_with_a_task_that_failed(build: Build, jobs: Jobs) -> None:
    """ADAPTIVE, and nobody else knows: the question waits, `replace` answers it, what is done is not repeated."""
    dag = nightly()
    dag.nodes["load"] = TaskNode("load", tool="fail")
    copy = {"task_id": "copy", "tool": "note", "arguments": {"name": "copy"}}
    async with driven(build, jobs, dag, mode=OrchestrationMode.ADAPTIVE, ask_caller=True) as (
        orchestrator,
        name,
    ):
        jobs.open.set()
        await until_asked(orchestrator, name)
        report = await orchestrator.edit(
            name,
            [
                {
                    "op": "replace",
                    "task_id": "load",
                    "tasks": [copy],
                }
            ],
            expected_revision=1,
            by="caller",
        )
        result = await orchestrator.wait(name)
        log = await orchestrator.revisions(name)

    assert (report.replaced, report.added, report.revision) == ("load", ("copy",), 2)
    assert (result["success"], jobs.ran) == (True, ["done", "copy", "report"])
    assert [(each.revision, each.by) for each in log[1:]] == [(2, "caller")]


# --- What is refused ----------------------------------------------------------------------------------------------


async def test_what_has_ended_is_not_edited(build: Build, jobs: Jobs) -> None:
    """The refusal says what can be done instead."""
    jobs.open.set()
    async with build() as orchestrator:
        result = await orchestrator.execute_dag(nightly())
        with pytest.raises(
            NotPossibleError, match=r"is completed, so it can't be edited\. Running and paused"
        ):
            await orchestrator.edit(result["orchestration_id"], [ADD], expected_revision=1)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            {"operations": [ADD]},
            (
                "expected_revision is None; expected the revision the change is made for. "
                "Fix: Look at it first; it has revision 1 now."
            ),
        ),
        (
            {"operations": [ADD], "expected_revision": 0},
            "expected_revision is 0; expected the number of a revision, from 1.",
        ),
        (
            {"expected_revision": 1},
            (
                "operations is (); expected at least one operation, or undo_to. Fix: Send for example "
                '{"op": "set", "task_id": "load", "timeout_seconds": 600}.'
            ),
        ),
        (
            {"operations": [ADD], "undo_to": 1, "expected_revision": 1},
            (
                "undo_to is 1; expected operations or undo_to, not both. "
                "Fix: Send two edits, one after the other."
            ),
        ),
        (
            {"undo_to": 1, "expected_revision": 1},
            (
                "undo_to is 1; expected an earlier revision than the present one, 1. "
                "Fix: Nothing was changed yet."
            ),
        ),
        (
            {"operations": [ADD], "expected_revision": 1, "by": "planner"},
            ("by is 'planner'; expected who wants it: person, caller, or a name; not planner."),
        ),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused(build: Build, how: dict[str, Any], told: str) -> None:
    """Before anything is looked at."""
    dag = TaskDAG("alone")
    dag.add_task(note("load"))
    outside = build()
    name = await outside.submit(dag)

    with pytest.raises(InvalidArgumentError) as refused:
        await outside.edit(name, **how)
    await outside.aclose()

    assert str(refused.value) == told


async def test_what_is_not_there_can_not_be_edited(build: Build) -> None:
    """Neither a plan nor an orchestration has that name."""
    outside = build()
    with pytest.raises(OrchestrationNotFoundError):
        await outside.edit("nobody-1", [ADD], expected_revision=1)
    await outside.aclose()


async def test_a_plan_and_an_orchestration_of_one_name_are_told_apart(build: Build) -> None:
    """Which is meant is not guessed."""
    async with build() as orchestrator:
        plan = await orchestrator.decompose("Do it", tasks=[LOAD])
        assert plan.plan_id is not None
        await orchestrator.submit(nightly(), orchestration_id=plan.plan_id)
        with pytest.raises(
            InvalidArgumentError, match=f"Write plan:{plan.plan_id} or orchestration:{plan.plan_id}"
        ):
            await orchestrator.edit(plan.plan_id, [ADD], expected_revision=1)
        report = await orchestrator.edit(f"plan:{plan.plan_id}", [ADD], expected_revision=1)

    assert (report.is_plan, report.target) == (True, plan.plan_id)


async def test_outputs_that_are_too_large_to_look_at_are_refused(build: Build, jobs: Jobs) -> None:
    """A condition sees the whole output, and the request brings it along: bounded."""
    async with driven(build, jobs) as (orchestrator, name):
        other = create_advanced_task_orchestrator(
            systems={"python": FunctionSystem({"note": jobs.note, "hold": jobs.hold})},
            state_manager=orchestrator.storage,
            settings=OrchestratorOptions(limits=Limits(max_resolved_arguments_bytes=5)),
        )
        operation = {"op": "link", "from": "done", "to": "report", "condition": "output.rows > 0"}
        with pytest.raises(
            EditRefusedError, match="new edges look at outputs of 24 bytes; at most 5 are allowed"
        ):
            await other.edit(name, [operation], expected_revision=1)
