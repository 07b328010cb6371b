"""Work that is offered to agents: given to one worker at a time, reported once, and never lost, in every storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestration.claim_records import (
    KEEPS_OFFER,
    Claim,
    ClaimNote,
    ClaimOutcome,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    Offer,
    OfferView,
)
from orchestration.errors import ClaimNotFoundError, StaleFencingTokenError
from orchestration.models import OrchestrationStatus, TaskNode, TaskStatus
from orchestration.ports import ControlAction, Graft, Lease, Retained, Storage
from tests.storage.records import (
    NOW_US,
    SECOND_US,
    answers_alone,
    created,
    ended,
    keep,
    new_orchestration,
    over,
    row,
    summary,
)

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 60.0
EXPIRED_US = NOW_US + 61 * SECOND_US
GRAFT = Graft(task_id="a", expected_revision=1, tasks=(TaskNode("part"),), edges=(), delivers="part")


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


def offer(task_id: str = "a", number: int = 1, **fields: Any) -> Offer:
    """An offer of a task that anybody may take."""
    made = Offer(
        task_id=task_id,
        number=number,
        attempt=number,
        lease_seconds=LEASE_SECONDS,
        brief=f"Do “{task_id}”.",
        offered_at_us=NOW_US,
    )
    return replace(made, **fields)


def report(status: Any = "done", **fields: Any) -> ClaimReport:
    """What a worker says a second after it took the task."""
    return replace(ClaimReport(status=status, now_us=NOW_US + SECOND_US), **fields)


async def offers(storage: Storage, lease: Lease, *made: Offer, **facts: Any) -> None:
    """Offer tasks, as a driver does."""
    await storage.append([answers_alone(lease, offers=made, **facts)])


async def claim(
    storage: Storage, worker: str = "ada", claim_id: str | None = None, **fields: Any
) -> Claim | None:
    """Ask for work; the claim is called as its worker unless a test says so."""
    asked = ClaimRequest(worker=worker, claim_id=claim_id or f"of-{worker}", now_us=NOW_US)
    return await storage.claim_offer(replace(asked, **fields))


async def held(storage: Storage, *made: Offer) -> Lease:
    """Create an orchestration whose first task `ada` holds; return its lease."""
    lease = await created(storage)
    await offers(storage, lease, *(made or (offer(),)))
    assert await claim(storage) is not None
    return lease


async def ran_out(storage: Storage) -> Lease:
    """Create an orchestration whose task was held by `ada`, until its lease ended."""
    lease = await held(storage)
    assert (await storage.expire_claim("of-ada", now_us=EXPIRED_US)).state == "expired"
    return lease


async def states(storage: Storage) -> dict[str, str]:
    """Return the state of every offer."""
    return {view.task_id: view.state for view in await storage.load_offers()}


async def notes(storage: Storage) -> list[tuple[ControlAction, ClaimNote | None]]:
    """Return the messages to whoever drives."""
    return [(each.request.action, each.request.claim) for each in await storage.pending_controls()]


# --- Claiming ---


async def test_a_claim_comes_with_its_message(storage: Storage) -> None:
    """Every field of the offer is the claim's, and the driver is told in the same transaction."""
    lease = await created(storage)
    await offers(storage, lease, offer(number=3, attempt=2, skills=("go", "ü"), priority=5))

    taken = await claim(storage, skills=("ü", "go", "more"), now_us=NOW_US + 5)

    assert taken == Claim(
        claim_id="of-ada",
        orchestration_id="report-1",
        task_id="a",
        number=3,
        attempt=2,
        worker="ada",
        claimed_at_us=NOW_US + 5,
        expires_at_us=NOW_US + 5 + 60 * SECOND_US,
        lease_seconds=LEASE_SECONDS,
        brief="Do “a”.",
    )
    assert await storage.load_claim("of-ada") == taken
    (message,) = await storage.pending_controls()
    assert (message.orchestration_id, message.sent_at_us) == ("report-1", NOW_US + 5)
    assert (message.request.action, message.request.task_ids) == (ControlAction.CLAIM, ("a",))
    assert message.request.by == "ada"
    assert message.request.claim == ClaimNote(
        claim_id="of-ada", task_id="a", number=3, attempt=2, worker="ada", at_us=NOW_US + 5
    )


