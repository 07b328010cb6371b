"""`SqliteStorage`: the Storage port over one SQLite file, shared by any number of processes on one machine.

May import: orchestration.{claim_records, models, ports, errors, clock, engine.events}, storage.*, anyio, stdlib.

What is done stands in `writes.py`, `reads.py` and their smaller neighbours, as functions on a connection's thread;
`database.py` opens the file and tells its faults. This class hands over, and says what must survive a power cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread

from orchestration.claim_records import OfferState
from orchestration.clock import SystemClock
from orchestration.engine.events import Recorded
from orchestration.errors import CorruptRecordError, TaskNotFoundError
from orchestration.models import OrchestrationId, OrchestrationStatus, PlanId, TaskId, TaskStatus
from orchestration.ports import (
    CachedResult,
    Claim,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    Commit,
    ControlAnswer,
    ControlRequest,
    Created,
    DriverIdentity,
    DriverView,
    Graft,
    History,
    Lease,
    NewOrchestration,
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
from storage import cache, claims, controls, copying, history, plans, reads, soundness, writes
from storage.database import Database, Synchronous
from storage.faults import DAMAGED_FIX
from storage.leases import acquire_lease, release_lease, renew_leases, retire_driver
from storage.retention import retain


class SqliteStorage:
    """State in one SQLite file. Needs the asyncio backend; may be used from one event loop after another.

    Args:
        path: The file; it and its folder are created when missing, readable by their owner alone.
        synchronous: When a commit counts as durable. NORMAL: it survives the death of any process, a power
            cut may undo the last ones. FULL: it survives a power cut too, at the price of a disk flush per
            commit. Ids that are given to a caller, and revisions, are always committed with FULL.
        busy_timeout_seconds: How long to wait for another process that is writing.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Synchronous = "NORMAL", busy_timeout_seconds: float = 5.0
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous is {synchronous!r}; expected NORMAL or FULL.")
        if not busy_timeout_seconds >= 0:
            raise ValueError(f"busy_timeout_seconds is {busy_timeout_seconds!r}; expected 0 or more.")
        path = Path(path).expanduser().absolute()
        self._sent = 0
        self._database = Database(path, synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds)

    @property
    def location(self) -> str:
        """The path of the file."""
        return self._database.location

    @property
    def is_durable(self) -> bool:
        """True: the state outlives the process."""
        return True

    @property
    def size_bytes(self) -> int:
        """What the database takes on disk, its write-ahead log included; 0 while there is none."""
        return self._database.size_bytes

    @property
    def disk_free_bytes(self) -> int:
        """What is left for this user on the file system that holds the file, or will hold it."""
        return self._database.disk_free_bytes

    async def open(self) -> None:
        """Make ready; see `Storage.open`."""
        await self._database.open()

    async def aclose(self) -> None:
        """Finish what is under way and close; a later call of any method opens again."""
        await self._database.aclose()

    async def check(self) -> list[str]:
        """Return what is wrong with the database, one line each; empty when it is sound. Reads all of it."""
        return await self._database.read(soundness.problems)

    async def mend(self) -> list[str]:
        """Put right what can be without losing anything, and return what was, one line each.

        Raises:
            CorruptRecordError: The file is damaged; nothing was changed.
        """
        damage = await self._database.read(soundness.damage)
        if damage:
            raise CorruptRecordError(self.location, f"the file is damaged ({damage[0]}).", DAMAGED_FIX)
        mended = await self._database.write(partial(soundness.mend, now_us=SystemClock().now_us()))
        before = self.size_bytes
        if await self._database.cut_log() and self.size_bytes < before:
            mended.append(f"emptied the write-ahead log ({(before - self.size_bytes) / 1024 / 1024:.1f} MiB)")
        return mended

    # Plans

    async def save_plan(self, plan: NewPlan) -> PlanRecord:
        """Store a plan; see `Storage.save_plan`."""
        return await self._database.write(partial(plans.save_plan, plan=plan), full=True)

    async def load_plan(self, plan_id: PlanId, revision: int | None = None) -> PlanRecord:
        """Return a plan; see `Storage.load_plan`."""
        return await self._database.read(partial(plans.load_plan, plan_id=plan_id, revision=revision))

    async def revise_plan(self, plan_id: PlanId, revision: PlanRevision) -> PlanRecord:
        """Store a plan's next revision; see `Storage.revise_plan`."""
        return await self._database.write(
            partial(plans.revise_plan, plan_id=plan_id, revision=revision), full=True
        )

    async def load_plan_revisions(self, plan_id: PlanId) -> list[Revision]:
        """Return the log of a plan; see `Storage.load_plan_revisions`."""
        return await self._database.read(partial(plans.load_plan_revisions, plan_id=plan_id))

    # Orchestrations

    async def create_orchestration(self, new: NewOrchestration) -> Created:
        """Create an orchestration; see `Storage.create_orchestration`."""
        return await self._database.write(partial(writes.create_orchestration, new=new), full=True)

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity, DriverView | None], bool],
    ) -> Lease:
        """Take the lease; see `Storage.acquire_lease`.

        `is_gone` is called on the writer's thread, within the transaction.
        """
        return await self._database.write(
            partial(acquire_lease, orchestration_id=orchestration_id, holder=holder, is_gone=is_gone)
        )

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; see `Storage.release_lease`."""
        await self._database.write(partial(release_lease, lease=lease))

    async def renew_leases(
        self, holder: DriverIdentity, leases: Sequence[Lease], *, lease_seconds: float, now_us: int
    ) -> list[OrchestrationId]:
        """Count a heartbeat; see `Storage.renew_leases`."""
        return await self._database.write(
            partial(
                renew_leases, holder=holder, leases=tuple(leases), lease_seconds=lease_seconds, now_us=now_us
            )
        )

    async def retire_driver(self, holder: DriverIdentity) -> None:
        """Forget a driver; see `Storage.retire_driver`."""
        await self._database.write(partial(retire_driver, holder=holder))

    async def list_unfinished(self) -> list[OrchestrationRecord]:
        """Return what has not ended, oldest first; see `Storage.list_unfinished`."""
        return await self._database.read(reads.list_unfinished)

    async def change_count(self) -> int:
        """Return a number that changes when others commit, and when a request is sent through this very object.

        Two orchestrators may share it, and the one that drives must notice what the other one asks.
        """
        return await self._database.change_count() + self._sent

    # Control of what another process drives

    async def send_control(
        self, orchestration_id: OrchestrationId, request: ControlRequest, *, sent_at_us: int
    ) -> int:
        """Store a request; see `Storage.send_control`."""
        sent = await self._database.write(
            partial(
                controls.send_control,
                orchestration_id=orchestration_id,
                request=request,
                sent_at_us=sent_at_us,
            ),
            full=True,
        )
        self._sent += 1
        return sent

    async def pending_controls(self) -> list[PendingControl]:
        """Return what nobody has answered, oldest first; see `Storage.pending_controls`."""
        return await self._database.read(controls.pending_controls)

    async def load_control_answer(self, control_id: int) -> ControlAnswer | None:
        """Return what became of a request; see `Storage.load_control_answer`."""
        return await self._database.read(partial(controls.load_control_answer, control_id=control_id))

    async def withdraw_control(self, control_id: int) -> bool:
        """Take a request back; see `Storage.withdraw_control`."""
        return await self._database.write(partial(controls.withdraw_control, control_id=control_id))

    # Work that is offered to agents

    async def claim_offer(self, request: ClaimRequest) -> Claim | None:
        """Give a worker what it should do next; see `Storage.claim_offer`. What it was given survives a power cut."""
        claim = await self._database.write(partial(claims.claim_offer, request=request), full=True)
        self._sent += claim is not None
        return claim

    async def report_claim(
        self, claim_id: str, report: ClaimReport, graft: Graft | None = None
    ) -> ClaimVerdict:
        """Take a worker's report; see `Storage.report_claim`."""
        verdict = await self._database.write(
            partial(claims.report_claim, claim_id=claim_id, report=report, graft=graft), full=True
        )
        self._sent += verdict.control_id is not None and not verdict.is_repeated
        return verdict

    async def expire_claim(self, claim_id: str, *, now_us: int) -> Claim:
        """Let a claim run out if its lease has ended; see `Storage.expire_claim`."""
        return await self._database.write(partial(claims.expire_claim, claim_id=claim_id, now_us=now_us))

    async def load_claim(self, claim_id: str) -> Claim:
        """Return a claim; see `Storage.load_claim`."""
        return await self._database.read(partial(claims.load_claim, claim_id=claim_id))

    async def load_offers(
        self,
        orchestration_id: OrchestrationId | None = None,
        *,
        states: Sequence[OfferState] | None = None,
        limit: int = 1000,
    ) -> list[OfferView]:
        """Return offers in the order they are given out; see `Storage.load_offers`."""
        return await self._database.read(
            partial(claims.load_offers, orchestration_id=orchestration_id, states=states, limit=limit)
        )

    async def load_claim_totals(self, orchestration_id: OrchestrationId | None = None) -> ClaimTotals:
        """Return what workers have done; see `Storage.load_claim_totals`."""
        return await self._database.read(partial(claims.load_claim_totals, orchestration_id=orchestration_id))

    # Results used again

    async def load_cached(self, key: str, *, now_us: int) -> CachedResult | None:
        """Return what is stored under a key; see `Storage.load_cached`."""
        return await self._database.read(partial(cache.load_cached, key=key, now_us=now_us))

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch as one transaction; see `Storage.append`. A revision survives a power cut as a plan's does."""
        if commits:
            await self._database.write(
                partial(writes.append, commits=commits),
                full=any(commit.is_critical or commit.revisions for commit in commits),
            )

    async def load_orchestration(self, orchestration_id: OrchestrationId) -> OrchestrationRecord:
        """Return an orchestration's record; see `Storage.load_orchestration`."""
        return await self._database.read(partial(reads.load_orchestration, orchestration_id=orchestration_id))

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus] | None = None, limit: int = 100, offset: int = 0
    ) -> list[OrchestrationRecord]:
        """Return records, latest created first; see `Storage.list_orchestrations`."""
        return await self._database.read(
            partial(reads.list_orchestrations, states=states, limit=limit, offset=offset)
        )

    async def load_dag(self, orchestration_id: OrchestrationId) -> bytes:
        """Return the DAG document; see `Storage.load_dag`."""
        return await self._database.read(partial(reads.load_dag, orchestration_id=orchestration_id))

    async def read_events(
        self, orchestration_id: OrchestrationId, *, after_seq: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """Return journal entries in order; see `Storage.read_events`."""
        return await self._database.read(
            partial(reads.read_events, orchestration_id=orchestration_id, after_seq=after_seq, limit=limit)
        )

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
        return await self._database.read(
            partial(
                reads.load_tasks,
                orchestration_id=orchestration_id,
                statuses=statuses,
                task_ids=task_ids,
                after_position=after_position,
                limit=limit,
            )
        )

    async def load_revisions(self, orchestration_id: OrchestrationId) -> list[Revision]:
        """Return the log of an orchestration; see `Storage.load_revisions`."""
        return await self._database.read(partial(plans.load_revisions, orchestration_id=orchestration_id))

    async def load_history(
        self, kinds: Sequence[tuple[str, str | None]]
    ) -> dict[tuple[str, str | None], History]:
        """Return what tasks took so far; see `Storage.load_history`."""
        return await self._database.read(partial(history.load_history, kinds=kinds))

    async def load_outputs(
        self, orchestration_id: OrchestrationId, task_ids: Sequence[TaskId]
    ) -> dict[TaskId, bytes]:
        """Return outputs by task; see `Storage.load_outputs`."""
        return await self._database.read(
            partial(reads.load_outputs, orchestration_id=orchestration_id, task_ids=task_ids)
        )

    def load_output_blocking(self, orchestration_id: OrchestrationId, task_id: TaskId) -> bytes:
        """Return one output, over a connection of its own; see `Storage.load_output_blocking`."""
        found = self._database.read_blocking(
            partial(reads.load_outputs, orchestration_id=orchestration_id, task_ids=[task_id])
        )
        if task_id not in found:
            raise TaskNotFoundError(orchestration_id, task_id)
        return found[task_id]

    async def load_totals(self, *, since_us: int | None = None) -> OrchestrationTotals:
        """Return sums over orchestrations; see `Storage.load_totals`."""
        return await self._database.read(partial(reads.load_totals, since_us=since_us))

    # Housekeeping

    async def retain(self, retention: Retention, *, now_us: int) -> Retained:
        """Do one round of housekeeping; see `Storage.retain`."""
        return await retain(self._database, retention, now_us)

    async def backup(self, path: Path) -> int:
        """Write a copy into a new file; see `Storage.backup`."""
        await self._database.open()
        return await anyio.to_thread.run_sync(copying.back_up, self._database, path)
