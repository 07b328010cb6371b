"""Databases of earlier versions are brought forward with all that is in them; a newer one is left as it is.

`data/v1.db` was written by the code that made schema version 1: `finished-1` with two large outputs that are the same,
`failed-1`, a plan, and `unfinished-1`, whose process was killed while `waits` was running. `data/v2.db` is of the code
that made version 2: `revised-1`, `later-1` and `unfinished-1` went on with an alternative plan when `fragile` had
failed; the first one's journal is compressed, the last one's process was killed, and a request to it waits.
`data/v3.db` is of the code that made version 3: `edited-1` with a task inside a task and a compressed journal, a plan
of two revisions, and `unfinished-1`, for which an edit and an agreement wait. The `.json` beside each is what its code
read from it, outputs by their SHA-256.
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

from orchestration.claim_records import ClaimReport, ClaimRequest, ClaimTotals, Offer
from orchestration.engine.events import AttemptSucceeded, PlanRevised, RetryDue
from orchestration.engine.inputs import OutputRef
from orchestration.errors import LeaseHeldError, SchemaVersionError
from orchestration.models import TaskNode, TaskStatus
from orchestration.ports import DriverIdentity, DriverView, History, Retained, Revision
from storage import SqliteStorage, codec, schema
from tests.storage.records import (
    HOLDER,
    commit,
    created,
    everybody_is_gone,
    keep,
    nobody_is_gone,
    plan_revision,
    revision,
    row,
    sha256,
)

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent / "data"
SAVED = (1, 2, 3)
"""Versions of which there is a database."""
LATER_US = 2 * 10**15
"""After everything in the saved database."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the database of version 1."""
    return copied(tmp_path, 1)


