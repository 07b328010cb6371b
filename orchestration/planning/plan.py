"""What planning hands out: a validated DAG with how it came about, and what it is expected to take.

May import: orchestration.{dag, models, ports}, stdlib.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from orchestration.dag import TaskDAG
from orchestration.models import JsonObject, OrchestrationMode, PlanId
from orchestration.ports import Thought


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A DAG made for a goal, before it runs."""

    goal: str
    mode: OrchestrationMode | None = None
    """How it is to run; None leaves that to whoever runs it."""
    context: JsonObject = field(default_factory=dict)
    dag: TaskDAG
    """Validated, with an edge for each reference."""
    planner: str
    """Who made it: `caller`, `sequential_thinking`, `playbook:NAME` or `sentences`."""
    thoughts: Sequence[Thought] = ()
    thinking_server: str = "none"
    """Where the thoughts went: `process`, `in-process`, `collaborator` or `none`."""
    notes: Sequence[str] = ()
    """What was completed, changed or passed over on the way, for the caller."""
    plan_id: PlanId | None = None
    """None until it is stored."""
    revision: int = 1

    def stored(self, plan_id: PlanId, revision: int = 1) -> Plan:
        """Return the plan as it is called once it is stored."""
        return replace(self, plan_id=plan_id, revision=revision)


class Estimate(TypedDict):
    """What a DAG is expected to take, before anything ran."""

    tasks: int
    width: int
    """The most tasks on one level."""
    critical_path_seconds: float
    """No schedule can be shorter, however many workers there are."""
    expected_seconds: float
    """On the given workers, each free one taking the task with the longest path behind it."""


def estimate(dag: TaskDAG, workers: int) -> Estimate:
    """Return what a valid DAG is expected to take on `workers` workers.

    Raises:
        ValueError: `workers` is less than 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    return Estimate(
        tasks=len(dag.nodes),
        width=dag.width(),
        critical_path_seconds=round(dag.critical_path().seconds, 3),
        expected_seconds=round(_list_schedule(dag, workers), 3),
    )


def _list_schedule(dag: TaskDAG, workers: int) -> float:
    """Return the makespan of list scheduling by longest remaining path, as the engine goes about it."""
    durations = dag.expected_durations()
    incoming, outgoing = dag.incoming(), dag.outgoing()
    order = dag.topological_sort()
    remaining: dict[str, float] = {}
    for task_id in reversed(order):
        behind = max((remaining[edge.target_task_id] for edge in outgoing[task_id]), default=0.0)
        remaining[task_id] = durations[task_id] + behind
    waiting = {task_id: len(incoming[task_id]) for task_id in order}
    position = {task_id: index for index, task_id in enumerate(order)}
    ready = [(-remaining[task_id], position[task_id], task_id) for task_id in order if not waiting[task_id]]
    heapq.heapify(ready)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, place, task_id = heapq.heappop(ready)
            heapq.heappush(running, (now + durations[task_id], place, task_id))
        now, _, done = heapq.heappop(running)
        for edge in outgoing[done]:
            target = edge.target_task_id
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, (-remaining[target], position[target], target))
    return now
