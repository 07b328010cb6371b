"""A backup is whole, checked, private and new, or there is none."""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestration.engine.events import AttemptSucceeded
from orchestration.engine.inputs import OutputRef
from orchestration.errors import CorruptRecordError, StorageUnavailableError
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.models import TaskStatus
from storage import SqliteStorage
from tests.storage.records import (
    STRANGER,
    commit,
    created,
    ended,
    everybody_is_gone,
    keep,
    new_plan,
    output,
    over,
    plan_revision,
    revision,
    row,
    summary,
)

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 200_000 + b'"'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the copy is to be."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder / "copy.db"


async def test_a_copy_is_a_database_of_its_own(path: Path, copy: Path) -> None:
    """Everything is in one file for its owner alone; the original goes on by itself."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    await storage.append([commit(lease, 2, outputs=[output("a", LARGE, inline=False)])])
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    done = AttemptSucceeded(task_id="a", attempt=1, output=OutputRef(sha256="e" * 64, size_bytes=1))
    old = await ended(storage, "old", entries=20)
    await storage.append(
        [commit(old, 22, done, tasks=[row("a", 0, system="py")], revisions=[revision(2, 22)], summary=over())]
    )
    await storage.retain(keep(compact_after_seconds=0.0), now_us=2 * 10**15)

    size = await storage.backup(copy)
    files = [file.name for file in copy.parent.iterdir()]
    mode = stat.S_IMODE(copy.stat().st_mode)
    with closing(sqlite3.connect(copy)) as database:
        journal_mode = database.execute("PRAGMA journal_mode").fetchone()
    await storage.append([commit(lease, 3)])
    restored = SqliteStorage(copy)
    before = await restored.load_orchestration("report-1")
    taken = await restored.acquire_lease("report-1", STRANGER, everybody_is_gone)
    await restored.append([commit(taken, 3), commit(taken, 4)])
    there = (
        await restored.load_outputs("report-1", ["a"]),
        [(await restored.load_plan("plan-1", number)).revision for number in (1, 2)],
        len(await restored.load_plan_revisions("plan-1")),
        await restored.load_revisions("old-1"),
        len(await restored.load_history([("py", None)])),
        len(await restored.read_events("old-1")),
        (await created(restored)).orchestration_id,
        await restored.check(),
    )
    await restored.aclose()
    here = await storage.load_orchestration("report-1")
    await storage.aclose()

    assert (files, mode, journal_mode) == (["copy.db"], 0o600, ("delete",))
    assert size >= len(LARGE)
    assert (before.last_seq, here.last_seq, here.token) == (2, 3, 1)
    assert there == ({"a": LARGE}, [1, 2], 2, [revision(2, 22)], 1, 22, "report-2", [])


async def test_a_copy_is_of_one_moment_while_others_write(path: Path, copy: Path) -> None:
    """Whole batches up to some commit, and no commit waits for it."""
    storage, other = SqliteStorage(path, busy_timeout_seconds=0), SqliteStorage(path, busy_timeout_seconds=0)
    lease = await created(storage, task_ids=["a"])
    await storage.append([commit(lease, 2, outputs=[output("a", os.urandom(20_000_000), inline=False)])])
    seq, done = 2, anyio.Event()

    async def write() -> None:
        nonlocal seq
        while not done.is_set():
            seq += 1
            facts = {
                "tasks": [row("a", 0, TaskStatus.RUNNING, attempt=seq)],
                "summary": summary({TaskStatus.RUNNING: 1}, attempts=seq),
            }
            await other.append([commit(lease, seq, **facts)])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(write)
            while seq < 20:
                await anyio.lowlevel.checkpoint()
            first = seq
            await storage.backup(copy)
            last = seq
            done.set()
    for each in (storage, other):
        await each.aclose()
    restored = SqliteStorage(copy)
    record = await restored.load_orchestration("report-1")
    (task,) = await restored.load_tasks("report-1")
    problems = await restored.check()
    await restored.aclose()

    assert first - 1 <= record.last_seq <= last
    assert record.summary.attempts == task.attempt == record.last_seq
    assert last > first
    assert problems == []


@pytest.mark.parametrize("kind", ["file", "link", "database"])
async def test_nothing_is_ever_overwritten(path: Path, copy: Path, kind: str) -> None:
    """Not a file, not a link to nowhere, least of all the database itself."""
    storage = SqliteStorage(path)
    await created(storage)
    target = path if kind == "database" else copy
    if kind == "file":
        copy.write_text("precious")
    elif kind == "link":
        copy.symlink_to("nowhere")

    with pytest.raises(StorageUnavailableError) as caught:
        await storage.backup(target)
    there = await storage.load_orchestration("report-1")
    await storage.aclose()

    assert str(caught.value) == (
        f"Database {target}: the file exists already. "
        "Fix: choose a name that is not taken; a backup never overwrites anything."
    )
    assert there.last_seq == 1
    assert [file.name for file in copy.parent.iterdir()] == ([] if kind == "database" else ["copy.db"])
    assert kind != "file" or copy.read_text() == "precious"


async def test_a_name_that_is_taken_meanwhile_is_left_alone(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step refuses it too."""
    storage = SqliteStorage(path)
    link = os.link

    def taken_first(part: Path, target: Path) -> None:
        target.write_text("precious")
        link(part, target)

    monkeypatch.setattr(os, "link", taken_first)
    with pytest.raises(StorageUnavailableError, match=r"the file exists already\. Fix: choose a name"):
        await storage.backup(copy)
    await storage.aclose()

    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]
    assert copy.read_text() == "precious"


