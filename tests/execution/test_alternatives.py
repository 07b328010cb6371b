"""What takes the place of a task that has failed: each kind of alternative, over a real database.

Whatever it is, the orchestration completes and what is done elsewhere is not done again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, TaskDAG, TaskEdge, TaskNode
from orchestration.errors import AttemptFailedError, NotPossibleError, RevisionConflictError
from orchestration.models import Fallback, Json
from orchestration.options import Limits, OrchestratorOptions
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.systems.registry import SystemRegistry
from storage import SqliteStorage
from tests.execution.durable import (
    Calls,
    assert_replayable,
    drawn,
    opened,
    orchestrator_over,
    statuses,
    until_asked,
)
from tests.planning.model_server import model_server, plan

pytestmark = pytest.mark.anyio

NAME = "orders-1"


async def fetch() -> dict[str, Any]:
    return {"rows": [1, 2, 3], "path": "orders.csv"}


async def fail(inputs: dict[str, Any] | None = None) -> None:
    """Fail in a way that repeating may help."""
    raise ConnectionError("the warehouse is down")


async def fail_for_good(inputs: dict[str, Any] | None = None) -> None:
    raise AttemptFailedError("the table is gone", "gone", retryable=False)


async def pour(path: str = "") -> dict[str, str]:
    return {"poured": path}


async def tidy(path: str = "") -> str:
    return path


async def check() -> str:
    return "checked"


async def report(loaded: Any = None) -> str:
    return f"report of {loaded}"


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "fetch": fetch,
    "fail": fail,
    "fail_for_good": fail_for_good,
    "pour": pour,
    "tidy": tidy,
    "check": check,
    "report": report,
}
DONE_ONCE = {"fetch": 1, "check": 1, "report": 1}
"""What lies beside, before and behind the task that fails."""


def orders(tool: str = "fail", **fields: Any) -> TaskDAG:
    """Return fetch → load → report, and check beside; `load` fails."""
    dag = TaskDAG("orders", "Load the orders")
    dag.add_task(TaskNode("fetch", tool="fetch"))
    dag.add_task(TaskNode("check", tool="check"))
    dag.add_task(
        TaskNode("load", description="Pour the rows into the lake", tool=tool, max_retries=0, **fields)
    )
    dag.add_task(TaskNode("report", tool="report", arguments={"loaded": "${load}"}))
    dag.add_dependency(TaskEdge("fetch", "load"))
    dag.add_dependency(TaskEdge("check", "report"))
    dag.add_dependency(TaskEdge("load", "report"))
    return dag


POURED: Json = {"poured": "orders.csv"}
REPORTED = f"report of {POURED}"
ALTERNATIVE: dict[str, Any] = {
    "tasks": [
        {
            "task_id": "tidy",
            "description": "Make room",
            "tool": "tidy",
            "arguments": {"path": "${fetch.path}"},
        },
        {"task_id": "pour", "tool": "pour", "arguments": {"path": "${tidy}"}, "depends_on": ["tidy"]},
    ],
    "delivers": "pour",
    "reason": "A lake is never full.",
}
SPLICED = {
    "fetch": "completed",
    "check": "completed",
    "load": "superseded",
    "report": "completed",
    "tidy~1": "completed",
    "pour~1": "completed",
}


@pytest.fixture
def anyio_backend() -> str:
    """The database needs asyncio, and real time."""
    return "asyncio"


class Collaborator:
    """Answers by a script, and keeps what it was told."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.told: list[dict[str, Any]] = []

    async def generate_alternative_plan(self, **told: Any) -> Any:
        self.told.append(told)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_another_system_that_can_do_it_takes_over(tmp_path: Path) -> None:
    """A task that left the choice to the router goes on elsewhere; its graph stays as it is."""
    calls = Calls()
    systems = {
        "near": calls.system({**FUNCTIONS, "pour": fail}, "near"),
        "far": calls.system({"pour": pour}, "far"),
    }
    dag = orders("pour", arguments={})

    async with opened(tmp_path, systems) as orchestrator:
        result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")
        (row,) = await orchestrator.load_tasks(NAME, task_ids=["load"])
        told = await orchestrator.storage.load_revisions(NAME)
        await assert_replayable(orchestrator, NAME)

    assert result["success"] is True
    assert result["results"]["report"] == "report of {'poured': ''}"
    assert (row.attempt, row.system, row.note) == (2, "far", "goes on at far: near used up its attempts")
    assert calls == {**DONE_ONCE, "pour": 2}
    assert told == []


