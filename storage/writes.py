"""Everything that changes the database, each within one transaction: plain functions on a connection's thread.

May import: orchestration.{models, ports, errors, execution.storage_rules}, storage.{artifacts, cache, codec, controls,
reads}, stdlib.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestration.errors import (
    IdempotencyConflictError,
    OrchestrationNotFoundError,
    StaleFencingTokenError,
    TaskNotFoundError,
)
from orchestration.execution.storage_rules import (
    cached_output,
    check_reused,
    check_sequence,
    ended_at_us,
    next_free_id,
)
from orchestration.models import OrchestrationId
from orchestration.ports import (
    CacheEntry,
    Commit,
    ControlAnswer,
    Created,
    Lease,
    NewOrchestration,
    NewPlan,
    PlanRecord,
    StoredOutput,
)
from storage import artifacts, cache, codec, controls, reads

_INSERT_EVENT = "INSERT INTO journal (orchestration, seq, at_us, event) VALUES (?, ?, ?, ?)"
_UPSERT_TASK = (
    f"INSERT INTO task (orchestration, {codec.TASK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
    "ON CONFLICT (orchestration, task_id) DO UPDATE SET "
    "position = excluded.position, status = excluded.status, attempt = excluded.attempt, "
    "system = excluded.system, started_at_us = excluded.started_at_us, "
    "finished_at_us = excluded.finished_at_us, duration_seconds = excluded.duration_seconds, "
    "error = excluded.error, output_sha256 = excluded.output_sha256, output_bytes = excluded.output_bytes, "
    "note = excluded.note"
)
_SET_OUTPUT = "UPDATE task SET output_artifact = ?, output = ? WHERE orchestration = ? AND task_id = ?"


def append(database: sqlite3.Connection, commits: Sequence[Commit]) -> None:
    """Store a batch; see `Storage.append`.

    Of a task that several commits touch only the last row is written, and so it is with outputs and
    summaries.
    """
    heads: dict[OrchestrationId, _Head] = {}
    events: list[tuple[int, int, int, str]] = []
    tasks: dict[tuple[int, str], tuple[Any, ...]] = {}
    outputs: dict[tuple[int, str], tuple[Any, ...]] = {}
    large: dict[str, bytes] = {}
    cached: list[tuple[OrchestrationId, CacheEntry, StoredOutput]] = []
    answers: list[tuple[OrchestrationId, ControlAnswer, int]] = []
    for commit in commits:
        lease = commit.lease
        head = heads.get(lease.orchestration_id)
        if head is None:
            head = heads[lease.orchestration_id] = _Head(database, lease.orchestration_id)
        head.advance(commit)
        number = head.number
        encode = codec.encode_event
        events += [
            (number, recorded.seq, recorded.at_us, encode(recorded.event)) for recorded in commit.events
        ]
        for row in commit.tasks:
            tasks[number, row.task_id] = codec.task_values(number, row)
        for output in commit.outputs:
            artifact, text = artifacts.placed(output)
            if artifact is not None:
                large[artifact] = output.text
            outputs[number, output.task_id] = (artifact, text, number, output.task_id)
        cached += [(lease.orchestration_id, entry, cached_output(commit, entry)) for entry in commit.cached]
        answers += [(lease.orchestration_id, given, head.at_us) for given in commit.answers]
    # What was replaced within the batch is not stored at all: nobody would ever name it.
    named = {values[0] for values in outputs.values()} | {output.sha256 for _, _, output in cached}
    database.executemany(artifacts.INSERT, [each for each in large.items() if each[0] in named])
    database.executemany(_INSERT_EVENT, events)
    database.executemany(_UPSERT_TASK, tasks.values())
    if database.executemany(_SET_OUTPUT, outputs.values()).rowcount < len(outputs):
        raise ValueError("A commit has the output of a task that has no row.")
    for head in heads.values():
        head.write(database)
    for orchestration_id, entry, output in cached:
        cache.store(database, orchestration_id, entry, output)
    for orchestration_id, given, at_us in answers:
        controls.answer(database, orchestration_id, given, at_us)


def create_orchestration(database: sqlite3.Connection, new: NewOrchestration) -> Created:
    """Store a new orchestration, or find the one its key names; see `Storage.create_orchestration`."""
    if new.key is not None:
        row = database.execute(
            "SELECT orchestration_id, request_sha256 FROM orchestration WHERE key = ?", (new.key,)
        ).fetchone()
        if row is not None:
            if row[1] != new.request_sha256:
                raise IdempotencyConflictError(new.key, row[0])
            return Created(record=reads.load_orchestration(database, row[0]), lease=None)
    orchestration_id = new.orchestration_id
    if orchestration_id is None:
        orchestration_id = _new_id(database, "orchestration", new.base_id)
    elif _has(database, "orchestration", orchestration_id):
        raise IdempotencyConflictError(orchestration_id, orchestration_id)
    number = _insert_orchestration(database, orchestration_id, new)
    database.executemany(
        _INSERT_EVENT,
        [
            (number, seq, new.created_at_us, codec.encode_event(event))
            for seq, event in enumerate(new.first_events, start=1)
        ],
    )
    database.executemany(_UPSERT_TASK, [codec.task_values(number, row) for row in new.tasks])
    if new.reused:
        _take_over_outputs(database, number, new)
    return Created(
        record=reads.load_orchestration(database, orchestration_id),
        lease=Lease(orchestration_id=orchestration_id, token=1, holder=new.holder),
    )


def save_plan(database: sqlite3.Connection, plan: NewPlan) -> PlanRecord:
    """Store a plan; see `Storage.save_plan`."""
    plan_id = _new_id(database, "plan", plan.base_id)
    context, thoughts, notes = codec.encode_plan_parts(plan.context, plan.thoughts, plan.notes)
    database.execute(artifacts.INSERT, (plan.dag_sha256, plan.dag_json))
    database.execute(
        "INSERT INTO plan (plan_id, revision, goal, mode, context, dag_sha256, planner, thoughts, "
        "thinking_server, notes, created_at_us) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            plan_id,
            plan.goal,
            None if plan.mode is None else plan.mode.value,
            context,
            plan.dag_sha256,
            plan.planner,
            thoughts,
            plan.thinking_server,
            notes,
            plan.created_at_us,
        ),
    )
    return reads.load_plan(database, plan_id)


def _insert_orchestration(
    database: sqlite3.Connection, orchestration_id: OrchestrationId, new: NewOrchestration
) -> int:
    database.execute(artifacts.INSERT, (new.dag_sha256, new.dag_json))
    cursor = database.execute(
        "INSERT INTO orchestration (orchestration_id, key, request_sha256, goal, mode, dag_id, dag_sha256, "
        "plan_id, created_at_us, updated_at_us, last_seq, holder, holder_instance, token, state, summary, needs, "
        "finished_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
        (
            orchestration_id,
            new.key,
            new.request_sha256,
            new.goal,
            new.mode.value,
            new.dag_id,
            new.dag_sha256,
            new.plan_id,
            new.created_at_us,
            new.created_at_us,
            len(new.first_events),
            codec.encode_holder(new.holder),
            new.holder.instance,
            new.summary.state.value,
            codec.encode_summary(new.summary),
            codec.encode_needs(new.needs),
            ended_at_us(new.summary, new.created_at_us),
        ),
    )
    number = cursor.lastrowid
    assert number is not None
    return number


def _take_over_outputs(database: sqlite3.Connection, number: int, new: NewOrchestration) -> None:
    """Let tasks of a new orchestration have the outputs of earlier ones; large ones are named twice, not copied."""
    check_reused(new)
    outputs: list[tuple[Any, ...]] = []
    for reused in new.reused:
        row = database.execute(
            "SELECT output_artifact, output FROM task WHERE task_id = ? AND orchestration = "
            "(SELECT number FROM orchestration WHERE orchestration_id = ?)",
            (reused.from_task, reused.from_orchestration),
        ).fetchone()
        if row is None or row == (None, None):
            raise TaskNotFoundError(reused.from_orchestration, reused.from_task)
        outputs.append((*row, number, reused.task_id))
    database.executemany(_SET_OUTPUT, outputs)


def _new_id(database: sqlite3.Connection, kind: str, base_id: str) -> str:
    row = database.execute(
        "SELECT last FROM id_counter WHERE kind = ? AND base_id = ?", (kind, base_id)
    ).fetchone()
    new_id, number = next_free_id(
        base_id,
        row[0] if row else 0,
        lambda taken: _has(database, kind, taken) or _had(database, kind, taken),
    )
    database.execute(
        "INSERT INTO id_counter (kind, base_id, last) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET last = excluded.last",
        (kind, base_id, number),
    )
    return new_id


def _has(database: sqlite3.Connection, kind: str, record_id: str) -> bool:
    query = f"SELECT 1 FROM {kind} WHERE {kind}_id = ?"  # noqa: S608  (kind is one of our two table names)
    return database.execute(query, (record_id,)).fetchone() is not None


def _had(database: sqlite3.Connection, kind: str, record_id: str) -> bool:
    """Whether there was one whose id was chosen by hand, and that housekeeping has removed."""
    query = "SELECT 1 FROM id_counter WHERE kind = ? AND base_id = ?"
    return database.execute(query, (f"removed_{kind}", record_id)).fetchone() is not None


class _Head:
    """Where an orchestration's journal ends, while a batch is added to it."""

    __slots__ = ("at_us", "last", "number", "orchestration_id", "seq", "token")

    def __init__(self, database: sqlite3.Connection, orchestration_id: OrchestrationId) -> None:
        row = database.execute(
            "SELECT number, token, last_seq, updated_at_us FROM orchestration WHERE orchestration_id = ?",
            (orchestration_id,),
        ).fetchone()
        if row is None:
            raise OrchestrationNotFoundError(orchestration_id)
        self.orchestration_id = orchestration_id
        self.number, self.token, self.seq, self.at_us = row
        self.last: Commit | None = None

    def advance(self, commit: Commit) -> None:
        if commit.lease.token != self.token:
            raise StaleFencingTokenError(self.orchestration_id, commit.lease.token, self.token)
        check_sequence(commit, self.seq)
        if commit.events:
            self.seq, self.at_us = commit.events[-1].seq, commit.events[-1].at_us
        self.last = commit

    def write(self, database: sqlite3.Connection) -> None:
        if self.last is None:
            return
        summary = self.last.summary
        database.execute(
            "UPDATE orchestration SET last_seq = ?, updated_at_us = ?, state = ?, summary = ?, finished_at_us = ? "
            "WHERE number = ?",
            (
                self.seq,
                self.at_us,
                summary.state.value,
                codec.encode_summary(summary),
                ended_at_us(summary, self.at_us),
                self.number,
            ),
        )
