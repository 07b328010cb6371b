"""What the Storage port and its callers exchange: leases, commits, rows, requests, results. Plain and immutable.

May import: orchestration.{claim_records, models, engine.events, engine.inputs}, stdlib.
`ports.py`, which lists them too, says what
storage does with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestration.claim_records import ClaimNote, ClaimOutcome, Offer
from orchestration.engine.events import Event, Recorded
from orchestration.engine.inputs import DecisionKind, GraphChange, Routes
from orchestration.models import (
    ErrorRecord,
    Json,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    PlanId,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskStatus,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverIdentity:
    """A process that may drive orchestrations, told apart from a later one that got the same pid."""

    host: str
    boot_id: str
    """Changes with each start of the machine."""
    pid: int
    process_start: int
    """When the process started, in the machine's own ticks since boot; 0 where the platform does not tell."""
    instance: str
    """Tells several drivers of one process apart."""
    pid_namespace: str = ""
    """In which `pid` means something: a sandbox may have one of its own. Empty where the platform has none."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverView:
    """A driver as others see it in storage."""

    identity: DriverIdentity
    beats: int
    """Heartbeats counted so far; a driver whose count stands still for a lease length has lost its leases."""
    lease_seconds: float
    """How long its leases last without a heartbeat."""
    beat_at_us: int
    """Its own wall time at its latest heartbeat; for people only, clocks of machines differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to drive one orchestration; every append presents its token."""

    orchestration_id: OrchestrationId
    token: int
    """Fencing token: grows by one with each acquisition, never returns."""
    holder: DriverIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An orchestration's standing, kept up to date in the same transaction as its events; status reads only this."""

    state: OrchestrationStatus
    total_tasks: int
    """Executable tasks: superseded ones don't count."""
    counts: Mapping[TaskStatus, int]
    """Tasks per status; statuses without a task are left out."""
    revision: int = 1
    """Of the plan; grows with each alternative that is spliced in."""
    started_at_us: int | None = None
    """Start of the first attempt."""
    finished_at_us: int | None = None
    """When the last task settled and the orchestration ended."""
    attempts: int = 0
    work_seconds: float = 0.0
    """Sum of the durations of all attempts that ended."""
    makespan_seconds: float | None = None
    """First start to last settled; None while unfinished."""
    parallel_efficiency: float | None = None
    """In (0, 1]; None while unfinished."""
    remaining_seconds: float | None = None
    """Estimate of the time still needed; None when nothing is known, 0 when ended."""
    cost: float = 0.0
    reason: str = ""
    """Why it is paused, or was cancelled, in the words of whoever asked, or that its time was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """Where one task stands, as stored for readers in other processes."""

    task_id: TaskId
    position: int
    """Place in the DAG, from 0; tasks of alternative plans come after the rest."""
    status: TaskStatus
    attempt: int = 0
    """Number of the latest attempt; 0 when none started."""
    system: str | None = None
    started_at_us: int | None = None
    """Start of the latest attempt."""
    finished_at_us: int | None = None
    """When the task settled."""
    duration_seconds: float = 0.0
    """Sum over attempts."""
    error: ErrorRecord | None = None
    """Latest failure; stays when a later attempt succeeds."""
    output_sha256: str | None = None
    output_bytes: int | None = None
    note: str | None = None
    """Why it waits or was skipped, in a few words."""
    tool: str | None = None
    """What it runs there."""
    parent: TaskId | None = None
    """The task it is a part of."""
    is_composite: bool = False
    """Whether its children do its work: it counts in no total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """A task's output on its way into storage."""

    task_id: TaskId
    sha256: str
    text: bytes
    """The output as JSON in UTF-8."""
    inline: bool
    """False: stored once among the artifacts, by hash, and only named here."""


Needs = Mapping[str, Mapping[str, str]]
"""What an orchestration needs to run: system → tool (`""` where it names none) → fingerprint of its configuration."""


