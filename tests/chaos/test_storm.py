"""Random kills, stops and requests over real processes: a short storm here, `make chaos` for as long as one likes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import anyio
import pytest

from tests.chaos import storm
from tests.chaos.checking import Verdict
from tests.chaos.storm import Storm
from tests.chaos.tempest import Tempest

pytestmark = pytest.mark.anyio


async def test_a_short_storm_loses_and_repeats_nothing() -> None:
    """Library workers and command lines on one file; effects are counted outside of it."""
    with anyio.fail_after(110):
        weather = await Storm(3, schedules=2, at_once=2).rage()

    assert weather.violations == []
    assert weather.schedules == 2
    assert weather.kills > 0
    assert weather.tasks > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_longer_storm_loses_and_repeats_nothing() -> None:
    """Long enough for takeovers, suspensions and fenced drivers of every kind."""
    with anyio.fail_after(380):
        weather = await Storm(100, minutes=2.0).rage()

    print(weather.table())
    assert weather.violations == []
    assert weather.kills > 50
    assert weather.suspensions > 5
    assert weather.takeovers > 20


def test_a_broken_promise_ends_with_exit_code_1_and_keeps_the_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the seed, the folder and the command that repeats it."""

    async def lose_an_effect(tempest: Tempest) -> None:
        tempest.place.database.touch()
        tempest.verdict = Verdict(lost=["one-1:t3#1"])
        tempest.violations = tempest.verdict.violations

    def folder(prefix: str) -> str:
        (tmp_path / prefix).mkdir()
        return str(tmp_path / prefix)

    monkeypatch.setattr(Tempest, "rage", lose_an_effect)
    monkeypatch.setattr(tempfile, "mkdtemp", folder)
    monkeypatch.setattr(sys, "argv", ["storm", "--schedules", "1", "--seed", "4"])

    code = storm.main()

    said = capsys.readouterr().out
    assert code == 1
    assert "effects lost                          1" in said
    assert f"BROKEN  seed 4: effect lost: one-1:t3#1 ({tmp_path / 'storm-4-'}; again: " in said
    assert "python -m tests.chaos.storm --schedules 1 --seed 4)" in said
    assert (tmp_path / "storm-4-" / "state.db").exists()