async def test_nobody_gets_what_somebody_has(storage: Storage) -> None:
    """One offer, one claim; None means that there is nothing."""
    await held(storage)

    assert await claim(storage, "bob") is None
    assert len(await storage.pending_controls()) == 1
    with pytest.raises(ClaimNotFoundError, match="There is no claim 'of-bob'"):
        await storage.load_claim("of-bob")


async def test_the_most_urgent_comes_first_then_the_oldest(storage: Storage) -> None:
    """Over all orchestrations and sets of skills; what is equal, in the order it was offered."""
    one, two = await created(storage, "one"), await created(storage, "two")
    await offers(
        storage, one, offer("a", offered_at_us=NOW_US + 2), offer("b", priority=1), offer("c", priority=4)
    )
    await offers(
        storage,
        two,
        offer("a", offered_at_us=NOW_US + 1),
        offer("b", offered_at_us=NOW_US + 1, skills=("go",)),
        offer("c", offered_at_us=NOW_US + 2, skills=("go",)),
    )
    listed = await storage.load_offers()

    taken = [await claim(storage, claim_id=f"c{number}", skills=("go",)) for number in range(6)]

    order = [("one-1", "c"), ("two-1", "a"), ("two-1", "b"), ("one-1", "a"), ("two-1", "c"), ("one-1", "b")]
    assert [each and (each.orchestration_id, each.task_id) for each in taken] == order
    assert [(view.orchestration_id, view.task_id) for view in listed] == order
    assert await claim(storage, claim_id="c7", skills=("go",)) is None


@pytest.mark.parametrize(
    ("wanted", "has", "fits"),
    [((), (), True), (("go",), (), False), (("go",), ("go", "js"), True), (("go", "js"), ("go",), False)],
)
async def test_a_worker_gets_only_what_it_has_the_skills_for(
    storage: Storage, wanted: Sequence[str], has: Sequence[str], fits: bool
) -> None:
    """All of them."""
    await offers(storage, await created(storage), offer(skills=tuple(wanted)))

    assert (await claim(storage, skills=tuple(has)) is not None) is fits


async def test_a_worker_may_ask_for_work_of_one_orchestration(storage: Storage) -> None:
    """Another one's is left alone, however urgent; of an unknown one there is none."""
    await offers(storage, await created(storage, "one"), offer(priority=5))
    await offers(storage, await created(storage, "two"), offer())

    for unknown in ("nope", "\udcff"):
        assert await claim(storage, orchestration_id=unknown) is None
    taken = await claim(storage, orchestration_id="two-1")

    assert taken is not None
    assert taken.orchestration_id == "two-1"
    assert await claim(storage, "bob", orchestration_id="two-1") is None


@pytest.mark.parametrize("state", [state for state in OrchestrationStatus if not state.is_terminal])
async def test_work_is_given_out_only_of_what_goes_on(storage: Storage, state: OrchestrationStatus) -> None:
    """Not while it is paused or being cancelled; afterwards its offers are there as before."""
    lease = await created(storage)
    await offers(storage, lease, offer(), summary=summary(state=state))

    taken = await claim(storage)
    await offers(storage, lease)

    assert (taken is not None) is (state in (OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING))
    assert taken or await claim(storage) is not None


async def test_a_claim_is_called_as_none_before(storage: Storage) -> None:
    """A bug of the caller; nothing is given out."""
    await held(storage, offer("a"), offer("b"))

    with pytest.raises(ValueError, match="There is a claim 'of-ada' already"):
        await claim(storage)

    assert await states(storage) == {"a": "claimed", "b": "open"}


# --- Those who have failed before ---


async def test_what_a_worker_failed_comes_after_everything_else(storage: Storage) -> None:
    """However urgent it is; others get it at its place."""
    lease = await created(storage)
    await offers(storage, lease, offer("a", 2, priority=5, failed_by=("ada",)), offer("b", priority=1))

    first, second = await claim(storage, claim_id="c1"), await claim(storage, "bob")

    assert first is not None
    assert second is not None
    assert (first.task_id, second.task_id) == ("b", "a")