@pytest.fixture
def third(tmp_path: Path) -> Path:
    """A copy of the database of version 3."""
    return copied(tmp_path, 3)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A copy of the database of version 2."""
    return copied(tmp_path, 2)


def copied(folder: Path, version: int) -> Path:
    """Copy a saved database to where it may be changed."""
    return Path(shutil.copy(DATA / f"v{version}.db", folder / "state.db"))


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


@pytest.mark.parametrize("version", SAVED)
async def test_the_saved_databases_are_of_their_versions(version: int) -> None:
    """Opening one in a test must never change the file itself."""
    assert ask(DATA / f"v{version}.db", "PRAGMA user_version") == [(version,)]
    assert not (DATA / f"v{version}.db-wal").exists()


@pytest.mark.parametrize("version", SAVED)
async def test_everything_reads_as_before(tmp_path: Path, version: int) -> None:
    """Records, DAGs, journals, rows, outputs, plans and requests; and the file is sound."""
    path = copied(tmp_path, version)
    known = json.loads((DATA / f"v{version}.json").read_text(encoding="utf-8"))
    plans_known = known["plans"] if "plans" in known else {"site-1": known["plan"]}
    storage = SqliteStorage(path)

    listed = [record.orchestration_id for record in await storage.list_orchestrations()]
    now = {orchestration_id: await all_of(storage, orchestration_id) for orchestration_id in listed}
    plans = {plan_id: asdict(await storage.load_plan(plan_id)) for plan_id in plans_known}
    controls = [asdict(each) for each in await storage.pending_controls()]
    problems = await storage.check()
    await storage.aclose()

    for plan in plans.values():
        plan["dag_json"] = plan["dag_json"].decode()
    assert listed == list(known["orchestrations"])
    assert_holds(json.loads(json.dumps(now)), known["orchestrations"])
    assert_holds(json.loads(json.dumps(plans)), plans_known)
    assert_holds(json.loads(json.dumps(controls)), known.get("controls", []))
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
        newer.execute("PRAGMA user_version = 5")
    before = path.read_bytes()
    storage = SqliteStorage(path)

    for call in (storage.open(), storage.mend(), storage.backup(path.with_name("copy.db"))):
        with pytest.raises(SchemaVersionError, match=r"version 5, and this program knows versions up to 4\."):
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


# --- Version 2 ---


async def test_revisions_of_before_are_found_in_the_journals(second: Path) -> None:
    """Compressed or not: each beside its event, with what it replaced and why."""
    storage = SqliteStorage(second)

    logs = {name: await storage.load_revisions(name) for name in ("revised-1", "later-1", "unfinished-1")}
    events = {name: await storage.read_events(name) for name in logs}
    await storage.aclose()

    for name, log in logs.items():
        (spliced,) = [entry for entry in events[name] if isinstance(entry.event, PlanRevised)]
        assert log == [
            Revision(
                revision=2,
                by="planner",
                reason="it broke",
                told="replaced fragile by look~1, deliver~1",
                at_us=spliced.at_us,
                seq=spliced.seq,
            )
        ]


async def test_of_many_tasks_that_took_a_place_before_five_are_named(second: Path) -> None:
    """A few words, however large the alternative was."""
    spliced = PlanRevised(
        task_id="a",
        revision=2,
        tasks=tuple(TaskNode(f"t{number}~1") for number in range(7)),
        edges=(),
        routes={},
        delivers="t6~1",
        reason="it “broke”",
    )
    with closing(sqlite3.connect(second, isolation_level=None)) as old:
        old.execute(
            "UPDATE journal SET event = ? WHERE orchestration = 2 AND seq = 6", (codec.encode_event(spliced),)
        )
    storage = SqliteStorage(second)

    log = await storage.load_revisions("later-1")
    await storage.aclose()

    assert [(made.revision, made.reason, made.told) for made in log] == [
        (2, "it “broke”", "replaced a by t0~1, t1~1, t2~1, t3~1, t4~1 and 2 more")
    ]


async def test_what_can_not_be_read_keeps_no_revision_and_stops_nothing(second: Path) -> None:
    """It is the doctor's: the rest is brought forward."""
    with closing(sqlite3.connect(second, isolation_level=None)) as old:
        old.execute("UPDATE journal_archive SET events = x'00'")
        old.execute("UPDATE journal SET event = '{' WHERE orchestration = 2")
        old.execute('UPDATE journal SET event = \'{"type": "plan_revised"}\' WHERE orchestration = 3')
    storage = SqliteStorage(second)

    logs = [await storage.load_revisions(name) for name in ("revised-1", "later-1", "unfinished-1")]
    problems = await storage.check()
    await storage.aclose()

    assert logs == [[], [], []]
    assert [line.partition(": ")[0] for line in problems] == ["journal"]


async def test_an_unreadable_summary_keeps_no_revision_and_stops_nothing(second: Path) -> None:
    """Whether a journal has revisions is asked of the summary, which tells its reader what is wrong with it."""
    with closing(sqlite3.connect(second, isolation_level=None)) as old:
        old.execute("UPDATE orchestration SET summary = '{'")
    storage = SqliteStorage(second)

    assert await storage.load_revisions("later-1") == []
    await storage.aclose()


async def test_what_was_revised_before_is_revised_further(second: Path) -> None:
    """By whoever takes it over; rows say from then on what a task runs."""
    storage = SqliteStorage(second)
    lease = await storage.acquire_lease("unfinished-1", HOLDER, everybody_is_gone)
    before = await storage.load_tasks("unfinished-1", task_ids=["waits"])
    again = row("waits", 3, TaskStatus.READY, tool="hang", parent="last")

    with pytest.raises(ValueError, match="go on after 2; a commit brings 2"):
        await storage.append([commit(lease, 14, revisions=[revision(2, 14)])])
    await storage.append([commit(lease, 14, revisions=[revision(3, 14)], tasks=[again])])
    log = await storage.load_revisions("unfinished-1")
    problems = await storage.check()
    await storage.aclose()

    assert [(made.revision, made.seq) for made in log] == [(2, 6), (3, 14)]
    assert (before[0].tool, before[0].parent, before[0].is_composite) == (None, None, False)
    assert problems == []


