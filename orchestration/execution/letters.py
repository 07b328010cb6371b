"""What comes into a coordinator's inbox, and who it asks for plans.

May import: orchestration.{claim_records, models, ports}, orchestration.engine.*, orchestration.execution.driven,
stdlib.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from orchestration.claim_records import Offer
from orchestration.engine.effects import RequestAlternative
from orchestration.engine.events import AttemptSucceeded, PlanEdited, PlanRevised, Recorded, RetryRequested
from orchestration.engine.inputs import Input, PlanEnded, PlanGrown
from orchestration.engine.state import State
from orchestration.execution.driven import Driven
from orchestration.models import TaskId, TaskStatus
from orchestration.ports import CacheEntry, ControlAnswer, StoredOutput

FindAlternative = Callable[[State, RequestAlternative], Awaitable[Input]]
"""Answers a `RequestAlternative` with `AlternativeFound` or `NoAlternative`."""

HandIn = Callable[[PlanGrown | PlanEnded], Awaitable[list[Recorded]]]
"""Takes parts of a plan, and the news that it is whole or will never be."""

MakePlan = Callable[[Driven, HandIn], Coroutine[Any, Any, None]]
"""Makes the rest of a plan and hands it in as it comes, its end as well."""


_BEGINS = frozenset(
    {
        TaskStatus.READY,
        TaskStatus.RUNNING,
        TaskStatus.OFFERED,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.EXPANDED,
    }
)
"""Statuses of tasks that nothing of the graph keeps any more."""


@dataclass(slots=True)
class Letter:
    """Something in the inbox."""

    item: Input
    output: StoredOutput | None = None
    cached: CacheEntry | None = None
    offer: Offer | None = None
    on_answered: Callable[[], None] | None = None
    """Called when what it led to is committed, or never will be; for whoever waits for that."""
    control_id: int | None = None
    """Of the stored request it came from: its answer is stored with what it led to."""
    refusal: tuple[Driven, ControlAnswer] | None = None
    """In place of an input: the refusal of a stored request that can't even be put to the engine."""
    events: list[Recorded] = field(default_factory=list)
    """What it led to; for letters that are answered."""
    was_heard: bool = False
    """Whether it was decided and committed; False for one the loop ended before."""
    error: Exception | None = None

    def answer(self) -> None:
        """Tell the caller."""
        if self.on_answered is not None:
            self.on_answered()


def reopened_in(events: list[Recorded]) -> tuple[TaskId, ...]:
    """Return the tasks that a retry made pending again; none where there was no retry."""
    return next(
        (recorded.event.task_ids for recorded in events if isinstance(recorded.event, RetryRequested)), ()
    )


def unblocked_by(state: State, events: list[Recorded]) -> tuple[TaskId, ...]:
    """Return the tasks that may begin now because a worker's report completed what they waited for."""
    return tuple(
        edge.target
        for recorded in events
        if isinstance(recorded.event, AttemptSucceeded)
        for edge in state.tasks[recorded.event.task_id].outgoing
        if state.tasks[edge.target].status in _BEGINS
    )


def revision_in(events: list[Recorded]) -> int | None:
    """Return the plan's revision that a change made; None where there was no change."""
    return next(
        (
            recorded.event.revision
            for recorded in events
            if isinstance(recorded.event, PlanEdited | PlanRevised)
        ),
        None,
    )
