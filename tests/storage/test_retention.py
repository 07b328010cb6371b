"""Housekeeping in a file: journals read right at every moment, nothing is left behind, the file does not grow."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestration.engine.events import Recorded
from orchestration.execution.storage_rules import ABANDONED_AFTER_US
from orchestration.ports import Retained, Retention
from storage import SqliteStorage, artifacts, codec, retention
from tests.storage.records import (
    EVERY_EVENT,
    HOLDER,
    NOW_US,
    cache_entry,
    commit,
    created,
    ended,
    keep,
    new_plan,
    nobody_is_gone,
    output,
    over,
    plan_revision,
    recorded,
    revision,
)

pytestmark = pytest.mark.anyio

COMPACT = keep(compact_after_seconds=0.0)
REMOVE = keep(remove_after_seconds=0.0)
LATER_US = NOW_US + 10**12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


def ask(path: Path, query: str) -> Any:
    """Return the first value of a query, over a connection of its own."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchone()[0]


async def journal(
    storage: SqliteStorage, orchestration_id: str = "report-1", *, limit: int = 700
) -> list[Recorded]:
    """Read a whole journal, page by page."""
    entries: list[Recorded] = []
    while page := await storage.read_events(
        orchestration_id, after_seq=entries[-1].seq if entries else 0, limit=limit
    ):
        assert len(page) <= limit
        entries += page
    return entries


async def retained(storage: SqliteStorage, asked: Retention) -> int:
    """Do rounds until nothing is left to do; return how many."""
    for rounds in range(1, 200):
        if (await storage.retain(asked, now_us=LATER_US)).is_finished:
            return rounds
    raise AssertionError("housekeeping never came to an end")


# --- Compressed journals ---


