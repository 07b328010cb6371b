"""What the engine can be told: requests of callers, reports of attempts, and the passing of time.

May import: orchestration.{models, dag}, stdlib.

An input names its orchestration. Values an input may draw at random (jitter) or measure (durations) are carried
in it, so that the same inputs in the same order always give the same events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestration.dag import TaskDAG
from orchestration.models import ErrorRecord, Json, OrchestrationId, TaskEdge, TaskId, TaskNode

DecisionKind: TypeAlias = Literal["retry", "done", "failed"]
"""What can be decided about an `unknown` task: run it again, it happened, it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How much a system takes."""

    limit: int | None = None
    """Attempts on it at once; None: as many as there are slots."""
    closed_until_us: int | None = None
    """Nothing starts there before."""
    rate: tuple[int, int] | None = None
    """Starts, and the microseconds they are spread over: never more of them in any such span, but for a burst as large
    at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefaults:
    """What holds for a task that does not say otherwise."""

    max_retries: int = 3
    backoff_factor: float = 2.0
    timeout_seconds: float | None = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Where tasks go."""

    systems: Mapping[TaskId, str] = field(default_factory=dict)
    others: Mapping[TaskId, tuple[str, ...]] = field(default_factory=dict)
    """Further systems that can do the same, best first; of tasks that leave the choice to the router."""
    fallbacks: Mapping[TaskId, tuple[str, ...]] = field(default_factory=dict)
    """Where each of a task's nested fallbacks goes, outermost first."""
    reasons: Mapping[TaskId, str] = field(default_factory=dict)
    """Why the router chose so, of tasks that leave it the choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRef:
    """An output's identity; the value itself stays outside the engine and the journal."""

    sha256: str
    """Of the output's JSON text in UTF-8."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSuccess:
    """An attempt delivered its output."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    output: OutputRef
    value: Json = None
    """The output itself, for conditions and data requirements; never kept."""
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFailure:
    """An attempt ended without an output."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    error: ErrorRecord
    jitter: float = 1.0
    """In [0, 1): what part of the longest back-off to wait, should the attempt be retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCancelled:
    """An attempt that was asked to stop has ended; the engine knows why it asked."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    jitter: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineReached:
    """The time of the engine's next deadline has come; `now` says how late it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsFreed:
    """Slots shared with another engine may be free again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Start nothing more; what runs may finish."""

    orchestration_id: OrchestrationId
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Go on after a pause."""

    orchestration_id: OrchestrationId


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End everything: what has not started at once, what runs as soon as it can be stopped."""

    orchestration_id: OrchestrationId
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """A driver begins with an orchestration, new or left behind: attempts of the driver before are interrupted.

    Starting a new orchestration is taking over one that nobody has driven yet: one path, well trodden.
    """

    orchestration_id: OrchestrationId


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """End the attempts of a driver that is gone, without beginning to drive: somebody only wants to decide."""

    orchestration_id: OrchestrationId


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeFound:
    """Someone made an alternative for a task that used up its attempts; it is a validated sub-DAG."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    dag: TaskDAG
    routes: Routes = field(default_factory=Routes)
    delivers: TaskId | None = None
    """The task whose output stands for the failed one's; needed where the sub-DAG has several leaves."""
    reason: str = ""
    by: str = "planner"
    """Who made it: `planner`, or whoever was asked."""
    expected_revision: int | None = None
    """Of an answer to a question: the plan's revision that it was made for. None: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAlternative:
    """Nobody could make an alternative plan."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Run failed tasks again, and what was skipped or cancelled because of them; completed tasks stay."""

    orchestration_id: OrchestrationId
    task_ids: tuple[TaskId, ...] = ()
    """Failed or cancelled tasks; all of them when empty."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Say what became of an `unknown` task, or what is to become of one for which an alternative is asked."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    decision: DecisionKind
    by: str = "person"
    """Who says so: `person`, `caller`, a name."""
    reason: str = ""
    output: OutputRef | None = None
    """With `done`."""
    value: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAnswer:
    """What a task's `verify` answered."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    """The attempt it was asked about."""
    answer: Literal["done", "not_done", "unclear"]
    reason: str = ""
    output: OutputRef | None = None
    """With `done`."""
    value: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAnswer:
    """Whether an equal task's output can be used again."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    output: OutputRef | None = None
    """None: there is none; the task runs."""
    value: Json = None
    source: str = ""
    """Whose output it is: `orchestration:task`."""
    generation: int = 1
    """Of the task that was asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reusable:
    """A completed task's output in an earlier orchestration."""

    task_id: TaskId
    output: OutputRef
    value: Json
    source: str
    """`orchestration:task`."""
    deliveries: tuple[tuple[TaskId, bool], ...] | None = None
    """Which of its incoming edges delivered then, by upstream: it is used only where they do now, too. None: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseResults:
    """Take the outputs of an earlier orchestration for tasks whose upstream has not changed, upstream first."""

    orchestration_id: OrchestrationId
    results: tuple[Reusable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDescribed:
    """What exactly would run, if somebody agreed to it."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int
    digest: str = ""
    """SHA-256 over system, tool, resolved arguments, inputs and what else the attempt goes by; in hexadecimal."""
    shown: str = ""
    """The same for people: bounded text."""
    error: ErrorRecord | None = None
    """Why there is nothing to agree to: the arguments can't be resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Agree, or refuse, that a task runs with exactly what was asked about."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    is_approved: bool
    digest: str | None = None
    """Of what was agreed to; None: what is asked about now."""
    by: str = "person"
    """Who says so: `person`, or `caller`, which may only where the task allows it."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsFound:
    """How many children a `foreach` task gets."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int
    count: int = 0
    error: ErrorRecord | None = None
    """Why there are none: no list, or too long a one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsGathered:
    """The output of a task whose children have settled, made of theirs."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int
    output: OutputRef | None = None
    value: Json = None
    error: ErrorRecord | None = None
    """Why it could not be made: too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphChange:
    """What a revision changes in an orchestration's graph; ids are final, edges and tasks are validated whole."""

    added: tuple[TaskNode, ...] = ()
    changed: tuple[TaskNode, ...] = ()
    """Tasks as they are from now on."""
    removed: tuple[TaskId, ...] = ()
    linked: tuple[TaskEdge, ...] = ()
    """New edges, and changed ones, which are in `unlinked` too."""
    unlinked: tuple[tuple[TaskId, TaskId], ...] = ()
    """Upstream and downstream end of edges that are gone; those of removed tasks need not be named."""
    skipped: tuple[TaskId, ...] = ()
    """Tasks that are not to run; what requires them is skipped, too."""
    routes: Routes = field(default_factory=Routes)
    """Of added and changed tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPlan:
    """Change the graph of an orchestration that goes on."""

    orchestration_id: OrchestrationId
    expected_revision: int
    change: GraphChange
    values: Mapping[TaskId, Json] = field(default_factory=dict)
    """Outputs of completed tasks from which new edges with conditions or required keys come."""
    by: str = "person"
    reason: str = ""
    undoes: int | None = None
    """The revision it goes back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGrown:
    """More of a plan that is still being made: tasks whose upstreams are all there."""

    orchestration_id: OrchestrationId
    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...] = ()
    routes: Routes = field(default_factory=Routes)
    values: Mapping[TaskId, Json] = field(default_factory=dict)
    """Outputs of completed tasks from which edges with conditions or required keys come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEnded:
    """The plan is whole and valid; or will never be."""

    orchestration_id: OrchestrationId
    error: str | None = None
    """Why it will never be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferDescribed:
    """What a worker will be told of a task is written down."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    generation: int
    number: int = 0
    """Of the offer it was written for."""
    lease_seconds: float = 300.0
    error: ErrorRecord | None = None
    """Why there is nothing to offer: the arguments can't be resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTaken:
    """A worker has taken an offer; it is durable already."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    number: int
    """Of the offer."""
    claim: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportClaim:
    """What a worker reports of its claim; it is durable already."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    claim: str
    status: Literal["progress", "done", "failed", "blocked", "release"]
    reason: str = ""
    """In the worker's words."""
    output: OutputRef | None = None
    """With `done`."""
    value: Json = None
    has_begun: bool = False
    """With `release`: whether progress had been reported."""
    error: ErrorRecord | None = None
    """With `done`: why the output can't be used."""
    alternative: AlternativeFound | None = None
    """Tasks that are to be done in place of this one; the claim ends with them."""
    jitter: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLooked:
    """How a claim stands whose lease should have ended."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    claim: str
    is_expired: bool
    again_at_us: int = 0
    """Where it has not: when to look again."""
    jitter: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceAnswer:
    """Whether what a worker reported done was found to be."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int
    output: OutputRef
    value: Json = None
    error: ErrorRecord | None = None
    """Why it is not accepted."""
    jitter: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatesChanged:
    """How much systems take has changed."""

    gates: Mapping[str, Gate]
    """By system; others stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A running attempt gave a sign of life."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    attempt: int


Input: TypeAlias = (
    ReportSuccess
    | ReportFailure
    | ReportCancelled
    | DeadlineReached
    | SlotsFreed
    | Pause
    | Resume
    | Cancel
    | TakeOver
    | Interrupt
    | AlternativeFound
    | NoAlternative
    | Retry
    | Decide
    | VerifyAnswer
    | CacheAnswer
    | ReuseResults
    | ApprovalDescribed
    | Approve
    | ItemsFound
    | OutputsGathered
    | EditPlan
    | PlanGrown
    | PlanEnded
    | OfferDescribed
    | ClaimTaken
    | ReportClaim
    | ClaimLooked
    | AcceptanceAnswer
    | GatesChanged
    | Heartbeat
)
