"""What `check` finds, what `mend` puts right, and what both leave alone."""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.engine.events import RetryDue
from orchestration.errors import CorruptRecordError
from storage import SqliteStorage
from tests.storage.records import (
    HOLDER,
    NOW_US,
    STRANGER,
    cache_entry,
    commit,
    created,
    ended,
    keep,
    new_plan,
    output,
    plan_revision,
    request,
    revision,
    row,
    sha256,
)

pytestmark = pytest.mark.anyio

LONG_AGO_US = 1_000
LATER_US = 2 * 10**15


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


def tampered(path: Path, *statements: str) -> None:
    """Change the file behind the program's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


async def compacted(storage: SqliteStorage) -> None:
    """Make an orchestration of 25 entries that are compressed."""
    await ended(storage, entries=24)
    done = await storage.retain(keep(compact_after_seconds=0.0), now_us=LATER_US)
    assert done.compacted == 1


async def test_a_sound_database_has_nothing_wrong_and_nothing_to_mend(path: Path) -> None:
    """Compressed and live journals, cached and shared outputs, requests, plans, silent drivers that are named."""
    storage = SqliteStorage(path)
    await compacted(storage)
    lease = await created(storage)
    large = [output("a", b"x" * 5_000, inline=False)]
    await storage.append([commit(lease, 2, outputs=large, cached=[cache_entry("k")])])
    await storage.append([commit(lease, 3, outputs=[output("a", b"1")])])
    await storage.renew_leases(HOLDER, [lease], lease_seconds=15.0, now_us=LONG_AGO_US)
    await storage.send_control("report-2", request(), sent_at_us=NOW_US)
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    parts = [row("a", 0, is_composite=True), row("a[0]", 2, parent="a")]
    await storage.append([commit(lease, 4, tasks=parts, revisions=[revision(2, 4), revision(3)])])
    before = [await storage.check(), await storage.mend()]

    again = [await storage.check(), await storage.mend()]
    found = await storage.load_cached("k", now_us=NOW_US)
    record = await storage.load_orchestration("report-2")
    await storage.aclose()

    assert before[0] == []
    assert [line.partition(" (")[0] for line in before[1]] == ["emptied the write-ahead log"]
    assert again == [[], []]
    assert found is not None
    assert record.driver is not None


async def test_outputs_that_were_replaced_are_housekeepings_and_no_finding(path: Path) -> None:
    """They are known to be loose, and go with its next round."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    for number in range(2):
        await storage.append(
            [commit(lease, 2 + number, outputs=[output("a", b"%d" % number * 5_000, inline=False)])]
        )

    problems = await storage.check()
    await storage.retain(keep(), now_us=NOW_US)
    await storage.aclose()

    assert problems == []
    with closing(sqlite3.connect(path)) as other:
        left = {row[0] for row in other.execute("SELECT sha256 FROM artifact")}
    assert sha256(b"1" * 5_000) in left
    assert sha256(b"0" * 5_000) not in left


GAPS = {
    "DELETE FROM journal_archive": "journal: 'report-1' should have 26 entries; it has 0, up to seq 26",
    "UPDATE journal_archive SET last_seq = 25": "journal: 'report-1' should have 26 entries; it has 25, up to seq 26",
    "UPDATE orchestration SET last_seq = 27": "journal: 'report-1' should have 27 entries; it has 26, up to seq 26",
    "UPDATE journal_archive SET first_seq = 2, last_seq = 27": (
        "journal: the compressed part of 'report-1' does not end where it should"
    ),
    "UPDATE journal_archive SET events = x'00'": (
        "journal: The journal of 'report-1' from entry 1 to 26 can't be understood: Error -"
    ),
}


@pytest.mark.parametrize("tampering", GAPS)
async def test_gaps_in_a_compressed_journal_are_found(path: Path, tampering: str) -> None:
    """Missing, cut, shifted, unreadable."""
    storage = SqliteStorage(path)
    await ended(storage, entries=25)
    await storage.retain(keep(compact_after_seconds=0.0), now_us=LATER_US)
    tampered(path, tampering)

    problems = await storage.check()
    await storage.aclose()

    assert problems[0].startswith(GAPS[tampering])


async def test_an_unreadable_part_of_a_journal_is_told_when_it_is_read(path: Path) -> None:
    """With its place; what comes after it can still be read."""
    storage = SqliteStorage(path)
    await compacted(storage)
    lease = await storage.acquire_lease("report-1", HOLDER, lambda _, __: True)
    await storage.append([commit(lease, 26)])
    tampered(path, "UPDATE journal_archive SET events = x'78'")

    with pytest.raises(CorruptRecordError) as caught:
        await storage.read_events("report-1", after_seq=3, limit=1)
    rest = await storage.read_events("report-1", after_seq=25)
    await storage.aclose()

    assert str(caught.value).startswith(
        f"Database {path}: The journal of 'report-1' from entry 1 to 25 can't be understood: Error -5"
    )
    assert [entry.seq for entry in rest] == [26]


async def test_a_shorter_part_than_it_should_be_is_told(path: Path) -> None:
    """Entries are never numbered by guess."""
    storage = SqliteStorage(path)
    await compacted(storage)
    tampered(path, "UPDATE journal_archive SET last_seq = 24", "UPDATE orchestration SET last_seq = 24")

    with pytest.raises(
        CorruptRecordError, match="from entry 1 to 24 can't be understood: it holds 25 entries"
    ):
        await storage.read_events("report-1")
    await storage.aclose()


