"""The reference storage: everything in this process's memory, gone with it; runs on any anyio backend.

May import: orchestration.{models, ports, errors, engine.events, execution.memory_records, execution.storage_rules},
stdlib.

Atomic by having no await inside: a method checks everything before it changes anything. Records are
immutable, and the few that hold mutable containers are copied on the way in and out, so callers share
nothing with the store.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from orchestration.engine.events import Recorded
from orchestration.errors import (
    IdempotencyConflictError,
    LeaseHeldError,
    OrchestrationNotFoundError,
    PlanNotFoundError,
    StaleFencingTokenError,
    StorageUnavailableError,
    TaskNotFoundError,
)
from orchestration.execution.memory_records import (
    Cached,
    Control,
    Stored,
    copy_event,
    copy_needs,
    copy_recorded,
    copy_summary,
)
from orchestration.execution.storage_rules import (
    ABANDONED_AFTER_US,
    ANSWERS_KEPT_US,
    add_up,
    cached_output,
    check_answer,
    check_reused,
    check_sequence,
    instant_before,
    next_free_id,
    numbered,
    to_be_removed,
)
from orchestration.models import OrchestrationId, OrchestrationStatus, PlanId, TaskId, TaskStatus
from orchestration.ports import (
    CachedResult,
    Commit,
    ControlAnswer,
    ControlRequest,
    Created,
    DriverIdentity,
    DriverView,
    Lease,
    NewOrchestration,
    NewPlan,
    OrchestrationRecord,
    OrchestrationTotals,
    PendingControl,
    PlanRecord,
    Retained,
    Retention,
    StoredOutput,
    TaskRow,
)

T = TypeVar("T")


class MemoryStorage:
    """State in memory: not durable, not shared with other processes."""

    def __init__(self) -> None:
        self._orchestrations: dict[OrchestrationId, Stored] = {}
        self._keys: dict[str, OrchestrationId] = {}
        self._plans: dict[PlanId, PlanRecord] = {}
        self._last_numbers: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._removed_ids: set[OrchestrationId] = set()
        """Those that were chosen by hand, and that counting up may still arrive at."""
        self._artifacts: dict[str, bytes] = {}
        """Documents and large outputs by their hash, each kept once."""
        self._drivers: dict[str, DriverView] = {}
        self._controls: dict[int, Control] = {}
        self._last_control = 0
        self._cache: dict[str, Cached] = {}

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
        plan_id = self._new_id("plan", plan.base_id, self._plans.__contains__)
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
        if present is not None and present != holder and not is_gone(present, self._driver_of(stored)):
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
        known = self._drivers.get(holder.instance)
        self._drivers[holder.instance] = DriverView(
            identity=holder,
            beats=1 if known is None else known.beats + 1,
            lease_seconds=lease_seconds,
            beat_at_us=now_us,
        )
        return [lease.orchestration_id for lease in leases if not self._is_current(lease)]

    async def retire_driver(self, holder: DriverIdentity) -> None:
        """Forget a driver; see `Storage.retire_driver`."""
        self._drivers.pop(holder.instance, None)

    async def list_unfinished(self) -> list[OrchestrationRecord]:
        """Return what has not ended, oldest first; see `Storage.list_unfinished`."""
        return [
            self._seen(stored)
            for stored in self._orchestrations.values()
            if not stored.record.summary.state.is_terminal
        ]

    async def change_count(self) -> int:
        """Return the same number always: no other process can change what is in this one's memory."""
        return 0

    # Control of what another process drives

    async def send_control(
        self, orchestration_id: OrchestrationId, request: ControlRequest, *, sent_at_us: int
    ) -> int:
        """Store a request; see `Storage.send_control`."""
        self._stored(orchestration_id)
        self._last_control += 1
        self._controls[self._last_control] = Control(
            PendingControl(
                control_id=self._last_control,
                orchestration_id=orchestration_id,
                request=copy.deepcopy(request),
                sent_at_us=sent_at_us,
            )
        )
        return self._last_control

    async def pending_controls(self) -> list[PendingControl]:
        """Return what nobody has answered, oldest first; see `Storage.pending_controls`."""
        return [copy.deepcopy(each.pending) for each in self._controls.values() if each.answer is None]

    async def load_control_answer(self, control_id: int) -> ControlAnswer | None:
        """Return what became of a request; see `Storage.load_control_answer`."""
        control = self._controls.get(control_id)
        return None if control is None else control.answer

    async def withdraw_control(self, control_id: int) -> bool:
        """Take a request back; see `Storage.withdraw_control`."""
        if control_id not in self._controls or self._controls[control_id].answer is not None:
            return False
        del self._controls[control_id]
        return True

    # Results used again

    async def load_cached(self, key: str, *, now_us: int) -> CachedResult | None:
        """Return what is stored under a key; see `Storage.load_cached`."""
        found = self._cache.get(key)
        if found is None or found.expires_at_us <= now_us:
            return None
        return CachedResult(
            text=found.output.text,
            sha256=found.output.sha256,
            source=found.source,
            stored_at_us=found.stored_at_us,
        )

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
            for entry in commit.cached:
                cached_output(commit, entry)
            for answer in commit.answers:
                if self._is_pending(answer.control_id):
                    asked = self._controls[answer.control_id].pending.orchestration_id
                    check_answer(answer, lease.orchestration_id, of=asked)
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
        for answer in commit.answers:
            if self._is_pending(answer.control_id):
                control = self._controls[answer.control_id]
                control.answer = answer
                control.answered_at_us = max(stored.record.updated_at_us, control.pending.sent_at_us)

    def _shared(self, output: StoredOutput) -> StoredOutput:
        """Return a large output with the text that others of the same hash have."""
        if output.inline:
            return output
        return replace(output, text=self._artifacts.setdefault(output.sha256, output.text))

    async def load_orchestration(self, orchestration_id: OrchestrationId) -> OrchestrationRecord:
        """Return an orchestration's record; see `Storage.load_orchestration`."""
        return self._seen(self._stored(orchestration_id))

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus] | None = None, limit: int = 100, offset: int = 0
    ) -> list[OrchestrationRecord]:
        """Return records, latest created first; see `Storage.list_orchestrations`."""
        wanted = [
            stored
            for stored in reversed(self._orchestrations.values())
            if states is None or stored.record.summary.state in states
        ]
        return [self._seen(stored) for stored in _page(wanted, offset, limit)]

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
        return [copy_recorded(recorded) for recorded in _page(stored.events, after_seq, limit)]

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
        return {task_id: stored.outputs[task_id].text for task_id in task_ids if task_id in stored.outputs}

    def load_output_blocking(self, orchestration_id: OrchestrationId, task_id: TaskId) -> bytes:
        """Return one output; see `Storage.load_output_blocking`."""
        stored = self._orchestrations.get(orchestration_id)
        if stored is None or task_id not in stored.outputs:
            raise TaskNotFoundError(orchestration_id, task_id)
        return stored.outputs[task_id].text

    async def load_totals(self, *, since_us: int | None = None) -> OrchestrationTotals:
        """Return sums over orchestrations; see `Storage.load_totals`."""
        return add_up(
            stored.record.summary
            for stored in self._orchestrations.values()
            if since_us is None or stored.record.created_at_us >= since_us
        )

    # Housekeeping

    async def retain(self, retention: Retention, *, now_us: int) -> Retained:
        """Do all the housekeeping there is; see `Storage.retain`. Nothing is compressed: nothing would be gained."""
        ended = sorted(
            (
                finished_at_us,
                number,
                stored.record.orchestration_id,
                self._is_held(stored, now_us),
            )
            for number, stored in enumerate(self._orchestrations.values())
            if (finished_at_us := stored.ended_at_us()) is not None
        )
        free = [(orchestration_id, at_us) for at_us, _, orchestration_id, is_held in ended if not is_held]
        removable = list(to_be_removed(free, len(ended), retention, now_us))
        for orchestration_id in removable:
            self._remove(orchestration_id)
        before = instant_before(now_us, retention.remove_after_seconds)
        named = {stored.record.plan_id for stored in self._orchestrations.values()}
        unused = [
            plan_id
            for plan_id, plan in self._plans.items()
            if before is not None and plan.created_at_us <= before and plan_id not in named
        ]
        for plan_id in unused:
            del self._plans[plan_id]
        expired = [key for key, each in self._cache.items() if each.expires_at_us <= now_us]
        for key in expired:
            del self._cache[key]
        self._forget_answers_and_drivers(now_us)
        self._forget_loose_artifacts()
        return Retained(removed=len(removable), plans_removed=len(unused), cache_entries_removed=len(expired))

    async def backup(self, path: Path) -> int:
        """Refuse: there is no file to copy."""
        raise StorageUnavailableError(
            self.location,
            f"what is kept in memory can't be copied to {path}.",
            "keep the state in a database file, with SqliteStorage or --database.",
        )

    def _remove(self, orchestration_id: OrchestrationId) -> None:
        record = self._orchestrations.pop(orchestration_id).record
        if record.key is not None:
            del self._keys[record.key]
        for control_id in [
            control_id
            for control_id, control in self._controls.items()
            if control.pending.orchestration_id == orchestration_id
        ]:
            del self._controls[control_id]
        parts = numbered(orchestration_id)
        if parts is not None and self._last_numbers["orchestration", parts[0]] < parts[1]:
            self._removed_ids.add(orchestration_id)

    def _forget_answers_and_drivers(self, now_us: int) -> None:
        self._controls = {
            control_id: control
            for control_id, control in self._controls.items()
            if control.answer is None or control.answered_at_us > now_us - ANSWERS_KEPT_US
        }
        named = {
            stored.record.holder.instance for stored in self._orchestrations.values() if stored.record.holder
        }
        self._drivers = {
            instance: driver
            for instance, driver in self._drivers.items()
            if instance in named or driver.beat_at_us > now_us - ABANDONED_AFTER_US
        }

    def _forget_loose_artifacts(self) -> None:
        outputs = [output for stored in self._orchestrations.values() for output in stored.outputs.values()]
        outputs += [cached.output for cached in self._cache.values()]
        named = {id(output.text) for output in outputs}
        named |= {id(stored.dag_json) for stored in self._orchestrations.values()}
        named |= {id(plan.dag_json) for plan in self._plans.values()}
        self._artifacts = {
            sha256: content for sha256, content in self._artifacts.items() if id(content) in named
        }

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
            driver=self._driver_of(stored),
        )

    def _driver_of(self, stored: Stored) -> DriverView | None:
        holder = stored.record.holder
        return None if holder is None else self._drivers.get(holder.instance)

    def _is_held(self, stored: Stored, now_us: int) -> bool:
        """Whether somebody holds the lease of what has ended; see `ABANDONED_AFTER_US`."""
        driver = self._driver_of(stored)
        is_silent = driver is not None and driver.beat_at_us <= now_us - ABANDONED_AFTER_US
        return stored.record.holder is not None and not is_silent

    def _is_current(self, lease: Lease) -> bool:
        stored = self._orchestrations.get(lease.orchestration_id)
        return stored is not None and stored.record.token == lease.token

    def _is_pending(self, control_id: int) -> bool:
        return control_id in self._controls and self._controls[control_id].answer is None

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


def _page(items: list[T], offset: int, limit: int) -> list[T]:
    start = max(0, offset)
    return items[start : start + max(0, limit)]
