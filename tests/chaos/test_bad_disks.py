"""Disks that are full, read-only or damaged: told with what to do, nothing acknowledged is lost, nothing overwritten.

Small file systems and read-only ones are mounted for the test where the system lets it; elsewhere those tests say why
they are skipped.
"""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestration.claim_records import ClaimRequest, Offer
from orchestration.engine.events import AttemptSucceeded
from orchestration.engine.inputs import OutputRef
from orchestration.errors import CorruptRecordError, StorageError, StorageUnavailableError
from orchestration.models import TaskStatus
from orchestration.ports import Lease
from storage import SqliteStorage
from tests.storage.records import (
    HOLDER,
    commit,
    created,
    ended,
    keep,
    new_plan,
    output,
    plan_revision,
    revision,
    row,
    summary,
)

pytestmark = pytest.mark.anyio

SAVED = Path(__file__).parents[1] / "storage" / "data" / "v1.db"
PAGE = 4096
MANY = [f"task-{number}" for number in range(300)]


def mount(*arguments: str | Path) -> None:
    """Mount something, or skip the test with the reason."""
    command = ["mount", *map(str, arguments)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting takes root")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this system does not let the test mount: {done.stderr.strip()}")


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Have something mounted; the place is the last argument."""
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(arguments[-1])], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", folder):
        yield folder


def fill(folder: Path) -> Path:
    """Take all the space there is, to the byte, and return the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    assert shutil.disk_usage(folder).free == 0
    return ballast


async def refusal(
    call: Coroutine[Any, Any, object], kind: type[StorageError] = StorageUnavailableError
) -> str:
    """Return how a call is refused; empty when it is not."""
    try:
        await call
    except kind as error:
        return str(error)
    return ""


async def appended(storage: SqliteStorage, lease: Lease, seq: int) -> None:
    """Advance an orchestration by one entry, with a large output of its own."""
    facts: dict[str, Any] = {
        "tasks": [row("a", 0, TaskStatus.RUNNING, attempt=seq)],
        "outputs": [output("a", b"%09d" % seq * 2_000, inline=False)],
        "summary": summary({TaskStatus.RUNNING: 1}, attempts=seq),
    }
    await storage.append([commit(lease, seq, **facts)])


async def assert_stands_at(storage: SqliteStorage, seq: int) -> None:
    """Assert that everything up to an entry is there, that nothing is after it, and that the file is sound."""
    record = await storage.load_orchestration("report-1")
    events = await storage.read_events("report-1", limit=100_000)
    (task,) = await storage.load_tasks("report-1", task_ids=["a"])
    outputs = await storage.load_outputs("report-1", ["a"])

    assert (record.last_seq, record.summary.attempts, task.attempt) == (seq, seq, seq)
    assert [entry.seq for entry in events] == list(range(1, seq + 1))
    assert outputs == {"a": b"%09d" % seq * 2_000}
    assert await storage.check() == []


# --- Full ---


async def test_a_full_disk_costs_nothing_that_was_acknowledged(small: Path) -> None:
    """What does not fit is refused whole and told; readers go on; with space again, so does the work."""
    path = small / "state.db"
    storage = SqliteStorage(path)
    lease = await created(storage, task_ids=["a"])
    seq = 1
    await appended(storage, lease, seq + 1)
    seq += 1
    ballast = fill(small)

    while not (refused := await refusal(appended(storage, lease, seq + 1))):
        seq += 1
        assert seq < 1_000
    others = [
        await refusal(storage.save_plan(new_plan(context={"x": "x" * 2_000_000}))),
        await refusal(appended(storage, lease, seq + 1)),
    ]
    await assert_stands_at(storage, seq)
    ballast.unlink()
    for _ in range(5):
        seq += 1
        await appended(storage, lease, seq)
    await assert_stands_at(storage, seq)
    await storage.aclose()
    again = SqliteStorage(path)
    await assert_stands_at(again, seq)
    await again.aclose()

    assert refused == (
        f"Database {path}: the disk is full (SQLITE_FULL: database or disk is full). "
        "Fix: free some space and repeat; nothing of this request was stored."
    )
    assert others == [refused, refused]


