"""What the storage in memory keeps of each thing, and how it is copied on its way in and out.

May import: orchestration.{models, ports, engine.events, execution.history, execution.storage_rules}, stdlib.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestration.engine.events import (
    Event,
    OrchestrationSubmitted,
    PlanCompleted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
)
from orchestration.execution.history import Tallies
from orchestration.execution.storage_rules import ended_at_us
from orchestration.models import TaskId
from orchestration.ports import Needs, OrchestrationRecord, Revision, StoredOutput, Summary, TaskRow

_WITH_DICTIONARIES = (OrchestrationSubmitted, PlanRevised, PlanEdited, PlanExtended, PlanCompleted)
"""Events that bring tasks, routes or a context."""


@dataclass(slots=True)
class Stored:
    """One orchestration."""

    record: OrchestrationRecord
    request_sha256: str
    dag_json: bytes
    events: list[Recorded] = field(default_factory=list)
    tasks: dict[TaskId, TaskRow] = field(default_factory=dict)
    outputs: dict[TaskId, StoredOutput] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    tallies: Tallies = field(default_factory=dict)
    by_position: list[TaskId] | None = None
    """Task ids in order; None when a task was added since."""

    def ended_at_us(self) -> int | None:
        """Return since when it has ended; None while it has not."""
        return ended_at_us(self.record.summary, self.record.updated_at_us)

    def latest_revision(self) -> int:
        """Return the latest revision in its log; 1, which it began with, when it has none."""
        return self.revisions[-1].revision if self.revisions else 1

    def put_tasks(self, rows: Sequence[TaskRow]) -> None:
        """Add rows, in place of those of the same tasks."""
        for row in rows:
            known = self.tasks.get(row.task_id)
            if known is None or known.position != row.position:
                self.by_position = None
            self.tasks[row.task_id] = row

    def ordered_tasks(self) -> list[TaskRow]:
        """Return the rows by position."""
        if self.by_position is None:
            self.by_position = sorted(self.tasks, key=lambda task_id: self.tasks[task_id].position)
        return [self.tasks[task_id] for task_id in self.by_position]


@dataclass(frozen=True, slots=True)
class Cached:
    """An output that equal tasks may use again."""

    output: StoredOutput
    source: str
    stored_at_us: int
    expires_at_us: int


def copy_summary(summary: Summary) -> Summary:
    """Return a summary with a dictionary of its own."""
    return replace(summary, counts=dict(summary.counts))


def copy_needs(needs: Needs) -> Needs:
    """Return needs with dictionaries of their own."""
    return {system: dict(tools) for system, tools in needs.items()}


def copy_event(event: Event) -> Event:
    """Copy an event that holds dictionaries; most are immutable through and through."""
    return copy.deepcopy(event) if isinstance(event, _WITH_DICTIONARIES) else event


def copy_recorded(recorded: Recorded) -> Recorded:
    """Copy a journal entry as far as it needs to be."""
    event = copy_event(recorded.event)
    return recorded if event is recorded.event else replace(recorded, event=event)
