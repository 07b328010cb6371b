"""What storage and status are told about a state: the summary of an orchestration and the row of a task.

May import: orchestration.{metrics, models, ports}, orchestration.engine.{scheduler, state, task_state},
orchestration.systems.base, stdlib.
"""

from __future__ import annotations

from orchestration.engine.scheduler import AdaptiveTaskScheduler
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.metrics import measure
from orchestration.models import OrchestrationMode, TaskStatus, as_unicode
from orchestration.ports import Progress, Summary, TaskRow
from orchestration.systems.base import bounded


def concurrency_of(state: State, scheduler: AdaptiveTaskScheduler) -> int:
    """Return how many attempts of the orchestration may run at once."""
    return 1 if state.mode is OrchestrationMode.SIMPLE else scheduler.slots.limit


def summary_of(state: State, scheduler: AdaptiveTaskScheduler) -> Summary:
    """Return how an orchestration stands."""
    has_ended = state.status.is_terminal
    measured = measure(state, concurrency_of(state, scheduler)) if has_ended else None
    return Summary(
        state=state.status,
        total_tasks=state.total_tasks,
        counts={status: count for status, count in state.counts.items() if count},
        revision=state.revision,
        started_at_us=state.first_started_at_us,
        finished_at_us=state.finished_at_us,
        attempts=state.attempts,
        work_seconds=state.work_us / 1_000_000,
        makespan_seconds=measured.makespan_seconds if measured else None,
        parallel_efficiency=measured.parallel_efficiency if measured else None,
        remaining_seconds=0.0 if has_ended else scheduler.remaining_seconds(state, state.last_at_us),
        cost=state.cost,
        reason=state.reason,
    )


SAYS = "says: "
"""How the note of a running task begins whose attempt has told how far it has come."""

_PROGRESS_CHARS = 200


def progress_words(progress: Progress) -> str:
    """Return how far an attempt says it has come, in one line: `3 of 10: fetching`."""
    parts = []
    if progress.done is not None:
        done = f"{progress.done:g}"
        parts.append(done if progress.total is None else f"{done} of {progress.total:g}")
    message = " ".join(as_unicode(progress.message).split())
    if message:
        parts.append(message)
    return bounded(": ".join(parts) or "going on", _PROGRESS_CHARS)


def row_of(task: TaskState, progress: str | None = None) -> TaskRow:
    """Return how a task stands.

    Args:
        task: The task.
        progress: How far its running attempt says it has come.
    """
    return TaskRow(
        task_id=task.node.task_id,
        position=task.position,
        status=task.status,
        attempt=task.attempt,
        system=task.system or None,
        started_at_us=task.started_at_us,
        finished_at_us=task.finished_at_us,
        duration_seconds=task.duration_us / 1_000_000,
        error=task.error,
        output_sha256=task.output.sha256 if task.output else None,
        output_bytes=task.output.size_bytes if task.output else None,
        note=task.note if progress is None or task.status is not TaskStatus.RUNNING else f"{SAYS}{progress}",
        tool=task.node.tool,
        parent=task.node.parent,
        is_composite=bool(task.is_composite),
    )
