"""Scores and ranks, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from orchestration.dag import TaskDAG
from orchestration.engine.prioritizer import DynamicTaskPrioritizer, upward_ranks
from orchestration.engine.state import State, replay
from orchestration.models import OrchestrationMode, TaskEdge, TaskId, TaskNode, TaskPriority
from orchestration.options import PrioritizationOptions
from tests.engine_kit import Bench, graph, plan, submitted

WEIGHTED = PrioritizationOptions(policy="weighted")


def state_of(dag: TaskDAG) -> State:
    return replay("o", dag, [submitted(dag)])


def with_dependents(task: TaskNode, count: int) -> TaskDAG:
    """Return a DAG in which `count` tasks depend on `task`."""
    names = [f"after-{number}" for number in range(count)]
    return graph(
        [task, *(TaskNode(name) for name in names)], *(TaskEdge(task.task_id, name) for name in names)
    )


@pytest.mark.parametrize(
    ("task", "dependents", "score"),
    [
        # priority · 0.3 + time · 0.2 + dependents · 0.3 + simplicity · 0.2
        (TaskNode("t", priority=TaskPriority.LOW, estimated_time_seconds=1.0, complexity_score=1.0), 0, 0.7),
        (
            TaskNode("t", priority=TaskPriority.URGENT, estimated_time_seconds=10.0, complexity_score=5.0),
            2,
            2.16,
        ),
        (
            TaskNode("t", priority=TaskPriority.MEDIUM, estimated_time_seconds=30.0, complexity_score=3.0),
            3,
            1.573333,
        ),
        (TaskNode("t", priority=TaskPriority.HIGH, estimated_time_seconds=0.5, complexity_score=0.2), 1, 1.6),
        (TaskNode("t", priority=TaskPriority.CRITICAL), 0, 1.6),  # what is unknown counts as 0
    ],
)
def test_the_weighted_formula_is_exact(task: TaskNode, dependents: int, score: float) -> None:
    """Nothing in it is normalised: 0.3·priority + 0.2/max(s, 1) + 0.3·dependents + 0.2/max(complexity, 1)."""
    prioritizer = DynamicTaskPrioritizer()

    result = prioritizer.calculate_priority_score(task, with_dependents(task, dependents))

    assert result == pytest.approx(score, abs=1e-6)


def test_the_weights_are_options() -> None:
    """Each term has its own."""
    options = PrioritizationOptions(
        time_weight=1.0, dependency_weight=10.0, complexity_weight=100.0, base_priority_weight=1000.0
    )
    task = TaskNode("t", priority=TaskPriority.HIGH, estimated_time_seconds=4.0, complexity_score=2.0)

    result = DynamicTaskPrioritizer(options).calculate_priority_score(task, with_dependents(task, 2))

    assert result == pytest.approx(3000.0 + 0.25 + 20.0 + 50.0)


def test_only_direct_dependents_count() -> None:
    """A chain behind a task is one dependent."""
    dag = graph("a b c", "a b", "b c")

    score = DynamicTaskPrioritizer().calculate_priority_score(dag.nodes["a"], dag)

    assert score == pytest.approx(0.6 + 0.2 + 0.3 + 0.2)


def test_an_upward_rank_is_the_longest_path_to_the_end() -> None:
    """By hand: d 4, b 2+4, c 7+4, a 1+11."""
    dag = graph("a b c d", "a b", "a c", "b d", "c d")
    expected = {"a": 1.0, "b": 2.0, "c": 7.0, "d": 4.0}

    ranks = upward_ranks(state_of(dag), expected.__getitem__)

    assert ranks == {"a": 12.0, "b": 6.0, "c": 11.0, "d": 4.0}


def test_ranks_are_of_what_is_left() -> None:
    """Settled and superseded tasks have none."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.succeed("a")

    ranks = upward_ranks(bench.state, lambda _: 1.0)

    assert ranks == {"b": 1.0}


def test_ranking_a_chain_of_fifty_thousand_tasks_does_not_recurse() -> None:
    """Depth is no limit."""
    names = [f"t{number}" for number in range(50_000)]
    dag = TaskDAG("chain")
    for name in names:
        dag.nodes[name] = TaskNode(name)
    dag.edges = [TaskEdge(f"t{number}", f"t{number + 1}") for number in range(len(names) - 1)]

    ranks = upward_ranks(state_of(dag), lambda _: 1.0)

    assert ranks["t0"] == 50_000.0


def keys_of(
    dag: TaskDAG, options: PrioritizationOptions, expected: dict[TaskId, float] | None = None
) -> list[TaskId]:
    """Return the tasks in the order of their keys."""
    durations = expected or {}
    keys = DynamicTaskPrioritizer(options).keys(state_of(dag), lambda task_id: durations.get(task_id, 1.0))
    return sorted(keys, key=lambda task_id: keys[task_id])


def test_the_users_priority_comes_before_the_rank() -> None:
    """A LOW task with everything behind it waits for an URGENT one with nothing."""
    dag = graph(
        [
            TaskNode("long", priority=TaskPriority.LOW),
            TaskNode("next", priority=TaskPriority.LOW),
            TaskNode("now", priority=TaskPriority.URGENT),
        ],
        "long next",
    )

    order = keys_of(dag, PrioritizationOptions(), {"long": 100.0})

    assert order == ["now", "long", "next"]


def test_of_equal_priority_the_longest_remaining_path_comes_first() -> None:
    """Not the longest task."""
    dag = graph("big start middle end", "start middle", "middle end")

    order = keys_of(dag, PrioritizationOptions(), {"big": 5.0, "start": 2.0, "middle": 2.0, "end": 2.0})

    assert order == ["start", "big", "middle", "end"]


def test_the_weighted_policy_orders_by_the_formulas_score() -> None:
    """It does not look at the path."""
    short = TaskNode("short", estimated_time_seconds=1.0)
    long = TaskNode("long", estimated_time_seconds=100.0)
    hub = TaskNode("hub", estimated_time_seconds=100.0)
    dag = graph([long, short, hub, TaskNode("x", estimated_time_seconds=100.0)], "hub x")

    order = keys_of(dag, WEIGHTED)

    # hub 0.6+0.002+0.3+0.2, short 0.6+0.2+0+0.2, long and x 0.6+0.002+0+0.2
    assert order == ["hub", "short", "long", "x"]


def test_both_policies_rank_the_tasks_of_an_alternative() -> None:
    """They take the superseded task's place, dependents included."""
    bench = Bench(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.offer("a", plan("x y", "x y"))

    ranks = upward_ranks(bench.state, lambda _: 1.0)

    assert {task_id: ranks[task_id] for task_id in ("x~1", "y~1", "b")} == {"x~1": 3.0, "y~1": 2.0, "b": 1.0}
    keys = DynamicTaskPrioritizer(WEIGHTED).keys(bench.state, lambda _: 1.0)
    assert keys["y~1"] == keys["x~1"]
