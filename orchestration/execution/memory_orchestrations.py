"""Orchestrations in this process's memory: how they come into being, are leased, advance, and go.

May import: orchestration.{models, ports, errors, engine.events}, orchestration.execution.{history, memory_claims,
memory_drivers, memory_inbox, memory_plans, memory_records, storage_rules}, stdlib.

Atomic by having no await inside: a method checks everything before it changes anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestration.engine.events import Recorded
from orchestration.errors import (
    IdempotencyConflictError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    StaleFencingTokenError,
    TaskNotFoundError,
)
from orchestration.execution.history import count, succeeded_in
from orchestration.execution.memory_claims import MemoryClaims
from orchestration.execution.memory_drivers import MemoryDrivers
from orchestration.execution.memory_inbox import MemoryInbox
from orchestration.execution.memory_plans import MemoryPlans
from orchestration.execution.memory_records import (
    Cached,
    Stored,
    copy_event,
    copy_needs,
    copy_recorded,
    copy_summary,
)
from orchestration.execution.storage_rules import (
    cached_output,
    check_reused,
    check_revisions,
    check_sequence,
    next_free_id,
    numbered,
)
from orchestration.models import OrchestrationId, TaskId
from orchestration.ports import (
    Commit,
    Created,
    DriverIdentity,
    DriverView,
    Lease,
    NewOrchestration,
    OrchestrationRecord,
    StoredOutput,
)


class MemoryOrchestrations:
    """What the storage in memory consists of, and everything that changes an orchestration."""

    def __init__(self) -> None:
        self._orchestrations: dict[OrchestrationId, Stored] = {}
        self._keys: dict[str, OrchestrationId] = {}
        self._last_numbers: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._removed_ids: set[OrchestrationId] = set()
        """Those that were chosen by hand, and that counting up may still arrive at."""
        self._artifacts: dict[str, bytes] = {}
        """Documents and large outputs by their hash, each kept once."""
        self._plans = MemoryPlans(self._artifacts)
        self._drivers = MemoryDrivers()
        self._inbox = MemoryInbox()
        self._claims = MemoryClaims(self._inbox)
        self._cache: dict[str, Cached] = {}

    async def create_orchestration(self, new: NewOrchestration) -> Created:
        """Create an orchestration; see `Storage.create_orchestration`."""
        if new.key is not None and new.key in self._keys:
            first = self._orchestrations[self._keys[new.key]]
            if first.request_sha256 != new.request_sha256:
                raise IdempotencyConflictError(new.key, first.record.orchestration_id)
            return Created(record=self._seen(first), lease=None)
        if new.orchestration_id in self._orchestrations:
            raise IdempotencyConflictError(new.orchestration_id, new.orchestration_id)
        reused = self._reused_outputs(new)
        orchestration_id = new.orchestration_id
        if orchestration_id is None:
            orchestration_id = self._new_id(
                "orchestration",
                new.base_id,
                lambda taken: taken in self._orchestrations or taken in self._removed_ids,
            )
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
            needs=copy_needs(new.needs),
            token=1,
            summary=copy_summary(new.summary),
        )
        dag_json = self._artifacts.setdefault(new.dag_sha256, new.dag_json)
        stored = Stored(record, new.request_sha256, dag_json, outputs=reused)
        stored.events = [
            Recorded(
                orchestration_id=orchestration_id, seq=seq, at_us=new.created_at_us, event=copy_event(event)
            )
            for seq, event in enumerate(new.first_events, start=1)
        ]
        stored.put_tasks(new.tasks)
        self._orchestrations[orchestration_id] = stored
        if new.key is not None:
            self._keys[new.key] = orchestration_id
        lease = Lease(orchestration_id=orchestration_id, token=1, holder=new.holder)
        return Created(record=self._seen(stored), lease=lease)

    def _reused_outputs(self, new: NewOrchestration) -> dict[TaskId, StoredOutput]:
        check_reused(new)
        found: dict[TaskId, StoredOutput] = {}
        for reused in new.reused:
            earlier = self._orchestrations.get(reused.from_orchestration)
            if earlier is None or reused.from_task not in earlier.outputs:
                raise TaskNotFoundError(reused.from_orchestration, reused.from_task)
            found[reused.task_id] = replace(earlier.outputs[reused.from_task], task_id=reused.task_id)
        return found

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity, DriverView | None], bool],
    ) -> Lease:
        """Take the lease; see `Storage.acquire_lease`."""
        stored = self._stored(orchestration_id)
        present = stored.record.holder
        if present is not None and present != holder and not is_gone(present, self._drivers.view_of(present)):
            raise LeaseHeldError(orchestration_id, str(present))
        stored.record = replace(stored.record, holder=holder, token=stored.record.token + 1)
        return Lease(orchestration_id=orchestration_id, token=stored.record.token, holder=holder)

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; see `Storage.release_lease`."""
        stored = self._orchestrations.get(lease.orchestration_id)
        if stored is not None and stored.record.token == lease.token:
            stored.record = replace(stored.record, holder=None)

    async def renew_leases(
        self, holder: DriverIdentity, leases: Sequence[Lease], *, lease_seconds: float, now_us: int
    ) -> list[OrchestrationId]:
        """Count a heartbeat; see `Storage.renew_leases`."""
        self._drivers.beat(holder, lease_seconds, now_us)
        return [lease.orchestration_id for lease in leases if not self._is_current(lease)]

    async def retire_driver(self, holder: DriverIdentity) -> None:
        """Forget a driver; see `Storage.retire_driver`."""
        self._drivers.retire(holder)

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch whole or not at all; see `Storage.append`."""
        ends: dict[OrchestrationId, int] = {}
        revisions: dict[OrchestrationId, int] = {}
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
            for entry in commit.cached:
                cached_output(commit, entry)
            latest = revisions.get(lease.orchestration_id, stored.latest_revision())
            revisions[lease.orchestration_id] = check_revisions(commit, latest)
            self._inbox.check(commit.answers, lease.orchestration_id)
            self._claims.check(commit.claim_outcomes, lease.orchestration_id)
        for commit in commits:
            self._apply(commit)

    def _apply(self, commit: Commit) -> None:
        orchestration_id = commit.lease.orchestration_id
        stored = self._orchestrations[orchestration_id]
        stored.events += [copy_recorded(recorded) for recorded in commit.events]
        stored.put_tasks(commit.tasks)
        for output in commit.outputs:
            stored.outputs[output.task_id] = self._shared(output)
        stored.record = replace(
            stored.record,
            summary=copy_summary(commit.summary),
            last_seq=stored.record.last_seq + len(commit.events),
            updated_at_us=commit.events[-1].at_us if commit.events else stored.record.updated_at_us,
        )
        for entry in commit.cached:
            output = self._shared(cached_output(commit, entry))
            self._cache[entry.key] = Cached(
                output, f"{orchestration_id}:{entry.task_id}", entry.stored_at_us, entry.expires_at_us
            )
        stored.revisions += commit.revisions
        count(stored.tallies, succeeded_in(commit), commit.tasks)
        self._inbox.answer(commit.answers, stored.record.updated_at_us)
        self._claims.apply(commit)

    def _shared(self, output: StoredOutput) -> StoredOutput:
        """Return a large output with the text that others of the same hash have."""
        if output.inline:
            return output
        return replace(output, text=self._artifacts.setdefault(output.sha256, output.text))

    # Housekeeping

    def _remove(self, orchestration_id: OrchestrationId) -> None:
        record = self._orchestrations.pop(orchestration_id).record
        if record.key is not None:
            del self._keys[record.key]
        self._inbox.forget_orchestration(orchestration_id)
        self._claims.forget_orchestration(orchestration_id)
        parts = numbered(orchestration_id)
        if parts is not None and self._last_numbers["orchestration", parts[0]] < parts[1]:
            self._removed_ids.add(orchestration_id)

    def _forget_loose_artifacts(self) -> None:
        outputs = [output for stored in self._orchestrations.values() for output in stored.outputs.values()]
        outputs += [cached.output for cached in self._cache.values()]
        named = {id(output.text) for output in outputs}
        named |= {id(stored.dag_json) for stored in self._orchestrations.values()}
        named |= {id(document) for document in self._plans.documents()}
        for sha256 in [sha256 for sha256, content in self._artifacts.items() if id(content) not in named]:
            del self._artifacts[sha256]  # in place: the plans share it

    # Looking things up

    def _stored(self, orchestration_id: OrchestrationId) -> Stored:
        try:
            return self._orchestrations[orchestration_id]
        except KeyError:
            raise OrchestrationNotFoundError(orchestration_id) from None

    def _seen(self, stored: Stored) -> OrchestrationRecord:
        """Return the record as it is handed out: with its driver's heartbeats, and containers of its own."""
        return replace(
            stored.record,
            summary=copy_summary(stored.record.summary),
            needs=copy_needs(stored.record.needs),
            driver=self._drivers.view_of(stored.record.holder),
        )

    def _is_current(self, lease: Lease) -> bool:
        stored = self._orchestrations.get(lease.orchestration_id)
        return stored is not None and stored.record.token == lease.token

    def _new_id(self, kind: str, base_id: str, is_taken: Callable[[str], bool]) -> str:
        last = self._last_numbers[kind, base_id]
        new_id, self._last_numbers[kind, base_id] = next_free_id(base_id, last, is_taken)
        return new_id


def _has_row(commits: Sequence[Commit], lease: Lease, task_id: TaskId) -> bool:
    """Whether the batch itself brings the task's row."""
    return any(
        row.task_id == task_id
        for commit in commits
        if commit.lease.orchestration_id == lease.orchestration_id
        for row in commit.tasks
    )