async def test_another_system_is_of_no_use_where_repeating_can_not_help(tmp_path: Path) -> None:
    """A definite refusal is not asked for again elsewhere."""
    calls = Calls()
    systems = {
        "near": calls.system({**FUNCTIONS, "pour": fail_for_good}, "near"),
        "far": calls.system({"pour": pour}, "far"),
    }

    async with opened(tmp_path, systems) as orchestrator:
        result = await orchestrator.execute_dag(orders("pour"), mode="ADAPTIVE")

    assert result["success"] is False
    assert result["errors"]["load"]["code"] == "gone"
    assert calls == {"fetch": 1, "check": 1, "pour": 1}


async def test_fallbacks_take_over_one_after_the_other(tmp_path: Path) -> None:
    """Under the same id, attempts counting on; the output of the last one is the task's."""
    calls = Calls()
    systems = {"near": calls.system(FUNCTIONS, "near"), "far": calls.system(FUNCTIONS, "far")}
    inner = Fallback(system_preference="far", tool="pour", arguments={"path": "${fetch.path}"})
    dag = orders("fail_for_good", fallback=Fallback(tool="fail", max_retries=1, fallback=inner))

    async with opened(tmp_path, systems) as orchestrator:
        result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")
        (row,) = await orchestrator.load_tasks(NAME, task_ids=["load"])
        drawing = await drawn(orchestrator, NAME)
        told = await orchestrator.storage.load_revisions(NAME)
        await assert_replayable(orchestrator, NAME)

    assert result["results"]["report"] == REPORTED
    assert (row.attempt, row.system, row.note) == (4, "far", "fallback 2 goes on at far")
    assert calls == {**DONE_ONCE, "fail_for_good": 1, "fail": 2, "pour": 1}
    assert result["dag"].nodes["load"].tool == "fail_for_good"
    assert "replaced by" not in drawing
    assert told == []


async def by_collaborator(tmp_path: Path, calls: Calls) -> tuple[dict[str, Any], AdvancedTaskOrchestrator]:
    async with opened(
        tmp_path,
        {"python": calls.system(FUNCTIONS)},
        sequential_thinking=Collaborator(ALTERNATIVE),
    ) as orchestrator:
        return await orchestrator.execute_dag(orders(), mode="ADAPTIVE"), orchestrator


async def by_model(tmp_path: Path, calls: Calls) -> tuple[dict[str, Any], AdvancedTaskOrchestrator]:
    async with model_server(plan(**ALTERNATIVE)) as server:
        options = ModelOptions.model_validate({"name": "own", "base_url": server.url})
        async with opened(
            tmp_path, {"python": calls.system(FUNCTIONS)}, model=ModelPlanner(options)
        ) as orchestrator:
            return await orchestrator.execute_dag(orders(), mode="ADAPTIVE"), orchestrator


async def by_caller(tmp_path: Path, calls: Calls) -> tuple[dict[str, Any], AdvancedTaskOrchestrator]:
    async with opened(tmp_path, {"python": calls.system(FUNCTIONS)}) as orchestrator:
        await orchestrator.submit(orders(), mode="ADAPTIVE", ask_caller=True)
        await until_asked(orchestrator, NAME, "load")
        answer = {"tasks": ALTERNATIVE["tasks"], "delivers": "pour"}
        await orchestrator.edit(
            NAME,
            [{"op": "replace", "task_id": "load", **answer}],
            expected_revision=1,
            by="caller",
            reason="A lake is never full.",
        )
        return await orchestrator.wait(NAME), orchestrator


