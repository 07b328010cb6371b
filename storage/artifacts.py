"""Large values, each stored once by its hash: how they come in, and go with the last row that names them.

May import: orchestration.ports, stdlib. Runs on a connection's thread, within a transaction.

Triggers in the schema write down each artifact that a row has ceased to name, in `loose_artifact`. Whether it was the
last one is looked at afterwards, a few at a time, so no transaction is longer for it.
"""

from __future__ import annotations

import sqlite3

from orchestration.ports import StoredOutput

INSERT = "INSERT INTO artifact (sha256, content) VALUES (?, ?) ON CONFLICT DO NOTHING"

UNNAMED = (
    "NOT EXISTS (SELECT 1 FROM task WHERE task.output_artifact = artifact.sha256) "
    "AND NOT EXISTS (SELECT 1 FROM orchestration WHERE orchestration.dag_sha256 = artifact.sha256) "
    "AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.dag_sha256 = artifact.sha256) "
    "AND NOT EXISTS (SELECT 1 FROM plan_revision WHERE plan_revision.dag_sha256 = artifact.sha256) "
    "AND NOT EXISTS (SELECT 1 FROM cache WHERE cache.output_artifact = artifact.sha256)"
)
"""That no row names an artifact; each part is answered by an index."""

_MOST_IN_ROW_BYTES = 512
"""Longer outputs go among the artifacts, inline or not: status looks through all rows, so rows must stay small."""

_MOST_BYTES_AT_ONCE = 32 * 1024 * 1024
"""Every page of what is removed is touched."""


def placed(output: StoredOutput) -> tuple[str | None, bytes | None]:
    """Return where an output goes: under its hash among the artifacts, or as it is into its row."""
    if output.inline and len(output.text) <= _MOST_IN_ROW_BYTES:
        return None, output.text
    return output.sha256, None


def remove_loose(database: sqlite3.Connection, most: int) -> int:
    """Look at up to `most` loose artifacts, remove those that nothing names, and return how many were looked at."""
    looked_at: list[tuple[str]] = []
    size = 0
    for sha256, content_bytes in database.execute(
        "SELECT loose_artifact.sha256, length(content) "
        "FROM loose_artifact LEFT JOIN artifact ON artifact.sha256 = loose_artifact.sha256 LIMIT ?",
        (most,),
    ):
        looked_at.append((sha256,))
        size += content_bytes or 0
        if size > _MOST_BYTES_AT_ONCE:
            break
    database.executemany(f"DELETE FROM artifact WHERE sha256 = ? AND {UNNAMED}", looked_at)  # noqa: S608
    database.executemany("DELETE FROM loose_artifact WHERE sha256 = ?", looked_at)
    return len(looked_at)