async def test_a_file_system_without_hard_links_takes_a_backup_too(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory stick, say; what is there already is safe there as well."""

    def not_possible(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", not_possible)
    storage = SqliteStorage(path)
    await created(storage)

    size = await storage.backup(copy)
    await storage.aclose()
    restored = SqliteStorage(copy)
    problems = await restored.check()
    await restored.aclose()

    assert size == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]
    assert problems == []


@pytest.mark.parametrize("place", ["no/such/folder/copy.db", "state.db/copy.db"])
async def test_a_place_that_can_not_be_written_is_told(path: Path, place: str) -> None:
    """With the reason and what to choose instead."""
    storage = SqliteStorage(path)
    await created(storage)

    with pytest.raises(StorageUnavailableError) as caught:
        await storage.backup(path.parent / place)
    await storage.aclose()

    assert str(caught.value).startswith(f"Database {path.parent / place}: it can't be written (No")
    assert str(caught.value).endswith(
        "Fix: choose a file in a folder you may write to, on a disk with enough space."
    )


async def test_a_damaged_database_gives_no_backup(path: Path, copy: Path) -> None:
    """A copy of damage would be found when it is needed most."""
    storage = SqliteStorage(path)
    await created(storage, task_ids=[f"task-{number}" for number in range(2_000)])
    await storage.aclose()
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) - 4096, 4096):
        content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)

    with pytest.raises(
        CorruptRecordError, match=rf"(?s)Database {path}: its copy is damaged .*restore a backup"
    ):
        await storage.backup(copy)
    await storage.aclose()

    assert list(copy.parent.iterdir()) == []
    assert path.read_bytes() == content


async def test_a_backup_that_was_interrupted_leaves_nothing_under_its_name(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows under another name, which goes with it."""
    storage = SqliteStorage(path)
    await created(storage)

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageUnavailableError, match=r"it can't be written \(Input/output error\)"):
            await storage.backup(copy)
    await storage.aclose()

    assert list(copy.parent.iterdir()) == []


async def test_a_home_folder_is_understood(path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` means what it means everywhere."""
    monkeypatch.setenv("HOME", str(copy.parent))
    storage = SqliteStorage(path)

    await storage.backup(Path("~/copy.db"))
    await storage.aclose()

    assert copy.exists()


async def test_state_in_memory_can_not_be_copied(copy: Path) -> None:
    """It says so, and what to do instead."""
    with pytest.raises(StorageUnavailableError) as caught:
        await MemoryStorage().backup(copy)

    assert str(caught.value) == (
        f"Database memory: what is kept in memory can't be copied to {copy}. "
        "Fix: keep the state in a database file, with SqliteStorage or --database."
    )
