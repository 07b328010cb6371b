"""What a DAG is expected to take, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestration import InvalidArgumentError, TaskDAG, TaskEdge, TaskNode
from orchestration.execution.simulator import estimate


def diamond(seconds: Mapping[str, float]) -> TaskDAG:
    dag = TaskDAG("diamond")
    for task_id, duration in seconds.items():
        dag.add_task(TaskNode(task_id, estimated_time_seconds=duration))
    for source, target in (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")):
        dag.add_dependency(TaskEdge(source, target))
    return dag


@pytest.mark.parametrize(("workers", "expected"), [(1, 7), (2, 5), (9, 5)])
def test_an_estimate_counts_what_workers_can_do(workers: int, expected: float) -> None:
    """With one worker it is the work, with enough of them the critical path."""
    assert estimate(diamond({"a": 1, "b": 3, "c": 2, "d": 1}), workers) == {
        "tasks": 4,
        "width": 2,
        "critical_path_seconds": 5,
        "expected_seconds": expected,
    }


def test_an_estimate_prefers_the_longest_path() -> None:
    """A free worker takes the task with the most behind it, as the engine does."""
    dag = TaskDAG("x")
    for task_id, seconds in (("short", 1), ("other", 1), ("long", 1), ("behind", 5)):
        dag.add_task(TaskNode(task_id, estimated_time_seconds=seconds))
    dag.add_dependency(TaskEdge("long", "behind"))

    assert estimate(dag, 2)["expected_seconds"] == 6


def test_an_estimate_needs_a_worker() -> None:
    """Nothing runs on none."""
    with pytest.raises(InvalidArgumentError, match="workers is 0; expected 1 or more"):
        estimate(diamond({"a": 1, "b": 1, "c": 1, "d": 1}), 0)
