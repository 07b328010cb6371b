"""Rows of offers and claims: how one is found, read and written.

May import: orchestration.{claim_records, errors, models, execution.claim_rules}, storage.codec, stdlib. Runs on a
connection's thread, within a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestration.claim_records import Claim, Offer
from orchestration.errors import ClaimNotFoundError
from orchestration.execution.claim_rules import KeptClaim, KeptOffer
from orchestration.models import is_unicode
from storage import codec

CLAIM_COLUMNS = (
    "claim.claim_id, claim.task_id, claim.offer, claim.attempt, claim.worker, claim.state, claimed_at_us, "
    "expires_at_us, claim.lease_seconds, has_progress, is_accepted, reason, control, was_late, claim.summary"
)
"""Of a claim, in the order of `decode_claim`."""
_SELECT_CLAIM = (
    f"SELECT orchestration_id, {CLAIM_COLUMNS}, brief FROM claim "  # noqa: S608
    "JOIN orchestration ON orchestration.number = claim.orchestration WHERE claim_id = ?"
)
OFFER_COLUMNS = (
    "orchestration_id, offer.task_id, offer.offer, offer.attempt, offer.lease_seconds, skills, priority, "
    "offered_at_us, failed_by, offer.state, opened_at_us, released_by, offer.claim_id, closed_because"
)
"""Of an offer, in the order of `decode_offer`."""
_HOLDER = "(SELECT worker FROM claim WHERE claim.claim_id = offer.claim_id)"
_SELECT_OFFER = (
    f"SELECT {OFFER_COLUMNS}, {_HOLDER}, brief FROM offer "  # noqa: S608
    "JOIN orchestration ON orchestration.number = offer.orchestration"
)


def load_offer(database: sqlite3.Connection, number: int) -> KeptOffer:
    """Return an offer by its number in this database."""
    row = database.execute(f"{_SELECT_OFFER} WHERE offer.number = ?", (number,)).fetchone()
    return decode_offer(row)


def offer_of(database: sqlite3.Connection, claim: Claim) -> KeptOffer:
    """Return the present offer of the task that a claim is of."""
    row = database.execute(
        f"{_SELECT_OFFER} WHERE orchestration_id = ? AND task_id = ?",
        (claim.orchestration_id, claim.task_id),
    ).fetchone()
    if row is None:
        raise codec.UnreadableError(f"Claim {claim.claim_id!r}", "the offer it is of is missing")
    return decode_offer(row)


def load_claim(database: sqlite3.Connection, claim_id: str) -> KeptClaim:
    """Return a claim, or raise `ClaimNotFoundError`."""
    if not is_unicode(claim_id):
        raise ClaimNotFoundError(claim_id)
    row = database.execute(_SELECT_CLAIM, (claim_id,)).fetchone()
    if row is None:
        raise ClaimNotFoundError(claim_id)
    return decode_claim(row)


def insert_claim(database: sqlite3.Connection, claim: Claim) -> None:
    """Store a claim that was just made."""
    database.execute(
        "INSERT INTO claim (claim_id, orchestration, task_id, offer, attempt, worker, state, claimed_at_us, "
        "expires_at_us, lease_seconds, has_progress, reason, was_late, summary, brief) VALUES "
        "(?, (SELECT number FROM orchestration WHERE orchestration_id = ?), ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, '', ?)",
        (
            claim.claim_id,
            claim.orchestration_id,
            claim.task_id,
            claim.number,
            claim.attempt,
            claim.worker,
            claim.state,
            claim.claimed_at_us,
            claim.expires_at_us,
            claim.lease_seconds,
            claim.brief,
        ),
    )


def keep_claim(database: sqlite3.Connection, kept: KeptClaim) -> None:
    """Store what became of a claim."""
    claim = kept.claim
    database.execute(
        "UPDATE claim SET offer = ?, attempt = ?, state = ?, expires_at_us = ?, lease_seconds = ?, has_progress = ?, "
        "control = ?, was_late = ?, summary = ? WHERE claim_id = ?",
        (
            claim.number,
            claim.attempt,
            claim.state,
            claim.expires_at_us,
            claim.lease_seconds,
            claim.has_progress,
            kept.control_id,
            kept.was_late,
            claim.summary,
            claim.claim_id,
        ),
    )


def keep_offer(database: sqlite3.Connection, kept: KeptOffer) -> None:
    """Store what became of an offer; what is offered stays."""
    database.execute(
        "UPDATE offer SET state = ?, opened_at_us = ?, released_by = ?, claim_id = ? WHERE task_id = ? "
        "AND orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?)",
        (
            kept.state,
            kept.opened_at_us,
            codec.encode_texts(kept.released_by),
            kept.claim_id,
            kept.offer.task_id,
            kept.orchestration_id,
        ),
    )


def decode_offer(row: Sequence[Any]) -> KeptOffer:
    """Return an offer from `OFFER_COLUMNS`, its holder and its brief, or raise `UnreadableError`."""
    (
        orchestration_id,
        task_id,
        number,
        attempt,
        lease_seconds,
        skills,
        priority,
        offered_at_us,
        failed_by,
        state,
        opened_at_us,
        released_by,
        claim_id,
        closed_because,
        holder,
        brief,
    ) = row
    what = f"The offer of task {task_id!r} of {orchestration_id!r}"
    return KeptOffer(
        orchestration_id=orchestration_id,
        offer=Offer(
            task_id=task_id,
            number=number,
            attempt=attempt,
            lease_seconds=lease_seconds,
            skills=codec.decode_texts(skills, what),
            priority=priority,
            brief=brief,
            offered_at_us=offered_at_us,
            failed_by=codec.decode_texts(failed_by, what),
        ),
        state=state,
        opened_at_us=opened_at_us,
        released_by=codec.decode_texts(released_by, what),
        claim_id=claim_id,
        holder=holder,
        closed_because=closed_because,
    )


def decode_claim(row: Sequence[Any]) -> KeptClaim:
    """Return a claim from its orchestration's id, `CLAIM_COLUMNS` and its brief."""
    (
        orchestration_id,
        claim_id,
        task_id,
        number,
        attempt,
        worker,
        state,
        claimed_at_us,
        expires_at_us,
        lease_seconds,
        has_progress,
        is_accepted,
        reason,
        control_id,
        was_late,
        summary,
        brief,
    ) = row
    claim = Claim(
        claim_id=claim_id,
        orchestration_id=orchestration_id,
        task_id=task_id,
        number=number,
        attempt=attempt,
        worker=worker,
        state=state,
        claimed_at_us=claimed_at_us,
        expires_at_us=expires_at_us,
        lease_seconds=lease_seconds,
        brief=brief,
        has_progress=bool(has_progress),
        summary=summary,
        is_accepted=codec.decode_bool(is_accepted),
        reason=reason,
    )
    return KeptClaim(claim=claim, control_id=control_id, was_late=bool(was_late))