@pytest.mark.parametrize(("version", "plan_id"), [(1, "site-1"), (2, "site-1"), (2, "site-2")])
async def test_a_plan_of_before_is_the_first_revision_of_itself(
    tmp_path: Path, version: int, plan_id: str
) -> None:
    """Its log says who made it and when; it can be revised, and its first DAG stays."""
    storage = SqliteStorage(copied(tmp_path, version))
    first = await storage.load_plan(plan_id)
    began = await storage.load_plan_revisions(plan_id)

    second = await storage.revise_plan(plan_id, plan_revision(1))
    log = await storage.load_plan_revisions(plan_id)
    again = await storage.load_plan(plan_id, 1)
    problems = await storage.check()
    await storage.aclose()

    assert began == [
        Revision(
            revision=1, by=first.planner, reason="", told="what it began with", at_us=first.created_at_us
        )
    ]
    assert (second.revision, [made.revision for made in log], again) == (2, [1, 2], first)
    assert problems == []


async def test_plans_of_before_are_as_old_as_they_were(second: Path) -> None:
    """Housekeeping removes them by the instant they were made."""
    storage = SqliteStorage(second)
    made_at_us = (await storage.load_plan("site-2")).created_at_us

    done = await storage.retain(keep(remove_after_seconds=0.0), now_us=made_at_us)
    left = await storage.load_plan("site-1")
    await storage.aclose()

    assert done == Retained(plans_removed=1)
    assert left.created_at_us > made_at_us


async def test_what_tasks_took_is_counted_from_the_upgrade_on(second: Path) -> None:
    """Rows of before don't say what they ran, and are not guessed at."""
    storage = SqliteStorage(second)
    lease = await storage.acquire_lease("unfinished-1", HOLDER, everybody_is_gone)
    before = await storage.load_history([("python", "hang"), ("python", None)])
    done = AttemptSucceeded(task_id="waits", attempt=2, output=OutputRef(sha256="e" * 64, size_bytes=1))
    facts = {"system": "python", "tool": "hang", "duration_seconds": 2.0}

    await storage.append([commit(lease, 14, done, tasks=[row("waits", 3, TaskStatus.COMPLETED, **facts)])])
    after = await storage.load_history([("python", "hang"), ("python", None)])
    await storage.aclose()

    assert before == {}
    assert after == {("python", "hang"): History(count=1, mean_seconds=2.0)}


# --- Version 3 ---


async def test_what_ran_before_can_offer_its_tasks(third: Path) -> None:
    """To workers of today: its task is claimed and reported, and the requests of before are still there."""
    storage = SqliteStorage(third)
    before = [each.control_id for each in await storage.pending_controls()]
    lease = await storage.acquire_lease("unfinished-1", HOLDER, everybody_is_gone)
    offer = Offer(
        task_id="waits", number=1, attempt=2, lease_seconds=60.0, brief="Do it.", offered_at_us=LATER_US
    )

    await storage.append([commit(lease, 3, offers=[offer])])
    taken = await storage.claim_offer(ClaimRequest(worker="ada", claim_id="c", now_us=LATER_US))
    verdict = await storage.report_claim("c", ClaimReport(status="done", now_us=LATER_US))
    after = await storage.pending_controls()
    problems = await storage.check()
    await storage.aclose()

    assert taken is not None
    assert verdict.is_accepted
    assert [each.control_id for each in after][: len(before)] == before
    assert [each.request.action for each in after] == ["edit", "approve", "claim", "report"]
    assert problems == []


async def test_nothing_was_offered_before(third: Path) -> None:
    """Tasks of earlier versions are no agent's."""
    storage = SqliteStorage(third)

    offers, totals = await storage.load_offers(), await storage.load_claim_totals()
    await storage.aclose()

    assert (offers, totals) == ([], ClaimTotals())