@pytest.mark.parametrize(
    ("complete", "by", "why"),
    [
        (by_collaborator, "planner", "the warehouse is down A lake is never full."),
        (by_model, "planner", "the warehouse is down A lake is never full."),
        (by_caller, "caller", "A lake is never full."),
    ],
)
async def test_a_plan_takes_the_place_of_the_task(
    tmp_path: Path, complete: Callable[..., Any], by: str, why: str
) -> None:
    """The drawing shows what replaced what, the log says who and why, and nothing is done twice."""
    calls = Calls()

    result, orchestrator = await complete(tmp_path, calls)

    assert result["success"] is True
    assert result["results"]["report"] == REPORTED
    assert calls == {**DONE_ONCE, "fail": 1, "tidy": 1, "pour": 1}
    assert await statuses(orchestrator, NAME) == SPLICED
    (revision,) = await orchestrator.storage.load_revisions(NAME)
    assert (revision.revision, revision.by, revision.reason) == (2, by, why)
    assert revision.told == "replaced load by tidy~1, pour~1"
    drawing = await drawn(orchestrator, NAME)
    names = dict(re.findall(r'^    (t\d+)\["([\w~]+)', drawing, re.MULTILINE))
    names = {task_id: name for name, task_id in names.items()}
    assert f'{names["load"]} -.->|"replaced by"| {names["tidy~1"]}' in drawing
    assert f"%% revision 2 by {by}: load was replaced by tidy~1, pour~1: {why}" in drawing
    assert "stroke-dasharray" in drawing
    await assert_replayable(orchestrator, NAME)
    await orchestrator.aclose()


async def test_a_playbook_that_fits_takes_the_place_of_the_task(tmp_path: Path) -> None:
    """The task's description is its goal."""
    folder = tmp_path / "playbooks"
    folder.mkdir()
    (folder / "lake.yaml").write_text(
        dedent("""\
            name: lake
            title: Pour into the lake
            description: Pours rows into the lake.
            goals: [Pour the rows into the lake]
            subtasks:
              - {task_id: tidy, description: Make room, tool: tidy}
              - {task_id: pour, description: Pour, tool: pour, depends_on: [tidy], arguments: {path: x}}
            """),
        encoding="utf-8",
    )
    calls = Calls()

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, playbook_folders=[folder]
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")
        (revision,) = await orchestrator.storage.load_revisions(NAME)

    assert result["success"] is True
    assert result["results"]["report"] == "report of {'poured': 'x'}"
    assert calls == {**DONE_ONCE, "fail": 1, "tidy": 1, "pour": 1}
    assert revision.by == "planner"
    assert "lake" in revision.reason


async def test_the_order_is_system_then_fallback_then_plan(tmp_path: Path) -> None:
    """Each is tried before the next is asked."""
    calls = Calls()
    collaborator = Collaborator(ALTERNATIVE)
    systems = {
        "near": calls.system({**FUNCTIONS, "load": fail}, "near"),
        "far": calls.system({"load": fail}, "far"),
    }
    dag = orders("load", fallback=Fallback(system_preference="near", tool="fail"))
    order: list[str] = []

    async with opened(tmp_path, systems, sequential_thinking=collaborator) as orchestrator:
        result = await orchestrator.execute_dag(
            dag, mode="ADAPTIVE", on_event=lambda recorded: order.append(recorded.event.type)
        )

    steps = {"attempt_failed", "task_rerouted", "fallback_started", "replan_requested", "plan_revised"}
    assert [step for step in order if step in steps] == [
        "attempt_failed",
        "task_rerouted",
        "attempt_failed",
        "fallback_started",
        "attempt_failed",
        "replan_requested",
        "plan_revised",
    ]
    assert result["results"]["report"] == REPORTED


