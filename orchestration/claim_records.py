"""What storage keeps of work that is offered to agents: offers, claims, and what workers report.

May import: orchestration.models, stdlib. `ports.py` says what storage does with them.

An *offer* is a task anybody may take; there is one row per task that was ever offered. A *claim* is one worker's hold
of it, for as long as its lease lasts; each is an attempt of the task. Offers and claims are rows, not events, so that
any process can give one out in a single transaction; whoever drives the orchestration reads of it in its inbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestration.models import Json, OrchestrationId, TaskId, TaskStatus

ReportStatus: TypeAlias = Literal["progress", "done", "failed", "blocked", "release"]
"""What a worker says of its task. `blocked`: it can't be done as it stands; `release`: somebody else may do it."""

OfferState: TypeAlias = Literal["open", "claimed", "expired", "reported", "closed"]
"""`open`: anybody may take it. `claimed`: somebody has. `expired`: its claim ran out, and it is not offered anew yet.
`reported`: its worker is done with it, one way or another. `closed`: nothing is wanted of it any more."""

ClaimState: TypeAlias = Literal["active", "expired", "done", "failed", "blocked", "released", "revoked"]
"""`revoked`: the offer was closed, or offered anew, under it."""

KEEPS_OFFER: frozenset[TaskStatus] = frozenset(
    {TaskStatus.OFFERED, TaskStatus.CLAIMED, TaskStatus.READY, TaskStatus.RETRYING, TaskStatus.UNKNOWN}
)
"""Statuses of an agent's task in which its offer stays as it is; in all others it is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A task as it is offered, stored in the transaction of the event that offers it.

    It takes the place of an earlier offer of the task: a claim of that one which is still active is revoked.
    """

    task_id: TaskId
    number: int
    """Which offer of the task, counted from 1."""
    attempt: int
    """Number of the attempt that a claim of it is."""
    lease_seconds: float
    """How long a claim holds without a report."""
    skills: tuple[str, ...] = ()
    """What a worker must have; empty: anybody will do."""
    priority: int = 2
    """1 to 5; higher is taken first."""
    brief: str
    """What the worker is told, as text."""
    offered_at_us: int
    failed_by: tuple[str, ...] = ()
    """Workers whose earlier attempts failed or ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """What a worker that looks for work says."""

    worker: str
    claim_id: str
    """What its claim will be called; unique."""
    skills: tuple[str, ...] = ()
    orchestration_id: OrchestrationId | None = None
    """None: of whichever orchestration."""
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One worker's hold of a task."""

    claim_id: str
    orchestration_id: OrchestrationId
    task_id: TaskId
    number: int
    """Of the offer it is a claim of."""
    attempt: int
    worker: str
    state: ClaimState = "active"
    claimed_at_us: int
    expires_at_us: int
    """End of its lease, unless something is reported before."""
    lease_seconds: float
    brief: str = ""
    """What its worker was told; left out where offers are listed."""
    has_progress: bool = False
    """Whether its worker has reported that it had begun."""
    summary: str = ""
    """What its worker said last."""
    is_accepted: bool | None = None
    """Whether what was reported done was found to be; None while nobody has looked."""
    reason: str = ""
    """Why it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReport:
    """What a worker reports."""

    status: ReportStatus
    summary: str = ""
    output: Json = None
    evidence: tuple[str, ...] = ()
    """What shows that it is so: paths, addresses, commands and what they printed."""
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVerdict:
    """What became of a report, durable when it is returned."""

    is_accepted: bool
    claim: Claim
    """The claim as it is now."""
    control_id: int | None = None
    """The message to whoever drives the orchestration; None where it need not be told."""
    is_repeated: bool = False
    """Whether the same claim had ended before: this is what was said then, and nothing was done now."""
    is_late: bool = False
    """Whether its lease had run out, and nobody else had taken the task."""
    holder: str | None = None
    """Where it was refused: the worker that has the task now."""
    reason: str = ""
    """Where it was refused: `taken`, `cancelled`, `changed` or `settled`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNote:
    """A message to whoever drives an orchestration: a claim was made, or something of one reported."""

    claim_id: str
    task_id: TaskId
    number: int
    attempt: int
    worker: str
    report: ClaimReport | None = None
    """None: it was made."""
    has_begun: bool = False
    """Whether its worker had reported progress before."""
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """Whether what was reported done was found to be, stored with the event that says so."""

    claim_id: str
    is_accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferView:
    """An offer and the claim it is under, for those who look."""

    orchestration_id: OrchestrationId
    task_id: TaskId
    number: int
    attempt: int
    state: OfferState
    skills: tuple[str, ...]
    priority: int
    offered_at_us: int
    failed_by: tuple[str, ...]
    claim: Claim | None = None
    """The latest claim; its state tells whether it still holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTotals:
    """What workers have done, over all orchestrations or one."""

    claims: int = 0
    reported_done: int = 0
    accepted: int = 0
    refused: int = 0
    """Reported done, and found not to be."""
    expired: int = 0
    released: int = 0
    failed: int = 0
    """Reported failed or blocked."""
    by_worker: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Worker → claims, reported done, accepted."""
