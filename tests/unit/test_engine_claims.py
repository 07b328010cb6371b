"""What the engine makes of offers, claims and reports; by hand, with invariants and replay after every step."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from orchestration.engine.effects import CheckAcceptance, DescribeOffer, LookAtClaim
from orchestration.engine.engine import Decision
from orchestration.engine.events import ClaimReleased, ClaimResumed, PlanRevised, TaskOffered
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    AlternativeFound,
    ClaimLooked,
    ClaimTaken,
    OfferDescribed,
    ReportClaim,
    Routes,
    TaskDefaults,
)
from orchestration.errors import NotPossibleError
from orchestration.models import (
    AGENT,
    Acceptance,
    Approver,
    ErrorRecord,
    Fallback,
    Json,
    OrchestrationMode,
    TaskId,
    TaskNode,
    TaskStatus,
)
from tests.engine_kit import ONE_OUTPUT, SECOND, Bench, graph, plan

LEASE = 300.0


class Desk(Bench):
    """An orchestration whose tasks all go to agents, unless said otherwise."""

    def __init__(self, tasks: Any, *edges: str, elsewhere: dict[TaskId, str] | None = None, **settings: Any):
        dag = graph(tasks, *edges)
        defaults = settings.pop("defaults", None) or TaskDefaults(max_retries=1, timeout_seconds=None)
        systems = dict.fromkeys(dag.nodes, AGENT) | (elsewhere or {})
        routes = Routes(
            systems=systems, fallbacks=settings.pop("fallbacks", {}), others=settings.pop("others", {})
        )
        super().__init__(dag, routes=routes, defaults=defaults, **settings)

    def took(self, kind: type[Any]) -> list[Any]:
        """Take out what the engine asked of this kind."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def describe(self, error: ErrorRecord | None = None) -> list[TaskId]:
        """Answer what is asked for offers; return the tasks."""
        found = self.took(DescribeOffer)
        for effect in found:
            self.tell(
                OfferDescribed(
                    orchestration_id=self.id,
                    task_id=effect.task_id,
                    generation=effect.generation,
                    number=effect.number,
                    lease_seconds=LEASE,
                    error=error,
                )
            )
        return [effect.task_id for effect in found]

    def claim(
        self, task_id: TaskId, claim: str = "c1", worker: str = "ann", number: int | None = None
    ) -> Decision:
        found = self.task(task_id).offers if number is None else number
        return self.tell(
            ClaimTaken(orchestration_id=self.id, task_id=task_id, number=found, claim=claim, worker=worker)
        )

    def report(
        self,
        task_id: TaskId,
        status: Literal["progress", "done", "failed", "blocked", "release"],
        claim: str = "c1",
        value: Json = None,
        **more: Any,
    ) -> Decision:
        output = ONE_OUTPUT if status == "done" else None
        return self.tell(
            ReportClaim(
                orchestration_id=self.id,
                task_id=task_id,
                claim=claim,
                status=status,
                output=output,
                value=value,
                jitter=0.5,
                **more,
            )
        )

    def looked(
        self, task_id: TaskId, claim: str = "c1", *, is_expired: bool = True, again_in: float = 0.0
    ) -> None:
        """Answer how a claim stands."""
        self.took(LookAtClaim)
        self.tell(
            ClaimLooked(
                orchestration_id=self.id,
                task_id=task_id,
                claim=claim,
                is_expired=is_expired,
                again_at_us=self.now_us + round(again_in * SECOND),
                jitter=0.5,
            )
        )

    def begin(self) -> Desk:
        """Start, and offer what can be."""
        self.start()
        self.describe()
        return self

    def status(self, task_id: TaskId) -> TaskStatus:
        return self.task(task_id).status


def agent_task(task_id: TaskId = "a", **fields: Any) -> TaskNode:
    return TaskNode(task_id, system_preference=AGENT, **fields)


def test_ready_tasks_are_offered_all_at_once_and_hold_no_slot() -> None:
    desk = Desk("a b c", slots=1).begin()
    assert {desk.status(name) for name in "abc"} == {TaskStatus.OFFERED}
    assert desk.engine.scheduler.slots.used == 0