async def test_a_database_on_a_full_disk_is_told_when_it_is_opened(small: Path) -> None:
    """Even reading takes a little space; nothing is changed, and it can be used once there is some."""
    path = small / "state.db"
    storage = SqliteStorage(path)
    lease = await created(storage, task_ids=["a"])
    await appended(storage, lease, 2)
    await storage.aclose()
    before = path.read_bytes()
    ballast = fill(small)

    refused = await refusal(storage.load_orchestration("report-1"))
    await storage.aclose()
    after = path.read_bytes()
    ballast.unlink()
    await assert_stands_at(storage, 2)
    await appended(storage, lease, 3)
    await assert_stands_at(storage, 3)
    await storage.aclose()

    assert refused.startswith(f"Database {path}: ")
    assert "Fix: free some space" in refused
    assert after == before


async def test_an_upgrade_on_a_full_disk_waits_for_space(small: Path) -> None:
    """The database stays what it was, and is brought forward later."""
    path = Path(shutil.copy(SAVED, small / "state.db"))
    ballast = fill(small)
    storage = SqliteStorage(path)

    refused = await refusal(storage.open())
    await storage.aclose()
    unchanged = path.read_bytes() == SAVED.read_bytes()
    ballast.unlink()
    listed = [record.orchestration_id for record in await storage.list_orchestrations()]
    problems = await storage.check()
    await storage.aclose()

    assert "Fix: free some space" in refused
    assert unchanged
    assert listed == ["unfinished-1", "failed-1", "finished-1"]
    assert problems == []


async def test_a_backup_to_a_full_disk_leaves_nothing_there(small: Path, tmp_path: Path) -> None:
    """It is told of the copy, not of the database, and the database goes on."""
    storage = SqliteStorage(tmp_path / "state.db")
    lease = await created(storage, task_ids=["a"])
    await storage.append([commit(lease, 2, outputs=[output("a", os.urandom(3_000_000), inline=False)])])

    refused = await refusal(storage.backup(small / "copy.db"))
    await appended(storage, lease, 3)
    await assert_stands_at(storage, 3)
    await storage.aclose()

    assert refused.startswith(f"Database {small / 'copy.db'}: the disk is full")
    assert list(small.iterdir()) == []


QUOTA = """
    import asyncio, resource, signal, sys
    from orchestration.errors import StorageUnavailableError
    from storage import SqliteStorage
    from tests.chaos.test_bad_disks import appended
    from tests.storage.records import created
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    async def main():
        storage = SqliteStorage(sys.argv[1])
        lease = await created(storage, task_ids=["a"])
        seq, refusals = 1, 0
        for room in (300_000, 600_000, 4_000_000, resource.RLIM_INFINITY):
            limit(room)
            until = seq + 60
            while seq < until:
                try:
                    await appended(storage, lease, seq + 1)
                except StorageUnavailableError as error:
                    refusals += 1
                    print("refused", str(error), flush=True)
                    break
                seq += 1
                print("stored", seq, flush=True)
        await storage.aclose()
    asyncio.run(main())
"""


