"""What every storage does alike with work that is offered: who may be given what, and what becomes of a report.

May import: orchestration.{claim_records, models, ports}, stdlib.

A claim is active exactly while its offer is claimed by it. Whatever changes one changes the other in the same
transaction, so both are decided here, and a storage only keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from orchestration.claim_records import (
    KEEPS_OFFER,
    Claim,
    ClaimNote,
    ClaimOutcome,
    ClaimReport,
    ClaimRequest,
    ClaimState,
    ClaimTotals,
    ClaimVerdict,
    Offer,
    OfferState,
    OfferView,
    ReportStatus,
)
from orchestration.models import OrchestrationId, OrchestrationStatus, TaskStatus
from orchestration.ports import ControlAction, ControlRequest, Graft

GIVES_OUT = frozenset({OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING})
"""States of an orchestration in which its offers may be taken."""

BUSY_WITHIN_US = 3600 * 1_000_000
"""Since when a worker must have claimed something to count as one that may have a try."""

_ENDED: frozenset[ClaimState] = frozenset({"done", "failed", "blocked", "released"})
"""What a claim is after the report that ended it."""
_STATE_AFTER: dict[ReportStatus, ClaimState] = {
    "progress": "released",  # with a graft: it gives the task back, and says what should be done in its place
    "done": "done",
    "failed": "failed",
    "blocked": "blocked",
    "release": "released",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOffer:
    """An offer as storage keeps it."""

    orchestration_id: OrchestrationId
    offer: Offer
    state: OfferState = "open"
    opened_at_us: int
    """Since when anybody may take it: it is offered, or a worker has given it back."""
    released_by: tuple[str, ...] = ()
    """Workers that gave it back; they come last, as those that failed it do."""
    claim_id: str | None = None
    """The latest claim of it."""
    holder: str | None = None
    """The worker of that claim."""
    closed_because: str = ""
    """`cancelled`, `changed` or `settled`."""

    @property
    def avoided_by(self) -> frozenset[str]:
        """Workers that come after everybody else."""
        return frozenset(self.offer.failed_by) | frozenset(self.released_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClaim:
    """A claim as storage keeps it."""

    claim: Claim
    control_id: int | None = None
    """The message that told of its end."""
    was_late: bool = False
    """Whether the report that ended it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What is to be stored of a report, and what is to be answered."""

    claim: KeptClaim
    offer: KeptOffer
    messages: tuple[ControlRequest, ...] = ()
    """To whoever drives, in order; the answer names the last one."""
    is_accepted: bool = True
    is_repeated: bool = False
    is_late: bool = False
    reason: str = ""

    def told(self, control_id: int | None) -> tuple[KeptClaim, ClaimVerdict]:
        """Return the claim as it is kept, and the answer, once the messages are stored.

        Args:
            control_id: Of the last message; None where there was none.
        """
        kept = self.claim
        if self.is_repeated:
            control_id = kept.control_id
        elif kept.claim.state in _ENDED:
            kept = replace(kept, control_id=control_id, was_late=self.is_late)
        return kept, ClaimVerdict(
            is_accepted=self.is_accepted,
            claim=kept.claim,
            control_id=control_id,
            is_repeated=self.is_repeated,
            is_late=self.is_late,
            holder=self.offer.holder if self.reason == "taken" else None,
            reason=self.reason,
        )


# --- Offering and closing -----------------------------------------------------------------------------------------


def offered(orchestration_id: OrchestrationId, offer: Offer) -> KeptOffer:
    """Return what is kept of a task that is offered now."""
    return KeptOffer(orchestration_id=orchestration_id, offer=offer, opened_at_us=offer.offered_at_us)


def why_closed(status: TaskStatus) -> str | None:
    """Return why a task in this status is offered no more; None when its offer stays as it is."""
    if status in KEEPS_OFFER:
        return None
    if status is TaskStatus.CANCELLED:
        return "cancelled"
    return "settled" if status in _OVER else "changed"


def why_all_closed(state: OrchestrationStatus) -> str | None:
    """Return why nothing of an orchestration in this state is offered any more; None while something may be."""
    if not state.is_terminal:
        return None
    return "cancelled" if state is OrchestrationStatus.CANCELLED else "settled"


_OVER = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED})


def check_outcome(outcome: ClaimOutcome, answering: OrchestrationId, *, of: OrchestrationId) -> None:
    """Check that a claim is judged by the orchestration whose task it holds: its token guards nothing else.

    Raises:
        ValueError: It isn't; a bug of the caller.
    """
    if answering != of:
        raise ValueError(f"A commit of {answering!r} judges claim {outcome.claim_id!r}, which is of {of!r}.")


# --- Claiming -----------------------------------------------------------------------------------------------------


def place_in_line(kept: KeptOffer) -> tuple[int, int]:
    """Return by what offers are ordered; what is equal stays in the order in which tasks were first offered."""
    return -kept.offer.priority, kept.offer.offered_at_us


def fits(skills: Collection[str], worker_has: Collection[str]) -> bool:
    """Whether a worker has all that an offer asks for."""
    return all(skill in worker_has for skill in skills)


def may_try_again(kept: KeptOffer, others: Iterable[str], now_us: int) -> bool:
    """Whether an offer may go to a worker that failed it or gave it back.

    Args:
        kept: The offer, open.
        others: Every other worker that claimed something lately.
        now_us: Now.
    """
    avoided_by = kept.avoided_by
    waited_us = now_us - kept.opened_at_us
    return waited_us >= _as_us(kept.offer.lease_seconds) or all(other in avoided_by for other in others)


def claimed(kept: KeptOffer, request: ClaimRequest) -> tuple[KeptOffer, KeptClaim, ControlRequest]:
    """Return an offer as it is under a new claim, that claim, and the message of it."""
    offer = kept.offer
    claim = Claim(
        claim_id=request.claim_id,
        orchestration_id=kept.orchestration_id,
        task_id=offer.task_id,
        number=offer.number,
        attempt=offer.attempt,
        worker=request.worker,
        claimed_at_us=request.now_us,
        expires_at_us=request.now_us + _as_us(offer.lease_seconds),
        lease_seconds=offer.lease_seconds,
        brief=offer.brief,
    )
    return _held(kept, claim), KeptClaim(claim=claim), _message(claim, None, None, request.now_us)


def check_unused(claim_id: str, *, is_used: bool) -> None:
    """Check that a new claim is called as none before.

    Raises:
        ValueError: It isn't; a bug of the caller.
    """
    if is_used:
        raise ValueError(f"There is a claim {claim_id!r} already; expected an id of its own for each.")


def run_out(kept: KeptClaim, offer: KeptOffer, now_us: int) -> tuple[KeptClaim, KeptOffer] | None:
    """Return a claim and its offer after the lease has ended; None when it holds on, or did not hold."""
    claim = kept.claim
    if claim.state != "active" or claim.expires_at_us > now_us:
        return None
    return replace(kept, claim=replace(claim, state="expired")), replace(offer, state="expired")


# --- Reporting ----------------------------------------------------------------------------------------------------


def judged(kept: KeptClaim, offer: KeptOffer, report: ClaimReport, graft: Graft | None) -> Ruling:
    """Return what becomes of a report; see `Storage.report_claim`.

    Args:
        kept: The claim.
        offer: The present offer of its task, which may be a later one.
        report: What its worker says.
        graft: What should be done in place of the task.
    """
    claim = kept.claim
    if claim.state in _ENDED:
        return Ruling(claim=kept, offer=offer, is_repeated=True, is_late=kept.was_late)
    is_late = claim.state == "expired"
    said = replace(kept, claim=replace(claim, summary=report.summary or claim.summary))
    if offer.claim_id == claim.claim_id and offer.state in ("claimed", "expired"):
        return _accepted(said, offer, report, graft, is_late=is_late)
    if is_late and offer.state == "open":
        return _accepted_anew(said, offer, report, graft)
    return Ruling(claim=said, offer=offer, is_accepted=False, reason=_why_refused(claim, offer))


def _accepted(
    kept: KeptClaim,
    offer: KeptOffer,
    report: ClaimReport,
    graft: Graft | None,
    *,
    is_late: bool,
    before: tuple[ControlRequest, ...] = (),
) -> Ruling:
    if report.status == "progress" and graft is None:
        claim = replace(
            kept.claim,
            state="active",
            has_progress=True,
            expires_at_us=report.now_us + _as_us(kept.claim.lease_seconds),
        )
        messages = (*before, _message(claim, report, None, report.now_us)) if is_late else ()
        return Ruling(
            claim=replace(kept, claim=claim), offer=_held(offer, claim), messages=messages, is_late=is_late
        )
    claim = replace(kept.claim, state=_STATE_AFTER[report.status])
    held = _held(offer, claim)
    if report.status == "release" and graft is None:
        after = replace(
            held,
            state="open",
            offer=replace(held.offer, attempt=held.offer.attempt + claim.has_progress),
            opened_at_us=report.now_us,
            released_by=tuple(dict.fromkeys((*held.released_by, claim.worker))),
        )
    else:
        after = replace(held, state="reported")
    return Ruling(
        claim=replace(kept, claim=claim),
        offer=after,
        messages=(*before, _message(claim, report, graft, report.now_us)),
        is_late=is_late,
    )


def _accepted_anew(kept: KeptClaim, offer: KeptOffer, report: ClaimReport, graft: Graft | None) -> Ruling:
    """Accept what is said of a task that is offered anew and that nobody has taken since the claim ran out.

    Work that was done is worth having: the claim becomes one of the present offer, and who drives is told that it was
    claimed before it is told what is reported. What has come to nothing is only noted: the attempt it was of has ended.
    """
    if graft is None and report.status not in ("progress", "done"):
        claim = replace(kept.claim, state=_STATE_AFTER[report.status])
        return Ruling(claim=replace(kept, claim=claim), offer=offer, is_late=True)
    claim = replace(
        kept.claim,
        state="active",
        number=offer.offer.number,
        attempt=offer.offer.attempt,
        lease_seconds=offer.offer.lease_seconds,
    )
    taken = _message(claim, None, None, report.now_us)
    return _accepted(replace(kept, claim=claim), offer, report, graft, is_late=True, before=(taken,))


def _why_refused(claim: Claim, offer: KeptOffer) -> str:
    if offer.state == "closed":
        return offer.closed_because
    is_anothers = offer.claim_id != claim.claim_id and offer.state != "open"
    return "taken" if is_anothers else "changed"


def _held(offer: KeptOffer, claim: Claim) -> KeptOffer:
    return replace(offer, state="claimed", claim_id=claim.claim_id, holder=claim.worker)


def _message(claim: Claim, report: ClaimReport | None, graft: Graft | None, at_us: int) -> ControlRequest:
    return ControlRequest(
        action=ControlAction.CLAIM if report is None else ControlAction.REPORT,
        task_ids=(claim.task_id,),
        edit=graft,
        claim=ClaimNote(
            claim_id=claim.claim_id,
            task_id=claim.task_id,
            number=claim.number,
            attempt=claim.attempt,
            worker=claim.worker,
            report=report,
            has_begun=claim.has_progress,
            at_us=at_us,
        ),
        by=claim.worker,
    )


def _as_us(seconds: float) -> int:
    return round(seconds * 1_000_000)


# --- Looking ------------------------------------------------------------------------------------------------------


def viewed(kept: KeptOffer, claim: Claim | None) -> OfferView:
    """Return an offer for those who look; the briefs, which are long, are left out."""
    offer = kept.offer
    return OfferView(
        orchestration_id=kept.orchestration_id,
        task_id=offer.task_id,
        number=offer.number,
        attempt=offer.attempt,
        state=kept.state,
        skills=offer.skills,
        priority=offer.priority,
        offered_at_us=offer.offered_at_us,
        failed_by=offer.failed_by,
        claim=None if claim is None else replace(claim, brief=""),
    )


def totals(counted: Iterable[tuple[str, str, bool | None, int]]) -> ClaimTotals:
    """Return sums over claims, given as (worker, state, whether it was accepted, how many)."""
    by_worker: dict[str, list[int]] = {}
    of_state: dict[str, int] = {}
    refused = 0
    for worker, state, is_accepted, count in counted:
        of_state[state] = of_state.get(state, 0) + count
        refused += count if is_accepted is False else 0
        mine = by_worker.setdefault(worker, [0, 0, 0])
        mine[0] += count
        mine[1] += count if state == "done" else 0
        mine[2] += count if is_accepted else 0
    return ClaimTotals(
        claims=sum(of_state.values()),
        reported_done=of_state.get("done", 0),
        accepted=sum(mine[2] for mine in by_worker.values()),
        refused=refused,
        expired=of_state.get("expired", 0),
        released=of_state.get("released", 0),
        failed=of_state.get("failed", 0) + of_state.get("blocked", 0),
        by_worker={worker: tuple(mine) for worker, mine in sorted(by_worker.items())},
    )
