"""What is asked of the database about orchestrations: plain functions on a connection's thread, decoding included.

May import: orchestration.{models, ports, errors, execution.storage_rules}, storage.codec, stdlib.

Each function is one statement, so each sees one moment of the database without a transaction, and decodes
off the event loop's thread. Status reads one row of `orchestration` and its driver's, whatever the size of the journal.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestration.engine.events import Recorded
from orchestration.errors import OrchestrationNotFoundError
from orchestration.execution.storage_rules import add_up
from orchestration.models import (
    OrchestrationId,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
    is_unicode,
)
from orchestration.ports import OrchestrationRecord, OrchestrationTotals, TaskRow
from storage import codec

_SELECT_RECORDS = (
    "SELECT orchestration_id, key, goal, mode, dag_id, dag_sha256, plan_id, created_at_us, updated_at_us, last_seq, "
    "holder, token, summary, needs, identity, beats, lease_seconds, beat_at_us "
    "FROM orchestration LEFT JOIN driver ON instance = holder_instance"
)
_SELECT_ENTRIES = (
    "SELECT last_seq, first_seq, events FROM journal_archive "
    "WHERE orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?1) AND last_seq > ?2 "
    "UNION ALL SELECT seq, at_us, event FROM journal "
    "WHERE orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?1) AND seq > ?2 "
    "ORDER BY 1 LIMIT ?3"
)
_UNFINISHED = [state for state in OrchestrationStatus if not state.is_terminal]


def load_orchestration(
    database: sqlite3.Connection, orchestration_id: OrchestrationId
) -> OrchestrationRecord:
    """Return an orchestration's record; see `Storage.load_orchestration`."""
    if not is_unicode(orchestration_id):
        raise OrchestrationNotFoundError(orchestration_id)
    row = database.execute(f"{_SELECT_RECORDS} WHERE orchestration_id = ?", (orchestration_id,)).fetchone()
    if row is None:
        raise OrchestrationNotFoundError(orchestration_id)
    return _record(row)


def list_orchestrations(
    database: sqlite3.Connection, states: Sequence[OrchestrationStatus] | None, limit: int, offset: int
) -> list[OrchestrationRecord]:
    """Return records, latest created first; see `Storage.list_orchestrations`."""
    wanted, values = _one_of("state", states)
    query = f"{_SELECT_RECORDS} WHERE {wanted} ORDER BY number DESC LIMIT ? OFFSET ?"
    rows = database.execute(query, (*values, _number(limit), _number(offset)))
    return [_record(row) for row in rows]


def list_unfinished(database: sqlite3.Connection) -> list[OrchestrationRecord]:
    """Return what has not ended, oldest first; see `Storage.list_unfinished`."""
    wanted, values = _one_of("state", _UNFINISHED)
    # The plus keeps SQLite from walking all that ever ran in the order of its numbers.
    return [
        _record(row) for row in database.execute(f"{_SELECT_RECORDS} WHERE {wanted} ORDER BY +number", values)
    ]


def load_dag(database: sqlite3.Connection, orchestration_id: OrchestrationId) -> bytes:
    """Return the DAG document of an orchestration; see `Storage.load_dag`."""
    row = database.execute(
        "SELECT content FROM orchestration LEFT JOIN artifact ON sha256 = dag_sha256 "
        "WHERE orchestration_id = ?",
        (orchestration_id,),
    ).fetchone()
    if row is None:
        raise OrchestrationNotFoundError(orchestration_id)
    return codec.present_content(row[0], f"The DAG of {orchestration_id!r}")


def read_events(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, after_seq: int, limit: int
) -> list[Recorded]:
    """Return journal entries in order; see `Storage.read_events`.

    Each row is an entry, or many of them compressed; the statement hands out one by one, in order, so no more is
    unpacked than is asked for.
    """
    most, after_seq = _number(limit), _number(after_seq)
    entries: list[tuple[int, int, str]] = []
    for last_seq, first, event in database.execute(_SELECT_ENTRIES, (orchestration_id, after_seq, most)):
        if isinstance(event, bytes):
            rows = codec.decode_entries(orchestration_id, first, last_seq, event)
            entries += rows[max(0, after_seq + 1 - first) :]
        else:
            entries.append((last_seq, first, event))
        if len(entries) >= most:
            break
    return codec.decode_events(orchestration_id, entries[:most])


