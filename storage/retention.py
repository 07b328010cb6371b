"""Keeps the file from growing for ever: compresses journals of what has ended, later removes it whole.

May import: orchestration.{ports, execution.claim_rules, execution.storage_rules}, storage.{artifacts, codec, database,
ids, plans}, stdlib.

Everything is done in short transactions, between which others write; each looks again at what it is about to touch,
because an orchestration may have been reopened, or been dealt with by another process, meanwhile. Pages that become
free are used again by SQLite; the file does not shrink.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial

from orchestration.execution.claim_rules import BUSY_WITHIN_US
from orchestration.execution.storage_rules import (
    ABANDONED_AFTER_US,
    ANSWERS_KEPT_US,
    instant_before,
    to_be_removed,
)
from orchestration.ports import Retained, Retention
from storage import artifacts, codec, ids, plans
from storage.database import Database

_MOST_REMOVED = 50
"""Orchestrations one round removes at most, as long as they are small."""
_MOST_ROWS_REMOVED = 200_000
"""Task rows and journal entries after which a round removes no further orchestration."""
_MOST_CHUNKS = 50
"""Transactions in which one round compresses at most."""
_CHUNK_ENTRIES = 1_000
"""Journal entries compressed together: what a reader unpacks to read one of them."""
_MOST_SMALL = 1_000
"""Plans, cached outputs, answers, artifacts: what one transaction removes at most of each."""
_MOST_ARTIFACT_STEPS = 20

_FREE = (
    "(holder IS NULL OR EXISTS "
    "(SELECT 1 FROM driver WHERE instance = holder_instance AND beat_at_us <= :abandoned))"
)
"""That nobody holds the lease of an orchestration that has ended: see `ABANDONED_AFTER_US`."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An orchestration whose journal may be compressed further."""

    number: int
    archived_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive journal entries, compressed."""

    number: int
    first_seq: int
    last_seq: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Tidied:
    """What went besides orchestrations, and whether more of it is left."""

    plans: int
    cache_entries: int
    is_more: bool


async def retain(database: Database, retention: Retention, now_us: int) -> Retained:
    """Do one bounded round of housekeeping; see `Storage.retain`."""
    abandoned = now_us - ABANDONED_AFTER_US
    removed, is_more = await _remove_ended(database, retention, now_us, abandoned)
    compacted, is_more_to_compact = await _compact(database, retention, now_us, abandoned)
    tidied = await database.write(partial(_tidy, retention=retention, now_us=now_us))
    is_more_loose = await _remove_loose_artifacts(database)
    return Retained(
        compacted=compacted,
        removed=removed,
        plans_removed=tidied.plans,
        cache_entries_removed=tidied.cache_entries,
        is_finished=not (is_more or is_more_to_compact or tidied.is_more or is_more_loose),
    )


# --- Removing -----------------------------------------------------------------------------------------------


async def _remove_ended(
    database: Database, retention: Retention, now_us: int, abandoned: int
) -> tuple[int, bool]:
    """Remove what is too old or too many; return how many, and whether more are left."""
    numbers = await database.read(
        partial(_find_removable, retention=retention, now_us=now_us, abandoned=abandoned)
    )
    removed = rows = 0
    for number in numbers[:_MOST_REMOVED]:
        if rows > _MOST_ROWS_REMOVED:
            return removed, True
        touched = await database.write(partial(_remove, number=number, abandoned=abandoned))
        removed += touched > 0
        rows += touched
    return removed, len(numbers) > _MOST_REMOVED


def _find_removable(
    database: sqlite3.Connection, retention: Retention, now_us: int, abandoned: int
) -> list[int]:
    (count,) = database.execute(
        "SELECT count(*) FROM orchestration WHERE finished_at_us IS NOT NULL"
    ).fetchone()
    free = database.execute(
        f"SELECT number, finished_at_us FROM orchestration WHERE finished_at_us IS NOT NULL AND {_FREE} "  # noqa: S608
        "ORDER BY finished_at_us, number LIMIT :most",
        {"abandoned": abandoned, "most": _MOST_REMOVED + 1},
    )
    return list(to_be_removed(free, count, retention, now_us))


def _remove(database: sqlite3.Connection, number: int, abandoned: int) -> int:
    """Remove an orchestration with all rows of it, and return how many they were; 0 when it may no longer go."""
    row = database.execute(
        f"SELECT orchestration_id FROM orchestration "  # noqa: S608
        f"WHERE number = :number AND finished_at_us IS NOT NULL AND {_FREE}",
        {"number": number, "abandoned": abandoned},
    ).fetchone()
    if row is None:
        return 0
    touched = 0
    for table in (
        "claim",
        "offer",
        "control",
        "journal",
        "journal_archive",
        "orchestration_revision",
        "task",
    ):
        touched += database.execute(f"DELETE FROM {table} WHERE orchestration = ?", (number,)).rowcount  # noqa: S608
    touched += database.execute("DELETE FROM orchestration WHERE number = ?", (number,)).rowcount
    ids.keep_taken(database, row[0])
    return touched


# --- Compressing --------------------------------------------------------------------------------------------


async def _compact(database: Database, retention: Retention, now_us: int, abandoned: int) -> tuple[int, bool]:
    """Compress journals chunk by chunk; return how many are done, and whether more are left."""
    before = instant_before(now_us, retention.compact_after_seconds)
    if before is None:
        return 0, False
    compacted = chunks = 0
    for candidate in await database.read(partial(_find_compactable, before=before, abandoned=abandoned)):
        archived = candidate.archived_seq
        while archived < candidate.last_seq:
            if chunks == _MOST_CHUNKS:
                return compacted, True
            chunk = await database.read(partial(_compress, number=candidate.number, after_seq=archived))
            if chunk is None:
                break
            chunks += 1
            if not await database.write(partial(_archive, chunk=chunk, abandoned=abandoned)):
                break
            archived = chunk.last_seq
        compacted += archived == candidate.last_seq
    return compacted, chunks == _MOST_CHUNKS


def _find_compactable(database: sqlite3.Connection, before: int, abandoned: int) -> list[_Candidate]:
    rows = database.execute(
        f"SELECT number, archived_seq, last_seq FROM orchestration "  # noqa: S608
        f"WHERE finished_at_us IS NOT NULL AND archived_seq < last_seq AND finished_at_us <= :before AND {_FREE} "
        "ORDER BY finished_at_us LIMIT :most",
        {"before": before, "abandoned": abandoned, "most": _MOST_CHUNKS},
    )
    return [_Candidate(*row) for row in rows]


def _compress(database: sqlite3.Connection, number: int, after_seq: int) -> _Chunk | None:
    """Return the next entries; None when they don't follow: a damaged journal is left as it is, for `doctor`.

    They never change once they are written, so this is done without holding up anybody's commit.
    """
    rows = database.execute(
        "SELECT seq, at_us, event FROM journal WHERE orchestration = ? AND seq > ? ORDER BY seq LIMIT ?",
        (number, after_seq, _CHUNK_ENTRIES),
    ).fetchall()
    if not rows or (rows[0][0], rows[-1][0]) != (after_seq + 1, after_seq + len(rows)):
        return None
    return _Chunk(number, after_seq + 1, after_seq + len(rows), codec.encode_entries(rows))


def _archive(database: sqlite3.Connection, chunk: _Chunk, abandoned: int) -> bool:
    """Put a chunk in the place of its entries, unless the orchestration goes on or another process was faster."""
    moved = database.execute(
        f"UPDATE orchestration SET archived_seq = :last WHERE number = :number AND archived_seq = :before "  # noqa: S608
        f"AND finished_at_us IS NOT NULL AND {_FREE}",
        {
            "last": chunk.last_seq,
            "number": chunk.number,
            "before": chunk.first_seq - 1,
            "abandoned": abandoned,
        },
    ).rowcount
    if not moved:
        return False
    database.execute(
        "INSERT INTO journal_archive (orchestration, first_seq, last_seq, events) VALUES (?, ?, ?, ?)",
        (chunk.number, chunk.first_seq, chunk.last_seq, chunk.content),
    )
    database.execute(
        "DELETE FROM journal WHERE orchestration = ? AND seq BETWEEN ? AND ?",
        (chunk.number, chunk.first_seq, chunk.last_seq),
    )
    return True


# --- The rest -----------------------------------------------------------------------------------------------


def _tidy(database: sqlite3.Connection, retention: Retention, now_us: int) -> _Tidied:
    """Remove plans nobody used, outputs nobody may use any more, answers nobody waits for, drivers that are gone."""
    before = instant_before(now_us, retention.remove_after_seconds)
    unused = 0 if before is None else plans.remove_unused(database, before, _MOST_SMALL)
    entries = database.execute(
        "DELETE FROM cache WHERE key IN (SELECT key FROM cache WHERE expires_at_us <= ? LIMIT ?)",
        (now_us, _MOST_SMALL),
    ).rowcount
    answers = database.execute(
        "DELETE FROM control WHERE number IN (SELECT number FROM control WHERE answered_at_us <= ? LIMIT ?)",
        (now_us - ANSWERS_KEPT_US, _MOST_SMALL),
    ).rowcount
    remove_silent_drivers(database, now_us)
    database.execute("DELETE FROM worker WHERE claimed_at_us <= ?", (now_us - BUSY_WITHIN_US,))
    return _Tidied(unused, entries, _MOST_SMALL in (unused, entries, answers))


def remove_silent_drivers(database: sqlite3.Connection, now_us: int) -> int:
    """Forget drivers that no orchestration names and that have been silent for long; return how many."""
    return database.execute(
        "DELETE FROM driver WHERE beat_at_us <= ? "
        "AND NOT EXISTS (SELECT 1 FROM orchestration WHERE holder_instance = instance)",
        (now_us - ABANDONED_AFTER_US,),
    ).rowcount


async def _remove_loose_artifacts(database: Database) -> bool:
    """Remove what nothing names any more; return whether some is left to be looked at."""
    for _ in range(_MOST_ARTIFACT_STEPS):
        if not await database.write(partial(artifacts.remove_loose, most=_MOST_SMALL)):
            return False
    return True
