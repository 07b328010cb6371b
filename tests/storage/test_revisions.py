"""Revisions and history in a file: whole or not at all, whoever dies; once, whoever else writes; cheap to ask for."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from orchestration.engine.events import AttemptSucceeded, RetryDue
from orchestration.engine.inputs import OutputRef
from orchestration.errors import RevisionConflictError
from orchestration.models import TaskStatus
from storage import SqliteStorage, history, plans
from tests.storage.records import (
    HOLDER,
    commit,
    created,
    everybody_is_gone,
    new_plan,
    plan_revision,
    revision,
    row,
    summary,
)

pytestmark = pytest.mark.anyio

DONE = AttemptSucceeded(task_id="a", attempt=1, output=OutputRef(sha256="e" * 64, size_bytes=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state.db"


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- Deaths ---

DYING = """
    import asyncio, os, signal, sys
    from dataclasses import replace
    from orchestration.engine.events import AttemptSucceeded
    from orchestration.engine.inputs import OutputRef
    from orchestration.models import TaskStatus
    from storage import SqliteStorage, plans, writes
    from tests.storage.records import HOLDER, commit, everybody_is_gone, plan_revision, revision, row, summary

    path, what, point = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(work):
        def wrapped(*arguments, **named):
            result = work(*arguments, **named)
            if point == "inside":
                die()
            return result
        return wrapped

    plans.revise_plan, writes.append = dying(plans.revise_plan), dying(writes.append)

    async def main():
        storage = SqliteStorage(path)
        lease = await storage.acquire_lease("report-1", HOLDER, everybody_is_gone)
        done = AttemptSucceeded(task_id="a", attempt=1, output=OutputRef(sha256="e" * 64, size_bytes=1))
        if point == "before":
            die()
        if what == "plan":
            await storage.revise_plan("plan-1", plan_revision(2))
        else:
            rows = [row("a", 0, TaskStatus.COMPLETED, system="py"), row("a~3", 2, parent="b")]
            await storage.append([
                commit(lease, 3, done, tasks=rows, revisions=[revision(3, 3)], summary=summary(revision=3))
            ])
        die()
    asyncio.run(main())
"""


async def die(path: Path, what: str, point: str) -> None:
    """Let a process kill itself at a point."""
    process = python(DYING, str(path), what, point)
    _, errors = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=20))
    assert (process.returncode, errors) == (-signal.SIGKILL, "")


async def begun(path: Path) -> None:
    """Make a plan and an orchestration of two revisions each."""
    storage = SqliteStorage(path)
    await storage.save_plan(new_plan())
    await storage.revise_plan("plan-1", plan_revision(1))
    lease = await created(storage)
    await storage.append([commit(lease, 2, revisions=[revision(2, 2)], summary=summary(revision=2))])
    await storage.aclose()


@pytest.mark.parametrize(("point", "reached"), [("before", 2), ("inside", 2), ("after", 3)])
async def test_kill_9_while_a_plan_is_revised_leaves_one_revision_or_the_next(
    path: Path, point: str, reached: int
) -> None:
    """Number, document and log agree; what was acknowledged is there, and the next revision follows."""
    await begun(path)

    await die(path, "plan", point)

    storage = SqliteStorage(path)
    plan, log = await storage.load_plan("plan-1"), await storage.load_plan_revisions("plan-1")
    documents = [(await storage.load_plan("plan-1", made.revision)).dag_json for made in log]
    problems = await storage.check()
    following = await storage.revise_plan("plan-1", plan_revision(reached))
    await storage.aclose()

    assert [made.revision for made in log] == list(range(1, reached + 1))
    assert documents == [
        new_plan().dag_json,
        *(plan_revision(number).dag_json for number in range(1, reached)),
    ]
    assert (plan.revision, plan.dag_json) == (reached, documents[-1])
    assert problems == []
    assert following.revision == reached + 1


@pytest.mark.parametrize(("point", "reached"), [("before", 2), ("inside", 2), ("after", 3)])
async def test_kill_9_while_what_runs_is_revised_leaves_events_and_log_of_one_moment(
    path: Path, point: str, reached: int
) -> None:
    """Journal, rows, summary, log and what was counted agree; whoever takes over goes on from there."""
    await begun(path)

    await die(path, "orchestration", point)

    storage = SqliteStorage(path)
    record = await storage.load_orchestration("report-1")
    log = await storage.load_revisions("report-1")
    rows = await storage.load_tasks("report-1")
    counted = await storage.load_history([("py", None)])
    problems = await storage.check()
    lease = await storage.acquire_lease("report-1", HOLDER, everybody_is_gone)
    await storage.append([commit(lease, reached + 1, revisions=[revision(reached + 1, reached + 1)])])
    following = await storage.load_revisions("report-1")
    await storage.aclose()

    is_there = reached == 3
    assert (record.last_seq, record.summary.revision) == (reached, reached)
    assert [made.revision for made in log] == list(range(2, reached + 1))
    assert [task.task_id for task in rows] == (["a", "b", "a~3"] if is_there else ["a", "b"])
    assert len(counted) == int(is_there)
    assert problems == []
    assert [made.revision for made in following] == list(range(2, reached + 2))


REVISING_FOREVER = """
    import asyncio, sys
    from storage import SqliteStorage
    from tests.storage.records import HOLDER, commit, everybody_is_gone, plan_revision, revision, summary
    async def main():
        storage = SqliteStorage(sys.argv[1])
        lease = await storage.acquire_lease("report-1", HOLDER, everybody_is_gone)
        at = (await storage.load_plan("plan-1")).revision
        seq = (await storage.load_orchestration("report-1")).last_seq
        while True:
            seq += 1
            await storage.append([commit(lease, seq, revisions=[revision(seq, seq)], summary=summary(revision=seq))])
            await storage.revise_plan("plan-1", plan_revision(at))
            at += 1
            print(at, seq, flush=True)
    asyncio.run(main())
