"""What has revisions: plans and orchestrations, found by name, with their logs and their graphs of any revision.

May import: orchestration.{dag, dag_file, errors, ports}, orchestration.engine.{events, graph, state},
orchestration.execution.recovery, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_from_json
from orchestration.engine.events import PlanEdited, PlanRevised, Recorded
from orchestration.engine.graph import present_graph
from orchestration.engine.state import State, replay
from orchestration.errors import InvalidArgumentError, OrchestrationNotFoundError, PlanNotFoundError
from orchestration.execution.recovery import load_state
from orchestration.ports import OrchestrationRecord, PlanRecord, Revision, Storage

_PAGE = 10_000
"""Events read at once."""


class TargetKind(StrEnum):
    """What has revisions."""

    PLAN = "plan"
    ORCHESTRATION = "orchestration"


@dataclass(frozen=True, slots=True)
class Target:
    """A plan or an orchestration somebody named."""

    kind: TargetKind
    name: str
    plan: PlanRecord | None = None
    orchestration: OrchestrationRecord | None = None

    @property
    def revision(self) -> int:
        """Return the present one."""
        if self.plan is not None:
            return self.plan.revision
        assert self.orchestration is not None, "it is the one or the other"
        return self.orchestration.summary.revision


async def find_target(storage: Storage, name: str) -> Target:
    """Return what a name means; `plan:NAME` and `orchestration:NAME` say which, should there be both.

    Raises:
        InvalidArgumentError: There is a plan and an orchestration of this name.
        OrchestrationNotFoundError, PlanNotFoundError: There is none.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidArgumentError("target", name, "the id of a plan or an orchestration")
    kind, separator, rest = name.strip().partition(":")
    wanted = TargetKind(kind) if separator and kind in set(TargetKind) else None
    name = rest if wanted is not None else name.strip()
    plan = orchestration = None
    if wanted is not TargetKind.ORCHESTRATION:
        try:
            plan = await storage.load_plan(name)
        except PlanNotFoundError:
            if wanted is not None:
                raise
    if wanted is not TargetKind.PLAN:
        try:
            orchestration = await storage.load_orchestration(name)
        except OrchestrationNotFoundError:
            if plan is None:
                raise
    if plan is not None and orchestration is not None:
        fix = f"Write plan:{name} or orchestration:{name}."
        raise InvalidArgumentError("target", name, "a name that only one thing has", fix)
    return Target(TargetKind.ORCHESTRATION if plan is None else TargetKind.PLAN, name, plan, orchestration)


async def load_log(storage: Storage, target: Target) -> list[Revision]:
    """Return the log of a target's revisions, the first one included, in order."""
    if target.plan is not None:
        return await storage.load_plan_revisions(target.name)
    record = target.orchestration
    assert record is not None, "it is the one or the other"
    first = Revision(
        revision=1,
        by=record.plan_id or "submission",
        reason="",
        at_us=record.created_at_us,
        told="what it began with",
        seq=1,
    )
    return [first, *await storage.load_revisions(target.name)]


@dataclass(frozen=True, slots=True)
class Looked:
    """A target as it is now."""

    target: Target
    dag: TaskDAG
    """With the present statuses of an orchestration's tasks; what was replaced or removed is left out."""
    log: list[Revision]


async def look_at(storage: Storage, name: str) -> Looked:
    """Return what a name means, as it is now; what an edit is made for.

    Raises:
        InvalidArgumentError: There is a plan and an orchestration of this name.
        OrchestrationNotFoundError, PlanNotFoundError: There is none.
    """
    target = await find_target(storage, name)
    if target.plan is not None:
        dag = dag_from_json(target.plan.dag_json)
    else:
        dag = present_graph(await load_state(storage, target.name))
    return Looked(target, dag, await load_log(storage, target))


class Journal:
    """An orchestration's journal, to be replayed up to any revision."""

    def __init__(self, orchestration_id: str, dag: TaskDAG) -> None:
        self._id = orchestration_id
        self._dag = dag
        self._events: list[Recorded] = []

    async def read(self, storage: Storage) -> None:
        """Read it, as far as it goes now."""
        after = 0
        while page := await storage.read_events(self._id, after_seq=after, limit=_PAGE):
            self._events += page
            after = page[-1].seq

    def state(self, revision: int | None = None) -> State:
        """Return a state of its own: of now, or of the last moment at which a revision was the present one."""
        until = None if revision is None else self._end(revision)
        return replay(self._id, self._dag.copy(), self._events[:until])

    def since(self, revision: int) -> Sequence[Recorded]:
        """Return what came after a revision was the present one."""
        return self._events[self._end(revision) :]

    def _end(self, revision: int) -> int:
        for index, recorded in enumerate(self._events):
            event = recorded.event
            if isinstance(event, PlanEdited | PlanRevised) and event.revision > revision:
                return index
        return len(self._events)
