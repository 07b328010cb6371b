"""Rules that read a state and decide nothing by themselves: back-off, outcomes, who waits for whom, what a retry takes.

May import: orchestration.{errors, models}, orchestration.engine.{state, task_state}, stdlib.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Literal

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import ErrorRecord, OrchestrationStatus, TaskId, TaskStatus

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
    if state.counts.get(TaskStatus.CANCELLED):
        return OrchestrationStatus.FAILED if state.is_out_of_time else OrchestrationStatus.CANCELLED
    if state.counts.get(TaskStatus.FAILED) and any(
        task.status is TaskStatus.FAILED and not state.is_tolerated(task) for task in state.tasks.values()
    ):
        return OrchestrationStatus.FAILED
    return OrchestrationStatus.COMPLETED


def reopened_by(state: State, chosen: Sequence[TaskId]) -> tuple[TaskId, ...]:
    """Return the tasks that a retry makes pending again, by their place in the DAG.

    The chosen failed tasks (all of them when none is chosen), every cancelled task (nothing could follow it
    otherwise), and, as often as it applies, each task that never ran because of nothing but these.

    Raises:
        TaskNotFoundError: A chosen task is not there.
        NotPossibleError: A chosen task has not failed, or failed over something a retry does not change; or there is
            nothing to retry.
    """
    for task_id in chosen:
        if task_id not in state.tasks:
            raise TaskNotFoundError(state.orchestration_id, task_id, list(state.tasks)[:_NAMED])
        if state.tasks[task_id].status not in {TaskStatus.FAILED, TaskStatus.CANCELLED}:
            raise NotPossibleError(
                f"Task {task_id!r}", state.tasks[task_id].status, "retried", _retryable_words(state)
            )
    wanted = chosen or [
        task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.FAILED and not task.dead
    ]
    again = dict.fromkeys(wanted)
    again |= dict.fromkeys(
        task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.CANCELLED
    )
    freed: Counter[TaskId] = Counter()
    frontier = deque(again)
    while frontier:
        for edge in state.tasks[frontier.popleft()].outgoing:
            target = state.tasks[edge.target]
            if edge.delivers is not False or edge.edge.is_optional or not target.never_ran:
                continue
            freed[edge.target] += 1
            if edge.target not in again and freed[edge.target] == target.dead:
                again[edge.target] = None
                frontier.append(edge.target)
    for task_id in chosen:
        task = state.tasks[task_id]
        if task.status is TaskStatus.FAILED and task.dead > freed[task_id]:
            raise NotPossibleError(
                f"Task {task_id!r}",
                task.status,
                "retried",
                "It failed before it ran: an edge it requires can't be decided. Fix: retry the task before it, or "
                "submit a DAG with that edge mended.",
            )
    if not again:
        raise NotPossibleError(
            f"Orchestration {state.orchestration_id!r}", state.status, "retried", _retryable_words(state)
        )
    return tuple(sorted(again, key=lambda task_id: state.tasks[task_id].position))


def _retryable_words(state: State) -> str:
    named = [
        task_id
        for task_id, task in state.tasks.items()
        if task.status in {TaskStatus.FAILED, TaskStatus.CANCELLED} and not task.dead
    ]
    return f"Failed or cancelled tasks can: {_listed(named)}." if named else "No task of it has failed."


def undecided_words(state: State) -> str:
    """Return which tasks wait for a decision, as a sentence."""
    named = [task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.UNKNOWN]
    return f"These wait for a decision: {_listed(named)}." if named else "No task of it waits for a decision."


def _listed(names: Sequence[TaskId]) -> str:
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
