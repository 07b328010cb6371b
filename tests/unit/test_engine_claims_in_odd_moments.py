"""Claims at moments nobody plans for: two things due at once, answers that come too late, a retry in between."""

from __future__ import annotations

from dataclasses import replace

from orchestration.engine.effects import CheckAcceptance, DescribeOffer, LookAtClaim
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    ClaimLooked,
    OfferDescribed,
    ReportClaim,
    TaskDefaults,
)
from orchestration.models import Acceptance, CachePolicy, ErrorRecord, OrchestrationMode, TaskStatus
from tests.engine_kit import SECOND
from tests.unit.test_engine_claims import LEASE, Desk, agent_task

REFUSED = ErrorRecord(code="not_accepted", message="no", retryable=True, effect_open=True)


def test_a_claim_whose_lease_and_time_end_at_once_is_not_looked_at() -> None:
    desk = Desk([agent_task(timeout_seconds=LEASE, max_retries=0)]).begin()
    desk.claim("a")
    desk.wait(LEASE)
    assert desk.took(LookAtClaim) == []
    assert desk.error("a").code == "timeout"


def test_what_is_found_of_a_lease_after_the_report_does_not_stand_for_the_look_at_the_result() -> None:
    """Else the result would be looked at a second time when the orchestration is resumed."""
    desk = Desk([agent_task(acceptance=Acceptance(condition="output.ok"))]).begin()
    desk.claim("a")
    desk.wait(LEASE)
    assert len(desk.took(LookAtClaim)) == 1
    desk.report("a", "done", value={"ok": True})
    assert len(desk.took(CheckAcceptance)) == 1
    desk.tell(ClaimLooked(orchestration_id="o", task_id="a", claim="c1", is_expired=False, jitter=0.5))
    desk.pause()
    desk.resume()
    assert desk.took(CheckAcceptance) == []


def test_a_task_that_was_looked_at_when_its_time_ran_out_is_offered_anew_after_a_pause() -> None:
    """What was asked about the claim is not what is asked about the task."""
    desk = Desk([agent_task(timeout_seconds=LEASE + 1)]).begin()
    desk.claim("a")
    desk.wait(LEASE)
    desk.wait(1)
    assert desk.status("a") is TaskStatus.RETRYING
    desk.pause()
    desk.wait(1)
    desk.resume()
    assert desk.describe() == ["a"]
    assert desk.status("a") is TaskStatus.OFFERED


def test_a_brief_of_an_offer_that_was_made_already_is_no_brief_of_the_next_one() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    desk.report("a", "failed")
    desk.wait(1)
    (asked,) = desk.took(DescribeOffer)
    stale = OfferDescribed(orchestration_id="o", task_id="a", generation=asked.generation, number=1)
    assert desk.tell(stale).events == []
    desk.tell(replace(stale, number=asked.number))
    assert (desk.status("a"), desk.task("a").offers) == (TaskStatus.OFFERED, 2)


def test_what_must_not_be_repeated_is_decided_about_when_its_result_is_refused() -> None:
    """The worker says that it was done: a second one would do it a second time."""
    desk = Desk([agent_task(idempotent=False, acceptance=Acceptance(condition="output.ok"))]).begin()
    desk.claim("a")
    desk.report("a", "done", value={"ok": False})
    (asked,) = desk.took(CheckAcceptance)
    answer = AcceptanceAnswer(
        orchestration_id="o", task_id="a", attempt=1, output=asked.output, error=REFUSED, jitter=0.5
    )
    desk.tell(answer)
    assert desk.status("a") is TaskStatus.UNKNOWN
    desk.decide("a", "retry")
    assert desk.describe() == ["a"]


def test_what_must_not_be_repeated_is_decided_about_when_its_output_can_not_be_kept() -> None:
    desk = Desk([agent_task(idempotent=False)]).begin()
    desk.claim("a")
    error = ErrorRecord(code="output_too_large", message="too large")
    said = ReportClaim(orchestration_id="o", task_id="a", claim="c1", status="done", error=error, jitter=0.5)
    desk.tell(said)
    assert desk.status("a") is TaskStatus.UNKNOWN
    assert desk.error("a").code == "output_too_large"


def test_one_at_a_time_what_is_retried_waits_until_a_later_task_is_given_out_no_more() -> None:
    desk = Desk(
        "a b",
        elsewhere={"a": "here"},
        mode=OrchestrationMode.SIMPLE,
        defaults=TaskDefaults(max_retries=0, timeout_seconds=None),
    )
    desk.start()
    desk.fail("a")
    assert desk.describe() == ["b"]
    desk.claim("b")
    desk.retry("a")
    assert desk.running == []
    desk.report("b", "done")
    assert desk.running == ["a"]


def test_one_at_a_time_what_is_retried_waits_for_a_later_task_whose_brief_is_being_written() -> None:
    """Else both would be offered."""
    desk = Desk(
        "a b",
        elsewhere={"a": "here"},
        mode=OrchestrationMode.SIMPLE,
        defaults=TaskDefaults(max_retries=0, timeout_seconds=None),
    )
    desk.start()
    desk.fail("a")
    desk.retry("a")
    assert desk.running == []
    assert desk.describe() == ["b"]
    desk.claim("b")
    desk.report("b", "done")
    assert desk.running == ["a"]


def test_a_lease_that_was_found_to_hold_is_looked_at_again_when_it_should_end() -> None:
    desk = Desk("a").begin()
    desk.claim("a")
    for _ in range(3):
        desk.wait(LEASE)
        assert len(desk.took(LookAtClaim)) == 1
        desk.looked("a", is_expired=False, again_in=LEASE)
    assert desk.engine.next_deadline_us() == desk.now_us + round(LEASE * SECOND)


def test_a_brief_of_a_task_that_goes_on_elsewhere_by_now_offers_nothing() -> None:
    """It was asked for before a late report, which was not accepted, sent the task to another system."""
    task = agent_task(acceptance=Acceptance(condition="output.ok"), cache=CachePolicy(60), max_retries=1)
    desk = Desk([task], others={"a": ("elsewhere",)}).begin()
    desk.claim("a")
    desk.wait(LEASE)
    desk.looked("a")
    desk.wait(1.0)
    (asked,) = desk.took(DescribeOffer)
    desk.report("a", "done", value={"ok": False})
    (check,) = desk.took(CheckAcceptance)
    refusal = ErrorRecord(code="not_accepted", message="no", retryable=True)
    desk.tell(
        AcceptanceAnswer(
            orchestration_id="o", task_id="a", attempt=1, output=check.output, error=refusal, jitter=0.5
        )
    )
    assert (desk.status("a"), desk.task("a").system) == (TaskStatus.READY, "elsewhere")

    late = OfferDescribed(orchestration_id="o", task_id="a", generation=asked.generation, number=asked.number)

    assert desk.tell(late).events == []
