"""Where an orchestration stands, told to a person who has to do something about it."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from server.cli.output import Output
from server.cli.standing import show_status, state_of
from server.tools.standing import sentence

ARGS = argparse.Namespace(config=None, database=None)

STATUS: dict[str, Any] = {
    "orchestration_id": "x-1",
    "goal": "",
    "mode": "hierarchical",
    "state": "running",
    "orphaned": False,
    "driven_by": "process 7 on here",
    "driver_silent_seconds": None,
    "total_tasks": 3,
    "counts": {"running": 1, "completed": 2},
    "progress_percentage": 66.6,
    "current_running_tasks": ["load"],
    "estimated_completion_time": None,
    "revision": 1,
    "elapsed_seconds": 12.0,
    "parallel_efficiency": None,
    "errors": {},
    "waiting_for_decision": {},
    "waiting_for_approval": {},
    "waiting_for_answer": {},
    "waiting_for_worker": [],
    "claimed": {},
    "reason": "",
    "missing_systems": [],
}


def lines(capsys: pytest.CaptureFixture[str], **different: Any) -> list[str]:
    show_status(ARGS, {**STATUS, **different}, Output())
    return capsys.readouterr().out.splitlines()


def test_a_driver_that_is_silent_is_told_with_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    """To a person, and to a model."""
    silent = {"driver_silent_seconds": 20.0}

    shown = lines(capsys, **silent)

    assert "State:         running, driven by process 7 on here, which has been silent for 20.0 s" in shown
    assert sentence({**STATUS, **silent}) == (
        "x-1 is running (its driver, process 7 on here, has been silent for 20 s): 2 of 3 tasks completed, 1 running."
    )


def test_an_orphan_s_tasks_are_cut_off_and_not_running(capsys: pytest.CaptureFixture[str]) -> None:
    """What it means, what keeps it from going on here, and what to type."""
    shown = lines(
        capsys, orphaned=True, driven_by=None, missing_systems=["System 'jobs' is not configured here."]
    )

    assert "State:         running (orphaned)" in shown
    assert "Cut off:       load" in shown
    assert shown[-3].startswith(
        "The process that drove it is gone, and nobody will hear how the attempts it was"
    )
    assert "`advanced-orchestration decide x-1 load retry`, or done, or failed" in shown[-3]
    assert shown[-2:] == [
        "It can't go on here: System 'jobs' is not configured here.",
        "Next: advanced-orchestration resume x-1",
    ]


def test_an_orphan_between_two_tasks_is_only_driven_by_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was cut off; a paused one needs no more words than its state."""
    nobody: dict[str, Any] = {"orphaned": True, "driven_by": None, "current_running_tasks": []}

    assert "No process drives it." in lines(capsys, **nobody)
    assert "No process drives it." not in lines(capsys, **nobody, state="paused")


def test_what_failed_can_be_retried_and_what_was_cancelled_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next step is the one a person most likely wants."""
    ended: dict[str, Any] = {"driven_by": None, "current_running_tasks": []}

    failed = lines(capsys, state="failed", **ended)
    cancelled = lines(capsys, state="cancelled", reason="wrong\nday", **ended)

    assert failed[-1] == "Next: advanced-orchestration retry x-1"
    assert "Reason:        wrong day" in cancelled


def test_the_state_in_a_list_shows_at_once_what_needs_somebody() -> None:
    """Orphaned, waiting for decisions, or both."""
    waiting = {**STATUS, "counts": {"unknown": 2}}

    assert state_of(STATUS) == "running"
    assert state_of(waiting) == "running (2 to decide)"
    assert state_of({**waiting, "orphaned": True}) == "running (orphaned, 2 to decide)"


def test_what_agents_have_and_may_have_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Who has it, and how the others are taken."""
    agents: dict[str, Any] = {
        "counts": {"offered": 3, "claimed": 1},
        "waiting_for_worker": ["think", "draw"],
        "claimed": {"write": "ada"},
    }

    shown = lines(capsys, **agents)

    assert "State:         running (3 for workers), driven by process 7 on here" in shown
    assert "Offered:       think, draw and 1 more wait for a worker (claim_task over MCP)" in shown
    assert "Claimed:       write by ada" in shown
    assert sentence({**STATUS, **agents}) == (
        "x-1 is running: 0 of 3 tasks completed, 3 waiting for a worker, 1 with workers."
    )
