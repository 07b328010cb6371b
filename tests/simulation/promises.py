"""What must hold of a journal, whatever happened: a model of its own, fed with every committed event.

It knows less than the engine's state and shares no code with it: for each task whether it runs, is over, is open, and
how often it may run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

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
from orchestration.engine.inputs import OutputRef
from orchestration.fallbacks import fallback_nodes
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskId, TaskNode, TaskStatus
from tests.simulation.graphs import ID, gathered, value_of
from tests.simulation.store import Store

COMPLETED, FAILED, CANCELLED, SKIPPED = "completed", "failed", "cancelled", "skipped"
SUPERSEDED = "superseded"
_BEGUN = frozenset(
    {
        TaskStatus.READY,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.OFFERED,
        TaskStatus.CLAIMED,
        TaskStatus.EXPANDED,
        TaskStatus.RUNNING,
        TaskStatus.RETRYING,
        TaskStatus.UNKNOWN,
        TaskStatus.REPLANNING,
    }
)
_STARTS = frozenset({OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING})


@dataclass(slots=True)
class Task:
    """What is known of a task."""

    node: TaskNode
    attempt: int = 0
    generation: int = 1
    is_running: bool = False
    offers: int = 0
    claim: str = ""
    """Whose it is, or was last; its attempt runs as any other does."""
    is_open: bool = False
    """It must not be repeated, an attempt was left open or cancelled, and nobody has decided."""
    outcome: str = ""
    output: OutputRef | None = None
    planned: TaskNode | None = None
    """What it was before a fallback took over."""
    agreed: str = ""
    """What somebody agreed to; empty: nobody has."""
    is_composite: bool = False
    is_asked: bool = False
    """Whoever submitted it is asked how to go on."""
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
        self.claims: set[str] = set()
        """Every claim that whoever drove knew of."""
        self.has_acted: Callable[[str], bool] = lambda _claim: False
        """Whether what a claim is of was done."""
        self._has_happened = has_happened
        self._last_us = 0
        self._last_seq = 0
        self._last_token = 0
        self._ended_by = ""
        self._is_whole = True
        self._revision = 1
        self._edited: set[TaskId] = set()
        """Tasks the latest event changed, or what they are fed: they may have another key."""
        self._skipped: set[TaskId] = set()
        """Tasks the latest edit wants skipped."""
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
                self._is_whole = not event.is_planning
                self.status = (
                    OrchestrationStatus.PLANNING if event.is_planning else OrchestrationStatus.RUNNING
                )
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
                self._ended_by = event.because
                self.happened["cancelled by request"] += event.because == "request"
                assert self.status in {*_STARTS, OrchestrationStatus.PAUSED}
                assert event.because != "plan_incomplete" or not self._is_whole
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
            case TaskOffered() | ClaimStarted() | ClaimResumed() | ClaimReported() | ClaimReleased() as event:
                self._claim(event)
            case ApprovalRequested() | ApprovalGiven() | ApprovalVoided() as event:
                self._approval(event)
            case TaskRerouted() | FallbackStarted() | CallerAsked() as event:
                self._goes_on_otherwise(event)
            case TaskExpanded() | ChildrenGathered() as event:
                self._composite(event)
            case PlanEdited() | PlanExtended() | PlanCompleted() as event:
                self._plan(event)

    def folded(self) -> None:
        """Note what an event that changed the graph has changed of keys, now that it is folded in."""
        for task_id, task in self.tasks.items() if self._edited else ():
            present = self.store.folded.tasks[task_id]
            if present.generation != task.generation:
                assert task_id in self._edited, f"{task_id} got another key by an edit of something else"
                assert present.generation > task.generation, "a key came back"
                task.generation, task.agreed = present.generation, ""
                task.is_asked = False
        self._edited = set()

    # Ways of doing a task, and who agrees to them

    def _approval(self, event: ApprovalRequested | ApprovalGiven | ApprovalVoided) -> None:
        task = self.tasks[event.task_id]
        assert not task.outcome
        assert not task.is_open
        assert task.node.approval is not None
        if isinstance(event, ApprovalVoided):
            assert task.is_running, "what did not run is not what was agreed to"
            task.is_running, task.agreed = False, ""
            return
        assert not task.is_running
        assert self._is_whole, "somebody is asked to agree before the plan is whole"
        if isinstance(event, ApprovalGiven):
            assert event.by == "person" or task.node.approval == "caller", "a model agreed in a person's name"
            assert event.digest == self.store.folded.tasks[event.task_id].asked_digest
            task.agreed = event.digest
            self.happened["approved or rejected"] += 1

    def _goes_on_otherwise(self, event: TaskRerouted | FallbackStarted | CallerAsked) -> None:
        task = self.tasks[event.task_id]
        assert not task.outcome
        assert not task.is_running
        assert not task.is_open, "another way begins before anybody knows what became of the one before"
        if isinstance(event, CallerAsked):
            task.is_asked = True
            return
        task.agreed = ""
        if isinstance(event, TaskRerouted):
            assert task.node.idempotent, "what must not be repeated goes on elsewhere"
        else:
            task.planned = task.planned or task.node
            task.node = fallback_nodes(task.node)[0]
            task.generation += 1

    # Composites

    def _composite(self, event: TaskExpanded | ChildrenGathered) -> None:
        task = self.tasks[event.task_id]
        assert not task.outcome
        task.is_composite = True
        if isinstance(event, TaskExpanded):
            assert self.status in {*_STARTS, OrchestrationStatus.PAUSED}
            assert event.count is None or self.status in _STARTS, (
                "children come into being while it is paused"
            )
            self._check_upstream(event.task_id)
            for index in range(event.count or 0):
                name = f"{event.task_id}[{index}]"
                if name not in self.tasks:
                    node = replace(task.node, task_id=name, foreach=None, parent=event.task_id)
                    self.tasks[name] = Task(node)
            return
        folded = self.store.folded
        children = folded.tasks[event.task_id].children
        assert all(self.tasks[child].outcome for child in children), "gathered before its parts were over"
        wanted = value_of(gathered(folded, event.task_id, self.store.outputs))
        assert wanted.ref == event.output, f"the output of {event.task_id} is not what its parts add up to"
        self._complete(task, event.output)

    # The plan

    def _plan(self, event: PlanEdited | PlanExtended | PlanCompleted) -> None:
        if isinstance(event, PlanCompleted):
            assert self.status is OrchestrationStatus.PLANNING
            self.status, self._is_whole = OrchestrationStatus.RUNNING, True
            return
        if isinstance(event, PlanExtended):
            assert self.status is OrchestrationStatus.PLANNING
            self._add(event.tasks)
            return
        assert self.status in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}
        self._next_revision(event.revision)
        self._skipped = set(event.skipped)
        folded = self.store.folded.tasks
        after = {edge.target for task_id in event.removed for edge in folded[task_id].outgoing}
        targets = {edge.target_task_id for edge in event.linked} | {target for _, target in event.unlinked}
        for task_id in [*event.removed, *targets]:
            if task_id in self.tasks:
                task = self.tasks[task_id]
                assert not task.attempt, f"the edges of {task_id} changed when it had begun"
                assert not task.outcome, f"the edges of {task_id} changed when it had ended"
        for task_id in event.removed:
            self._settle(task_id, SUPERSEDED)
        for node in event.changed:
            task = self.tasks[node.task_id]
            assert not task.outcome, f"{node.task_id} has ended, and was changed"
            assert not task.is_running, f"{node.task_id} runs, and was changed"
            assert not task.is_open, f"{node.task_id} is to be decided about first"
            is_other = replace(node, priority=(task.planned or task.node).priority) != (
                task.planned or task.node
            )
            if is_other or task.planned is None:
                task.node, task.planned = node, None
        self._add(event.added)
        parents = {node.parent for node in event.added if node.parent is not None}
        self._edited = {node.task_id for node in (*event.changed, *event.added)} | targets | after | parents

    def _check_graft(self, old: TaskNode, new: tuple[TaskNode, ...]) -> None:
        """What stands for a task needs the same agreement, and must not be repeated where that one must not."""
        parents = {node.parent for node in new}
        for node in new:
            if node.task_id not in parents:
                assert node.approval is not None or old.approval is None, (
                    "an alternative got round an approval"
                )
                assert node.approval == "person" or old.approval != "person", "a model may agree to it now"
                assert not node.idempotent or old.idempotent, "what must not be repeated may be, now"

    def _next_revision(self, revision: int) -> None:
        assert revision == self._revision + 1, "a revision is left out, or comes twice"
        self._revision = revision

    def _add(self, nodes: Iterable[TaskNode]) -> None:
        for node in nodes:
            assert node.task_id not in self.tasks, f"{node.task_id} is there already"
            self.tasks[node.task_id] = Task(node)

    # Attempts

    def _attempt(self, event: AttemptStarted | AttemptSucceeded | AttemptFailed | AttemptInterrupted) -> None:
        task = self.tasks[event.task_id]
        name = f"{event.task_id}#{event.attempt}"
        assert not task.outcome, f"{name}: {event.type}, but the task was {task.outcome}"
        if isinstance(event, AttemptStarted):
            assert self.status in _STARTS, f"{name} started while {self.status}"
            self._check_begin(event.task_id)
            self._check_alone()
            assert event.attempt == task.attempt + 1, f"{name} is not the next attempt"
            task.attempt, task.is_running, task.claim = event.attempt, True, ""
            return
        assert task.is_running, f"{name} ended, but did not run"
        assert event.attempt == task.attempt, f"{name} ended, but attempt {task.attempt} runs"
        task.is_running = False
        if isinstance(event, AttemptSucceeded):
            has_happened = (
                self.has_acted(task.claim) if task.claim else self._has_happened(event.task_id, event.attempt)
            )
            assert has_happened, f"{name} completed without its effect"
            if task.claim and task.node.acceptance is not None:
                value = self.store.outputs[event.task_id].json
                is_right = isinstance(value, dict) and value.get("ok") is True
                assert is_right, f"{name} was reported done, and nobody has found it right"
            self._complete(task, event.output)
        elif isinstance(event, AttemptInterrupted):
            assert task.node.idempotent, f"{name} must not be repeated, but counts as interrupted"
        else:
            assert task.node.idempotent or not event.error.effect_open, f"{name} failed with an open effect"

    def _check_begin(self, task_id: TaskId) -> None:
        """Nothing begins that may not, be it as an attempt, an offer or a claim."""
        task = self.tasks[task_id]
        assert not task.is_composite, f"{task_id}: its parts do its work"
        assert task.agreed or task.node.approval is None, f"{task_id} began, and nobody has agreed to it"
        may_early = task.node.idempotent and task.node.approval is None
        assert self._is_whole or may_early, f"{task_id} began before its plan was whole"
        if task.node.parent is not None:
            parent = self.store.folded.tasks[task.node.parent]
            assert parent.status is TaskStatus.EXPANDED, f"{task_id} began before its parent"
        assert not task.is_running, f"{task_id} began while an attempt of it runs"
        assert not task.is_open, f"{task_id} began although nobody has decided about the attempt before"
        self._check_upstream(task_id)

    def _check_alone(self) -> None:
        if self.mode is OrchestrationMode.SIMPLE:
            assert not any(other.is_running for other in self.tasks.values()), "two at once in SIMPLE"

    def _claim(
        self, event: TaskOffered | ClaimStarted | ClaimResumed | ClaimReported | ClaimReleased
    ) -> None:
        task_id = event.task_id
        task = self.tasks[task_id]
        assert not task.outcome, f"{task_id} is offered or claimed, but was {task.outcome}"
        match event:
            case TaskOffered():
                assert self.status in _STARTS, f"{task_id} is offered while {self.status}"
                assert event.number == task.offers + 1, "an offer is left out, or comes twice"
                self._check_begin(task_id)
                task.offers = event.number
            case ClaimStarted():
                self._check_begin(task_id)
                self._check_alone()
                assert event.attempt == task.attempt + 1
                number = self.store.desk.load(event.claim).number
                assert number == task.offers, f"{task_id} is claimed by an offer that was changed since"
                task.attempt, task.is_running, task.claim = event.attempt, True, event.claim
                self.claims.add(event.claim)
            case ClaimResumed():
                assert not task.is_running, f"{task_id} is claimed twice at once"
                assert task.claim == event.claim, f"{task_id}: somebody else had it since"
                task.is_running, task.is_open = True, False
            case ClaimReported():
                assert task.is_running
                assert task.claim == event.claim
                assert self.has_acted(event.claim), f"{task_id} was reported done, and was not"
                assert self.store.outputs[task_id].ref == event.output, "what was reported is not stored"
            case ClaimReleased():
                assert task.is_running
                assert task.claim == event.claim
                task.is_running = False
                task.attempt -= not event.has_begun

    def _check_upstream(self, task_id: TaskId) -> None:
        """Everything before a task is over, and what completed is committed."""
        went_on_without = self._all_went_on_without(task_id)
        for edge in self.store.folded.tasks[task_id].incoming:
            source = self.tasks[edge.source]
            is_settled = source.outcome in {COMPLETED, FAILED, CANCELLED, SKIPPED}
            assert is_settled or edge.source in went_on_without, (
                f"{task_id} began before {edge.source} settled"
            )
            assert edge.delivers or edge.edge.is_optional, f"{task_id} began over a dead required edge"
            if edge.delivers and source.outcome == COMPLETED:
                assert self.store.outputs[edge.source].ref == source.output, "its output is not stored"

    def _all_went_on_without(self, task_id: TaskId) -> set[TaskId]:
        """Return the tasks it had gone on without when they were retried, by what stands for them since."""
        found = set(self.tasks[task_id].went_on_without)
        while (parent := self.tasks[task_id].node.parent) is not None:
            task_id = parent
            found |= self.tasks[task_id].went_on_without
        return {self.store.folded.current(name) for name in found}

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
        was_asked, task.is_asked = task.is_asked, False
        assert task.is_open or was_asked, f"{event.task_id} was decided about, but is not open"
        assert not task.outcome, f"{event.task_id} was decided about, and {task.outcome} already"
        if isinstance(event, VerificationUnclear):
            return
        is_verified = event.by == "verify"
        assert not is_verified or task.node.verify is not None
        self.happened["decided by a person"] += not is_verified
        if event.decision == "retry":
            task.is_open = False
            task.generation += was_asked
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
        return task.node.tool, self.store.folded.tasks[task.node.task_id].index, inputs

    # Ends

    def _settled(self, event: TaskFailed | TaskSkipped | TasksCancelled | PlanRevised) -> None:
        if isinstance(event, TasksCancelled):
            for task_id in event.task_ids:
                self._settle(task_id, CANCELLED)
        elif isinstance(event, PlanRevised):
            self._next_revision(event.revision)
            self.happened["replaced by a person"] += event.by == "caller"
            self.happened["replaced by a worker"] += event.by.startswith("worker")
            self._settle(event.task_id, SUPERSEDED)
            assert not {node.task_id for node in event.tasks} & set(self.tasks)
            self._check_graft(self.tasks[event.task_id].node, event.tasks)
            before = self.tasks[event.task_id].went_on_without
            self.tasks |= {node.task_id: Task(node, went_on_without=set(before)) for node in event.tasks}
        elif isinstance(event, TaskSkipped):
            is_wanted = event.because == "" and event.task_id in self._skipped
            assert is_wanted or self.tasks[event.because].outcome, "skipped for something that is not over"
            self._settle(event.task_id, SKIPPED)
        else:
            self.happened["approved or rejected"] += event.error.code == "rejected"
            self._settle(event.task_id, FAILED)

    def _settle(self, task_id: TaskId, outcome: str) -> None:
        task = self.tasks[task_id]
        assert not task.outcome, f"{task_id} was {task.outcome} and is {outcome} now"
        assert not task.is_running or outcome == CANCELLED, f"{task_id} is {outcome} while it runs"
        if task.is_running and not task.node.idempotent:
            task.is_open = True
        task.outcome, task.is_running, task.is_asked = outcome, False, False

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
                task.agreed = ""
                if task.planned is not None:
                    task.node, task.planned = task.planned, None
            parent = task.node.parent
            if parent is not None:
                self._edited.add(parent)  # what is gathered of it lacks this part
        if self.status.is_terminal:
            self.status = OrchestrationStatus.RUNNING if self._is_whole else OrchestrationStatus.PLANNING
            self._ended_by = ""

    def _finished(self, event: OrchestrationFinished) -> None:
        assert not self.status.is_terminal, "it ended twice"
        outcomes = Counter(task.outcome for task in self.tasks.values())
        assert not outcomes[""], "it ended with unsettled tasks"
        self.status = event.outcome
        assert self._is_whole or self._ended_by, "it ended before its plan was whole"
        if outcomes[CANCELLED] or not self._is_whole:
            assert event.outcome.value == ("cancelled" if self._ended_by == "request" else "failed")
        elif not outcomes[FAILED]:
            assert event.outcome is OrchestrationStatus.COMPLETED
        elif event.outcome is OrchestrationStatus.COMPLETED:
            for task_id, task in self.tasks.items():
                is_borne = task.node.parent is not None and self.tasks[task.node.parent].outcome == FAILED
                assert task.outcome != SKIPPED or is_borne or not self._is_skipped_over_failures(task_id), (
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
