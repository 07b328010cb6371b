"""Plans that run while they are made: what starts early, what waits, and what becomes of a plan that is never whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, FunctionSystem, TaskDAG, TaskEdge, TaskNode
from orchestration.errors import (
    NotPossibleError,
    StorageUnavailableError,
    SystemUnavailableError,
    UnroutableTaskError,
)
from orchestration.models import Fallback, Json, OrchestrationMode, TaskStatus
from orchestration.options import OrchestratorOptions
from orchestration.plan_store import save_plan, streamed_base
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.model_options import ModelOptions
from orchestration.planning.model_planner import ModelPlanner
from orchestration.planning.plan import Plan
from orchestration.ports import PlanPart
from orchestration.systems.registry import SystemRegistry
from storage import SqliteStorage
from tests.execution.durable import Calls, assert_replayable, opened, statuses, until_task
from tests.planning.model_server import Answer, model_server, plan

pytestmark = pytest.mark.anyio

GOAL = "Bake a cake"
NAME = "bake-a-cake-1"


@pytest.fixture
def anyio_backend() -> str:
    """The database needs asyncio, and real time."""
    return "asyncio"


async def work(value: Any = None, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"value": value, "good": True}


async def fail() -> None:
    raise ConnectionError("the oven is cold")


FUNCTIONS: dict[str, Callable[..., Any]] = {"work": work, "fail": fail}


class Script:
    """A planner that hands out parts by a script, and waits where the script has an event."""

    def __init__(self, *steps: PlanPart | anyio.Event | Exception) -> None:
        self._steps = steps
        self.asked: list[TaskDAG] = []
        self.closed = anyio.Event()

    @asynccontextmanager
    async def continue_plan(
        self,
        orchestration_id: str,
        goal: str,
        context: Mapping[str, Json],
        mode: OrchestrationMode,
        so_far: TaskDAG,
    ) -> AsyncIterator[AsyncIterator[PlanPart]]:
        self.asked.append(so_far)
        try:
            async with anyio.create_task_group():  # as a model's stream has one around it
                yield self._parts(so_far)
        finally:
            self.closed.set()

    async def _parts(self, so_far: TaskDAG) -> AsyncIterator[PlanPart]:
        for step in self._steps:
            if isinstance(step, anyio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            elif any(node.task_id not in so_far.nodes for node in step.tasks):
                yield step


def part(*nodes: TaskNode, edges: Sequence[TaskEdge] = ()) -> PlanPart:
    return PlanPart(tasks=nodes, edges=edges)


def node(task_id: str, tool: str = "work", **fields: Any) -> TaskNode:
    return TaskNode(task_id, tool=tool, **fields)


def planned_by(
    path: Path, script: Script | None, calls: Calls, functions: Any = FUNCTIONS, **options: Any
) -> AdvancedTaskOrchestrator:
    """Return an orchestrator whose plans come from a script."""
    orchestrator = AdvancedTaskOrchestrator(
        storage=SqliteStorage(path / "state.db"),
        systems=SystemRegistry({"python": calls.system(functions)}),
        decomposer=AdvancedTaskDecomposer(),
        **options,
    )
    orchestrator._world.planner = script
    return orchestrator


@asynccontextmanager
async def running(
    path: Path, script: Script, calls: Calls | None = None, functions: Any = FUNCTIONS, **more: Any
) -> AsyncIterator[AdvancedTaskOrchestrator]:
    """Run a goal in the background whose plan is made meanwhile."""
    with anyio.fail_after(15):
        async with (
            planned_by(path, script, Calls() if calls is None else calls, functions) as orchestrator,
            anyio.create_task_group() as group,
        ):
            group.start_soon(_run, orchestrator, more)
            yield orchestrator


async def _run(orchestrator: AdvancedTaskOrchestrator, more: dict[str, Any]) -> None:
    await orchestrator.orchestrate_task(GOAL, orchestration_id=NAME, start_early=True, **more)


async def until_there(orchestrator: AdvancedTaskOrchestrator, *task_ids: str) -> None:
    """Wait until tasks are part of the plan."""
    while True:
        try:
            rows = await orchestrator.load_tasks(NAME, task_ids=list(task_ids))
        except Exception:  # noqa: BLE001  not even submitted yet
            rows = []
        if len(rows) == len(task_ids):
            return
        await anyio.sleep(0.01)


async def test_tasks_start_before_the_plan_is_whole(tmp_path: Path) -> None:
    """And what depends on them, as soon as it is there; in the end it is a plan like any other."""
    rest = anyio.Event()
    script = Script(
        part(node("mix", arguments={"value": 1})),
        part(node("heat"), edges=[TaskEdge("mix", "heat")]),
        rest,
        part(
            node("bake", arguments={"value": "${mix.value}"}),
            edges=[TaskEdge("mix", "bake"), TaskEdge("heat", "bake", condition="output.good")],
        ),
    )

    async with running(tmp_path, script) as orchestrator:
        await until_there(orchestrator, "mix", "heat")
        await until_task(orchestrator, NAME, "heat", TaskStatus.COMPLETED)
        status = await orchestrator.load_status(NAME)
        rest.set()
        result = await orchestrator.wait(NAME)
        await assert_replayable(orchestrator, NAME)

    assert (status["state"], status["total_tasks"]) == ("planning", 2)
    assert result["success"] is True
    assert result["results"]["bake"]["value"] == 1
    assert result["total_tasks"] == 3
    assert script.closed.is_set()


@pytest.mark.parametrize(
    "fields",
    [
        {"idempotent": False},
        {"approval": "caller"},
        {"fallback": Fallback(tool="work", idempotent=False)},
    ],
)
async def test_what_can_not_be_taken_back_waits_for_the_whole_plan(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    """The rest may never come; what depends on it waits with it, and nobody is asked before."""
    rest = anyio.Event()
    calls = Calls()
    script = Script(
        part(node("send", **fields)),
        part(node("after"), edges=[TaskEdge("send", "after")]),
        part(node("mix")),
        rest,
        part(node("last")),
    )

    async with running(tmp_path, script, calls) as orchestrator:
        await until_there(orchestrator, "mix")
        await until_task(orchestrator, NAME, "mix", TaskStatus.COMPLETED)
        before = await statuses(orchestrator, NAME)
        called = calls["work"]
        rest.set()
        if "approval" in fields:
            await until_task(orchestrator, NAME, "send", TaskStatus.AWAITING_APPROVAL)
            await orchestrator.approve(NAME, "send", by="caller")
        result = await orchestrator.wait(NAME)

    assert (before["send"], before["after"], called) == ("ready", "pending", 1)
    assert result["success"] is True
    assert calls["work"] == 4


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (SystemUnavailableError("model", "it went away"), "it went away"),
        (RuntimeError("no idea"), "no idea"),
        (part(node("odd", "nobody-has-it")), "nothing can run task 'odd'"),
        (part(node("mix")), "Task 'mix' is in the DAG already"),
        (part(node("odd"), edges=[TaskEdge("nowhere", "odd")]), "comes from 'nowhere', which is not there"),
        (part(node("odd"), edges=[TaskEdge("odd", "mix")]), "leads to 'mix', which is no task of this part"),
        (part(node("odd", parent="mix")), "is 'mix', which did not come with it"),
        (
            part(node("a"), node("b"), edges=[TaskEdge("a", "b"), TaskEdge("b", "a")]),
            "a",
        ),
    ],
)
async def test_a_plan_that_is_never_whole_ends_failed_and_what_ran_stays(
    tmp_path: Path, failure: PlanPart | Exception, told: str
) -> None:
    """With the reason; a task that runs is stopped, and what waited for the rest never starts."""
    calls = Calls()
    ran = anyio.Event()

    async def mix() -> str:
        ran.set()
        return "mixed"

    script = Script(part(node("mix", "mix"), node("send", idempotent=False)), ran, failure)
    async with running(tmp_path, script, calls, {**FUNCTIONS, "mix": mix}) as orchestrator:
        await until_there(orchestrator, "mix")
        result = await orchestrator.wait(NAME)
        status = await orchestrator.load_status(NAME)
        found = await statuses(orchestrator, NAME)
        await assert_replayable(orchestrator, NAME)

    assert (result["success"], result["state"]) == (False, "failed")
    assert status["reason"].startswith("plan_incomplete: the rest of the plan could not be made: ")
    assert told in status["reason"]
    assert found["send"] == "cancelled"
    assert found["mix"] in {"completed", "cancelled"}
    assert calls == {"mix": 1}
    assert script.closed.is_set()


async def test_a_result_from_before_the_failure_can_be_read(tmp_path: Path) -> None:
    """What ran is recorded."""
    done = anyio.Event()
    script = Script(part(node("mix", arguments={"value": 7})), done, SystemUnavailableError("model", "gone"))

    async with running(tmp_path, script) as orchestrator:
        await until_there(orchestrator, "mix")
        await until_task(orchestrator, NAME, "mix", TaskStatus.COMPLETED)
        done.set()
        result = await orchestrator.wait(NAME)

    assert result["results"]["mix"]["value"] == 7


async def test_cancelling_ends_the_planning_too(tmp_path: Path) -> None:
    """The planner is not left at work."""
    script = Script(part(node("mix")), anyio.Event())

    async with running(tmp_path, script) as orchestrator:
        await until_there(orchestrator, "mix")
        await until_task(orchestrator, NAME, "mix", TaskStatus.COMPLETED)
        assert await orchestrator.cancel_orchestration(NAME)
        result = await orchestrator.wait(NAME)
        await script.closed.wait()

    assert result["state"] == "cancelled"
    assert result["results"]["mix"]["good"] is True


async def test_pausing_and_editing_are_refused_with_the_reason(tmp_path: Path) -> None:
    """While the plan is being made; nothing changes."""
    rest = anyio.Event()
    script = Script(part(node("mix")), rest)

    async with running(tmp_path, script) as orchestrator:
        await until_there(orchestrator, "mix")
        with pytest.raises(NotPossibleError, match="is planning, so it can't be paused"):
            await orchestrator.pause(NAME)
        with pytest.raises(NotPossibleError, match="Its plan is still being made; wait until it is whole"):
            await orchestrator.edit(NAME, [{"op": "remove", "task_id": "mix"}], expected_revision=1)
        rest.set()
        result = await orchestrator.wait(NAME)

    assert result["success"] is True


async def test_many_conditions_on_tasks_that_complete_meanwhile_are_decided(tmp_path: Path) -> None:
    """However often an output is there a moment after it was looked for."""
    count = 40
    script = Script(
        part(*(node(f"t{number}") for number in range(count))),
        part(
            node("last"),
            edges=[TaskEdge(f"t{number}", "last", condition="output.good") for number in range(count)],
        ),
    )

    async with running(tmp_path, script) as orchestrator:
        await until_there(orchestrator, "last")
        result = await orchestrator.wait(NAME)

    assert result["success"] is True
    assert "last" in result["results"]


async def test_a_task_replaced_while_the_rest_is_planned_feeds_what_comes(tmp_path: Path) -> None:
    """Later tasks name it as the planner knows it, and get what its replacement made."""
    rest = anyio.Event()

    class Replanner:
        async def alternative(self, request: Any) -> TaskDAG:
            dag = TaskDAG("instead")
            dag.add_task(node("again", arguments={"value": "warm"}))
            return dag

    script = Script(
        part(node("heat", "fail", max_retries=0)),
        rest,
        part(
            node("bake", arguments={"value": "${heat.value}"}),
            edges=[TaskEdge("heat", "bake", condition="output.good")],
        ),
    )
    calls = Calls()
    with anyio.fail_after(15):
        async with (
            planned_by(tmp_path, script, calls, replanner=Replanner()) as orchestrator,
            anyio.create_task_group() as group,
        ):
            group.start_soon(_run, orchestrator, {"mode": "ADAPTIVE"})
            await until_there(orchestrator, "again~1")
            await until_task(orchestrator, NAME, "again~1", TaskStatus.COMPLETED)
            rest.set()
            result = await orchestrator.wait(NAME)
            await assert_replayable(orchestrator, NAME)

    assert result["success"] is True
    assert result["results"]["bake"]["value"] == "warm"
    assert calls == {"fail": 1, "work": 2}


async def test_time_that_runs_out_while_it_is_planned_fails_it(tmp_path: Path) -> None:
    """Though everything that was there has completed: the rest never came."""
    script = Script(part(node("mix")), anyio.Event())
    options = OrchestratorOptions(orchestration_timeout_seconds=0.5)

    with anyio.fail_after(10):
        async with planned_by(tmp_path, script, Calls(), options=options) as orchestrator:
            result = await orchestrator.orchestrate_task(GOAL, orchestration_id=NAME, start_early=True)
            await script.closed.wait()

    assert (result["success"], result["state"]) == (False, "failed")
    assert result["results"]["mix"]["good"] is True


# Other processes


async def left_behind(path: Path, calls: Calls, *parts: PlanPart) -> None:
    """Leave an orchestration whose plan was begun."""
    script = Script(*parts, anyio.Event())
    async with planned_by(path, script, calls) as orchestrator:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(_run, orchestrator, {})
                await until_there(orchestrator, *(each.task_id for one in parts for each in one.tasks))
                for each in parts[0].tasks:
                    await until_task(orchestrator, NAME, each.task_id, TaskStatus.COMPLETED)
                group.cancel_scope.cancel()


BEGUN = part(node("mix"))
REST = part(node("bake"), edges=[TaskEdge("mix", "bake", condition="output.good")])


async def test_another_process_with_a_planner_goes_on_from_what_is_there(tmp_path: Path) -> None:
    """It is told the tasks there are, and nothing of them is done again."""
    calls = Calls()
    await left_behind(tmp_path, calls, BEGUN)
    script = Script(BEGUN, REST)

    async with planned_by(tmp_path, script, calls) as orchestrator:
        with anyio.fail_after(10):
            assert await orchestrator.resume_all() == [NAME]
            result = await orchestrator.wait(NAME)
            await assert_replayable(orchestrator, NAME)

    assert [list(dag.nodes) for dag in script.asked] == [["mix"]]
    assert result["success"] is True
    assert list(result["dag"].nodes) == ["mix", "bake"]
    assert calls == {"work": 2}


async def test_without_a_planner_it_stays_orphaned_until_somebody_has_one(tmp_path: Path) -> None:
    """Neither a server nor a person goes on with it there; both are told why. It can still be cancelled."""
    calls = Calls()
    await left_behind(tmp_path, calls, BEGUN)

    async with planned_by(tmp_path, None, calls) as orchestrator:
        with anyio.fail_after(10):
            looked = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(orchestrator.take_over_orphans, None, looked.set)
                await looked.wait()
                group.cancel_scope.cancel()
            assert await orchestrator.resume_all() == []
            status = await orchestrator.load_status(NAME)
            with pytest.raises(UnroutableTaskError, match="there is no planner here that could go on"):
                await orchestrator.resume(NAME)
            again = await orchestrator.load_status(NAME)
            assert await orchestrator.cancel_orchestration(NAME)
            ended = await orchestrator.load_status(NAME)

    assert (status["state"], status["orphaned"]) == (again["state"], again["orphaned"]) == ("planning", True)
    assert status["missing_systems"] == [
        "Its plan was still being made, and there is no planner here that could go on with it."
    ]
    assert ended["state"] == "cancelled"
    assert calls == {"work": 1}


async def test_a_planner_of_before_hands_nothing_in_after_it_was_let_go(tmp_path: Path) -> None:
    """When its orchestration could not be stored and was taken up again meanwhile, by the same object."""
    calls = Calls()
    rest = anyio.Event()
    script = Script(BEGUN, rest, REST)

    class Failing(SqliteStorage):
        is_broken = False

        async def append(self, commits: Any) -> None:
            if self.is_broken:
                self.is_broken = False
                raise StorageUnavailableError("state.db", "the disk is full")
            await super().append(commits)

    with anyio.fail_after(10):
        orchestrator = planned_by(tmp_path, script, calls)
        storage = Failing(tmp_path / "state.db")
        orchestrator.storage = orchestrator._world.storage = storage
        async with orchestrator, anyio.create_task_group() as group:
            group.start_soon(_run_until_it_breaks, orchestrator)
            await until_there(orchestrator, "mix")
            await until_task(orchestrator, NAME, "mix", TaskStatus.COMPLETED)
            storage.is_broken = True
            with pytest.raises(StorageUnavailableError):
                await orchestrator.cancel_orchestration(NAME)
            await orchestrator.resume(NAME)
            rest.set()
            result = await orchestrator.wait(NAME)
            await assert_replayable(orchestrator, NAME)

    assert result["success"] is True
    assert [list(dag.nodes) for dag in script.asked] == [[], ["mix"]]
    assert calls == {"work": 2}


async def _run_until_it_breaks(orchestrator: AdvancedTaskOrchestrator) -> None:
    with suppress(StorageUnavailableError):
        await _run(orchestrator, {})


# A real model


MIX = {"task_id": "mix", "description": "Mix", "tool": "work", "arguments": {"value": 1}}
HEAT = {"task_id": "heat", "description": "Heat the oven", "tool": "work"}
BAKE = {
    "task_id": "bake",
    "description": "Bake",
    "tool": "work",
    "arguments": {"value": "${mix.value}"},
    "depends_on": ["mix", {"task_id": "heat", "condition": "output.good"}],
}


def model(url: str, **more: Any) -> ModelPlanner:
    return ModelPlanner(
        ModelOptions.model_validate({"name": "own", "base_url": url, "max_retries": 0, **more})
    )


async def test_a_models_plan_runs_while_it_is_made_and_is_kept(tmp_path: Path) -> None:
    """With its thoughts, under an id that says whose it is."""
    async with (
        model_server(plan([MIX, HEAT, BAKE], ["one", "two"])) as server,
        opened(
            tmp_path, {"python": FunctionSystem(FUNCTIONS)}, model=model(server.url, start_early=True)
        ) as orchestrator,
    ):
        result = await orchestrator.orchestrate_task(GOAL, orchestration_id=NAME)
        kept = await orchestrator.storage.load_plan(f"{streamed_base(NAME)}-1")

    assert result["success"] is True
    assert result["results"]["bake"]["value"] == 1
    assert len(server.asked) == 1
    assert {"one", "two"} <= {thought.text for thought in kept.thoughts}


async def test_the_caller_may_want_it_though_the_configuration_does_not(tmp_path: Path) -> None:
    """And not want it though the configuration does."""
    async with model_server(plan([MIX])) as server:
        for configured in (False, True):
            async with opened(
                tmp_path,
                {"python": FunctionSystem(FUNCTIONS)},
                model=model(server.url, start_early=configured),
            ) as orchestrator:
                name = f"wanted-{configured}".lower()
                await orchestrator.orchestrate_task(GOAL, orchestration_id=name, start_early=not configured)
                events = [recorded.event.type for recorded in await orchestrator.load_events(name)]
                assert ("plan_extended" in events) is not configured


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_models_plan_is_gone_on_with_to_the_same_plan(tmp_path: Path, is_kept: bool) -> None:
    """The model is told what is there; where the plan was whole already, it is not asked at all."""
    pieces = ['{"thoughts": [], "tasks": [', json.dumps(MIX), ",", json.dumps(HEAT)]
    calls = Calls()
    async with model_server(Answer(pieces=pieces, never=True), plan([BAKE])) as server:
        systems = {"python": calls.system(FUNCTIONS)}
        async with opened(tmp_path, systems, model=model(server.url, start_early=True)) as orchestrator:
            async with anyio.create_task_group() as group:
                group.start_soon(_run, orchestrator, {})
                await until_there(orchestrator, "mix", "heat")
                for task_id in ("mix", "heat"):
                    await until_task(orchestrator, NAME, task_id, TaskStatus.COMPLETED)
                group.cancel_scope.cancel()
            if is_kept:
                dag = TaskDAG("cake", GOAL)
                for draft in (MIX, HEAT):
                    dag.add_task(TaskNode(**draft))
                whole = Plan(goal=GOAL, dag=dag, planner="model:own", thinking_server="none")
                await save_plan(orchestrator.storage, whole, 1, base=streamed_base(NAME))
        async with opened(tmp_path, systems, model=model(server.url, start_early=True)) as orchestrator:
            await orchestrator.resume(NAME)
            result = await orchestrator.wait(NAME)
        asked = [request["messages"][-1]["content"] for request in server.asked]

    assert result["success"] is True
    assert list(result["dag"].nodes) == ["mix", "heat", *([] if is_kept else ["bake"])]
    assert calls["work"] == (2 if is_kept else 3)
    assert len(asked) == (1 if is_kept else 2)
    if not is_kept:
        assert [draft["task_id"] for draft in server.data()["existing"]] == ["mix", "heat"]
