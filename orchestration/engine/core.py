"""The machinery under the engine's decisions: the states, making events facts, starting what is ready, deadlines.

May import: orchestration.{errors, models}, orchestration.engine.*, stdlib.

Decisions stand in `outcomes.py` (what the end of an attempt means) and `control.py` (what people and other drivers
ask for); `engine.py` is the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from orchestration.engine.deadlines import Deadline, DeadlineKind, Deadlines
from orchestration.engine.edges import verdicts
from orchestration.engine.effects import (
    AnnounceFinished,
    AskVerification,
    CheckAcceptance,
    ContinuePlan,
    DescribeApproval,
    DescribeOffer,
    Effect,
    FindItems,
    GatherOutputs,
    LookUpResult,
    Question,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.events import (
    AttemptStarted,
    Event,
    OrchestrationFinished,
    Recorded,
    StopReason,
    StopRequested,
    TaskExpanded,
    TaskFailed,
    TaskSkipped,
)
from orchestration.engine.policy import children_error, may_start_early, outcome_of
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State
from orchestration.engine.state_base import LONGEST_WAIT_SECONDS
from orchestration.engine.task_state import TaskState
from orchestration.errors import NotPossibleError, OrchestrationNotFoundError, TaskNotFoundError
from orchestration.models import (
    AGENT,
    SETTLED,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)

_LISTED = 20
"""Tasks an error lists."""

_WANTED: Mapping[DeadlineKind, frozenset[TaskStatus]] = {
    "timeout": frozenset({TaskStatus.RUNNING, TaskStatus.CLAIMED}),
    "silence": frozenset({TaskStatus.RUNNING}),
    "grace": frozenset({TaskStatus.RUNNING}),
    "retry": frozenset({TaskStatus.RETRYING}),
    "claim": frozenset({TaskStatus.CLAIMED}),
}
"""Statuses of tasks for which a deadline still means something."""

GOES_ON = frozenset({OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING})
"""Statuses in which tasks start."""


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


class EngineCore:
    """What every decision is made with.

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
        """Tasks about which something was asked (an alternative, a verification, the cache) that is not answered yet;
        only ever asked about one."""
        self._beats: dict[tuple[OrchestrationId, TaskId], int] = {}
        """Latest sign of life of running attempts that must give some; no part of the journal."""
        self._now_us = 0
        self._wakes_us: int | None = None
        """When a system takes something again that is closed for a time and has ready tasks."""
        self._deadlines = Deadlines(self._is_live)
        self._decision = Decision()

    # Who is here

    def adopt(self, state: State) -> None:
        """Take a replayed or new state in.

        Nothing of it starts before a `TakeOver`: what its journal calls running ran elsewhere, holds no slot here and
        reports to nobody. Requests (pause, resume, cancel, retry, decide) are taken before.

        Raises:
            NotPossibleError: The engine holds the orchestration already.
        """
        if state.orchestration_id in self.states:
            raise driven_already(state.orchestration_id)
        self.states[state.orchestration_id] = state
        self._dormant.add(state.orchestration_id)
        state.newly_ready.clear()
        state.newly_dead.clear()
        state.newly_closed.clear()
        state.held.clear()

    def drop(self, orchestration_id: OrchestrationId) -> None:
        """Forget an orchestration: it has ended, or somebody else drives it now."""
        state = self.states.pop(orchestration_id, None)
        self.scheduler.remove(orchestration_id)
        self._asked = {key for key in self._asked if key[0] != orchestration_id}
        self._beats = {key: at_us for key, at_us in self._beats.items() if key[0] != orchestration_id}
        if orchestration_id in self._dormant:
            self._dormant.discard(orchestration_id)
        elif state is not None:
            for task_id in state.running:
                self.scheduler.ended(state.tasks[task_id])

    def next_deadline_us(self) -> int | None:
        """Return the instant at which `DeadlineReached` is due, in microseconds since the epoch; None for never."""
        due_us = self._deadlines.next_us()
        if self._wakes_us is None:
            return due_us
        return self._wakes_us if due_us is None else min(due_us, self._wakes_us)

    def _state(self, orchestration_id: OrchestrationId) -> State:
        state = self.states.get(orchestration_id)
        if state is None:
            raise OrchestrationNotFoundError(orchestration_id)
        return state

    def _driven_task(
        self, orchestration_id: OrchestrationId, task_id: TaskId
    ) -> tuple[State, TaskState] | None:
        """Return a task of an orchestration that is driven here; None for an answer nobody waits for any more."""
        state = self.states.get(orchestration_id)
        task = state.tasks.get(task_id) if state is not None else None
        if state is None or task is None or orchestration_id in self._dormant:
            return None
        return state, task

    def _running(
        self, orchestration_id: OrchestrationId, task_id: TaskId, attempt: int
    ) -> tuple[State, TaskState] | None:
        """Return the task whose running attempt is reported; None for a report nobody waits for any more."""
        found = self._driven_task(orchestration_id, task_id)
        if found is None or found[1].status is not TaskStatus.RUNNING or found[1].attempt != attempt:
            return None
        return found

    # Making facts

    def _record(self, state: State, event: Event) -> None:
        """Make an event a fact, and settle what it made impossible."""
        self._apply(state, event)
        self._follow(state)

    def _follow(self, state: State) -> None:
        """Settle what has become impossible, and what has nothing left to wait for."""
        while state.newly_dead or state.newly_closed:
            if state.newly_dead:
                self._settle_dead(state)
            else:
                self._close(state, state.tasks[state.newly_closed.popleft()])

    def _apply(self, state: State, event: Event) -> None:
        at_us = max(
            self._now_us, state.last_at_us
        )  # clocks are set back, and differ; a journal's time never runs back
        recorded = Recorded(
            orchestration_id=state.orchestration_id, seq=state.last_seq + 1, at_us=at_us, event=event
        )
        state.evolve(recorded)
        self._decision.events.append(recorded)
        if state.newly_ready:
            ready, state.newly_ready = state.newly_ready, []
            if state.orchestration_id not in self._dormant:  # else they are found when it is taken over
                for task_id in ready:
                    if (
                        state.tasks[task_id].status is TaskStatus.READY
                    ):  # the same event may have made it wait again
                        self._became_ready(state, state.tasks[task_id])

    def _settle_dead(self, state: State) -> None:
        """Skip or fail the next task that has a dead required edge; what depends on it follows, without recursion."""
        task_id, because, error = state.newly_dead.popleft()
        task = state.tasks[task_id]
        if task.status in SETTLED:
            return
        outcome = TaskStatus.SKIPPED if error is None else TaskStatus.FAILED
        decided = verdicts(task, outcome, None, state.context)
        self._apply(
            state,
            TaskSkipped(task_id=task_id, because=because, verdicts=decided)
            if error is None
            else TaskFailed(task_id=task_id, error=error, verdicts=decided),
        )

    def _became_ready(self, state: State, task: TaskState) -> None:
        """Queue a task, or do first what comes before that: its parts, an agreement, an equal task's output."""
        if not needs_more(state, task):
            state.held.discard(task.node.task_id)
            self.scheduler.ready(state, task.node.task_id)
            return
        state.held.add(task.node.task_id)
        if task.is_composite and task.node.foreach is None and may_go_on(state, task):
            self._apply(state, TaskExpanded(task_id=task.node.task_id))
        else:
            self._ask_first(state, task)

    def _close(self, state: State, task: TaskState) -> None:
        """Settle a composite whose children have settled: with their outputs, or over one that failed."""
        if task.status is not TaskStatus.EXPANDED or task.open_children:
            return
        error = children_error(state, task)
        if error is not None:
            decided = verdicts(task, TaskStatus.FAILED, None, state.context)
            self._apply(state, TaskFailed(task_id=task.node.task_id, error=error, verdicts=decided))
        else:
            self._gather(state, task)

    def _finish_if_settled(self, state: State) -> None:
        if state.unsettled or state.status.is_terminal or state.status is OrchestrationStatus.PLANNING:
            return
        outcome = outcome_of(state)
        self._record(state, OrchestrationFinished(outcome=outcome))
        self._decision.effects.append(
            AnnounceFinished(orchestration_id=state.orchestration_id, outcome=outcome)
        )

    # Asking the world; each question once, and none while nothing may begin

    def _ask_again(self, state: State) -> None:
        """Ask what was wanted while nothing could be asked."""
        if state.status is OrchestrationStatus.PLANNING and (state.orchestration_id, "") not in self._asked:
            self._ask(state, ContinuePlan(orchestration_id=state.orchestration_id))
        for task in list(state.tasks.values()):
            if (state.orchestration_id, task.node.task_id) in self._asked:
                continue
            match task.status:
                case TaskStatus.REPLANNING:
                    self._ask_alternative(state, task)
                case TaskStatus.UNKNOWN:
                    self._ask_verification(state, task)
                case TaskStatus.READY if task.node.task_id in state.held:
                    self._became_ready(state, task)
                case TaskStatus.EXPANDED if task.open_children == 0:
                    self._gather(state, task)
                case TaskStatus.CLAIMED if task.reported is not None:
                    self._ask_acceptance(state, task)
                case _:
                    pass
        self._follow(state)

    def _ask(self, state: State, effect: Question) -> None:
        may_ask = state.status in GOES_ON or (  # what only tells the end of what is done waits for nobody
            isinstance(effect, GatherOutputs) and state.status is OrchestrationStatus.PAUSED
        )
        if may_ask and state.orchestration_id not in self._dormant:
            self._asked.add((effect.orchestration_id, effect.task_id))
            self._decision.effects.append(effect)

    def _ask_first(self, state: State, task: TaskState) -> None:
        """Ask what must be known before a task can start."""
        if not may_go_on(state, task):
            return  # the rest of the plan comes first
        key = {
            "orchestration_id": state.orchestration_id,
            "task_id": task.node.task_id,
        }
        if task.node.foreach is not None:
            self._ask(state, FindItems(**key, generation=task.generation))
        elif task.node.approval is not None and task.approved_digest is None:
            self._ask(state, DescribeApproval(**key, generation=task.generation))
        elif task.system == AGENT:
            number = task.offers + 1
            self._ask(state, DescribeOffer(**key, generation=task.generation, number=number))
        else:
            self._ask(state, LookUpResult(**key, generation=task.generation))

    def _gather(self, state: State, task: TaskState) -> None:
        self._ask(
            state,
            GatherOutputs(
                orchestration_id=state.orchestration_id,
                task_id=task.node.task_id,
                generation=task.generation,
            ),
        )

    def _ask_acceptance(self, state: State, task: TaskState) -> None:
        assert task.reported is not None, "only what was reported done is looked at"
        self._ask(
            state,
            CheckAcceptance(
                orchestration_id=state.orchestration_id,
                task_id=task.node.task_id,
                attempt=task.attempt,
                output=task.reported,
            ),
        )

    def _ask_alternative(self, state: State, task: TaskState) -> None:
        if task.is_asked:
            return  # somebody else is
        assert task.error is not None, "only a failed attempt leads to replanning"
        self._ask(
            state,
            RequestAlternative(
                orchestration_id=state.orchestration_id, task_id=task.node.task_id, error=task.error
            ),
        )

    def _ask_verification(self, state: State, task: TaskState) -> None:
        if task.node.verify is not None and not task.is_unclear:
            self._ask(
                state,
                AskVerification(
                    orchestration_id=state.orchestration_id, task_id=task.node.task_id, attempt=task.attempt
                ),
            )

    def _answered(self, orchestration_id: OrchestrationId, task_id: TaskId) -> None:
        """Note that a question was answered; it may be asked again."""
        self._asked.discard((orchestration_id, task_id))

    def _take_back_questions(self, orchestration_id: OrchestrationId, task_ids: Collection[TaskId]) -> None:
        """Forget what was asked about tasks, and don't ask what this very decision was about to."""
        names = set(task_ids)
        for task_id in task_ids:
            self._answered(orchestration_id, task_id)
        self._decision.effects[:] = [
            effect
            for effect in self._decision.effects
            if not (
                isinstance(effect, Question)
                and effect.orchestration_id == orchestration_id
                and effect.task_id in names
            )
        ]

    # Starting and stopping

    def _dispatch(self) -> None:
        """Start the most urgent ready tasks while slots are free."""
        while (chosen := self.scheduler.next(self._now_us)) is not None:
            state, task = chosen
            if task.system == AGENT:  # its turn has come in strict order; an offer holds no slot
                state.held.add(task.node.task_id)
                self._ask_first(state, task)
                continue
            self.scheduler.started(task, self._now_us)
            attempt = task.attempt + 1
            task_id = task.node.task_id
            self._record(state, AttemptStarted(task_id=task_id, attempt=attempt, system=task.system))
            limit = timeout_of(state, task)
            if limit is not None:
                self._add_deadline(self._after(limit), "timeout", state, task)
            silence = task.node.heartbeat_timeout_seconds
            if silence is not None:
                self._beats[state.orchestration_id, task_id] = self._now_us
                self._add_deadline(self._after(silence), "silence", state, task)
            self._decision.effects.append(
                StartAttempt(
                    orchestration_id=state.orchestration_id,
                    task_id=task_id,
                    attempt=attempt,
                    system=task.system,
                )
            )
        self._wakes_us = self.scheduler.wakes_us(self._now_us)

    def _stop(self, state: State, task: TaskState, because: StopReason) -> None:
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
        self._add_deadline(self._after(self.options.cancel_grace_seconds), "grace", state, task)

    def _free_slot(self, task: TaskState) -> None:
        """Take back the slot of an attempt that ends; a worker's holds none."""
        if task.status is TaskStatus.RUNNING:
            self.scheduler.ended(task)

    # Time

    def _after(self, seconds: float) -> int:
        """Return the instant so many seconds from now."""
        return self._now_us + round(min(seconds, LONGEST_WAIT_SECONDS) * 1_000_000)

    def _add_deadline(self, at_us: int, kind: DeadlineKind, state: State, task: TaskState) -> None:
        self._deadlines.add(at_us, kind, state.orchestration_id, task.node.task_id, task.attempt)

    def _is_live(self, deadline: Deadline) -> bool:
        """Whether a deadline still means something."""
        state = self.states.get(deadline.orchestration_id)
        if state is None:
            return False
        if deadline.kind == "orchestration":
            may_end = state.status in GOES_ON or state.status is OrchestrationStatus.PAUSED
            return may_end and state.deadline_us == deadline.at_us
        task = state.tasks.get(deadline.task_id)
        if task is None:  # of an alternative plan that could not be stored
            return False
        return task.status in _WANTED[deadline.kind] and task.attempt == deadline.attempt


