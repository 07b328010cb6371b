"""One process of the chaos tests whose plan changes while it runs, until it is done or is killed.

    python -m tests.chaos.planning_worker SCENARIO DATABASE      submit what the scenario is about; stay to its end

`--die WHEN:EVENT@TASK` makes it kill itself with SIGKILL at the commit that holds an event of that type (and of that
task, where one is named): `before` it, `inside` its transaction, or `after` it. Scenarios stand in `SCENARIOS`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from orchestration import TaskDAG, TaskEdge, TaskNode, create_advanced_task_orchestrator
from orchestration.logs import configure
from orchestration.models import OrchestrationMode
from orchestration.options import Limits, OrchestratorOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.proposal import (
    Draft,
    PartRequest,
    PlanRequest,
    Proposal,
    TaskBatch,
    ThoughtTrail,
)
from orchestration.ports import Commit
from storage import SqliteStorage, writes
from tests.chaos import work

NAME = "planned-1"
GOAL = "See a plan through"


class MortalStorage(SqliteStorage):
    """Dies at the commit that holds a certain event.

    Args:
        path: The database.
        die: When, and of what: `before:plan_revised`, `after:attempt_started@report`.
    """

    def __init__(self, path: str, die: str) -> None:
        super().__init__(path)
        self._when, _, what = die.partition(":")
        self._type, _, self._task = what.partition("@")
        assert self._when in {"before", "inside", "after"}, f"when is {self._when!r}?"
        writes.append = self._inside(writes.append)  # type: ignore[assignment]  # called by position

    def _reach(self, when: str, commits: Sequence[Commit]) -> None:
        if when == self._when and any(
            recorded.event.type == self._type and self._task in {"", getattr(recorded.event, "task_id", None)}
            for commit in commits
            for recorded in commit.events
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    def _inside(
        self, append: Callable[[sqlite3.Connection, Sequence[Commit]], None]
    ) -> Callable[[sqlite3.Connection, Sequence[Commit]], None]:
        """Wrap what a commit writes: it is written, but not committed, when the process dies."""

        def wrapped(database: sqlite3.Connection, commits: Sequence[Commit]) -> None:
            append(database, commits)
            self._reach("inside", commits)

        return wrapped

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch."""
        self._reach("before", commits)
        await super().append(commits)
        self._reach("after", commits)


class Collaborator:
    """Has one alternative to whatever failed."""

    async def generate_alternative_plan(self, **_: Any) -> dict[str, Any]:
        """Return it."""
        tasks = [
            {"task_id": "mend", "tool": "act"},
            {"task_id": "again", "tool": "act", "depends_on": ["mend"]},
        ]
        return {"tasks": tasks, "delivers": "again", "reason": "Mended, it works."}


STREAMED: tuple[Draft, ...] = (
    {"task_id": "one", "tool": "act", "description": "The first"},
    {"task_id": "two", "tool": "act", "description": "The second", "depends_on": ["one"]},
    {"task_id": "send", "tool": "act", "description": "Send it", "idempotent": False, "depends_on": ["one"]},
    {
        "task_id": "last",
        "tool": "act",
        "description": "The last",
        "depends_on": [{"task_id": "two", "condition": "output.number == 0"}, "send"],
    },
)


class ScriptedModel:
    """A language model as the planner knows it that always has the same plan, and takes its time over it."""

    name = "model:scripted"
    starts_early = True

    async def propose(self, request: PlanRequest, trail: ThoughtTrail) -> Proposal:
        """Return the plan whole."""
        return _proposal(STREAMED, request)

    @asynccontextmanager
    async def stream(self, request: PlanRequest, trail: ThoughtTrail) -> AsyncIterator[_Batches]:
        """Hand out what is missing, task by task."""
        async with anyio.create_task_group():
            yield _Batches(request, trail)

    async def decompose_task(
        self, part: PartRequest, request: PlanRequest, trail: ThoughtTrail
    ) -> Sequence[Draft] | None:
        """Return nothing: every task is one piece of work."""
        return None


