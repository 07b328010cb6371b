"""Work that is offered to agents: offers, claims and reports, each function within one transaction.

May import: orchestration.{claim_records, models, ports, execution.claim_rules}, storage.{claim_rows,
codec, controls}, stdlib. Runs on a connection's thread.

What becomes of a claim is decided in `claim_rules`; here it is found and kept. Of open offers there may be very many,
so one is found through the index alone: for each set of skills that the worker has all of, the first in line.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestration.claim_records import (
    Claim,
    ClaimOutcome,
    ClaimReport,
    ClaimRequest,
    ClaimTotals,
    ClaimVerdict,
    Offer,
    OfferState,
    OfferView,
)
from orchestration.execution import claim_rules
from orchestration.execution.claim_rules import BUSY_WITHIN_US, GIVES_OUT, KeptOffer
from orchestration.models import OrchestrationId, OrchestrationStatus, TaskId, is_unicode
from orchestration.ports import Graft
from storage import claim_rows, codec, controls

_UPSERT_OFFER = (
    "INSERT INTO offer (orchestration, task_id, offer, attempt, lease_seconds, skills, priority, offered_at_us, "
    "failed_by, state, opened_at_us, released_by, claim_id, closed_because, brief) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, '[]', NULL, '', ?) "
    "ON CONFLICT (orchestration, task_id) DO UPDATE SET offer = excluded.offer, attempt = excluded.attempt, "
    "lease_seconds = excluded.lease_seconds, skills = excluded.skills, priority = excluded.priority, "
    "offered_at_us = excluded.offered_at_us, failed_by = excluded.failed_by, state = excluded.state, "
    "opened_at_us = excluded.opened_at_us, released_by = excluded.released_by, claim_id = NULL, closed_because = '', "
    "brief = excluded.brief"
)
_SKILL_SETS = """
    WITH RECURSIVE found (skills) AS (
        SELECT (SELECT skills FROM offer WHERE state = 'open' ORDER BY skills LIMIT 1)
        UNION ALL
        SELECT (SELECT skills FROM offer WHERE state = 'open' AND skills > found.skills ORDER BY skills LIMIT 1)
        FROM found WHERE found.skills IS NOT NULL
    )
    SELECT skills FROM found WHERE skills IS NOT NULL
"""
"""Each set of skills that something open asks for: as many steps through the index as there are sets."""
_WHERE_IT_IS = f"""
    offer.orchestration IN (
        SELECT number FROM orchestration
        WHERE state IN ({", ".join(f"'{state.value}'" for state in sorted(GIVES_OUT))})
            AND (:owner IS NULL OR orchestration_id = :owner)
    )
"""  # noqa: S608  (the states are ours)
_FIRST_IN_LINE = f"""
    SELECT number, priority, offered_at_us FROM offer INDEXED BY offer_open
    WHERE state = 'open' AND skills = :skills AND {_WHERE_IT_IS}
        AND (failed_by = '[]' OR NOT EXISTS (SELECT 1 FROM json_each(failed_by) WHERE value = :worker))
        AND (released_by = '[]' OR NOT EXISTS (SELECT 1 FROM json_each(released_by) WHERE value = :worker))
    ORDER BY priority DESC, offered_at_us, number LIMIT 1
"""  # noqa: S608
_AVOIDED = f"""
    SELECT number FROM offer INDEXED BY offer_avoided
    WHERE state = 'open' AND (failed_by <> '[]' OR released_by <> '[]') AND {_WHERE_IT_IS}
        AND EXISTS (
            SELECT 1 FROM json_each(failed_by) WHERE value = :worker
            UNION ALL SELECT 1 FROM json_each(released_by) WHERE value = :worker
        )
    ORDER BY priority DESC, offered_at_us, number
