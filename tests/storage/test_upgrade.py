"""Databases of earlier versions are brought forward with all that is in them; a newer one is left as it is.

`data/v1.db` was written by the code that made schema version 1: `finished-1` with two large outputs that are the same,
`failed-1`, a plan, and `unfinished-1`, whose process was killed while `waits` was running. `data/v1.json` is what that
code read from it, outputs by their SHA-256.
"""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestration.engine.events import RetryDue
from orchestration.errors import LeaseHeldError, SchemaVersionError
from orchestration.models import TaskStatus
from orchestration.ports import DriverIdentity, DriverView, Retained
from storage import SqliteStorage, codec, schema
from tests.storage.records import (
    HOLDER,
    commit,
    created,
    everybody_is_gone,
    keep,
    nobody_is_gone,
    row,
    sha256,
)

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent / "data"
LATER_US = 2 * 10**15
"""After everything in the saved database."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the database of version 1."""
    return Path(shutil.copy(DATA / "v1.db", tmp_path / "state.db"))


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """What the code of version 1 read from it."""
    document: dict[str, Any] = json.loads((DATA / "v1.json").read_text(encoding="utf-8"))
    return document


def ask(path: Path, query: str) -> list[Any]:
    """Return what a query finds, over a connection of its own."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def assert_holds(now: Any, before: Any) -> None:
    """Assert that everything known before is there now, as it was; there may be more."""
    if isinstance(before, dict):
        assert isinstance(now, dict)
        for name, value in before.items():
            assert_holds(now[name], value)
    elif isinstance(before, list):
        assert len(now) == len(before)
        for one, other in zip(now, before, strict=True):
            assert_holds(one, other)
    else:
        assert now == before


async def all_of(storage: SqliteStorage, orchestration_id: str) -> dict[str, Any]:
    """Read everything there is about an orchestration, as the code of version 1 did."""
    tasks = await storage.load_tasks(orchestration_id)
    outputs = await storage.load_outputs(orchestration_id, [task.task_id for task in tasks])
    return {
        "record": asdict(await storage.load_orchestration(orchestration_id)),
        "dag": (await storage.load_dag(orchestration_id)).decode(),
        "events": [
            [entry.seq, entry.at_us, json.loads(codec.encode_event(entry.event))]
            for entry in await storage.read_events(orchestration_id)
        ],
        "tasks": [asdict(task) for task in tasks],
        "outputs": {task_id: sha256(text) for task_id, text in outputs.items()},
    }


async def test_the_saved_database_is_of_version_1() -> None:
    """Opening it in a test must never change the file itself."""
    assert ask(DATA / "v1.db", "PRAGMA user_version") == [(1,)]
    assert not (DATA / "v1.db-wal").exists()


async def test_everything_reads_as_before(path: Path, known: dict[str, Any]) -> None:
    """Records, DAGs, journals, rows, outputs and the plan; and the file is sound."""
    storage = SqliteStorage(path)

    listed = [record.orchestration_id for record in await storage.list_orchestrations()]
    now = {orchestration_id: await all_of(storage, orchestration_id) for orchestration_id in listed}
    plan = asdict(await storage.load_plan("site-1"))
    problems = await storage.check()
    await storage.aclose()

    plan["dag_json"] = plan["dag_json"].decode()
    assert listed == list(known["orchestrations"])
    assert_holds(json.loads(json.dumps(now)), known["orchestrations"])
    assert_holds(json.loads(json.dumps(plan)), known["plan"])
    assert problems == []
    assert ask(path, "PRAGMA user_version") == [(len(schema.migrations()),)]


async def test_what_was_left_unfinished_can_be_taken_over(path: Path) -> None:
    """Its holder of old is asked about without heartbeats, and the journal goes on where it ended."""
    storage = SqliteStorage(path)
    asked: list[tuple[DriverIdentity, DriverView | None]] = []

    def is_gone(holder: DriverIdentity, view: DriverView | None) -> bool:
        asked.append((holder, view))
        return True

    unfinished = await storage.list_unfinished()
    lease = await storage.acquire_lease("unfinished-1", HOLDER, is_gone)
    await storage.append(
        [commit(lease, 5, RetryDue(task_id="waits"), tasks=[row("waits", 1, TaskStatus.READY)])]
    )
    record = await storage.load_orchestration("unfinished-1")
    waits = await storage.load_tasks("unfinished-1", task_ids=["waits"])
    problems = await storage.check()
    await storage.aclose()

    assert [each.orchestration_id for each in unfinished] == ["unfinished-1"]
    assert [(holder.host, view) for holder, view in asked] == [("laptop", None)]
    assert (record.last_seq, record.token, record.holder) == (5, 2, HOLDER)
    assert waits == [row("waits", 1, TaskStatus.READY)]
    assert problems == []


async def test_what_had_ended_before_is_kept_only_as_long_as_the_rest(path: Path) -> None:
    """Its end is known from its summary, so retention reaches it; ids go on counting."""
    storage = SqliteStorage(path)

    compacted = await storage.retain(keep(compact_after_seconds=0.0), now_us=LATER_US)
    journal = await storage.read_events("finished-1")
    removed = await storage.retain(keep(remove_after_seconds=0.0), now_us=LATER_US)
    left = [record.orchestration_id for record in await storage.list_orchestrations()]
    next_one = await created(storage, "finished")
    problems = await storage.check()
    await storage.aclose()

    assert compacted == Retained(compacted=2)
    assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
    assert removed == Retained(removed=2, plans_removed=1)
    assert left == ["unfinished-1"]
    assert next_one.orchestration_id == "finished-2"
    assert problems == []


async def test_large_outputs_that_nothing_named_any_more_go(path: Path) -> None:
    """Version 1 kept no account of outputs that were replaced; the first round of housekeeping finds them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("INSERT INTO artifact VALUES ('0', x'00')")
    storage = SqliteStorage(path)

    await storage.retain(keep(), now_us=LATER_US)
    await storage.aclose()

    every = "SELECT sha256 FROM artifact ORDER BY 1"
    assert ask(path, every) == ask(DATA / "v1.db", every)


