"""What a storage should know, in plain dictionaries and lists; and what a commit may bring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from orchestration.engine.events import AttemptSucceeded, Event
from orchestration.engine.inputs import OutputRef
from orchestration.models import OrchestrationStatus, TaskStatus
from orchestration.ports import (
    ControlAnswer,
    DriverIdentity,
    History,
    PendingControl,
    Revision,
    Summary,
    TaskRow,
)
from tests.storage.records import EVERY_EVENT, NOW_US, cache_entry, output, row, summary

TASK_IDS = ["a", "b", "c", "d"]
POSITIONS = {task_id: position for position, task_id in enumerate(TASK_IDS)}
KEYS = ["k1", "k2"]
LARGE = b"x" * 600
"""More than a row takes."""
ATTEMPTS = [
    AttemptSucceeded(task_id=task_id, attempt=1, output=OutputRef(sha256="e" * 64, size_bytes=1), cost=cost)
    for task_id in TASK_IDS[:3]
    for cost in (None, 0.0, 2.5)
]


@dataclass
class Expected:
    """What a storage should know of one orchestration."""

    number: int
    """Place in the order of creation."""
    holder: DriverIdentity | None
    summary: Summary
    key: str | None = None
    plan_id: str | None = None
    needs: dict[str, dict[str, str]] = field(default_factory=dict)
    token: int = 1
    updated_at_us: int = NOW_US
    events: list[Event] = field(default_factory=list)
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)


@dataclass
class ExpectedControl:
    """What a storage should know of one request."""

    pending: PendingControl
    answer: ControlAnswer | None = None
    answered_at_us: int = 0


@dataclass
class ExpectedPlan:
    """What a storage should know of one plan."""

    documents: list[bytes]
    """The DAG of each revision."""
    log: list[Revision]

    @property
    def changed_at_us(self) -> int:
        """The instant its age counts from."""
        return max(made.at_us for made in self.log)


@dataclass(frozen=True)
class Completed:
    """What a completed task took."""

    kind: tuple[str, str | None]
    seconds: float
    cost: float | None


def history(latest_first: Iterable[list[Completed]], kind: tuple[str, str | None]) -> History | None:
    """What is known of a kind: of the latest orchestrations, until they have fifty tasks of it."""
    found: list[Completed] = []
    for completed in latest_first:
        found += [each for each in completed if each.kind == kind]
        if len(found) >= 50:
            break
    if not found:
        return None
    costs = [each.cost for each in found if each.cost is not None]
    return History(
        count=len(found),
        mean_seconds=sum(each.seconds for each in found) / len(found),
        mean_cost=sum(costs) / len(costs) if costs else None,
    )


@st.composite
def rows(draw: st.DrawFn) -> list[TaskRow]:
    """Task rows of a commit: plain, parts, composites."""
    statuses = draw(st.dictionaries(st.sampled_from(TASK_IDS), st.sampled_from(TaskStatus), max_size=3))
    return [
        row(
            task_id,
            POSITIONS[task_id],
            status,
            system=draw(st.sampled_from([None, "py", "shell"])),
            tool=draw(st.sampled_from([None, "load"])),
            parent=draw(st.sampled_from([None, "b"])),
            is_composite=draw(st.booleans()),
            duration_seconds=draw(st.floats(0, 10)),
        )
        for task_id, status in statuses.items()
    ]


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What a commit may bring."""
    contents = st.binary(max_size=5) | st.just(LARGE)
    texts = draw(st.dictionaries(st.sampled_from(TASK_IDS[:2]), contents, max_size=2))
    cached = [
        cache_entry(draw(st.sampled_from(KEYS)), task_id, expires_at_us=NOW_US + draw(st.integers(0, 30)))
        for task_id in texts
        if draw(st.booleans())
    ]
    answers = draw(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=2))
    facts = {
        "tasks": draw(rows()),
        "outputs": [output(task_id, text, inline=draw(st.booleans())) for task_id, text in texts.items()],
        "summary": summary(
            state=draw(st.sampled_from(OrchestrationStatus)), attempts=draw(st.integers(0, 9))
        ),
        "cached": cached,
    }
    return {
        "events": draw(st.lists(st.sampled_from(EVERY_EVENT) | st.sampled_from(ATTEMPTS), max_size=3)),
        "facts": facts,
        "answers": answers,
        "revisions": draw(st.integers(0, 2)),
    }