"""  # noqa: S608
_VIEWS = (
    f"SELECT {claim_rows.OFFER_COLUMNS}, claim.worker, '', {claim_rows.CLAIM_COLUMNS}, '' FROM offer "  # noqa: S608
    "JOIN orchestration ON orchestration.number = offer.orchestration "
    "LEFT JOIN claim ON claim.claim_id = offer.claim_id "
    "WHERE offer.orchestration IN (SELECT number FROM orchestration WHERE {}) "
    "AND (:states IS NULL OR offer.state IN (SELECT value FROM json_each(:states))) "
    "ORDER BY priority DESC, offered_at_us, offer.number LIMIT :most"
)
_UNFINISHED = ", ".join(f"'{state.value}'" for state in OrchestrationStatus if not state.is_terminal)


# --- What a worker asks -------------------------------------------------------------------------------------------


def claim_offer(database: sqlite3.Connection, request: ClaimRequest) -> Claim | None:
    """Give a worker what it should do next; see `Storage.claim_offer`."""
    is_used = database.execute("SELECT 1 FROM claim WHERE claim_id = ?", (request.claim_id,)).fetchone()
    claim_rules.check_unused(request.claim_id, is_used=is_used is not None)
    if request.orchestration_id is not None and not is_unicode(request.orchestration_id):
        return None
    offer = _next_for(database, request)
    if offer is None:
        return None
    after, claim, message = claim_rules.claimed(offer, request)
    claim_rows.insert_claim(database, claim.claim)
    claim_rows.keep_offer(database, after)
    controls.send_control(database, offer.orchestration_id, message, request.now_us)
    database.execute(
        "INSERT INTO worker (worker, claimed_at_us) VALUES (?, ?) "
        "ON CONFLICT (worker) DO UPDATE SET claimed_at_us = max(claimed_at_us, excluded.claimed_at_us)",
        (request.worker, request.now_us),
    )
    return claim.claim


def report_claim(
    database: sqlite3.Connection, claim_id: str, report: ClaimReport, graft: Graft | None
) -> ClaimVerdict:
    """Take a worker's report; see `Storage.report_claim`."""
    claim = claim_rows.load_claim(database, claim_id)
    ruling = claim_rules.judged(claim, claim_rows.offer_of(database, claim.claim), report, graft)
    control_id = None
    for message in ruling.messages:
        control_id = controls.send_control(database, claim.claim.orchestration_id, message, report.now_us)
    kept, verdict = ruling.told(control_id)
    if not ruling.is_repeated:
        claim_rows.keep_claim(database, kept)
    if ruling.is_accepted and not ruling.is_repeated:
        claim_rows.keep_offer(database, ruling.offer)
    return verdict


def expire_claim(database: sqlite3.Connection, claim_id: str, now_us: int) -> Claim:
    """Let a claim run out if its lease has ended; see `Storage.expire_claim`."""
    kept = claim_rows.load_claim(database, claim_id)
    after = claim_rules.run_out(kept, claim_rows.offer_of(database, kept.claim), now_us)
    if after is None:
        return kept.claim
    claim_rows.keep_claim(database, after[0])
    claim_rows.keep_offer(database, after[1])
    return after[0].claim


def load_claim(database: sqlite3.Connection, claim_id: str) -> Claim:
    """Return a claim; see `Storage.load_claim`."""
    return claim_rows.load_claim(database, claim_id).claim


def load_offers(
    database: sqlite3.Connection,
    orchestration_id: OrchestrationId | None,
    states: Sequence[OfferState] | None,
    limit: int,
) -> list[OfferView]:
    """Return offers in the order they are given out; see `Storage.load_offers`."""
    if orchestration_id is not None and not is_unicode(orchestration_id):
        return []
    wanted = None if states is None else json.dumps(list(states))
    most = max(0, min(limit, 2**63 - 1))
    of_whom = f"state IN ({_UNFINISHED})" if orchestration_id is None else "orchestration_id = :owner"
    rows = database.execute(
        _VIEWS.format(of_whom), {"owner": orchestration_id, "states": wanted, "most": most}
    )
    return [_view(row) for row in rows]


def load_claim_totals(database: sqlite3.Connection, orchestration_id: OrchestrationId | None) -> ClaimTotals:
    """Return what workers have done; see `Storage.load_claim_totals`."""
    if orchestration_id is not None and not is_unicode(orchestration_id):
        return ClaimTotals()
    one = "orchestration = (SELECT number FROM orchestration WHERE orchestration_id = :owner)"
    of_whom = "TRUE" if orchestration_id is None else one
    rows = database.execute(
        f"SELECT worker, state, is_accepted, count(*) FROM claim WHERE {of_whom} GROUP BY 1, 2, 3",  # noqa: S608
        {"owner": orchestration_id},
    )
    return claim_rules.totals(
        (worker, state, codec.decode_bool(is_accepted), count) for worker, state, is_accepted, count in rows
    )


# --- What a commit brings -----------------------------------------------------------------------------------------


