"""What the orchestrator needs from the world, as Protocols and the plain records they exchange.

May import: orchestration.{claim_records, models, dag, records, engine.events, clock}, stdlib.
What storage exchanges stands in
`records.py` and `claim_records.py` and is named here, too.

Docstrings here are the specification: the in-memory reference and SQLite pass one contract suite
(`tests/contract/`), and so does every kind of system.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from orchestration.claim_records import (
    Claim,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    OfferState,
    OfferView,
)
from orchestration.clock import Clock
from orchestration.dag import TaskDAG
from orchestration.engine.events import Recorded
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
from orchestration.records import (
    CachedResult,
    CacheEntry,
    Commit,
    ControlAction,
    ControlAnswer,
    ControlRequest,
    Created,
    DriverIdentity,
    DriverView,
    Edit,
    Graft,
    History,
    Lease,
    Needs,
    NewOrchestration,
    NewPlan,
    OrchestrationRecord,
    OrchestrationTotals,
    PendingControl,
    PlanRecord,
    PlanRevision,
    Retained,
    Retention,
    ReusedOutput,
    Revision,
    StoredOutput,
    Summary,
    TaskRow,
    Thought,
)

__all__ = [
    "AttemptRequest",
    "AttemptResult",
    "CacheEntry",
    "CachedResult",
    "Claim",
    "ClaimReport",
    "ClaimRequest",
    "ClaimTotals",
    "ClaimVerdict",
    "Clock",
    "Commit",
    "ControlAction",
    "ControlAnswer",
    "ControlRequest",
    "Created",
    "DriverIdentity",
    "DriverView",
    "Edit",
    "Graft",
    "Health",
    "History",
    "Lease",
    "Needs",
    "NewOrchestration",
    "NewPlan",
    "OfferView",
    "OrchestrationRecord",
    "OrchestrationTotals",
    "PendingControl",
    "PlanPart",
    "PlanRecord",
    "PlanRevision",
    "Progress",
    "Replanner",
    "Retained",
    "Retention",
    "ReusedOutput",
    "Revision",
    "Storage",
    "StoredOutput",
    "StreamPlanner",
    "Summary",
    "System",
    "TaskRow",
    "ThinkingServer",
    "Thought",
    "ToolInfo",
]

# --- Storage ------------------------------------------------------------------------------------------------------


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

    async def load_plan(self, plan_id: PlanId, revision: int | None = None) -> PlanRecord:
        """Return a plan, as it is now or was in an earlier revision.

        Raises:
            PlanNotFoundError: There is no such plan, or it has no such revision.
        """
        ...

    async def revise_plan(self, plan_id: PlanId, revision: PlanRevision) -> PlanRecord:
        """Store a plan's next revision; the earlier ones stay.

        Raises:
            PlanNotFoundError: There is no such plan.
            RevisionConflictError: It has another revision than the expected one by now.
        """
        ...

    async def load_plan_revisions(self, plan_id: PlanId) -> list[Revision]:
        """Return the log of a plan's revisions, the first one included, in order.

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

    # Work that is offered to agents

    async def claim_offer(self, request: ClaimRequest) -> Claim | None:
        """Give a worker the offered task it should do next, and tell whoever drives it; None when there is none.

        One transaction: no two workers ever get one task. Only what is open, in an orchestration that goes on
        (running or planning), and whose `skills` the worker has all of. The most urgent first, then the one offered
        longest ago. What the worker failed or gave back itself comes after everything else, and only once every other
        worker that claimed anything in the last hour has done so, too, or it has been open for the length of its lease.
        The message is a pending CLAIM request with its `ClaimNote`; the claim holds from `now_us` for the lease the
        offer names.
        """
        ...

    async def report_claim(
        self, claim_id: str, report: ClaimReport, graft: Graft | None = None
    ) -> ClaimVerdict:
        """Take a worker's report, and store it with the message to whoever drives the orchestration: one transaction.

        Accepted while the offer is the claim's: it holds, or has run out and nobody else has taken the task (then it
        holds again). Where the task is offered anew by then, and open, `done`, `progress` and a `graft` make it a claim
        of that offer, and a CLAIM message goes before the report's; anything else is only noted.

        `progress` renews the lease, and is no message unless the lease had run out; `release` opens the offer at once;
        every other report, and one with a `graft`, ends the claim. After the end the same claim is answered as it was
        answered then (`is_repeated`). Otherwise refused, naming the worker that has the task now; what a refused report
        says is kept as the claim's summary. Accepted reports survive a power cut.

        Raises:
            ClaimNotFoundError: There is no such claim.
        """
        ...

    async def expire_claim(self, claim_id: str, *, now_us: int) -> Claim:
        """Let a claim that holds run out if its lease has ended by `now_us`, and return it as it stands then.

        Raises:
            ClaimNotFoundError: There is no such claim.
        """
        ...

    async def load_claim(self, claim_id: str) -> Claim:
        """Return a claim.

        Raises:
            ClaimNotFoundError: There is no such claim.
        """
        ...

    async def load_offers(
        self,
        orchestration_id: OrchestrationId | None = None,
        *,
        states: Sequence[OfferState] | None = None,
        limit: int = 1000,
    ) -> list[OfferView]:
        """Return offers, those of one orchestration or of all that have not ended, in the order they are given out."""
        ...

    async def load_claim_totals(self, orchestration_id: OrchestrationId | None = None) -> ClaimTotals:
        """Return what workers have done, in one orchestration or in all."""
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

    async def load_revisions(self, orchestration_id: OrchestrationId) -> list[Revision]:
        """Return the log of the revisions after the first, in order; empty when there are none, or it is unknown."""
        ...

    async def load_history(
        self, kinds: Sequence[tuple[str, str | None]]
    ) -> dict[tuple[str, str | None], History]:
        """Return, for those of `kinds` (system and tool) that completed tasks are of, what the latest of these took.

        Cheap, whatever the size of the state; reused and cached results and composites are not counted.
        """
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
class Progress:
    """How far an attempt says it has come."""

    done: float | None = None
    """In units of its own."""
    total: float | None = None
    """All of them; None where that is not known."""
    message: str = ""
    """What it is doing, in its own words: data of the system, shown and never interpreted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """An output with what it cost; a system that knows no cost returns the bare output."""

    output: object
    cost: float | None = None
    """In US dollars."""


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
    endpoint: str | None = None
    """The address a load balancer chose for this attempt; only systems that ask for one (`balanced_as`) get it."""
    driver: str = ""
    """Instance of the driver that runs it: what a dead driver left running is found by it."""
    heartbeat: Callable[[], None] = lambda: None
    """To be called when the work gives a sign of life; cheap, from any thread."""
    progress: Callable[[Progress], None] = lambda _: None
    """To be called with how far the work has come, which is a sign of life, too; cheap, from any thread."""

    @property
    def attempt_id(self) -> str:
        """Return the attempt's speaking id, `task#n`."""
        return f"{self.task.task_id}#{self.attempt}"


