"""What an edit did, or would do: as a record for programs and as a document for every face.

May import: orchestration.{clock, errors, models, ports}, orchestration.edits.{changes, consequences, editing},
stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestration.clock import to_iso
from orchestration.edits.changes import changed_fields
from orchestration.edits.consequences import Consequences
from orchestration.edits.editing import Edited, Subject
from orchestration.errors import Problem
from orchestration.models import JsonObject, TaskId
from orchestration.ports import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """What became of an edit."""

    target: str
    """The plan or orchestration."""
    is_plan: bool
    revision: int
    """The present one: where the edit was made, the one it made."""
    is_applied: bool
    """False: it was only looked at, or nothing would have changed."""
    told: str
    """What it changes, in a few words."""
    added: tuple[TaskId, ...] = ()
    changed: Mapping[TaskId, Sequence[str]] = field(default_factory=dict)
    """Names of the fields that change, by task."""
    removed: tuple[TaskId, ...] = ()
    linked: tuple[tuple[TaskId, TaskId], ...] = ()
    """New and changed edges."""
    unlinked: tuple[tuple[TaskId, TaskId], ...] = ()
    """Edges that are gone, and the old forms of changed ones; not those of removed tasks."""
    skipped: tuple[TaskId, ...] = ()
    """Tasks somebody wants skipped."""
    replaced: TaskId | None = None
    """A failed task that asked how to go on, and is replaced; its alternative's tasks get ids of their own."""
    follows: Consequences = field(default_factory=Consequences)
    """What else happens at once."""
    estimate: Mapping[str, float] | None = None
    """Of what is left to do; None where the graph is too large to try it out."""
    notes: tuple[str, ...] = ()
    """How what was sent was read."""
    warnings: tuple[str, ...] = ()
    """What is allowed, and should be known."""
    refusals: tuple[Problem, ...] = ()
    """Of a dry run: why it would be refused."""
    undoes: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "target": self.target,
            "kind": "plan" if self.is_plan else "orchestration",
            "revision": self.revision,
            "applied": self.is_applied,
            "told": self.told,
            "undoes": self.undoes,
            "added": list(self.added),
            "changed": {task_id: list(names) for task_id, names in self.changed.items()},
            "removed": list(self.removed),
            "linked": [list(pair) for pair in self.linked],
            "unlinked": [list(pair) for pair in self.unlinked],
            "skipped": list(self.skipped),
            "replaced": self.replaced,
            "follows": {
                "skipped": list(self.follows.skipped),
                "failed": list(self.follows.failed),
                "unblocked": list(self.follows.unblocked),
                "approvals_voided": list(self.follows.voided),
                "ends": None if self.follows.outcome is None else self.follows.outcome.value,
            },
            "estimate": None if self.estimate is None else dict(self.estimate),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "refusals": [
                {"path": each.path, "message": each.message, "fix": each.fix} for each in self.refusals
            ],
        }

    def lines(self) -> list[str]:
        """Return what changes and what follows, a line each, for people and models."""
        fields = [f"{task_id} ({', '.join(names)})" for task_id, names in self.changed.items()]
        kept = set(self.unlinked)
        pairs = (
            ("added", list(self.added)),
            ("changed", fields),
            ("removed", list(self.removed)),
            ("skipped", list(self.skipped)),
            ("replaced", [self.replaced] if self.replaced is not None else []),
            ("linked", [_arrow(pair) for pair in self.linked if pair not in kept]),
            ("edge changed", [_arrow(pair) for pair in self.linked if pair in kept]),
            ("unlinked", [_arrow(pair) for pair in self.unlinked if pair not in set(self.linked)]),
            ("so skipped, too", list(self.follows.skipped)),
            ("so failed", list(self.follows.failed)),
            ("may start", list(self.follows.unblocked)),
            ("approval void", list(self.follows.voided)),
        )
        lines = [f"{word}: {_some(names)}" for word, names in pairs if names]
        if self.follows.outcome is not None:
            lines.append(f"it ends with that: {self.follows.outcome}")
        return lines


SHOWN = 10
"""Tasks or edges that a line names."""


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _arrow(pair: tuple[TaskId, TaskId]) -> str:
    return f"{pair[0]} → {pair[1]}"


def report_of(
    subject: Subject,
    edited: Edited,
    revision: int,
    *,
    is_applied: bool,
    follows: Consequences | None = None,
    estimate: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    refusals: Sequence[Problem] = (),
) -> EditReport:
    """Return what an edit comes to as a report."""
    change = edited.change
    alternative = edited.alternative
    return EditReport(
        target=subject.target,
        is_plan=subject.state is None,
        revision=revision,
        is_applied=is_applied,
        told=edited.told,
        added=tuple(node.task_id for node in change.added)
        if alternative is None
        else tuple(alternative.dag.nodes),
        changed={
            node.task_id: changed_fields(subject.dag.nodes[node.task_id], node) for node in change.changed
        },
        removed=change.removed,
        linked=tuple((edge.source_task_id, edge.target_task_id) for edge in change.linked),
        unlinked=change.unlinked,
        skipped=change.skipped,
        replaced=None if alternative is None else alternative.task_id,
        follows=follows or Consequences(),
        estimate=estimate,
        notes=edited.notes,
        warnings=tuple(warnings),
        refusals=tuple(refusals),
        undoes=edited.undoes,
    )


def revision_document(revision: Revision) -> JsonObject:
    """Return an entry of the log as JSON has it."""
    return {
        "revision": revision.revision,
        "by": revision.by,
        "reason": revision.reason,
        "at": to_iso(revision.at_us),
        "told": revision.told,
        "undoes": revision.undoes,
        "seq": revision.seq,
    }
