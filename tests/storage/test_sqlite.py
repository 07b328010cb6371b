"""What only the SQLite storage promises: sharing, readers that hold nobody up, event loops, and deaths."""

from __future__ import annotations

import asyncio  # noqa: TID251  (several event loops, one after the other)
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from orchestration.engine.events import RetryDue
from orchestration.errors import LeaseHeldError, StaleFencingTokenError
from orchestration.models import TaskStatus
from storage import SqliteStorage
from tests.storage.records import (
    HOLDER,
    NOW_US,
    STRANGER,
    answer,
    answers_alone,
    commit,
    created,
    everybody_is_gone,
    new_orchestration,
    new_plan,
    nobody_is_gone,
    output,
    plan_revision,
    request,
    revision,
    row,
    summary,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


def python(script: str, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- Settings ---


@pytest.mark.parametrize("synchronous", ["OFF", "normal", ""])
def test_a_level_that_would_lose_commits_is_refused(path: Path, synchronous: str) -> None:
    """Only NORMAL and FULL keep what was acknowledged."""
    with pytest.raises(ValueError, match=f"synchronous is '{synchronous}'; expected NORMAL or FULL"):
        SqliteStorage(path, synchronous=synchronous)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_busy_timeout_that_is_no_duration_is_refused(path: Path, seconds: float) -> None:
    """The error names the value."""
    with pytest.raises(ValueError, match=rf"busy_timeout_seconds is {seconds}; expected 0 or more"):
        SqliteStorage(path, busy_timeout_seconds=seconds)


@pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
async def test_ids_are_acknowledged_with_full_durability(path: Path, synchronous: str, level: int) -> None:
    """A commit that gives out an id, takes a request, revises or is critical is flushed; others follow the setting."""
    storage = SqliteStorage(path, synchronous=synchronous)  # type: ignore[arg-type]
    await storage.open()
    assert storage._database.opened is not None
    writer = storage._database.opened.writer
    levels: list[int] = []

    def note_level(statement: str) -> None:
        if statement == "COMMIT":
            levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    connection = await writer.call(lambda database: database)
    await writer.call(lambda database: database.set_trace_callback(note_level))
    lease = await created(storage)
    await storage.save_plan(new_plan())
    await storage.send_control("report-1", request(), sent_at_us=NOW_US)
    await storage.append([commit(lease, 2)])
    await storage.append([commit(lease, 3), commit(lease, 4, is_critical=True), commit(lease, 5)])
    await storage.renew_leases(HOLDER, [lease], lease_seconds=15.0, now_us=NOW_US)
    await storage.revise_plan("plan-1", plan_revision(1))
    await storage.append([commit(lease, 6), commit(lease, 7, revisions=[revision(2, 7)])])
    await writer.call(lambda database: database.set_trace_callback(None))
    await storage.aclose()

    assert levels == [2, 2, 2, level, 2, level, 2, 2]


async def test_the_size_on_disk_counts_the_log(path: Path) -> None:
    """Nothing while there is no file, more with each large output."""
    storage = SqliteStorage(path)
    nothing = storage.size_bytes
    lease = await created(storage)
    small = storage.size_bytes

    await storage.append([commit(lease, 2, outputs=[output("a", b"x" * 500_000, inline=False)])])
    large = storage.size_bytes
    await storage.aclose()

    assert nothing == 0
    assert 0 < small < large - 500_000


def test_the_space_left_is_that_of_the_disk(tmp_path: Path) -> None:
    """Also while neither the file nor its folder is there."""
    storage = SqliteStorage(tmp_path / "not" / "yet" / "state.db")

    free = storage.disk_free_bytes

    assert abs(free - shutil.disk_usage(tmp_path).free) < 2**30
    assert list(tmp_path.iterdir()) == []


# --- Large outputs ---


async def test_a_large_output_is_stored_once_by_its_hash(path: Path) -> None:
    """Over tasks and orchestrations, and so are DAGs and what is too long for a row that status looks through."""
    storage = SqliteStorage(path)
    text = b"x" * 200_000
    for _ in range(3):
        lease = await created(storage, dag_json=b'{"dag": 1}')
        outputs = [output("a", text, inline=False), output("b", text, inline=False)]
        await storage.append([commit(lease, 2, outputs=outputs)])
        await storage.append([commit(lease, 3, outputs=[output("b", b"y" * 5_000)])])
    with closing(sqlite3.connect(path)) as other:
        artifacts = other.execute("SELECT length(content) FROM artifact ORDER BY 1").fetchall()
        problems = await storage.check()
        loaded = [await storage.load_outputs(f"report-{number}", ["a", "b"]) for number in (1, 2, 3)]
    await storage.aclose()

    assert artifacts == [(10,), (5_000,), (200_000,)]
    assert loaded == [{"a": text, "b": b"y" * 5_000}] * 3
    assert problems == []


# --- Sharing ---


async def test_two_storages_on_one_file_see_each_others_writes(path: Path) -> None:
    """At once, and the lease keeps their drivers apart."""
    one, two = SqliteStorage(path), SqliteStorage(path)
    lease = await created(one)
    second = await created(two)

    await one.append([commit(lease, 2)])
    seen = await two.load_orchestration("report-1")
    with pytest.raises(LeaseHeldError):
        await two.acquire_lease("report-1", STRANGER, nobody_is_gone)
    taken = await two.acquire_lease("report-1", STRANGER, everybody_is_gone)
    with pytest.raises(StaleFencingTokenError, match="carried fencing token 1, but 2 is current"):
        await one.append([commit(lease, 3)])
    await two.append([commit(taken, 3)])
    listed = await one.list_orchestrations()
    await one.aclose()
    await two.aclose()

    assert seen.last_seq == 2
    assert second.orchestration_id == "report-2"
    assert [record.last_seq for record in listed] == [1, 3]


async def test_the_change_count_tells_of_others_and_only_of_them(path: Path) -> None:
    """A driver looks into its inbox when it has changed; its own commits and everybody's reads are no reason."""
    one, two = SqliteStorage(path), SqliteStorage(path)
    lease = await created(one)
    counts = [await one.change_count()]

    async def note() -> None:
        counts.append(await one.change_count())

    await one.append([commit(lease, 2)])
    await one.renew_leases(HOLDER, [lease], lease_seconds=15.0, now_us=NOW_US)
    await two.list_orchestrations()
    await two.release_lease(replace(lease, token=7))
    await note()
    control_id = await two.send_control("report-1", request(), sent_at_us=NOW_US)
    await note()
    await one.append([answers_alone(lease, answer(control_id))])
    await note()
    await two.acquire_lease("report-1", STRANGER, everybody_is_gone)
    await note()
    await one.aclose()
    await two.retire_driver(HOLDER)
    await note()
    await note()
    for each in (one, two):
        await each.aclose()

    same = [earlier == later for earlier, later in pairwise(counts)]
    assert same == [True, False, True, False, False, True]


async def test_many_processes_may_write_at_once(path: Path) -> None:
    """Each gets ids of its own, and every commit of every one is there."""
    script = """
        import asyncio, sys
        from storage import SqliteStorage
        from tests.storage.records import commit, created
        async def main():
            storage = SqliteStorage(sys.argv[1], busy_timeout_seconds=30)
            for _ in range(5):
                lease = await created(storage)
                for seq in range(2, 12):
                    await storage.append([commit(lease, seq)])
            await storage.aclose()
        asyncio.run(main())
    """
    processes = [python(script, str(path)) for _ in range(3)]

    outcomes = [await anyio.to_thread.run_sync(process.communicate) for process in processes]
    storage = SqliteStorage(path)
    records = await storage.list_orchestrations()
    problems = await storage.check()
    await storage.aclose()

    assert outcomes == [("", "")] * 3
    assert {record.orchestration_id for record in records} == {f"report-{number}" for number in range(1, 16)}
    assert {record.last_seq for record in records} == {11}
    assert problems == []


async def test_a_reader_in_another_process_never_blocks_the_writer(path: Path) -> None:
    """Even while it keeps looking at one moment of the database."""
    storage = SqliteStorage(path, busy_timeout_seconds=0)
    lease = await created(storage)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        before = other.execute("SELECT last_seq FROM orchestration").fetchone()
        await storage.append([commit(lease, 2)])
        still = other.execute("SELECT last_seq FROM orchestration").fetchone()
        other.execute("COMMIT")
        after = other.execute("SELECT last_seq FROM orchestration").fetchone()
    await storage.aclose()

    assert (before, still, after) == ((1,), (1,), (2,))


async def test_a_long_read_holds_up_no_commit(path: Path) -> None:
    """Reads and writes go through connections of their own."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    assert storage._database.opened is not None
    reading, may_end = threading.Event(), threading.Event()

    def long_read(_: sqlite3.Connection) -> None:
        reading.set()
        may_end.wait(10)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(storage._database.opened.reader.call, long_read)
            await anyio.to_thread.run_sync(reading.wait, 5)
            await storage.append([commit(lease, 2)])
            may_end.set()
    record = await storage.load_orchestration("report-1")
    await storage.aclose()

    assert record.last_seq == 2


async def test_a_cancelled_append_leaves_no_transaction_behind(path: Path) -> None:
    """It is stored whole or not at all, and the next one goes on from there."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.1, other.execute, ["COMMIT"]).start()

        with anyio.move_on_after(0.02):
            await storage.append([commit(lease, 2)])

        record = await storage.load_orchestration("report-1")
    await storage.append([commit(lease, record.last_seq + 1)])
    problems = await storage.check()
    await storage.aclose()

    assert problems == []


async def test_a_heartbeat_finds_the_one_lease_that_was_lost_among_a_thousand(path: Path) -> None:
    """One statement counts it, and one look through an index finds what is gone."""
    storage = SqliteStorage(path)
    leases = [await created(storage, task_ids=["a"]) for _ in range(1_000)]
    await storage.release_lease(leases[0])
    await storage.acquire_lease("report-2", STRANGER, everybody_is_gone)

    lost = await storage.renew_leases(HOLDER, leases, lease_seconds=15.0, now_us=NOW_US)
    await storage.aclose()

    assert lost == ["report-2"]


async def test_status_of_a_large_orchestration_is_fast(path: Path) -> None:
    """Under 10 ms for 10,000 tasks from another connection: no journal, no outputs; and one task is found at once."""
    writer, reader = SqliteStorage(path), SqliteStorage(path)
    names = [f"task-{number}" for number in range(10_000)]
    lease = await created(writer, task_ids=names)
    events = [RetryDue(task_id=name) for name in names * 3]
    outputs = [output(name, f'"{name:x>3000}"'.encode()) for name in names]
    await writer.append([commit(lease, 2, *events, outputs=outputs)])
    await reader.open()
    times: list[float] = []

    for _ in range(10):
        started = time.perf_counter()
        record = await reader.load_orchestration("report-1")
        running = await reader.load_tasks("report-1", statuses=[TaskStatus.RUNNING])
        (one,) = await reader.load_tasks("report-1", task_ids=["task-77"])
        times.append(time.perf_counter() - started)
    await reader.aclose()
    await writer.aclose()

    assert (record.last_seq, running, one.position) == (30_001, [], 77)
    assert min(times) < 0.010


# --- Event loops and the end of the process ---


def test_one_storage_serves_event_loop_after_event_loop(path: Path) -> None:
    """Library calls may each run in a loop of their own, with and without closing between."""
    storage = SqliteStorage(path)

    first = asyncio.run(created(storage))
    asyncio.run(storage.append([commit(first, 2)]))
    asyncio.run(storage.aclose())
    record = asyncio.run(storage.load_orchestration("report-1"))
    asyncio.run(storage.aclose())

    assert record.last_seq == 2


@pytest.mark.parametrize(
    "ending",
    [
        "asyncio.run(created(storage))",
        "asyncio.run(created(SqliteStorage(sys.argv[1]))); asyncio.run(asyncio.sleep(0))",
        "asyncio.run(created(storage)); asyncio.run(storage.aclose())",
        "asyncio.run(cancelled())",
        "asyncio.run(refused())",
    ],
    ids=["kept", "dropped", "closed", "cancelled", "refused"],
)
def test_a_forgotten_close_neither_hangs_nor_warns(path: Path, ending: str) -> None:
    """The process ends by itself, in silence, although every warning is shown."""
    script = f"""
import asyncio, sys
from storage import SqliteStorage
from tests.storage.records import commit, created
storage = SqliteStorage(sys.argv[1])
async def cancelled():
    lease = await created(storage)
    task = asyncio.ensure_future(storage.append([commit(lease, 2)]))
    await asyncio.sleep(0)
    task.cancel()
async def refused():
    try:
        await SqliteStorage("/").open()
    except Exception as error:
        assert "can't be used" in str(error)
{ending}
"""
    with python(script, str(path), flags=("-X", "dev", "-W", "error")) as process:
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (0, "", "")


APPENDING_FOREVER = """
    import asyncio, sys
    from orchestration.engine.events import RetryDue
    from orchestration.models import TaskStatus
    from storage import SqliteStorage
    from tests.storage.records import HOLDER, commit, created, everybody_is_gone, output, row, summary
    async def main():
        storage = SqliteStorage(sys.argv[1])
        if not await storage.list_orchestrations():
            await created(storage, task_ids=["a"])
        lease = await storage.acquire_lease("report-1", HOLDER, everybody_is_gone)
        seq = (await storage.load_orchestration("report-1")).last_seq
        while True:
            facts = dict(
                tasks=[row("a", 0, TaskStatus.RUNNING, attempt=seq + 3)],
                outputs=[output("a", b"%d" % (seq + 3), inline=seq % 2 == 0)],
                summary=summary({TaskStatus.RUNNING: 1}, attempts=seq + 3),
            )
            await storage.append([
                commit(lease, seq + 1, RetryDue(task_id="a"), RetryDue(task_id="b")),
                commit(lease, seq + 3, RetryDue(task_id="c"), **facts),
            ])
            seq += 3
            print(seq, flush=True)
    asyncio.run(main())
"""


async def test_kill_9_in_the_middle_of_appends_leaves_whole_batches(path: Path) -> None:
    """What was acknowledged is there; journal, row, output and summary agree; seqs have no gaps."""
    for _ in range(3):
        process = python(APPENDING_FOREVER, str(path))
        assert process.stdout is not None
        acknowledged = 0
        for _ in range(40):
            acknowledged = int(await anyio.to_thread.run_sync(process.stdout.readline))
        process.send_signal(signal.SIGKILL)
        rest = await anyio.to_thread.run_sync(
            process.stdout.read
        )  # communicate() would miss what is buffered
        acknowledged = max([acknowledged, *map(int, rest.split())])
        await anyio.to_thread.run_sync(process.communicate)

        storage = SqliteStorage(path)
        record = await storage.load_orchestration("report-1")
        events = await storage.read_events("report-1", limit=1_000_000)
        tasks = await storage.load_tasks("report-1")
        outputs = await storage.load_outputs("report-1", ["a"])
        problems = await storage.check()
        await storage.aclose()

        assert process.returncode == -signal.SIGKILL
        assert record.last_seq in (acknowledged, acknowledged + 3)
        assert [entry.seq for entry in events] == list(range(1, record.last_seq + 1))
        assert record.summary == summary({TaskStatus.RUNNING: 1}, attempts=record.last_seq)
        assert tasks == [row("a", 0, TaskStatus.RUNNING, attempt=record.last_seq)]
        assert outputs == {"a": b"%d" % record.last_seq}
        assert problems == []


async def test_a_large_orchestration_is_created_in_one_go(path: Path) -> None:
    """100,000 task rows are a matter of a second or two."""
    tasks = [row(f"task-{number}", number) for number in range(100_000)]
    storage = SqliteStorage(path)

    with anyio.fail_after(30):
        await storage.create_orchestration(new_orchestration(tasks=tasks))
        last = await storage.load_tasks("report-1", after_position=99_998)
    await storage.aclose()

    assert [task.task_id for task in last] == ["task-99999"]
