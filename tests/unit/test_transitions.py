"""The tables of legal moves, and the page made from them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from orchestration.engine.transitions import ORCHESTRATION_TRANSITIONS, TASK_TRANSITIONS, to_markdown
from orchestration.models import SETTLED, TERMINAL, OrchestrationStatus, TaskStatus

ROOT = Path(__file__).parents[2]


S = TypeVar("S", TaskStatus, OrchestrationStatus)


def reachable(first: S, table: Mapping[S, Mapping[S, str]]) -> set[S]:
    found, frontier = {first}, [first]
    while frontier:
        for after in table[frontier.pop()]:
            if after not in found:
                found.add(after)
                frontier.append(after)
    return found


def test_the_page_in_the_docs_is_made_from_the_tables() -> None:
    """docs/state-machine.md is what the command prints."""
    page = (ROOT / "docs" / "state-machine.md").read_text(encoding="utf-8")

    assert page == to_markdown(), "Run: python -m orchestration.engine.transitions > docs/state-machine.md"


def test_the_command_prints_the_page() -> None:
    """It is the one its first lines name."""
    answer = subprocess.run(
        [sys.executable, "-m", "orchestration.engine.transitions"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert answer.stdout.decode() == to_markdown()


def test_every_status_has_its_row() -> None:
    """A new status can't be forgotten."""
    assert set(TASK_TRANSITIONS) == set(TaskStatus)
    assert set(ORCHESTRATION_TRANSITIONS) == set(OrchestrationStatus)


def test_terminal_stays_terminal_but_for_an_explicit_retry() -> None:
    """What completed has no way out; what failed, was skipped or cancelled has only the one back to the beginning."""
    for status in SETTLED | {TaskStatus.SUPERSEDED}:
        is_final = status in {TaskStatus.COMPLETED, TaskStatus.SUPERSEDED}
        back = {TaskStatus.PENDING} | ({TaskStatus.UNKNOWN} if status is TaskStatus.CANCELLED else set())
        assert set(TASK_TRANSITIONS[status]) == (set() if is_final else back)
    for state in TERMINAL:
        is_final = state is OrchestrationStatus.COMPLETED
        back_to = {OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING}
        assert set(ORCHESTRATION_TRANSITIONS[state]) == (set() if is_final else back_to)


def test_every_status_can_be_reached() -> None:
    """From where tasks and orchestrations begin."""
    assert reachable(TaskStatus.PENDING, TASK_TRANSITIONS) == set(TaskStatus)
    assert reachable(OrchestrationStatus.PLANNING, ORCHESTRATION_TRANSITIONS) == set(OrchestrationStatus)
    without_planning = set(OrchestrationStatus) - {OrchestrationStatus.PLANNING}
    assert without_planning <= reachable(OrchestrationStatus.RUNNING, ORCHESTRATION_TRANSITIONS)


@pytest.mark.parametrize(
    "status", [status for status in TaskStatus if status not in SETTLED | {TaskStatus.SUPERSEDED}]
)
def test_whatever_is_not_settled_can_be_cancelled(status: TaskStatus) -> None:
    """Cancel leaves nobody waiting."""
    assert TaskStatus.CANCELLED in TASK_TRANSITIONS[status]


def test_the_page_draws_every_move() -> None:
    """Both diagrams, one line per move."""
    page = to_markdown()

    for table in (TASK_TRANSITIONS, ORCHESTRATION_TRANSITIONS):
        for start, moves in table.items():
            for finish, why in moves.items():
                assert f"    {start} --> {finish}: {why}" in page
    assert page.count("```mermaid") == 2
    assert page.count("[*] --> ") == 3, "tasks begin in one way, orchestrations in two"
