"""What `doctor` asks a database: is the file intact, do its tables agree with each other; and what it can put right.

May import: orchestration.execution.storage_rules, storage.{artifacts, codec, retention, schema}, stdlib. Runs on a
connection's thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from storage import artifacts, codec, retention, schema

_MOST_LISTED = 10
"""Findings of one kind that are listed one by one."""

_JOURNALS = """
    SELECT orchestration_id, last_seq,
        (SELECT count(*) FROM journal WHERE orchestration = number),
        (SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM journal_archive WHERE orchestration = number),
        coalesce((SELECT max(seq) FROM journal WHERE orchestration = number), archived_seq),
        coalesce((SELECT max(last_seq) FROM journal_archive WHERE orchestration = number), 0) = archived_seq
    FROM orchestration
"""
_ARCHIVES = """
    SELECT orchestration_id, first_seq, journal_archive.last_seq, events
    FROM journal_archive JOIN orchestration ON number = orchestration
"""
_MISSING_OUTPUTS = """
    SELECT orchestration_id, task_id
    FROM task JOIN orchestration ON orchestration.number = task.orchestration
    WHERE output_sha256 IS NOT NULL AND output IS NULL AND output_artifact IS NULL
"""
_PLANS = """
    SELECT plan.plan_id, plan.revision, count(log.revision), coalesce(max(log.revision), 0),
        max(CASE WHEN log.revision = plan.revision THEN log.dag_sha256 = plan.dag_sha256 END)
    FROM plan LEFT JOIN plan_revision AS log ON log.plan_id = plan.plan_id
    GROUP BY plan.plan_id
"""
_STRAY_REVISIONS = """
    SELECT orchestration_id, revision, last_seq, seq
    FROM orchestration_revision JOIN orchestration ON number = orchestration
    WHERE seq NOT BETWEEN 1 AND last_seq
"""
_STRAY_CLAIMS = """
    SELECT orchestration_id, claim.task_id, claim.claim_id
    FROM claim JOIN orchestration ON orchestration.number = claim.orchestration
    WHERE NOT EXISTS (
        SELECT 1 FROM offer WHERE offer.orchestration = claim.orchestration AND offer.task_id = claim.task_id
    )
"""
_TORN_OFFERS = """
    SELECT orchestration_id, offer.task_id, offer.state, offer.claim_id, claim.state
    FROM offer JOIN orchestration ON orchestration.number = offer.orchestration
    LEFT JOIN claim ON claim.claim_id = offer.claim_id
    WHERE (offer.state = 'claimed') IS NOT (claim.state = 'active')
        AND NOT (offer.state <> 'claimed' AND claim.state IS NULL AND offer.claim_id IS NULL)
"""
_FORGOTTEN_CLAIMS = """
    SELECT orchestration_id, claim.task_id, claim.claim_id
    FROM claim JOIN orchestration ON orchestration.number = claim.orchestration
    WHERE claim.state = 'active' AND NOT EXISTS (SELECT 1 FROM offer WHERE offer.claim_id = claim.claim_id)
"""
_OFFERS_OF_ENDED = """
    SELECT orchestration_id, task_id, offer.state
    FROM offer JOIN orchestration ON orchestration.number = offer.orchestration
    WHERE finished_at_us IS NOT NULL AND offer.state <> 'closed'
"""
_LOST_PARENTS = """
    SELECT orchestration_id, task.task_id, task.parent
    FROM task JOIN orchestration ON orchestration.number = task.orchestration
    WHERE parent IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM task AS above
        WHERE above.orchestration = task.orchestration AND above.task_id = task.parent
    )
"""
_UNUSED = f"""
    SELECT sha256, length(content) FROM artifact
    WHERE {artifacts.UNNAMED} AND sha256 NOT IN (SELECT sha256 FROM loose_artifact)
"""  # noqa: S608
"""Loose ones are housekeeping's: that they are there is nothing wrong."""
_OF_NO_ORCHESTRATION = "orchestration NOT IN (SELECT number FROM orchestration)"
_STRAYS = (
    ("claim", _OF_NO_ORCHESTRATION, "claim", "of orchestrations"),
    ("offer", _OF_NO_ORCHESTRATION, "offer", "of orchestrations"),
    ("control", _OF_NO_ORCHESTRATION, "request", "to orchestrations"),
    ("orchestration_revision", _OF_NO_ORCHESTRATION, "revision", "of orchestrations"),
    ("plan_revision", "plan_id NOT IN (SELECT plan_id FROM plan)", "revision", "of plans"),
)
"""Rows that nobody can ever ask for: their table, what is true of them, and how they are told."""