def offer(
    database: sqlite3.Connection, number: int, orchestration_id: OrchestrationId, offers: Sequence[Offer]
) -> None:
    """Store offers, each in the place of an earlier one of its task.

    Args:
        database: The connection to write with.
        number: Of the orchestration, in this database.
        orchestration_id: The same, for people.
        offers: In order.
    """
    for made in offers:
        kept = claim_rules.offered(orchestration_id, made)
        _revoke(database, "orchestration = ? AND task_id = ?", (number, made.task_id))
        database.execute(
            _UPSERT_OFFER,
            (
                number,
                made.task_id,
                made.number,
                made.attempt,
                made.lease_seconds,
                codec.encode_texts(made.skills),
                made.priority,
                made.offered_at_us,
                codec.encode_texts(made.failed_by),
                kept.opened_at_us,
                made.brief,
            ),
        )


def close(database: sqlite3.Connection, number: int, closing: Sequence[tuple[TaskId, str]]) -> None:
    """Close the offers of tasks, each for its reason, and revoke the claims that hold them."""
    for task_id, because in closing:
        _close(
            database, "orchestration = ? AND task_id = ? AND state <> 'closed'", (number, task_id), because
        )


def close_all(database: sqlite3.Connection, number: int, because: str) -> None:
    """Close every offer of an orchestration."""
    _close(database, "orchestration = ? AND state <> 'closed'", (number,), because)


def note_outcomes(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, outcomes: Sequence[ClaimOutcome]
) -> None:
    """Store what was found of tasks that were reported done; one whose claim is not there is passed over."""
    for outcome in outcomes:
        row = database.execute(
            "SELECT orchestration_id FROM claim JOIN orchestration ON orchestration.number = claim.orchestration "
            "WHERE claim_id = ?",
            (outcome.claim_id,),
        ).fetchone()
        if row is not None:
            claim_rules.check_outcome(outcome, orchestration_id, of=row[0])
            database.execute(
                "UPDATE claim SET is_accepted = ?, reason = ? WHERE claim_id = ?",
                (outcome.is_accepted, outcome.reason, outcome.claim_id),
            )


def _close(database: sqlite3.Connection, which: str, values: tuple[Any, ...], because: str) -> None:
    _revoke(database, which, values)
    database.execute(
        f"UPDATE offer SET state = 'closed', closed_because = ? WHERE {which}",  # noqa: S608  (one of ours)
        (because, *values),
    )


def _revoke(database: sqlite3.Connection, which: str, values: tuple[Any, ...]) -> None:
    """Revoke the active claims of some offers."""
    held = f"SELECT claim_id FROM offer WHERE claim_id IS NOT NULL AND {which}"  # noqa: S608  (one of ours)
    database.execute(
        f"UPDATE claim SET state = 'revoked' WHERE state = 'active' AND claim_id IN ({held})",  # noqa: S608
        values,
    )


# --- Finding ------------------------------------------------------------------------------------------------------


def _next_for(database: sqlite3.Connection, request: ClaimRequest) -> KeptOffer | None:
    """Return the open offer a worker is given, if there is one for it."""
    asked = {"owner": request.orchestration_id, "worker": request.worker}
    firsts: list[tuple[int, int, int]] = []
    for (skills,) in database.execute(_SKILL_SETS).fetchall():
        if claim_rules.fits(codec.decode_texts(skills, "The skills of an offer"), request.skills):
            found = database.execute(_FIRST_IN_LINE, {**asked, "skills": skills}).fetchone()
            if found is not None:
                number, priority, offered_at_us = found
                firsts.append((-priority, offered_at_us, number))
    if firsts:
        return claim_rows.load_offer(database, min(firsts)[2])
    avoided = database.execute(_AVOIDED, asked).fetchall()
    if not avoided:
        return None
    others = _busy_others(database, request)
    for (number,) in avoided:
        kept = claim_rows.load_offer(database, number)
        if claim_rules.fits(kept.offer.skills, request.skills) and claim_rules.may_try_again(
            kept, others, request.now_us
        ):
            return kept
    return None


def _busy_others(database: sqlite3.Connection, request: ClaimRequest) -> list[str]:
    rows = database.execute(
        "SELECT worker FROM worker WHERE claimed_at_us > ? AND worker <> ?",
        (request.now_us - BUSY_WITHIN_US, request.worker),
    )
    return [worker for (worker,) in rows]


def _view(row: Sequence[Any]) -> OfferView:
    offer, claim = row[:16], row[16:]
    is_claimed = claim[0] is not None
    return claim_rules.viewed(
        claim_rows.decode_offer(offer),
        claim_rows.decode_claim((offer[0], *claim)).claim if is_claimed else None,
    )
