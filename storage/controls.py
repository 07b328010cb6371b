"""The inbox of requests to whoever drives an orchestration, and the answers to them.

May import: orchestration.{models, ports, errors}, storage.codec, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import sqlite3

from orchestration.errors import OrchestrationNotFoundError
from orchestration.execution.storage_rules import check_answer
from orchestration.models import OrchestrationId, is_unicode
from orchestration.ports import ControlAnswer, ControlRequest, PendingControl
from storage import codec


def send_control(
    database: sqlite3.Connection,
    orchestration_id: OrchestrationId,
    request: ControlRequest,
    sent_at_us: int,
) -> int:
    """Store a request; see `Storage.send_control`."""
    if not is_unicode(orchestration_id):  # no id is: SQLite could not even be asked
        raise OrchestrationNotFoundError(orchestration_id)
    cursor = database.execute(
        "INSERT INTO control (orchestration, request, sent_at_us) "
        "SELECT number, ?, ? FROM orchestration WHERE orchestration_id = ?",
        (codec.encode_request(request), sent_at_us, orchestration_id),
    )
    if not cursor.rowcount:
        raise OrchestrationNotFoundError(orchestration_id)
    control_id = cursor.lastrowid
    assert control_id is not None
    return control_id


def pending_controls(database: sqlite3.Connection) -> list[PendingControl]:
    """Return what nobody has answered; see `Storage.pending_controls`."""
    rows = database.execute(
        "SELECT control.number, orchestration_id, request, sent_at_us "
        "FROM control JOIN orchestration ON orchestration.number = control.orchestration "
        "WHERE answered_at_us IS NULL ORDER BY control.number"
    )
    return [
        PendingControl(
            control_id=control_id,
            orchestration_id=orchestration_id,
            request=codec.decode_request(request, control_id),
            sent_at_us=sent_at_us,
        )
        for control_id, orchestration_id, request, sent_at_us in rows
    ]


def load_control_answer(database: sqlite3.Connection, control_id: int) -> ControlAnswer | None:
    """Return what became of a request; see `Storage.load_control_answer`."""
    row = database.execute("SELECT answer FROM control WHERE number = ?", (control_id,)).fetchone()
    return None if row is None or row[0] is None else codec.decode_answer(row[0], control_id)


def withdraw_control(database: sqlite3.Connection, control_id: int) -> bool:
    """Take a request back; see `Storage.withdraw_control`."""
    cursor = database.execute(
        "DELETE FROM control WHERE number = ? AND answered_at_us IS NULL", (control_id,)
    )
    return bool(cursor.rowcount)


def answer(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, given: ControlAnswer, at_us: int
) -> None:
    """Store what became of a request, unless it was withdrawn or answered already.

    Args:
        database: The connection to write with.
        orchestration_id: Whose driver answers.
        given: The answer.
        at_us: When the orchestration changed last.
    """
    row = database.execute(
        "SELECT orchestration_id, sent_at_us FROM control "
        "JOIN orchestration ON orchestration.number = control.orchestration "
        "WHERE control.number = ? AND answered_at_us IS NULL",
        (given.control_id,),
    ).fetchone()
    if row is None:
        return
    check_answer(given, orchestration_id, of=row[0])
    database.execute(
        "UPDATE control SET answered_at_us = ?, answer = ? WHERE number = ?",
        # A refusal changes nothing, and the latest change may be long ago: no answer is older than its request.
        (max(at_us, row[1]), codec.encode_answer(given), given.control_id),
    )
