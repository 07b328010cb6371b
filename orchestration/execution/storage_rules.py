"""What every storage does alike, written once: the order of a journal, ids that count up, what is kept and how long.

May import: orchestration.{errors, models, ports}, stdlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from orchestration.errors import PlanNotFoundError, RevisionConflictError
from orchestration.models import OrchestrationId, OrchestrationStatus, PlanId, TaskStatus
from orchestration.ports import (
    CacheEntry,
    Commit,
    ControlAnswer,
    NewOrchestration,
    NewPlan,
    OrchestrationTotals,
    PlanRevision,
    Retention,
    Revision,
    StoredOutput,
    Summary,
)

T = TypeVar("T")

_DAY_US = 24 * 3600 * 1_000_000

ANSWERS_KEPT_US = _DAY_US
"""How long the answer to a request is kept for whoever sent it: far longer than anybody waits."""

ABANDONED_AFTER_US = _DAY_US
"""How long a driver must have been silent for housekeeping to count what it holds as nobody's, once that has ended.

Who is killed right after an end never gives its lease back, and nobody takes over what has ended. A holder that never
gave a heartbeat may be about to: it has its lease.
"""

# --- What is added ------------------------------------------------------------------------------------------------


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


def cached_output(commit: Commit, entry: CacheEntry) -> StoredOutput:
    """Return the output that a cache entry of a commit stands for.

    Raises:
        ValueError: The commit has no output of that task; a bug of the caller.
    """
    for output in reversed(commit.outputs):
        if output.task_id == entry.task_id:
            return output
    owner = commit.lease.orchestration_id
    raise ValueError(f"A commit of {owner!r} caches the output of {entry.task_id!r}, which it does not have.")


def check_answer(answer: ControlAnswer, answering: OrchestrationId, *, of: OrchestrationId) -> None:
    """Check that a request is answered by the orchestration it was sent to: its token guards nothing else.

    Raises:
        ValueError: It isn't; a bug of the caller.
    """
    if answering != of:
        raise ValueError(
            f"A commit of {answering!r} answers request {answer.control_id}, which was sent to {of!r}."
        )


def check_revisions(commit: Commit, latest: int) -> int:
    """Check that a commit's revisions go on after the latest one that is stored, and return their last.

    Raises:
        ValueError: They don't; a bug of the caller.
    """
    for made in commit.revisions:
        if made.revision <= latest:
            owner = commit.lease.orchestration_id
            raise ValueError(
                f"The revisions of {owner!r} go on after {latest}; a commit brings {made.revision}."
            )
        latest = made.revision
    return latest


def check_reused(new: NewOrchestration) -> None:
    """Check that outputs are taken over for tasks the new orchestration has.

    Raises:
        ValueError: They aren't; a bug of the caller.
    """
    known = {row.task_id for row in new.tasks}
    for reused in new.reused:
        if reused.task_id not in known:
            raise ValueError(
                f"A new orchestration takes over an output for {reused.task_id!r}, which it does not have."
            )


def ended_at_us(summary: Summary, updated_at_us: int) -> int | None:
    """Return since when an orchestration has ended; None while it has not."""
    if not summary.state.is_terminal:
        return None
    return updated_at_us if summary.finished_at_us is None else summary.finished_at_us


# --- Revisions of plans -------------------------------------------------------------------------------------------


def first_revision(plan: NewPlan) -> Revision:
    """Return the entry of a plan's log that it begins with."""
    return Revision(
        revision=1, by=plan.planner, reason="", told="what it began with", at_us=plan.created_at_us
    )  # the migration to schema version 3 says the same of earlier plans


def next_revision(plan_id: PlanId, present: int, made: PlanRevision) -> Revision:
    """Return the entry of a plan's log that a new revision adds.

    Raises:
        RevisionConflictError: It was made of another revision than the present one.
    """
    if made.expected_revision != present:
        raise RevisionConflictError(plan_id, made.expected_revision, present)
    return Revision(
        revision=present + 1,
        by=made.by,
        reason=made.reason,
        told=made.told,
        at_us=made.at_us,
        undoes=made.undoes,
    )


def no_such_revision(plan_id: PlanId, revision: int) -> PlanNotFoundError:
    """Return the error that says that there is a plan, but not this revision of it."""
    return PlanNotFoundError(plan_id, revision)


# --- Ids ----------------------------------------------------------------------------------------------------------


def next_free_id(base_id: str, last: int, is_taken: Callable[[str], bool]) -> tuple[str, int]:
    """Return `base_id-N` and its N, the first over `last` that nobody chose by hand."""
    number = last + 1
    while is_taken(f"{base_id}-{number}"):
        number += 1
    return f"{base_id}-{number}", number


def numbered(record_id: str) -> tuple[str, int] | None:
    """Return the base id and the number that `next_free_id` would make an id of; None when it never makes it."""
    base_id, _, digits = record_id.rpartition("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and digits == str(int(digits))):
        return None
    return base_id, int(digits)


# --- Retention ----------------------------------------------------------------------------------------------------


def instant_before(now_us: int, seconds: float | None) -> int | None:
    """Return the instant that many seconds before now; None for ever before."""
    return None if seconds is None else max(0, now_us - round(seconds * 1_000_000))


def to_be_removed(
    ended: Iterable[tuple[T, int]], count: int, retention: Retention, now_us: int
) -> Iterator[T]:
    """Yield those of `ended` that are too old or too many.

    Args:
        ended: What has ended and nobody holds, each with when it ended, the longest ended first.
        count: How many have ended, those that somebody holds included.
        retention: What is to be kept.
        now_us: The present.
    """
    before = instant_before(now_us, retention.remove_after_seconds)
    excess = 0 if retention.keep_finished is None else count - retention.keep_finished
    for removed, (each, finished_at_us) in enumerate(ended):
        if removed >= excess and (before is None or finished_at_us > before):
            return
        yield each


# --- Sums ---------------------------------------------------------------------------------------------------------


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
