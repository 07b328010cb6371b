"""What-if: the real engine under virtual time."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import CycleError, InvalidArgumentError, UnknownDependencyError
from orchestration.execution.simulator import simulate
from orchestration.models import Fallback, OrchestrationMode, TaskEdge, TaskNode, TaskPriority
from orchestration.options import OrchestratorOptions, PrioritizationOptions
from tests.engine_kit import graph


def timed(edges: list[str], **seconds: float) -> TaskDAG:
    return graph([TaskNode(name, estimated_time_seconds=value) for name, value in seconds.items()], *edges)


def check_schedule(dag: TaskDAG, answer: dict[str, Any]) -> None:
    """Check that a schedule is one: everything once, upstream first, no worker twice at once."""
    entries = {entry["task_id"]: entry for entry in answer["schedule"]}
    assert set(entries) == set(dag.nodes)
    assert len(answer["schedule"]) == len(dag.nodes)
    for edge in dag.edges:
        assert entries[edge.source_task_id]["finish_seconds"] <= entries[edge.target_task_id]["start_seconds"]
    by_worker: dict[int, list[tuple[float, float]]] = {}
    for entry in answer["schedule"]:
        by_worker.setdefault(entry["worker"], []).append((entry["start_seconds"], entry["finish_seconds"]))
    for spans in by_worker.values():
        for (_, finish), (start, _) in itertools.pairwise(sorted(spans)):
            assert finish <= start
    assert set(by_worker) <= set(range(answer["workers"]))
    assert answer["makespan_seconds"] == max(entry["finish_seconds"] for entry in answer["schedule"])
    assert answer["makespan_seconds"] >= answer["lower_bound_seconds"] - 1e-6


def test_a_diamond_takes_its_longest_path() -> None:
    """1 + max(2, 5) + 1."""
    dag = timed(["a b", "a c", "b d", "c d"], a=1.0, b=2.0, c=5.0, d=1.0)

    answer = simulate(dag, workers=2)

    assert answer == {
        "dag_id": "dag",
        "mode": "hierarchical",
        "workers": 2,
        "total_tasks": 4,
        "makespan_seconds": 7.0,
        "lower_bound_seconds": 7.0,
        "critical_path": ["a", "c", "d"],
        "cost": 0,
        "utilization": pytest.approx(9 / 14),
        "schedule": [
            {"task_id": "a", "start_seconds": 0.0, "finish_seconds": 1.0, "worker": 0},
            {"task_id": "c", "start_seconds": 1.0, "finish_seconds": 6.0, "worker": 0},
            {"task_id": "b", "start_seconds": 1.0, "finish_seconds": 3.0, "worker": 1},
            {"task_id": "d", "start_seconds": 6.0, "finish_seconds": 7.0, "worker": 0},
        ],
    }
    check_schedule(dag, answer)


def test_the_answer_is_plain_json() -> None:
    """It is printed by `simulate --json`."""
    answer = simulate(timed([], a=1.0), workers=1)

    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
@pytest.mark.parametrize("mode", list(OrchestrationMode))
@pytest.mark.parametrize("policy", ["upward_rank", "weighted"])
def test_every_answer_is_a_schedule(workers: int, mode: OrchestrationMode, policy: Any) -> None:
    """Whatever the mode, the policy and the number of workers."""
    names = [f"t{number}" for number in range(30)]
    nodes = [
        TaskNode(name, estimated_time_seconds=float(number % 7), priority=TaskPriority(1 + number % 5))
        for number, name in enumerate(names)
    ]
    edges = [
        TaskEdge(a, b, is_optional=(i + j) % 5 == 0)
        for (i, a), (j, b) in itertools.combinations(enumerate(names), 2)
        if (i * 7 + j * 3) % 11 == 0
    ]
    dag = graph(nodes, *edges)
    options = OrchestratorOptions(prioritization=PrioritizationOptions(policy=policy))

    answer = simulate(dag, workers=workers, mode=mode, options=options)

    check_schedule(dag, answer)
    assert 0 < answer["utilization"] <= 1


def test_simple_runs_one_after_the_other_in_topological_order() -> None:
    """However many workers there are."""
    dag = timed(["c a"], a=1.0, b=2.0, c=3.0)

    answer = simulate(dag, workers=4, mode=OrchestrationMode.SIMPLE)

    assert [entry["task_id"] for entry in answer["schedule"]] == dag.topological_sort()
    assert (answer["makespan_seconds"], answer["workers"]) == (6.0, 1)
    assert answer["lower_bound_seconds"] == 6.0
    assert answer["utilization"] == 1.0


def test_true_durations_leave_the_estimates_to_guide_the_order() -> None:
    """ "The DAG's estimates then only guide priority"."""
    dag = timed([], looks_long=10.0, looks_short=1.0)

    answer = simulate(dag, workers=1, durations={"looks_long": 1.0, "looks_short": 10.0})

    assert [entry["task_id"] for entry in answer["schedule"]] == ["looks_long", "looks_short"]
    assert answer["makespan_seconds"] == 11.0
    assert answer["critical_path"] == ["looks_short"]


def test_a_task_nobody_timed_takes_its_expected_duration() -> None:
    """Its estimate, else the mean of the estimates."""
    dag = graph(
        [TaskNode("a", estimated_time_seconds=2.0), TaskNode("b", estimated_time_seconds=4.0), TaskNode("c")]
    )

    answer = simulate(dag, workers=3, durations={"a": 7.0})

    assert {entry["task_id"]: entry["finish_seconds"] for entry in answer["schedule"]} == {
        "a": 7.0,
        "b": 4.0,
        "c": 3.0,
    }


def test_conditions_and_data_are_taken_to_deliver() -> None:
    """What they will say can't be known beforehand."""
    dag = graph(
        "a b c",
        "a b if output.n > 1",
        TaskEdge("a", "c", ["path"], condition="status == 'failed'"),
    )

    answer = simulate(dag, workers=2)

    assert len(answer["schedule"]) == 3
    check_schedule(dag, answer)


