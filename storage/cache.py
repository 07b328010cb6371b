"""Outputs that equal tasks may use again: storing them, finding them.

May import: orchestration.ports, storage.{artifacts, codec}, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import sqlite3

from orchestration.models import OrchestrationId
from orchestration.ports import CachedResult, CacheEntry, StoredOutput
from storage import artifacts, codec


def store(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, entry: CacheEntry, output: StoredOutput
) -> None:
    """Store an output under a key, in place of what is there; its artifact, if it has one, is stored before."""
    database.execute(
        "INSERT INTO cache (key, source_orchestration, source_task, stored_at_us, expires_at_us, output_sha256, "
        "output_artifact, output) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "source_orchestration = excluded.source_orchestration, source_task = excluded.source_task, "
        "stored_at_us = excluded.stored_at_us, expires_at_us = excluded.expires_at_us, "
        "output_sha256 = excluded.output_sha256, output_artifact = excluded.output_artifact, "
        "output = excluded.output",
        (
            entry.key,
            orchestration_id,
            entry.task_id,
            entry.stored_at_us,
            entry.expires_at_us,
            output.sha256,
            *artifacts.placed(output),
        ),
    )


def load_cached(database: sqlite3.Connection, key: str, now_us: int) -> CachedResult | None:
    """Return what is stored under a key; see `Storage.load_cached`."""
    row = database.execute(
        "SELECT coalesce(output, content), output_sha256, source_orchestration, source_task, stored_at_us "
        "FROM cache LEFT JOIN artifact ON artifact.sha256 = output_artifact "
        "WHERE key = ? AND expires_at_us > ?",
        (key, now_us),
    ).fetchone()
    if row is None:
        return None
    text, sha256, orchestration_id, task_id, stored_at_us = row
    if text is None:
        raise codec.UnreadableError(
            f"The cached output of task {task_id!r} of {orchestration_id!r}", "its content is missing"
        )
    return CachedResult(
        text=text, sha256=sha256, source=f"{orchestration_id}:{task_id}", stored_at_us=stored_at_us
    )
