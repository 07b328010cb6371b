"""What an orchestration is at one instant: the fold of its events over its DAG. Only `evolve` changes it.

May import: orchestration.{dag, errors, fallbacks, models}, orchestration.engine.{events, state_graph, task_state},
stdlib.

`evolve` neither evaluates conditions nor draws nor measures: events say what was decided. The fields and elementary
moves stand in `state_base.py`, changes of the graph in `state_graph.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from orchestration.dag import TaskDAG
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
    CancelRequested,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    FallbackStarted,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    OrchestrationSubmitted,
    PlanCompleted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
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
from orchestration.engine.state_graph import GraphState
from orchestration.errors import HistoryMismatchError
from orchestration.fallbacks import fallback_nodes
from orchestration.models import OrchestrationId, OrchestrationStatus, TaskStatus

ASKS = "asks: how to go on? "
"""How the note of a task begins about which whoever submitted it is asked."""

ASKS_FOR_APPROVAL = "asks for approval: "
"""How the note of a task begins that waits for somebody's yes."""

CLAIMED_BY = "claimed by "
"""How the note of a task begins that a worker has; the worker's name follows."""

REPORTED = ", who reported it done; being checked"
"""How that note ends while what was reported is looked at."""

_SHOWN_NOTE = 300
"""Characters of a task's note."""


