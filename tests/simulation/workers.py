"""Workers of a schedule: they claim what is offered, act, and report; or die, are silent, come late, or give back.

Offers and claims are kept by the real rules of storage (`execution/memory_claims.py`). What a worker is given or says
is durable at once; whoever drives hears of it in its inbox, some time later, or its successor does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.claim_records import Claim, ClaimReport, ClaimRequest, ReportStatus
from orchestration.engine.inputs import Routes
from orchestration.models import AGENT, Json, TaskId
from orchestration.ports import Graft
from tests.simulation.graphs import VALUES, random_plan
from tests.simulation.outside import Outside, Timetable
from tests.simulation.store import Store

_LOOKS_EVERY_SECONDS = 4.0


@dataclass(slots=True)
class Job:
    """A claim and what its worker does about it."""

    claim: Claim
    is_idempotent: bool
    is_over: bool = False
    """Whether its worker acts no more."""
    has_acted: bool = False


@dataclass(slots=True)
class Workforce:
    """A few workers.

    Args:
        rng: Draws what they do.
        times: Where it is entered.
        store: Where they claim and report.
        outside: Where effects are counted.
        on_said: Called after each claim and report.
    """

    rng: random.Random
    times: Timetable
    store: Store
    outside: Outside
    on_said: Callable[[], None]
    jobs: dict[str, Job] = field(default_factory=dict)
    """Every claim ever made."""
    refused: Counter[str] = field(default_factory=Counter)
    _count: int = 0

    def look(self, worker: str) -> float:
        """Have a worker look for something to do; return when it looks again, in seconds."""
        self._count += 1
        asked = ClaimRequest(worker=worker, claim_id=f"c{self._count}", now_us=self.times.now_us)
        claim = self.store.claim(asked)
        if claim is not None:
            self._check_alone(claim)
            task = self.store.folded.tasks[claim.task_id]
            job = self.jobs[claim.claim_id] = Job(claim, task.node.idempotent)
            self.on_said()
            self._draw(job)
        return self.rng.random() * _LOOKS_EVERY_SECONDS * (3 if claim is not None else 1)

    def _check_alone(self, claim: Claim) -> None:
        """No task is claimed twice at once."""
        for other in self.jobs:
            held = self.store.desk.load(other)
            assert held.state != "active" or held.task_id != claim.task_id, "two workers have one task"

    def _draw(self, job: Job) -> None:
        """Decide what becomes of a claim."""
        draw, lease = self.rng.random(), job.claim.lease_seconds
        acts_in = self.rng.random() * lease * 0.8
        if draw < 0.5:
            if self.rng.random() < 0.5:
                self._later(acts_in * 0.5, job, "progress")
            self._act_later(acts_in, job)
            self._later(acts_in + self.rng.random() * lease * 0.2, job, "done")
        elif draw < 0.62:  # late, but it was done, before its lease ended or after
            self._act_later(self.rng.random() * lease * 1.2, job)
            self._later(lease * self.rng.choice([1.1, 1.3, 2.0]) + self.rng.random() * 4, job, "done")
        elif draw < 0.70:  # dies, having acted or not
            if self.rng.random() < 0.5:
                self._act_later(acts_in, job)
        elif draw < 0.78:  # for ever at it
            for number in range(self.rng.randint(2, 8)):
                self._later(lease * 0.7 * number, job, "progress")
        elif draw < 0.88:
            self._give_up_later(acts_in, job, self.rng.choice(["failed", "failed", "blocked"]))
        elif draw < 0.96:
            if self.rng.random() < 0.5:
                self._later(acts_in * 0.5, job, "progress")
            self._give_up_later(acts_in, job, "release")
        else:
            self.times.later(acts_in, self._split, job)

    def _act_later(self, seconds: float, job: Job) -> None:
        self.times.later(seconds, self._act, job)

    def _act(self, job: Job) -> None:
        """Take effect, once."""
        if job.is_over:
            return
        job.has_acted = job.is_over = True
        self.outside.effects[job.claim.task_id] += 1
        self.outside.once[job.claim.task_id] += not job.is_idempotent

    def _give_up_later(self, seconds: float, job: Job, status: ReportStatus) -> None:
        self.times.later(seconds, self._give_up, job, status)

    def _give_up(self, job: Job, status: ReportStatus) -> None:
        """Say that nothing was done, and nothing will be."""
        job.is_over = True
        self._say(job, status)

    def _later(self, seconds: float, job: Job, status: ReportStatus) -> None:
        self.times.later(seconds, self._say, job, status)
        if self.rng.random() < 0.1:  # the answer got lost: it says so again
            self.times.later(seconds + self.rng.random() * 5, self._say, job, status)

    def _say(self, job: Job, status: ReportStatus) -> None:
        """Report; what is reported done was done."""
        if status == "done" and not job.has_acted:
            return
        output: Json = self.rng.choice(VALUES).json if status == "done" else None
        report = ClaimReport(status=status, output=output, now_us=self.times.now_us)
        verdict = self.store.desk.report(job.claim.claim_id, report, None)
        self.refused[verdict.reason] += not verdict.is_accepted
        self.on_said()

    def _split(self, job: Job) -> None:
        """Say what should be done in place of a task that was not begun."""
        if job.has_acted:
            return
        job.is_over = True
        dag = random_plan(self.rng)
        graft = Graft(
            task_id=job.claim.task_id,
            expected_revision=self.store.folded.revision,
            tasks=tuple(dag.nodes.values()),
            edges=tuple(dag.edges),
            routes=Routes(systems=dict.fromkeys(dag.nodes, AGENT)),
            delivers="p",
        )
        report = ClaimReport(status="progress", now_us=self.times.now_us)
        self.store.desk.report(job.claim.claim_id, report, graft)
        self.on_said()

    def give_up(self, task_id: TaskId) -> None:
        """Make sure that nothing comes any more of what workers were doing about a task."""
        for job in self.jobs.values():
            if job.claim.task_id == task_id:
                job.is_over = True

    def has_acted(self, claim: str) -> bool:
        """Whether what a claim is of was done."""
        return self.jobs[claim].has_acted

    def unheard(self, heard: set[str]) -> Counter[TaskId]:
        """Return how many claims of each task acted that whoever drives never knew of: the offer had changed."""
        return Counter(
            job.claim.task_id for name, job in self.jobs.items() if job.has_acted and name not in heard
        )
