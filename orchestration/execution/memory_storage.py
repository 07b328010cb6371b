"""The reference storage: everything in this process's memory, gone with it; runs on any anyio backend.

May import: orchestration.{models, ports, errors, engine.events, execution.storage_rules}, stdlib.

Atomic by having no await inside: a method checks everything before it changes anything. Records are
immutable, and the few that hold mutable containers are copied on the way in and out, so callers share
nothing with the store.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orchestration.engine.events import Event, OrchestrationSubmitted, PlanRevised, Recorded
from orchestration.errors import (
    IdempotencyConflictError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    StaleFencingTokenError,
    TaskNotFoundError,
)
from orchestration.execution.storage_rules import add_up, check_sequence, next_free_id
from orchestration.models import OrchestrationId, OrchestrationStatus, PlanId, TaskId, TaskStatus
from orchestration.ports import (
    Commit,
    Created,
    DriverIdentity,
    Lease,
    NewOrchestration,
    NewPlan,
    OrchestrationRecord,
    OrchestrationTotals,
    PlanRecord,
    Summary,
    TaskRow,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Stored:
    """One orchestration."""

    record: OrchestrationRecord
    request_sha256: str
    dag_json: bytes
    events: list[Recorded] = field(default_factory=list)
    tasks: dict[TaskId, TaskRow] = field(default_factory=dict)
    outputs: dict[TaskId, bytes] = field(default_factory=dict)
    by_position: list[TaskId] | None = None
    """Task ids in order; None when a task was added since."""

    def put_tasks(self, rows: Sequence[TaskRow]) -> None:
        for row in rows:
            known = self.tasks.get(row.task_id)
            if known is None or known.position != row.position:
                self.by_position = None
            self.tasks[row.task_id] = row

    def ordered_tasks(self) -> list[TaskRow]:
        if self.by_position is None:
            self.by_position = sorted(self.tasks, key=lambda task_id: self.tasks[task_id].position)
        return [self.tasks[task_id] for task_id in self.by_position]


class MemoryStorage:
    """State in memory: not durable, not shared with other processes."""

    def __init__(self) -> None:
        self._orchestrations: dict[OrchestrationId, _Stored] = {}
        self._keys: dict[str, OrchestrationId] = {}
        self._plans: dict[PlanId, PlanRecord] = {}
        self._last_numbers: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._artifacts: dict[str, bytes] = {}

    @property
    def location(self) -> str:
        """Where the state lives: `memory`."""
        return "memory"

    @property
    def is_durable(self) -> bool:
        """False: the state ends with the process."""
        return False

    async def open(self) -> None:
        """Do nothing; always ready."""

    async def aclose(self) -> None:
        """Do nothing; the state stays until the object goes."""

    # Plans

    async def save_plan(self, plan: NewPlan) -> PlanRecord:
        """Store a plan; see `Storage.save_plan`."""
        plan_id = self._new_id("plan", plan.base_id, self._plans)
        self._plans[plan_id] = PlanRecord(
            plan_id=plan_id,
            revision=1,
            goal=plan.goal,
            mode=plan.mode,
            context=copy.deepcopy(plan.context),
            dag_json=self._artifacts.setdefault(plan.dag_sha256, plan.dag_json),
            planner=plan.planner,
            thoughts=tuple(plan.thoughts),
            thinking_server=plan.thinking_server,
            notes=tuple(plan.notes),
            created_at_us=plan.created_at_us,
        )
        return await self.load_plan(plan_id)

    async def load_plan(self, plan_id: PlanId) -> PlanRecord:
        """Return a plan; see `Storage.load_plan`."""
        if plan_id not in self._plans:
            raise PlanNotFoundError(plan_id)
        stored = self._plans[plan_id]
        return replace(stored, context=copy.deepcopy(stored.context))

    # Orchestrations

    async def create_orchestration(self, new: NewOrchestration) -> Created:
        """Create an orchestration; see `Storage.create_orchestration`."""
        if new.key is not None and new.key in self._keys:
            first = self._orchestrations[self._keys[new.key]]
            if first.request_sha256 != new.request_sha256:
                raise IdempotencyConflictError(new.key, first.record.orchestration_id)
            return Created(record=_copy_record(first.record), lease=None)
        orchestration_id = new.orchestration_id
        if orchestration_id is None:
            orchestration_id = self._new_id("orchestration", new.base_id, self._orchestrations)
        elif orchestration_id in self._orchestrations:
            raise IdempotencyConflictError(orchestration_id, orchestration_id)
        record = OrchestrationRecord(
            orchestration_id=orchestration_id,
            key=new.key,
            goal=new.goal,
            mode=new.mode,
            dag_id=new.dag_id,
            dag_sha256=new.dag_sha256,
            plan_id=new.plan_id,
            created_at_us=new.created_at_us,
            updated_at_us=new.created_at_us,
            last_seq=len(new.first_events),
            holder=new.holder,
            token=1,
            summary=_copy_summary(new.summary),
        )
        stored = _Stored(record, new.request_sha256, self._artifacts.setdefault(new.dag_sha256, new.dag_json))
        stored.events = [
            Recorded(
                orchestration_id=orchestration_id, seq=seq, at_us=new.created_at_us, event=_copy_event(event)
            )
            for seq, event in enumerate(new.first_events, start=1)
        ]
        stored.put_tasks(new.tasks)
        self._orchestrations[orchestration_id] = stored
        if new.key is not None:
            self._keys[new.key] = orchestration_id
        lease = Lease(orchestration_id=orchestration_id, token=1, holder=new.holder)
        return Created(record=_copy_record(record), lease=lease)

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity], bool],
    ) -> Lease:
        """Take the lease; see `Storage.acquire_lease`."""
        stored = self._stored(orchestration_id)
        present = stored.record.holder
        if present is not None and present != holder and not is_gone(present):
            raise LeaseHeldError(orchestration_id, str(present))
        stored.record = replace(stored.record, holder=holder, token=stored.record.token + 1)
        return Lease(orchestration_id=orchestration_id, token=stored.record.token, holder=holder)

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; see `Storage.release_lease`."""
        stored = self._orchestrations.get(lease.orchestration_id)
        if stored is not None and stored.record.token == lease.token:
            stored.record = replace(stored.record, holder=None)

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch whole or not at all; see `Storage.append`."""
        ends: dict[OrchestrationId, int] = {}
        for commit in commits:
            lease = commit.lease
            stored = self._stored(lease.orchestration_id)
            if lease.token != stored.record.token:
                raise StaleFencingTokenError(lease.orchestration_id, lease.token, stored.record.token)
            last_seq = ends.get(lease.orchestration_id, stored.record.last_seq)
            check_sequence(commit, last_seq)
            ends[lease.orchestration_id] = last_seq + len(commit.events)
            for output in commit.outputs:
                if output.task_id not in stored.tasks and not _has_row(commits, commit.lease, output.task_id):
                    raise ValueError("A commit has the output of a task that has no row.")
        for commit in commits:
            self._apply(commit)

    def _apply(self, commit: Commit) -> None:
        stored = self._orchestrations[commit.lease.orchestration_id]
        stored.events += [_copy_recorded(recorded) for recorded in commit.events]
        stored.put_tasks(commit.tasks)
        for output in commit.outputs:
            shared = output.text if output.inline else self._artifacts.setdefault(output.sha256, output.text)
            stored.outputs[output.task_id] = shared
        stored.record = replace(
            stored.record,
            summary=_copy_summary(commit.summary),
            last_seq=stored.record.last_seq + len(commit.events),
            updated_at_us=commit.events[-1].at_us if commit.events else stored.record.updated_at_us,
        )

    async def load_orchestration(self, orchestration_id: OrchestrationId) -> OrchestrationRecord:
        """Return an orchestration's record; see `Storage.load_orchestration`."""
        return _copy_record(self._stored(orchestration_id).record)

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus] | None = None, limit: int = 100, offset: int = 0
    ) -> list[OrchestrationRecord]:
        """Return records, latest created first; see `Storage.list_orchestrations`."""
        records = [
            stored.record
            for stored in reversed(self._orchestrations.values())
            if states is None or stored.record.summary.state in states
        ]
        return [_copy_record(record) for record in _page(records, offset, limit)]

    async def load_dag(self, orchestration_id: OrchestrationId) -> bytes:
        """Return the DAG document; see `Storage.load_dag`."""
        return self._stored(orchestration_id).dag_json

    async def read_events(
        self, orchestration_id: OrchestrationId, *, after_seq: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """Return journal entries in order; see `Storage.read_events`."""
        stored = self._orchestrations.get(orchestration_id)
        if stored is None:
            return []
        return [_copy_recorded(recorded) for recorded in _page(stored.events, after_seq, limit)]

    async def load_tasks(
        self,
        orchestration_id: OrchestrationId,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        task_ids: Sequence[TaskId] | None = None,
        after_position: int = -1,
        limit: int = 1000,
    ) -> list[TaskRow]:
        """Return task rows by position; see `Storage.load_tasks`."""
        stored = self._orchestrations.get(orchestration_id)
        if stored is None:
            return []
        wanted = None if task_ids is None else set(task_ids)
        rows = [
            row
            for row in stored.ordered_tasks()
            if row.position > after_position
            and (statuses is None or row.status in statuses)
            and (wanted is None or row.task_id in wanted)
        ]
        return _page(rows, 0, limit)

    async def load_outputs(
        self, orchestration_id: OrchestrationId, task_ids: Sequence[TaskId]
    ) -> dict[TaskId, bytes]:
        """Return outputs by task; see `Storage.load_outputs`."""
        stored = self._orchestrations.get(orchestration_id)
        if stored is None:
            return {}
        return {task_id: stored.outputs[task_id] for task_id in task_ids if task_id in stored.outputs}

    def load_output_blocking(self, orchestration_id: OrchestrationId, task_id: TaskId) -> bytes:
        """Return one output; see `Storage.load_output_blocking`."""
        stored = self._orchestrations.get(orchestration_id)
        if stored is None or task_id not in stored.outputs:
            raise TaskNotFoundError(orchestration_id, task_id)
        return stored.outputs[task_id]

    async def load_totals(self, *, since_us: int | None = None) -> OrchestrationTotals:
        """Return sums over orchestrations; see `Storage.load_totals`."""
        return add_up(
            stored.record.summary
            for stored in self._orchestrations.values()
            if since_us is None or stored.record.created_at_us >= since_us
        )

    def _stored(self, orchestration_id: OrchestrationId) -> _Stored:
        try:
            return self._orchestrations[orchestration_id]
        except KeyError:
            raise OrchestrationNotFoundError(orchestration_id) from None

    def _new_id(self, kind: str, base_id: str, taken: dict[str, T]) -> str:
        last = self._last_numbers[kind, base_id]
        new_id, self._last_numbers[kind, base_id] = next_free_id(base_id, last, taken.__contains__)
        return new_id


def _has_row(commits: Sequence[Commit], lease: Lease, task_id: TaskId) -> bool:
    """Whether the batch itself brings the task's row."""
    return any(
        row.task_id == task_id
        for commit in commits
        if commit.lease.orchestration_id == lease.orchestration_id
        for row in commit.tasks
    )


def _page(items: list[T], offset: int, limit: int) -> list[T]:
    start = max(0, offset)
    return items[start : start + max(0, limit)]


def _copy_summary(summary: Summary) -> Summary:
    return replace(summary, counts=dict(summary.counts))


def _copy_record(record: OrchestrationRecord) -> OrchestrationRecord:
    return replace(record, summary=_copy_summary(record.summary))


def _copy_event(event: Event) -> Event:
    """Copy the two events that hold dictionaries; the rest are immutable through and through."""
    return copy.deepcopy(event) if isinstance(event, OrchestrationSubmitted | PlanRevised) else event


def _copy_recorded(recorded: Recorded) -> Recorded:
    event = _copy_event(recorded.event)
    return recorded if event is recorded.event else replace(recorded, event=event)
