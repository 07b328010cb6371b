"""One orchestration under a coordinator: its lease, its state, what of it is public, and who waits for it.

May import: orchestration.{models, ports}, orchestration.engine.*, anyio, stdlib.

What callers see is what has been committed: the engine's state may be ahead by the batch that is being written.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable

import anyio

from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    PlanRevised,
    Recorded,
    RetryRequested,
    TaskDecided,
    TaskFailed,
    TasksCancelled,
    VerificationUnclear,
)
from orchestration.engine.state import State
from orchestration.models import ErrorRecord, TaskId, TaskStatus
from orchestration.ports import CacheEntry, ControlAnswer, Lease, Listener, StoredOutput, Summary

enclosing_goals: contextvars.ContextVar[tuple[tuple[object, str], ...]] = contextvars.ContextVar(
    "enclosing_goals", default=()
)
"""(storage, goal) of every orchestration in one of whose attempts the present code runs, outermost first."""

_BACKLOG = 10_000
"""Events kept for a listener that is slower than the orchestration; older ones are let go."""


class ListenerQueue:
    """Events on their way to one listener, which may be slow without holding anything up."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.waiting: deque[Recorded] = deque(maxlen=_BACKLOG)
        self.arrived = anyio.Event()
        self.is_closed = False

    def put(self, events: Iterable[Recorded]) -> None:
        """Hand events over."""
        self.waiting.extend(events)
        self.arrived.set()

    def close(self) -> None:
        """Say that nothing more will come."""
        self.is_closed = True
        self.arrived.set()


class Driven:
    """An orchestration this process drives.

    Args:
        lease: The right to.
        state: Its state in the engine.
        summary: How it stood when it was taken over.
        goals: What `enclosing_goals` is in its attempts.
    """

    def __init__(
        self, lease: Lease, state: State, summary: Summary, goals: tuple[tuple[object, str], ...] = ()
    ) -> None:
        self.lease = lease
        self.state = state
        self.goals = goals
        self.summary = summary
        """As committed."""
        self.running: dict[TaskId, None] = dict.fromkeys(state.running)
        """Running tasks, as committed."""
        self.errors: dict[TaskId, ErrorRecord] = {
            task_id: task.error
            for task_id, task in state.tasks.items()
            if task.error is not None and task.status is TaskStatus.FAILED
        }
        """Why tasks failed for good, as committed."""
        self.open_questions: dict[TaskId, str] = {
            task_id: task.note or ""
            for task_id, task in state.tasks.items()
            if task.status is TaskStatus.UNKNOWN
        }
        """What is known of the tasks that wait for a decision, as committed."""
        self.last_seq = state.last_seq
        """Of the last committed event."""
        self.pending_events: list[Recorded] = []
        self.pending_outputs: list[StoredOutput] = []
        self.pending_cached: list[CacheEntry] = []
        self.pending_answers: list[ControlAnswer] = []
        self.is_critical = False
        """Whether what is pending must survive a power cut."""
        self.finished = anyio.Event()
        """Set when it has ended, or when this process can't drive it any more; `failure` tells which."""
        self.failure: Exception | None = None
        self.changed: anyio.Event | None = None
        """Someone waits for the next commit."""
        self.listeners: list[ListenerQueue] = []
        self.on_end: Callable[[Driven], None] | None = None

    def add(self, recorded: Recorded) -> None:
        """Take in an event that is to be committed."""
        self.pending_events.append(recorded)
        if not self.is_critical:
            task = self.state.tasks.get(getattr(recorded.event, "task_id", ""))
            self.is_critical = task is not None and not task.node.idempotent

    def clear_pending(self) -> None:
        """Forget what has been committed."""
        self.pending_events, self.pending_outputs, self.pending_cached, self.pending_answers = [], [], [], []
        self.is_critical = False
        self.state.touched.clear()

    def publish(self, events: list[Recorded], summary: Summary) -> None:  # noqa: C901  one flat case per event
        """Make committed events visible."""
        for recorded in events:
            event = recorded.event
            match event:
                case AttemptStarted():
                    self.running[event.task_id] = None
                case AttemptSucceeded() | AttemptFailed() | AttemptInterrupted():
                    self.running.pop(event.task_id, None)
                case AttemptLeftOpen():
                    self.running.pop(event.task_id, None)
                    self.open_questions[event.task_id] = event.error.message
                case VerificationUnclear():
                    self.open_questions[event.task_id] += f" `verify` could not say: {event.reason}"
                case TaskDecided():
                    self.open_questions.pop(event.task_id, None)
                case TaskFailed():
                    self.errors[event.task_id] = event.error
                case TasksCancelled():
                    for task_id in event.task_ids:
                        self.running.pop(task_id, None)
                        self.open_questions.pop(task_id, None)
                case PlanRevised():
                    self.errors.pop(event.task_id, None)
                case RetryRequested():
                    for task_id in event.task_ids:
                        self.errors.pop(task_id, None)
                case _:
                    pass
        self.summary = summary
        if not events:
            return
        self.last_seq = events[-1].seq
        for queue in self.listeners:
            queue.put(events)
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    def end(self, failure: Exception | None = None) -> None:
        """Wake whoever waits: it has ended, or it can't be driven here any more."""
        self.failure = failure
        self.finished.set()
        if self.on_end is not None:
            self.on_end(self)
        for queue in self.listeners:
            queue.close()
        if self.changed is not None:
            self.changed.set()
            self.changed = None
