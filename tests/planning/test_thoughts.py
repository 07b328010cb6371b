"""What is thought about a plan is true of it, also where tasks lie inside tasks."""

from __future__ import annotations

from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.thoughts import told_critical_path, told_levels

DRAFT = [
    {"id": "fetch", "estimate": 10},
    {
        "id": "build",
        "depends_on": ["fetch"],
        "estimate": 500,
        "subtasks": [{"id": "left", "estimate": 20}, {"id": "right", "estimate": 5}],
    },
    {"id": "ship", "depends_on": ["build"], "estimate": 1},
]


def test_levels_are_those_of_what_runs() -> None:
    """A task with parts is said to be made of others, and stands on no level."""
    told = told_levels(read_caller_plan(DRAFT).dag)

    assert told == (
        "The plan has 5 tasks, 1 of them made of others, on 3 levels: fetch; then left, right; then ship. "
        "Up to 2 tasks can run at once, for none of a level needs another's output."
    )


def test_the_critical_path_leads_through_the_parts() -> None:
    """An estimate of the whole does not count beside those of its parts."""
    told = told_critical_path(read_caller_plan(DRAFT).dag)

    assert told.startswith("By the tasks' estimates the critical path is fetch → left → ship: 31 s of 36 s")
