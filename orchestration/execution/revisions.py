"""What the log of revisions is told about the events that made them.

May import: orchestration.ports, orchestration.edits.changes, orchestration.engine.events, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.edits.changes import told_of_event
from orchestration.engine.events import PlanEdited, PlanRevised, Recorded
from orchestration.ports import Revision


def revisions_in(events: Sequence[Recorded]) -> tuple[Revision, ...]:
    """Return the entries of the log that events of one orchestration stand for, in order."""
    found = []
    for recorded in events:
        event = recorded.event
        if not isinstance(event, PlanRevised | PlanEdited):
            continue
        found.append(
            Revision(
                revision=event.revision,
                by=event.by,
                reason=event.reason,
                at_us=recorded.at_us,
                told=told_of_event(event),
                seq=recorded.seq,
                undoes=event.undoes if isinstance(event, PlanEdited) else None,
            )
        )
    return tuple(found)
