"""Runs whole orchestrations under virtual time, with processes that die, stand still and contend; a seed says all.

    python -m tests.simulation.crash_schedules --seed 7            one schedule, told event by event
    python -m tests.simulation.crash_schedules --count 2000        many, with what they went through

The engine is the real one, and so are the replay, the watch over heartbeats and the cache's key. What is simulated:
the shared file with its fencing token, heartbeats and inbox (`store.py`); processes that drive, step by step, and may
die, be suspended or be slow between any two of them (`driver.py`, `schedule.py`); the world in which attempts take
effect, hang, answer late, twice or never (`outside.py`); people who pause, resume, cancel, retry, decide, agree and
change the plan (`edits.py`), at any moment; clocks that jump. What must hold is in `promises.py` and at the end of
`schedule.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.schedule import Schedule
from tests.simulation.surroundings import Point

CLAIMS = ("task_offered", "claim_started", "claim_resumed", "claim_reported", "claim_released")
"""Kinds of the events that tell what becomes of offers."""


class ScheduleFailedError(AssertionError):
    """A schedule broke a promise; the message holds the command that repeats it."""

    def __init__(self, seed: int, reason: BaseException) -> None:
        super().__init__(
            f"seed {seed}: {type(reason).__name__}: {reason}\n"
            f"Repeat: .venv/bin/python -m tests.simulation.crash_schedules --seed {seed}"
        )


@dataclass(slots=True)
class Tally:
    """What many schedules went through."""

    schedules: int = 0
    seconds: float = 0.0
    crashes: Counter[Point] = field(default_factory=Counter)
    crashed_in: Counter[str] = field(default_factory=Counter)
    """Kinds of the events that were being committed, or whose effects were still to come, when a process died."""
    suspensions: int = 0
    takeovers: int = 0
    fenced: int = 0
    stale_starts: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, schedule: Schedule) -> None:
        """Count one that went well."""
        self.schedules += 1
        self.crashes += schedule.crashes
        self.crashed_in += schedule.crashed_in
        self.suspensions += schedule.suspensions
        self.takeovers += schedule.takeovers
        self.fenced += schedule.store.fenced
        self.stale_starts += schedule.stale_starts
        self.happened += schedule.promises.happened
        self.outcomes[schedule.store.folded.status.value] += 1

    @property
    def per_minute(self) -> float:
        return self.schedules / self.seconds * 60 if self.seconds else 0.0

    def lines(self) -> list[str]:
        """Return what is told at the end."""
        happened = self.happened
        ends = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        lines = [
            f"{self.schedules:,} schedules ({self.per_minute:,.0f} a minute), every promise kept: {ends}",
            f"{self.crashes.total():,} crashes:",
        ]
        lines += [f"  {point:<30} {self.crashes[point]:>9,}" for point in Point if point is not Point.WAITING]
        lines += [
            f"{self.suspensions:,} suspensions, {self.takeovers:,} takeovers, {self.fenced:,} fenced writes",
            f"{self.stale_starts:,} attempts begun by a driver whose clock had stood still",
            f"{happened['attempt_started']:,} attempts, {happened['attempt_left_open']:,} left open",
            f"{happened['task_decided']:,} decisions, {happened['decided by a person']:,} of them by people",
            f"{happened['retry_requested']:,} retries, {happened['result_reused']:,} results used again",
            f"{happened['approval_given']:,} approvals, {happened['approval_voided']:,} void",
            f"{happened['task_rerouted']:,} on other systems, {happened['fallback_started']:,} fallbacks",
            f"{happened['plan_revised']:,} alternatives, {happened['replaced by a person']:,} of them by people",
            f"{happened['task_expanded']:,} lists and parents, {happened['plan_extended']:,} parts of plans",
            f"{happened['plan_edited']:,} edits",
            f"{happened['task_offered']:,} offers, {happened['claim_started']:,} claims",
            f"{happened['claim_resumed']:,} late reports that counted, {happened['claim_released']:,} given back",
            f"{happened['claim_reported']:,} results looked at, {happened['replaced by a worker']:,} split",
            f"crashes at splices: {self.crashed_in['plan_revised']:,}",
            f"crashes at edits: {self.crashed_in['plan_edited']:,}",
            f"crashes while planning: {self.crashed_in['plan_extended']:,}",
            f"crashes at claims: {sum(self.crashed_in[kind] for kind in CLAIMS):,}",
        ]
        return lines


def run_many(first: int, count: int) -> Tally:
    """Run `count` schedules, and return what they went through.

    Raises:
        ScheduleFailedError: One broke a promise.
    """
    tally = Tally()
    begun = time.perf_counter()
    for seed in range(first, first + count):
        try:
            tally.add(Schedule(seed).run())
        except Exception as exc:
            raise ScheduleFailedError(seed, exc) from exc
    tally.seconds = time.perf_counter() - begun
    return tally


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.crash_schedules")
    parser.add_argument("--seed", type=int, help="run this one schedule and tell it event by event")
    parser.add_argument("--count", type=int, default=2_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        told = Schedule(arguments.seed, is_told=True).run()
        outcome = told.store.folded.status.value
        sys.stdout.write(f"seed {arguments.seed}: {outcome} after {told.crashes.total()} crashes\n")
        return
    sys.stdout.write("\n".join(run_many(arguments.first, arguments.count).lines()) + "\n")


if __name__ == "__main__":
    main()
