"""A storm: several real processes on one SQLite file, killed, stopped and asked for things at random moments.

    python -m tests.chaos.storm --minutes 5 [--seed S]           storms for five minutes, each with another seed
    python -m tests.chaos.storm --schedules 1 --seed S            the one with this seed

Library workers and the real command line drive the same orchestrations. At the end of each storm the effects, which the
tasks leave outside of the database, are compared with the journal (`checking.py`). A seed says what is planned; when
exactly a process dies is up to the machine. The exit code is 1 when a promise was broken; the folder with the database
is kept then.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from tests.chaos.tempest import Tempest

_LONGEST_SECONDS = 120.0
"""Of one storm; far more than any needs."""


@dataclass(slots=True)
class Weather:
    """What all storms came to."""

    schedules: int = 0
    kills: int = 0
    suspensions: int = 0
    takeovers: int = 0
    fenced: int = 0
    requests: int = 0
    tasks: int = 0
    lost: int = 0
    repeated: int = 0
    repeated_once: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, tempest: Tempest) -> None:
        """Count one storm that is over."""
        verdict = tempest.verdict
        self.schedules += 1
        self.kills += tempest.kills
        self.suspensions += tempest.suspensions
        self.takeovers += tempest.takeovers
        self.fenced += tempest.fenced
        self.requests += tempest.requests
        self.tasks += verdict.completed
        self.lost += len(verdict.lost)
        self.repeated += len(verdict.repeated)
        self.repeated_once += len(verdict.repeated_once)

    def line(self, left_seconds: float) -> str:
        """Return how it stands, on one line."""
        return (
            f"{self.schedules} schedules, {self.kills} kills, {self.suspensions} suspensions, "
            f"{len(self.violations)} violations, {max(0, left_seconds):.0f} s left"
        )

    def table(self) -> str:
        """Return what is told at the end."""
        rows = {
            "schedules tried": self.schedules,
            "kills survived": self.kills,
            "suspensions": self.suspensions,
            "takeovers": self.takeovers,
            "fenced drivers": self.fenced,
            "requests of people": self.requests,
            "tasks completed": self.tasks,
            "effects lost": self.lost,
            "completed tasks repeated": self.repeated,
            "non-idempotent tasks repeated": self.repeated_once,
            "other violations": len(self.violations) - self.lost - self.repeated - self.repeated_once,
        }
        return "\n".join(f"{name:<30} {count:>8,}" for name, count in rows.items())


class Storm:
    """Storms, a few at a time.

    Args:
        seed: Of the first one; the next ones have the next numbers.
        schedules: How many; None: as many as there is time for.
        minutes: For how long new ones are begun.
        at_once: How many rage side by side.
        is_shown: Whether to tell the progress.
    """

    def __init__(
        self,
        seed: int,
        *,
        schedules: int | None = None,
        minutes: float = 1.0,
        at_once: int = 3,
        is_shown: bool = False,
    ) -> None:
        self.weather = Weather()
        self._seed = seed
        self._left = schedules
        self._until = time.perf_counter() + minutes * 60
        self._at_once = at_once
        self._is_shown = is_shown

    async def rage(self) -> Weather:
        """Go on until time is up, or everything planned is done."""
        async with anyio.create_task_group() as group:
            for _ in range(self._at_once):
                group.start_soon(self._one_after_the_other)
        return self.weather

    async def _one_after_the_other(self) -> None:
        while (self._left is None or self._left > 0) and self._seconds_left() > 0:
            seed, self._seed = self._seed, self._seed + 1
            if self._left is not None:
                self._left -= 1
            await self._one(seed)
            if self._is_shown:
                line = self.weather.line(self._seconds_left())
                sys.stdout.write(f"\r{line}   " if sys.stdout.isatty() else f"{line}\n")
                sys.stdout.flush()

    async def _one(self, seed: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"storm-{seed}-"))
        tempest = Tempest(folder, random.Random(seed))
        broken: list[str] = []
        try:
            with anyio.fail_after(_LONGEST_SECONDS):
                await tempest.rage()
            broken = tempest.violations
        except TimeoutError:
            broken = [f"it did not end within {_LONGEST_SECONDS:g} s: {tempest.last_seen}"]
        self.weather.add(tempest)
        if not broken:
            shutil.rmtree(folder)
            return
        repeat = f".venv/bin/python -m tests.chaos.storm --schedules 1 --seed {seed}"
        self.weather.violations += [f"seed {seed}: {each} ({folder}; again: {repeat})" for each in broken]

    def _seconds_left(self) -> float:
        return self._until - time.perf_counter()


def main() -> int:
    """Storm, tell, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm")
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long new storms are begun")
    parser.add_argument("--schedules", type=int, help="how many storms at most")
    parser.add_argument("--seed", type=int, default=None, help="of the first storm; drawn when absent")
    parser.add_argument("--at-once", type=int, default=3, help="storms side by side")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"first seed {seed}\n")
    storm = Storm(
        seed,
        schedules=arguments.schedules,
        minutes=arguments.minutes,
        at_once=arguments.at_once,
        is_shown=True,
    )
    weather = anyio.run(storm.rage)
    sys.stdout.write(f"\n{weather.table()}\n")
    for violation in weather.violations:
        sys.stdout.write(f"BROKEN  {violation}\n")
    return 1 if weather.violations else 0


if __name__ == "__main__":
    sys.exit(main())