def test_costs_add_up() -> None:
    """One attempt each."""
    dag = graph([TaskNode("a", cost=1.5), TaskNode("b", cost=2.0), TaskNode("c")])

    assert simulate(dag)["cost"] == 3.5


def test_tasks_that_take_no_time_are_run_too() -> None:
    """The makespan is zero and nothing divides by it."""
    dag = timed(["a b", "b c"], a=0.0, b=0.0, c=0.0)

    answer = simulate(dag, workers=2)

    assert [entry["task_id"] for entry in answer["schedule"]] == ["a", "b", "c"]
    assert (answer["makespan_seconds"], answer["utilization"]) == (0.0, 1.0)


def test_the_same_question_gets_the_same_answer_and_leaves_the_dag_alone() -> None:
    """No clock, no randomness."""
    dag = graph("a b c d", "a b if output.ok", "a c?", "c d")
    before = dag.copy()

    assert simulate(dag, workers=2) == simulate(dag, workers=2)
    assert dag == before


def test_the_options_decide_what_is_not_said() -> None:
    """Concurrency and mode."""
    dag = timed([], a=1.0, b=1.0, c=1.0)

    parallel = simulate(dag, options=OrchestratorOptions(max_concurrent_tasks=3))
    alone = simulate(
        dag, options=OrchestratorOptions(max_concurrent_tasks=3, enable_parallel_execution=False)
    )
    simple = simulate(dag, options=OrchestratorOptions(default_mode=OrchestrationMode.SIMPLE))

    assert [answer["makespan_seconds"] for answer in (parallel, alone, simple)] == [1.0, 3.0, 3.0]
    assert simple["mode"] == "simple"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers is 0; expected 1 or more."),
        ({"workers": -3}, "workers is -3; expected 1 or more."),
        ({"durations": {"x": 1.0}}, "durations is 'x'; expected the id of a task in the DAG."),
        ({"durations": {"a": -1.0}}, "durations.a is -1.0; expected a number of seconds, 0 or more."),
        ({"durations": {"a": math.nan}}, "durations.a is nan; expected a number of seconds, 0 or more."),
        ({"durations": {"a": math.inf}}, "durations.a is inf; expected a number of seconds, 0 or more."),
        ({"durations": {"a": "1"}}, "durations.a is '1'; expected a number of seconds, 0 or more."),
        ({"durations": {"a": True}}, "durations.a is True; expected a number of seconds, 0 or more."),
        ({"durations": {"a": None}}, "durations.a is None; expected a number of seconds, 0 or more."),
    ],
)
def test_what_can_not_be_simulated_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    """The field, the value and what was expected."""
    with pytest.raises(InvalidArgumentError) as caught:
        simulate(graph("a"), **arguments)

    assert str(caught.value) == message


def test_a_cycle_is_refused() -> None:
    """It could never run."""
    with pytest.raises(CycleError):
        simulate(graph("a b", "a b", "b a"))


def test_an_edge_from_nowhere_is_refused() -> None:
    """As `validate` would."""
    with pytest.raises(UnknownDependencyError):
        simulate(graph("a", "b a"))


