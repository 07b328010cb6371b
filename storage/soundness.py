"""What `doctor` asks a database: is the file intact, and do its tables agree with each other.

May import: storage.schema, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import hashlib
import sqlite3

from storage import schema

_MOST_LISTED = 10
"""Findings of one kind that are listed one by one."""

_JOURNAL_GAPS = """
    SELECT orchestration_id, last_seq, count(seq), coalesce(max(seq), 0)
    FROM orchestration LEFT JOIN journal ON journal.orchestration = orchestration.number
    GROUP BY number HAVING count(seq) <> last_seq OR coalesce(max(seq), 0) <> last_seq
"""
_MISSING_OUTPUTS = """
    SELECT orchestration_id, task_id
    FROM task JOIN orchestration ON orchestration.number = task.orchestration
    WHERE output_sha256 IS NOT NULL AND output IS NULL AND output_artifact IS NULL
"""


def problems(database: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the database, one line each; empty when it is sound."""
    found = _integrity(database)
    if found:
        return found  # the questions below would only stumble over the same damage
    version, known = schema.schema_version(database), len(schema.migrations())
    if version != known:
        found.append(f"schema: version is {version}, expected {known}")
    found += [
        f"references: a row of {table} names a row of {parent} that is missing"
        for table, _, parent, _ in database.execute("PRAGMA foreign_key_check").fetchmany(_MOST_LISTED)
    ]
    found += [
        f"journal: {orchestration_id!r} should have {last_seq} entries; it has {count}, up to seq {highest}"
        for orchestration_id, last_seq, count, highest in database.execute(_JOURNAL_GAPS).fetchmany(
            _MOST_LISTED
        )
    ]
    found += [
        f"outputs: the output of task {task_id!r} of {orchestration_id!r} is missing"
        for orchestration_id, task_id in database.execute(_MISSING_OUTPUTS).fetchmany(_MOST_LISTED)
    ]
    found += [
        f"artifacts: the content of {sha256} does not match its hash"
        for sha256, content in database.execute("SELECT sha256, content FROM artifact")
        if hashlib.sha256(content).hexdigest() != sha256
    ][:_MOST_LISTED]
    return found


def _integrity(database: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    try:
        found += [line for (line,) in database.execute("PRAGMA quick_check") if line != "ok"]
    except sqlite3.DatabaseError as error:  # so damaged that the check itself can't go on
        if error.sqlite_errorname != "SQLITE_CORRUPT":
            raise
        found.append(str(error))
    return [f"integrity: {line}" for line in found]
