"""The durable state of a schedule: one journal with its fencing token, heartbeats, requests, cache and outputs.

It plays the `Storage` port, without waiting: each call is atomic, an append checks its token first. Beside the journal
it keeps what the journal adds up to (`folded`), so that whoever drives can be compared with it after every commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestration.claim_records import Claim, ClaimRequest, Offer
from orchestration.engine.events import Recorded
from orchestration.engine.inputs import ReportClaim
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State, replay
from orchestration.errors import LeaseHeldError, StaleFencingTokenError
from orchestration.execution.claim_rules import GIVES_OUT
from orchestration.execution.memory_claims import MemoryClaims
from orchestration.execution.memory_inbox import MemoryInbox
from orchestration.execution.requests import Request, input_of
from orchestration.execution.views import row_of, summary_of
from orchestration.models import OrchestrationId, TaskId
from orchestration.options import Limits
from orchestration.ports import Commit, ControlRequest, DriverIdentity, DriverView, Lease
from tests.simulation.graphs import ID, SYSTEM, Story, Value

MayTake = Callable[[DriverIdentity, DriverView | None], bool]


@dataclass(slots=True)
class Control:
    """Something a person asked for, or a worker did or said."""

    item: Request
    is_stored: bool
    """Whether it lies in the shared inbox; else whoever received it carries it out."""
    is_withdrawn: bool = False
    value: Value | None = None
    """The output that a worker's report brings."""
    is_plain: bool = False
    """Whether all there was to do was to begin driving."""
    answers: list[bool] = field(default_factory=list)
    """Committed answers, True for what was done; at most one."""

    @property
    def is_open(self) -> bool:
        return not self.answers and not self.is_withdrawn


@dataclass(frozen=True, slots=True)
class Cached:
    """An output that equal tasks may use."""

    value: Value
    source: str
    expires_at_us: int


@dataclass(slots=True)
class Batch:
    """What a driver adds to the journal in one transaction."""

    events: list[Recorded] = field(default_factory=list)
    outputs: dict[TaskId, Value] = field(default_factory=dict)
    cached: dict[str, Cached] = field(default_factory=dict)
    answers: list[tuple[Control, bool]] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.answers


class Messages(MemoryInbox):
    """Where messages of claims go: among the requests of people, in order."""

    def __init__(self, controls: list[Control]) -> None:
        super().__init__()
        self._among = controls

    def send(self, orchestration_id: OrchestrationId, request: ControlRequest, sent_at_us: int) -> int:
        """Store a message as what it means to the engine."""
        item, _ = input_of(orchestration_id, request, Limits(), jitter=0.5)
        value = None
        if isinstance(item, ReportClaim) and item.output is not None:
            value = Value(item.value, item.output)
        self._among.append(Control(item, is_stored=True, value=value))
        return len(self._among)


class Store:
    """The shared file.

    Args:
        story: What the orchestration begins with.
        on_event: Told of every entry, with the token it was stored under, before it is folded in.
        on_folded: Told when it has been.
    """

    def __init__(
        self, story: Story, on_event: Callable[[Recorded, int], None], on_folded: Callable[[], None]
    ) -> None:
        self.journal: list[Recorded] = []
        self.folded = State(ID, story.dag)
        self.token = 1
        self.holder: DriverIdentity | None = None
        self.outputs: dict[TaskId, Value] = dict(story.reused)
        self.cache: dict[str, Cached] = {}
        self.controls: list[Control] = []
        self.fenced = 0
        """Appends that were refused because their token was old."""
        self.desk = MemoryClaims(Messages(self.controls))
        """Offers and claims."""
        self._drivers: dict[str, DriverView] = {}
        self._scheduler = AdaptiveTaskScheduler(SlotPool(1))
        self._on_event = on_event
        self._on_folded = on_folded
        self._first = story.first

    def begin(self) -> None:
        """Store what a submission stores."""
        self._add(list(self._first))

    # Leases

    def acquire(self, holder: DriverIdentity, may_take: MayTake) -> Lease:
        """Take the lease, with a token one higher than any before."""
        present = self.holder
        if present is not None and present != holder and not may_take(present, self.view_of(present)):
            raise LeaseHeldError(ID, str(present))
        self.holder = holder
        self.token += 1
        return Lease(orchestration_id=ID, token=self.token, holder=holder)

    def release(self, lease: Lease) -> None:
        if lease.token == self.token:
            self.holder = None

    def beat(self, holder: DriverIdentity, lease: Lease, seconds: float) -> bool:
        """Count a heartbeat; False when the lease was lost."""
        known = self._drivers.get(holder.instance)
        self._drivers[holder.instance] = DriverView(
            identity=holder, beats=known.beats + 1 if known else 1, lease_seconds=seconds, beat_at_us=0
        )
        return lease.token == self.token

    def view_of(self, holder: DriverIdentity) -> DriverView | None:
        return self._drivers.get(holder.instance)

    # The journal

    def replay(self) -> State:
        """Return what the journal adds up to, as whoever takes over gets it."""
        return replay(ID, self.folded.dag, self.journal)

    def append(self, lease: Lease, batch: Batch) -> None:
        """Store a batch, all of it or nothing."""
        if lease.token != self.token:
            self.fenced += 1
            raise StaleFencingTokenError(ID, lease.token, self.token)
        self.outputs |= batch.outputs
        self.cache |= batch.cached
        self._add(batch.events, lease, batch.offers)
        for control, is_done in batch.answers:
            if not control.is_withdrawn:
                control.answers.append(is_done)

    def _add(self, events: list[Recorded], lease: Lease | None = None, offers: Sequence[Offer] = ()) -> None:
        for entry in events:
            self._on_event(entry, self.token)
            self.journal.append(entry)
            self.folded.evolve(entry)
            self._on_folded()
        self.folded.newly_ready.clear()
        self.folded.newly_dead.clear()
        self.folded.newly_closed.clear()
        if lease is not None:
            commit = Commit(
                lease=lease,
                events=events,
                tasks=[row_of(self.folded.tasks[task_id]) for task_id in self.folded.touched],
                outputs=(),
                summary=summary_of(self.folded, self._scheduler),
                offers=offers,
            )
            self.desk.apply(commit)
        self.folded.touched.clear()

    # The rest

    def claim(self, request: ClaimRequest) -> Claim | None:
        """Give a worker what it should do next."""
        return self.desk.claim(request, [ID] if self.folded.status in GIVES_OUT else [])

    def pending(self) -> list[Control]:
        """Return the stored requests nobody has answered, oldest first."""
        return [control for control in self.controls if control.is_stored and control.is_open]

    def load_cached(self, key: str, now_us: int) -> Cached | None:
        found = self.cache.get(key)
        return found if found is not None and found.expires_at_us > now_us else None


class StandIn:
    """The one system of a schedule, as far as the cache's key wants to know it."""

    name = SYSTEM
    kind = "function"

    def fingerprint(self, tool: str | None) -> str:
        return f"{self.name}/{tool}"