class State(GraphState):
    """One orchestration."""

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
                if task.worker is not None and task.worker not in task.failed_by:
                    task.failed_by = (*task.failed_by, task.worker)
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
                self._forget_approval(task)
                self.held.discard(event.task_id)
                self._settle(task, TaskStatus.FAILED, now, event.verdicts)
            case TaskRerouted():
                task = self.tasks[event.task_id]
                task.note = (
                    f"goes on at {event.system}: {event.reason or f'{task.system} used up its attempts'}"
                )
                task.home = task.home or (task.system, task.others)
                task.system = event.system
                task.others = task.others[task.others.index(event.system) + 1 :]
                task.failures = 0
                self._forget_approval(task)
                self._forget_claim(task)
                self._make_ready(task)
            case FallbackStarted():
                self._fall_back(event)
            case TaskOffered():
                task = self.tasks[event.task_id]
                task.offers = event.number
                task.lease_seconds = event.lease_seconds
                self.held.discard(event.task_id)
                self._move(task, TaskStatus.OFFERED)
            case ClaimStarted():
                self._claim(event, now)
            case ClaimResumed():
                task = self.tasks[event.task_id]
                self._move(task, TaskStatus.CLAIMED)
                task.started_at_us = now
                task.due_at_us = None
                task.is_open = False
                task.note = f"{CLAIMED_BY}{task.worker}"
                self.held.discard(event.task_id)
            case ClaimReported():
                task = self.tasks[event.task_id]
                task.reported = event.output
                task.note = f"{CLAIMED_BY}{task.worker}{REPORTED}"
                self.touched[event.task_id] = None
            case ClaimReleased():
                self._release(event, now)
            case ApprovalRequested():
                task = self.tasks[event.task_id]
                task.asked_digest = event.digest
                task.note = f"{ASKS_FOR_APPROVAL}{event.shown}"[:_SHOWN_NOTE]
                self.held.discard(event.task_id)
                self._move(task, TaskStatus.AWAITING_APPROVAL)
            case ApprovalGiven():
                task = self.tasks[event.task_id]
                task.approved_digest = event.digest
                task.asked_digest = None
                why = f" ({event.reason})" if event.reason else ""
                task.note = f"approved by {event.by}{why}"[:_SHOWN_NOTE]
                self._make_ready(task)
            case ApprovalVoided():
                task = self.tasks[event.task_id]
                self._end_attempt(task, now)
                self._forget_approval(task)
                task.note = "what was agreed to has changed"
                self._make_ready(task)
            case CallerAsked():
                task = self.tasks[event.task_id]
                task.is_asked = True
                task.note = f"{ASKS}{event.reason}"[:_SHOWN_NOTE]
                self.touched[event.task_id] = None
            case TaskExpanded():
                self._expand(event)
            case ChildrenGathered():
                task = self.tasks[event.task_id]
                task.output = event.output
                self._settle(task, TaskStatus.COMPLETED, now, event.verdicts)
            case TaskSkipped():
                task = self.tasks[event.task_id]
                task.note = (
                    f"skipped: nothing came from {event.because}"
                    if event.because
                    else f"skipped: {event.reason}"[:_SHOWN_NOTE]
                )
                self._forget_approval(task)
                self.held.discard(event.task_id)
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
            case PlanEdited():
                self._edit(event)
            case PlanExtended():
                self._extend(event)
            case PlanCompleted():
                self.is_whole = True
                self._move_self(OrchestrationStatus.RUNNING)
            case OrchestrationPaused():
                self.reason = event.reason
                self._move_self(OrchestrationStatus.PAUSED)
            case OrchestrationResumed():
                self.reason = ""
                self._move_self(OrchestrationStatus.RUNNING)
            case CancelRequested():
                self.reason = event.reason
                self.ended_by = event.because
                self._move_self(OrchestrationStatus.CANCELLING)
            case OrchestrationFinished():
                self.finished_at_us = now
                self._move_self(event.outcome)
            case OrchestrationSubmitted():
                self._begin(event, now)
            case _:
                assert_never(event)

    def _decide(self, event: TaskDecided, now: int) -> None:
        """Carry out what was decided about a task nobody knew the end of; its failure is an event of its own."""
        task = self.tasks[event.task_id]
        task.note = f"decided by {event.by}: {event.decision}" + (
            f" ({event.reason})" if event.reason else ""
        )
        task.is_open = False
        if event.decision != "failed":  # its failure is an event of its own
            self._release_paused(task)
        if task.status is TaskStatus.REPLANNING and event.decision == "retry":
            task.generation += 1
            task.failures = 0
        task.is_asked = False
        match event.decision:
            case "done":
                task.output = event.output
                self._settle(task, TaskStatus.COMPLETED, now, event.verdicts)
            case "retry" if self._waits_for_parent(task):
                self._move(task, TaskStatus.PENDING)
            case "retry":
                self._make_ready(task)
            case "failed":
                self.touched[event.task_id] = None
            case _:
                assert_never(event.decision)

    def _fall_back(self, event: FallbackStarted) -> None:
        """Let a task's fallback take over: other work, under a key of its own."""
        task = self.tasks[event.task_id]
        task.primary = task.primary or task.node
        task.home = task.home or (task.system, task.others)
        task.node = fallback_nodes(task.node)[0]
        task.system = task.fallback_systems[task.fallbacks] if task.fallback_systems else task.system
        task.fallbacks += 1
        task.others = ()
        task.failures = 0
        task.generation += 1
        task.note = f"fallback {task.fallbacks} goes on at {task.system}"
        self._forget_approval(task)
        self._forget_claim(task)
        self._start_as_another(task)

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

    def _claim(self, event: ClaimStarted, now: int) -> None:
        """Begin an attempt of a worker; it holds no slot."""
        task = self.tasks[event.task_id]
        self._move(task, TaskStatus.CLAIMED)
        task.attempt = event.attempt
        task.claim, task.worker = event.claim, event.worker
        task.claimed = (event.attempt, event.claim)
        task.reported = None
        task.started_at_us = now
        task.is_open = False
        task.note = f"{CLAIMED_BY}{event.worker}"
        self.attempts += 1
        if self.first_started_at_us is None:
            self.first_started_at_us = now

    def _release(self, event: ClaimReleased, now: int) -> None:
        """Offer a task again that its worker gave back; what it had not begun was no attempt."""
        task = self.tasks[event.task_id]
        self._end_attempt(task, now)
        task.note = f"given back by {task.worker}" + (f": {event.reason}" if event.reason else "")
        task.note = task.note[:_SHOWN_NOTE]
        task.claim = task.worker = None
        if event.has_begun:
            task.failures += 1
        else:
            task.attempt -= 1
            task.claimed = None
            self.attempts -= 1
        self._move(task, TaskStatus.OFFERED)

    def _cancel(self, event: TasksCancelled, now: int) -> None:
        """Settle tasks as cancelled. Their edges stay undecided: nothing runs after them any more."""
        for task_id in event.task_ids:
            task = self.tasks[task_id]
            if task.status in {TaskStatus.RUNNING, TaskStatus.CLAIMED}:
                self._end_attempt(task, now)
                task.is_open = not task.node.idempotent
            task.note = event.note or None
            task.due_at_us = None
            task.is_asked = False
            self._forget_approval(task)
            self.held.discard(task_id)
            self._move(task, TaskStatus.CANCELLED)
            task.finished_at_us = now
            self.last_settled_at_us = now
            self.unsettled -= 1
            if task.node.parent is not None:
                self._child_settled(task.node.parent)


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
    state.newly_closed.clear()
    state.touched.clear()
    return state