async def test_a_worker_that_is_alone_may_try_again_at_once(storage: Storage) -> None:
    """There is nobody to wait for; who claimed something more than an hour ago is nobody."""
    lease = await created(storage)
    await offers(storage, lease, offer("b"))
    assert await claim(storage, "bob", now_us=NOW_US - 3600 * SECOND_US) is not None
    await offers(storage, lease, offer("a", 2, failed_by=("ada",)))

    assert await claim(storage) is not None


async def test_others_have_a_try_before_it_comes_back(storage: Storage) -> None:
    """Whoever claimed something in the last hour must have failed it, too; or it was open for its lease's length."""
    lease = await created(storage)
    await offers(storage, lease, offer("b"))
    assert await claim(storage, "bob") is not None
    await offers(storage, lease, offer("a", 2, failed_by=("ada",), offered_at_us=NOW_US + 7))
    waited = NOW_US + 7 + 60 * SECOND_US

    early = [await claim(storage, now_us=now_us) for now_us in (NOW_US + 7, waited - 1)]
    assert early == [None, None]
    await offers(storage, lease, offer("a", 3, failed_by=("ada", "bob"), offered_at_us=NOW_US + 7))
    again = await claim(storage, claim_id="again")
    await offers(storage, lease, offer("a", 4, failed_by=("ada",), offered_at_us=NOW_US + 7))

    assert again is not None
    assert await claim(storage, now_us=waited) is not None


async def test_what_a_worker_gave_back_comes_after_everything_else_for_it(storage: Storage) -> None:
    """Somebody else may do it, at once; it would only be given back again."""
    await held(storage, offer("a", priority=5), offer("b"))
    await storage.report_claim("of-ada", report("release"))

    first = await claim(storage, claim_id="second")
    second = await claim(storage, "bob")

    assert first is not None
    assert second is not None
    assert (first.task_id, second.task_id, second.number) == ("b", "a", 1)


# --- Reporting ---


async def test_progress_renews_the_lease_and_is_no_message(storage: Storage) -> None:
    """The claim keeps what was said last; the driver learns nothing new."""
    await held(storage)

    verdict = await storage.report_claim(
        "of-ada", report("progress", summary="half", now_us=NOW_US + 50 * SECOND_US)
    )

    assert verdict == ClaimVerdict(is_accepted=True, claim=await storage.load_claim("of-ada"))
    assert (verdict.claim.state, verdict.claim.has_progress, verdict.claim.summary) == (
        "active",
        True,
        "half",
    )
    assert verdict.claim.expires_at_us == NOW_US + 110 * SECOND_US
    assert len(await storage.pending_controls()) == 1
    assert (await storage.expire_claim("of-ada", now_us=NOW_US + 110 * SECOND_US - 1)).state == "active"


@pytest.mark.parametrize(
    ("status", "state"), [("done", "done"), ("failed", "failed"), ("blocked", "blocked")]
)
async def test_a_report_ends_the_claim_and_reaches_the_driver(
    storage: Storage, status: Any, state: str
) -> None:
    """Every field as it was said."""
    await held(storage)
    said = report(status, summary="“it”", output={"ü": [1, None]}, evidence=("make test", "ok\n"))

    verdict = await storage.report_claim("of-ada", said)

    assert (verdict.is_accepted, verdict.is_late, verdict.is_repeated) == (True, False, False)
    assert (verdict.claim.state, verdict.claim.summary) == (state, "“it”")
    assert await storage.load_claim("of-ada") == verdict.claim
    message = (await storage.pending_controls())[-1]
    assert message.control_id == verdict.control_id
    assert (message.request.action, message.request.edit) == (ControlAction.REPORT, None)
    assert message.request.claim == ClaimNote(
        claim_id="of-ada", task_id="a", number=1, attempt=1, worker="ada", report=said, at_us=said.now_us
    )
    assert await states(storage) == {"a": "reported"}


