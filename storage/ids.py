"""Speaking ids that count up: `base-1`, `base-2`, …; none is given twice, not even after it was removed.

May import: orchestration.execution.storage_rules, stdlib. Runs on a connection's thread, within a transaction.
"""

from __future__ import annotations

import sqlite3

from orchestration.execution.storage_rules import next_free_id, numbered


def new_id(database: sqlite3.Connection, kind: str, base_id: str) -> str:
    """Return the next free id of a `kind` (`plan` or `orchestration`), and count it as given."""
    row = database.execute(
        "SELECT last FROM id_counter WHERE kind = ? AND base_id = ?", (kind, base_id)
    ).fetchone()
    found, number = next_free_id(
        base_id,
        row[0] if row else 0,
        lambda taken: is_taken(database, kind, taken) or _was_taken(database, kind, taken),
    )
    database.execute(
        "INSERT INTO id_counter (kind, base_id, last) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET last = excluded.last",
        (kind, base_id, number),
    )
    return found


def is_taken(database: sqlite3.Connection, kind: str, record_id: str) -> bool:
    """Whether there is one of a `kind` with this id."""
    query = f"SELECT 1 FROM {kind} WHERE {kind}_id = ?"  # noqa: S608  (kind is one of our two table names)
    return database.execute(query, (record_id,)).fetchone() is not None


def keep_taken(database: sqlite3.Connection, orchestration_id: str) -> None:
    """See to it that counting up never arrives at an id that somebody chose by hand and that is free now."""
    parts = numbered(orchestration_id)
    if parts is not None:
        database.execute(
            "INSERT INTO id_counter (kind, base_id, last) SELECT 'removed_orchestration', ?1, ?3 WHERE NOT EXISTS "
            "(SELECT 1 FROM id_counter WHERE kind = 'orchestration' AND base_id = ?2 AND last >= ?3) "
            "ON CONFLICT DO NOTHING",
            (orchestration_id, *parts),
        )


def _was_taken(database: sqlite3.Connection, kind: str, record_id: str) -> bool:
    """Whether there was one whose id was chosen by hand, and that housekeeping has removed."""
    query = "SELECT 1 FROM id_counter WHERE kind = ? AND base_id = ?"
    return database.execute(query, (f"removed_{kind}", record_id)).fetchone() is not None