async def test_documents_that_can_not_be_read_do_not_stop_the_upgrade(path: Path) -> None:
    """They are told when they are asked for, as before; an unreadable end is dated by the latest change."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("UPDATE orchestration SET summary = '{', holder = '{'")
    storage = SqliteStorage(path)

    await storage.open()
    await storage.aclose()

    assert ask(path, "SELECT count(*) FROM orchestration WHERE finished_at_us = updated_at_us") == [(2,)]


async def test_a_database_of_a_newer_version_keeps_its_bytes(path: Path) -> None:
    """Refused with what to do, whatever is asked of it."""
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    storage = SqliteStorage(path)

    for call in (storage.open(), storage.mend(), storage.backup(path.with_name("copy.db"))):
        with pytest.raises(SchemaVersionError, match=r"version 3, and this program knows versions up to 2\."):
            await call
    await storage.aclose()

    assert path.read_bytes() == before
    assert not path.with_name("copy.db").exists()


@pytest.mark.parametrize("seen", range(len(schema.migrations()) + 1))
async def test_every_earlier_version_becomes_the_same_as_a_fresh_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    """Whatever migrations a file has seen: tables, columns, indexes and triggers are the same in the end."""
    every = schema.migrations()
    upgraded, fresh = tmp_path / "upgraded.db", tmp_path / "fresh.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: every[:seen])
        with closing(sqlite3.connect(upgraded, isolation_level=None)) as old:
            schema.prepare(old, "old", busy_timeout_seconds=1.0)

    for path in (upgraded, fresh):
        storage = SqliteStorage(path)
        await storage.open()
        await storage.aclose()

    objects = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"
    assert ask(upgraded, objects) == ask(fresh, objects)
    assert ask(upgraded, "PRAGMA user_version") == ask(fresh, "PRAGMA user_version") == [(len(every),)]


async def test_many_processes_may_upgrade_at_once(path: Path) -> None:
    """One does it, the others find it done."""
    storages = [SqliteStorage(path) for _ in range(4)]

    for storage in storages:
        await storage.open()
    taken = await storages[0].acquire_lease("unfinished-1", HOLDER, everybody_is_gone)
    seen = [(await storage.load_orchestration("unfinished-1")).token for storage in storages]
    for storage in storages:
        await storage.aclose()

    assert (taken.token, seen) == (2, [2, 2, 2, 2])


async def test_the_lease_of_old_is_held_until_its_driver_is_known_to_be_gone(path: Path) -> None:
    """Bringing the file forward frees nothing by itself."""
    storage = SqliteStorage(path)

    with pytest.raises(LeaseHeldError, match="driven by process 18886 on laptop"):
        await storage.acquire_lease("unfinished-1", HOLDER, nobody_is_gone)
    await storage.aclose()
