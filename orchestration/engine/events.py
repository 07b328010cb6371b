"""The facts an orchestration is made of. They are stored in its journal; folding them rebuilds its state.

May import: orchestration.models, orchestration.engine.inputs (for `OutputRef`, `TaskDefaults`), stdlib.

Past tense, JSON-able, and complete: whatever was decided (a condition's verdict, a drawn delay) is written down, so
that `State.evolve` never evaluates, draws or measures. The orchestration's id, the place in its journal and the
instant (whole microseconds since the epoch) stand beside the event, in `Recorded`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestration.engine.inputs import DecisionKind, OutputRef, TaskDefaults
from orchestration.models import (
    ErrorRecord,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskNode,
)

CancelReason: TypeAlias = Literal["request", "timeout", "plan_incomplete"]
"""Why everything that has not ended is cancelled."""

StopReason: TypeAlias = Literal["timeout", "silence", "cancelled"]
"""Why a running attempt is asked to stop; `silence`: no sign of life within its `heartbeat_timeout_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeVerdict:
    """What an edge that had something to check turned out to be, when its upstream settled.

    Edges without a condition and without data requirements need none: they deliver if the upstream completed.
    """

    target_task_id: TaskId
    delivers: bool
    warning: str | None = None
    """Why an optional edge is dead although its upstream delivered."""
    error: ErrorRecord | None = None
    """Why the target must fail: its required edge can't be decided or lacks a required key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationSubmitted:
    """The orchestration exists; its DAG is stored beside the journal under `dag_sha256`."""

    dag_sha256: str
    mode: OrchestrationMode
    context: JsonObject = field(default_factory=dict)
    routes: dict[TaskId, str] = field(default_factory=dict)
    others: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    fallback_routes: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[TaskId, str] = field(default_factory=dict)
    """Why the router chose so, of tasks that leave it the choice."""
    defaults: TaskDefaults = field(default_factory=TaskDefaults)
    can_replan: bool = False
    asks_caller: bool = False
    """Whether somebody is there who can answer when no alternative plan is found."""
    allows_agent: bool = False
    """Whether what nothing else can run is offered to agents, now and when tasks are added."""
    is_planning: bool = False
    """Whether the plan is still being made: its tasks come in `PlanExtended`."""
    timeout_seconds: float | None = None
    """Time limit of the whole, from here on, or from the latest retry."""
    type: Literal["orchestration_submitted"] = "orchestration_submitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An attempt was given to a system. Its effect is let out only after this is durable."""

    task_id: TaskId
    attempt: int
    system: str
    type: Literal["attempt_started"] = "attempt_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded:
    """An attempt delivered; its task is completed."""

    task_id: TaskId
    attempt: int
    output: OutputRef
    verdicts: tuple[EdgeVerdict, ...] = ()
    cost: float | None = None
    type: Literal["attempt_succeeded"] = "attempt_succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """An attempt ended without an output; what follows is the next event."""

    task_id: TaskId
    attempt: int
    error: ErrorRecord
    type: Literal["attempt_failed"] = "attempt_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInterrupted:
    """The process that ran the attempt is gone; the task is ready again. It costs no retry."""

    task_id: TaskId
    attempt: int
    type: Literal["attempt_interrupted"] = "attempt_interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLeftOpen:
    """An attempt that must not be repeated ended without anybody knowing whether its effect happened."""

    task_id: TaskId
    attempt: int
    error: ErrorRecord
    """What is known."""
    type: Literal["attempt_left_open"] = "attempt_left_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationUnclear:
    """`verify` was asked and could not say; somebody has to decide."""

    task_id: TaskId
    attempt: int
    reason: str
    type: Literal["verification_unclear"] = "verification_unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDecided:
    """Somebody, or `verify`, said what became of an `unknown` task. `failed` is followed by the task's failure."""

    task_id: TaskId
    decision: DecisionKind
    by: str
    """`verify`, `person`, `caller`, a name."""
    reason: str = ""
    output: OutputRef | None = None
    verdicts: tuple[EdgeVerdict, ...] = ()
    type: Literal["task_decided"] = "task_decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReused:
    """A task is completed by an output that was there already: no attempt was made."""

    task_id: TaskId
    output: OutputRef
    source: str
    """Whose output it is: `orchestration:task`."""
    because: Literal["cache", "reuse"]
    verdicts: tuple[EdgeVerdict, ...] = ()
    type: Literal["result_reused"] = "result_reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested:
    """Tasks begin anew, in a new generation; an orchestration that had ended goes on."""

    task_ids: tuple[TaskId, ...]
    """Everything that is pending again, upstream first."""
    reason: str = ""
    type: Literal["retry_requested"] = "retry_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """A running attempt was asked to stop: out of time, silent, or the orchestration is being cancelled."""

    task_id: TaskId
    attempt: int
    because: StopReason
    type: Literal["stop_requested"] = "stop_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """The task waits for its back-off and is tried again."""

    task_id: TaskId
    attempt: int
    """The attempt that failed."""
    delay_seconds: float
    due_at_us: int
    type: Literal["retry_scheduled"] = "retry_scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDue:
    """The back-off is over; the task is ready."""

    task_id: TaskId
    type: Literal["retry_due"] = "retry_due"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRerouted:
    """A system used up the task's attempts; the task is ready again, for another one."""

    task_id: TaskId
    attempt: int
    """The latest one, on the system before."""
    system: str
    reason: str = ""
    """Why it does not go on where it was; empty: that system used up its attempts."""
    type: Literal["task_rerouted"] = "task_rerouted"


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackStarted:
    """The task's fallback takes over; the task is ready again, as its fallback says."""

    task_id: TaskId
    attempt: int
    """The latest one of what came before."""
    type: Literal["fallback_started"] = "fallback_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOffered:
    """Everything a task needs is there; any worker may take it. Its brief stands in the offer, outside the journal."""

    task_id: TaskId
    number: int
    """Which offer of the task, counted from 1."""
    lease_seconds: float
    """How long a claim holds without a report."""
    type: Literal["task_offered"] = "task_offered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStarted:
    """A worker has taken an offered task: an attempt of it."""

    task_id: TaskId
    attempt: int
    claim: str
    worker: str
    type: Literal["claim_started"] = "claim_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResumed:
    """A worker reported after its claim had run out, and nobody else had taken the task: the claim holds again."""

    task_id: TaskId
    attempt: int
    claim: str
    type: Literal["claim_resumed"] = "claim_resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReported:
    """A worker reported its task done; what it delivered is looked at before it counts."""

    task_id: TaskId
    attempt: int
    claim: str
    output: OutputRef
    type: Literal["claim_reported"] = "claim_reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReleased:
    """A worker gave its task back; anybody may take it."""

    task_id: TaskId
    attempt: int
    claim: str
    has_begun: bool = False
    """Whether it had reported progress: only then was it an attempt, which uses up a retry."""
    reason: str = ""
    type: Literal["claim_released"] = "claim_released"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """Everything a task needs is there; somebody must agree to exactly this."""

    task_id: TaskId
    digest: str
    shown: str
    """What it is, bounded, for whoever agrees."""
    type: Literal["approval_requested"] = "approval_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """Somebody agreed; the task may run with exactly this."""

    task_id: TaskId
    digest: str
    by: str
    reason: str = ""
    type: Literal["approval_given"] = "approval_given"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalVoided:
    """An attempt was not what somebody had agreed to, and did not begin; it costs no retry and is asked about again."""

    task_id: TaskId
    attempt: int
    type: Literal["approval_voided"] = "approval_voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerAsked:
    """No alternative plan was found; the task waits for whoever submitted it to say how to go on."""

    task_id: TaskId
    reason: str
    type: Literal["caller_asked"] = "caller_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExpanded:
    """A task's children begin; those of a `foreach` come into being with this."""

    task_id: TaskId
    count: int | None = None
    """Items of a `foreach`; None for a task whose parts are tasks of the DAG."""
    type: Literal["task_expanded"] = "task_expanded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenGathered:
    """A task's children have settled; it is completed with what they delivered."""

    task_id: TaskId
    output: OutputRef
    verdicts: tuple[EdgeVerdict, ...] = ()
    type: Literal["children_gathered"] = "children_gathered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """The task has failed for good."""

    task_id: TaskId
    error: ErrorRecord
    verdicts: tuple[EdgeVerdict, ...] = ()
    type: Literal["task_failed"] = "task_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSkipped:
    """A required edge of the task is dead."""

    task_id: TaskId
    because: TaskId
    """The upstream end of that edge, or the parent that did not begin; empty where somebody wants it skipped."""
    reason: str = ""
    """Who wants it skipped, and why."""
    verdicts: tuple[EdgeVerdict, ...] = ()
    type: Literal["task_skipped"] = "task_skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksCancelled:
    """The tasks will not run, or their attempts were stopped."""

    task_ids: tuple[TaskId, ...]
    note: str = ""
    """Where work may continue, when an attempt could not be stopped."""
    type: Literal["tasks_cancelled"] = "tasks_cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanRequested:
    """The task used up its attempts; an alternative plan is asked for and its required descendants are paused."""

    task_id: TaskId
    error: ErrorRecord
    paused: tuple[TaskId, ...] = ()
    type: Literal["replan_requested"] = "replan_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRevised:
    """An alternative sub-DAG took a task's place; ids are final and carry the suffix of their revision."""

    task_id: TaskId
    """The superseded task."""
    revision: int
    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...]
    """Edges among the new tasks, and copies of the superseded task's incoming edges to the new roots."""
    routes: dict[TaskId, str]
    delivers: TaskId
    """The new task that stands for the superseded one in edges and references."""
    reason: str = ""
    others: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    fallback_routes: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[TaskId, str] = field(default_factory=dict)
    """Why the router chose so, of tasks that leave it the choice."""
    by: str = "planner"
    type: Literal["plan_revised"] = "plan_revised"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeDecided:
    """What an edge that came later than its upstream's outcome turned out to be."""

    source_task_id: TaskId
    verdict: EdgeVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEdited:
    """Somebody changed the graph; `TaskSkipped` for what is not to run follows."""

    revision: int
    by: str
    reason: str = ""
    added: tuple[TaskNode, ...] = ()
    changed: tuple[TaskNode, ...] = ()
    removed: tuple[TaskId, ...] = ()
    linked: tuple[TaskEdge, ...] = ()
    unlinked: tuple[tuple[TaskId, TaskId], ...] = ()
    skipped: tuple[TaskId, ...] = ()
    routes: dict[TaskId, str] = field(default_factory=dict)
    others: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    fallback_routes: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[TaskId, str] = field(default_factory=dict)
    """Why the router chose so, of tasks that leave it the choice."""
    decided: tuple[EdgeDecided, ...] = ()
    """Of `linked` edges whose upstream has settled."""
    undoes: int | None = None
    type: Literal["plan_edited"] = "plan_edited"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanExtended:
    """More of a plan that is still being made."""

    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...] = ()
    routes: dict[TaskId, str] = field(default_factory=dict)
    others: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    fallback_routes: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[TaskId, str] = field(default_factory=dict)
    """Why the router chose so, of tasks that leave it the choice."""
    decided: tuple[EdgeDecided, ...] = ()
    type: Literal["plan_extended"] = "plan_extended"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCompleted:
    """The plan is whole: everything of it may run."""

    type: Literal["plan_completed"] = "plan_completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationPaused:
    """Nothing more starts until it is resumed."""

    reason: str = ""
    type: Literal["orchestration_paused"] = "orchestration_paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationResumed:
    """Tasks start again."""

    type: Literal["orchestration_resumed"] = "orchestration_resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """No task starts any more; running attempts are asked to stop."""

    reason: str = ""
    because: CancelReason = "request"
    """`timeout`: the orchestration ran out of its time. `plan_incomplete`: its plan will never be whole. Both end it
    failed."""
    type: Literal["cancel_requested"] = "cancel_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationFinished:
    """Every task has its outcome."""

    outcome: Literal[OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED]
    type: Literal["orchestration_finished"] = "orchestration_finished"


Event: TypeAlias = (
    OrchestrationSubmitted
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptInterrupted
    | StopRequested
    | RetryScheduled
    | RetryDue
    | AttemptLeftOpen
    | VerificationUnclear
    | TaskDecided
    | ResultReused
    | RetryRequested
    | TaskRerouted
    | FallbackStarted
    | TaskOffered
    | ClaimStarted
    | ClaimResumed
    | ClaimReported
    | ClaimReleased
    | ApprovalRequested
    | ApprovalGiven
    | ApprovalVoided
    | CallerAsked
    | TaskExpanded
    | ChildrenGathered
    | TaskFailed
    | TaskSkipped
    | TasksCancelled
    | ReplanRequested
    | PlanRevised
    | PlanEdited
    | PlanExtended
    | PlanCompleted
    | OrchestrationPaused
    | OrchestrationResumed
    | CancelRequested
    | OrchestrationFinished
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event in its orchestration's journal."""

    orchestration_id: OrchestrationId
    seq: int
    """Counted from 1, without gaps."""
    at_us: int
    """Microseconds since the epoch; never less than the one before."""
    event: Event