def load_tasks(
    database: sqlite3.Connection,
    orchestration_id: OrchestrationId,
    statuses: Sequence[TaskStatus] | None,
    task_ids: Sequence[TaskId] | None,
    after_position: int,
    limit: int,
) -> list[TaskRow]:
    """Return task rows by position; see `Storage.load_tasks`."""
    of_status, status_values = _one_of("status", statuses)
    of_id, id_values = _one_of("task_id", task_ids)
    position = (
        "position" if task_ids is None else "+position"
    )  # the plus keeps SQLite from walking all positions
    query = (
        f"SELECT {codec.TASK_COLUMNS} FROM task "  # noqa: S608
        "WHERE orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?) "
        f"AND {position} > ? AND {of_status} AND {of_id} ORDER BY {position} LIMIT ?"
    )
    rows = database.execute(
        query, (orchestration_id, min(after_position, 2**31), *status_values, *id_values, max(0, limit))
    )
    return [codec.decode_task(row) for row in rows]


def load_outputs(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, task_ids: Sequence[TaskId]
) -> dict[TaskId, bytes]:
    """Return outputs by task; see `Storage.load_outputs`."""
    of_id, values = _one_of("task_id", task_ids)
    query = (
        "SELECT task_id, coalesce(output, content) "  # noqa: S608
        "FROM task LEFT JOIN artifact ON artifact.sha256 = task.output_artifact "
        "WHERE orchestration = (SELECT number FROM orchestration WHERE orchestration_id = ?) "
        f"AND (output IS NOT NULL OR output_artifact IS NOT NULL) AND {of_id}"
    )
    rows = database.execute(query, (orchestration_id, *values))
    return {
        task_id: codec.present_content(content, f"The output of task {task_id!r}")
        for task_id, content in rows
    }


def load_totals(database: sqlite3.Connection, since_us: int | None) -> OrchestrationTotals:
    """Return sums over orchestrations; see `Storage.load_totals`."""
    rows = database.execute(
        "SELECT summary, orchestration_id FROM orchestration WHERE ? IS NULL OR created_at_us >= ?",
        (since_us, since_us),
    )
    return add_up(codec.decode_summary(document, orchestration_id) for document, orchestration_id in rows)


def _record(row: tuple[Any, ...]) -> OrchestrationRecord:
    (
        orchestration_id,
        key,
        goal,
        mode,
        dag_id,
        dag_sha256,
        plan_id,
        created,
        updated,
        last_seq,
        holder,
        token,
        summary,
        needs,
        *driver,
    ) = row
    return OrchestrationRecord(
        orchestration_id=orchestration_id,
        key=key,
        goal=goal,
        mode=codec.decode_mode(mode, f"Orchestration {orchestration_id!r}"),
        dag_id=dag_id,
        dag_sha256=dag_sha256,
        plan_id=plan_id,
        created_at_us=created,
        updated_at_us=updated,
        last_seq=last_seq,
        holder=codec.decode_holder(holder, orchestration_id),
        driver=codec.decode_driver(orchestration_id, *driver),
        needs=codec.decode_needs(needs, orchestration_id),
        token=token,
        summary=codec.decode_summary(summary, orchestration_id),
    )


def _number(value: int) -> int:
    """Return a count or a place that SQLite can be given: at least 0, at most its largest integer."""
    return max(0, min(value, 2**63 - 1))


def _one_of(column: str, values: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    """Return a condition and its parameters; one JSON list, as statements may have few parameters only."""
    if values is None:
        return "TRUE", ()
    condition = f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608  (column is one of ours)
    return condition, (json.dumps([str(value) for value in values]),)