@pytest.mark.parametrize(
    ("status", "state"), [("done", "done"), ("progress", "released"), ("release", "released")]
)
async def test_a_report_with_tasks_in_its_place_ends_the_claim(
    storage: Storage, status: Any, state: str
) -> None:
    """Nobody else is to begin what may be replaced."""
    await held(storage)

    verdict = await storage.report_claim("of-ada", report(status), GRAFT)

    assert verdict.claim.state == state
    assert (await storage.pending_controls())[-1].request.edit == GRAFT
    assert await states(storage) == {"a": "reported"}


async def test_a_release_opens_the_offer_at_once(storage: Storage) -> None:
    """Before any driver has looked; who held it last is seen."""
    await held(storage)

    verdict = await storage.report_claim("of-ada", report("release", summary="no access"))
    (view,) = await storage.load_offers()
    taken = await claim(storage, "bob")

    assert (verdict.is_accepted, verdict.claim.state) == (True, "released")
    assert (view.state, view.claim) == ("open", replace(verdict.claim, brief=""))
    assert taken is not None
    assert [action for action, _ in await notes(storage)] == ["claim", "report", "claim"]


@pytest.mark.parametrize("first", ["done", "failed", "blocked", "release"])
async def test_the_same_claim_is_answered_as_it_was(storage: Storage, first: Any) -> None:
    """Who did not hear the answer asks again; nothing is done twice, whatever is said then."""
    await held(storage)
    said = await storage.report_claim("of-ada", report(first, summary="first"))

    again = await storage.report_claim("of-ada", report("done", summary="second"))

    assert again == replace(said, is_repeated=True)
    assert len(await storage.pending_controls()) == 2


async def test_a_report_is_not_shared_with_who_made_it(storage: Storage) -> None:
    """Its output is copied on the way in."""
    await held(storage)
    output = {"list": [1]}

    await storage.report_claim("of-ada", report(output=output))
    output["list"].append(2)

    _, note = (await notes(storage))[-1]
    assert note is not None
    assert note.report is not None
    assert note.report.output == {"list": [1]}


async def test_a_claim_nobody_made_is_not_found(storage: Storage) -> None:
    """By whatever it is asked for; ids that can't exist included."""
    for unknown in ("nope", "\udcff"):
        with pytest.raises(ClaimNotFoundError):
            await storage.report_claim(unknown, report())
        with pytest.raises(ClaimNotFoundError):
            await storage.expire_claim(unknown, now_us=NOW_US)
        with pytest.raises(ClaimNotFoundError):
            await storage.load_claim(unknown)


# --- Late ---


async def test_a_claim_runs_out_only_when_its_lease_has_ended(storage: Storage) -> None:
    """It is nobody's then, and not offered yet; what does not hold can't run out."""
    await held(storage)

    early = await storage.expire_claim("of-ada", now_us=NOW_US + 60 * SECOND_US - 1)
    late = await storage.expire_claim("of-ada", now_us=NOW_US + 60 * SECOND_US)

    assert (early.state, late.state) == ("active", "expired")
    assert await storage.expire_claim("of-ada", now_us=EXPIRED_US) == late
    assert await states(storage) == {"a": "expired"}
    assert await claim(storage, "bob", now_us=EXPIRED_US) is None


async def test_late_progress_holds_the_task_again(storage: Storage) -> None:
    """And the driver, who counted it as lost, is told."""
    await ran_out(storage)

    verdict = await storage.report_claim("of-ada", report("progress", now_us=EXPIRED_US))

    assert (verdict.is_accepted, verdict.is_late, verdict.claim.state) == (True, True, "active")
    assert verdict.claim.expires_at_us == EXPIRED_US + 60 * SECOND_US
    (_, (action, note)) = await notes(storage)
    assert (action, note and note.report and note.report.status) == ("report", "progress")
    assert await states(storage) == {"a": "claimed"}