async def test_a_quota_on_the_file_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The process is told, not killed, and goes on as far as the limit is raised."""
    path = tmp_path / "state.db"

    with anyio.fail_after(60):
        done = await anyio.run_process(
            [sys.executable, "-c", textwrap.dedent(QUOTA), str(path)], check=False, stderr=subprocess.PIPE
        )
    lines = done.stdout.decode().splitlines()
    refusals = [line for line in lines if line.startswith("refused")]
    last = max(int(line.split()[1]) for line in lines if line.startswith("stored"))
    storage = SqliteStorage(path)
    await assert_stands_at(storage, last)
    await storage.aclose()

    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert len(refusals) >= 2
    assert all("Fix: free some space" in line or "Fix: check the disk" in line for line in refusals)
    assert lines[-1] == f"stored {last}"
    assert last > 60


# --- Read-only ---


async def test_a_file_that_can_only_be_read_is_read_and_not_changed(tmp_path: Path) -> None:
    """Its owner may have made it so, or a mount."""
    path = tmp_path / "state.db"
    storage = SqliteStorage(path)
    lease = await created(storage, task_ids=["a"])
    await appended(storage, lease, 2)
    await storage.aclose()
    before = path.read_bytes()

    with mounted("--bind", path, path):
        mount("-o", "remount,bind,ro", path)
        record = await storage.load_orchestration("report-1")
        refused = [await refusal(appended(storage, lease, 3)), await refusal(created(storage))]
        refused.append(await refusal(storage.retain(keep(keep_finished=0), now_us=2 * 10**15)))
        copied = await storage.backup(tmp_path / "copy.db")
        await storage.aclose()
    await appended(storage, lease, 3)
    await assert_stands_at(storage, 3)
    await storage.aclose()

    assert record.last_seq == 2
    assert all("it can't be written (SQLITE_READONLY" in each for each in refused)
    assert all("Fix: make the file and its folder writable for you" in each for each in refused)
    assert copied >= len(before)


async def test_a_file_system_that_is_read_only_is_told_and_left_alone(tmp_path: Path) -> None:
    """After an error a system mounts its disks so; when it is writable again, everything is as before."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder):
        path = folder / "state.db"
        storage = SqliteStorage(path)
        lease = await created(storage, task_ids=["a"])
        await appended(storage, lease, 2)
        await storage.aclose()
        before = path.read_bytes()
        mount("-o", "remount,ro", folder)

        refused = [
            await refusal(appended(storage, lease, 3)),
            await refusal(SqliteStorage(folder / "new.db").open()),
        ]
        await storage.aclose()
        after = path.read_bytes()
        names = [file.name for file in folder.iterdir()]
        mount("-o", "remount,rw", folder)
        await appended(storage, lease, 3)
        await assert_stands_at(storage, 3)
        await storage.aclose()

    assert all("Fix: " in each and "folder" in each for each in refused)
    assert (after, names) == (before, ["state.db"])


# --- Damaged ---


async def readable(storage: SqliteStorage) -> dict[str, Any]:
    """Read all there is, each kind of thing by itself, and return what can be read."""
    calls: dict[str, Coroutine[Any, Any, Any]] = {
        "record": storage.load_orchestration("report-1"),
        "list": storage.list_orchestrations(),
        "dag": storage.load_dag("report-1"),
        "events": storage.read_events("report-1"),
        "compressed": storage.read_events("old-1"),
        "tasks": storage.load_tasks("report-1"),
        "outputs": storage.load_outputs("report-1", MANY),
        "plan": storage.load_plan("plan-1"),
        "first plan": storage.load_plan("plan-1", 1),
        "plan log": storage.load_plan_revisions("plan-1"),
        "log": storage.load_revisions("report-1"),
        "history": storage.load_history([("py", None)]),
        "offers": storage.load_offers("report-1"),
        "claims": storage.load_claim_totals("report-1"),
    }
    found: dict[str, Any] = {}
    for name, call in calls.items():
        with suppress(CorruptRecordError):
            found[name] = await call
    return found


async def changed(storage: SqliteStorage) -> None:
    """Change every task, and a little of everything around it."""
    lease = Lease(orchestration_id="report-1", token=1, holder=HOLDER)
    tasks = [row(name, place, TaskStatus.CANCELLED) for place, name in enumerate(MANY)]
    outputs = [output(name, b"y" * 600) for name in MANY]
    changing = commit(
        lease, 303, tasks=tasks, outputs=outputs, revisions=[revision(3, 303)], offers=offers(2)
    )
    await storage.append([changing])


