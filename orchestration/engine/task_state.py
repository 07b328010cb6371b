"""One task and its edges at one instant, and how far they came: the parts a `State` is made of.

May import: orchestration.{fallbacks, models}, orchestration.engine.{events, inputs}, stdlib. They change only in
`State.evolve`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestration.engine.events import StopReason
from orchestration.engine.inputs import OutputRef
from orchestration.fallbacks import fallback_nodes
from orchestration.models import SETTLED, ErrorRecord, TaskEdge, TaskId, TaskNode, TaskStatus

_SUFFIX = re.compile(r"(\$\{\s*[A-Za-z0-9][A-Za-z0-9_-]*)~[0-9]{1,3}")
"""The `~n` of the task that a reference names."""


@dataclass(slots=True)
class EdgeState:
    """An edge and what became of it."""

    edge: TaskEdge
    source: TaskId
    """The present upstream end: `edge.source_task_id`, or the task that replaced it."""
    target: TaskId
    delivers: bool | None = None
    """None until the upstream settles."""

    @property
    def needs_checking(self) -> bool:
        """Whether its fate depends on more than the upstream's outcome."""
        return self.edge.condition is not None or bool(self.edge.data_requirements)


@dataclass(slots=True)
class TaskState:
    """A task and how far it came."""

    node: TaskNode
    position: int
    system: str
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    """Number of the latest attempt; 0 before the first."""
    generation: int = 1
    """Part of the idempotency key; grows with each explicit retry."""
    failures: int = 0
    """Attempts of this generation that used up a retry; an interrupted one does not."""
    undecided: int = 0
    dead: int = 0
    """Required incoming edges that are dead."""
    incoming: list[EdgeState] = field(default_factory=list)
    outgoing: list[EdgeState] = field(default_factory=list)
    started_at_us: int | None = None
    """Start of the latest attempt."""
    finished_at_us: int | None = None
    duration_us: int = 0
    due_at_us: int | None = None
    """End of the back-off, while retrying."""
    stopping: StopReason | None = None
    """Why the running attempt was asked to stop."""
    error: ErrorRecord | None = None
    output: OutputRef | None = None
    is_reused: bool = False
    """Whether its output was there already, and no attempt of this orchestration made it."""
    is_open: bool = False
    """Whether it must not be repeated, and nobody knows what became of its latest attempt."""
    is_unclear: bool = False
    """Whether `verify` could not say what became of the latest attempt."""
    note: str | None = None
    paused_by: set[TaskId] = field(default_factory=set)
    """Upstreams being replanned that hold this task."""
    others: tuple[str, ...] = ()
    """Further systems that can do the same, best first."""
    chosen_because: str = ""
    """Why the router chose its system, where it had the choice."""
    fallback_systems: tuple[str, ...] = ()
    """Where each of its nested fallbacks goes, outermost first."""
    fallbacks: int = 0
    """How many of them have taken over."""
    primary: TaskNode | None = None
    """What it was before its first fallback took over."""
    home: tuple[str, tuple[str, ...]] | None = None
    """Where it went first, and which others could do it, once it has gone on elsewhere; None before."""
    asked_digest: str | None = None
    """Of what somebody is asked to agree to."""
    approved_digest: str | None = None
    """Of what somebody agreed to."""
    is_asked: bool = False
    """Whether whoever submitted it is asked how to go on, for nobody had an alternative."""
    is_composite: bool = False
    """Whether its children do its work."""
    is_expanded: bool = False
    """Whether its children have begun."""
    children: list[TaskId] = field(default_factory=list)
    """Its parts, with the tasks of alternatives in their places."""
    open_children: int = 0
    """Children that have not settled."""
    items: int | None = None
    """How many items a `foreach` had when it began."""
    index: int | None = None
    """Which item it is for."""
    offers: int = 0
    """Times it was offered to agents."""
    claim: str | None = None
    """Its latest claim; a late report of it counts until somebody else takes the task."""
    worker: str | None = None
    """Whose claim that is."""
    claimed: tuple[int, str] | None = None
    """The attempt and the claim of whoever took it last, whatever the task has become since."""
    lease_seconds: float = 0.0
    """How long a claim of it holds without a report."""
    reported: OutputRef | None = None
    """What its worker says it has delivered, while that is looked at."""
    failed_by: tuple[str, ...] = ()
    """Workers whose attempts of this generation failed or ran out."""
    replans: int = 0
    """Alternatives tried in this place before this task."""
    tried: frozenset[str] = frozenset()
    """Fingerprints of everything tried in this place, this task's own alternative included."""

    @property
    def is_settled(self) -> bool:
        """Whether it has its outcome."""
        return self.status in SETTLED

    @property
    def all_tried(self) -> frozenset[str]:
        """Fingerprints of everything tried in this place, each way this task itself was tried included."""
        first = self.primary or self.node
        ways = [first, *fallback_nodes(first)[: self.fallbacks]]
        return self.tried | {fingerprint([way]) for way in ways}

    @property
    def never_ran(self) -> bool:
        """Whether its edges alone settled it: it was skipped, or failed because one could not be decided."""
        return self.status is TaskStatus.SKIPPED or (self.status is TaskStatus.FAILED and self.dead > 0)


def fingerprint(tasks: Iterable[TaskNode]) -> str:
    """Return what tells two alternatives apart: what is done where, not how it is called.

    The `~n` of a reference is left out: it says which alternative a task is of, not what it does.
    """
    parts: list[Mapping[str, object]] = [
        {"on": node.system_preference, "tool": node.tool, "with": node.arguments, "what": node.description}
        for node in tasks
    ]
    text = json.dumps(sorted(json.dumps(part, sort_keys=True) for part in parts))
    return hashlib.sha256(_SUFFIX.sub(r"\1", text).encode()).hexdigest()