async def test_a_late_result_counts_while_nobody_has_the_task(storage: Storage) -> None:
    """And is answered the same when it is repeated."""
    await ran_out(storage)

    verdict = await storage.report_claim("of-ada", report(now_us=EXPIRED_US))
    again = await storage.report_claim("of-ada", report(now_us=EXPIRED_US))

    assert (verdict.is_accepted, verdict.is_late, verdict.claim.state) == (True, True, "done")
    assert again == replace(verdict, is_repeated=True)


async def test_a_late_result_counts_while_the_task_is_offered_anew(storage: Storage) -> None:
    """It is the work of the present offer then: the driver is told of a claim of that one, then of the report."""
    lease = await ran_out(storage)
    await offers(storage, lease, offer(number=2, attempt=2, failed_by=("ada",)))

    verdict = await storage.report_claim("of-ada", report(now_us=EXPIRED_US))

    assert (verdict.is_accepted, verdict.is_late) == (True, True)
    assert (verdict.claim.state, verdict.claim.number, verdict.claim.attempt) == ("done", 2, 2)
    told = [(action, note and (note.number, note.attempt)) for action, note in await notes(storage)]
    assert told == [("claim", (1, 1)), ("claim", (2, 2)), ("report", (2, 2))]
    assert verdict.control_id == (await storage.pending_controls())[-1].control_id
    assert await states(storage) == {"a": "reported"}
    assert await claim(storage, "bob") is None


@pytest.mark.parametrize("status", ["failed", "blocked", "release"])
async def test_what_came_to_nothing_late_does_not_touch_the_new_offer(storage: Storage, status: Any) -> None:
    """The attempt it is of has ended; the worker is told that it was heard."""
    lease = await ran_out(storage)
    await offers(storage, lease, offer(number=2, attempt=2))

    verdict = await storage.report_claim("of-ada", report(status))
    again = await storage.report_claim("of-ada", report(status))

    assert (verdict.is_accepted, verdict.is_late, verdict.control_id) == (True, True, None)
    assert again == replace(verdict, is_repeated=True)
    assert len(await storage.pending_controls()) == 1
    assert await states(storage) == {"a": "open"}


@pytest.mark.parametrize("then", [None, "done"])
async def test_a_late_report_is_refused_once_somebody_else_has_the_task(storage: Storage, then: Any) -> None:
    """Who has it is named, what was said is kept, and its driver hears nothing."""
    lease = await ran_out(storage)
    await offers(storage, lease, offer(number=2, attempt=2, failed_by=("ada",)))
    assert await claim(storage, "bob", now_us=EXPIRED_US) is not None
    if then:
        await storage.report_claim("of-bob", report(then, now_us=EXPIRED_US))
    before = await storage.pending_controls()

    verdict = await storage.report_claim("of-ada", report(summary="I had it!", now_us=EXPIRED_US))

    assert (verdict.is_accepted, verdict.reason, verdict.holder) == (False, "taken", "bob")
    assert (verdict.control_id, verdict.is_repeated) == (None, False)
    assert (verdict.claim.state, verdict.claim.summary) == ("expired", "I had it!")
    assert await storage.load_claim("of-ada") == verdict.claim
    assert await storage.pending_controls() == before


# --- What a driver decides ---


@pytest.mark.parametrize("status", list(TaskStatus))
async def test_an_offer_ends_with_what_its_task_is(storage: Storage, status: TaskStatus) -> None:
    """In the same transaction; the claim that held it is told why when it reports."""
    lease = await held(storage)

    await storage.append([answers_alone(lease, tasks=[row("a", 0, status)])])
    verdict = await storage.report_claim("of-ada", report(summary="done"))

    if status in KEEPS_OFFER:
        assert verdict.is_accepted
        return
    reasons = {TaskStatus.CANCELLED: "cancelled"} | dict.fromkeys(
        (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED), "settled"
    )
    assert (verdict.is_accepted, verdict.reason) == (False, reasons.get(status, "changed"))
    assert (verdict.holder, verdict.claim.state, verdict.claim.summary) == (None, "revoked", "done")
    assert await states(storage) == {"a": "closed"}


