"""What can happen around work that is offered: workers that claim, report, die and come late; and systems that shut.

Offers and claims are kept by the real rules of storage (`execution/memory_claims.py`), beside the engine as in life: a
worker's claim or report is durable before the engine hears of it, some time later and in order, and whoever drives may
die in between. `test_engine_machine.py` runs these rules with all the others.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from orchestration.claim_records import Claim, ClaimReport, ClaimRequest, Offer, ReportStatus
from orchestration.dag import TaskDAG
from orchestration.engine.engine import Decision
from orchestration.engine.events import TaskOffered
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    ClaimLooked,
    ClaimTaken,
    Gate,
    GatesChanged,
    Input,
    Interrupt,
    OfferDescribed,
    ReportClaim,
    Routes,
)
from orchestration.execution.claim_rules import GIVES_OUT
from orchestration.execution.memory_claims import MemoryClaims
from orchestration.execution.memory_inbox import MemoryInbox
from orchestration.execution.requests import input_of
from orchestration.execution.views import row_of, summary_of
from orchestration.models import AGENT, ErrorRecord, Json, TaskId, TaskStatus
from orchestration.options import Limits
from orchestration.ports import Commit, ControlAnswer, DriverIdentity, Graft, Lease, PendingControl
from tests.engine_kit import SECOND
from tests.stateful.engine_moves import PlanMoves
from tests.stateful.engine_world import OUTPUTS, Driven, alternatives

LEASE_SECONDS = 5.0
WORKERS = ("worker ann", "worker bob", "worker eve")
STATUSES: tuple[ReportStatus, ...] = ("done", "done", "done", "progress", "failed", "blocked", "release")
LIMITS = Limits()
_LATE = {TaskStatus.OFFERED, TaskStatus.READY, TaskStatus.RETRYING, TaskStatus.UNKNOWN}
_DRIVER = DriverIdentity(host="h", boot_id="b", pid=1, process_start=1, instance="i")
_REFUSED = ErrorRecord(code="not_accepted", message="not so", retryable=True, effect_open=True)
_DOWN = ErrorRecord(code="system_unavailable", message="it is down", retryable=True, effect_open=True)


class AgentMoves(PlanMoves):
    """Offers, claims, reports, and how much systems take."""

    inbox: MemoryInbox
    desk: MemoryClaims
    claims: list[Claim]
    """Every claim ever made."""
    looked: list[tuple[Driven, ClaimLooked]]
    """What was found of claims, and the engine has not been told."""
    gates: dict[str, Gate]
    begun_on: set[str]
    """Where the latest input had something begin."""

    def open_desk(self) -> None:
        """Nothing is offered yet."""
        self.inbox = MemoryInbox()
        self.desk = MemoryClaims(self.inbox)
        self.claims, self.looked, self.gates = [], [], {}

    def restart(self) -> None:
        """Begin with a new engine; what was found and not told is lost, what is stored is not."""
        super().restart()
        self.looked = []
        if self.gates:
            self.tell(GatesChanged(gates=self.gates))

    # What is stored

    def store(self, item: Input, decision: Decision) -> None:
        """Commit a decision, as far as it concerns offers."""
        for name in dict.fromkeys(entry.orchestration_id for entry in decision.events):
            state = self.all[name].state
            offers = [
                self._offer(state.tasks[entry.event.task_id].attempt + 1, entry.event.task_id, item)
                for entry in decision.events
                if isinstance(entry.event, TaskOffered)
            ]
            commit = Commit(
                lease=Lease(orchestration_id=name, token=1, holder=_DRIVER),
                events=decision.events,
                tasks=[row_of(state.tasks[task_id]) for task_id in state.touched],
                outputs=(),
                summary=summary_of(state, self.engine.scheduler),
                offers=offers,
            )
            state.touched.clear()
            self.desk.apply(commit)

    def _offer(self, attempt: int, task_id: TaskId, item: Input) -> Offer:
        assert isinstance(item, OfferDescribed), "offered, and no brief was written"
        failed_by = self.all[item.orchestration_id].state.tasks[task_id].failed_by
        return Offer(
            task_id=task_id,
            number=item.number,
            attempt=attempt,
            lease_seconds=item.lease_seconds,
            brief="do it",
            offered_at_us=self.now_us,
            failed_by=failed_by,
        )

    # Offers

    @precondition(lambda self: self.asked("briefs"))
    @rule(data=st.data(), is_broken=st.sampled_from([False] * 9 + [True]))
    def write_brief(self, data: st.DataObject, is_broken: bool) -> None:
        self.write_brief_of(*self.one(data, self.asked("briefs")), is_broken=is_broken)

    def write_brief_of(self, driven: Driven, task_id: TaskId, *, is_broken: bool = False) -> None:
        generation, number = driven.briefs.pop(task_id)
        error = ErrorRecord(code="missing_data", message="there is none") if is_broken else None
        self.describe_offer(driven, task_id, generation, number, error)

    def describe_offer(
        self, driven: Driven, task_id: TaskId, generation: int, number: int, error: ErrorRecord | None = None
    ) -> None:
        self.tell(
            OfferDescribed(
                orchestration_id=driven.name,
                task_id=task_id,
                generation=generation,
                number=number,
                lease_seconds=LEASE_SECONDS,
                error=error,
            )
        )

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data(), is_old=st.booleans())
    def write_what_is_not_wanted(self, data: st.DataObject, is_old: bool) -> None:
        """A brief of what the task was before, or of an offer that was made: nothing may come of it."""
        driven, task_id = self.any_task(data)
        task = driven.state.tasks[task_id]
        before = len(driven.journal)
        number = task.offers if is_old else task.offers + 1
        self.describe_offer(driven, task_id, task.generation - (not is_old), number)
        assert len(driven.journal) == before, "a brief nobody waits for changed something"

    # Workers

    @precondition(lambda self: self.asked("briefs") or self.is_offered)
    @rule(workers=st.lists(st.sampled_from(WORKERS), min_size=1, max_size=4))
    def go_to_work(self, workers: list[str]) -> None:
        """Everything is offered that can be, some workers take something, and the engine hears of it."""
        for driven, task_id in self.asked("briefs"):
            self.write_brief_of(driven, task_id)
        for worker in workers:
            self.claim_as(worker)
        self.read_all()

    @property
    def is_offered(self) -> bool:
        return bool(self.desk.offers(self.all, ["open"], 1))

    @precondition(lambda self: self.active)
    @rule(
        data=st.data(),
        status=st.sampled_from(STATUSES),
        value=st.sampled_from(OUTPUTS),
        has_begun=st.booleans(),
    )
    def end_a_claim(self, data: st.DataObject, status: ReportStatus, value: Json, has_begun: bool) -> None:
        """A worker is done, one way or another, and the engine hears of it at once."""
        claim = data.draw(st.sampled_from(self.active))
        if has_begun:
            self.report_of(claim, "progress")
        self.report_of(claim, status, value)
        self.read_all()

    @precondition(lambda self: self.active)
    @rule(count=st.integers(1, 3))
    def be_silent_for_too_long(self, count: int) -> None:
        """Leases end, the driver looks, and the engine hears of it."""
        for _ in range(count):
            if self.engine.next_deadline_us() is not None:
                self.to_the_deadline()
            for driven, task_id in self.asked("looks"):
                self.look_at(driven, task_id)
            while self.looked:
                self.tell_found()

    @property
    def active(self) -> list[Claim]:
        """Return the claims that hold, as they are stored."""
        return [claim for claim in self.claims if self.desk.load(claim.claim_id).state == "active"]

    def read_all(self) -> None:
        """Have every driver read its inbox."""
        while pending := self.inbox.pending():
            self.hear_first_of(pending[0].orchestration_id)

    @rule(worker=st.sampled_from(WORKERS))
    def look_for_work(self, worker: str) -> None:
        self.claim_as(worker)

    def claim_as(self, worker: str) -> Claim | None:
        """Give a worker what it should do next: durable at once, and heard of later."""
        asked = ClaimRequest(worker=worker, claim_id=f"c{len(self.claims) + 1}", now_us=self.now_us)
        giving_out = {name for name, driven in self.all.items() if driven.state.status in GIVES_OUT}
        claim = self.desk.claim(asked, giving_out)
        if claim is not None:
            self.claims.append(claim)
            self.check_claims()
        return claim

    def check_claims(self) -> None:
        """No task is claimed twice at once."""
        active = Counter(
            (now.orchestration_id, now.task_id)
            for now in (self.desk.load(claim.claim_id) for claim in self.claims)
            if now.state == "active"
        )
        assert all(count == 1 for count in active.values()), "two workers have one task"

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        status=st.sampled_from(STATUSES),
        value=st.sampled_from(OUTPUTS),
        is_latest=st.sampled_from([True, True, False]),
    )
    def report(self, data: st.DataObject, status: ReportStatus, value: Json, is_latest: bool) -> None:
        """Say something of a claim, whatever became of it meanwhile, perhaps for the second time."""
        claim = data.draw(st.sampled_from(self.active if self.active and is_latest else self.claims))
        self.report_of(claim, status, value)

    def report_of(self, claim: Claim, status: ReportStatus, value: Json = None) -> None:
        output = value if status == "done" else None
        said = ClaimReport(status=status, summary="so", output=output, now_us=self.now_us)
        self.desk.report(claim.claim_id, said, None)
        self.check_claims()

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), found=alternatives(), is_old=st.sampled_from([False, False, True]))
    def split(self, data: st.DataObject, found: tuple[TaskDAG, TaskId | None], is_old: bool) -> None:
        """Say what should be done in place of a task."""
        claim = data.draw(st.sampled_from(self.claims))
        dag, delivers = found
        graft = Graft(
            task_id=claim.task_id,
            expected_revision=self.all[claim.orchestration_id].state.revision - is_old,
            tasks=tuple(dag.nodes.values()),
            edges=tuple(dag.edges),
            routes=Routes(systems=dict.fromkeys(dag.nodes, AGENT)),
            delivers=delivers,
        )
        self.desk.report(claim.claim_id, ClaimReport(status="progress", now_us=self.now_us), graft)

    # What the engine hears of it

    @precondition(lambda self: self.inbox.pending())
    @rule(data=st.data(), count=st.integers(1, 3))
    def read_the_inbox(self, data: st.DataObject, count: int) -> None:
        """The next messages, in order; before a takeover the attempts of the driver before are ended first."""
        for _ in range(count):
            names = list(dict.fromkeys(each.orchestration_id for each in self.inbox.pending()))
            if names:
                self.hear_first_of(data.draw(st.sampled_from(names)))

    def hear_first_of(self, name: str) -> None:
        driven = self.all[name]
        if driven.is_dormant and driven.state.running:
            self.tell(Interrupt(orchestration_id=name))
        pending = next(each for each in self.inbox.pending() if each.orchestration_id == name)
        self.hear(driven, pending)

    def hear(self, driven: Driven, pending: PendingControl) -> None:
        """Tell the engine, and check what it makes of it."""
        item, stored = input_of(driven.name, pending.request, LIMITS, jitter=0.5)
        assert isinstance(item, ClaimTaken | ReportClaim)
        task = driven.state.tasks.get(item.task_id)
        counts = (
            isinstance(item, ReportClaim)
            and item.status == "done"
            and task is not None
            and task.claim == item.claim
            and task.reported is None
            and task.status in _LATE | {TaskStatus.CLAIMED}
        )
        if stored is not None and isinstance(item, ReportClaim) and counts:
            driven.values[item.task_id] = item.value
        assert self.tell(item)
        if counts:
            assert task is not None
            is_over = task.status is TaskStatus.COMPLETED or task.reported is not None
            assert is_over, "what was accepted of a worker is lost"
        self.inbox.answer([ControlAnswer(control_id=pending.control_id, is_done=True)], self.now_us)

    # Leases

    @precondition(lambda self: self.asked("looks"))
    @rule(data=st.data())
    def look_at_claim(self, data: st.DataObject) -> None:
        """Let a claim run out, if it should: durable at once, and the engine is told later."""
        self.look_at(*self.one(data, self.asked("looks")))

    def look_at(self, driven: Driven, task_id: TaskId) -> None:
        claim = driven.looks.pop(task_id)
        now = self.desk.expire(claim, self.now_us)
        self.looked.append(
            (
                driven,
                ClaimLooked(
                    orchestration_id=driven.name,
                    task_id=task_id,
                    claim=claim,
                    is_expired=now.state in {"expired", "revoked"},
                    again_at_us=now.expires_at_us if now.state == "active" else self.now_us + SECOND,
                    jitter=0.5,
                ),
            )
        )

    @precondition(lambda self: self.looked)
    @rule()
    def tell_what_was_found(self) -> None:
        self.tell_found()

    def tell_found(self) -> None:
        driven, found = self.looked.pop(0)
        self.tell(found)
        if found.is_expired:
            assert driven.held.get(found.task_id) != found.claim or self.is_reported(driven, found.task_id)

    def is_reported(self, driven: Driven, task_id: TaskId) -> bool:
        return driven.is_dormant or driven.state.tasks[task_id].reported is not None

    # Acceptance

    @precondition(lambda self: self.asked("checks"))
    @rule(data=st.data(), finds=st.sampled_from(["right", "right", "wrong", "nothing"]))
    def look_at_result(self, data: st.DataObject, finds: str) -> None:
        self.find_result(*self.one(data, self.asked("checks")), finds)

    def find_result(self, driven: Driven, task_id: TaskId, finds: str = "right") -> None:
        attempt, output = driven.checks.pop(task_id)
        self.tell(
            AcceptanceAnswer(
                orchestration_id=driven.name,
                task_id=task_id,
                attempt=attempt,
                output=output,
                value=driven.values.get(task_id),
                error={"right": None, "wrong": _REFUSED, "nothing": _DOWN}[finds],
                jitter=0.5,
            )
        )
        task = driven.state.tasks[task_id]
        assert (task.status is TaskStatus.COMPLETED) == (finds == "right"), "reported is not verified"
        if finds != "right" and not task.node.idempotent and not task.fallbacks:
            assert task.status is TaskStatus.UNKNOWN, "what was done is to be done again, and nobody decided"

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data())
    def find_what_nobody_asked(self, data: st.DataObject) -> None:
        """An answer about another attempt changes nothing."""
        driven, task_id = self.any_task(data)
        task = driven.state.tasks[task_id]
        before = len(driven.journal)
        answer: dict[str, Any] = {
            "orchestration_id": driven.name,
            "task_id": task_id,
            "output": task.reported,
        }
        self.tell(AcceptanceAnswer(**answer, attempt=task.attempt - 1, value=None))
        assert len(driven.journal) == before

    # How much systems take

    @rule(
        system=st.sampled_from(["here", "second", "there", AGENT]),
        limit=st.sampled_from([None, 1, 2]),
        closed_seconds=st.sampled_from([None, None, 3.0]),
        rate=st.sampled_from([None, None, (1, 2 * SECOND)]),
    )
    def change_gate(
        self, system: str, limit: int | None, closed_seconds: float | None, rate: tuple[int, int] | None
    ) -> None:
        until_us = None if closed_seconds is None else self.now_us + round(closed_seconds * SECOND)
        self.gates[system] = Gate(limit=limit, closed_until_us=until_us, rate=rate)
        self.tell(GatesChanged(gates={system: self.gates[system]}))

    def check_gate(self, system: str) -> None:
        """A closed system begins nothing."""
        assert (self.gates.get(system, Gate()).closed_until_us or 0) <= self.now_us, (
            "a closed system got something"
        )
        self.begun_on.add(system)

    def tell(self, item: Input) -> bool:
        """The same; and no system has got more than it takes."""
        self.begun_on = set()
        is_done = super().tell(item)
        for system in self.begun_on:
            limit = self.gates.get(system, Gate()).limit
            running = sum(driven.state.tasks[task_id].system == system for driven, task_id in self.running)
            assert limit is None or running <= limit, "a system got more than it takes"
        return is_done

    def check_loads(self) -> None:
        """The engine counts on each system what the outside runs there."""
        loads = self.engine.scheduler.slots.gates.loads
        running = Counter(driven.state.tasks[task_id].system for driven, task_id in self.running)
        assert {name: load.running for name, load in loads.items() if load.running} == dict(running)

    # To the end

    def answer_kindly(self) -> bool:
        """Answer one open question, or do one piece of work; False when there is none."""
        pending = self.inbox.pending()
        if pending:
            self.hear_first_of(pending[0].orchestration_id)
        elif self.looked:
            self.tell_found()
        elif found := self.asked("looks"):
            self.look_at(*found[0])
        elif found := self.asked("checks"):
            self.find_result(*found[0])
        elif found := self.asked("briefs"):
            self.write_brief_of(*found[0])
        elif (claim := next(filter(None, map(self.claim_as, WORKERS)), None)) is not None:
            self.report_of(claim, "done", {"ok": True, "n": 2})
        elif self.active:
            self.report_of(self.active[0], "done", {"ok": True, "n": 2})
        else:
            return super().answer_kindly()
        return True