async def test_the_planner_is_told_how_things_stand(tmp_path: Path) -> None:
    """The failure, what the task was fed, what is done, and which systems are up."""
    collaborator = Collaborator(ALTERNATIVE)

    async with opened(
        tmp_path, {"python": FunctionSystem(FUNCTIONS)}, sequential_thinking=collaborator
    ) as orchestrator:
        await orchestrator.execute_dag(orders(), mode="ADAPTIVE", context={"region": "eu"})

    (told,) = collaborator.told
    context = told["context"]
    assert told["failed_task"].task_id == "load"
    assert context["error"]["message"] == "the warehouse is down"
    assert context["inputs"] == {"fetch": {"rows": [1, 2, 3], "path": "orders.csv"}}
    assert set(context["completed_tasks"]) == {"fetch", "check"}
    assert (context["goal"], context["region"]) == ("Load the orders", "eu")
    assert told["available_resources"] == {"systems": ["python"]}


@pytest.mark.parametrize("mode", ["SIMPLE", "HIERARCHICAL"])
async def test_only_adaptive_orchestrations_ask_for_a_plan(tmp_path: Path, mode: str) -> None:
    """The others fail."""
    collaborator = Collaborator(ALTERNATIVE)

    async with opened(
        tmp_path, {"python": FunctionSystem(FUNCTIONS)}, sequential_thinking=collaborator
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode=mode)

    assert (result["success"], collaborator.told) == (False, [])


# Limits, and what is inherited


FAILS_TOO: dict[str, Any] = {"tasks": [{"task_id": "again", "tool": "fail", "max_retries": 0}]}
OTHERWISE: dict[str, Any] = {
    "tasks": [{"task_id": "again", "tool": "fail", "description": "otherwise", "max_retries": 0}]
}


async def test_what_was_tried_already_is_refused(tmp_path: Path) -> None:
    """The task itself, and every alternative before."""
    same = {"tasks": [{"task_id": "load", "description": "Pour the rows into the lake", "tool": "fail"}]}
    calls = Calls()

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=Collaborator(same)
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")

    assert result["success"] is False
    assert (
        "no alternative plan: the alternative is what was tried already"
        in result["errors"]["load"]["message"]
    )
    assert calls["fail"] == 1


async def test_an_alternative_that_fails_is_not_tried_again_under_another_name(tmp_path: Path) -> None:
    """Its own alternative must be something else."""
    calls = Calls()
    renamed = {"tasks": [{**FAILS_TOO["tasks"][0], "task_id": "other"}]}

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=Collaborator(FAILS_TOO, renamed)
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")

    assert "what was tried already" in result["errors"]["again~1"]["message"]
    assert calls["fail"] == 2


async def test_a_task_is_replaced_twice_at_most(tmp_path: Path) -> None:
    """The third failure in its place is final, and the log has two entries."""
    calls = Calls()
    collaborator = Collaborator(FAILS_TOO, OTHERWISE, ALTERNATIVE)

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=collaborator
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")
        log = await orchestrator.storage.load_revisions(NAME)

    assert result["success"] is False
    assert list(result["errors"]) == ["again~2"]
    assert [entry.told for entry in log] == ["replaced load by again~1", "replaced again~1 by again~2"]
    assert (len(collaborator.told), calls["fail"]) == (2, 3)


async def test_an_orchestration_is_replanned_five_times_at_most(tmp_path: Path) -> None:
    """Whichever task asks; requests under way count."""
    dag = TaskDAG("many")
    for number in range(7):
        dag.add_task(TaskNode(f"t{number}", tool="fail", max_retries=0))
    calls = Calls()
    collaborator = Collaborator({"tasks": [{"task_id": "instead", "tool": "tidy"}]})

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=collaborator
    ) as orchestrator:
        result = await orchestrator.execute_dag(dag, mode="ADAPTIVE")
        log = await orchestrator.storage.load_revisions("many-1")

    assert result["success"] is False
    assert len(result["errors"]) == 2
    assert [entry.revision for entry in log] == [2, 3, 4, 5, 6]
    assert (len(collaborator.told), calls["tidy"]) == (5, 5)


