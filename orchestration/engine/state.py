"""What an orchestration is at one instant: the fold of its events over its DAG. Only `evolve` changes it.

May import: orchestration.{dag, errors, models}, orchestration.engine.{events, inputs,
task_state, transitions}, stdlib.

Theory of operation: each task counts its undecided incoming edges and its dead required ones, so that settling a
task costs O(out-degree). `evolve` neither evaluates conditions nor draws nor measures: events say what was decided.
What a change makes possible is collected in `newly_ready` and `newly_dead`; the engine drains them after each event,
replay throws them away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import assert_never

from orchestration.dag import TaskDAG
from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    EdgeVerdict,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    OrchestrationSubmitted,
    PlanRevised,
    Recorded,
    ReplanRequested,
    ResultReused,
    RetryDue,
    RetryRequested,
    RetryScheduled,
    StopRequested,
    TaskDecided,
    TaskFailed,
    TasksCancelled,
    TaskSkipped,
    VerificationUnclear,
)
from orchestration.engine.inputs import TaskDefaults
from orchestration.engine.task_state import EdgeState, TaskState, fingerprint
from orchestration.engine.transitions import ORCHESTRATION_TRANSITIONS, TASK_TRANSITIONS
from orchestration.errors import HistoryMismatchError, InvalidTransitionError
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskStatus,
)

LONGEST_WAIT_SECONDS = 365 * 24 * 3600.0
"""What any wait is cut to, whoever asked for it: an instant must stay a number that can be stored and slept to."""

_STILL_OPEN = "It was cancelled; whether the effect of its latest attempt happened is not known."

_STORY_LENGTH = 20
"""Events an error about an illegal move carries: enough to see how it came about."""

_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.PAUSED})

_OVER = SETTLED | {TaskStatus.SUPERSEDED}


class State:
    """One orchestration.

    Args:
        orchestration_id: Its id.
        dag: The validated, normalised DAG it was submitted with.
    """

    def __init__(self, orchestration_id: OrchestrationId, dag: TaskDAG) -> None:
        self.orchestration_id = orchestration_id
        self.dag = dag
        self.mode = OrchestrationMode.HIERARCHICAL
        self.context: JsonObject = {}
        self.defaults = TaskDefaults()
        self.can_replan = False
        self.status = OrchestrationStatus.RUNNING
        self.tasks: dict[TaskId, TaskState] = {}
        self.counts: dict[TaskStatus, int] = {}
        self.running: dict[TaskId, None] = {}
        """Running tasks, longest first."""
        self.unsettled = 0
        self.revision = 1
        self.replacement: dict[TaskId, TaskId] = {}
        """Superseded task → the task that stands for it."""
        self.last_seq = 0
        self.last_at_us = 0
        self.submitted_at_us = 0
        self.first_started_at_us: int | None = None
        self.last_settled_at_us: int | None = None
        self.finished_at_us: int | None = None
        self.attempts = 0
        self.work_us = 0
        self.cost = 0.0
        self.reason = ""
        """Why it is paused or cancelled."""
        self.timeout_seconds: float | None = None
        self.deadline_us: int | None = None
        """When its time is over; None for never."""
        self.is_out_of_time = False
        self.warnings: list[str] = []
        self.newly_ready: list[TaskId] = []
        self.newly_dead: deque[tuple[TaskId, TaskId, ErrorRecord | None]] = deque()
        """Target, upstream and, where the edge could not be decided, why."""
        self.touched: dict[TaskId, None] = {}
        """Tasks that changed since the journal last took note, in the order of their first change."""
        self.held: set[TaskId] = set()
        """Ready tasks that wait for the answer of the cache; only ever asked about one."""
        self._story: deque[Recorded] = deque(maxlen=_STORY_LENGTH)

    @property
    def total_tasks(self) -> int:
        """Return how many executable tasks there are; superseded ones don't count."""
        return len(self.tasks) - self.counts.get(TaskStatus.SUPERSEDED, 0)

    def current(self, task_id: TaskId) -> TaskId:
        """Return the task that now stands for `task_id`."""
        while task_id in self.replacement:
            task_id = self.replacement[task_id]
        return task_id

    def is_tolerated(self, task: TaskState) -> bool:
        """Whether a failed task is one its dependents can live with: it has some, and none was skipped over it."""
        return bool(task.outgoing) and not any(
            edge.delivers is False
            and not edge.edge.is_optional
            and self.tasks[edge.target].status is TaskStatus.SKIPPED
            for edge in task.outgoing
        )

    # Change

    def evolve(self, recorded: Recorded) -> None:  # noqa: C901  one flat case per event
        """Apply one event.

        Raises:
            HistoryMismatchError: It is not the next one of this orchestration.
            InvalidTransitionError: It makes a move the transition tables forbid.
        """
        if recorded.seq != self.last_seq + 1:
            raise HistoryMismatchError(f"event {self.last_seq + 1}", f"event {recorded.seq}")
        self.last_seq = recorded.seq
        self.last_at_us = recorded.at_us
        self._story.append(recorded)
        now = recorded.at_us
        event = recorded.event
        match event:
            case AttemptStarted():
                self._start(event, now)
            case AttemptSucceeded():
                task = self.tasks[event.task_id]
                self._end_attempt(task, now)
                task.output = event.output
                self.cost += event.cost if event.cost is not None else (task.node.cost or 0.0)
                self._settle(task, TaskStatus.COMPLETED, now, event.verdicts)
            case AttemptFailed():
                task = self.tasks[event.task_id]
                self._end_attempt(task, now)
                task.failures += 1
                task.error = event.error
                self.cost += task.node.cost or 0.0
            case RetryScheduled():
                task = self.tasks[event.task_id]
                task.due_at_us = event.due_at_us
                self._move(task, TaskStatus.RETRYING)
            case RetryDue():
                self._make_ready(self.tasks[event.task_id])
            case TaskFailed():
                task = self.tasks[event.task_id]
                self._release_paused(task)
                task.error = event.error
                self._settle(task, TaskStatus.FAILED, now, event.verdicts)
            case TaskSkipped():
                task = self.tasks[event.task_id]
                task.note = f"skipped: nothing came from {event.because}"
                self._settle(task, TaskStatus.SKIPPED, now, event.verdicts)
            case TasksCancelled():
                self._cancel(event, now)
            case AttemptInterrupted():
                task = self.tasks[event.task_id]
                self._end_attempt(task, now)
                task.note = f"attempt {event.attempt} was interrupted"
                self._make_ready(task)
            case AttemptLeftOpen():
                task = self.tasks[event.task_id]
                self._end_attempt(task, now)
                task.error = event.error
                task.note = event.error.message
                task.is_open = True
                task.is_unclear = False
                self.cost += task.node.cost or 0.0
                self._move(task, TaskStatus.UNKNOWN)
            case VerificationUnclear():
                task = self.tasks[event.task_id]
                task.is_unclear = True
                task.note = f"{task.note} `verify` could not say: {event.reason}"
                self.touched[event.task_id] = None
            case TaskDecided():
                self._decide(event, now)
            case ResultReused():
                task = self.tasks[event.task_id]
                task.output = event.output
                task.is_reused = True
                task.note = (
                    f"{'cached' if event.because == 'cache' else 'reused'}: the output of {event.source}"
                )
                self._settle(task, TaskStatus.COMPLETED, now, event.verdicts)
            case RetryRequested():
                self._reopen(event, now)
            case StopRequested():
                self.tasks[event.task_id].stopping = event.because
            case ReplanRequested():
                self._move(self.tasks[event.task_id], TaskStatus.REPLANNING)
                for task_id in event.paused:
                    paused = self.tasks[task_id]
                    paused.paused_by.add(event.task_id)
                    if paused.status is TaskStatus.PENDING:
                        self._move(paused, TaskStatus.PAUSED)
            case PlanRevised():
                self._splice(event)
            case OrchestrationPaused():
                self.reason = event.reason
                self._move_self(OrchestrationStatus.PAUSED)
            case OrchestrationResumed():
                self.reason = ""
                self._move_self(OrchestrationStatus.RUNNING)
            case CancelRequested():
                self.reason = event.reason
                self.is_out_of_time = event.because == "timeout"
                self._move_self(OrchestrationStatus.CANCELLING)
            case OrchestrationFinished():
                self.finished_at_us = now
                self._move_self(event.outcome)
            case OrchestrationSubmitted():
                self._begin(event, now)
            case _:
                assert_never(event)

    def _begin(self, event: OrchestrationSubmitted, now: int) -> None:
        """Lay out the tasks; those without upstreams are ready."""
        self.mode = event.mode
        self.context = event.context
        self.defaults = event.defaults
        self.can_replan = event.can_replan
        self.submitted_at_us = now
        self.timeout_seconds = event.timeout_seconds
        self._set_deadline(now)
        for position, node in enumerate(self.dag.nodes.values()):
            self.tasks[node.task_id] = TaskState(node, position, event.routes.get(node.task_id, ""))
        for edge in self.dag.edges:
            self._add_edge(edge)
        self.unsettled = len(self.tasks)
        self.counts = {TaskStatus.PENDING: len(self.tasks)}
        for task in self.tasks.values():
            if task.undecided == 0:
                self._make_ready(task)

    def _set_deadline(self, now: int) -> None:
        if self.timeout_seconds is not None:
            self.deadline_us = now + round(min(self.timeout_seconds, LONGEST_WAIT_SECONDS) * 1_000_000)

    def _decide(self, event: TaskDecided, now: int) -> None:
        """Carry out what was decided about a task nobody knew the end of; its failure is an event of its own."""
        task = self.tasks[event.task_id]
        task.note = f"decided by {event.by}: {event.decision}" + (
            f" ({event.reason})" if event.reason else ""
        )
        task.is_open = False
        match event.decision:
            case "done":
                task.output = event.output
                self._settle(task, TaskStatus.COMPLETED, now, event.verdicts)
            case "retry":
                self._make_ready(task)
            case "failed":
                self.touched[event.task_id] = None
            case _:
                assert_never(event.decision)

    def _reopen(self, event: RetryRequested, now: int) -> None:
        """Make tasks pending again, in a new generation, and undecide the edges among them and to what still waits.

        An edge from one of them to a task that ran is not touched: what was decided once, and acted upon, stands, until
        that task is retried itself.
        """
        again = set(event.task_ids)
        anew = [task_id for task_id in event.task_ids if not self.tasks[task_id].is_open]
        undone = [
            edge
            for task_id in event.task_ids
            for edge in self.tasks[task_id].outgoing
            if edge.delivers is not None
            and (
                (edge.target in again and not self.tasks[edge.target].is_open)
                or self.tasks[edge.target].never_ran
                or self.tasks[edge.target].status in _WAITING
            )
        ]
        undone += [
            edge
            for task_id in anew
            for edge in self.tasks[task_id].incoming
            if edge.delivers is not None
            and edge.source not in again
            and self.tasks[edge.source].status not in _OVER  # retried before, while this one ran
        ]
        for task_id in event.task_ids:
            task = self.tasks[task_id]
            self.unsettled += 1
            task.finished_at_us = None
            if task.is_open:  # cancelled while it ran, or waited for a decision: that is still to be decided
                task.note = _STILL_OPEN
                self._move(task, TaskStatus.UNKNOWN)
                continue
            self._move(task, TaskStatus.PENDING)
            if task.attempt:
                task.generation += 1
            task.failures = 0
            task.is_unclear = False
            task.note = None
            task.paused_by.clear()
        for edge in undone:
            target = self.tasks[edge.target]
            target.dead -= not edge.delivers and not edge.edge.is_optional
            target.undecided += 1
            edge.delivers = None
        for task_id in anew:
            task = self.tasks[task_id]
            if task.dead:
                dead = next(
                    edge for edge in task.incoming if edge.delivers is False and not edge.edge.is_optional
                )
                self.newly_dead.append((task_id, dead.source, None))
            elif task.undecided == 0:
                self._make_ready(task)
        if self.status.is_terminal:
            self.finished_at_us = None
            self.reason = ""
            self.is_out_of_time = False
            self._set_deadline(now)
            self._move_self(OrchestrationStatus.RUNNING)

    def _add_edge(self, edge: TaskEdge) -> EdgeState:
        """Join two tasks by an undecided edge."""
        state = EdgeState(edge, edge.source_task_id, edge.target_task_id)
        self.tasks[edge.source_task_id].outgoing.append(state)
        target = self.tasks[edge.target_task_id]
        target.incoming.append(state)
        target.undecided += 1
        return state

    def _start(self, event: AttemptStarted, now: int) -> None:
        """Begin an attempt."""
        task = self.tasks[event.task_id]
        self._move(task, TaskStatus.RUNNING)
        task.attempt = event.attempt
        task.system = event.system
        task.started_at_us = now
        task.due_at_us = None
        task.stopping = None
        task.is_open = False
        self.running[event.task_id] = None
        self.attempts += 1
        if self.first_started_at_us is None:
            self.first_started_at_us = now

    def _end_attempt(self, task: TaskState, now: int) -> None:
        """Book the time of an attempt that ended, whatever its outcome."""
        self.running.pop(task.node.task_id, None)
        spent = max(0, now - (task.started_at_us or now))
        task.duration_us += spent
        self.work_us += spent
        task.stopping = None

    def _make_ready(self, task: TaskState) -> None:
        task.due_at_us = None
        self._move(task, TaskStatus.READY)
        self.newly_ready.append(task.node.task_id)

    def _settle(
        self, task: TaskState, status: TaskStatus, now: int, verdicts: tuple[EdgeVerdict, ...] = ()
    ) -> None:
        """Give a task its outcome and decide its outgoing edges."""
        self._move(task, status)
        task.finished_at_us = now
        self.last_settled_at_us = now
        self.unsettled -= 1
        if not task.outgoing:
            return
        completed = status is TaskStatus.COMPLETED
        told = {verdict.target_task_id: verdict for verdict in verdicts} if verdicts else None
        for edge in task.outgoing:
            if edge.delivers is not None:
                continue  # decided before a retry, and its target stayed as it was
            verdict = told.get(edge.target) if told else None
            edge.delivers = completed if verdict is None else verdict.delivers
            if verdict is not None and verdict.warning:
                self.warnings.append(verdict.warning)
            target = self.tasks[edge.target]
            target.undecided -= 1
            if not edge.delivers and not edge.edge.is_optional:
                target.dead += 1
                if target.status not in _OVER:
                    error = verdict.error if verdict is not None else None
                    self.newly_dead.append((edge.target, task.node.task_id, error))
            elif target.undecided == 0 and target.dead == 0 and target.status in _WAITING:
                if target.status is TaskStatus.PAUSED:  # what stood between it and the replanned task failed
                    target.paused_by.clear()
                    self._move(target, TaskStatus.PENDING)
                self._make_ready(target)

    def _cancel(self, event: TasksCancelled, now: int) -> None:
        """Settle tasks as cancelled. Their edges stay undecided: nothing runs after them any more."""
        for task_id in event.task_ids:
            task = self.tasks[task_id]
            if task.status is TaskStatus.RUNNING:
                self._end_attempt(task, now)
                task.is_open = not task.node.idempotent
            task.note = event.note or None
            task.due_at_us = None
            self._move(task, TaskStatus.CANCELLED)
            task.finished_at_us = now
            self.last_settled_at_us = now
            self.unsettled -= 1

    def _release_paused(self, task: TaskState) -> None:
        """Let go of the tasks that waited for a replanning of `task` to end."""
        if task.status is not TaskStatus.REPLANNING:
            return
        for other in self.tasks.values():
            if task.node.task_id in other.paused_by:
                other.paused_by.discard(task.node.task_id)
                if not other.paused_by and other.status is TaskStatus.PAUSED:
                    self._move(other, TaskStatus.PENDING)

    def _splice(self, event: PlanRevised) -> None:
        """Put an alternative sub-DAG in the place of a task."""
        old = self.tasks[event.task_id]
        self._release_paused(old)
        self._move(old, TaskStatus.SUPERSEDED)
        self.unsettled -= 1
        decided = {edge.source: edge.delivers for edge in old.incoming}
        tried = old.tried | {fingerprint([old.node]), fingerprint(event.tasks)}
        for node in event.tasks:
            task = TaskState(node, len(self.tasks), event.routes.get(node.task_id, ""))
            task.replans = old.replans + 1
            task.tried = tried
            self.tasks[node.task_id] = task
            self.touched[node.task_id] = None
            self.counts[TaskStatus.PENDING] = self.counts.get(TaskStatus.PENDING, 0) + 1
            self.unsettled += 1
        new_ids = {node.task_id for node in event.tasks}
        for edge in event.edges:
            state = self._add_edge(edge)
            if (
                edge.source_task_id not in new_ids
            ):  # inherited: its upstream settled before the failed task ran
                state.delivers = decided.get(edge.source_task_id, False)
                self.tasks[edge.target_task_id].undecided -= 1
        successor = self.tasks[event.delivers]
        for edge_state in old.outgoing:
            edge_state.source = event.delivers
            successor.outgoing.append(edge_state)
        old.outgoing = []
        self.replacement[event.task_id] = event.delivers
        self.revision = event.revision
        for node in event.tasks:
            task = self.tasks[node.task_id]
            if task.undecided == 0:
                self._make_ready(task)

    def _move(self, task: TaskState, status: TaskStatus) -> None:
        """Change a task's status by the table."""
        before = task.status
        if status not in TASK_TRANSITIONS[before]:
            story = [
                entry
                for entry in self._story
                if getattr(entry.event, "task_id", None) in (None, task.node.task_id)
            ]
            raise InvalidTransitionError(f"Task {task.node.task_id!r}", before, status, story)
        task.status = status
        self.touched[task.node.task_id] = None
        counts = self.counts
        counts[before] -= 1
        counts[status] = counts.get(status, 0) + 1

    def _move_self(self, status: OrchestrationStatus) -> None:
        """Change the orchestration's status by the table."""
        if status not in ORCHESTRATION_TRANSITIONS[self.status]:
            raise InvalidTransitionError(
                f"Orchestration {self.orchestration_id!r}", self.status, status, tuple(self._story)
            )
        self.status = status


def replay(orchestration_id: OrchestrationId, dag: TaskDAG, events: Iterable[Recorded]) -> State:
    """Return the state that the events of a journal add up to.

    Raises:
        HistoryMismatchError: The journal has a gap.
        InvalidTransitionError: The journal makes an illegal move.
    """
    state = State(orchestration_id, dag)
    for recorded in events:
        state.evolve(recorded)
    state.newly_ready.clear()
    state.newly_dead.clear()
    state.touched.clear()
    return state
