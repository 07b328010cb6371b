"""What each task of a DAG is expected to take, how hard it is and what it costs; and where each figure comes from.

May import: orchestration.{dag, models, records}, stdlib.

A figure is the plan's own; else what completed tasks of the same system and tool took; else the mean of what is known
of the DAG's other tasks; else a default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestration.dag import DEFAULT_DURATION_SECONDS, TaskDAG
from orchestration.models import TaskId
from orchestration.records import History

Source: TypeAlias = Literal["plan", "history", "mean", "default", "parts"]
"""`parts`: the task runs nothing itself, its parts have the figures."""
Kind: TypeAlias = tuple[str, str | None]
"""System and tool."""

DEFAULT_COMPLEXITY = 0.0
"""What an unknown complexity counts as in the ranking formula."""
DEFAULT_COST = 0.0

_TOLD: Mapping[Source, str] = {
    "plan": "from the plan",
    "history": "from earlier tasks of the same tool",
    "mean": "the mean of the others",
    "default": "assumed, for nothing is known",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEstimate:
    """What one attempt of a task is expected to take; of a `foreach`, one item."""

    seconds: float
    complexity: float
    cost: float
    seconds_from: Source
    complexity_from: Source
    cost_from: Source


def kinds_of(dag: TaskDAG, routes: Mapping[TaskId, str]) -> list[Kind]:
    """Return the systems and tools about which the history must be asked, each once.

    Args:
        dag: A valid DAG.
        routes: The system each task would go to; tasks that are not named are asked about nowhere.
    """
    parents = dag.parents()
    return list(
        dict.fromkeys(
            (routes[task_id], node.tool)
            for task_id, node in dag.nodes.items()
            if task_id in routes and task_id not in parents
        )
    )


def estimates_of(
    dag: TaskDAG, routes: Mapping[TaskId, str], history: Mapping[Kind, History]
) -> dict[TaskId, TaskEstimate]:
    """Return an estimate for every task.

    Args:
        dag: A valid DAG.
        routes: The system each task would go to.
        history: What completed tasks took, by system and tool; those of `kinds_of` as far as they are known.
    """
    parents = dag.parents()
    runs = {task_id: node for task_id, node in dag.nodes.items() if task_id not in parents}
    past = {task_id: history.get((routes.get(task_id, ""), node.tool)) for task_id, node in runs.items()}
    seconds = _figures(
        {task_id: node.estimated_time_seconds for task_id, node in runs.items()},
        {task_id: found.mean_seconds for task_id, found in past.items() if found is not None},
        DEFAULT_DURATION_SECONDS,
    )
    complexity = _figures(
        {task_id: node.complexity_score for task_id, node in runs.items()}, {}, DEFAULT_COMPLEXITY
    )
    cost = _figures(
        {task_id: node.cost for task_id, node in runs.items()},
        {task_id: found.mean_cost for task_id, found in past.items() if found is not None},
        DEFAULT_COST,
    )
    nothing: tuple[float, Source] = (0.0, "parts")
    return {
        task_id: _estimate(
            seconds.get(task_id, nothing), complexity.get(task_id, nothing), cost.get(task_id, nothing)
        )
        for task_id in dag.nodes
    }


def told_sources(estimates: Iterable[TaskEstimate]) -> str:
    """Return where the durations come from, in a sentence: `Durations: 3 from the plan, 2 the mean of the others.`"""
    counts = Counter(estimate.seconds_from for estimate in estimates)
    parts = [f"{counts[source]:,} {told}" for source, told in _TOLD.items() if counts[source]]
    return f"Durations: {', '.join(parts)}." if parts else "Nothing runs."


def _estimate(
    seconds: tuple[float, Source], complexity: tuple[float, Source], cost: tuple[float, Source]
) -> TaskEstimate:
    return TaskEstimate(
        seconds=seconds[0],
        complexity=complexity[0],
        cost=cost[0],
        seconds_from=seconds[1],
        complexity_from=complexity[1],
        cost_from=cost[1],
    )


def _figures(
    planned: Mapping[TaskId, float | None], past: Mapping[TaskId, float | None], default: float
) -> dict[TaskId, tuple[float, Source]]:
    """Return each task's figure with its source."""
    found: dict[TaskId, tuple[float, Source]] = {}
    for task_id, value in planned.items():
        earlier = past.get(task_id)
        if value is not None:
            found[task_id] = (value, "plan")
        elif earlier is not None:
            found[task_id] = (earlier, "history")
    rest: tuple[float, Source] = (default, "default")
    if found:
        rest = (sum(value for value, _ in found.values()) / len(found), "mean")
    return {task_id: found.get(task_id, rest) for task_id in planned}
