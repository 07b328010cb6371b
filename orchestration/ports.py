"""What the orchestrator needs from the world, as Protocols and the plain records they exchange.

May import: orchestration.{models, dag, engine.events, engine.inputs, clock}, stdlib.

Docstrings here are the specification: the in-memory reference and SQLite pass one contract suite
(`tests/contract/`), and so does every kind of system.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from orchestration.clock import Clock
from orchestration.dag import TaskDAG
from orchestration.engine.events import Event, Recorded
from orchestration.engine.inputs import DecisionKind
from orchestration.models import (
    ErrorRecord,
    Json,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    PlanId,
    TaskId,
    TaskNode,
    TaskStatus,
)

__all__ = [
    "AttemptRequest",
    "CacheEntry",
    "CachedResult",
    "Clock",
    "Commit",
    "ControlAction",
    "ControlAnswer",
    "ControlRequest",
    "Created",
    "DriverIdentity",
    "DriverView",
    "Health",
    "Lease",
    "Needs",
    "NewOrchestration",
    "NewPlan",
    "OrchestrationRecord",
    "OrchestrationTotals",
    "PendingControl",
    "PlanRecord",
    "Replanner",
    "Retained",
    "Retention",
    "ReusedOutput",
    "Storage",
    "StoredOutput",
    "Summary",
    "System",
    "TaskRow",
    "ThinkingServer",
    "Thought",
    "ToolInfo",
]

# --- Storage ------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """A request to whoever drives an orchestration."""

    action: ControlAction
    task_ids: tuple[TaskId, ...] = ()
    """RETRY: the tasks, all failed ones when empty. DECIDE: exactly one."""
    decision: DecisionKind | None = None
    """With DECIDE."""
    output: Json = None
    """With the decision `done`: the task's output."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedOutput:
    """An output that a new orchestration takes over from an earlier one."""

    task_id: TaskId
    from_orchestration: OrchestrationId
    from_task: TaskId


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