MISFITS = {
    "UPDATE plan SET revision = 4": "plans: 'plan-1' should have 4 revisions; it has 3, up to 3",
    "DELETE FROM plan_revision WHERE revision = 2": "plans: 'plan-1' should have 3 revisions; it has 2, up to 3",
    "DELETE FROM plan_revision": "plans: 'plan-1' should have 3 revisions; it has 0, up to 0",
    "UPDATE plan SET dag_sha256 = (SELECT dag_sha256 FROM plan_revision WHERE revision = 2)": (
        "plans: 'plan-1' has another DAG than its latest revision"
    ),
    "UPDATE orchestration_revision SET seq = 9 WHERE revision = 3": (
        "revisions: 3 of 'report-1' is of entry 9; its journal ends at 3"
    ),
    "UPDATE task SET parent = 'z' WHERE task_id = 'a[0]'": (
        "tasks: 'a[0]' of 'report-1' is a part of task 'z', which is missing"
    ),
    "DELETE FROM task WHERE task_id = 'a'": "tasks: 'a[0]' of 'report-1' is a part of task 'a', which is missing",
}


@pytest.mark.parametrize("tampering", MISFITS)
async def test_revisions_and_parts_that_do_not_fit_are_found(path: Path, tampering: str) -> None:
    """A plan has each of its revisions, an entry in the log its event, a part what it is a part of."""
    storage = SqliteStorage(path)
    await storage.save_plan(new_plan())
    for number in (1, 2):
        await storage.revise_plan("plan-1", plan_revision(number))
    lease = await created(storage, tasks=[row("a", 0, is_composite=True), row("a[0]", 1, parent="a")])
    made = [revision(2, 2), revision(3, 3)]
    await storage.append([commit(lease, 2, RetryDue(task_id="a"), RetryDue(task_id="b"), revisions=made)])
    before = await storage.check()
    tampered(path, tampering)

    problems = await storage.check()
    await storage.aclose()

    assert before == []
    assert problems[0] == MISFITS[tampering]


async def test_what_nothing_names_is_found_and_removed(path: Path) -> None:
    """Artifacts, requests to and revisions of what is not there, drivers silent for a day; one line each."""
    storage = SqliteStorage(path)
    await ended(storage, outputs=[output("a", b"x" * 5_000, inline=False)])
    for number, holder in enumerate((HOLDER, STRANGER, replace(HOLDER, instance="other"))):
        at_us = LONG_AGO_US if number else 2 * 10**18
        await storage.renew_leases(holder, [], lease_seconds=15.0, now_us=at_us)
    tampered(
        path,
        "INSERT INTO artifact VALUES ('1', zeroblob(2000000)), ('2', x'00')",
        "INSERT INTO control (orchestration, request, sent_at_us) VALUES (77, '{}', 1)",
        "INSERT INTO orchestration_revision VALUES (77, 2, 1, '', '', '', 1, NULL), (77, 3, 2, '', '', '', 1, NULL)",
        "INSERT INTO plan_revision SELECT 'nope', 1, dag_sha256, '', '', '', 1, NULL FROM orchestration",
    )

    problems = await storage.check()
    pending = await storage.pending_controls()
    mended = await storage.mend()
    afterwards = await storage.check(), await storage.load_outputs("report-1", ["a"])
    await storage.aclose()

    assert sorted(line for line in problems if "references" in line) == [
        "references: a row of control names a row of orchestration that is missing",
        "references: a row of orchestration_revision names a row of orchestration that is missing",
        "references: a row of orchestration_revision names a row of orchestration that is missing",
        "references: a row of plan_revision names a row of plan that is missing",
    ]
    assert [line for line in problems if "hash" not in line and "references" not in line] == [
        "artifacts: 2 artifacts (1.9 MiB) that nothing names",
    ]
    assert pending == []
    assert mended[:5] == [
        "removed 2 artifacts (1.9 MiB) that nothing named",
        "forgot 2 drivers that drove nothing and had been silent for a day",
        "removed 1 request to orchestrations that are not there",
        "removed 2 revisions of orchestrations that are not there",
        "removed 1 revision of plans that are not there",
    ]
    assert mended[5:] == [] or mended[5].startswith("emptied the write-ahead log (")
    assert afterwards == ([], {"a": b"x" * 5_000})
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT instance FROM driver").fetchall() == [("one",)]


async def test_a_log_that_somebody_reads_is_left_to_them(path: Path) -> None:
    """Mending waits no longer than any write does, and goes on without."""
    storage = SqliteStorage(path, busy_timeout_seconds=0.05)
    await created(storage)

    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM task").fetchone()
        meanwhile = await storage.mend()
    later = await storage.mend()
    await storage.aclose()

    assert meanwhile == []
    assert [line.partition(" (")[0] for line in later] == ["emptied the write-ahead log"]


async def test_a_damaged_file_is_not_mended(path: Path) -> None:
    """It is refused with what to do, and not a byte of it changes."""
    storage = SqliteStorage(path)
    await created(storage, task_ids=[f"task-{number}" for number in range(2_000)])
    await storage.aclose()
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) - 4096, 4096):
        content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)

    with pytest.raises(CorruptRecordError) as caught:
        await storage.mend()
    await storage.aclose()

    assert str(caught.value).startswith(f"Database {path}: the file is damaged (integrity: ")
    assert "Fix: restore a backup" in str(caught.value)
    assert path.read_bytes() == content