async def test_the_limits_are_options(tmp_path: Path) -> None:
    """None at all means that nobody is asked."""
    collaborator = Collaborator(ALTERNATIVE)
    options = OrchestratorOptions(limits=Limits(max_replans=0))

    async with opened(
        tmp_path,
        {"python": FunctionSystem(FUNCTIONS)},
        sequential_thinking=collaborator,
        settings=options,
    ) as orchestrator:
        result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE", ask_caller=True)

    assert (result["success"], collaborator.told) == (False, [])


async def test_an_alternative_inherits_data_and_what_protects_the_task(tmp_path: Path) -> None:
    """Its first tasks are fed as the task was; none of them may be repeated, and a person is asked about each."""
    dag = orders("fail_for_good", idempotent=False, approval="person")
    calls = Calls()

    async with opened(
        tmp_path,
        {"python": calls.system(FUNCTIONS)},
        sequential_thinking=Collaborator(ALTERNATIVE),
    ) as orchestrator:
        await orchestrator.submit(dag, mode="ADAPTIVE")
        for task_id in ("load", "tidy~1", "pour~1"):
            await until_approval(orchestrator, task_id)
            await orchestrator.approve(NAME, task_id)
        result = await orchestrator.wait(NAME)

    assert result["results"]["report"] == REPORTED
    assert calls == {**DONE_ONCE, "fail_for_good": 1, "tidy": 1, "pour": 1}
    nodes = result["dag"].nodes
    assert [nodes[task_id].approval for task_id in ("tidy~1", "pour~1")] == ["person", "person"]
    assert [nodes[task_id].idempotent for task_id in ("tidy~1", "pour~1")] == [False, False]
    assert TaskEdge("fetch", "tidy~1") in result["dag"].edges


async def until_approval(orchestrator: AdvancedTaskOrchestrator, task_id: str) -> None:
    seq = 0
    with anyio.fail_after(10):
        while task_id not in (await orchestrator.load_status(NAME))["waiting_for_approval"]:
            seq = await orchestrator.wait_for_change(NAME, after_seq=seq, timeout_seconds=0.5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the planner had none"),
        (ValueError("no idea"), "the planner failed: no idea"),
        (TaskDAG("empty"), "the alternative has no task"),
    ],
)
async def test_a_replanner_without_an_alternative_is_a_failure_with_its_reason(
    tmp_path: Path, answer: Any, reason: str
) -> None:
    """Whatever it does, the orchestration ends."""

    class Scripted:
        async def alternative(self, request: Any) -> TaskDAG | None:
            if isinstance(answer, Exception):
                raise answer
            found: TaskDAG | None = answer
            return found

    orchestrator = AdvancedTaskOrchestrator(
        storage=SqliteStorage(tmp_path / "state.db"),
        systems=SystemRegistry({"python": FunctionSystem(FUNCTIONS)}),
        decomposer=AdvancedTaskDecomposer(),
        replanner=Scripted(),
    )
    with anyio.fail_after(10):
        async with orchestrator:
            result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")

    assert result["success"] is False
    assert reason in result["errors"]["load"]["message"]


async def test_an_alternative_that_names_what_is_not_there_fails_when_it_would_run(tmp_path: Path) -> None:
    """A null in its place would be somebody else's mistake to find."""

    class Scripted:
        async def alternative(self, request: Any) -> TaskDAG:
            dag = TaskDAG("instead")
            dag.add_task(TaskNode("pour", tool="pour", arguments={"path": "${nowhere.path}"}))
            return dag

    orchestrator = AdvancedTaskOrchestrator(
        storage=SqliteStorage(tmp_path / "state.db"),
        systems=SystemRegistry({"python": FunctionSystem(FUNCTIONS)}),
        decomposer=AdvancedTaskDecomposer(),
        replanner=Scripted(),
        options=OrchestratorOptions(limits=Limits(max_replans_per_task=1)),
    )
    with anyio.fail_after(10):
        async with orchestrator:
            result = await orchestrator.execute_dag(orders(), mode="ADAPTIVE")

    assert result["errors"]["pour~1"]["code"] == "reference_error"
    assert "names task 'nowhere', which is not there" in result["errors"]["pour~1"]["message"]


