"""Seeded schedules with crashes at any commit: nothing committed is lost, nothing done is done again, all ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation import crash_schedules
from tests.simulation.crash_schedules import Schedule, ScheduleFailedError, run_many

ROOT = Path(__file__).parents[2]


def test_whatever_dies_whenever_nothing_is_lost_or_repeated(
    record_property: Callable[[str, object], None],
) -> None:
    """ "Done is done. A completed task never runs again, whatever process dies"."""
    crashes, rate = run_many(0, 500)

    record_property("schedules_per_second", round(rate))
    assert crashes > 500
    assert rate > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_dies_whenever_over_thousands_of_schedules() -> None:
    """The same for long."""
    crashes, rate = run_many(10_000, 10_000)

    print(f"{rate:.0f} schedules/s, {crashes} crashes")
    assert crashes > 10_000


def test_a_seed_says_everything() -> None:
    """The same seed gives the same journal."""
    first, second = Schedule(3).run(), Schedule(3).run()

    assert first.committed == second.committed
    assert first.committed != Schedule(4).run().committed


def test_a_failing_seed_names_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to work out how to see it again."""

    def broken(schedule: Schedule) -> Schedule:
        if schedule.seed == 8:
            raise AssertionError("a promise broke")
        return schedule

    monkeypatch.setattr(crash_schedules.Schedule, "run", broken)

    with pytest.raises(ScheduleFailedError) as caught:
        run_many(0, 10)

    assert str(caught.value) == (
        "seed 8: AssertionError: a promise broke\n"
        "Repeat: .venv/bin/python -m tests.simulation.crash_schedules --seed 8"
    )


def test_the_command_tells_a_schedule_event_by_event() -> None:
    """What the message of a failing seed names works."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.simulation.crash_schedules", "--seed", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "AttemptStarted(" in answer.stdout
    assert answer.stdout.splitlines()[-1].startswith("seed 3: ")
