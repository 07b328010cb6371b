"""What completed tasks of a kind took: counted with each orchestration, summed up over the latest ones.

May import: orchestration.{ports, engine.events}, stdlib. Every storage does it alike.

The sums lie beside the summary of the orchestration whose tasks they are of, and go with it. So counting costs a commit
nothing that it does not write anyway, and a look costs the same however many orchestrations there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestration.engine.events import AttemptSucceeded
from orchestration.ports import Commit, History, TaskRow

Kind: TypeAlias = tuple[str, str]
"""A system and a tool; the tool is empty where none is named."""

LOOKED_AT = 500
"""Orchestrations that a look goes through at most, the latest created first."""
_ENOUGH = 50
"""Completed tasks of a kind after which no earlier orchestration is asked: enough to even out chance."""
_MOST_KINDS = 100
"""Kinds counted of one orchestration: what is written with every commit must stay small."""


@dataclass(slots=True)
class Tally:
    """What the completed tasks of one kind took together."""

    completed: int = 0
    seconds: float = 0.0
    costs: int = 0
    """How many of them had a cost."""
    cost: float = 0.0

    def add(self, other: Tally) -> None:
        """Add what others of the kind took."""
        self.completed += other.completed
        self.seconds += other.seconds
        self.costs += other.costs
        self.cost += other.cost


Tallies: TypeAlias = dict[Kind, Tally]


def succeeded_in(commit: Commit) -> list[AttemptSucceeded]:
    """Return the attempts of a commit that completed their tasks; a result that is used again took nothing."""
    return [event for recorded in commit.events if isinstance(event := recorded.event, AttemptSucceeded)]


def count(tallies: Tallies, succeeded: Iterable[AttemptSucceeded], rows: Sequence[TaskRow]) -> None:
    """Add completed tasks to the tallies of their orchestration.

    Args:
        tallies: What is known of the orchestration.
        succeeded: The attempts that completed them.
        rows: The rows of the same commit; a composite took nothing of its own.
    """
    row_of = {row.task_id: row for row in rows}
    for event in succeeded:
        row = row_of.get(event.task_id)
        if row is None or row.system is None or row.is_composite:
            continue
        kind = row.system, row.tool or ""
        tally = tallies.get(kind)
        if tally is None:
            if len(tallies) == _MOST_KINDS:
                continue
            tally = tallies[kind] = Tally()
        tally.completed += 1
        tally.seconds += row.duration_seconds
        if event.cost is not None:
            tally.costs += 1
            tally.cost += event.cost


def summed_up(
    latest_first: Iterable[Mapping[Kind, Tally]], kinds: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], History]:
    """Return what is known of some kinds, going through the tallies of orchestrations until that is enough."""
    found: Tallies = {}
    wanted = {(system, tool or "") for system, tool in kinds}
    for tallies in latest_first:
        if not wanted:
            break
        for kind in wanted & tallies.keys():
            found.setdefault(kind, Tally()).add(tallies[kind])
            if found[kind].completed >= _ENOUGH:
                wanted.discard(kind)
    return {
        (system, tool): _history(found[system, tool or ""])
        for system, tool in kinds
        if (system, tool or "") in found
    }


def _history(tally: Tally) -> History:
    return History(
        count=tally.completed,
        mean_seconds=tally.seconds / tally.completed,
        mean_cost=tally.cost / tally.costs if tally.costs else None,
    )
