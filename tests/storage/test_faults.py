"""Every way a database can fail is told with its reason and a fix, stores nothing, and is survived."""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orchestration.errors import CorruptRecordError, StorageUnavailableError
from storage import SqliteStorage
from storage.faults import translate
from tests.storage.records import STRANGER, commit, created, new_plan, nobody_is_gone, output, row

pytestmark = pytest.mark.anyio

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


@contextmanager
def without_root() -> Iterator[None]:
    """Give up the right to write anything anywhere, where the tests run with it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_locked_database_is_told_and_readers_go_on(path: Path) -> None:
    """After the busy timeout, with nothing stored; once the lock is gone the same call succeeds."""
    storage = SqliteStorage(path, busy_timeout_seconds=0.05)
    lease = await created(storage)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailableError) as caught:
            await storage.append([commit(lease, 2)])
        meanwhile = await storage.load_orchestration("report-1")
    await storage.append([commit(lease, 2)])
    afterwards = await storage.load_orchestration("report-1")
    await storage.aclose()

    assert str(caught.value) == (
        f"Database {path}: it was locked by another process for more than 0.05 seconds. "
        "Fix: wait until that process has finished, or end it, and repeat."
    )
    assert caught.value.retryable
    assert (meanwhile.last_seq, afterwards.last_seq) == (1, 2)


async def test_a_full_disk_is_told_and_later_appends_work(path: Path) -> None:
    """Nothing of the refused batch is stored, and when there is space again all goes on."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    opened = storage._database.opened
    assert opened is not None
    (pages,) = await opened.writer.call(lambda database: database.execute("PRAGMA page_count").fetchone())
    await opened.writer.call(
        lambda database: database.execute(f"PRAGMA max_page_count = {pages + 3}").fetchone()
    )
    large = commit(lease, 2, outputs=[output("a", b"x" * 1_000_000, inline=False)])

    with pytest.raises(StorageUnavailableError) as caught:
        await storage.append([large])
    meanwhile = await storage.load_orchestration("report-1")
    await storage.append([commit(lease, 2)])
    await opened.writer.call(lambda database: database.execute("PRAGMA max_page_count = 1000000").fetchone())
    await storage.append([commit(lease, 3, outputs=large.outputs)])
    problems = await storage.check()
    await storage.aclose()

    assert str(caught.value) == (
        f"Database {path}: the disk is full (SQLITE_FULL: database or disk is full). "
        "Fix: free some space and repeat; nothing of this request was stored."
    )
    assert meanwhile.last_seq == 1
    assert problems == []


