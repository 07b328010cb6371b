"""What tasks are expected to take is always said with where the figure comes from."""

from __future__ import annotations

import pytest

from orchestration.dag import TaskDAG
from orchestration.estimates import Kind, TaskEstimate, estimates_of, kinds_of, told_sources
from orchestration.models import TaskNode
from orchestration.records import History


def _dag() -> TaskDAG:
    dag = TaskDAG("d")
    for node in (
        TaskNode("planned", tool="query", estimated_time_seconds=30, complexity_score=4, cost=2),
        TaskNode("known", tool="query"),
        TaskNode("new", tool="other"),
        TaskNode("whole", estimated_time_seconds=500, complexity_score=9, cost=70),
        TaskNode("part", tool="other", parent="whole"),
    ):
        dag.add_task(node)
    return dag


ROUTES = {"planned": "db", "known": "db", "new": "db", "part": "files"}
HISTORY: dict[Kind, History] = {("db", "query"): History(count=3, mean_seconds=10, mean_cost=0.5)}


def test_the_plan_comes_first_then_the_history_then_the_mean() -> None:
    """Each figure by itself: a cost may be known where a complexity is not; a parent leaves all to its parts."""
    found = estimates_of(_dag(), ROUTES, HISTORY)

    told = {
        task_id: (
            (estimate.seconds, estimate.seconds_from),
            (estimate.complexity, estimate.complexity_from),
            (estimate.cost, estimate.cost_from),
        )
        for task_id, estimate in found.items()
    }
    assert told == {
        "planned": ((30, "plan"), (4, "plan"), (2, "plan")),
        "known": ((10, "history"), (4, "mean"), (0.5, "history")),
        "new": ((20, "mean"), (4, "mean"), (1.25, "mean")),
        "whole": ((0, "parts"), (0, "parts"), (0, "parts")),
        "part": ((20, "mean"), (4, "mean"), (1.25, "mean")),
    }


def test_where_nothing_is_known_a_default_is_assumed() -> None:
    """And a history without costs says nothing about them."""
    dag = TaskDAG("d")
    dag.add_task(TaskNode("a", tool="t"))
    no_costs: dict[Kind, History] = {("db", "t"): History(count=1, mean_seconds=7)}

    assert estimates_of(dag, {}, {})["a"] == TaskEstimate(
        seconds=1,
        complexity=0,
        cost=0,
        seconds_from="default",
        complexity_from="default",
        cost_from="default",
    )
    found = estimates_of(dag, {"a": "db"}, no_costs)["a"]
    assert (found.seconds_from, found.cost_from) == ("history", "default")


def test_the_history_is_asked_about_each_kind_once() -> None:
    """Not about parents, nor about tasks that go nowhere."""
    assert kinds_of(_dag(), ROUTES | {"whole": "db"}) == [
        ("db", "query"),
        ("db", "other"),
        ("files", "other"),
    ]
    assert kinds_of(_dag(), {}) == []


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        (
            ROUTES,
            "Durations: 1 from the plan, 1 from earlier tasks of the same tool, 2 the mean of the others.",
        ),
        ({}, "Durations: 1 from the plan, 3 the mean of the others."),
    ],
)
def test_the_sources_are_told_in_a_sentence(routes: dict[str, str], told: str) -> None:
    """Parents have no figures of their own, so they are not counted."""
    assert told_sources(estimates_of(_dag(), routes, HISTORY).values()) == told


def test_a_plan_without_figures_says_so() -> None:
    """Nothing is passed off as known."""
    dag = TaskDAG("d")
    dag.add_task(TaskNode("a"))

    assert told_sources(estimates_of(dag, {}, {}).values()) == "Durations: 1 assumed, for nothing is known."
    assert told_sources([]) == "Nothing runs."