# The caller is asked


@asynccontextmanager
async def asked(
    tmp_path: Path, calls: Calls, *, functions: dict[str, Any] = FUNCTIONS, **fields: Any
) -> AsyncIterator[AdvancedTaskOrchestrator]:
    """Open an orchestrator in which the caller is asked how to go on with `load`."""
    async with opened(tmp_path, {"python": calls.system(functions)}) as orchestrator:
        await orchestrator.submit(orders(**fields), mode="ADAPTIVE", ask_caller=True)
        reason = await until_asked(orchestrator, NAME, "load")
        assert "the planner had none" in reason
        yield orchestrator


async def test_a_question_holds_up_only_what_requires_its_task(tmp_path: Path) -> None:
    """It stands in the status, and the rest goes on."""
    calls = Calls()

    async with asked(tmp_path, calls) as orchestrator:
        found = await statuses(orchestrator, NAME)
        status = await orchestrator.load_status(NAME)

    assert found == {"fetch": "completed", "check": "completed", "load": "replanning", "report": "paused"}
    assert status["state"] == "running"


async def test_a_question_is_answered_by_a_change_of_the_task(tmp_path: Path) -> None:
    """It runs again as it is then, in a new generation."""
    calls = Calls()

    async with asked(tmp_path, calls) as orchestrator:
        changed = {"tool": "pour", "arguments": {"path": "${fetch.path}"}}
        await orchestrator.edit(
            NAME, [{"op": "set", "task_id": "load", **changed}], expected_revision=1, by="caller"
        )
        result = await orchestrator.wait(NAME)
        (entry,) = await orchestrator.storage.load_revisions(NAME)
        await assert_replayable(orchestrator, NAME)

    assert result["results"]["report"] == REPORTED
    assert calls == {**DONE_ONCE, "fail": 1, "pour": 1}
    assert (entry.by, entry.told) == ("caller", "changed load")


async def test_a_question_is_answered_by_running_the_task_again(tmp_path: Path) -> None:
    """What was in the way may be gone by now."""
    calls = Calls()

    async def now_and_then() -> str:
        if calls["flaky"] == 1:
            raise ConnectionError("not yet")
        return "at last"

    functions = {**FUNCTIONS, "flaky": now_and_then}
    async with asked(tmp_path, calls, functions=functions, tool="flaky") as orchestrator:
        await orchestrator.decide(NAME, "load", "retry", by="caller")
        result = await orchestrator.wait(NAME)

    assert result["results"]["report"] == "report of at last"
    assert calls == {**DONE_ONCE, "flaky": 2}


async def test_a_question_is_answered_by_saying_it_is_done(tmp_path: Path) -> None:
    """With the output that stands for the task's."""
    calls = Calls()

    async with asked(tmp_path, calls) as orchestrator:
        await orchestrator.decide(NAME, "load", "done", output={"poured": "by hand"}, by="caller")
        result = await orchestrator.wait(NAME)
        await assert_replayable(orchestrator, NAME)

    assert result["results"]["report"] == "report of {'poured': 'by hand'}"
    assert calls == {**DONE_ONCE, "fail": 1}


async def test_a_question_is_answered_by_giving_up(tmp_path: Path) -> None:
    """What requires the task is skipped, and nobody is asked again."""
    calls = Calls()

    async with asked(tmp_path, calls) as orchestrator:
        await orchestrator.decide(NAME, "load", "failed", reason="not worth it", by="caller")
        result = await orchestrator.wait(NAME)
        found = await statuses(orchestrator, NAME)

    assert result["success"] is False
    assert result["errors"]["load"]["message"].startswith("caller decided that it failed: not worth it")
    assert (found["load"], found["report"]) == ("failed", "skipped")