async def test_an_open_offer_ends_with_its_task(storage: Storage) -> None:
    """Nobody can take it any more, and the others are as they were."""
    lease = await created(storage)
    await offers(storage, lease, offer("a"), offer("b"))

    await storage.append([answers_alone(lease, tasks=[row("a", 0, TaskStatus.CANCELLED)])])

    assert await states(storage) == {"a": "closed", "b": "open"}


async def test_the_last_word_of_a_commit_counts(storage: Storage) -> None:
    """Offered and cancelled in one commit is closed; cancelled in one and offered in the next is open."""
    lease = await created(storage)
    cancelled = row("a", 0, TaskStatus.CANCELLED)

    await storage.append([answers_alone(lease, offers=[offer()], tasks=[cancelled])])
    first = await states(storage)
    await storage.append([answers_alone(lease, tasks=[cancelled]), answers_alone(lease, offers=[offer()])])

    assert (first, await states(storage)) == ({"a": "closed"}, {"a": "open"})


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (OrchestrationStatus.CANCELLED, "cancelled"),
        (OrchestrationStatus.COMPLETED, "settled"),
        (OrchestrationStatus.FAILED, "settled"),
    ],
)
async def test_all_offers_end_with_the_orchestration(
    storage: Storage, state: OrchestrationStatus, reason: str
) -> None:
    """Held or open; its list stays to be read, and what has ended is not among the rest. It may be reopened."""
    lease = await held(storage, offer("a"), offer("b"))

    await storage.append([answers_alone(lease, summary=summary(state=state))])
    everywhere, here = await storage.load_offers(), await storage.load_offers("report-1")
    verdict = await storage.report_claim("of-ada", report())
    await offers(storage, lease, offer("b", 2))

    assert (everywhere, [view.state for view in here]) == ([], ["closed", "closed"])
    assert (verdict.is_accepted, verdict.reason) == (False, reason)
    assert await states(storage) == {"a": "closed", "b": "open"}


async def test_an_offer_anew_revokes_the_claim_that_held_it(storage: Storage) -> None:
    """Refused because the task has changed, until somebody else has it."""
    lease = await held(storage)
    await offers(storage, lease, offer(number=2, brief="Another thing."))

    changed = await storage.report_claim("of-ada", report())
    taken = await claim(storage, "bob")
    refused = await storage.report_claim("of-ada", report())

    assert (changed.is_accepted, changed.reason, changed.claim.state) == (False, "changed", "revoked")
    assert taken is not None
    assert (taken.number, taken.brief) == (2, "Another thing.")
    assert (refused.is_accepted, refused.reason, refused.holder) == (False, "taken", "bob")


async def test_a_stale_token_offers_and_closes_nothing(storage: Storage) -> None:
    """Nor does any part of a batch that is refused."""
    lease = await held(storage)
    outcome = ClaimOutcome(claim_id="of-ada", is_accepted=True)
    good = answers_alone(
        lease, offers=[offer("b")], tasks=[row("a", 0, TaskStatus.COMPLETED)], claim_outcomes=[outcome]
    )

    with pytest.raises(StaleFencingTokenError):
        await storage.append([good, answers_alone(replace(lease, token=9))])

    assert await states(storage) == {"a": "claimed"}
    assert (await storage.load_claim("of-ada")).is_accepted is None


async def test_a_claim_is_judged_by_its_own_orchestration(storage: Storage) -> None:
    """One that is not there is passed over; another one's is a bug, and nothing is stored."""
    lease, other = await held(storage), await created(storage, "other")
    await storage.report_claim("of-ada", report())
    outcome = ClaimOutcome(claim_id="of-ada", is_accepted=False, reason="the tests fail")

    with pytest.raises(ValueError, match="'other-1' judges claim 'of-ada', which is of 'report-1'"):
        await storage.append([answers_alone(other, claim_outcomes=[outcome])])
    before = await storage.load_claim("of-ada")
    await storage.append([answers_alone(lease, claim_outcomes=[replace(outcome, claim_id="no"), outcome])])
    after = await storage.load_claim("of-ada")

    assert (before.is_accepted, before.reason) == (None, "")
    assert (after.state, after.is_accepted, after.reason) == ("done", False, "the tests fail")


# --- Looking ---


