"""The offers and claims that the storage in memory keeps.

May import: orchestration.{claim_records, errors, models, ports, execution.claim_rules, execution.memory_inbox}, stdlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from orchestration.claim_records import (
    Claim,
    ClaimOutcome,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    OfferState,
    OfferView,
)
from orchestration.errors import ClaimNotFoundError
from orchestration.execution import claim_rules
from orchestration.execution.claim_rules import BUSY_WITHIN_US, KeptClaim, KeptOffer
from orchestration.execution.memory_inbox import MemoryInbox
from orchestration.models import OrchestrationId, TaskId
from orchestration.ports import Commit, Graft


class MemoryClaims:
    """Offers by their tasks, claims by their ids, and when each worker claimed something last.

    Args:
        inbox: Where the messages to whoever drives go.
    """

    def __init__(self, inbox: MemoryInbox) -> None:
        self._inbox = inbox
        self._offers: dict[tuple[OrchestrationId, TaskId], KeptOffer] = {}
        self._claims: dict[str, KeptClaim] = {}
        self._workers: dict[str, int] = {}

    def claim(self, request: ClaimRequest, giving_out: Collection[OrchestrationId]) -> Claim | None:
        """Give a worker what it should do next; see `Storage.claim_offer`.

        Args:
            request: What the worker says.
            giving_out: The orchestrations whose offers may be taken.
        """
        claim_rules.check_unused(request.claim_id, is_used=request.claim_id in self._claims)
        offer = self._next_for(request, giving_out)
        if offer is None:
            return None
        after, claim, message = claim_rules.claimed(offer, request)
        self._keep(claim, after)
        self._inbox.send(offer.orchestration_id, message, request.now_us)
        self._workers[request.worker] = max(request.now_us, self._workers.get(request.worker, request.now_us))
        return claim.claim

    def report(self, claim_id: str, report: ClaimReport, graft: Graft | None) -> ClaimVerdict:
        """Take a worker's report; see `Storage.report_claim`."""
        claim = self._found(claim_id)
        ruling = claim_rules.judged(claim, self._offer_of(claim.claim), report, graft)
        control_id = None
        for message in ruling.messages:
            control_id = self._inbox.send(claim.claim.orchestration_id, message, report.now_us)
        kept, verdict = ruling.told(control_id)
        self._keep(kept, ruling.offer)
        return verdict

    def expire(self, claim_id: str, now_us: int) -> Claim:
        """Let a claim run out if its lease has ended; see `Storage.expire_claim`."""
        claim = self._found(claim_id)
        after = claim_rules.run_out(claim, self._offer_of(claim.claim), now_us)
        if after is None:
            return claim.claim
        self._keep(*after)
        return after[0].claim

    def load(self, claim_id: str) -> Claim:
        """Return a claim; see `Storage.load_claim`."""
        return self._found(claim_id).claim

    def offers(
        self, of: Collection[OrchestrationId], states: Sequence[OfferState] | None, limit: int
    ) -> list[OfferView]:
        """Return offers of some orchestrations in the order they are given out; see `Storage.load_offers`."""
        wanted = [
            kept
            for kept in self._offers.values()
            if kept.orchestration_id in of and (states is None or kept.state in states)
        ]
        wanted.sort(key=claim_rules.place_in_line)
        return [
            claim_rules.viewed(kept, None if kept.claim_id is None else self._claims[kept.claim_id].claim)
            for kept in wanted[: max(0, limit)]
        ]

    def totals(self, orchestration_id: OrchestrationId | None) -> ClaimTotals:
        """Return what workers have done; see `Storage.load_claim_totals`."""
        counted = Counter(
            (kept.claim.worker, kept.claim.state, kept.claim.is_accepted)
            for kept in self._claims.values()
            if orchestration_id is None or kept.claim.orchestration_id == orchestration_id
        )
        return claim_rules.totals((*kind, count) for kind, count in counted.items())

    # What a commit brings

    def check(self, outcomes: Sequence[ClaimOutcome], answering: OrchestrationId) -> None:
        """Check that claims are judged by the orchestration whose tasks they hold; see `check_outcome`."""
        for outcome in outcomes:
            kept = self._claims.get(outcome.claim_id)
            if kept is not None:
                claim_rules.check_outcome(outcome, answering, of=kept.claim.orchestration_id)

    def apply(self, commit: Commit) -> None:
        """Store what a commit offers and found out, and close what it says is wanted no more."""
        owner = commit.lease.orchestration_id
        for offer in commit.offers:
            self._revoke(owner, offer.task_id)
            self._offers[owner, offer.task_id] = claim_rules.offered(owner, offer)
        for row in commit.tasks:
            because = claim_rules.why_closed(row.status)
            if because is not None:
                self._close(owner, row.task_id, because)
        because = claim_rules.why_all_closed(commit.summary.state)
        if because is not None:
            for orchestration_id, task_id in self._offers:
                if orchestration_id == owner:
                    self._close(owner, task_id, because)
        for outcome in commit.claim_outcomes:
            kept = self._claims.get(outcome.claim_id)
            if kept is not None:
                claim = replace(kept.claim, is_accepted=outcome.is_accepted, reason=outcome.reason)
                self._claims[outcome.claim_id] = replace(kept, claim=claim)

    # Housekeeping

    def forget_orchestration(self, orchestration_id: OrchestrationId) -> None:
        """Remove every offer and claim of an orchestration."""
        self._offers = {key: kept for key, kept in self._offers.items() if key[0] != orchestration_id}
        self._claims = {
            claim_id: kept
            for claim_id, kept in self._claims.items()
            if kept.claim.orchestration_id != orchestration_id
        }

    def forget_idle(self, now_us: int) -> None:
        """Forget workers that have claimed nothing for so long that nobody waits for them."""
        self._workers = {
            worker: at_us for worker, at_us in self._workers.items() if at_us > now_us - BUSY_WITHIN_US
        }

    # Looking things up

    def _next_for(self, request: ClaimRequest, giving_out: Collection[OrchestrationId]) -> KeptOffer | None:
        fitting = [
            kept
            for kept in self._offers.values()
            if kept.state == "open"
            and kept.orchestration_id in giving_out
            and request.orchestration_id in (None, kept.orchestration_id)
            and claim_rules.fits(kept.offer.skills, request.skills)
        ]
        fitting.sort(key=claim_rules.place_in_line)
        others = [
            worker
            for worker, at_us in self._workers.items()
            if worker != request.worker and at_us > request.now_us - BUSY_WITHIN_US
        ]
        new_to_it = (kept for kept in fitting if request.worker not in kept.avoided_by)
        again = (kept for kept in fitting if claim_rules.may_try_again(kept, others, request.now_us))
        return next(new_to_it, None) or next(again, None)

    def _found(self, claim_id: str) -> KeptClaim:
        try:
            return self._claims[claim_id]
        except KeyError:
            raise ClaimNotFoundError(claim_id) from None

    def _offer_of(self, claim: Claim) -> KeptOffer:
        return self._offers[claim.orchestration_id, claim.task_id]

    def _keep(self, claim: KeptClaim, offer: KeptOffer) -> None:
        self._claims[claim.claim.claim_id] = claim
        self._offers[offer.orchestration_id, offer.offer.task_id] = offer

    def _revoke(self, owner: OrchestrationId, task_id: TaskId) -> None:
        """Revoke the claim of a task, if one is active."""
        offer = self._offers.get((owner, task_id))
        kept = None if offer is None or offer.claim_id is None else self._claims[offer.claim_id]
        if kept is not None and kept.claim.state == "active":
            claim = replace(kept.claim, state="revoked")
            self._claims[claim.claim_id] = replace(kept, claim=claim)

    def _close(self, owner: OrchestrationId, task_id: TaskId, because: str) -> None:
        offer = self._offers.get((owner, task_id))
        if offer is not None and offer.state != "closed":
            self._revoke(owner, task_id)
            self._offers[owner, task_id] = replace(offer, state="closed", closed_because=because)