"""


async def test_kill_9_at_any_moment_costs_no_revision_that_was_acknowledged(path: Path) -> None:
    """The next one may be there or not; nothing is half there."""
    await begun(path)
    for rounds in (3, 17, 30):
        process = python(REVISING_FOREVER, str(path))
        assert process.stdout is not None
        lines = [await anyio.to_thread.run_sync(process.stdout.readline) for _ in range(rounds)]
        process.send_signal(signal.SIGKILL)
        rest = await anyio.to_thread.run_sync(
            process.stdout.read
        )  # communicate() would miss what is buffered
        _, errors = await anyio.to_thread.run_sync(process.communicate)
        plan_acknowledged, seq = (int(number) for number in "".join([*lines, rest]).split()[-2:])

        storage = SqliteStorage(path)
        plan = await storage.load_plan("plan-1")
        log = await storage.load_plan_revisions("plan-1")
        running = await storage.load_revisions("report-1")
        problems = await storage.check()
        await storage.aclose()

        assert errors == ""
        assert plan.revision in (plan_acknowledged, plan_acknowledged + 1)
        assert [made.revision for made in log] == list(range(1, plan.revision + 1))
        assert running[-1].seq in (seq, seq + 1)
        assert [made.revision for made in running] == list(range(2, running[-1].revision + 1))
        assert problems == []


# --- Others ---


async def test_of_two_processes_that_revise_at_once_one_is_refused(path: Path) -> None:
    """The revision is compared in the transaction that stores the next one."""
    await begun(path)
    one, other = SqliteStorage(path), SqliteStorage(path)
    await other.load_plan("plan-1")

    await one.revise_plan("plan-1", plan_revision(2))
    with pytest.raises(
        RevisionConflictError, match="expected_revision is 2, but 'plan-1' has revision 3 by now"
    ):
        await other.revise_plan("plan-1", plan_revision(2))
    made = await other.revise_plan("plan-1", plan_revision(3))
    for storage in (one, other):
        await storage.aclose()

    assert made.revision == 4


async def test_documents_are_kept_once_and_go_with_the_last_revision_that_names_them(path: Path) -> None:
    """However often a plan goes back and forth between two of them."""
    storage = SqliteStorage(path)
    plan = await storage.save_plan(new_plan())
    forth = plan_revision(1).dag_json
    for number in range(1, 9):
        dag_json = forth if number % 2 else plan.dag_json
        await storage.revise_plan("plan-1", plan_revision(number, dag_json=dag_json))

    with closing(sqlite3.connect(path)) as other:
        kept = other.execute("SELECT content FROM artifact ORDER BY content").fetchall()
    await storage.aclose()

    assert kept == sorted([(plan.dag_json,), (forth,)])


# --- What it costs ---


def steps(path: Path, work: Callable[[sqlite3.Connection], Any]) -> int:
    """Return how many instructions SQLite carries out for some reads."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    with closing(sqlite3.connect(path)) as database:
        database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        database.set_progress_handler(counted, 1)
        work(database)
    return count


async def test_history_and_revisions_cost_the_same_however_much_there_is(path: Path) -> None:
    """Sums lie beside an orchestration's summary; a log is found without its journal."""
    storage = SqliteStorage(path)
    lease = await created(storage)
    kinds = [("py", "load"), ("py", None), ("shell", "x")]
    costs: list[tuple[int, int]] = []
    seq = 2
    await storage.append([commit(lease, seq, DONE, revisions=[revision(2, seq)])])

    for rounds in (1, 4_000):
        rows = [row("a", 0, TaskStatus.COMPLETED, system="py", tool="load", duration_seconds=1.0)]
        commits = [
            commit(lease, seq + 2 * n + 1, DONE, RetryDue(task_id="a"), tasks=rows) for n in range(rounds)
        ]
        await storage.append(commits)
        seq += 2 * rounds
        costs.append(
            (
                steps(path, lambda database: history.load_history(database, kinds)),
                steps(path, lambda database: plans.load_revisions(database, "report-1")),
            )
        )
    found = await storage.load_history(kinds)
    await storage.aclose()

    assert found["py", "load"].count == 4_001
    assert costs[0] == costs[1]
    assert max(costs[0]) < 500


async def test_counting_writes_nothing_that_a_commit_does_not_write_anyway(path: Path) -> None:
    """Not a statement more, however many tasks it completes, of however many kinds."""
    storage = SqliteStorage(path)
    names = [f"t{number}" for number in range(500)]
    lease = await created(storage, task_ids=names)
    rows = [
        row(name, place, TaskStatus.COMPLETED, system="py", tool=f"tool-{place % 7}")
        for place, name in enumerate(names)
    ]
    delivered = [AttemptSucceeded(task_id=name, attempt=1, output=DONE.output) for name in names]
    others = [RetryDue(task_id=name) for name in names]
    assert storage._database.opened is not None
    statements: list[str] = []
    await storage._database.opened.writer.call(
        lambda database: database.set_trace_callback(lambda statement: statements.append(statement[:20]))
    )

    await storage.append([commit(lease, 2, *others, tasks=rows)])
    without, statements = statements, []
    await storage.append([commit(lease, 502, *delivered, tasks=rows)])
    found = await storage.load_history([("py", f"tool-{number}") for number in range(7)])
    await storage.aclose()

    assert statements == without
    assert sum(each.count for each in found.values()) == 500
