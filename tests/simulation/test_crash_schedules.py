"""Seeded schedules with crashes, suspensions and contending drivers: nothing is lost, nothing done is done again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.crash_schedules import CLAIMS, ScheduleFailedError, run_many
from tests.simulation.schedule import Schedule
from tests.simulation.surroundings import Point

ROOT = Path(__file__).parents[2]


def test_whatever_dies_or_stands_still_nothing_is_lost_or_repeated(
    record_property: Callable[[str, object], None],
) -> None:
    """ "Done is done. A completed task never runs again, whatever process dies"."""
    tally = run_many(0, 800)

    record_property("schedules_per_minute", round(tally.per_minute))
    assert set(tally.crashes) == set(Point) - {Point.WAITING}, "no point was passed over"
    assert tally.crashes.total() > 800
    assert tally.fenced > 10
    assert tally.stale_starts > 0
    assert tally.happened["decided by a person"] > 60
    assert tally.happened["task_decided"] > tally.happened["decided by a person"], "`verify` decided, too"
    for rare in (
        "approval_voided",
        "task_rerouted",
        "fallback_started",
        "caller_asked",
        "replaced by a person",
        "claim_resumed",
        "claim_released",
        "claim_reported",
        "replaced by a worker",
    ):
        assert tally.happened[rare] > 2, rare


@pytest.mark.slow
def test_a_process_may_die_while_a_plan_is_made_spliced_or_edited() -> None:
    """Before the revision is stored, after it, and before what depends on it starts: the promises hold."""
    tally = run_many(50_000, 1_200)

    for kind in ("plan_extended", "plan_revised", "plan_edited", "plan_completed", "task_expanded"):
        assert tally.crashed_in[kind] > 3, kind


@pytest.mark.slow
def test_a_process_may_die_between_what_a_worker_is_told_and_what_the_journal_knows_of_it() -> None:
    """A claim or a report is durable before anybody drives of it: the next driver does."""
    tally = run_many(80_000, 1_200)

    for kind in CLAIMS:
        assert tally.crashed_in[kind] > 3, kind


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_dies_or_stands_still_over_tens_of_thousands_of_schedules() -> None:
    """The same for long, and at 2,000 schedules a minute or more."""
    tally = run_many(1_000_000, 25_000)

    print("\n".join(tally.lines()))
    assert min(tally.crashes[point] for point in Point if point is not Point.WAITING) > 500
    assert tally.per_minute > 2_000


def test_a_seed_says_everything() -> None:
    """The same seed gives the same journal."""
    first, second = Schedule(3).run(), Schedule(3).run()

    assert first.store.journal == second.store.journal
    assert first.store.journal != Schedule(4).run().store.journal


def test_a_failing_seed_names_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to work out how to see it again."""

    def broken(schedule: Schedule) -> Schedule:
        if schedule.seed == 8:
            raise AssertionError("a promise broke")
        return schedule

    monkeypatch.setattr(Schedule, "run", broken)

    with pytest.raises(ScheduleFailedError) as caught:
        run_many(0, 10)

    assert str(caught.value) == (
        "seed 8: AssertionError: a promise broke\n"
        "Repeat: .venv/bin/python -m tests.simulation.crash_schedules --seed 8"
    )


def test_the_command_tells_a_schedule_event_by_event() -> None:
    """What the message of a failing seed names works."""
    answer = _command("--seed", "3")

    assert "AttemptStarted(" in answer
    assert answer.splitlines()[-1].startswith("seed 3: ")


def test_the_command_tells_what_many_schedules_went_through() -> None:
    """Schedules a minute, crashes per named point, takeovers, fenced writes, decisions."""
    answer = _command("--count", "20")

    assert answer.startswith("20 schedules (")
    assert all(f"  {point}" in answer for point in Point if point is not Point.WAITING)
    assert "takeovers" in answer
    assert "fenced writes" in answer
    assert "decisions" in answer


def _command(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation.crash_schedules", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout
