"""What happened to one task, in words: which events of a journal are about it, and what each says of it.

May import: orchestration.{engine.events, models}, stdlib. Pure: events in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestration.engine.events import (
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    EdgeVerdict,
    Event,
    FallbackStarted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    ReplanRequested,
    ResultReused,
    RetryDue,
    RetryRequested,
    RetryScheduled,
    StopRequested,
    TaskDecided,
    TaskExpanded,
    TaskFailed,
    TaskOffered,
    TaskRerouted,
    TasksCancelled,
    TaskSkipped,
    VerificationUnclear,
)
from orchestration.models import ErrorRecord, TaskId, TaskNode


def words_about(event: Event, task_id: TaskId) -> str | None:  # noqa: C901  one flat case per kind of event
    """Return what an event says of a task; None when it is not about it."""
    own = getattr(event, "task_id", None) == task_id
    match event:
        case AttemptStarted() if own:
            return f"attempt {event.attempt} started on {event.system}"
        case AttemptSucceeded() if own:
            return f"attempt {event.attempt} succeeded"
        case AttemptFailed() if own:
            return f"attempt {event.attempt} failed: {_error(event.error)}"
        case AttemptInterrupted() if own:
            return f"attempt {event.attempt} was cut off with the process that ran it; it runs again"
        case AttemptLeftOpen() if own:
            return f"nobody knows how attempt {event.attempt} ended: {_error(event.error)}"
        case VerificationUnclear() if own:
            return f"its `verify` could not say what became of attempt {event.attempt}: {event.reason}"
        case TaskDecided() if own:
            return f"decided by {event.by}: {event.decision}{_because(event.reason)}"
        case ResultReused() if own:
            how = "an equal task's cached output" if event.because == "cache" else "an earlier run's output"
            return f"completed by {how}, of {event.source}; no attempt was made"
        case StopRequested() if own:
            return f"attempt {event.attempt} was asked to stop: {event.because}"
        case RetryScheduled() if own:
            return f"tried again in {event.delay_seconds:.1f} s"
        case RetryDue() if own:
            return "its wait is over"
        case TaskRerouted() if own:
            why = event.reason or "its system used up its attempts"
            return f"{why}: it goes to {event.system}"
        case FallbackStarted() if own:
            return "its fallback takes over"
        case TaskOffered() if own:
            return f"offered to agents (offer {event.number})"
        case ClaimStarted() if own:
            return f"attempt {event.attempt} is {event.worker}'s: claimed"
        case ClaimResumed() if own:
            return f"attempt {event.attempt} goes on: its worker reported late, and nobody else had it"
        case ClaimReported() if own:
            return f"attempt {event.attempt} was reported done; that is being checked"
        case ClaimReleased() if own:
            return f"attempt {event.attempt} was given back by its worker{_because(event.reason)}"
        case ApprovalRequested() if own:
            return f"somebody is asked to agree to exactly this: {event.shown}"
        case ApprovalGiven() if own:
            return f"{event.by} agreed{_because(event.reason)}"
        case ApprovalVoided() if own:
            return "what was agreed to had changed, so nothing was run: it asks anew"
        case CallerAsked() if own:
            return f"nobody had an alternative, so whoever submitted it is asked how to go on: {event.reason}"
        case TaskExpanded() if own:
            return (
                "its parts begin"
                if event.count is None
                else f"its list has {event.count:,} items: one part each"
            )
        case ChildrenGathered() if own:
            return "completed with what its parts delivered"
        case TaskFailed() if own:
            return f"failed for good: {_error(event.error)}"
        case TaskSkipped() if own:
            return (
                f"skipped: nothing came from {event.because}"
                if event.because
                else f"skipped{_because(event.reason)}"
            )
        case TasksCancelled() if task_id in event.task_ids:
            return f"cancelled{_because(event.note)}"
        case RetryRequested() if task_id in event.task_ids:
            return f"begins anew{_because(event.reason)}"
        case ReplanRequested() if own:
            return f"out of attempts: an alternative is asked for, because {_error(event.error)}"
        case ReplanRequested() if task_id in event.paused:
            return f"waits while an alternative is made for {event.task_id}"
        case PlanRevised() | PlanEdited() | PlanExtended():
            return _revised(event, task_id)
        case _:
            return _verdict(getattr(event, "verdicts", ()), task_id, getattr(event, "task_id", ""))


def _revised(event: PlanRevised | PlanEdited | PlanExtended, task_id: TaskId) -> str | None:
    """Return what a change of the plan says of a task."""
    match event:
        case PlanRevised():
            by = f"in revision {event.revision} by {event.by}{_because(event.reason)}"
            if event.task_id == task_id:
                return f"replaced by {', '.join(node.task_id for node in event.tasks)} {by}"
            return f"came in the place of {event.task_id} {by}" if _is_in(event.tasks, task_id) else None
        case PlanEdited():
            by = f"in revision {event.revision} by {event.by}{_because(event.reason)}"
            changes = [
                word
                for word, is_so in (
                    ("added", _is_in(event.added, task_id)),
                    ("changed", _is_in(event.changed, task_id)),
                    ("removed", task_id in event.removed),
                    ("taken out of the run", task_id in event.skipped),
                    ("given a new upstream", any(edge.target_task_id == task_id for edge in event.linked)),
                    ("freed of an upstream", any(target == task_id for _, target in event.unlinked)),
                )
                if is_so
            ]
            return f"{' and '.join(changes)} {by}" if changes else None
        case PlanExtended():
            return "came with more of the plan" if _is_in(event.tasks, task_id) else None


def _verdict(verdicts: Iterable[EdgeVerdict], task_id: TaskId, upstream: TaskId) -> str | None:
    """Return what became of the edge that leads to a task, where there was something to check."""
    for verdict in verdicts:
        if verdict.target_task_id == task_id:
            if verdict.error is not None:
                return f"the edge from {upstream} can't be decided: {_error(verdict.error)}"
            why = f": {verdict.warning}" if verdict.warning else ""
            return f"the edge from {upstream} {'delivers' if verdict.delivers else 'is dead'}{why}"
    return None


def _is_in(nodes: Iterable[TaskNode], task_id: TaskId) -> bool:
    return any(node.task_id == task_id for node in nodes)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _error(error: ErrorRecord) -> str:
    return f"{error.code}: {error.message}"
