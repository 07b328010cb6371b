"""`SqliteStorage`: the Storage port over one SQLite file, shared by any number of processes on one machine.

May import: orchestration.{models, ports, engine.events}, storage.*, anyio, stdlib.

Two connections, each on its own thread: all writes go through one, reads through the other, so a long read
holds up no commit (in WAL mode readers and the writer never wait for each other). What is done on them
stands in `writes.py` and `reads.py`; this class opens, hands over, and tells faults in the program's own
words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.to_thread

from orchestration.engine.events import Recorded
from orchestration.errors import TaskNotFoundError
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
    TaskRow,
)
from storage import reads, schema, soundness, writes
from storage.connection import Connection
from storage.faults import translate
from storage.transaction import WriteTransaction

T = TypeVar("T")

_WRITER_PRAGMAS = (
    "foreign_keys = ON",
    "cache_size = -16000",
    "wal_autocheckpoint = 4000",
    "journal_size_limit = 67108864",
)
"""16 MB of cache. A checkpoint every 16 MB of log: four times SQLite's default, because the same pages change in
commit after commit and are copied once. The log is cut back to 64 MB after a long reader made it grow."""

Synchronous = Literal["NORMAL", "FULL"]


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: Connection
    reader: Connection
    transaction: WriteTransaction


class SqliteStorage:
    """State in one SQLite file. Needs the asyncio backend; may be used from one event loop after another.

    Args:
        path: The file; it and its folder are created when missing, readable by their owner alone.
        synchronous: When a commit counts as durable. NORMAL: it survives the death of any process, a power
            cut may undo the last ones. FULL: it survives a power cut too, at the price of a disk flush per
            commit. Ids that are given to a caller are always committed with FULL.
        busy_timeout_seconds: How long to wait for another process that is writing.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Synchronous = "NORMAL", busy_timeout_seconds: float = 5.0
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous is {synchronous!r}; expected NORMAL or FULL.")
        if not busy_timeout_seconds >= 0:
            raise ValueError(f"busy_timeout_seconds is {busy_timeout_seconds!r}; expected 0 or more.")
        self._path = Path(path).expanduser().absolute()
        self._synchronous = synchronous
        self._busy_timeout_seconds = busy_timeout_seconds
        self._opened: _Opened | None = None
        self._opening = anyio.Lock()

    @property
    def location(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def is_durable(self) -> bool:
        """True: the state outlives the process."""
        return True

    @property
    def size_bytes(self) -> int:
        """What the database takes on disk, its write-ahead log included; 0 while there is none."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def open(self) -> None:
        """Make ready; see `Storage.open`."""
        await self._ready()

    async def aclose(self) -> None:
        """Finish what is under way and close; a later call of any method opens again."""
        async with self._opening:
            opened, self._opened = self._opened, None
            if opened is not None:
                with anyio.CancelScope(shield=True):
                    await opened.reader.close()
                    await opened.writer.close()

    async def check(self) -> list[str]:
        """Return what is wrong with the database, one line each; empty when it is sound. Reads all of it."""
        return await self._read(soundness.problems)

    # Plans

    async def save_plan(self, plan: NewPlan) -> PlanRecord:
        """Store a plan; see `Storage.save_plan`."""
        return await self._write(partial(writes.save_plan, plan=plan), full=True)

    async def load_plan(self, plan_id: PlanId) -> PlanRecord:
        """Return a plan; see `Storage.load_plan`."""
        return await self._read(partial(reads.load_plan, plan_id=plan_id))

    # Orchestrations

    async def create_orchestration(self, new: NewOrchestration) -> Created:
        """Create an orchestration; see `Storage.create_orchestration`."""
        return await self._write(partial(writes.create_orchestration, new=new), full=True)

    async def acquire_lease(
        self,
        orchestration_id: OrchestrationId,
        holder: DriverIdentity,
        is_gone: Callable[[DriverIdentity], bool],
    ) -> Lease:
        """Take the lease; see `Storage.acquire_lease`.

        `is_gone` is called on the writer's thread, within the transaction.
        """
        return await self._write(
            partial(writes.acquire_lease, orchestration_id=orchestration_id, holder=holder, is_gone=is_gone)
        )

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; see `Storage.release_lease`."""
        await self._write(partial(writes.release_lease, lease=lease))

    async def append(self, commits: Sequence[Commit]) -> None:
        """Store a batch as one transaction; see `Storage.append`."""
        if commits:
            await self._write(partial(writes.append, commits=commits))

    async def load_orchestration(self, orchestration_id: OrchestrationId) -> OrchestrationRecord:
        """Return an orchestration's record; see `Storage.load_orchestration`."""
        return await self._read(partial(reads.load_orchestration, orchestration_id=orchestration_id))

    async def list_orchestrations(
        self, *, states: Sequence[OrchestrationStatus] | None = None, limit: int = 100, offset: int = 0
    ) -> list[OrchestrationRecord]:
        """Return records, latest created first; see `Storage.list_orchestrations`."""
        return await self._read(partial(reads.list_orchestrations, states=states, limit=limit, offset=offset))

    async def load_dag(self, orchestration_id: OrchestrationId) -> bytes:
        """Return the DAG document; see `Storage.load_dag`."""
        return await self._read(partial(reads.load_dag, orchestration_id=orchestration_id))

    async def read_events(
        self, orchestration_id: OrchestrationId, *, after_seq: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """Return journal entries in order; see `Storage.read_events`."""
        return await self._read(
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
        return await self._read(
            partial(
                reads.load_tasks,
                orchestration_id=orchestration_id,
                statuses=statuses,
                task_ids=task_ids,
                after_position=after_position,
                limit=limit,
            )
        )

    async def load_outputs(
        self, orchestration_id: OrchestrationId, task_ids: Sequence[TaskId]
    ) -> dict[TaskId, bytes]:
        """Return outputs by task; see `Storage.load_outputs`."""
        return await self._read(
            partial(reads.load_outputs, orchestration_id=orchestration_id, task_ids=task_ids)
        )

    def load_output_blocking(self, orchestration_id: OrchestrationId, task_id: TaskId) -> bytes:
        """Return one output, over a connection of its own; see `Storage.load_output_blocking`."""
        with self._faults_told():
            uri = f"{self._path.as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_seconds)) as database:
                found = reads.load_outputs(database, orchestration_id, [task_id])
        if task_id not in found:
            raise TaskNotFoundError(orchestration_id, task_id)
        return found[task_id]

    async def load_totals(self, *, since_us: int | None = None) -> OrchestrationTotals:
        """Return sums over orchestrations; see `Storage.load_totals`."""
        return await self._read(partial(reads.load_totals, since_us=since_us))

    # Opening, and the two ways to the database

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        opened = self._opened or await self._ready()
        with self._faults_told():
            return await opened.reader.call(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, full: bool = False) -> T:
        opened = self._opened or await self._ready()
        transaction = opened.transaction
        with self._faults_told():
            return await opened.writer.call(lambda database: transaction.run(database, work, full=full))

    async def _ready(self) -> _Opened:
        async with self._opening:
            if self._opened is None:
                with self._faults_told():
                    self._opened = await self._open()
            return self._opened

    async def _open(self) -> _Opened:
        await anyio.to_thread.run_sync(schema.look, self._path, self.location)
        writer = await self._connect()
        try:
            transaction = await writer.call(self._prepare_writer)
            reader = await self._connect()
            await reader.call(_prepare_reader)
        except BaseException:
            await writer.close()
            raise
        return _Opened(writer, reader, transaction)

    async def _connect(self) -> Connection:
        return await Connection.open(self._path, busy_timeout_seconds=self._busy_timeout_seconds)

    def _prepare_writer(self, database: sqlite3.Connection) -> WriteTransaction:
        schema.prepare(database, self.location, busy_timeout_seconds=self._busy_timeout_seconds)
        database.execute(f"PRAGMA synchronous = {self._synchronous}")
        for pragma in _WRITER_PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        return WriteTransaction(self._path, synchronous=self._synchronous)

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            told = translate(self.location, error, busy_timeout_seconds=self._busy_timeout_seconds)
            if told is None:
                raise
            raise told from error


def _prepare_reader(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA query_only = ON")