async def test_a_long_journal_is_compressed_in_parts_and_reads_as_before(path: Path) -> None:
    """From any place, in pages of any size, every kind of event."""
    storage = SqliteStorage(path)
    await ended(storage, "other", entries=3)
    lease = await created(storage)
    events = list(EVERY_EVENT) * 120
    await storage.append([commit(lease, 2, *events, summary=over())])
    await storage.release_lease(lease)
    before = await journal(storage)
    size = ask(path, "SELECT sum(length(event)) FROM journal")

    done = await storage.retain(COMPACT, now_us=LATER_US)
    pages = {limit: await journal(storage, limit=limit) for limit in (10, 333, 1_000, 10_000)}
    places = {
        after: await storage.read_events("report-1", after_seq=after, limit=3)
        for after in (-5, 0, 1, 998, 999, 1_000, 1_001, 1_999, len(before) - 1, len(before), 2**63)
    }
    nothing = await storage.read_events("report-1", limit=0)
    problems = await storage.check()
    await storage.aclose()

    assert done == Retained(compacted=2)
    assert [entry.event for entry in before[1:]] == events
    assert all(entries == before for entries in pages.values())
    assert places == {after: before[max(0, after) :][:3] for after in places}
    assert nothing == []
    assert ask(path, "SELECT count(*) FROM journal") == 0
    assert ask(path, "SELECT count(*) FROM journal_archive") == 1 + -(-len(before) // 1_000)
    assert ask(path, "SELECT sum(length(events)) FROM journal_archive") < size / 5
    assert problems == []


async def test_no_more_is_unpacked_than_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part for a page within it, none for what is not compressed."""
    storage = SqliteStorage(path)
    await ended(storage, entries=4_000)
    await retained(storage, COMPACT)
    lease = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)
    await storage.append([commit(lease, 4_002)])
    unpacked: list[tuple[int, int]] = []
    decode = codec.decode_entries

    def counted(owner: str, first_seq: int, last_seq: int, content: bytes) -> list[tuple[int, int, str]]:
        unpacked.append((first_seq, last_seq))
        return decode(owner, first_seq, last_seq, content)

    monkeypatch.setattr(codec, "decode_entries", counted)
    inside = await storage.read_events("report-1", after_seq=1_500, limit=500)
    across = await storage.read_events("report-1", after_seq=2_990, limit=20)
    live = await storage.read_events("report-1", after_seq=4_001)
    await storage.aclose()

    assert [entry.seq for entry in inside + across + live] == [
        *range(1_501, 2_001),
        *range(2_991, 3_011),
        4_002,
    ]
    assert unpacked == [(1_001, 2_000), (2_001, 3_000), (3_001, 4_000)]


async def test_a_journal_reads_right_after_each_part_is_moved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One short transaction a part; in between some of it is compressed and the rest is not."""
    monkeypatch.setattr(retention, "_MOST_CHUNKS", 1)
    storage = SqliteStorage(path)
    await ended(storage, entries=3_500)
    before = await journal(storage)
    live: list[int] = []

    for _ in range(4):
        await storage.retain(COMPACT, now_us=LATER_US)
        live.append(ask(path, "SELECT count(*) FROM journal"))
        assert await journal(storage) == before
        assert await storage.check() == []
    await storage.aclose()

    assert live == [2_501, 1_501, 501, 0]


async def test_readers_never_see_a_gap_while_parts_are_moved(path: Path) -> None:
    """A page is of one moment, whatever another process is doing."""
    storage, reader = SqliteStorage(path), SqliteStorage(path)
    await ended(storage, entries=20_000)
    before = await reader.read_events("report-1", limit=30_000)
    pages = 0
    done = anyio.Event()

    async def read() -> None:
        nonlocal pages
        while not done.is_set():
            for after in (0, 900, 10_500, 19_500):
                page = await reader.read_events("report-1", after_seq=after, limit=1_500)
                assert page == before[after : after + 1_500]
                pages += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            while pages < 4:
                await anyio.lowlevel.checkpoint()
            started_at = pages
            await retained(storage, COMPACT)
            ended_at = pages
            done.set()
    for each in (storage, reader):
        await each.aclose()

    assert ended_at > started_at
    assert ask(path, "SELECT count(*) FROM journal") == 0


async def test_what_is_reopened_goes_on_behind_its_compressed_part(path: Path) -> None:
    """New entries follow with the next seq; when it ends again, they are compressed too."""
    storage = SqliteStorage(path)
    await ended(storage, entries=1_200)
    await retained(storage, COMPACT)
    lease = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)

    await storage.append([commit(lease, 1_202, *EVERY_EVENT)])
    reopened = await storage.retain(COMPACT, now_us=LATER_US)
    mixed = await journal(storage)
    await storage.append([commit(lease, 1_202 + len(EVERY_EVENT), summary=over())])
    await storage.release_lease(lease)
    again = await storage.retain(COMPACT, now_us=LATER_US)
    whole = await journal(storage)
    problems = await storage.check()
    await storage.aclose()

    assert (reopened.compacted, again.compacted) == (0, 1)
    assert whole[:-1] == mixed
    assert [entry.event for entry in mixed[1_201:]] == list(EVERY_EVENT)
    assert [entry.seq for entry in whole] == list(range(1, len(whole) + 1))
    assert ask(path, "SELECT count(*) FROM journal") == 0
    assert problems == []


async def test_what_was_taken_meanwhile_is_left_alone(path: Path) -> None:
    """Between the look and the move an orchestration may be reopened, or compressed by another process."""
    storage = SqliteStorage(path)
    await ended(storage, entries=20)
    abandoned = LATER_US - ABANDONED_AFTER_US
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        (candidate,) = retention._find_compactable(database, LATER_US, abandoned)
        chunk = retention._compress(database, candidate.number, 0)
        assert chunk is not None
        lease = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)
        while_held = [
            retention._archive(database, chunk, abandoned),
            retention._remove(database, candidate.number, abandoned),
        ]
        await storage.release_lease(lease)
        twice = [retention._archive(database, chunk, abandoned) for _ in range(2)]
        removed = [retention._remove(database, candidate.number, abandoned) for _ in range(2)]
    await storage.aclose()

    assert while_held == [False, 0]
    assert twice == [True, False]
    assert removed == [4, 0]  # one compressed part, two tasks, itself


async def test_a_journal_with_a_gap_is_left_for_the_doctor(path: Path) -> None:
    """It holds up nobody else's, and housekeeping comes to an end."""
    storage = SqliteStorage(path)
    await ended(storage, "broken", entries=20)
    await ended(storage, "empty", entries=20)
    await ended(storage, "fine", entries=20)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM journal WHERE seq = 7 AND orchestration = 1")
        other.execute("DELETE FROM journal WHERE orchestration = 2")

    done = await storage.retain(COMPACT, now_us=LATER_US)
    problems = await storage.check()
    await storage.aclose()

    assert done == Retained(compacted=1)
    assert problems == [
        "journal: 'broken-1' should have 21 entries; it has 20, up to seq 21",
        "journal: 'empty-1' should have 21 entries; it has 0, up to seq 0",
    ]