class ControlAction(StrEnum):
    """What a person or an agent may ask of an orchestration."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    DECIDE = "decide"
    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    CLAIM = "claim"
    """A worker has taken an offered task; written by `claim_offer`."""
    REPORT = "report"
    """A worker has reported; written by `report_claim`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of a running orchestration's graph, checked and routed by whoever asks for it."""

    expected_revision: int
    """Of the graph it was made for: on another one it is refused."""
    change: GraphChange
    values: Mapping[TaskId, Json] = field(default_factory=dict)
    """Outputs that conditions of new edges are decided by."""
    undoes: int | None = None
    """The revision it goes back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graft:
    """An alternative for a task, from whoever was asked for one."""

    task_id: TaskId
    expected_revision: int
    tasks: tuple[TaskNode, ...]
    edges: tuple[TaskEdge, ...]
    routes: Routes = field(default_factory=Routes)
    delivers: TaskId | None = None
    """The task whose output stands for the failed one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """A request to whoever drives an orchestration."""

    action: ControlAction
    task_ids: tuple[TaskId, ...] = ()
    """RETRY: the tasks, all failed ones when empty. DECIDE, APPROVE, REJECT: exactly one."""
    decision: DecisionKind | None = None
    """With DECIDE."""
    output: Json = None
    """With the decision `done`: the task's output."""
    digest: str | None = None
    """APPROVE: of what is agreed to; None: what is asked about when it is carried out."""
    edit: Edit | Graft | None = None
    """With EDIT. REPORT: tasks that are to be done in place of the claimed one."""
    claim: ClaimNote | None = None
    """With CLAIM and REPORT."""
    reason: str = ""
    by: str = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingControl:
    """A request nobody has answered yet."""

    control_id: int
    """Grows with each request."""
    orchestration_id: OrchestrationId
    request: ControlRequest
    sent_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswer:
    """What became of a request; stored in the transaction that holds what it led to."""

    control_id: int
    is_done: bool
    """False: refused, and nothing was changed."""
    code: str = ""
    """Of the refusal."""
    message: str = ""
    """The refusal's own words."""
    task_ids: tuple[TaskId, ...] = ()
    """RETRY: the tasks that are pending again."""
    revision: int | None = None
    """EDIT: the plan's revision it made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A completed task's output on its way into the cache."""

    key: str
    """SHA-256 over system, tool, resolved arguments and inputs, in hexadecimal."""
    task_id: TaskId
    """The task of the same commit whose output it is."""
    stored_at_us: int
    expires_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """An output found in the cache."""

    text: bytes
    """As JSON in UTF-8."""
    sha256: str
    source: str
    """Whose output it is: `orchestration:task`."""
    stored_at_us: int
    """When it was stored; a task may want a younger one than whoever stored it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedOutput:
    """An output that a new orchestration takes over from an earlier one."""

    task_id: TaskId
    from_orchestration: OrchestrationId
    from_task: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One entry of the log of a plan's or an orchestration's revisions; 1 is what it began with."""

    revision: int
    by: str
    """Who made it: `planner`, `person`, `caller`, a name."""
    reason: str
    at_us: int
    told: str
    """What it changed, in a few words."""
    seq: int | None = None
    """Of the event that made it; None for a plan."""
    undoes: int | None = None
    """The revision it went back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRevision:
    """A new revision of a stored plan."""

    expected_revision: int
    """The revision it was made of: where the plan has another one by now, nothing is stored."""
    dag_json: bytes
    dag_sha256: str
    by: str
    reason: str
    told: str
    at_us: int
    undoes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What tasks of one system and tool took so far."""

    count: int
    """Completed tasks it goes by."""
    mean_seconds: float
    """Of a completed task's duration over its attempts."""
    mean_cost: float | None = None
    """None: no cost is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what has ended is kept; None means for ever."""

    compact_after_seconds: float | None
    """Age since its end at which an orchestration's journal is compressed; it stays readable."""
    remove_after_seconds: float | None
    """Age since its end at which an orchestration is removed with everything of it; and age of unused plans."""
    keep_finished: int | None
    """Most ended orchestrations that are kept; the longest ended go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What one round of housekeeping did."""

    compacted: int = 0
    """Orchestrations whose journal was compressed."""
    removed: int = 0
    """Orchestrations that were removed."""
    plans_removed: int = 0
    cache_entries_removed: int = 0
    is_finished: bool = True
    """False: there is more to do; another round goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrchestration:
    """An orchestration about to be created."""

    base_id: str
    """Speaking part of the id (`nightly-report`); storage appends `-N`."""
    orchestration_id: OrchestrationId | None = None
    """An id chosen by the caller, instead of `base_id`; refused when taken."""
    key: str | None = None
    """The caller's key: the same key with the same `request_sha256` gives the orchestration made the first time."""
    request_sha256: str = ""
    goal: str = ""
    mode: OrchestrationMode
    dag_id: str
    dag_json: bytes
    """The DAG as a document of the file format, in UTF-8; stored once, by `dag_sha256`."""
    dag_sha256: str
    plan_id: PlanId | None = None
    created_at_us: int
    holder: DriverIdentity
    first_events: Sequence[Event]
    """The journal's first entries; recorded at `created_at_us` with seq 1, 2, …"""
    needs: Needs = field(default_factory=dict)
    reused: Sequence[ReusedOutput] = ()
    """Outputs to be copied from earlier orchestrations, within the same transaction."""
    tasks: Sequence[TaskRow]
    summary: Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationRecord:
    """What storage knows of an orchestration without reading its DAG or journal."""

    orchestration_id: OrchestrationId
    key: str | None
    goal: str
    mode: OrchestrationMode
    dag_id: str
    dag_sha256: str
    plan_id: PlanId | None
    created_at_us: int
    updated_at_us: int
    last_seq: int
    holder: DriverIdentity | None
    """Who drives it, as last recorded; None when nobody does. Whether that process lives is the reader's to judge."""
    driver: DriverView | None = None
    """What its driver told of itself; None when nobody drives it, or the driver never gave a heartbeat."""
    needs: Needs = field(default_factory=dict)
    token: int
    summary: Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The answer to `create_orchestration`."""

    record: OrchestrationRecord
    lease: Lease | None
    """None when the key named an existing orchestration; that one is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one orchestration adds to the durable state in a batch."""

    lease: Lease
    events: Sequence[Recorded]
    """In order; the first one's seq follows the last stored one."""
    tasks: Sequence[TaskRow]
    """Every task the events touched, as it stands after them; new tasks are added."""
    outputs: Sequence[StoredOutput]
    summary: Summary
    cached: Sequence[CacheEntry] = ()
    """Outputs of this commit that equal tasks may use again; one under a known key replaces it."""
    answers: Sequence[ControlAnswer] = ()
    """What became of requests; one that was withdrawn or answered already is passed over."""
    revisions: Sequence[Revision] = ()
    """Revisions of the plan that the events made, in order."""
    offers: Sequence[Offer] = ()
    """Tasks that are offered to agents by the events; each takes the place of an earlier offer of its task. The offer
    of a task that `tasks` shows in another status than those of `KEEPS_OFFER` is closed."""
    claim_outcomes: Sequence[ClaimOutcome] = ()
    """What was found of tasks that workers reported done."""
    is_critical: bool = False
    """Whether the batch must survive a power cut: committed with synchronous=FULL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """One step of planning, as it was sent to the Sequential Thinking server."""

    number: int
    text: str
    revises: int | None = None
    branch: str | None = None
    branch_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlan:
    """A validated plan about to be stored."""

    base_id: str
    goal: str
    mode: OrchestrationMode | None
    context: JsonObject
    dag_json: bytes
    dag_sha256: str
    planner: str
    """Who made it: `caller`, `playbook:NAME`, `sequential_thinking`, `sentences`."""
    thoughts: Sequence[Thought]
    thinking_server: str
    """Where the thoughts went: `process`, `in-process`, `collaborator` or `none`."""
    notes: Sequence[str]
    """What was completed or changed on the way, for the caller."""
    created_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A stored plan."""

    plan_id: PlanId
    revision: int
    goal: str
    mode: OrchestrationMode | None
    context: JsonObject
    dag_json: bytes
    planner: str
    thoughts: Sequence[Thought]
    thinking_server: str
    notes: Sequence[str]
    created_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationTotals:
    """Sums over stored orchestrations, for metrics."""

    by_state: Mapping[OrchestrationStatus, int]
    tasks_by_status: Mapping[TaskStatus, int]
    attempts: int
    average_makespan_seconds: float | None
    """Over finished orchestrations; None when there is none."""
    average_parallel_efficiency: float | None
    """In (0, 1], over finished orchestrations."""
    work_seconds: float
    cost: float