def test_a_billion_workers_cost_nothing() -> None:
    """Only as many are thought of as there are tasks."""
    answer = simulate(timed([], a=1.0, b=1.0), workers=1_000_000_000)

    assert (answer["workers"], answer["makespan_seconds"]) == (1_000_000_000, 1.0)


def test_absurdly_long_tasks_still_get_an_answer() -> None:
    """Estimates have no upper bound."""
    answer = simulate(timed(["a b"], a=1e300, b=1.0), workers=1)

    assert answer["makespan_seconds"] == pytest.approx(1e300)


def test_upward_rank_beats_insertion_order() -> None:
    """Why it is the default: the long chain begins first."""
    dag = timed(["a b", "b c"], x=3.0, y=3.0, z=3.0, a=3.0, b=3.0, c=3.0)

    answer = simulate(dag, workers=2)

    assert answer["makespan_seconds"] == 9.0


def test_a_thousand_tasks_are_simulated_in_well_under_a_second() -> None:
    """A question people ask before they run anything must not take as long as running it."""
    names = [f"t{number}" for number in range(1_000)]
    dag = graph(" ".join(names), *(TaskEdge(a, b) for a, b in zip(names, names[50:], strict=False)))

    answer = simulate(dag, workers=20)

    assert answer["makespan_seconds"] == 50.0


def test_parts_run_in_their_parents_place_and_parents_take_no_time() -> None:
    """What waits for a parent waits for its last parts; a parent is no task that runs."""
    dag = graph(
        [
            TaskNode("get", estimated_time_seconds=1.0),
            TaskNode("work"),
            TaskNode("one", parent="work", estimated_time_seconds=2.0),
            TaskNode("two", parent="work", estimated_time_seconds=3.0),
            TaskNode("end", estimated_time_seconds=1.0),
        ],
        *("get work", "one two", "work end"),
    )

    answer = simulate(dag, workers=2)

    assert [entry["task_id"] for entry in answer["schedule"]] == ["get", "one", "two", "end"]
    assert (answer["makespan_seconds"], answer["lower_bound_seconds"], answer["total_tasks"]) == (7.0, 7.0, 4)
    assert answer["critical_path"] == ["get", "one", "two", "end"]
    assert "assumed_items" not in answer


def test_every_item_of_a_list_runs_and_takes_what_the_list_was_said_to_take() -> None:
    """A literal list has the items it has; cost and work count each."""
    dag = graph(
        [
            TaskNode("each", foreach=[1, 2, 3], estimated_time_seconds=2.0, cost=0.5),
            TaskNode("end", cost=1.0),
        ],
        "each end",
    )

    answer = simulate(dag, workers=2)

    assert [entry["task_id"] for entry in answer["schedule"]] == ["each[0]", "each[1]", "each[2]", "end"]
    assert (answer["makespan_seconds"], answer["cost"], answer["total_tasks"]) == (6.0, 2.5, 4)
    assert answer["lower_bound_seconds"] == 4.0


def test_a_list_that_is_not_known_yet_is_assumed_and_said() -> None:
    """One item, unless somebody knows better."""
    dag = graph(
        [TaskNode("list"), TaskNode("each", foreach="${list}", estimated_time_seconds=2.0)], "list each"
    )

    one, four = simulate(dag, workers=1), simulate(dag, workers=1, assumed_items=4)

    assert (one["assumed_items"], four["assumed_items"]) == ({"each": 1}, {"each": 4})
    assert four["makespan_seconds"] - one["makespan_seconds"] == 6.0
    with pytest.raises(InvalidArgumentError, match="assumed_items is 0; expected 1 or more"):
        simulate(dag, assumed_items=0)


def test_an_empty_list_takes_no_time() -> None:
    """There is nothing to run, and what waits for it goes on."""
    dag = graph([TaskNode("each", foreach=[], estimated_time_seconds=9.0), TaskNode("end")], "each end")

    answer = simulate(dag, durations={"end": 1.0})

    assert [entry["task_id"] for entry in answer["schedule"]] == ["end"]
    assert (answer["makespan_seconds"], answer["lower_bound_seconds"]) == (1.0, 1.0)


def test_whoever_is_asked_agrees_at_once_and_no_fallback_is_needed() -> None:
    """What a person will say can't be known beforehand."""
    dag = graph(
        [TaskNode("pay", approval="person", fallback=Fallback(tool="other"), estimated_time_seconds=2.0)]
    )

    assert simulate(dag)["makespan_seconds"] == 2.0
