"""The plans that the storage in memory keeps, each with its revisions.

May import: orchestration.{errors, models, ports, execution.storage_rules}, stdlib.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from orchestration.errors import PlanNotFoundError
from orchestration.execution.storage_rules import first_revision, next_revision, no_such_revision
from orchestration.models import PlanId
from orchestration.ports import NewPlan, PlanRecord, PlanRevision, Revision


@dataclass(slots=True)
class _Stored:
    """A plan as it is now, and what it was in each revision."""

    record: PlanRecord
    log: list[Revision]
    documents: list[bytes]
    """The DAG of each revision; the first one's at 0."""


class MemoryPlans:
    """Plans by their ids.

    Args:
        artifacts: Documents by their hash, shared with whoever else keeps some.
    """

    def __init__(self, artifacts: dict[str, bytes]) -> None:
        self._artifacts = artifacts
        self._stored: dict[PlanId, _Stored] = {}

    def __contains__(self, plan_id: PlanId) -> bool:
        return plan_id in self._stored

    def documents(self) -> Iterator[bytes]:
        """Yield the DAG of every revision of every plan."""
        for stored in self._stored.values():
            yield from stored.documents

    def save(self, plan_id: PlanId, plan: NewPlan) -> PlanRecord:
        """Store a plan under its new id."""
        dag_json = self._share(plan.dag_sha256, plan.dag_json)
        record = PlanRecord(
            plan_id=plan_id,
            revision=1,
            goal=plan.goal,
            mode=plan.mode,
            context=copy.deepcopy(plan.context),
            dag_json=dag_json,
            planner=plan.planner,
            thoughts=tuple(plan.thoughts),
            thinking_server=plan.thinking_server,
            notes=tuple(plan.notes),
            created_at_us=plan.created_at_us,
        )
        self._stored[plan_id] = _Stored(record, [first_revision(plan)], [dag_json])
        return self.load(plan_id)

    def revise(self, plan_id: PlanId, revision: PlanRevision) -> PlanRecord:
        """Store the next revision; see `Storage.revise_plan`."""
        stored = self._find(plan_id)
        made = next_revision(plan_id, stored.record.revision, revision)
        dag_json = self._share(revision.dag_sha256, revision.dag_json)
        stored.log.append(made)
        stored.documents.append(dag_json)
        stored.record = replace(stored.record, revision=made.revision, dag_json=dag_json)
        return self.load(plan_id)

    def load(self, plan_id: PlanId, revision: int | None = None) -> PlanRecord:
        """Return a plan, with containers of its own; see `Storage.load_plan`."""
        stored = self._find(plan_id)
        found = replace(stored.record, context=copy.deepcopy(stored.record.context))
        if revision is None:
            return found
        if not 0 < revision <= found.revision:
            raise no_such_revision(plan_id, revision)
        return replace(found, revision=revision, dag_json=stored.documents[revision - 1])

    def log(self, plan_id: PlanId) -> list[Revision]:
        """Return the log of a plan; see `Storage.load_plan_revisions`."""
        return list(self._find(plan_id).log)

    def remove_unused(self, before_us: int, named: Collection[PlanId | None]) -> int:
        """Remove plans last revised by an instant that nothing names, and return how many they were."""
        unused = [
            plan_id
            for plan_id, stored in self._stored.items()
            if plan_id not in named and max(made.at_us for made in stored.log) <= before_us
        ]
        for plan_id in unused:
            del self._stored[plan_id]
        return len(unused)

    def _find(self, plan_id: PlanId) -> _Stored:
        try:
            return self._stored[plan_id]
        except KeyError:
            raise PlanNotFoundError(plan_id) from None

    def _share(self, sha256: str, document: bytes) -> bytes:
        return self._artifacts.setdefault(sha256, document)