async def test_a_read_only_file_can_be_read_but_not_changed() -> None:
    """Whoever may not write is told so, with what to do."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    path = folder / "state.db"
    storage = SqliteStorage(path)
    lease = await created(storage)
    await storage.aclose()
    path.chmod(0o444)

    try:
        with without_root():
            record = await storage.load_orchestration("report-1")
            with pytest.raises(StorageUnavailableError) as caught:
                await storage.append([commit(lease, 2)])
            await storage.aclose()
    finally:
        shutil.rmtree(folder)

    assert record.last_seq == 1
    assert str(caught.value) == (
        f"Database {path}: it can't be written (SQLITE_READONLY: attempt to write a readonly database). "
        "Fix: make the file and its folder writable for you, or choose another file with --database."
    )


async def test_a_folder_one_may_not_write_to_is_told() -> None:
    """A new database can't be made there."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)

    try:
        with without_root(), pytest.raises(StorageUnavailableError) as caught:
            await SqliteStorage(folder / "state.db").open()
    finally:
        shutil.rmtree(folder)

    assert str(caught.value) == (
        f"Database {folder / 'state.db'}: its file can't be used (Permission denied). Fix: check that the path names a "
        "file in a folder you may write to, or choose another with --database."
    )


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_gone_is_told_instead_of_written_to(path: Path, replaced: bool) -> None:
    """SQLite would write on into the deleted file, and what it acknowledged would be lost."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    path.unlink()
    if replaced:
        path.touch()

    with pytest.raises(StorageUnavailableError) as caught:
        await storage.append([commit(lease, 2)])
    await storage.aclose()

    assert str(caught.value) == (
        f"Database {path}: its file was deleted or replaced while it was in use. "
        "Fix: put the file back where it was, then start this program again."
    )


async def test_a_damaged_file_is_told(path: Path) -> None:
    """Reading it says so, and `check` finds it."""
    storage = SqliteStorage(path)
    lease = await created(storage, task_ids=[f"task-{number}" for number in range(2_000)])
    await storage.aclose()
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) - 4096, 4096):
        content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)

    with pytest.raises(
        CorruptRecordError, match=r"the file is damaged \(.*malformed.*\)\. Fix: restore a backup"
    ):
        await storage.load_tasks(lease.orchestration_id, limit=10_000)
    problems = await storage.check()
    await storage.aclose()

    assert problems
    assert all(line.startswith("integrity: ") for line in problems)


TAMPERINGS = {
    "UPDATE journal SET event = '{}'": "Journal entry 1 of 'report-1' can't be understood: Unable to extract tag",
    "UPDATE task SET status = 'eaten'": "The row of task 'a' can't be understood: its status is 'eaten'",
    "UPDATE orchestration SET summary = '[]'": "The summary of 'report-1' can't be understood: ",
    "UPDATE orchestration SET holder = '{}'": "The driver of 'report-1' can't be understood: host: Field required",
    "UPDATE orchestration SET mode = 'x'": "Orchestration 'report-1' can't be understood: its mode is 'x'",
    "DELETE FROM artifact": "The DAG of 'report-1' can't be understood: its content is missing",
    "UPDATE plan SET thoughts = '7'": "A thought of plan 'plan-1' can't be understood: Input should be a valid array",
    "UPDATE plan_revision SET dag_sha256 = '0'": "The DAG of plan 'plan-1' can't be understood: its content is missing",
    "UPDATE plan SET mode = 'x'": "Plan 'plan-1' can't be understood: its mode is 'x'",
    "UPDATE orchestration SET took = '[[1]]'": "What the tasks of 'report-1' took can't be understood: 0.0: Input",
    "DROP TABLE task": "a part of it is missing (no such table: task)",
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_a_record_that_can_not_be_understood_is_named(path: Path, tampering: str) -> None:
    """The error says which one, and how to go on."""
    storage = SqliteStorage(path)
    await created(storage)
    await storage.save_plan(new_plan())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(tampering)

    with pytest.raises(CorruptRecordError) as caught:
        await read_all(storage)
    await storage.aclose()

    assert str(caught.value).startswith(f"Database {path}: {TAMPERINGS[tampering]}")
    assert (
        "Fix: restore a backup, or move the file away to start afresh; `advanced-orchestration doctor`"
        in str(caught.value)
    )


async def test_a_lease_whose_holder_can_not_be_understood_is_not_given_away(path: Path) -> None:
    """Guessing that nobody holds it might give an orchestration two drivers."""
    storage = SqliteStorage(path)
    await created(storage)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE orchestration SET holder = '{}'")

    with pytest.raises(CorruptRecordError, match="The driver of 'report-1' can't be understood"):
        await storage.acquire_lease("report-1", STRANGER, nobody_is_gone)
    await storage.aclose()


async def read_all(storage: SqliteStorage) -> None:
    """Read one of each kind of record."""
    await storage.read_events("report-1")
    await storage.load_tasks("report-1")
    await storage.load_orchestration("report-1")
    await storage.load_dag("report-1")
    await storage.load_plan("plan-1")
    await storage.load_plan_revisions("plan-1")
    await storage.load_revisions("report-1")
    await storage.load_history([("py", None)])


def test_a_mistake_of_the_program_is_no_fault_of_the_database() -> None:
    """A broken constraint or bad SQL is passed on as it is."""
    with closing(sqlite3.connect(":memory:")) as database:
        errors: list[Exception] = []
        for statement in ("SELECT", "CREATE TABLE t (a NOT NULL)", "INSERT INTO t VALUES (NULL)"):
            try:
                database.execute(statement)
            except sqlite3.Error as error:
                errors.append(error)
    errors.append(sqlite3.ProgrammingError("misuse"))
    errors.append(ValueError("other"))

    assert len(errors) == 4
    assert [translate("x", error, busy_timeout_seconds=1) for error in errors] == [None] * 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "SQLITE_IOERR_FSYNC",
            "reading or writing its file failed (SQLITE_IOERR_FSYNC: x). Fix: check the disk",
        ),
        (
            "SQLITE_CANTOPEN_ISDIR",
            "its file can't be opened (SQLITE_CANTOPEN_ISDIR: x). Fix: check that the path",
        ),
        ("SQLITE_IOERR_SHMSIZE", "the disk is full (SQLITE_IOERR_SHMSIZE: x). Fix: free some space"),
        ("SQLITE_PERM", "its file may not be used (SQLITE_PERM: x). Fix: give yourself the right"),
        ("SQLITE_NOMEM", "there is not enough memory (SQLITE_NOMEM: x). Fix: free some memory"),
        ("SQLITE_BUSY_SNAPSHOT", "it was locked by another process for more than 2 seconds. Fix: wait until"),
    ],
)
def test_rare_faults_are_told_by_their_sqlite_code(name: str, reason: str) -> None:
    """Extended codes count as their kind."""
    error = sqlite3.OperationalError("x")
    error.sqlite_errorname = name

    told = translate("state.db", error, busy_timeout_seconds=2)

    assert isinstance(told, StorageUnavailableError)
    assert str(told).startswith(f"Database state.db: {reason}")


async def test_check_finds_what_does_not_fit_together(path: Path) -> None:
    """Gaps in a journal, missing outputs, rows that name nothing, content that changed."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    done = row("a", 0, output_sha256="0" * 64)
    await storage.append([commit(lease, 2, tasks=[done], outputs=[output("b", b"large", inline=False)])])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE orchestration SET last_seq = 5")
        other.execute("UPDATE artifact SET content = x'00' WHERE content = CAST('large' AS BLOB)")
        other.execute("INSERT INTO journal VALUES (77, 1, 1, '{}')")

    problems = await storage.check()
    await storage.aclose()

    assert problems == [
        "references: a row of journal names a row of orchestration that is missing",
        "journal: 'report-1' should have 5 entries; it has 2, up to seq 2",
        "outputs: the output of task 'a' of 'report-1' is missing",
        f"artifacts: the content of {output('b', b'large').sha256} does not match its hash",
    ]
