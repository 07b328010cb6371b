"""Decides what an edge with a condition or data requirements delivers, once, when its upstream settles.

May import: orchestration.{expressions, models, errors}, orchestration.engine.{events, state, task_state}, stdlib. An
edge that comes later than its upstream's outcome is decided when it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestration.engine.events import EdgeDecided, EdgeVerdict
from orchestration.engine.state import State
from orchestration.engine.task_state import EdgeState, TaskState
from orchestration.errors import ConditionError, NotPossibleError
from orchestration.expressions import edge_delivers
from orchestration.models import ErrorRecord, Json, TaskEdge, TaskId, TaskStatus

_KEYS_SHOWN = 20
"""Keys of an output that an error lists: enough to spot the right one, few enough to read."""


def verdicts(
    task: TaskState, status: TaskStatus, value: Json, context: Mapping[str, Json]
) -> tuple[EdgeVerdict, ...]:
    """Return the verdicts on a settling task's outgoing edges that have something to check.

    Args:
        task: The task that settles.
        status: Its outcome.
        value: Its output; None unless it completed.
        context: The orchestration's context.
    """
    return tuple(_verdict(edge, status, value, context) for edge in task.outgoing if edge.needs_checking)


def late_verdicts(
    state: State, edges: Iterable[TaskEdge], values: Mapping[TaskId, Json]
) -> tuple[EdgeDecided, ...]:
    """Return the verdict on each new edge whose upstream, or what stands for it now, has settled already.

    Args:
        state: The orchestration; an edge from none of its tasks is still to come.
        edges: The new edges.
        values: Outputs of completed tasks.

    Raises:
        NotPossibleError: The output of a completed task must be seen to decide an edge, and is not given.
    """
    found = []
    for edge in edges:
        current = state.current(edge.source_task_id)
        source = state.tasks.get(current)
        if source is None or not source.is_settled:
            continue
        joined = EdgeState(edge, current, edge.target_task_id)
        is_completed = source.status is TaskStatus.COMPLETED
        if not joined.needs_checking:
            verdict = EdgeVerdict(target_task_id=edge.target_task_id, delivers=is_completed)
        elif is_completed and current not in values:
            told = "completed by now, and its output was not looked at"
            raise NotPossibleError(f"Task {current!r}", told, "linked", "Try again.")
        else:
            value = values.get(current) if is_completed else None
            verdict = _verdict(joined, source.status, value, state.context)
        found.append(EdgeDecided(source_task_id=edge.source_task_id, verdict=verdict))
    return tuple(found)


def _verdict(edge: EdgeState, status: TaskStatus, value: Json, context: Mapping[str, Json]) -> EdgeVerdict:
    name = f"{edge.edge.source_task_id} → {edge.target}"
    try:
        delivers = edge_delivers(edge.edge.condition, output=value, status=status.value, context=context)
    except ConditionError as exc:
        return _undecided(edge, "condition_error", f"The condition on {name} can't be decided: {exc}")
    if delivers and isinstance(value, dict):
        missing = [key for key in edge.edge.data_requirements if key not in value]
        if missing:
            there = ", ".join(list(value)[:_KEYS_SHOWN]) or "none"
            wanted = ", ".join(repr(key) for key in missing)
            text = f"{name} requires {wanted}, which the output of {edge.source} lacks. Its keys: {there}."
            return _undecided(edge, "missing_data", text)
    return EdgeVerdict(target_task_id=edge.target, delivers=delivers)


def _undecided(edge: EdgeState, code: str, message: str) -> EdgeVerdict:
    """Return the verdict on an edge that is broken: a warning where it is optional, else the target's failure."""
    if edge.edge.is_optional:
        return EdgeVerdict(target_task_id=edge.target, delivers=False, warning=message)
    error = ErrorRecord(code=code, message=message, retryable=False)
    return EdgeVerdict(target_task_id=edge.target, delivers=False, error=error)
