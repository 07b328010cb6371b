"""The engine: `handle(input, now) → Decision(events, effects)`. Every decision of an orchestration is made here.

May import: orchestration.{errors, models, options}, orchestration.engine.*, stdlib.
Invariant: replaying the events it gave rebuilds exactly the states it holds.

An engine holds any number of orchestrations because they share its slots. It changes a state only through
`State.evolve`, with the very events it hands out; time and drawn values come in with the inputs.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, assert_never

from orchestration.engine.edges import verdicts
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    Effect,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanRevised,
    Recorded,
    ReplanRequested,
    RetryDue,
    RetryScheduled,
    StopRequested,
    TaskFailed,
    TasksCancelled,
    TaskSkipped,
)
from orchestration.engine.inputs import (
    AlternativeFound,
    Cancel,
    DeadlineReached,
    Input,
    NoAlternative,
    Pause,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    SlotsFreed,
    TakeOver,
)
from orchestration.engine.invariants import check_state
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.splice import plan_revision
from orchestration.engine.state import State, TaskState
from orchestration.errors import NotPossibleError, OrchestrationNotFoundError
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    Json,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)

MAX_BACKOFF_SECONDS = 60.0
"""Longest wait before a retry, unless the system asks for more."""

FIRST_BACKOFF_SECONDS = 1.0
"""Longest wait before the first retry."""

LONGEST_WAIT_SECONDS = 365 * 24 * 3600.0
"""What any wait is cut to, whoever asked for it: an instant must stay a number that can be stored and slept to."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine's decisions go by."""

    cancel_grace_seconds: float = 10.0
    max_replans_per_task: int = 2
    max_replans: int = 5


@dataclass(slots=True)
class Decision:
    """What an input led to: facts to be stored, then requests to be carried out."""

    events: list[Recorded] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


_COMPACT_FROM = 1024
"""Deadlines kept before the dead ones among them are looked for; below that they are not worth it."""


class _Deadline(NamedTuple):
    """Ordered by time, then by when it was set; a tuple compares without calling back into Python."""

    at_us: int
    order: int
    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    kind: Literal["timeout", "grace", "retry"]


