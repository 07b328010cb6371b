"""Offers and claims in one SQLite file: what many processes share, what is quick, and what `doctor` finds."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest

from orchestration.claim_records import Claim, ClaimReport, ClaimRequest, Offer
from orchestration.clock import SystemClock
from orchestration.models import OrchestrationStatus
from orchestration.ports import ControlAction, Lease
from storage import SqliteStorage, controls
from tests.storage.records import NOW_US, answers_alone, created, summary

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
OFFERS = 1000
CLAIMANTS = 50
PROCESSES = 3


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """An empty database."""
    made = SqliteStorage(tmp_path / "state.db")
    yield made
    await made.aclose()


def offers(count: int, *skills: str, first: int = 0) -> list[Offer]:
    """Offers that differ in their tasks, one a microsecond."""
    return [
        Offer(
            task_id=f"t{number}",
            number=1,
            attempt=1,
            lease_seconds=600.0,
            skills=skills,
            brief=f"Do t{number}. " * 20,
            offered_at_us=NOW_US + number,
        )
        for number in range(first, first + count)
    ]


async def offered(storage: SqliteStorage, count: int, *skills: str) -> Lease:
    """Create an orchestration with open offers."""
    lease = await created(storage)
    await storage.append([answers_alone(lease, offers=offers(count, *skills))])
    return lease


def write(storage: SqliteStorage, *statements: str) -> None:
    """Change the file behind the program's back."""
    with closing(sqlite3.connect(storage.location, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


# --- Many processes ---


async def work(database: str, name: str, claimants: str, die_at: str = "") -> None:
    """Be one process of the tests below: each worker claims a task; once told to go on, they do all there is.

    Args:
        database: The file.
        name: Of the process; its workers are called after it.
        claimants: How many workers it has.
        die_at: In the middle of which transaction it kills itself, `claim` or `report`, a colon, and after how many.
    """
    storage = SqliteStorage(database, busy_timeout_seconds=60.0)
    clock = SystemClock()
    if die_at:
        die_in_the_middle(*die_at.split(":"))
    begun: dict[str, Claim | None] = {}

    async def take(worker: str, number: int) -> Claim | None:
        asked = ClaimRequest(worker=worker, claim_id=f"{worker}/{number}", now_us=clock.now_us())
        return await storage.claim_offer(asked)

    async def begin(worker: str) -> None:
        begun[worker] = await take(worker, 0)

    async def go_on(worker: str) -> None:
        number, taken = 0, begun[worker]
        while taken is not None:
            report = ClaimReport(status="done", output=taken.task_id, now_us=clock.now_us())
            verdict = await storage.report_claim(taken.claim_id, report)
            assert verdict.is_accepted
            say(f"{taken.task_id} {taken.claim_id} {verdict.control_id}")
            number += 1
            taken = await take(worker, number)

    for step in (begin, go_on):
        async with anyio.create_task_group() as workers:
            for number in range(int(claimants)):
                workers.start_soon(step, f"{name}-{number}")
        if step is begin:
            say("ready")
            sys.stdin.readline()
    await storage.aclose()


def say(line: str) -> None:
    """Tell the test something."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def die_in_the_middle(of: str, after: str) -> None:
    """Kill this process once a claim or a report is written and not committed; nothing in the program knows of it."""
    sent = controls.send_control
    left = int(after)

    def send(*arguments: object) -> int:
        nonlocal left
        control_id = sent(*arguments)  # type: ignore[arg-type]
        if arguments[2].action == of:  # type: ignore[attr-defined]
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return control_id

    controls.send_control = send  # type: ignore[assignment]


async def run(
    storage: SqliteStorage, name: str, claimants: int, *more: str, others: Barrier | None = None
) -> list[list[str]]:
    """Run such a process to its end, and return what it said: task, claim, message.

    Args:
        storage: The database.
        name: Of the process.
        claimants: How many workers it has.
        more: Where it dies.
        others: Those that go on when it does.
    """
    words = [sys.executable, "-m", "tests.storage.test_claims", storage.location, name, str(claimants), *more]
    async with await anyio.open_process(words, cwd=ROOT, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"ready\n" not in said:
            said += await process.stdout.receive()
        if others is not None:
            await others.wait()
        await process.stdin.send(b"\n")
        async for part in process.stdout:
            said += part
        assert await process.wait() == (-signal.SIGKILL if more else 0)
    return [line.split(" ") for line in said.decode().splitlines()[1:]]


class Barrier:
    """Lets everybody go on once so many have come."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._complete = anyio.Event()

    async def wait(self) -> None:
        """Come, and wait for the rest."""
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


async def messages(storage: SqliteStorage, action: ControlAction) -> Counter[str]:
    """Count the messages of a kind by the task they are of."""
    pending = await storage.pending_controls()
    return Counter(each.request.task_ids[0] for each in pending if each.request.action is action)


@pytest.mark.slow
async def test_fifty_claimants_of_three_processes_never_share_a_task(storage: SqliteStorage) -> None:
    """A thousand offers: each is claimed once and reported once, and none is lost."""
    await offered(storage, OFFERS)
    shares = [CLAIMANTS // PROCESSES + (number < CLAIMANTS % PROCESSES) for number in range(PROCESSES)]
    told: list[list[str]] = []

    together = Barrier(PROCESSES)

    async def one(number: int) -> None:
        told.extend(await run(storage, f"p{number}", shares[number], others=together))

    with anyio.fail_after(120):
        async with anyio.create_task_group() as processes:
            for number in range(PROCESSES):
                processes.start_soon(one, number)
    views = await storage.load_offers()
    totals = await storage.load_claim_totals()

    every = {f"t{number}": 1 for number in range(OFFERS)}
    assert Counter(task_id for task_id, _, _ in told) == every
    assert await messages(storage, ControlAction.CLAIM) == every
    assert await messages(storage, ControlAction.REPORT) == every
    assert {view.task_id: view.claim and view.claim.claim_id for view in views} == {
        task_id: claim_id for task_id, claim_id, _ in told
    }
    assert {view.state for view in views} == {"reported"}
    assert (totals.claims, totals.reported_done) == (OFFERS, OFFERS)
    assert len({worker.split("-")[0] for worker in totals.by_worker}) == PROCESSES
    assert await storage.check() == []


@pytest.mark.parametrize("at", ["claim", pytest.param("report", marks=pytest.mark.slow)])
async def test_a_claimant_that_is_killed_in_the_middle_leaves_all_or_nothing(
    storage: SqliteStorage, at: str
) -> None:
    """A claim is there with its message, or not at all; so is a report. Others do the rest."""
    await offered(storage, 8)

    with anyio.fail_after(30):
        told = await run(storage, "mortal", 1, f"{at}:3")
    taken = [view for view in await storage.load_offers() if view.state == "claimed"]
    claims = await messages(storage, ControlAction.CLAIM)
    reports = await messages(storage, ControlAction.REPORT)

    assert [task_id for task_id, _, _ in told] == ["t0", "t1", "t2"]
    assert list(reports) == ["t0", "t1", "t2"]
    assert list(claims) == ["t0", "t1", "t2", *(view.task_id for view in taken)]
    assert [view.task_id for view in taken] == (["t3"] if at == "report" else [])
    assert await storage.check() == []
    rest = [
        await storage.claim_offer(ClaimRequest(worker="other", claim_id=f"o{number}", now_us=NOW_US))
        for number in range(6)
    ]
    assert [each and each.task_id for each in rest].count(None) == 1 + len(taken)


# --- Quick ---


async def test_a_claim_is_found_through_the_index_alone(storage: SqliteStorage) -> None:
    """However many offers a worker lacks the skills for, or stand in a paused orchestration."""
    paused = await created(storage, "paused")
    await storage.append(
        [answers_alone(paused, offers=offers(300), summary=summary(state=OrchestrationStatus.PAUSED))]
    )
    lease = await created(storage, "skilled")
    await storage.append([answers_alone(lease, offers=[*offers(300, "rare"), *offers(1, first=300)])])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    opened = await storage._database.open()
    await opened.writer.call(lambda database: database.set_progress_handler(count, 100))
    taken = await storage.claim_offer(ClaimRequest(worker="ada", claim_id="c", now_us=NOW_US))
    await opened.writer.call(lambda database: database.set_progress_handler(None, 0))

    assert taken is not None
    assert (taken.orchestration_id, taken.task_id) == ("skilled-1", "t300")
    assert steps * 100 < 20_000, "it looks into each offer"


async def test_ordinary_tasks_cost_no_statement_more(storage: SqliteStorage) -> None:
    """Of an orchestration that offers nothing, a commit asks the tables of offers one question in all."""
    lease = await created(storage)
    told: list[str] = []
    opened = await storage._database.open()
    await opened.writer.call(lambda database: database.set_trace_callback(told.append))

    await storage.append([answers_alone(lease)] * 3)
    await opened.writer.call(lambda database: database.set_trace_callback(None))

    assert len([statement for statement in told if "offer" in statement or "claim" in statement]) == 1


# --- Soundness ---


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE offer SET state = 'open'",
            "offers: task 't0' of 'report-1' is open, and its claim 'c' is active",
        ),
        (
            "UPDATE claim SET state = 'expired'",
            "offers: task 't0' of 'report-1' is claimed, and its claim 'c' is expired",
        ),
        ("DELETE FROM claim", "offers: task 't0' of 'report-1' is claimed, and its claim 'c' is missing"),
        ("DELETE FROM offer", "claims: 'c' is of task 't0' of 'report-1', which was never offered"),
        (
            "UPDATE offer SET claim_id = NULL, state = 'open'",
            "claims: 'c' is active, but task 't0' of 'report-1' is not held by it",
        ),
        (
            "UPDATE orchestration SET finished_at_us = 1",
            "offers: task 't0' of 'report-1' is claimed, but all of it has ended",
        ),
    ],
)
async def test_what_does_not_fit_together_is_told(storage: SqliteStorage, statement: str, told: str) -> None:
    """One line each; nothing is said of what fits."""
    await offered(storage, 1)
    await storage.claim_offer(ClaimRequest(worker="ada", claim_id="c", now_us=NOW_US))
    before = await storage.check()

    write(storage, statement)

    assert before == []
    assert told in await storage.check()


async def test_offers_of_what_is_gone_are_mended(storage: SqliteStorage) -> None:
    """Nobody could ever ask for them."""
    await offered(storage, 2)
    await storage.claim_offer(ClaimRequest(worker="ada", claim_id="c", now_us=NOW_US))
    write(storage, "UPDATE offer SET orchestration = 99", "UPDATE claim SET orchestration = 99")

    mended = await storage.mend()

    assert "removed 1 claim of orchestrations that are not there" in mended
    assert "removed 2 offers of orchestrations that are not there" in mended


async def test_a_copy_has_its_offers_and_claims(storage: SqliteStorage, tmp_path: Path) -> None:
    """A backup is of one moment: claims and messages together."""
    await offered(storage, 2)
    taken = await storage.claim_offer(ClaimRequest(worker="ada", claim_id="c", now_us=NOW_US))
    await storage.backup(tmp_path / "copy.db")
    copy = SqliteStorage(tmp_path / "copy.db")

    assert await copy.load_claim("c") == taken
    assert await copy.load_offers() == await storage.load_offers()
    assert await copy.pending_controls() == await storage.pending_controls()
    await copy.aclose()


if __name__ == "__main__":
    anyio.run(partial(work, *sys.argv[1:]))
