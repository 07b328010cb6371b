"""What of a running orchestration may still be changed: finished tasks are frozen, running ones must be stopped first.

May import: orchestration.{errors, models}, orchestration.engine.{inputs, state, task_state}, stdlib.

Whoever asks for a change has looked at all this before, and tells every refusal at once; here it is asked again, for
the state may have moved on since.
"""

from __future__ import annotations

from orchestration.engine.inputs import GraphChange, PlanGrown
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import NotPossibleError, StateError, TaskNotFoundError
from orchestration.models import TaskId, TaskStatus

_NAMED = 20

UNBEGUN = frozenset(
    {
        TaskStatus.PENDING,
        TaskStatus.PAUSED,
        TaskStatus.READY,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.OFFERED,
    }
)
"""Statuses of tasks whose edges may still change, as long as no attempt was made."""

_CHANGEABLE = UNBEGUN | {TaskStatus.RETRYING}
_SKIPPABLE = _CHANGEABLE


def edit_refusal(task: TaskState, action: str) -> str | None:
    """Return why a task can't be changed so, as the end of a sentence, with what can be done; None when it can.

    Args:
        task: The task.
        action: `set`, `priority`, `remove`, `link` (its incoming edges change), `skip`, or `parent` (it gets parts).
    """
    status = task.status
    if task.index is not None:
        return f"it is the child of {task.node.parent!r}; edit that one before it begins"
    if status is TaskStatus.RUNNING:
        return "it is running; cancel the orchestration, or wait for the attempt to end"
    if status is TaskStatus.CLAIMED:
        return f"{task.worker} has claimed it; wait for its report, or cancel the orchestration"
    if status is TaskStatus.UNKNOWN:
        return "it waits for a decision about an attempt nobody knows the end of; decide that first"
    if status is TaskStatus.SUPERSEDED:
        return "it was replaced or removed"
    if task.is_settled:
        return f"it has ended ({status}), and what has ended is frozen; `retry` runs a failed one again"
    if action == "set" and task.is_expanded and status is not TaskStatus.EXPANDED:
        return "its parts are there already, as it was when they began"
    if action in {"set", "priority"}:
        is_open = status in _CHANGEABLE or task.is_asked
        return None if is_open else f"it is {status}; wait until it is not"
    if action == "skip":
        is_open = status in _SKIPPABLE and not task.is_expanded
        return (
            None
            if is_open
            else f"it is {status}; only what has not begun, or waits to be retried, can be skipped"
        )
    if action == "parent":
        is_open = status in {TaskStatus.PENDING, TaskStatus.PAUSED} or task.is_composite
        return None if is_open else f"it is {status}, about to run by itself"
    if status in UNBEGUN and task.attempt == 0 and not task.is_expanded:
        return None
    return f"it is {status} and has begun; only what has not can be unlinked, linked or removed"


def first_refusal(state: State, change: GraphChange) -> StateError | None:
    """Return the first reason why a change can't be made now; None when it can."""
    wanted: list[tuple[TaskId, str]] = [(node.task_id, "set") for node in change.changed]
    wanted += [(task_id, "remove") for task_id in change.removed]
    wanted += [(task_id, "skip") for task_id in change.skipped]
    added = {node.task_id for node in change.added}
    wanted += [(target, "link") for _, target in change.unlinked]
    wanted += [(edge.target_task_id, "link") for edge in change.linked if edge.target_task_id not in added]
    wanted += [
        (node.parent, "parent")
        for node in change.added
        if node.parent is not None and node.parent not in added
    ]
    for task_id, action in wanted:
        task = state.tasks.get(task_id)
        if task is None:
            return TaskNotFoundError(state.orchestration_id, task_id, list(state.tasks)[:_NAMED])
        reason = edit_refusal(task, action)
        if reason is not None:
            return NotPossibleError(f"Task {task_id!r}", task.status, _DONE[action], f"Because {reason}.")
    removed = set(change.removed)
    for edge in change.linked:
        source = state.tasks.get(edge.source_task_id)
        is_there = source is not None and source.status is not TaskStatus.SUPERSEDED
        if edge.source_task_id not in added and (not is_there or edge.source_task_id in removed):
            return TaskNotFoundError(state.orchestration_id, edge.source_task_id, list(state.tasks)[:_NAMED])
    for task_id in added:
        if task_id in state.tasks and task_id not in state.removed:
            return NotPossibleError(f"Task {task_id!r}", "there already", "added")
    return None


def growth_refusal(state: State, part: PlanGrown) -> NotPossibleError | None:
    """Return why a part of a plan that is still being made does not fit what is there; None when it does."""
    new = {node.task_id for node in part.tasks}
    for task_id in new:
        if task_id in state.tasks:
            return NotPossibleError(f"Task {task_id!r}", "there already", "planned")
    for edge in part.edges:
        if edge.target_task_id not in new or not {state.current(edge.source_task_id)} & {*new, *state.tasks}:
            told = f"Edge {edge.source_task_id} → {edge.target_task_id}"
            return NotPossibleError(told, "not one to a new task from one that is there", "planned")
    for node in part.tasks:
        if node.parent is None or node.parent in new:
            continue
        parent = state.tasks.get(node.parent)
        reason = "it is not there" if parent is None else edit_refusal(parent, "parent")
        if reason is not None:
            told = f"a part of {node.parent!r}"
            return NotPossibleError(f"Task {node.task_id!r}", told, "planned", f"Because {reason}.")
    return None


_DONE = {
    "set": "changed",
    "remove": "removed",
    "skip": "skipped",
    "link": "linked or unlinked",
    "parent": "given parts",
}