def task_of(state: State, task_id: TaskId) -> TaskState:
    """Return a task.

    Raises:
        TaskNotFoundError: There is no such task.
    """
    task = state.tasks.get(task_id)
    if task is None:
        raise TaskNotFoundError(state.orchestration_id, task_id, list(state.tasks)[:_LISTED])
    return task


def may_go_on(state: State, task: TaskState) -> bool:
    """Whether a ready task need not wait for the rest of the plan."""
    return state.status is not OrchestrationStatus.PLANNING or may_start_early(task.node)


def needs_more(state: State, task: TaskState) -> bool:
    """Whether something else than a slot keeps a ready task from starting.

    What is offered to agents waits for no slot, only for its turn where there is a strict order.
    """
    if task.is_composite or (task.node.cache is not None and task.system != AGENT):
        return True
    if task.system == AGENT and state.mode is not OrchestrationMode.SIMPLE:
        return True
    return not may_go_on(state, task) or (task.node.approval is not None and task.approved_digest is None)


def timeout_of(state: State, task: TaskState) -> float | None:
    """Return the time limit of one attempt; None for none."""
    own = task.node.timeout_seconds
    return state.defaults.timeout_seconds if own is None else own


def driven_already(orchestration_id: OrchestrationId) -> NotPossibleError:
    """Return the refusal to take over what is driven here."""
    return NotPossibleError(f"Orchestration {orchestration_id!r}", "driven here already", "taken over")
