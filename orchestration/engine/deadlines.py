"""The instants an engine waits for, soonest first: time limits, silences, grace periods, back-offs.

May import: orchestration.models, stdlib.

Most deadlines never come true: an attempt ends long before its limit, which may be an hour away. Dead ones are
dropped when they come up, and all at once when they have become too many.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from orchestration.models import OrchestrationId, TaskId

DeadlineKind: TypeAlias = Literal["timeout", "silence", "grace", "retry", "claim", "orchestration"]

_COMPACT_FROM = 1024
"""Deadlines kept before the dead ones among them are looked for; below that they are not worth it."""


class Deadline(NamedTuple):
    """Ordered by time, then by when it was set; a tuple compares without calling back into Python."""

    at_us: int
    order: int
    orchestration_id: OrchestrationId
    task_id: TaskId
    """Empty where the whole orchestration is meant."""
    attempt: int
    kind: DeadlineKind


class Deadlines:
    """A heap of deadlines.

    Args:
        is_live: Whether a deadline still means something.
    """

    def __init__(self, is_live: Callable[[Deadline], bool]) -> None:
        self._is_live = is_live
        self._heap: list[Deadline] = []
        self._count = 0
        self._compact_at = _COMPACT_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def add(
        self, at_us: int, kind: DeadlineKind, orchestration_id: OrchestrationId, task_id: TaskId, attempt: int
    ) -> None:
        """Set a deadline."""
        self._count += 1
        if len(self._heap) >= self._compact_at:
            self._compact()
        heapq.heappush(self._heap, Deadline(at_us, self._count, orchestration_id, task_id, attempt, kind))

    def next_us(self) -> int | None:
        """Return the instant of the soonest live deadline; None when there is none."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].at_us if self._heap else None

    def pop_due(self, now_us: int) -> Deadline | None:
        """Take the soonest live deadline out if its time has come."""
        due = self.next_us()
        return heapq.heappop(self._heap) if due is not None and due <= now_us else None

    def _compact(self) -> None:
        self._heap = [deadline for deadline in self._heap if self._is_live(deadline)]
        heapq.heapify(self._heap)
        self._compact_at = max(_COMPACT_FROM, 2 * len(self._heap))
