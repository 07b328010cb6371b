"""The graph: order, cycles and the analyses schedules are judged by, compared with networkx."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.dag import TaskDAG, find_cycles, sorted_prefix
from orchestration.errors import CycleError, DuplicateTaskError, UnknownDependencyError
from orchestration.models import TaskEdge, TaskNode, TaskStatus

from .dags import any_dags, dag_of, links


def _graph(count: int, edges: list[tuple[int, int]]) -> nx.DiGraph[int]:
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    return graph


def test_tasks_come_after_their_upstreams_and_else_in_the_order_they_were_added() -> None:
    """Ties are broken by insertion, so that the order is the same every time."""
    dag = dag_of("c>a", "c>b", "a>d", "b>d", tasks="e b a")

    assert dag.topological_sort() == ["e", "c", "b", "a", "d"]
    assert dag.validate_dependencies() is True


def test_an_empty_dag_has_an_empty_order() -> None:
    """Nothing sorted is nothing; its critical path takes no time."""
    dag = TaskDAG("empty")

    assert dag.topological_sort() == []
    assert dag.critical_path().seconds == 0.0
    assert dag.width() == 0


def test_a_task_id_is_taken_once() -> None:
    """Adding it again raises at once and leaves the first one."""
    dag = dag_of(tasks="a")

    with pytest.raises(
        DuplicateTaskError, match=r"Task 'a' is in the DAG already\. Fix: give each task an id of its own\."
    ):
        dag.add_task(TaskNode("a", description="other"))

    assert dag.nodes["a"].description == ""


def test_an_edge_to_nowhere_is_named_with_the_nearest_task() -> None:
    """The error says which id is unknown and which one was probably meant."""
    dag = dag_of("extract>load")
    dag.add_dependency(TaskEdge("exrtact", "load"))

    with pytest.raises(UnknownDependencyError) as caught:
        dag.validate_dependencies()

    assert str(caught.value) == (
        "An edge names task 'exrtact', which is not in the DAG. Did you mean 'extract'? "
        "Fix: add the task or the right id."
    )


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        (["a>b", "b>c", "c>a", "c>d"], ("a", "b", "c")),
        (["r>a", "a>a"], ("a",)),
        (["a>b", "b>a", "b>c", "c>d", "d>b"], ("a", "b")),
    ],
)
def test_a_cycle_is_named(edges: list[str], cycle: tuple[str, ...]) -> None:
    """The error holds the tasks of one cycle in the order of its edges."""
    with pytest.raises(CycleError) as caught:
        dag_of(*edges).validate_dependencies()

    assert caught.value.cycle == cycle
    assert f"a cycle: {' → '.join((*cycle, cycle[0]))}. Fix: remove one of these edges." in str(caught.value)


@given(links())
@settings(max_examples=150, deadline=None)
def test_the_order_reaches_exactly_what_no_cycle_holds_back(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """The sorted prefix is what is neither in nor behind a cycle, and is in topological order."""
    count, edges = drawn
    graph = _graph(count, edges)
    stuck = {vertex for knot in nx.strongly_connected_components(graph) if len(knot) > 1 for vertex in knot}
    stuck |= set(nx.nodes_with_selfloops(graph))
    behind = stuck.union(*(nx.descendants(graph, vertex) for vertex in stuck))

    order = sorted_prefix(count, edges)

    assert set(order) == set(range(count)) - behind
    assert all(order.index(a) < order.index(b) for a, b in edges if b in order)


@given(links())
@settings(max_examples=150, deadline=None)
def test_every_knot_of_cycles_is_shown_by_one_real_cycle(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """There are as many cycles as knots, each made of edges that are there, none longer than it must be."""
    count, edges = drawn
    graph = _graph(count, edges)
    knots = [knot for knot in nx.strongly_connected_components(graph) if len(knot) > 1]
    loops = {vertex for vertex in nx.nodes_with_selfloops(graph) if not any(vertex in knot for knot in knots)}

    cycles = list(find_cycles(count, edges, sorted_prefix(count, edges)))

    assert len(cycles) == len(knots) + len(loops)
    for cycle in cycles:
        steps = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        assert all(graph.has_edge(*step) for step in steps)
        back = min(nx.shortest_path_length(graph, after, cycle[0]) for after in graph[cycle[0]]
                   if nx.has_path(graph, after, cycle[0]))  # fmt: skip
        assert len(cycle) == back + 1


def test_the_critical_path_is_the_longest_by_duration() -> None:
    """It goes through the slow tasks, not through the most tasks."""
    dag = dag_of("a>b", "b>c", "c>z", "a>slow", "slow>z", a=1, b=1, c=1, slow=10, z=2)

    path = dag.critical_path()

    assert path.task_ids == ("a", "slow", "z")
    assert path.seconds == 13.0
    assert dag.lower_bound_seconds(1) == 15.0
    assert dag.lower_bound_seconds(8) == 13.0


def test_a_critical_path_may_begin_with_tasks_that_take_no_time() -> None:
    """A path through tasks without duration is still a path of edges that are there."""
    dag = dag_of("a>b", "b>c", "x>c", a=0, b=0, c=5, x=0)

    path = dag.critical_path()

    assert path.seconds == 5.0
    assert path.task_ids == ("a", "b", "c")


def test_the_lower_bound_needs_a_worker() -> None:
    """No schedule exists without workers; the error says what is expected."""
    from orchestration.errors import InvalidArgumentError

    with pytest.raises(InvalidArgumentError, match="workers is 0; expected at least 1"):
        dag_of("a>b").lower_bound_seconds(0)


def test_unknown_durations_are_the_mean_of_the_known_ones() -> None:
    """A task without an estimate counts like the others; without any estimate all count one second."""
    assert dag_of("a>b", "b>c", a=2, b=4).expected_durations() == {"a": 2.0, "b": 4.0, "c": 3.0}
    assert dag_of("a>b").expected_durations() == {"a": 1.0, "b": 1.0}


@given(any_dags(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_critical_path_agrees_with_networkx(dag: TaskDAG, workers: int) -> None:
    """Its length is that of networkx's longest path, and it is made of edges that are there."""
    spent = dag.expected_durations()
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(dag.nodes)
    graph.add_weighted_edges_from(
        (e.source_task_id, e.target_task_id, spent[e.source_task_id]) for e in dag.edges
    )
    graph.add_weighted_edges_from((task_id, "the end", spent[task_id]) for task_id in dag.nodes)

    path = dag.critical_path()

    assert path.seconds == pytest.approx(nx.dag_longest_path_length(graph))
    assert path.seconds == pytest.approx(sum(spent[task_id] for task_id in path.task_ids))
    assert all(graph.has_edge(*pair) for pair in zip(path.task_ids, path.task_ids[1:], strict=False))
    assert path.seconds <= dag.lower_bound_seconds(workers) <= sum(spent.values()) * (1 + 1e-9)


