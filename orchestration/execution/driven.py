"""One orchestration under a coordinator: its lease, its state, what of it is public, and who waits for it.

May import: orchestration.{claim_records, models, ports}, orchestration.engine.*, anyio, stdlib.

What callers see is what has been committed: the engine's state may be ahead by the batch that is being written.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable

import anyio

from orchestration.claim_records import Offer
from orchestration.engine.events import (
    Recorded,
)
from orchestration.engine.policy import asked_words
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
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
        self.running: dict[TaskId, None] = {}
        """Running tasks, as committed."""
        self.errors: dict[TaskId, ErrorRecord] = {}
        """Why tasks failed for good, as committed."""
        self.open_questions: dict[TaskId, str] = {}
        """What is known of the tasks that wait for a decision, as committed."""
        self.approvals: dict[TaskId, str] = {}
        """What the tasks would run that wait for somebody's yes, as committed."""
        self.progress: dict[TaskId, str] = {}
        """How far running tasks say they have come."""
        self.offered: dict[TaskId, None] = {}
        """Tasks that are offered to agents, as committed."""
        self.claimed: dict[TaskId, str] = {}
        """Tasks that agents have, each with its worker, as committed."""
        self.asked: dict[TaskId, str] = {}
        """Why whoever submitted it is asked how to go on with a task, as committed."""
        for task in state.tasks.values():
            self._note(task)
        self.last_seq = state.last_seq
        """Of the last committed event."""
        self.pending_events: list[Recorded] = []
        self.pending_outputs: list[StoredOutput] = []
        self.pending_cached: list[CacheEntry] = []
        self.pending_answers: list[ControlAnswer] = []
        self.pending_offers: list[Offer] = []
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

    def _note(self, task: TaskState) -> None:
        """Take a task out of every list of what is going on, and put it where it belongs now."""
        task_id = task.node.task_id
        for listed in (
            self.running,
            self.errors,
            self.open_questions,
            self.approvals,
            self.offered,
            self.claimed,
            self.asked,
        ):
            listed.pop(task_id, None)
        if task.status is not TaskStatus.RUNNING:
            self.progress.pop(task_id, None)
        match task.status:
            case TaskStatus.RUNNING:
                self.running[task_id] = None
            case TaskStatus.FAILED if task.error is not None:
                self.errors[task_id] = task.error
            case TaskStatus.UNKNOWN:
                self.open_questions[task_id] = task.note or ""
            case TaskStatus.AWAITING_APPROVAL:
                self.approvals[task_id] = task.note or ""
            case TaskStatus.OFFERED:
                self.offered[task_id] = None
            case TaskStatus.CLAIMED:
                self.claimed[task_id] = task.worker or ""
            case TaskStatus.REPLANNING if task.is_asked:
                self.asked[task_id] = asked_words(task.note or "", task.error)
            case _:
                pass

    def clear_pending(self) -> None:
        """Forget what has been committed."""
        self.pending_events, self.pending_outputs, self.pending_cached = [], [], []
        self.pending_answers, self.pending_offers = [], []
        self.is_critical = False
        self.state.touched.clear()

    def publish(self, touched: Iterable[TaskId], events: list[Recorded], summary: Summary) -> None:
        """Make committed events visible; nothing else has been decided since.

        Args:
            touched: The tasks they changed.
            events: They themselves, in order.
            summary: How it stands after them.
        """
        for task_id in touched:
            self._note(self.state.tasks[task_id])
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