async def test_a_question_outlives_the_process_that_asked(tmp_path: Path) -> None:
    """Another one answers it, and goes on; nobody asks the planner again."""
    calls = Calls()
    collaborator = Collaborator(ALTERNATIVE)
    async with asked(tmp_path, calls):
        pass

    async with opened(
        tmp_path, {"python": calls.system(FUNCTIONS)}, sequential_thinking=collaborator
    ) as orchestrator:
        await orchestrator.resume(NAME)
        await until_asked(orchestrator, NAME, "load")
        await orchestrator.decide(NAME, "load", "done", output=POURED)
        result = await orchestrator.wait(NAME)

    assert result["results"]["report"] == REPORTED
    assert calls == {**DONE_ONCE, "fail": 1}
    assert collaborator.told == []


async def test_a_question_is_answered_where_nobody_drives(tmp_path: Path) -> None:
    """The answer is stored; whoever resumes it goes on from there."""
    calls = Calls()
    async with asked(tmp_path, calls):
        pass

    answer = {"op": "replace", "task_id": "load", "tasks": ALTERNATIVE["tasks"], "delivers": "pour"}
    away = orchestrator_over(tmp_path, {"python": calls.system(FUNCTIONS)})
    with anyio.fail_after(10):
        await away.edit(NAME, [answer], expected_revision=1)
        resting = await statuses(away, NAME)
        await away.resume(NAME)
        result = await away.load_result(NAME)
    await away.aclose()

    assert (resting["load"], resting["tidy~1"], resting["report"]) == ("superseded", "ready", "pending")
    assert result["results"]["report"] == REPORTED
    assert calls == {**DONE_ONCE, "fail": 1, "tidy": 1, "pour": 1}


async def test_answers_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    """What was tried already, and what was made for another revision; the question stays open."""
    calls = Calls()

    async with asked(tmp_path, calls) as orchestrator:
        again = {"tasks": [{"task_id": "x", "description": "Pour the rows into the lake", "tool": "fail"}]}
        replace = {"op": "replace", "task_id": "load", **again}
        with pytest.raises(NotPossibleError, match="what was tried already"):
            await orchestrator.edit(NAME, [replace], expected_revision=1, by="caller")
        with pytest.raises(RevisionConflictError):
            await orchestrator.edit(NAME, [{**replace, **ALTERNATIVE}], expected_revision=2)
        assert await until_asked(orchestrator, NAME, "load")
        assert await orchestrator.storage.load_revisions(NAME) == []
        await orchestrator.cancel_orchestration(NAME)
        result = await orchestrator.wait(NAME)

    assert result["state"] == "cancelled"


async def test_edits_use_up_no_alternatives(tmp_path: Path) -> None:
    """What people change is no attempt to get round a failure."""
    calls = Calls()
    collaborator = Collaborator(ALTERNATIVE)
    options = OrchestratorOptions(limits=Limits(max_replans=1))
    held = anyio.Event()

    async def hold(inputs: dict[str, Any] | None = None) -> None:
        await held.wait()
        raise ConnectionError("down")

    async with opened(
        tmp_path,
        {"python": calls.system({**FUNCTIONS, "hold": hold})},
        sequential_thinking=collaborator,
        settings=options,
    ) as orchestrator:
        await orchestrator.submit(orders("hold"), mode="ADAPTIVE")
        for revision in (1, 2):
            operation = {"op": "priority", "task_id": "report", "priority": ["HIGH", "LOW"][revision - 1]}
            await orchestrator.edit(NAME, [operation], expected_revision=revision)
        held.set()
        result = await orchestrator.wait(NAME)

    assert result["success"] is True
    assert len(collaborator.told) == 1