class Storage(Protocol):
    """The durable state: plans, orchestrations, their journals, outputs and leases.

    All methods may be called concurrently. Unless a method says otherwise it is atomic: after an exception, and
    after the process dies inside it, nothing of it is stored. Every method raises `StorageUnavailableError` when the
    database is locked for longer than the busy timeout, read-only, full or gone, and `CorruptRecordError` when what
    is stored can't be understood.
    """

    @property
    def location(self) -> str:
        """Where the state lives, for people: a path, or `memory`."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether the state outlives the process, and other processes see it."""
        ...

    async def open(self) -> None:
        """Make ready; idempotent, and called by every method on demand.

        Raises:
            SchemaVersionError: The database was made by a newer version; it is left untouched.
        """
        ...

    async def aclose(self) -> None:
        """Release everything; idempotent. A later call of any method opens again."""
        ...

    # Plans

    async def save_plan(self, plan: NewPlan) -> PlanRecord:
        """Store a plan under a new id made of its `base_id` and a number."""
        ...

    async def load_plan(self, plan_id: PlanId) -> PlanRecord:
        """Return a plan.

        Raises:
            PlanNotFoundError: There is no such plan.
        """
        ...

    # Orchestrations

    async def create_orchestration(self, new: NewOrchestration) -> Created:
        """Create an orchestration with its DAG, first events, task rows, summary and a lease for `new.holder`.

        Ids are `base_id-N`, N counting up per `base_id` and never reused.

        Raises:
            IdempotencyConflictError: The key was used with another `request_sha256`, or the chosen id is taken.
        """
        ...

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity, DriverView | None], bool],
    ) -> Lease:
        """Take the lease, with a token one higher than any before.

        Granted when nobody holds it, when `holder` itself does, or when `is_gone(present holder, its heartbeats)`; the
        question is asked, and the lease taken, in one transaction.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            LeaseHeldError: Somebody else holds it.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; nothing happens when its token is no longer current."""
        ...

    async def renew_leases(
        self, holder: DriverIdentity, leases: Sequence[Lease], *, lease_seconds: float, now_us: int
    ) -> list[OrchestrationId]:
        """Count one heartbeat of `holder`, and return those of `leases` whose token is no longer current."""
        ...

    async def retire_driver(self, holder: DriverIdentity) -> None:
        """Forget a driver that has ended in order: its heartbeats are no longer counted."""
        ...

    async def list_unfinished(self) -> list[OrchestrationRecord]:
        """Return the record of every orchestration that has not ended, oldest first."""
        ...

    async def change_count(self) -> int:
        """Return a number that differs from the one before whenever another process has changed the state since.

        Cheap, whatever the size of the state: it may be asked several times a second.
        """
        ...

    # Control of what another process drives

    async def send_control(
        self, orchestration_id: OrchestrationId, request: ControlRequest, *, sent_at_us: int
    ) -> int:
        """Store a request for whoever drives an orchestration, and return its id; it survives a power cut.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        ...

    async def pending_controls(self) -> list[PendingControl]:
        """Return every request nobody has answered, oldest first."""
        ...

    async def load_control_answer(self, control_id: int) -> ControlAnswer | None:
        """Return what became of a request; None while nobody has answered it, or when there is none."""
        ...

    async def withdraw_control(self, control_id: int) -> bool:
        """Take a request back; False when it was answered already, and then nothing happens."""
        ...

    # Results used again

    async def load_cached(self, key: str, *, now_us: int) -> CachedResult | None:
        """Return the output stored under a cache key; None when there is none, or it has expired by `now_us`."""
        ...

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store everything in `commits` as one transaction, in order; the only way an orchestration advances.

        A commit may have no events: answers alone are stored under the same check of its token.

        Raises:
            StaleFencingTokenError: A commit's token is not current; nothing at all was stored.
        """
        ...

    async def load_orchestration(self, orchestration_id: OrchestrationId) -> OrchestrationRecord:
        """Return an orchestration's record.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        ...

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus] | None = None, limit: int = 100, offset: int = 0
    ) -> list[OrchestrationRecord]:
        """Return records, latest created first, optionally only of some states."""
        ...

    async def load_dag(self, orchestration_id: OrchestrationId) -> bytes:
        """Return the DAG document the orchestration was created with.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        ...

    async def read_events(
        self, orchestration_id: OrchestrationId, *, after_seq: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """Return up to `limit` journal entries after `after_seq`, in order; empty at the end or when unknown."""
        ...

    async def load_tasks(
        self,
        orchestration_id: OrchestrationId,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        task_ids: Sequence[TaskId] | None = None,
        after_position: int = -1,
        limit: int = 1000,
    ) -> list[TaskRow]:
        """Return task rows by position; optionally only of some statuses or ids. Empty when unknown."""
        ...

    async def load_outputs(
        self, orchestration_id: OrchestrationId, task_ids: Sequence[TaskId]
    ) -> dict[TaskId, bytes]:
        """Return the outputs of those tasks that have one, as JSON in UTF-8, whether stored inline or by hash."""
        ...

    def load_output_blocking(self, orchestration_id: OrchestrationId, task_id: TaskId) -> bytes:
        """Return one output as JSON in UTF-8, on the caller's thread; for results that are read after the run.

        Raises:
            TaskNotFoundError: The task has no output.
        """
        ...

    async def load_totals(self, *, since_us: int | None = None) -> OrchestrationTotals:
        """Return sums over all orchestrations created at or after `since_us`."""
        ...

    # Housekeeping

    async def retain(self, retention: Retention, *, now_us: int) -> Retained:
        """Do one bounded round of housekeeping, in short transactions: compress, remove, let expired results go.

        Only what has ended and whose lease nobody holds is touched. A compressed journal reads as before. What is
        removed is as if it had never been, but for its id, which is not given again; documents and outputs go with the
        last orchestration, plan or cache entry that names them.
        """
        ...

    async def backup(self, path: Path) -> int:
        """Write a consistent copy of the state, as of one moment, into a new file, and return its size in bytes.

        Others may go on writing meanwhile.

        Raises:
            StorageUnavailableError: The file exists already or can't be written, or this storage can't be copied.
        """
        ...


# --- Systems ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolInfo:
    """One thing a system can do."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a system answered when it was checked."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """Everything a system is told about one attempt."""

    orchestration_id: OrchestrationId
    task: TaskNode
    attempt: int
    """Counted from 1."""
    idempotency_key: str
    """The same for all automatic attempts of the task."""
    tool: str | None
    """As `choose_tool` answered."""
    arguments: JsonObject
    """With every `${…}` put in."""
    inputs: Mapping[TaskId, Json] = field(default_factory=dict)
    """Output, or its required keys, of each delivering upstream; empty unless `takes_inputs`."""
    context: Mapping[str, Json] = field(default_factory=dict)
    """The orchestration's context."""
    goal: str = ""
    preference: str = "auto"
    """The task's own `system_preference`: a controller may serve several names."""
    timeout_seconds: float | None = None
    """The limit the engine enforces from outside; for systems that can pass one on."""
    driver: str = ""
    """Instance of the driver that runs it: what a dead driver left running is found by it."""
    heartbeat: Callable[[], None] = lambda: None
    """To be called when the work gives a sign of life; cheap, from any thread."""

    @property
    def attempt_id(self) -> str:
        """Return the attempt's speaking id, `task#n`."""
        return f"{self.task.task_id}#{self.attempt}"


class System(Protocol):
    """Somewhere tasks run.

    `execute` is called from any number of anyio tasks at once and is cancelled to stop an attempt: it must then end
    the work as far as it can (kill the process group, close the request) before the cancellation leaves it.
    """

    name: str
    kind: str

    async def open(self) -> None:
        """Prepare; called once before the first attempt, inside the task group that closes the system. May be lazy."""
        ...

    async def aclose(self) -> None:
        """End connections and children; idempotent."""
        ...

    async def list_tools(self) -> list[ToolInfo]:
        """Return what it can run. May connect.

        Raises:
            SystemUnavailableError: It can't be asked now.
        """
        ...

    async def choose_tool(self, task: TaskNode) -> str | None:
        """Return the tool that would run the task, or None when the system needs none.

        Raises:
            InvalidArgumentError: The system can't run this task; says what it could.
        """
        ...

    def takes_inputs(self, tool: str | None) -> bool:
        """Whether `execute` wants `inputs` for this tool; when not, they are not even loaded."""
        ...

    async def execute(self, request: AttemptRequest) -> object:
        """Run one attempt and return its output, anything pydantic can make JSON of.

        Raises:
            AttemptError: It failed; says whether repeating can help. Any other exception counts as a failure with
                the code of its class, retryable unless it means a mistake in the program (`systems.base`).
        """
        ...

    async def check(self) -> Health:
        """Say whether it could run something now; never raises for an unreachable system."""
        ...


# --- Planning -----------------------------------------------------------------------------------------------------


class ThinkingServer(Protocol):
    """Takes the thoughts of one plan, as the Sequential Thinking MCP server's tool does."""

    kind: str
    """`process` or `in-process`."""
    replaced_because: str | None
    """Why another kind of server than the one asked for takes the thoughts; None when it is that one."""

    async def think(self, thought: Thought, *, total: int, more: bool) -> None:
        """Send one thought.

        Raises:
            SystemUnavailableError: The server is gone; the plan goes on without it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeRequest:
    """What a replanner is told about a failed task."""

    orchestration_id: OrchestrationId
    task: TaskNode
    error: ErrorRecord
    goal: str
    context: Mapping[str, Json]
    inputs: Mapping[TaskId, Json]
    completed: Sequence[TaskId]
    systems: Sequence[str]


class Replanner(Protocol):
    """Makes alternative plans."""

    async def alternative(self, request: AlternativeRequest) -> TaskDAG | None:
        """Return a sub-DAG that delivers what the task should have, or None when there is none."""
        ...


@runtime_checkable
class SequentialThinking(Protocol):
    """The caller's planning collaborator; both methods are optional and found by name."""

    def analyze_task_decomposition(
        self, *, goal: str, context: Mapping[str, Json], complexity_threshold: float
    ) -> Awaitable[Mapping[str, Any]] | Mapping[str, Any]:
        """Return `{"tasks": [fields…, "depends_on": […]], "edges"?: […], "thoughts"?: […]}`."""
        ...


Listener = Callable[[Recorded], Awaitable[None] | None]
"""Told of every event after it is durable; a slow or failing listener never holds an orchestration up."""