def test_a_claim_is_an_attempt_that_holds_no_slot_and_what_it_delivers_goes_on() -> None:
    desk = Desk("a b", "a b").begin()
    desk.claim("a")
    assert (desk.status("a"), desk.task("a").attempt) == (TaskStatus.CLAIMED, 1)
    assert desk.engine.scheduler.slots.used == 0
    desk.report("a", "done", value={"x": 1})
    assert desk.status("a") is TaskStatus.COMPLETED
    assert desk.describe() == ["b"]


def test_an_offer_that_was_replaced_can_not_be_claimed_any_more() -> None:
    desk = Desk("a").begin()
    assert desk.claim("a", number=7).events == []
    assert desk.status("a") is TaskStatus.OFFERED


def test_what_someone_else_reports_is_passed_over() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    assert desk.report("a", "done", claim="another").events == []
    assert desk.status("a") is TaskStatus.CLAIMED


def test_a_failed_claim_is_retried_after_its_back_off_and_offered_anew_without_the_worker_that_failed() -> (
    None
):
    desk = Desk("a").begin()
    desk.claim("a")
    desk.report("a", "failed", reason="no access")
    assert desk.status("a") is TaskStatus.RETRYING
    assert desk.task("a").error == ErrorRecord(
        code="claim_failed", message="ann reported: no access", retryable=True, attempt=1, system=AGENT
    )
    desk.wait(1.0)
    desk.describe()
    assert (desk.status("a"), desk.task("a").offers, desk.task("a").failed_by) == (
        TaskStatus.OFFERED,
        2,
        ("ann",),
    )
    desk.claim("a", "c2", "bob")
    desk.report("a", "failed", "c2")
    assert desk.status("a") is TaskStatus.FAILED


def test_a_blocked_task_is_not_tried_again() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.report("a", "blocked", reason="the file is missing")
    assert desk.status("a") is TaskStatus.FAILED
    assert desk.error("a").code == "claim_blocked"


def test_a_lease_that_was_renewed_in_its_row_is_waited_for_again() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.wait(LEASE)
    assert [effect.claim for effect in desk.took(LookAtClaim)] == ["c1"]
    desk.looked("a", is_expired=False, again_in=100)
    desk.wait(99)
    assert desk.took(LookAtClaim) == []
    desk.wait(1)
    assert len(desk.took(LookAtClaim)) == 1


def test_a_claim_that_ran_out_is_offered_anew_and_its_late_report_counts_as_long_as_nobody_else_has_it() -> (
    None
):
    desk = Desk("a").begin()
    desk.claim("a")
    desk.wait(LEASE)
    desk.looked("a")
    assert desk.status("a") is TaskStatus.RETRYING
    desk.wait(1.0)
    assert desk.status("a") is TaskStatus.READY
    decision = desk.report("a", "done")
    assert isinstance(decision.events[0].event, ClaimResumed)
    assert desk.status("a") is TaskStatus.COMPLETED
    assert desk.describe() == ["a"]  # asked before the report; the answer comes too late to mean anything
    assert desk.status("a") is TaskStatus.COMPLETED


def test_a_late_report_does_not_count_once_somebody_else_has_the_task() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.wait(LEASE)
    desk.looked("a")
    desk.wait(1.0)
    desk.describe()
    desk.claim("a", "c2", "bob")
    assert desk.report("a", "done", "c1").events == []
    desk.report("a", "done", "c2")
    assert desk.status("a") is TaskStatus.COMPLETED


def test_a_claim_of_what_must_not_be_repeated_becomes_unknown_when_it_runs_out_and_a_late_report_settles_it() -> (
    None
):
    desk = Desk([agent_task(idempotent=False)]).begin()
    desk.claim("a")
    desk.wait(LEASE)
    desk.looked("a")
    assert desk.status("a") is TaskStatus.UNKNOWN
    desk.report("a", "done")
    assert desk.status("a") is TaskStatus.COMPLETED


def test_a_release_before_progress_is_no_attempt() -> None:
    desk = Desk("a").begin()
    for worker in ("ann", "bob", "eve"):
        desk.claim("a", worker, worker)
        assert desk.task("a").attempt == 1
        decision = desk.report("a", "release", worker)
        assert [type(recorded.event) for recorded in decision.events] == [ClaimReleased]
        assert (desk.status("a"), desk.task("a").failures) == (TaskStatus.OFFERED, 0)