@given(any_dags())
@settings(max_examples=40, deadline=None)
def test_the_width_is_that_of_the_widest_level(dag: TaskDAG) -> None:
    """Levels are networkx's topological generations."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(dag.nodes)
    graph.add_edges_from((edge.source_task_id, edge.target_task_id) for edge in dag.edges)

    assert dag.width() == max(len(level) for level in nx.topological_generations(graph))


def test_a_copy_shares_nothing_that_can_change() -> None:
    """Adding to a copy, or giving it statuses, leaves the original as it was."""
    dag = dag_of("a>b")

    twin = dag.with_statuses({"a": TaskStatus.COMPLETED})
    twin.add_task(TaskNode("c"))
    twin.metadata["x"] = 1

    assert list(dag.nodes) == ["a", "b"]
    assert dag.nodes["a"].status is TaskStatus.PENDING
    assert twin.nodes["a"].status is TaskStatus.COMPLETED
    assert dag.metadata == {}


def test_edges_are_found_by_either_end() -> None:
    """Incoming and outgoing edges keep the order in which they were added."""
    dag = dag_of("a>c", "b>c", "a>b")

    assert [edge.source_task_id for edge in dag.incoming()["c"]] == ["a", "b"]
    assert [edge.target_task_id for edge in dag.outgoing()["a"]] == ["c", "b"]
    assert dag.incoming()["a"] == []