class System(Protocol):
    """Somewhere tasks run.

    `execute` is called from any number of anyio tasks at once and is cancelled to stop an attempt: it must then end
    the work as far as it can (kill the process group, close the request) before the cancellation leaves it.

    A system that runs in several instances may have a method `balanced_as(request) -> str | None`: the name a load
    balancer knows them by. What it chooses is the request's `endpoint`.
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
        """Run one attempt and return its output, anything pydantic can make JSON of, or an `AttemptResult`.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPart:
    """Some more tasks of a plan that is still being made; their upstreams are among them or were there before."""

    tasks: Sequence[TaskNode]
    edges: Sequence[TaskEdge] = ()


class StreamPlanner(Protocol):
    """Makes a plan and hands it out while it is being made."""

    def continue_plan(
        self,
        orchestration_id: OrchestrationId,
        goal: str,
        context: Mapping[str, Json],
        mode: OrchestrationMode,
        so_far: TaskDAG,
    ) -> AbstractAsyncContextManager[AsyncIterator[PlanPart]]:
        """Return the parts of a plan that are still missing; entered, iterated and left in one anyio task.

        Args:
            orchestration_id: Whose plan it is.
            goal: What it is for.
            context: What is known beside the goal.
            mode: How it runs.
            so_far: The tasks that are there, and stay as they are.
        """
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