def offers(number: int) -> list[Offer]:
    """Offers of the first forty tasks."""
    return [
        Offer(
            task_id=name,
            number=number,
            attempt=1,
            lease_seconds=300.0,
            brief=f"Do {name}. " * 20,
            offered_at_us=1,
        )
        for name in MANY[:40]
    ]


@pytest.fixture
async def sound(tmp_path: Path) -> Path:
    """A database with something in every table that matters."""
    path = tmp_path / "sound.db"
    storage = SqliteStorage(path)
    await ended(storage, "old", entries=50)
    await storage.retain(keep(compact_after_seconds=0.0), now_us=2 * 10**15)
    lease = await created(storage, task_ids=MANY)
    outputs = [output(name, name.encode() * 10, inline=bool(place % 3)) for place, name in enumerate(MANY)]
    for place in range(0, 300, 100):
        await storage.append(
            [
                commit(lease, 2 + number, outputs=outputs[number : number + 1])
                for number in range(place, place + 100)
            ]
        )
    done = AttemptSucceeded(task_id=MANY[0], attempt=1, output=OutputRef(sha256="e" * 64, size_bytes=1))
    rows = [row(MANY[0], 0, TaskStatus.COMPLETED, system="py")]
    await storage.append(
        [commit(lease, 302, done, tasks=rows, revisions=[revision(2, 302)], offers=offers(1))]
    )
    for number in range(20):
        await storage.claim_offer(ClaimRequest(worker="ann", claim_id=f"claim-{number}", now_us=2))
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    await storage.aclose()
    return path


async def test_whichever_page_is_damaged_nothing_wrong_is_read_and_nothing_overwritten(
    sound: Path, tmp_path: Path
) -> None:
    """Each page of a database in its turn: refused with what to do where it matters, byte for byte as it was after."""
    storage = SqliteStorage(sound)
    known = await readable(storage)
    await storage.aclose()
    content = sound.read_bytes()
    refused_by = {"reading": 0, "mending": 0, "changing": 0}

    for start in range(0, len(content), PAGE):
        path = tmp_path / "damaged.db"
        damaged = content[:start] + b"\xff" * 100 + content[start + 100 :]
        path.write_bytes(damaged)
        storage = SqliteStorage(path)

        read = await readable(storage)
        mending = await refusal(storage.mend(), CorruptRecordError)
        await storage.aclose()
        untouched = path.read_bytes()
        path.write_bytes(damaged)
        changing = await refusal(changed(storage), CorruptRecordError)
        await storage.aclose()

        assert read.items() <= known.items()
        assert not mending or ("Fix: " in mending and untouched == damaged)
        assert not changing or ("Fix: " in changing and path.read_bytes() == damaged)
        refused_by["reading"] += len(read) < len(known)
        refused_by["mending"] += bool(mending)
        refused_by["changing"] += bool(changing)

    pages = len(content) // PAGE
    assert pages > 60
    assert refused_by["mending"] >= pages - 3
    assert refused_by["reading"] > pages // 2
    assert refused_by["changing"] > pages // 2


async def test_a_cut_file_is_told(sound: Path) -> None:
    """Half of it is missing, as after a copy that was interrupted."""
    content = sound.read_bytes()
    cut = content[: len(content) // 2]
    sound.write_bytes(cut)
    storage = SqliteStorage(sound)

    refused = [
        await refusal(storage.load_outputs("report-1", MANY), CorruptRecordError),
        await refusal(storage.mend(), CorruptRecordError),
        await refusal(storage.backup(sound.with_name("copy.db")), CorruptRecordError),
    ]
    await storage.aclose()

    assert all("Fix: restore a backup" in each for each in refused)
    assert sound.read_bytes() == cut
    assert not sound.with_name("copy.db").exists()