async def test_an_offer_is_seen_with_the_claim_it_is_under(storage: Storage) -> None:
    """Without the briefs, by state, up to a limit; of an unknown orchestration there is none."""
    await held(storage, offer("a", 2, priority=4, skills=(), failed_by=("bob",)), offer("b", skills=("go",)))

    views = await storage.load_offers("report-1")

    assert views == [
        OfferView(
            orchestration_id="report-1",
            task_id="a",
            number=2,
            attempt=2,
            state="claimed",
            skills=(),
            priority=4,
            offered_at_us=NOW_US,
            failed_by=("bob",),
            claim=replace(await storage.load_claim("of-ada"), brief=""),
        ),
        OfferView(
            orchestration_id="report-1",
            task_id="b",
            number=1,
            attempt=1,
            state="open",
            skills=("go",),
            priority=2,
            offered_at_us=NOW_US,
            failed_by=(),
        ),
    ]
    assert await storage.load_offers(states=["open", "expired"]) == views[1:]
    assert await storage.load_offers(limit=1) == views[:1]
    assert await storage.load_offers(states=[]) == await storage.load_offers(limit=-1) == []
    for unknown in ("nope", "\udcff"):
        assert await storage.load_offers(unknown) == []
        assert await storage.load_claim_totals(unknown) == ClaimTotals()


async def test_totals_keep_what_was_reported_apart_from_what_was_accepted(storage: Storage) -> None:
    """Over all orchestrations or one, and by worker."""
    one, two = await created(storage, "one"), await created(storage, "two")
    names = [("ada", "done"), ("ada", "done"), ("bob", "done"), ("bob", "failed"), ("bob", "blocked")]
    names += [("eve", "release"), ("eve", "")]
    await offers(storage, one, *(offer(f"t{number}") for number in range(len(names))))
    for number, (worker, status) in enumerate(names):
        await claim(storage, worker, f"c{number}")
        if status:
            await storage.report_claim(f"c{number}", report(status))
        if status == "release":
            await storage.append([answers_alone(one, tasks=[row("t5", 0, TaskStatus.CANCELLED)])])
    await storage.expire_claim("c6", now_us=EXPIRED_US)
    found = [ClaimOutcome(claim_id="c0", is_accepted=True), ClaimOutcome(claim_id="c1", is_accepted=False)]
    await storage.append([answers_alone(one, claim_outcomes=found)])
    of_one = await storage.load_claim_totals("one-1")
    await offers(storage, two, offer())
    await claim(storage, "eve", "c9")

    of_all = await storage.load_claim_totals()

    assert of_one == ClaimTotals(
        claims=7,
        reported_done=3,
        accepted=1,
        refused=1,
        expired=1,
        released=1,
        failed=2,
        by_worker={"ada": (2, 2, 1), "bob": (3, 1, 0), "eve": (2, 0, 0)},
    )
    assert of_all == replace(of_one, claims=8, by_worker={**of_one.by_worker, "eve": (3, 0, 0)})


async def test_offers_and_claims_go_with_their_orchestration(storage: Storage) -> None:
    """Housekeeping removes them whole; those of others stay."""
    other = await created(storage, "other")
    await offers(storage, other, offer())
    assert await claim(storage, "bob") is not None
    lease = await held(storage)
    await storage.append([answers_alone(lease, summary=over())])
    await storage.release_lease(lease)
    await ended(storage, "third")

    done = await storage.retain(keep(keep_finished=0), now_us=NOW_US)

    assert done == Retained(removed=2)
    assert await storage.load_offers("report-1") == []
    assert (await storage.load_claim_totals()).claims == 1
    with pytest.raises(ClaimNotFoundError):
        await storage.load_claim("of-ada")
    assert (await storage.load_claim("of-bob")).state == "active"


async def test_ordinary_orchestrations_have_no_offers(storage: Storage) -> None:
    """Their tasks settle without anybody's asking."""
    await storage.create_orchestration(new_orchestration())

    assert await storage.load_offers() == []
    assert await storage.load_claim_totals() == ClaimTotals()
    assert await claim(storage) is None
