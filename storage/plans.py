"""Plans and their revisions: saved, revised, read; and the log of the revisions of what runs.

May import: orchestration.{errors, models, ports, execution.storage_rules}, storage.{artifacts, codec, ids}, stdlib.
Runs on a connection's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestration.errors import PlanNotFoundError
from orchestration.execution.storage_rules import first_revision, next_revision, no_such_revision
from orchestration.models import OrchestrationId, PlanId, is_unicode
from orchestration.ports import NewPlan, PlanRecord, PlanRevision, Revision
from storage import artifacts, codec, ids

_LOG_COLUMNS = "revision, made_by, reason, told, at_us, undoes"
_INSERT_REVISION = (
    f"INSERT INTO plan_revision (plan_id, dag_sha256, {_LOG_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
)
_INSERT_ORCHESTRATION_REVISION = (
    f"INSERT INTO orchestration_revision (orchestration, seq, {_LOG_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
)


def save_plan(database: sqlite3.Connection, plan: NewPlan) -> PlanRecord:
    """Store a plan; see `Storage.save_plan`."""
    plan_id = ids.new_id(database, "plan", plan.base_id)
    context, thoughts, notes = codec.encode_plan_parts(plan.context, plan.thoughts, plan.notes)
    database.execute(artifacts.INSERT, (plan.dag_sha256, plan.dag_json))
    first = first_revision(plan)
    database.execute(
        "INSERT INTO plan (plan_id, revision, goal, mode, context, dag_sha256, planner, thoughts, "
        "thinking_server, notes, created_at_us, revised_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            plan_id,
            first.revision,
            plan.goal,
            None if plan.mode is None else plan.mode.value,
            context,
            plan.dag_sha256,
            plan.planner,
            thoughts,
            plan.thinking_server,
            notes,
            plan.created_at_us,
            first.at_us,
        ),
    )
    database.execute(_INSERT_REVISION, (plan_id, plan.dag_sha256, *_log_values(first)))
    return load_plan(database, plan_id, None)


def revise_plan(database: sqlite3.Connection, plan_id: PlanId, revision: PlanRevision) -> PlanRecord:
    """Store a plan's next revision; see `Storage.revise_plan`."""
    made = next_revision(plan_id, _present_revision(database, plan_id), revision)
    database.execute(artifacts.INSERT, (revision.dag_sha256, revision.dag_json))
    database.execute(_INSERT_REVISION, (plan_id, revision.dag_sha256, *_log_values(made)))
    database.execute(
        "UPDATE plan SET revision = ?, dag_sha256 = ?, revised_at_us = max(revised_at_us, ?) WHERE plan_id = ?",
        (made.revision, revision.dag_sha256, made.at_us, plan_id),
    )
    return load_plan(database, plan_id, None)


def load_plan(database: sqlite3.Connection, plan_id: PlanId, revision: int | None) -> PlanRecord:
    """Return a plan; see `Storage.load_plan`."""
    if not is_unicode(plan_id):  # no id is: SQLite could not even be asked
        raise PlanNotFoundError(plan_id)
    if revision is not None and not 0 < revision < 2**63:
        _present_revision(database, plan_id)
        raise no_such_revision(plan_id, revision)
    row = database.execute(
        "SELECT plan_revision.revision, goal, mode, context, content, planner, thoughts, thinking_server, notes, "
        "created_at_us FROM plan JOIN plan_revision ON plan_revision.plan_id = plan.plan_id "
        "AND plan_revision.revision = coalesce(?2, plan.revision) "
        "LEFT JOIN artifact ON sha256 = plan_revision.dag_sha256 WHERE plan.plan_id = ?1",
        (plan_id, revision),
    ).fetchone()
    if row is None:
        present = _present_revision(database, plan_id)
        raise no_such_revision(plan_id, present if revision is None else revision)
    found, goal, mode, context, dag_json, planner, thoughts, thinking_server, notes, created_at_us = row
    decoded_context, decoded_thoughts, decoded_notes = codec.decode_plan_parts(
        plan_id, context, thoughts, notes
    )
    return PlanRecord(
        plan_id=plan_id,
        revision=found,
        goal=goal,
        mode=None if mode is None else codec.decode_mode(mode, f"Plan {plan_id!r}"),
        context=decoded_context,
        dag_json=codec.present_content(dag_json, f"The DAG of plan {plan_id!r}"),
        planner=planner,
        thoughts=decoded_thoughts,
        thinking_server=thinking_server,
        notes=decoded_notes,
        created_at_us=created_at_us,
    )