@pytest.mark.parametrize("document", ['{"a":\n 1}', '{"a": "\u2028"}', "not JSON", ""])
def test_any_document_survives_compression(document: str) -> None:
    """What can't be understood is kept for whoever can; line breaks between parts of JSON mean nothing."""
    rows = [(5, NOW_US, document), (6, NOW_US + 1, '{"b": 2}')]

    unpacked = codec.decode_entries("o-1", 5, 6, codec.encode_entries(rows))

    assert unpacked == [(5, NOW_US, document.replace("\n", " ")), rows[1]]


# --- Removing ---


async def test_nothing_is_left_of_what_was_removed(path: Path) -> None:
    """Not a row and not an artifact, whatever named it; only the counters that give ids out."""
    storage = SqliteStorage(path)
    for number in range(3):
        text = b"%d" % number * 5_000
        plan = await storage.save_plan(new_plan())
        await storage.revise_plan(plan.plan_id, plan_revision(1, dag_json=b"%d" % number))
        lease = await created(storage, plan_id=plan.plan_id)
        shared = output("b", b"shared" * 1_000, inline=False)
        await storage.append(
            [
                commit(
                    lease,
                    2,
                    outputs=[output("a", text, inline=False), shared],
                    cached=[cache_entry(f"{number}")],
                )
            ]
        )
        later = [output("a", text + b"again", inline=False)]
        await storage.append([commit(lease, 3, outputs=later, revisions=[revision(2, 3)], summary=over())])
        await storage.release_lease(lease)
    await storage.retain(COMPACT, now_us=NOW_US)

    done = await storage.retain(REMOVE, now_us=LATER_US)
    problems = await storage.check()
    await storage.aclose()

    assert done == Retained(removed=3, plans_removed=3, cache_entries_removed=3)
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {table: ask(path, f"SELECT count(*) FROM {table}") for table in tables}
    assert {table: count for table, count in counts.items() if count} == {
        "id_counter": 2,
        "sqlite_sequence": 1,
    }
    assert problems == []


async def test_an_artifact_goes_with_the_last_that_names_it(path: Path) -> None:
    """A task's output, a cached one, an orchestration's DAG and revisions of plans may all be the same bytes."""
    text = b'{"tasks": []}' + b" " * 1_000
    same: dict[str, Any] = {"dag_json": text, "dag_sha256": output("a", text).sha256}
    storage = SqliteStorage(path)
    await storage.save_plan(new_plan(**same))
    await storage.revise_plan("plan-1", plan_revision(1, at_us=NOW_US + 4))
    lease = await created(storage, **same)
    large = [output("a", text, inline=False)]
    await storage.append(
        [commit(lease, 2, outputs=large, cached=[cache_entry("k", expires_at_us=NOW_US + 9)])]
    )
    await storage.append([commit(lease, 3, outputs=[output("a", b"1")], summary=over(NOW_US + 5))])
    await storage.release_lease(lease)
    named: list[int] = []

    for now_us in (NOW_US + 3, NOW_US + 4, NOW_US + 5, NOW_US + 9):
        await storage.retain(REMOVE, now_us=now_us)
        named.append(ask(path, "SELECT count(*) FROM artifact"))
    await storage.aclose()

    assert named == [2, 1, 1, 0]