def test_a_release_after_progress_uses_up_a_retry() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.report("a", "release", has_begun=True)
    assert desk.status("a") is TaskStatus.OFFERED
    desk.claim("a", "c2")
    assert desk.task("a").attempt == 2
    desk.report("a", "release", "c2", has_begun=True)
    assert desk.status("a") is TaskStatus.FAILED


def test_what_is_reported_done_is_looked_at_before_it_counts() -> None:
    desk = Desk(
        [agent_task(acceptance=Acceptance(condition="output.ok"))], defaults=TaskDefaults(max_retries=0)
    ).begin()
    desk.claim("a")
    desk.report("a", "done", value={"ok": False})
    assert desk.status("a") is TaskStatus.CLAIMED
    (asked,) = desk.took(CheckAcceptance)
    refusal = ErrorRecord(code="not_accepted", message="no", retryable=True)
    desk.tell(
        AcceptanceAnswer(
            orchestration_id="o", task_id="a", attempt=1, output=asked.output, error=refusal, jitter=0.5
        )
    )
    assert desk.status("a") is TaskStatus.FAILED


def test_a_reported_result_waits_for_its_check_across_a_takeover() -> None:
    desk = Desk([agent_task(acceptance=Acceptance(condition="output.ok"))]).begin()
    desk.claim("a")
    desk.report("a", "done", value={"ok": True})
    heir = Bench(desk.dag, events=desk.journal)
    heir.start()
    (asked,) = [effect for effect in heir.effects if isinstance(effect, CheckAcceptance)]
    heir.tell(
        AcceptanceAnswer(
            orchestration_id="o", task_id="a", attempt=1, output=asked.output, value={"ok": True}
        )
    )
    assert heir.task("a").status is TaskStatus.COMPLETED


def test_a_claim_never_runs_out_sooner_than_a_lease_after_a_takeover() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.now_us += round(LEASE * SECOND) - SECOND
    heir = Bench(desk.dag, events=desk.journal)
    heir.now_us = desk.now_us
    heir.start()
    heir.wait(LEASE - 1)
    assert not [effect for effect in heir.effects if isinstance(effect, LookAtClaim)]
    heir.wait(1)
    assert [effect.claim for effect in heir.effects if isinstance(effect, LookAtClaim)] == ["c1"]


def test_offers_of_a_driver_that_is_gone_stay_and_what_was_not_offered_yet_is_asked_for_again() -> None:
    desk = Desk("a b")
    desk.start()
    first, _ = desk.took(DescribeOffer)
    desk.effects = [first]
    desk.describe()
    heir = Bench(desk.dag, events=desk.journal)
    heir.start()
    assert heir.task("a").status is TaskStatus.OFFERED
    assert [effect.task_id for effect in heir.effects if isinstance(effect, DescribeOffer)] == ["b"]


def test_a_paused_orchestration_takes_reports_and_lets_no_claim_run_out() -> None:
    desk = Desk("a b").begin()
    desk.claim("a")
    desk.claim("b", "c2")
    desk.pause()
    desk.wait(LEASE)
    assert desk.took(LookAtClaim) == []
    desk.report("a", "done")
    assert desk.status("a") is TaskStatus.COMPLETED
    desk.resume()
    desk.wait(0)
    assert [effect.claim for effect in desk.took(LookAtClaim)] == ["c2"]


def test_a_cancelled_orchestration_takes_offers_and_claims_back_at_once() -> None:
    desk = Desk("a b").begin()
    desk.claim("a")
    desk.cancel()
    assert {desk.status("a"), desk.status("b")} == {TaskStatus.CANCELLED}
    assert desk.report("a", "done").events == []


def test_one_at_a_time_an_offer_waits_for_its_turn_and_holds_its_place() -> None:
    desk = Desk("a b c", elsewhere={"a": "here", "c": "here"}, mode=OrchestrationMode.SIMPLE)
    desk.start()
    assert desk.took(DescribeOffer) == []
    desk.succeed("a")
    assert desk.describe() == ["b"]
    desk.claim("b")
    assert desk.status("c") is TaskStatus.READY
    desk.report("b", "done")
    assert desk.status("c") is TaskStatus.RUNNING


def test_what_needs_a_yes_is_offered_only_after_it() -> None:
    approver: Approver = "caller"
    desk = Desk([agent_task(approval=approver)])
    desk.start()
    assert desk.took(DescribeOffer) == []
    desk.described("a", "digest")
    desk.approve("a")
    assert desk.describe() == ["a"]
    assert desk.status("a") is TaskStatus.OFFERED


