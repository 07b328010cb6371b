"""Any order of offers, claims and reports is answered alike in memory and in SQLite, and never gives a task twice."""

from __future__ import annotations

import asyncio  # noqa: TID251  (the machine drives the loop itself, step by step)
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestration.claim_records import ClaimOutcome, ClaimReport, ClaimRequest, Offer
from orchestration.errors import ClaimNotFoundError
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.models import OrchestrationStatus, TaskNode, TaskStatus
from orchestration.ports import Graft, Storage
from storage import SqliteStorage
from tests.storage.records import NOW_US, SECOND_US, answers_alone, created, row, summary

T = TypeVar("T")

TASKS = st.sampled_from(["a", "b", "c"])
OWNERS = st.sampled_from(["one-1", "two-1"])
WORKERS = st.sampled_from(["ada", "bob", 'e"v\\e'])
SKILLS = st.lists(st.sampled_from(["go", "js"]), unique=True, max_size=2).map(tuple)
STATUSES = st.sampled_from(["progress", "done", "failed", "blocked", "release"])
GRAFT = Graft(task_id="a", expected_revision=1, tasks=(TaskNode("part"),), edges=())


class ClaimsMachine(RuleBasedStateMachine):
    """Asks two storages the same."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.storages: list[Storage] = [MemoryStorage(), SqliteStorage(self.folder / "state.db")]
        self.leases: dict[str, Any] = {}
        self.now_us = NOW_US
        self.claims = 0
        self.offers = 0

    def both(self, call: Callable[[Storage], Coroutine[Any, Any, T]]) -> T | str:
        """Return what both answer, or the error both raise."""
        answers: list[T | str] = []
        for storage in self.storages:
            try:
                answers.append(self.runner.run(call(storage)))
            except ClaimNotFoundError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]
        return answers[0]

    def teardown(self) -> None:
        """Look for what does not fit together, then close everything."""
        memory, sqlite = self.storages
        assert isinstance(sqlite, SqliteStorage)
        problems = self.runner.run(sqlite.check())
        for storage in (memory, sqlite):
            self.runner.run(storage.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)
        assert problems == []

    @initialize()
    def begin(self) -> None:
        """There are two orchestrations."""
        for base in ("one", "two"):
            self.leases[f"{base}-1"] = self.both(lambda storage, base=base: created(storage, base))  # type: ignore[misc]

    @rule(
        owner=OWNERS,
        task_id=TASKS,
        skills=SKILLS,
        priority=st.integers(1, 2),
        failed_by=st.lists(WORKERS, unique=True, max_size=2),
        state=st.sampled_from([OrchestrationStatus.RUNNING] * 4 + list(OrchestrationStatus)),
    )
    def offer(
        self,
        owner: str,
        task_id: str,
        skills: tuple[str, ...],
        priority: int,
        failed_by: list[str],
        state: OrchestrationStatus,
    ) -> None:
        """A task is offered, perhaps anew, perhaps while the orchestration stands still or ends."""
        self.offers += 1
        made = Offer(
            task_id=task_id,
            number=self.offers,
            attempt=self.offers,
            lease_seconds=30.0,
            skills=skills,
            priority=priority,
            brief=f"offer {self.offers}",
            offered_at_us=self.now_us,
            failed_by=tuple(failed_by),
        )
        self._commit(owner, offers=[made], summary=summary(state=state))

    @rule(owner=OWNERS, task_id=TASKS, status=st.sampled_from(TaskStatus))
    def settle(self, owner: str, task_id: str, status: TaskStatus) -> None:
        """A task comes to stand somewhere else."""
        self._commit(owner, tasks=[row(task_id, 0, status)])

    @rule(owner=OWNERS, number=st.integers(1, 6), is_accepted=st.booleans())
    def judge(self, owner: str, number: int, is_accepted: bool) -> None:
        """What a worker reported is looked at by its own orchestration."""
        claim = self.both(lambda storage: storage.load_claim(f"c{number}"))
        if not isinstance(claim, str) and claim.orchestration_id == owner:
            outcome = ClaimOutcome(claim_id=f"c{number}", is_accepted=is_accepted, reason="so")
            self._commit(owner, claim_outcomes=[outcome])

    def _commit(self, owner: str, **facts: Any) -> None:
        self.both(lambda storage: storage.append([replace(answers_alone(self.leases[owner]), **facts)]))

    @rule(worker=WORKERS, skills=SKILLS, owner=st.none() | OWNERS)
    def claim(self, worker: str, skills: tuple[str, ...], owner: str | None) -> None:
        """A worker looks for something to do."""
        asked = ClaimRequest(
            worker=worker,
            claim_id=f"c{self.claims + 1}",
            skills=skills,
            orchestration_id=owner,
            now_us=self.now_us,
        )
        self.claims += self.both(lambda storage: storage.claim_offer(asked)) is not None

    @rule(number=st.integers(1, 8), status=STATUSES, has_graft=st.booleans(), summary=st.text(max_size=3))
    def report(self, number: int, status: Any, has_graft: bool, summary: str) -> None:
        """A worker says something, perhaps too late, perhaps again."""
        said = ClaimReport(status=status, summary=summary, output={"n": number}, now_us=self.now_us)
        graft = GRAFT if has_graft else None
        self.both(lambda storage: storage.report_claim(f"c{number}", said, graft))

    @rule(number=st.integers(1, 8))
    def expire(self, number: int) -> None:
        """A driver looks whether a lease has ended."""
        self.both(lambda storage: storage.expire_claim(f"c{number}", now_us=self.now_us))

    @rule(seconds=st.sampled_from([1, 29, 31, 3601]))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.now_us += seconds * SECOND_US

    @invariant()
    def everything_reads_alike(self) -> None:
        """Offers, claims, sums and messages; and no task is held twice."""
        views = self.both(lambda storage: storage.load_offers())
        held: list[tuple[str, str]] = []
        for number in range(1, self.claims + 1):
            claim = self.both(lambda storage, number=number: storage.load_claim(f"c{number}"))  # type: ignore[misc]
            assert not isinstance(claim, str)
            held += [(claim.orchestration_id, claim.task_id)] if claim.state == "active" else []
        assert not isinstance(views, str)
        assert sorted(held) == sorted(
            (view.orchestration_id, view.task_id) for view in views if view.state == "claimed"
        )
        for owner in (None, "one-1"):
            self.both(lambda storage, owner=owner: storage.load_claim_totals(owner))  # type: ignore[misc]
        self.both(lambda storage: storage.load_offers("two-1", states=["open", "closed"], limit=2))
        self.both(lambda storage: storage.pending_controls())


ClaimsMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)

TestClaims = ClaimsMachine.TestCase