def load_plan_revisions(database: sqlite3.Connection, plan_id: PlanId) -> list[Revision]:
    """Return the log of a plan; see `Storage.load_plan_revisions`."""
    if not is_unicode(plan_id):
        raise PlanNotFoundError(plan_id)
    rows = database.execute(
        f"SELECT NULL, {_LOG_COLUMNS} FROM plan_revision WHERE plan_id = ? ORDER BY revision",  # noqa: S608
        (plan_id,),
    ).fetchall()
    if not rows:
        raise PlanNotFoundError(plan_id)
    return [_revision(row) for row in rows]


def remove_unused(database: sqlite3.Connection, before_us: int, most: int) -> int:
    """Remove up to `most` plans last revised by an instant that no orchestration names; return how many."""
    unused = database.execute(
        "SELECT plan_id FROM plan WHERE revised_at_us <= ? "
        "AND NOT EXISTS (SELECT 1 FROM orchestration WHERE orchestration.plan_id = plan.plan_id) "
        "ORDER BY revised_at_us LIMIT ?",
        (before_us, most),
    ).fetchall()
    for table in ("plan_revision", "plan"):
        database.executemany(f"DELETE FROM {table} WHERE plan_id = ?", unused)  # noqa: S608
    return len(unused)


# --- What runs ----------------------------------------------------------------------------------------------


def latest_revision(database: sqlite3.Connection, number: int) -> int:
    """Return the latest revision in the log of an orchestration; 1, which it began with, when it has none."""
    found: int = database.execute(
        "SELECT coalesce(max(revision), 1) FROM orchestration_revision WHERE orchestration = ?", (number,)
    ).fetchone()[0]
    return found


def add_revisions(database: sqlite3.Connection, made: Sequence[tuple[int, Revision]]) -> None:
    """Add to the logs of orchestrations, by their numbers; mostly nothing."""
    if made:
        values = [(number, revision.seq, *_log_values(revision)) for number, revision in made]
        database.executemany(_INSERT_ORCHESTRATION_REVISION, values)


def load_revisions(database: sqlite3.Connection, orchestration_id: OrchestrationId) -> list[Revision]:
    """Return the log of an orchestration; see `Storage.load_revisions`."""
    if not is_unicode(orchestration_id):
        return []
    rows = database.execute(
        f"SELECT seq, {_LOG_COLUMNS} FROM orchestration_revision "  # noqa: S608
        "WHERE orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?) ORDER BY revision",
        (orchestration_id,),
    )
    return [_revision(row) for row in rows]


def _present_revision(database: sqlite3.Connection, plan_id: PlanId) -> int:
    row = (
        database.execute("SELECT revision FROM plan WHERE plan_id = ?", (plan_id,)).fetchone()
        if is_unicode(plan_id)
        else None
    )
    if row is None:
        raise PlanNotFoundError(plan_id)
    present: int = row[0]
    return present


def _log_values(made: Revision) -> tuple[Any, ...]:
    return made.revision, made.by, made.reason, made.told, made.at_us, made.undoes


def _revision(row: Sequence[Any]) -> Revision:
    seq, revision, made_by, reason, told, at_us, undoes = row
    return Revision(
        revision=revision, by=made_by, reason=reason, told=told, at_us=at_us, seq=seq, undoes=undoes
    )