def test_an_offered_task_that_is_changed_is_offered_anew_and_a_claim_of_the_old_offer_is_void() -> None:
    desk = Desk("a").begin()
    desk.edit(changed=(agent_task(description="something else"),))
    assert desk.status("a") is TaskStatus.READY
    assert desk.claim("a", number=1).events == []
    desk.describe()
    assert desk.claim("a", number=1).events == []
    desk.claim("a", number=2)
    assert desk.status("a") is TaskStatus.CLAIMED


def test_a_claimed_task_can_not_be_changed() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    with pytest.raises(NotPossibleError, match="ann has claimed it"):
        desk.edit(changed=(agent_task(description="something else"),))


def test_a_worker_may_put_other_tasks_in_the_place_of_its_own() -> None:
    desk = Desk("a b", "a b").begin()
    desk.claim("a")
    found = AlternativeFound(
        orchestration_id="o",
        task_id="a",
        dag=plan("x y", "x y"),
        by="ann",
        routes=Routes(systems={"x": AGENT, "y": AGENT}),
    )
    decision = desk.report("a", "progress", alternative=found)
    assert [type(recorded.event) for recorded in decision.events][-1] is PlanRevised
    assert desk.status("a") is TaskStatus.SUPERSEDED
    assert desk.describe() == ["x~1"]
    assert desk.task("b").incoming[0].source == "y~1"


def test_tasks_that_do_not_fit_any_more_are_a_failed_attempt() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    found = AlternativeFound(orchestration_id="o", task_id="a", dag=plan("x"), by="ann", expected_revision=9)
    desk.report("a", "progress", alternative=found)
    assert desk.status("a") is TaskStatus.RETRYING
    assert desk.error("a").code == "not_replaced"


def test_an_agent_out_of_attempts_gives_way_to_the_fallback() -> None:
    task = agent_task(fallback=Fallback(tool="do"), max_retries=0)
    desk = Desk([task], fallbacks={"a": ("here",)}).begin()
    desk.claim("a")
    desk.report("a", "failed")
    assert (desk.status("a"), desk.task("a").system) == (TaskStatus.RUNNING, "here")
    assert desk.report("a", "done").events == [], "the claim is of what it was before"


def test_a_task_may_fall_back_to_an_agent() -> None:
    task = TaskNode("a", fallback=Fallback(system_preference=AGENT), max_retries=0)
    desk = Desk([task], elsewhere={"a": "here"}, fallbacks={"a": (AGENT,)})
    desk.start()
    desk.fail("a")
    assert desk.describe() == ["a"]
    assert desk.status("a") is TaskStatus.OFFERED


def test_a_task_goes_on_at_an_agent_when_its_system_is_not_tried_at_present() -> None:
    desk = Desk("a", elsewhere={"a": "here"}, others={"a": (AGENT,)}, defaults=TaskDefaults(max_retries=5))
    desk.start()
    desk.fail("a", retryable=True, code="circuit_open")
    assert desk.describe() == ["a"]
    assert desk.task("a").note == "goes on at agent: here is not tried at present"


def test_a_claim_that_keeps_reporting_still_ends_with_the_tasks_own_time() -> None:
    desk = Desk([agent_task(timeout_seconds=1000, max_retries=0)]).begin()
    desk.claim("a")
    for _ in range(3):
        desk.wait(LEASE)
        desk.looked("a", is_expired=False, again_in=LEASE)
    desk.wait(100)
    assert desk.status("a") is TaskStatus.FAILED
    assert desk.error("a").code == "timeout"


def test_what_can_not_be_put_into_words_fails_before_it_is_offered() -> None:
    desk = Desk("a")
    desk.start()
    desk.describe(ErrorRecord(code="reference_error", message="no such key"))
    assert desk.status("a") is TaskStatus.FAILED


def test_a_retried_task_knows_nothing_of_the_claims_before() -> None:
    desk = Desk("a", defaults=TaskDefaults(max_retries=0)).begin()
    desk.claim("a")
    desk.report("a", "failed")
    desk.retry("a")
    desk.describe()
    assert (desk.status("a"), desk.task("a").failed_by, desk.task("a").claim) == (
        TaskStatus.OFFERED,
        (),
        None,
    )
    assert isinstance(desk.journal[-1].event, TaskOffered)
