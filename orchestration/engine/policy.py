"""Rules that read a state and decide nothing by themselves: back-off, outcomes, who waits for whom.

May import: orchestration.{errors, fallbacks, models}, orchestration.engine.{state, task_state}, stdlib.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

from orchestration.engine.state import ASKS, State
from orchestration.engine.task_state import TaskState
from orchestration.fallbacks import fallbacks_in
from orchestration.models import ErrorRecord, OrchestrationStatus, TaskId, TaskNode, TaskStatus

MAX_BACKOFF_SECONDS = 60.0
"""Longest wait before a retry, unless the system asks for more."""

FIRST_BACKOFF_SECONDS = 1.0
"""Longest wait before the first retry."""

_NAMED = 20
"""Tasks a refusal names."""


def backoff_seconds(factor: float, failures: int, jitter: float) -> float:
    """Return how long to wait before the next attempt: exponential back-off with full jitter.

    Uniform between zero and min(60 s, 1 s · factor^(failures - 1)); see Marc Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015. The engine records the delay; replay never draws.

    Args:
        factor: Growth from retry to retry, at least 1.
        failures: Attempts that failed so far, counted from 1.
        jitter: Drawn uniformly from [0, 1).

    Raises:
        ValueError: `failures` is less than 1.
    """
    if failures < 1:
        raise ValueError(f"failures is {failures}; expected 1 or more")
    longest = FIRST_BACKOFF_SECONDS
    for _ in range(failures - 1):
        longest *= factor
        if longest >= MAX_BACKOFF_SECONDS:
            longest = MAX_BACKOFF_SECONDS
            break
    return longest * jitter


def required_descendants(state: State, task: TaskState) -> tuple[TaskId, ...]:
    """Return the pending tasks that need `task` through required edges, nearest first."""
    found: dict[TaskId, None] = {}
    frontier = deque([task])
    while frontier:
        upstream = frontier.popleft()
        for edge in upstream.outgoing:
            target = state.tasks[edge.target]
            is_waiting = target.status in {TaskStatus.PENDING, TaskStatus.PAUSED}
            if not edge.edge.is_optional and edge.target not in found and is_waiting:
                found[edge.target] = None
                frontier.append(target)
    return tuple(found)


def outcome_of(
    state: State,
) -> Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED]:
    """Return how an orchestration whose tasks are all settled has ended."""
    if state.counts.get(TaskStatus.CANCELLED) or state.composites.get(TaskStatus.CANCELLED):
        return OrchestrationStatus.CANCELLED if state.ended_by == "request" else OrchestrationStatus.FAILED
    if not state.is_whole:  # the rest never came, whatever became of what was there
        return OrchestrationStatus.CANCELLED if state.ended_by == "request" else OrchestrationStatus.FAILED
    if (state.counts.get(TaskStatus.FAILED) or state.composites.get(TaskStatus.FAILED)) and any(
        task.status is TaskStatus.FAILED and not state.is_tolerated(task) for task in state.tasks.values()
    ):
        return OrchestrationStatus.FAILED
    return OrchestrationStatus.COMPLETED


def may_start_early(node: TaskNode) -> bool:
    """Whether a task may run although the rest of its plan may never come: it can be repeated, and nobody is asked."""
    return (
        node.idempotent
        and node.approval is None
        and all(each.idempotent for each in fallbacks_in(node.fallback))
    )


def children_error(state: State, task: TaskState) -> ErrorRecord | None:
    """Return why a composite whose children have settled has failed; None when it has not."""
    failed = [
        task_id
        for task_id in task.children
        if state.tasks[task_id].status is TaskStatus.FAILED and not state.is_borne(state.tasks[task_id])
    ]
    if not failed:
        return None
    first = state.tasks[failed[0]].error
    why = f" {failed[0]}: {first.message}" if first is not None else ""
    return ErrorRecord(
        code="children_failed",
        message=f"{len(failed)} of its {len(task.children)} parts failed: {listed(failed)}.{why}",
        retryable=False,
    )


def undecided_words(state: State) -> str:
    """Return which tasks wait for a decision, as a sentence."""
    named = [
        task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.UNKNOWN or task.is_asked
    ]
    return f"These wait for a decision: {listed(named)}." if named else "No task of it waits for a decision."


def listed(names: Sequence[TaskId]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def cut_off_error(task: TaskState) -> ErrorRecord:
    """Return what is known of an attempt whose process is gone."""
    return ErrorRecord(
        code="interrupted",
        message=(
            f"The process that ran attempt {task.attempt} on {task.system!r} ended before it answered; whether its "
            "effect happened is not known."
        ),
        attempt=task.attempt,
        system=task.system,
        effect_open=True,
    )


def _as_sentence(text: str) -> str:
    return text if text.rstrip().endswith((".", "!", "?", "…", ":")) else f"{text.rstrip()}."


def open_error(error: ErrorRecord) -> ErrorRecord:
    """Return an error with the words that say what it leaves open."""
    return ErrorRecord(
        code=error.code,
        message=f"{_as_sentence(error.message)} Whether its effect happened is not known.",
        retryable=error.retryable,
        attempt=error.attempt,
        system=error.system,
        effect_open=True,
    )


def asked_words(note: str, error: ErrorRecord | None) -> str:
    """Return why somebody is asked how to go on with a task: how it failed, and why there is no alternative."""
    why = note.removeprefix(ASKS)
    return why if error is None else f"{error.message} ({why})"