async def test_a_round_does_a_bounded_amount(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that more is left, and the next one goes on."""
    monkeypatch.setattr(retention, "_MOST_SMALL", 10)
    monkeypatch.setattr(retention, "_MOST_ARTIFACT_STEPS", 1)
    storage = SqliteStorage(path)
    for number in range(60):
        await ended(
            storage, outputs=[output("a", b"%d" % number * 1_000, inline=False)], at_us=NOW_US + number
        )
    for _ in range(15):
        await storage.save_plan(new_plan())

    compacted = [await storage.retain(COMPACT, now_us=LATER_US) for _ in range(3)]
    removed = [await storage.retain(REMOVE, now_us=LATER_US) for _ in range(2)]
    rounds = await retained(storage, REMOVE)
    problems = await storage.check()
    await storage.aclose()

    assert [(each.compacted, each.is_finished) for each in compacted] == [(50, False), (10, True), (0, True)]
    assert [(each.removed, each.plans_removed, each.is_finished) for each in removed] == [
        (50, 10, False),
        (10, 5, False),
    ]
    assert rounds > 1
    assert ask(path, "SELECT count(*) FROM artifact") == 0
    assert problems == []


async def test_large_orchestrations_share_a_round_with_fewer_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round ends once it has removed many rows."""
    monkeypatch.setattr(retention, "_MOST_ROWS_REMOVED", 30)
    storage = SqliteStorage(path)
    for _ in range(4):
        await ended(storage, entries=20)

    done = [await storage.retain(REMOVE, now_us=LATER_US) for _ in range(3)]
    await storage.aclose()

    assert [(each.removed, each.is_finished) for each in done] == [(2, False), (2, True), (0, True)]


async def test_large_artifacts_are_removed_a_few_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their size, at least one."""
    monkeypatch.setattr(artifacts, "_MOST_BYTES_AT_ONCE", 2_500)
    storage = SqliteStorage(path)
    outputs = [output(name, name.encode() * 1_000, inline=False) for name in "ab"]
    outputs.append(output("c", b"c" * 9_000, inline=False))
    await ended(storage, task_ids="abc", outputs=outputs)
    await storage.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM task")
        looked_at = [artifacts.remove_loose(other, 100) for _ in range(4)]
    await storage.aclose()

    assert sum(looked_at) == 3
    assert looked_at[-1] == 0
    assert len([count for count in looked_at if count]) >= 2


async def test_the_file_stays_bounded_under_churn(path: Path) -> None:
    """What becomes free is used again, however many orchestrations come and go."""
    storage = SqliteStorage(path)
    pages: list[int] = []

    for number in range(40):
        for place in range(5):
            text = b'"%d.%d' % (number, place) + b"x" * 20_000 + b'"'
            await ended(
                storage, entries=200, outputs=[output("a", text, inline=False)], at_us=NOW_US + number
            )
        await storage.retain(keep(compact_after_seconds=0.0, keep_finished=10), now_us=LATER_US)
        pages.append(ask(path, "PRAGMA page_count"))
    problems = await storage.check()
    await storage.aclose()

    assert max(pages[5:]) <= pages[4] * 1.2
    assert ask(path, "SELECT count(*) FROM orchestration") == 10
    assert ask(path, "SELECT count(*) FROM artifact") == 11
    assert problems == []


HOUSEKEEPING_FOREVER = """
    import asyncio, sys
    from storage import SqliteStorage, retention
    from tests.storage.records import ended, keep
    retention._MOST_CHUNKS = retention._MOST_REMOVED = 3
    async def main():
        storage = SqliteStorage(sys.argv[1])
        at_us = (await storage.load_orchestration("kept-1")).updated_at_us + 10**11
        while True:
            await ended(storage, entries=3_000, at_us=at_us)
            await storage.retain(keep(compact_after_seconds=0.0, keep_finished=6), now_us=at_us + 10)
            at_us += 1
            print("round", flush=True)
    asyncio.run(main())
"""


def keep_house(path: Path) -> subprocess.Popen[str]:
    """Start a process that runs small orchestrations and cleans up after them for ever."""
    command = [sys.executable, "-c", textwrap.dedent(HOUSEKEEPING_FOREVER), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def test_kill_9_in_the_middle_of_housekeeping_harms_nothing(path: Path) -> None:
    """Every journal reads whole, at whatever point it was stopped."""
    storage = SqliteStorage(path)
    kept = await created(storage, "kept")
    await storage.append([commit(kept, 2, *EVERY_EVENT)])
    before = await journal(storage, "kept-1")
    await storage.aclose()
    for rounds in (1, 3, 6):
        process = keep_house(path)
        assert process.stdout is not None
        for _ in range(rounds):
            assert await anyio.to_thread.run_sync(process.stdout.readline) == "round\n"
        await anyio.sleep(0.013 * rounds)
        process.send_signal(signal.SIGKILL)
        _, errors = await anyio.to_thread.run_sync(process.communicate)

        records = await storage.list_orchestrations()
        journals = {
            record.orchestration_id: await journal(storage, record.orchestration_id) for record in records
        }
        problems = await storage.check()
        await storage.aclose()

        assert errors == ""
        assert {name: len(entries) for name, entries in journals.items()} == {
            record.orchestration_id: record.last_seq for record in records
        }
        assert journals["kept-1"] == before == [*before[:1], *recorded(kept, 2, *EVERY_EVENT)]
        assert problems == []
