"""One SQLite file in use: opened on demand, read through one connection, written through the other.

May import: orchestration.errors, storage.*, anyio, stdlib.

Each connection is on its own thread: a long read holds up no commit (in WAL mode readers and the writer never wait for
each other). Faults of SQLite are told in the program's own words.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.to_thread

from orchestration.errors import StorageUnavailableError
from storage import schema
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
class Opened:
    """The connections to a file that is in use."""

    writer: Connection
    reader: Connection
    transaction: WriteTransaction


class Database:
    """The file at `path`; see `SqliteStorage` for the arguments."""

    def __init__(self, path: Path, *, synchronous: Synchronous, busy_timeout_seconds: float) -> None:
        self.path = path
        self.opened: Opened | None = None
        self._synchronous = synchronous
        self._busy_timeout_seconds = busy_timeout_seconds
        self._opening = anyio.Lock()
        self._times_opened = 0

    @property
    def location(self) -> str:
        """The path, for people."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """What the database takes on disk, its write-ahead log included; 0 while there is none."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @property
    def disk_free_bytes(self) -> int:
        """What is left for this user on the file system that holds the file, or will hold it."""
        folder = next(folder for folder in self.path.parents if folder.is_dir())
        return shutil.disk_usage(folder).free

    async def open(self) -> Opened:
        """Make ready, unless it is."""
        async with self._opening:
            if self.opened is None:
                with self.faults_told():
                    self.opened = await self._open()
                self._times_opened += 1
            return self.opened

    async def aclose(self) -> None:
        """Finish what is under way and close; a later call opens again."""
        async with self._opening:
            opened, self.opened = self.opened, None
            if opened is not None:
                with anyio.CancelScope(shield=True):
                    await opened.reader.close()
                    await opened.writer.close()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` finds; each of its statements sees one moment of the database."""
        opened = self.opened or await self.open()
        with self.faults_told():
            return await opened.reader.call(work)

    async def write(self, work: Callable[[sqlite3.Connection], T], *, full: bool = False) -> T:
        """Return what `work` does in one transaction; `full`: it survives even a power cut."""
        opened = self.opened or await self.open()
        transaction = opened.transaction
        with self.faults_told():
            return await opened.writer.call(lambda database: transaction.run(database, work, full=full))

    def read_blocking(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` finds, on the caller's thread over a connection of its own."""
        with self.faults_told(), closing(self.connect_to_read()) as database:
            return work(database)

    def connect_to_read(self) -> sqlite3.Connection:
        """Return a connection that changes nothing; the caller closes it."""
        uri = f"{self.path.as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_seconds, isolation_level=None)

    async def change_count(self) -> int:
        """Return a number that changes with every commit of anybody else."""
        opened = self.opened or await self.open()
        with self.faults_told():
            version = await opened.writer.call(_data_version)
        # SQLite counts per connection: after closing and opening again the same number would mean nothing.
        return (self._times_opened << 32) + version

    async def cut_log(self) -> bool:
        """Move the write-ahead log into the file and empty it, unless somebody is using it; say whether it is empty."""
        opened = self.opened or await self.open()
        with self.faults_told():
            busy, _, _ = await opened.writer.call(_cut_log)
        return not busy

    @contextmanager
    def faults_told(self, *, of_file: str | None = None) -> Iterator[None]:
        """Raise faults of SQLite as errors of this program.

        Args:
            of_file: Another file that is being written: what makes it unavailable is told of it, and everything else
                is left to a frame around this one.
        """
        try:
            yield
        except Exception as error:
            told = translate(of_file or self.location, error, busy_timeout_seconds=self._busy_timeout_seconds)
            if told is None or (of_file and not isinstance(told, StorageUnavailableError)):
                raise
            raise told from error

    async def _open(self) -> Opened:
        await anyio.to_thread.run_sync(schema.look, self.path, self.location)
        writer = await self._connect()
        try:
            transaction = await writer.call(self._prepare_writer)
            reader = await self._connect()
            await reader.call(_prepare_reader)
        except BaseException:
            await writer.close()
            raise
        return Opened(writer, reader, transaction)

    async def _connect(self) -> Connection:
        return await Connection.open(self.path, busy_timeout_seconds=self._busy_timeout_seconds)

    def _prepare_writer(self, database: sqlite3.Connection) -> WriteTransaction:
        schema.prepare(database, self.location, busy_timeout_seconds=self._busy_timeout_seconds)
        database.execute(f"PRAGMA synchronous = {self._synchronous}")
        for pragma in _WRITER_PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        return WriteTransaction(self.path, synchronous=self._synchronous)


def _prepare_reader(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA query_only = ON")


def _data_version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA data_version").fetchone()[0]
    return version


def _cut_log(database: sqlite3.Connection) -> tuple[int, int, int]:
    answer: tuple[int, int, int] = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return answer
