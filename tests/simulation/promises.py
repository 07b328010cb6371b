"""What must hold of a journal, whatever happened: a model of its own, fed with every committed event.

It knows less than the engine's state and shares no code with it: for each task whether it runs, is over, is open, and
how often it may run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
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
from orchestration.engine.inputs import OutputRef
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskId, TaskNode, TaskStatus
from tests.simulation.graphs import ID
from tests.simulation.store import Store

COMPLETED, FAILED, CANCELLED, SKIPPED = "completed", "failed", "cancelled", "skipped"
SUPERSEDED = "superseded"
_BEGUN = frozenset(
    {TaskStatus.READY, TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.UNKNOWN, TaskStatus.REPLANNING}
)


@dataclass(slots=True)
class Task:
    """What is known of a task."""

    node: TaskNode
    attempt: int = 0
    generation: int = 1
    is_running: bool = False
    is_open: bool = False
    """It must not be repeated, an attempt was left open or cancelled, and nobody has decided."""
    outcome: str = ""
    output: OutputRef | None = None
    decided_retries: int = 0
    """How often a person said that it should run again."""
    verified_retries: int = 0
    """How often its `verify` said that nothing had happened."""
    reopened: int = 0
    went_on_without: set[TaskId] = field(default_factory=set)
    """Upstreams that were retried when this task was ready or had begun: what they had come to stands for it."""

    @property
    def key(self) -> str:
        """The idempotency key of its attempts."""
        return f"{ID}:{self.node.task_id}:{self.generation}"


class Promises:
    """Checks every event against everything before it.

    Args:
        nodes: The tasks there are at first.
        has_happened: Whether an attempt had its effect outside.
    """

    def __init__(self, nodes: list[TaskNode], has_happened: Callable[[TaskId, int], bool]) -> None:
        self.tasks = {node.task_id: Task(node) for node in nodes}
        self.store: Store
        self.mode = OrchestrationMode.HIERARCHICAL
        self.status = OrchestrationStatus.RUNNING
        self.happened: Counter[str] = Counter()
        """Events by name; requests of people under the name of the request."""
        self._has_happened = has_happened
        self._last_us = 0
        self._last_seq = 0
        self._last_token = 0
        self._is_out_of_time = False
        self._cached_under: dict[str, object] = {}
        """Source of a cached output → what it was made of."""

    def record(self, entry: Recorded, token: int) -> None:  # noqa: C901  one flat case per event
        """Check one event that is being committed under a token."""
        assert entry.seq == self._last_seq + 1, "the journal has a gap"
        assert entry.at_us >= self._last_us, "time runs backwards in the journal"
        assert token >= self._last_token, "an older token wrote after a newer one"
        self._last_seq, self._last_us, self._last_token = entry.seq, entry.at_us, token
        self.happened[entry.event.type] += 1
        match entry.event:
            case OrchestrationSubmitted() as event:
                self.mode = event.mode
            case AttemptStarted() | AttemptSucceeded() | AttemptFailed() | AttemptInterrupted() as event:
                self._attempt(event)
            case AttemptLeftOpen() | VerificationUnclear() | TaskDecided() as event:
                self._question(event)
            case ResultReused() as event:
                self._reused(event)
            case RetryRequested() as event:
                self._reopened(event)
            case TaskFailed() | TaskSkipped() | TasksCancelled() | PlanRevised() as event:
                self._settled(event)
            case OrchestrationFinished() as event:
                self._finished(event)
            case CancelRequested() as event:
                self._is_out_of_time = event.because == "timeout"
                self.happened["cancelled by request"] += not self._is_out_of_time
                assert self.status in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}
                self.status = OrchestrationStatus.CANCELLING
            case OrchestrationPaused():
                assert self.status is OrchestrationStatus.RUNNING
                self.status = OrchestrationStatus.PAUSED
            case OrchestrationResumed():
                assert self.status is OrchestrationStatus.PAUSED
                self.status = OrchestrationStatus.RUNNING
            case StopRequested() | RetryScheduled() | ReplanRequested():
                assert not self.tasks[entry.event.task_id].outcome
            case RetryDue():
                assert not self.tasks[entry.event.task_id].is_running

    # Attempts

    def _attempt(self, event: AttemptStarted | AttemptSucceeded | AttemptFailed | AttemptInterrupted) -> None:
        task = self.tasks[event.task_id]
        name = f"{event.task_id}#{event.attempt}"
        assert not task.outcome, f"{name}: {event.type}, but the task was {task.outcome}"
        if isinstance(event, AttemptStarted):
            assert self.status is OrchestrationStatus.RUNNING, f"{name} started while {self.status}"
            assert not task.is_running, f"{name} started while another attempt of it runs"
            assert not task.is_open, f"{name} started although nobody has decided about the one before"
            assert event.attempt == task.attempt + 1, f"{name} is not the next attempt"
            self._check_upstream(event.task_id)
            if self.mode is OrchestrationMode.SIMPLE:
                assert not any(other.is_running for other in self.tasks.values()), "two at once in SIMPLE"
            task.attempt, task.is_running = event.attempt, True
            return
        assert task.is_running, f"{name} ended, but did not run"
        assert event.attempt == task.attempt, f"{name} ended, but attempt {task.attempt} runs"
        task.is_running = False
        if isinstance(event, AttemptSucceeded):
            assert self._has_happened(event.task_id, event.attempt), f"{name} completed without its effect"
            self._complete(task, event.output)
        elif isinstance(event, AttemptInterrupted):
            assert task.node.idempotent, f"{name} must not be repeated, but counts as interrupted"
        else:
            assert task.node.idempotent or not event.error.effect_open, f"{name} failed with an open effect"

    def _check_upstream(self, task_id: TaskId) -> None:
        """Everything before a task is over, and what completed is committed."""
        for edge in self.store.folded.tasks[task_id].incoming:
            source = self.tasks[edge.source]
            is_settled = source.outcome in {COMPLETED, FAILED, CANCELLED, SKIPPED}
            assert is_settled or edge.source in self.tasks[task_id].went_on_without, (
                f"{task_id} began before {edge.source} settled"
            )
            assert edge.delivers or edge.edge.is_optional, f"{task_id} began over a dead required edge"
            if edge.delivers and source.outcome == COMPLETED:
                assert self.store.outputs[edge.source].ref == source.output, "its output is not stored"

    def _complete(self, task: Task, output: OutputRef | None) -> None:
        task_id = task.node.task_id
        assert output is not None, f"{task_id} completed without an output"
        assert self.store.outputs[task_id].ref == output, f"the output of {task_id} is not stored"
        task.outcome, task.output = COMPLETED, output

    # Open questions

    def _question(self, event: AttemptLeftOpen | VerificationUnclear | TaskDecided) -> None:
        task = self.tasks[event.task_id]
        if isinstance(event, AttemptLeftOpen):
            assert task.is_running
            assert event.attempt == task.attempt
            assert not task.node.idempotent, f"{event.task_id} could simply run again"
            task.is_running, task.is_open = False, True
            return
        assert task.is_open, f"{event.task_id} was decided about, but is not open"
        assert not task.outcome, f"{event.task_id} was decided about, and {task.outcome} already"
        if isinstance(event, VerificationUnclear):
            return
        is_verified = event.by == "verify"
        assert not is_verified or task.node.verify is not None
        self.happened["decided by a person"] += not is_verified
        if event.decision == "retry":
            task.is_open = False
            if is_verified:
                task.verified_retries += 1
            else:
                task.decided_retries += 1
        elif event.decision == "done":
            task.is_open = False
            self._complete(task, event.output)
        else:  # its failure is the next event
            task.is_open = False

    # Results used again

    def _reused(self, event: ResultReused) -> None:
        task = self.tasks[event.task_id]
        assert not task.outcome
        assert not task.is_running
        assert not task.is_open
        self._check_upstream(event.task_id)
        if event.because == "cache":
            assert task.node.cache is not None
            assert task.node.idempotent, f"{event.task_id} must not take another one's effect for its own"
            assert self._cached_under[event.source] == self._made_of(task), (
                f"{event.task_id} took the output of {event.source}, which is not its equal"
            )
        self._complete(task, event.output)

    def cached(self, task_id: TaskId) -> None:
        """Note that a task's output went into the cache with the commit under way."""
        self._cached_under[f"{ID}:{task_id}"] = self._made_of(self.tasks[task_id])

    def _made_of(self, task: Task) -> object:
        """Return what an output depends on: the tool and the inputs, here."""
        inputs: dict[TaskId, object] = {}
        for edge in self.store.folded.tasks[task.node.task_id].incoming:
            if edge.delivers:
                is_there = self.tasks[edge.source].outcome == COMPLETED
                value = self.store.outputs[edge.source].json if is_there else None
                keys = edge.edge.data_requirements
                if keys:
                    value = {key: value.get(key) if isinstance(value, dict) else value for key in keys}
                inputs[edge.edge.source_task_id] = value
        return task.node.tool, inputs

    # Ends

    def _settled(self, event: TaskFailed | TaskSkipped | TasksCancelled | PlanRevised) -> None:
        if isinstance(event, TasksCancelled):
            for task_id in event.task_ids:
                self._settle(task_id, CANCELLED)
        elif isinstance(event, PlanRevised):
            self._settle(event.task_id, SUPERSEDED)
            assert not {node.task_id for node in event.tasks} & set(self.tasks)
            before = self.tasks[event.task_id].went_on_without
            self.tasks |= {node.task_id: Task(node, went_on_without=set(before)) for node in event.tasks}
        elif isinstance(event, TaskSkipped):
            assert self.tasks[event.because].outcome, "skipped for something that is not over"
            self._settle(event.task_id, SKIPPED)
        else:
            self._settle(event.task_id, FAILED)

    def _settle(self, task_id: TaskId, outcome: str) -> None:
        task = self.tasks[task_id]
        assert not task.outcome, f"{task_id} was {task.outcome} and is {outcome} now"
        assert not task.is_running or outcome == CANCELLED, f"{task_id} is {outcome} while it runs"
        if task.is_running and not task.node.idempotent:
            task.is_open = True
        task.outcome, task.is_running = outcome, False

    def _reopened(self, event: RetryRequested) -> None:
        for task_id in event.task_ids:
            task = self.tasks[task_id]
            assert task.outcome in {FAILED, CANCELLED, SKIPPED}, (
                f"{task_id} was {task.outcome}, and is retried"
            )
            task.outcome = ""
            if not task.is_open:
                task.went_on_without.clear()
            for edge in self.store.folded.tasks[task_id].outgoing:
                has_begun = self.store.folded.tasks[edge.target].status in _BEGUN
                if has_begun or self.tasks[edge.target].is_open:
                    self.tasks[edge.target].went_on_without.add(task_id)
            if not task.is_open:  # else somebody has to decide first
                task.reopened += 1
                task.generation += task.attempt > 0
        if self.status.is_terminal:
            self.status = OrchestrationStatus.RUNNING
            self._is_out_of_time = False

    def _finished(self, event: OrchestrationFinished) -> None:
        assert not self.status.is_terminal, "it ended twice"
        outcomes = Counter(task.outcome for task in self.tasks.values())
        assert not outcomes[""], "it ended with unsettled tasks"
        self.status = event.outcome
        if outcomes[CANCELLED]:
            assert event.outcome.value == ("failed" if self._is_out_of_time else "cancelled")
        elif not outcomes[FAILED]:
            assert event.outcome is OrchestrationStatus.COMPLETED
        elif event.outcome is OrchestrationStatus.COMPLETED:
            for task_id, task in self.tasks.items():
                assert task.outcome != SKIPPED or not self._is_skipped_over_failures(task_id), (
                    f"{task_id} was skipped over a failure, but the whole counts as completed"
                )

    def _is_skipped_over_failures(self, task_id: TaskId) -> bool:
        """Whether nothing but failed tasks kept a skipped one from running."""
        dead = [
            self.tasks[edge.source].outcome
            for edge in self.store.folded.tasks[task_id].incoming
            if edge.delivers is False and not edge.edge.is_optional
        ]
        return bool(dead) and all(outcome == FAILED for outcome in dead)

    def check_end(self) -> None:
        """Check what the events say of each task against what they add up to."""
        for task_id, task in self.tasks.items():
            folded = self.store.folded.tasks[task_id]
            assert folded.status.value == task.outcome
            assert folded.attempt == task.attempt
            assert folded.generation == task.generation, "its idempotency key changed without a retry"
            assert folded.output == task.output
