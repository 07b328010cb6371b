"""Tasks that have parts, told in one line: how many parts there are and how far they came.

May import: orchestration.models, stdlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestration.models import TaskId, TaskStatus

_TOLD = (
    TaskStatus.FAILED,
    TaskStatus.UNKNOWN,
    TaskStatus.AWAITING_APPROVAL,
    TaskStatus.REPLANNING,
    TaskStatus.RUNNING,
    TaskStatus.CLAIMED,
    TaskStatus.OFFERED,
    TaskStatus.RETRYING,
    TaskStatus.SKIPPED,
    TaskStatus.CANCELLED,
)
"""What is told of parts that are not done, what somebody has to look at first."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one task, its own and not those of its parts."""

    counts: Mapping[TaskStatus, int]
    """Parts per status; replaced ones are left out, for others stand for them."""

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        done = self.counts.get(TaskStatus.COMPLETED, 0)
        told = f"{done:,} of {self.total:,} part{'' if self.total == 1 else 's'} done"
        others = [f"{self.counts[status]:,} {words(status)}" for status in _TOLD if self.counts.get(status)]
        return ", ".join([told, *others])


def words(status: str) -> str:
    """Return a status as people read it: `awaiting approval`."""
    return str(status).replace("_", " ")


def parts_of(tasks: Iterable[tuple[TaskId | None, TaskStatus]]) -> dict[TaskId, Parts]:
    """Return the parts of each task that has some.

    Args:
        tasks: The parent and the status of every task.
    """
    counted: dict[TaskId, Counter[TaskStatus]] = {}
    for parent, status in tasks:
        if parent is not None:
            count = counted.setdefault(parent, Counter())
            if status is not TaskStatus.SUPERSEDED:
                count[status] += 1
    return {parent: Parts(count) for parent, count in counted.items()}