def problems(database: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the database, one line each; empty when it is sound."""
    found = damage(database)
    if found:
        return found  # the questions below would only stumble over the same damage
    version, known = schema.schema_version(database), len(schema.migrations())
    if version != known:
        return [f"schema: version is {version}, expected {known}"]
    found += [
        f"references: a row of {table} names a row of {parent} that is missing"
        for table, _, parent, _ in database.execute("PRAGMA foreign_key_check").fetchmany(_MOST_LISTED)
    ]
    found += _few(_journal_gaps(database))
    found += _few(_unreadable_archives(database))
    found += [
        f"outputs: the output of task {task_id!r} of {orchestration_id!r} is missing"
        for orchestration_id, task_id in database.execute(_MISSING_OUTPUTS).fetchmany(_MOST_LISTED)
    ]
    found += [
        f"tasks: {task_id!r} of {orchestration_id!r} is a part of task {parent!r}, which is missing"
        for orchestration_id, task_id, parent in database.execute(_LOST_PARENTS).fetchmany(_MOST_LISTED)
    ]
    found += _few(_revision_gaps(database))
    found += _few(_torn_offers(database))
    found += [
        f"artifacts: the content of {sha256} does not match its hash"
        for sha256, content in database.execute("SELECT sha256, content FROM artifact")
        if hashlib.sha256(content).hexdigest() != sha256
    ][:_MOST_LISTED]
    unused = database.execute(_UNUSED).fetchall()
    if unused:
        found.append(f"artifacts: {_artifacts_told(unused)} that nothing names")
    return found


def damage(database: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the file itself, one line each."""
    found: list[str] = []
    try:
        found += [line for (line,) in database.execute("PRAGMA quick_check") if line != "ok"]
    except sqlite3.DatabaseError as error:  # so damaged that the check itself can't go on
        if error.sqlite_errorname != "SQLITE_CORRUPT":
            raise
        found.append(str(error))
    return [f"integrity: {line}" for line in found]


def mend(database: sqlite3.Connection, now_us: int) -> list[str]:
    """Put right, within one transaction, what can be put right without losing anything; one line each.

    Nothing is rebuilt: a file that `damage` finds something in must not come here.
    """
    mended: list[str] = []
    unused = database.execute(_UNUSED).fetchall()
    if unused:
        database.executemany("DELETE FROM artifact WHERE sha256 = ?", [(sha256,) for sha256, _ in unused])
        mended.append(f"removed {_artifacts_told(unused)} that nothing named")
    drivers = retention.remove_silent_drivers(database, now_us)
    if drivers:
        mended.append(
            f"forgot {_counted(drivers, 'driver')} that drove nothing and had been silent for a day"
        )
    for table, is_stray, noun, of_what in _STRAYS:
        strays = database.execute(f"DELETE FROM {table} WHERE {is_stray}").rowcount  # noqa: S608
        if strays:
            mended.append(f"removed {_counted(strays, noun)} {of_what} that are not there")
    return mended


def _journal_gaps(database: sqlite3.Connection) -> Iterator[str]:
    for orchestration_id, last_seq, live, archived, highest, fits in database.execute(_JOURNALS):
        if (live + archived, highest) != (last_seq, last_seq):
            yield (
                f"journal: {orchestration_id!r} should have {last_seq} entries; it has {live + archived}, "
                f"up to seq {highest}"
            )
        elif not fits:
            yield f"journal: the compressed part of {orchestration_id!r} does not end where it should"


def _unreadable_archives(database: sqlite3.Connection) -> Iterator[str]:
    for orchestration_id, first_seq, last_seq, content in database.execute(_ARCHIVES):
        try:
            codec.decode_entries(orchestration_id, first_seq, last_seq, content)
        except codec.UnreadableError as error:
            yield f"journal: {error}"


def _revision_gaps(database: sqlite3.Connection) -> Iterator[str]:
    for plan_id, revision, count, highest, is_same in database.execute(_PLANS):
        if (count, highest) != (revision, revision):
            yield f"plans: {plan_id!r} should have {revision} revisions; it has {count}, up to {highest}"
        elif not is_same:
            yield f"plans: {plan_id!r} has another DAG than its latest revision"
    for orchestration_id, revision, last_seq, seq in database.execute(_STRAY_REVISIONS):
        yield f"revisions: {revision} of {orchestration_id!r} is of entry {seq}; its journal ends at {last_seq}"


def _torn_offers(database: sqlite3.Connection) -> Iterator[str]:
    for orchestration_id, task_id, claim_id in database.execute(_STRAY_CLAIMS):
        yield f"claims: {claim_id!r} is of task {task_id!r} of {orchestration_id!r}, which was never offered"
    for orchestration_id, task_id, state, claim_id, claim_state in database.execute(_TORN_OFFERS):
        yield (
            f"offers: task {task_id!r} of {orchestration_id!r} is {state}, and its claim {claim_id!r} is "
            f"{claim_state or 'missing'}"
        )
    for orchestration_id, task_id, claim_id in database.execute(_FORGOTTEN_CLAIMS):
        yield f"claims: {claim_id!r} is active, but task {task_id!r} of {orchestration_id!r} is not held by it"
    for orchestration_id, task_id, state in database.execute(_OFFERS_OF_ENDED):
        yield f"offers: task {task_id!r} of {orchestration_id!r} is {state}, but all of it has ended"


def _few(found: Iterator[str]) -> list[str]:
    return [line for line, _ in zip(found, range(_MOST_LISTED), strict=False)]


def _artifacts_told(unused: list[tuple[str, int]]) -> str:
    size = sum(content_bytes for _, content_bytes in unused)
    return f"{_counted(len(unused), 'artifact')} ({size / 1024 / 1024:.1f} MiB)"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
