"""What every storage does alike, written once: the order of a journal, ids that count up, sums for metrics.

May import: orchestration.{models, ports}, stdlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from orchestration.models import OrchestrationStatus, TaskStatus
from orchestration.ports import Commit, OrchestrationTotals, Summary


def check_sequence(commit: Commit, last_seq: int) -> None:
    """Check that a commit's events follow the last stored one without a gap.

    Raises:
        ValueError: They don't; a bug of the caller, as the fencing token keeps strangers out.
    """
    expected, owner = last_seq + 1, commit.lease.orchestration_id
    for recorded in commit.events:
        if recorded.seq != expected:
            raise ValueError(f"The journal of {owner!r} goes on with seq {expected}, not {recorded.seq}.")
        if recorded.orchestration_id != owner:
            raise ValueError(f"An event of {recorded.orchestration_id!r} is in a commit of {owner!r}.")
        expected += 1


def next_free_id(base_id: str, last: int, is_taken: Callable[[str], bool]) -> tuple[str, int]:
    """Return `base_id-N` and its N, the first over `last` that nobody chose by hand."""
    number = last + 1
    while is_taken(f"{base_id}-{number}"):
        number += 1
    return f"{base_id}-{number}", number


def add_up(summaries: Iterable[Summary]) -> OrchestrationTotals:
    """Return the sums and averages over `summaries`."""
    by_state: Counter[OrchestrationStatus] = Counter()
    tasks_by_status: Counter[TaskStatus] = Counter()
    makespans: list[float] = []
    efficiencies: list[float] = []
    attempts, work_seconds, cost = 0, 0.0, 0.0
    for summary in summaries:
        by_state[summary.state] += 1
        tasks_by_status.update(summary.counts)
        attempts += summary.attempts
        work_seconds += summary.work_seconds
        cost += summary.cost
        if summary.state.is_terminal:
            makespans += [] if summary.makespan_seconds is None else [summary.makespan_seconds]
            efficiencies += [] if summary.parallel_efficiency is None else [summary.parallel_efficiency]
    return OrchestrationTotals(
        by_state=dict(by_state),
        tasks_by_status=dict(tasks_by_status),
        attempts=attempts,
        average_makespan_seconds=_average(makespans),
        average_parallel_efficiency=_average(efficiencies),
        work_seconds=work_seconds,
        cost=cost,
    )


def _average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