class _Batches:
    def __init__(self, request: PlanRequest, trail: ThoughtTrail) -> None:
        self._request = request
        self._trail = trail
        self._fixed: list[Draft] = list(request.existing)

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> TaskBatch:
        known = {draft["task_id"] for draft in self._fixed}
        missing = [draft for draft in STREAMED if draft["task_id"] not in known]
        await anyio.sleep(0.03)
        if not missing:
            raise StopAsyncIteration
        await self._trail.think(f"Next comes {missing[0]['task_id']}.")
        self._fixed.append(missing[0])
        dag = _proposal(self._fixed, self._request).dag
        task_id = missing[0]["task_id"]
        edges = tuple(edge for edge in dag.edges if edge.target_task_id == task_id)
        return TaskBatch(tasks=(dag.nodes[task_id],), edges=edges)

    @property
    def proposal(self) -> Proposal:
        """Return the whole."""
        return _proposal(self._fixed, self._request)


def _proposal(drafts: Sequence[Draft], request: PlanRequest) -> Proposal:
    read = read_caller_plan({"tasks": list(drafts)}, goal=request.goal, limits=request.limits or Limits())
    return Proposal(dag=read.dag, planner=ScriptedModel.name)


def orchestrator_over(storage: SqliteStorage) -> AdvancedTaskOrchestrator:
    """Return an orchestrator that can do all that the scenarios need."""
    return create_advanced_task_orchestrator(
        systems={"python": work.system()},
        state_manager=storage,
        sequential_thinking=Collaborator(),
        model=ScriptedModel(),
        settings=OrchestratorOptions(max_concurrent_tasks=3, cancel_grace_seconds=1.0),
    )


def _graph(*tasks: TaskNode, edges: Sequence[tuple[str, str]] = ()) -> TaskDAG:
    dag = TaskDAG("planned", GOAL)
    for task in tasks:
        dag.add_task(task)
    for source, target in edges:
        dag.add_dependency(TaskEdge(source, target))
    return dag


def act(task_id: str, after: float = 0.0, **fields: Any) -> TaskNode:
    """Return a task that leaves its line."""
    return TaskNode(task_id, tool="act", arguments={"after": after}, **fields)


def failing() -> TaskDAG:
    """Return a graph in which a task fails that others need, beside some that go on."""
    return _graph(
        act("first"),
        TaskNode("load", tool="fail", max_retries=0),
        act("report"),
        act("last"),
        act("beside", 0.1),
        edges=[("first", "load"), ("load", "report"), ("report", "last"), ("beside", "last")],
    )


def listed() -> TaskDAG:
    """Return a graph in which something is done for each of a list."""
    return _graph(
        act("first"),
        TaskNode("each", tool="act", foreach=[1, 2, 3], arguments={"number": "${item}"}),
        act("last"),
        edges=[("first", "each"), ("each", "last")],
    )


def asking() -> TaskDAG:
    """Return a graph in which somebody must agree to something, and something takes long enough to be changed."""
    return _graph(
        act("first"),
        act("publish", approval="person", idempotent=False),
        act("last"),
        edges=[("first", "publish"), ("publish", "last")],
    )


def changing() -> TaskDAG:
    """Return a graph in which there is time to change what comes."""
    return _graph(
        act("first", 0.5), act("second"), act("last"), edges=[("first", "second"), ("second", "last")]
    )


async def _run(orchestrator: AdvancedTaskOrchestrator, dag: TaskDAG) -> None:
    await orchestrator.execute_dag(dag, mode=OrchestrationMode.ADAPTIVE)


async def _stream(orchestrator: AdvancedTaskOrchestrator) -> None:
    await orchestrator.orchestrate_task(GOAL, orchestration_id=NAME, start_early=True)


SCENARIOS: dict[str, Callable[[AdvancedTaskOrchestrator], Coroutine[Any, Any, None]]] = {
    "failing": lambda orchestrator: _run(orchestrator, failing()),
    "listed": lambda orchestrator: _run(orchestrator, listed()),
    "asking": lambda orchestrator: _run(orchestrator, asking()),
    "changing": lambda orchestrator: _run(orchestrator, changing()),
    "streamed": _stream,
}


async def live(scenario: str, database: str, die: str) -> None:
    """See a scenario through, or die of it."""
    storage = MortalStorage(database, die) if die else SqliteStorage(database)
    orchestrator = orchestrator_over(storage)
    async with orchestrator:
        await SCENARIOS[scenario](orchestrator)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.planning_worker")
    parser.add_argument("scenario", choices=list(SCENARIOS))
    parser.add_argument("database")
    parser.add_argument("--die", default="", metavar="WHEN:EVENT@TASK")
    arguments = parser.parse_args()
    configure("INFO", json=True)
    anyio.run(live, arguments.scenario, arguments.database, arguments.die)


if __name__ == "__main__":
    main()