class Engine:
    """Decides for all orchestrations of one driver.

    Args:
        scheduler: Chooses what starts next; owns the slots.
        options: Limits and grace periods.
    """

    def __init__(
        self, scheduler: AdaptiveTaskScheduler | None = None, options: EngineOptions | None = None
    ) -> None:
        self.scheduler = scheduler or AdaptiveTaskScheduler(SlotPool(5))
        self.options = options or EngineOptions()
        self.states: dict[OrchestrationId, State] = {}
        self._dormant: set[OrchestrationId] = set()
        """Adopted, not yet taken over; only ever asked about one id."""
        self._asked: set[tuple[OrchestrationId, TaskId]] = set()
        """Tasks for which an alternative was asked for and not yet answered; only ever asked about one."""
        self._now_us = 0
        self._deadlines: list[_Deadline] = []
        self._deadline_count = 0
        self._compact_at = _COMPACT_FROM
        self._decision = Decision()

    # What callers see

    def adopt(self, state: State) -> None:
        """Take a replayed or new state in.

        Nothing of it starts before a `TakeOver`: what its journal calls running ran elsewhere, holds no slot here and
        reports to nobody. Requests (pause, resume, cancel) are taken before.

        Raises:
            NotPossibleError: The engine holds the orchestration already.
        """
        if state.orchestration_id in self.states:
            raise _driven_already(state.orchestration_id)
        self.states[state.orchestration_id] = state
        self._dormant.add(state.orchestration_id)
        self._now_us = max(self._now_us, state.last_at_us)
        state.newly_ready.clear()
        state.newly_dead.clear()

    def drop(self, orchestration_id: OrchestrationId) -> None:
        """Forget an orchestration: it has ended, or somebody else drives it now."""
        state = self.states.pop(orchestration_id, None)
        self.scheduler.remove(orchestration_id)
        self._asked = {key for key in self._asked if key[0] != orchestration_id}
        if orchestration_id in self._dormant:
            self._dormant.discard(orchestration_id)
        elif state is not None:
            self.scheduler.slots.used -= len(state.running)

    def next_deadline_us(self) -> int | None:
        """Return the instant at which `DeadlineReached` is due, in microseconds since the epoch; None for never."""
        while self._deadlines and not self._is_live(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0].at_us if self._deadlines else None

    def handle(self, item: Input, now_us: int) -> Decision:
        """Decide what an input leads to, and apply it.

        Args:
            item: The input.
            now_us: Wall time; a value before an earlier one counts as that one.

        Returns:
            Events in order, and effects that must wait until these are durable.

        Raises:
            OrchestrationNotFoundError: The engine does not hold the orchestration.
            NotPossibleError: The request does not fit its state. Nothing was changed.
        """
        self._now_us = max(self._now_us, now_us)
        decision = self._decision = Decision()
        match item:
            case ReportSuccess():
                self._succeeded(item)
            case ReportFailure():
                self._failed(item)
            case ReportCancelled():
                self._stopped(item)
            case DeadlineReached():
                self._deadline_reached()
            case SlotsFreed():
                pass
            case Pause():
                self._pause(self._state(item.orchestration_id))
            case Resume():
                self._resume(self._state(item.orchestration_id))
            case Cancel():
                self._cancel(self._state(item.orchestration_id), item.reason)
            case TakeOver():
                self._take_over(self._state(item.orchestration_id))
            case AlternativeFound() | NoAlternative():
                self._alternative(item)
            case _:
                assert_never(item)
        self._dispatch()
        return decision

    def check_invariants(self) -> None:
        """Raise AssertionError when something is not as it must always be; for tests."""
        for state in self.states.values():
            check_state(state)
        driven = (state for name, state in self.states.items() if name not in self._dormant)
        running = sum(len(state.running) for state in driven)
        assert running <= self.scheduler.slots.used, "a running attempt holds no slot"

    # Reports

    def _succeeded(self, report: ReportSuccess) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is None:
            return
        state, task = found
        decided = verdicts(task, TaskStatus.COMPLETED, report.value, state.context)
        self._free_slot()
        self._record(
            state,
            AttemptSucceeded(
                task_id=report.task_id,
                attempt=report.attempt,
                output=report.output,
                verdicts=decided,
                cost=report.cost,
            ),
        )
        self.scheduler.completed(state, task)
        self._finish_if_settled(state)

    def _failed(self, report: ReportFailure) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is not None:
            self._attempt_failed(*found, report.error, report.jitter)

    def _stopped(self, report: ReportCancelled) -> None:
        found = self._running(report.orchestration_id, report.task_id, report.attempt)
        if found is None:
            return
        state, task = found
        if task.stopping == "timeout":
            self._attempt_failed(state, task, self._timeout_error(state, task), report.jitter)
        elif task.stopping == "cancelled":
            self._free_slot()
            self._record(state, TasksCancelled(task_ids=(report.task_id,)))
            self._finish_if_settled(state)
        else:  # the system cancelled itself; nobody asked for it
            error = ErrorRecord(
                code="cancelled",
                message=f"The attempt was cancelled inside system {task.system!r}, not by the orchestrator.",
                retryable=True,
                attempt=task.attempt,
                system=task.system,
            )
            self._attempt_failed(state, task, error, report.jitter)

    def _attempt_failed(self, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        """Record a failed attempt and what follows from it: retry, alternative plan, or the task's failure."""
        task_id = task.node.task_id
        self._free_slot()
        self._record(state, AttemptFailed(task_id=task_id, attempt=task.attempt, error=error))
        retries = state.defaults.max_retries if task.node.max_retries is None else task.node.max_retries
        is_ending = state.status is OrchestrationStatus.CANCELLING
        if error.retryable and task.failures <= retries and not is_ending:
            self._schedule_retry(state, task, error, jitter)
        elif self._may_replan(state, task) and not is_ending:
            self._request_alternative(state, task, error)
        else:
            self._fail(state, task, error)
        self._finish_if_settled(state)

    def _schedule_retry(self, state: State, task: TaskState, error: ErrorRecord, jitter: float) -> None:
        factor = (
            state.defaults.backoff_factor if task.node.backoff_factor is None else task.node.backoff_factor
        )
        delay = backoff_seconds(factor, task.failures, jitter)
        delay = min(max(delay, error.retry_after_seconds or 0.0), LONGEST_WAIT_SECONDS)
        due_at_us = self._after(delay)
        self._record(
            state,
            RetryScheduled(
                task_id=task.node.task_id, attempt=task.attempt, delay_seconds=delay, due_at_us=due_at_us
            ),
        )
        self._add_deadline(due_at_us, state, task, "retry")

    def _fail(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        decided = verdicts(task, TaskStatus.FAILED, None, state.context)
        self._record(state, TaskFailed(task_id=task.node.task_id, error=error, verdicts=decided))

    # Alternatives

    def _may_replan(self, state: State, task: TaskState) -> bool:
        under_way = state.counts.get(TaskStatus.REPLANNING, 0)
        return (
            state.can_replan
            and state.mode is OrchestrationMode.ADAPTIVE
            and task.replans < self.options.max_replans_per_task
            and state.revision - 1 + under_way < self.options.max_replans
        )

    def _request_alternative(self, state: State, task: TaskState, error: ErrorRecord) -> None:
        paused = _required_descendants(state, task)
        self._record(state, ReplanRequested(task_id=task.node.task_id, error=error, paused=paused))
        if state.status is OrchestrationStatus.RUNNING:
            self._ask(state, task)

    def _ask(self, state: State, task: TaskState) -> None:
        assert task.error is not None, "only a failed attempt leads to replanning"
        self._asked.add((state.orchestration_id, task.node.task_id))
        self._decision.effects.append(
            RequestAlternative(
                orchestration_id=state.orchestration_id, task_id=task.node.task_id, error=task.error
            )
        )

    def _alternative(self, item: AlternativeFound | NoAlternative) -> None:
        state = self.states.get(item.orchestration_id)
        task = state.tasks.get(item.task_id) if state is not None else None
        if state is None or task is None or task.status is not TaskStatus.REPLANNING:
            return
        if item.orchestration_id in self._dormant:
            return  # whoever drives it asks anew
        self._asked.discard((item.orchestration_id, item.task_id))
        revision: PlanRevised | str = (
            item.reason if isinstance(item, NoAlternative) else plan_revision(state, task, item)
        )
        if isinstance(revision, PlanRevised):
            self._record(state, revision)
            self.scheduler.revised(state)
        else:
            assert task.error is not None, "only a failed attempt leads to replanning"
            state_error = ErrorRecord(
                code=task.error.code,
                message=f"{task.error.message} (no alternative plan: {revision})",
                retryable=task.error.retryable,
                attempt=task.error.attempt,
                system=task.error.system,
            )
            self._fail(state, task, state_error)
        self._finish_if_settled(state)

    # Time

    def _deadline_reached(self) -> None:
        while (due := self.next_deadline_us()) is not None and due <= self._now_us:
            deadline = heapq.heappop(self._deadlines)
            state = self.states[deadline.orchestration_id]
            task = state.tasks[deadline.task_id]
            match deadline.kind:
                case "retry":
                    self._record(state, RetryDue(task_id=deadline.task_id))
                case "timeout":
                    if task.stopping is None:
                        self._stop(state, task, "timeout")
                case "grace":
                    self._abandon(state, task)

    def _stop(self, state: State, task: TaskState, because: Literal["timeout", "cancelled"]) -> None:
        """Ask a running attempt to stop, and give it a while to do so."""
        task_id = task.node.task_id
        was_stopping = task.stopping is not None
        self._record(state, StopRequested(task_id=task_id, attempt=task.attempt, because=because))
        if was_stopping:
            return
        self._decision.effects.append(
            StopAttempt(
                orchestration_id=state.orchestration_id,
                task_id=task_id,
                attempt=task.attempt,
                because=because,
            )
        )
        self._add_deadline(self._after(self.options.cancel_grace_seconds), state, task, "grace")

    def _abandon(self, state: State, task: TaskState) -> None:
        """Give an attempt up that did not stop; its work may go on."""
        task_id = task.node.task_id
        self._decision.effects.append(
            AbandonAttempt(orchestration_id=state.orchestration_id, task_id=task_id, attempt=task.attempt)
        )
        note = f"work may continue at {task.system}"
        if task.stopping == "cancelled":
            self._free_slot()
            self._record(state, TasksCancelled(task_ids=(task_id,), note=note))
            self._finish_if_settled(state)
        else:
            self._attempt_failed(state, task, self._timeout_error(state, task, note), jitter=1.0)

    def _timeout_error(self, state: State, task: TaskState, note: str = "") -> ErrorRecord:
        limit = self._timeout_seconds(state, task)
        return ErrorRecord(
            code="timeout",
            message=f"Attempt {task.attempt} ran out of its {limit:g} s."
            + (f" It did not stop: {note}." if note else ""),
            retryable=True,
            attempt=task.attempt,
            system=task.system,
        )

    def _timeout_seconds(self, state: State, task: TaskState) -> float | None:
        own = task.node.timeout_seconds
        return state.defaults.timeout_seconds if own is None else own

    def _after(self, seconds: float) -> int:
        """Return the instant so many seconds from now."""
        return self._now_us + round(min(seconds, LONGEST_WAIT_SECONDS) * 1_000_000)

    def _add_deadline(
        self, at_us: int, state: State, task: TaskState, kind: Literal["timeout", "grace", "retry"]
    ) -> None:
        self._deadline_count += 1
        if len(self._deadlines) >= self._compact_at:
            self._compact()
        heapq.heappush(
            self._deadlines,
            _Deadline(
                at_us, self._deadline_count, state.orchestration_id, task.node.task_id, task.attempt, kind
            ),
        )

    def _compact(self) -> None:
        """Let go of dead deadlines: most attempts end long before their limit, which may be an hour away."""
        self._deadlines = [deadline for deadline in self._deadlines if self._is_live(deadline)]
        heapq.heapify(self._deadlines)
        self._compact_at = max(_COMPACT_FROM, 2 * len(self._deadlines))

    def _is_live(self, deadline: _Deadline) -> bool:
        """Whether a deadline still means something; dead ones are dropped when they come up."""
        state = self.states.get(deadline.orchestration_id)
        if state is None:
            return False
        task = state.tasks[deadline.task_id]
        wanted = TaskStatus.RETRYING if deadline.kind == "retry" else TaskStatus.RUNNING
        return task.status is wanted and task.attempt == deadline.attempt

    # Control

    def _pause(self, state: State) -> None:
        if state.status is not OrchestrationStatus.RUNNING:
            raise NotPossibleError(f"Orchestration {state.orchestration_id!r}", state.status, "paused")
        self._record(state, OrchestrationPaused())

    def _resume(self, state: State) -> None:
        if state.status is not OrchestrationStatus.PAUSED:
            raise NotPossibleError(f"Orchestration {state.orchestration_id!r}", state.status, "resumed")
        self._record(state, OrchestrationResumed())
        if state.orchestration_id not in self._dormant:
            self._ask_again(state)

    def _cancel(self, state: State, reason: str) -> None:
        if state.status not in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}:
            raise NotPossibleError(f"Orchestration {state.orchestration_id!r}", state.status, "cancelled")
        self._record(state, CancelRequested(reason=reason))
        waiting = tuple(
            task_id
            for task_id, task in state.tasks.items()
            if not task.is_settled and task.status not in {TaskStatus.RUNNING, TaskStatus.SUPERSEDED}
        )
        if waiting:
            self._record(state, TasksCancelled(task_ids=waiting))
        for task_id in list(state.running):
            self._stop(state, state.tasks[task_id], "cancelled")
        self._finish_if_settled(state)

    def _take_over(self, state: State) -> None:
        """Go on where the driver before stopped.

        One decision's events are committed together, so a journal never ends in the middle of one: there is nothing
        half done to mend.
        """
        if state.orchestration_id not in self._dormant:
            if state.status.is_terminal:
                raise NotPossibleError(
                    f"Orchestration {state.orchestration_id!r}", state.status, "taken over"
                )
            raise _driven_already(state.orchestration_id)
        self._dormant.discard(state.orchestration_id)
        self.scheduler.add(state)
        cancelled: list[TaskId] = []
        for task_id in list(state.running):
            if state.status is OrchestrationStatus.CANCELLING:
                cancelled.append(task_id)
            else:
                self._record(state, AttemptInterrupted(task_id=task_id, attempt=state.tasks[task_id].attempt))
        if cancelled:
            self._record(state, TasksCancelled(task_ids=tuple(cancelled)))
        for task in state.tasks.values():
            if task.status is TaskStatus.RETRYING and task.due_at_us is not None:
                self._add_deadline(task.due_at_us, state, task, "retry")
        self._ask_again(state)
        self._finish_if_settled(state)

    def _ask_again(self, state: State) -> None:
        """Ask for the alternatives that were wanted while nothing could be asked."""
        if state.status is OrchestrationStatus.RUNNING:
            for task in state.tasks.values():
                is_asked = (state.orchestration_id, task.node.task_id) in self._asked
                if task.status is TaskStatus.REPLANNING and not is_asked:
                    self._ask(state, task)

    # The machinery

    def _state(self, orchestration_id: OrchestrationId) -> State:
        state = self.states.get(orchestration_id)
        if state is None:
            raise OrchestrationNotFoundError(orchestration_id)
        return state

    def _running(
        self, orchestration_id: OrchestrationId, task_id: TaskId, attempt: int
    ) -> tuple[State, TaskState] | None:
        """Return the task whose running attempt is reported; None for a report nobody waits for any more."""
        state = self.states.get(orchestration_id)
        task = state.tasks.get(task_id) if state is not None else None
        if state is None or task is None or task.status is not TaskStatus.RUNNING or task.attempt != attempt:
            return None
        if orchestration_id in self._dormant:
            return None
        return state, task

    def _free_slot(self) -> None:
        self.scheduler.slots.used -= 1

    def _record(self, state: State, event: Event) -> None:
        """Make an event a fact, and settle what it made impossible."""
        recorded = Recorded(
            orchestration_id=state.orchestration_id, seq=state.last_seq + 1, at_us=self._now_us, event=event
        )
        state.evolve(recorded)
        self._decision.events.append(recorded)
        if state.newly_ready:
            for task_id in state.newly_ready:
                self.scheduler.ready(state, task_id)
            state.newly_ready.clear()
        if state.newly_dead:
            self._settle_dead(state)

    def _settle_dead(self, state: State) -> None:
        """Skip or fail every task that has a dead required edge, and what depends on it, without recursion."""
        while state.newly_dead:
            task_id, because, error = state.newly_dead.popleft()
            task = state.tasks[task_id]
            if task.status in SETTLED:
                continue
            outcome = TaskStatus.SKIPPED if error is None else TaskStatus.FAILED
            decided = verdicts(task, outcome, None, state.context)
            event: Event = (
                TaskSkipped(task_id=task_id, because=because, verdicts=decided)
                if error is None
                else TaskFailed(task_id=task_id, error=error, verdicts=decided)
            )
            recorded = Recorded(
                orchestration_id=state.orchestration_id,
                seq=state.last_seq + 1,
                at_us=self._now_us,
                event=event,
            )
            state.evolve(recorded)
            self._decision.events.append(recorded)
            for ready in state.newly_ready:
                self.scheduler.ready(state, ready)
            state.newly_ready.clear()

    def _finish_if_settled(self, state: State) -> None:
        if state.unsettled or state.status.is_terminal:
            return
        outcome = _outcome(state)
        self._record(state, OrchestrationFinished(outcome=outcome))
        self._decision.effects.append(
            AnnounceFinished(orchestration_id=state.orchestration_id, outcome=outcome)
        )

    def _dispatch(self) -> None:
        """Start the most urgent ready tasks while slots are free."""
        slots = self.scheduler.slots
        while (chosen := self.scheduler.next()) is not None:
            state, task = chosen
            slots.used += 1
            attempt = task.attempt + 1
            task_id = task.node.task_id
            self._record(state, AttemptStarted(task_id=task_id, attempt=attempt, system=task.system))
            limit = self._timeout_seconds(state, task)
            if limit is not None:
                self._add_deadline(self._after(limit), state, task, "timeout")
            self._decision.effects.append(
                StartAttempt(
                    orchestration_id=state.orchestration_id,
                    task_id=task_id,
                    attempt=attempt,
                    system=task.system,
                )
            )


def _driven_already(orchestration_id: OrchestrationId) -> NotPossibleError:
    return NotPossibleError(f"Orchestration {orchestration_id!r}", "driven here already", "taken over")


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


def _required_descendants(state: State, task: TaskState) -> tuple[TaskId, ...]:
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


def _outcome(
    state: State,
) -> Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED]:
    """Return how an orchestration whose tasks are all settled has ended."""
    if state.counts.get(TaskStatus.CANCELLED):
        return OrchestrationStatus.CANCELLED
    if state.counts.get(TaskStatus.FAILED) and any(
        task.status is TaskStatus.FAILED and not state.is_tolerated(task) for task in state.tasks.values()
    ):
        return OrchestrationStatus.FAILED
    return OrchestrationStatus.COMPLETED


def error_value(error: ErrorRecord) -> Json:
    """Return an error as the JSON object shown in results and status."""
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "attempt": error.attempt,
        "system": error.system,
    }
