"""How orchestrations come into the database and advance, within one transaction: plain functions on its thread.

May import: orchestration.{models, ports, errors, execution.claim_rules, execution.history, execution.storage_rules},
storage.{artifacts, cache, claims, codec, controls, history, ids, plans, reads}, stdlib.
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
from orchestration.execution.claim_rules import why_all_closed, why_closed
from orchestration.execution.history import Tallies, count, succeeded_in
from orchestration.execution.storage_rules import (
    cached_output,
    check_reused,
    check_revisions,
    check_sequence,
    ended_at_us,
)
from orchestration.models import OrchestrationId
from orchestration.ports import (
    CacheEntry,
    Commit,
    ControlAnswer,
    Created,
    Lease,
    NewOrchestration,
    Revision,
    StoredOutput,
)
from storage import artifacts, cache, claims, codec, controls, history, ids, plans, reads

_INSERT_EVENT = "INSERT INTO journal (orchestration, seq, at_us, event) VALUES (?, ?, ?, ?)"
_UPSERT_TASK = (
    f"INSERT INTO task (orchestration, {codec.TASK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
    "ON CONFLICT (orchestration, task_id) DO UPDATE SET "
    "position = excluded.position, status = excluded.status, attempt = excluded.attempt, "
    "system = excluded.system, started_at_us = excluded.started_at_us, "
    "finished_at_us = excluded.finished_at_us, duration_seconds = excluded.duration_seconds, "
    "error = excluded.error, output_sha256 = excluded.output_sha256, output_bytes = excluded.output_bytes, "
    "note = excluded.note, tool = excluded.tool, parent = excluded.parent, is_composite = excluded.is_composite"
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
    revisions: list[tuple[int, Revision]] = []
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
        revisions += [(number, made) for made in commit.revisions]
    if large:
        # What was replaced within the batch is not stored at all: nobody would ever name it.
        named = {values[0] for values in outputs.values()} | {output.sha256 for _, _, output in cached}
        database.executemany(artifacts.INSERT, [each for each in large.items() if each[0] in named])
    database.executemany(_INSERT_EVENT, events)
    database.executemany(_UPSERT_TASK, tasks.values())
    if database.executemany(_SET_OUTPUT, outputs.values()).rowcount < len(outputs):
        raise ValueError("A commit has the output of a task that has no row.")
    for head in heads.values():
        head.write()
    for orchestration_id, entry, output in cached:
        cache.store(database, orchestration_id, entry, output)
    for orchestration_id, given, at_us in answers:
        controls.answer(database, orchestration_id, given, at_us)
    plans.add_revisions(database, revisions)
    for commit in commits:
        heads[commit.lease.orchestration_id].offer(commit)


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
        orchestration_id = ids.new_id(database, "orchestration", new.base_id)
    elif ids.is_taken(database, "orchestration", orchestration_id):
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


class _Head:
    """Where an orchestration's journal ends, while a batch is added to it."""

    __slots__ = (
        "at_us",
        "database",
        "has_offers",
        "last",
        "number",
        "owner",
        "revision",
        "seq",
        "tallies",
        "token",
        "took",
    )

    def __init__(self, database: sqlite3.Connection, orchestration_id: OrchestrationId) -> None:
        row = database.execute(
            "SELECT number, token, last_seq, updated_at_us, took, EXISTS "
            "(SELECT 1 FROM offer WHERE offer.orchestration = orchestration.number AND offer.state <> 'closed') "
            "FROM orchestration WHERE orchestration_id = ?",
            (orchestration_id,),
        ).fetchone()
        if row is None:
            raise OrchestrationNotFoundError(orchestration_id)
        self.database, self.owner = database, orchestration_id
        self.number, self.token, self.seq, self.at_us, self.took, self.has_offers = row
        self.revision: int | None = None
        self.tallies: Tallies | None = None
        self.last: Commit | None = None

    def advance(self, commit: Commit) -> None:
        if commit.lease.token != self.token:
            raise StaleFencingTokenError(self.owner, commit.lease.token, self.token)
        check_sequence(commit, self.seq)
        if commit.events:
            self.seq, self.at_us = commit.events[-1].seq, commit.events[-1].at_us
        if commit.revisions:
            latest = (
                plans.latest_revision(self.database, self.number) if self.revision is None else self.revision
            )
            self.revision = check_revisions(commit, latest)
        succeeded = succeeded_in(commit)
        if succeeded:
            if self.tallies is None:
                self.tallies = history.tallies_of(self.took, self.owner)
            count(self.tallies, succeeded, commit.tasks)
        self.last = commit

    def offer(self, commit: Commit) -> None:
        """Store what a commit offers, and close what it says is wanted no more; most have nothing of the kind."""
        if commit.offers:
            claims.offer(self.database, self.number, self.owner, commit.offers)
            self.has_offers = True
        if self.has_offers:
            closing = [
                (row.task_id, because)
                for row in commit.tasks
                if (because := why_closed(row.status)) is not None
            ]
            claims.close(self.database, self.number, closing)
            because = why_all_closed(commit.summary.state)
            if because is not None:
                claims.close_all(self.database, self.number, because)
                self.has_offers = False
        if commit.claim_outcomes:
            claims.note_outcomes(self.database, self.owner, commit.claim_outcomes)

    def write(self) -> None:
        if self.last is None:
            return
        summary = self.last.summary
        self.database.execute(
            "UPDATE orchestration SET last_seq = ?, updated_at_us = ?, state = ?, summary = ?, finished_at_us = ?, "
            "took = ? WHERE number = ?",
            (
                self.seq,
                self.at_us,
                summary.state.value,
                codec.encode_summary(summary),
                ended_at_us(summary, self.at_us),
                self.took if self.tallies is None else history.document_of(self.tallies),
                self.number,
            ),
        )
