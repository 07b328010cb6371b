"""The reference storage: everything in this process's memory, gone with it; runs on any anyio backend.

May import: orchestration.{claim_records, models, ports, errors, engine.events}, orchestration.execution.{claim_rules,
history, memory_orchestrations, memory_records, storage_rules}, stdlib.

Atomic by having no await inside. Records are immutable, and the few that hold mutable containers are copied on the way
in and out, so callers share nothing with the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from orchestration.claim_records import OfferState
from orchestration.engine.events import Recorded
from orchestration.errors import StorageUnavailableError, TaskNotFoundError
from orchestration.execution.claim_rules import GIVES_OUT
from orchestration.execution.history import LOOKED_AT, summed_up
from orchestration.execution.memory_orchestrations import MemoryOrchestrations
from orchestration.execution.memory_records import copy_recorded
from orchestration.execution.storage_rules import add_up, instant_before, to_be_removed
from orchestration.models import OrchestrationId, OrchestrationStatus, PlanId, TaskId, TaskStatus
from orchestration.ports import (
    CachedResult,
    Claim,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    ControlAnswer,
    ControlRequest,
    Graft,
    History,
    NewPlan,
    OfferView,
    OrchestrationRecord,
    OrchestrationTotals,
    PendingControl,
    PlanRecord,
    PlanRevision,
    Retained,
    Retention,
    Revision,
    TaskRow,
)

T = TypeVar("T")


class MemoryStorage(MemoryOrchestrations):
    """State in memory: not durable, not shared with other processes."""

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
        return self._plans.save(plan_id, plan)

    async def load_plan(self, plan_id: PlanId, revision: int | None = None) -> PlanRecord:
        """Return a plan; see `Storage.load_plan`."""
        return self._plans.load(plan_id, revision)

    async def revise_plan(self, plan_id: PlanId, revision: PlanRevision) -> PlanRecord:
        """Store a plan's next revision; see `Storage.revise_plan`."""
        return self._plans.revise(plan_id, revision)

    async def load_plan_revisions(self, plan_id: PlanId) -> list[Revision]:
        """Return the log of a plan; see `Storage.load_plan_revisions`."""
        return self._plans.log(plan_id)

    # Orchestrations

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
        return self._inbox.send(orchestration_id, request, sent_at_us)

    async def pending_controls(self) -> list[PendingControl]:
        """Return what nobody has answered, oldest first; see `Storage.pending_controls`."""
        return self._inbox.pending()

    async def load_control_answer(self, control_id: int) -> ControlAnswer | None:
        """Return what became of a request; see `Storage.load_control_answer`."""
        return self._inbox.answer_of(control_id)

    async def withdraw_control(self, control_id: int) -> bool:
        """Take a request back; see `Storage.withdraw_control`."""
        return self._inbox.withdraw(control_id)

    # Work that is offered to agents

    async def claim_offer(self, request: ClaimRequest) -> Claim | None:
        """Give a worker what it should do next; see `Storage.claim_offer`."""
        giving_out = {
            orchestration_id
            for orchestration_id, stored in self._orchestrations.items()
            if stored.record.summary.state in GIVES_OUT
        }
        return self._claims.claim(request, giving_out)

    async def report_claim(
        self, claim_id: str, report: ClaimReport, graft: Graft | None = None
    ) -> ClaimVerdict:
        """Take a worker's report; see `Storage.report_claim`."""
        return self._claims.report(claim_id, report, graft)

    async def expire_claim(self, claim_id: str, *, now_us: int) -> Claim:
        """Let a claim run out if its lease has ended; see `Storage.expire_claim`."""
        return self._claims.expire(claim_id, now_us)

    async def load_claim(self, claim_id: str) -> Claim:
        """Return a claim; see `Storage.load_claim`."""
        return self._claims.load(claim_id)

    async def load_offers(
        self,
        orchestration_id: OrchestrationId | None = None,
        *,
        states: Sequence[OfferState] | None = None,
        limit: int = 1000,
    ) -> list[OfferView]:
        """Return offers in the order they are given out; see `Storage.load_offers`."""
        if orchestration_id is not None:
            return self._claims.offers({orchestration_id}, states, limit)
        unfinished = {record.orchestration_id for record in await self.list_unfinished()}
        return self._claims.offers(unfinished, states, limit)

    async def load_claim_totals(self, orchestration_id: OrchestrationId | None = None) -> ClaimTotals:
        """Return what workers have done; see `Storage.load_claim_totals`."""
        return self._claims.totals(orchestration_id)

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

    async def load_revisions(self, orchestration_id: OrchestrationId) -> list[Revision]:
        """Return the log of an orchestration; see `Storage.load_revisions`."""
        stored = self._orchestrations.get(orchestration_id)
        return [] if stored is None else list(stored.revisions)

    async def load_history(
        self, kinds: Sequence[tuple[str, str | None]]
    ) -> dict[tuple[str, str | None], History]:
        """Return what tasks took so far; see `Storage.load_history`."""
        latest_first = reversed(self._orchestrations.values())
        return summed_up((stored.tallies for stored in islice(latest_first, LOOKED_AT)), kinds)

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
                self._drivers.holds(stored.record.holder, now_us),
            )
            for number, stored in enumerate(self._orchestrations.values())
            if (finished_at_us := stored.ended_at_us()) is not None
        )
        free = [(orchestration_id, at_us) for at_us, _, orchestration_id, is_held in ended if not is_held]
        removable = list(to_be_removed(free, len(ended), retention, now_us))
        for orchestration_id in removable:
            self._remove(orchestration_id)
        before = instant_before(now_us, retention.remove_after_seconds)
        unused = 0
        if before is not None:
            named = {stored.record.plan_id for stored in self._orchestrations.values()}
            unused = self._plans.remove_unused(before, named)
        expired = [key for key, each in self._cache.items() if each.expires_at_us <= now_us]
        for key in expired:
            del self._cache[key]
        self._inbox.forget_answers(now_us)
        self._claims.forget_idle(now_us)
        holders = [stored.record.holder for stored in self._orchestrations.values()]
        self._drivers.forget_silent({holder.instance for holder in holders if holder}, now_us)
        self._forget_loose_artifacts()
        return Retained(removed=len(removable), plans_removed=unused, cache_entries_removed=len(expired))

    async def backup(self, path: Path) -> int:
        """Refuse: there is no file to copy."""
        raise StorageUnavailableError(
            self.location,
            f"what is kept in memory can't be copied to {path}.",
            "keep the state in a database file, with SqliteStorage or --database.",
        )


def _page(items: list[T], offset: int, limit: int) -> list[T]:
    start = max(0, offset)
    return items[start : start + max(0, limit)]
