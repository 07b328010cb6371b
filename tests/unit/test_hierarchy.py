"""Tasks inside tasks: what a graph with them may say, and what its analysis makes of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.errors import CycleError, UnknownDependencyError
from orchestration.models import (
    CachePolicy,
    Fallback,
    Json,
    TaskEdge,
    TaskNode,
)
from orchestration.options import Limits
from orchestration.validation import normalized, validate


def tree(*edges: str, seconds: float = 1.0, **parents: str) -> TaskDAG:
    """Make a DAG of parts by parent (`build="compile link"`), edges like `a>b`; others are tasks of the first level."""
    dag = TaskDAG("test")
    around = {part: parent for parent, parts in parents.items() for part in parts.split()}
    ends = [tuple(edge.split(">")) for edge in edges]
    for task_id in dict.fromkeys([*(end for pair in ends for end in pair), *parents, *around]):
        dag.add_task(
            TaskNode(
                task_id,
                parent=around.get(task_id),
                estimated_time_seconds=None if task_id in parents else seconds,
            )
        )
    for source, target in ends:
        dag.add_dependency(TaskEdge(source, target))
    return dag


def found_in(dag: TaskDAG, *, is_live: bool = False, **limits: int) -> list[str]:
    """Return the problems as they are shown."""
    return [str(problem) for problem in validate(dag, Limits(**limits), is_live=is_live)]


def with_argument(dag: TaskDAG, task_id: str, value: Json) -> TaskDAG:
    """Give a task an argument `value`."""
    dag.nodes[task_id] = TaskNode(task_id, parent=dag.nodes[task_id].parent, arguments={"value": value})
    return dag


BUILD = ("fetch>build", "build>ship", "compile>link")


def build() -> TaskDAG:
    """A task before, one with two parts, a task behind."""
    return tree(*BUILD, build="compile link")


# --- Analysis -------------------------------------------------------------------------------------------------------


def test_a_parent_begins_with_its_roots_and_ends_with_its_leaves() -> None:
    """What waits for it waits for its last parts; edges keep what they say."""
    dag = build()
    dag.edges[1] = TaskEdge("build", "ship", condition="output.ok", is_optional=True)

    assert dag.flattened_edges() == [
        TaskEdge("fetch", "build"),
        TaskEdge("link", "ship", condition="output.ok", is_optional=True),
        TaskEdge("compile", "link"),
        TaskEdge("build", "compile"),
    ]
    assert dag.topological_sort() == ["fetch", "build", "compile", "link", "ship"]


def test_parts_of_parts_are_flattened_too() -> None:
    """Leaves of leaves end the outermost parent; each parent gates its own roots."""
    dag = tree("outer>end", "a>inner", outer="a inner", inner="x y")

    assert dag.flattened_edges() == [
        TaskEdge("x", "end"),
        TaskEdge("y", "end"),
        TaskEdge("a", "inner"),
        TaskEdge("outer", "a"),
        TaskEdge("inner", "x"),
        TaskEdge("inner", "y"),
    ]
    assert dag.composites() == {"outer", "inner"}


def test_a_graph_without_parents_is_flat_already() -> None:
    """Its own list of edges comes back; a task with a list is a composite all the same."""
    dag = tree("a>b")
    dag.add_task(TaskNode("each", foreach=[1, 2]))

    assert dag.flattened_edges() is dag.edges
    assert dag.composites() == {"each"}


def test_a_parent_takes_no_time_and_no_place() -> None:
    """Duration, critical path, work and width are those of what runs; an estimate of the whole does not count twice."""
    dag = tree("fetch>build", "build>ship", build="a b c", seconds=10)
    dag.nodes["build"] = TaskNode("build", estimated_time_seconds=100)

    assert dag.expected_durations() == {"fetch": 10, "build": 0, "ship": 10, "a": 10, "b": 10, "c": 10}
    assert dag.critical_path().task_ids == ("fetch", "a", "ship")
    assert dag.critical_path().seconds == 30
    assert dag.critical_path(dict.fromkeys(dag.nodes, 10)).seconds == 30
    assert dag.lower_bound_seconds(1) == 50
    assert dag.width() == 3
    assert dag.levels() == [["fetch"], ["a", "b", "c"], ["ship"]]


def test_parents_that_make_no_sense_are_errors_of_the_analysis() -> None:
    """A parent that is not there is named with the nearest; a ring of parents is a cycle."""
    dag = tree("first>b")
    dag.add_task(TaskNode("c", parent="frist"))
    with pytest.raises(UnknownDependencyError) as unknown:
        dag.topological_sort()
    assert (unknown.value.task_id, unknown.value.known) == ("frist", ("first",))

    ring = TaskDAG("ring")
    for task_id, parent in (("x", "y"), ("y", "z"), ("z", "y")):
        ring.add_task(TaskNode(task_id, parent=parent))
    with pytest.raises(CycleError) as cycle:
        ring.topological_sort()
    assert cycle.value.cycle == ("y", "z")


# --- What is refused ------------------------------------------------------------------------------------------------


def test_a_sound_hierarchy_has_no_problems() -> None:
    """Parts name each other, what is before their parent, and what is before the parent around that one."""
    dag = tree("fetch>outer", "a>inner", "x>y", outer="a inner", inner="x y")
    for value in ("${x}", "${a.path}", "${fetch.rows[0]}"):
        assert found_in(with_argument(dag, "y", value)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool", "run"),
        ("arguments", {"a": 1}),
        ("foreach", [1]),
        ("fallback", Fallback(tool="other")),
        ("cache", CachePolicy(60)),
        ("approval", "person"),
        ("idempotent", False),
    ],
)
def test_a_parent_runs_nothing_itself(field: str, value: object) -> None:
    """What says something about an attempt belongs to a part."""
    dag = build()
    dag.nodes["build"] = TaskNode("build", **{field: value})  # type: ignore[arg-type]

    assert found_in(dag) == [
        (
            f"tasks[build].{field}: is set, but 'build' has parts (compile, link) and runs nothing itself. "
            "Fix: Move it to the part that is to do it, or remove it."
        )
    ]


def test_parents_must_be_there_and_lead_out() -> None:
    """Unknown ones, the task itself, rings: each is one problem."""
    dag = tree(build="compile")
    for task_id, parent in (("a", "bulid"), ("b", "b"), ("c", "d"), ("d", "c"), ("e", "c")):
        dag.add_task(TaskNode(task_id, parent=parent))

    assert found_in(dag) == [
        "tasks[b].parent: names the task itself. Fix: Name the task this one is a part of.",
        "tasks[c].parent: closes a ring: c in d in c. Fix: Let one of them have no parent.",
        "tasks[a].parent: names task 'bulid', which is not in the DAG. Fix: Did you mean 'build'?",
    ]


def test_tasks_lie_inside_each_other_up_to_a_limit() -> None:
    """The limit counts the tasks around a task."""
    dag = tree(a="b", b="c", c="d")

    assert found_in(dag, max_hierarchy_depth=3) == []
    assert found_in(dag, max_hierarchy_depth=2) == [
        (
            "tasks[d].parent: puts the task into more than 2 others; at most 2 may be around a task. "
            "Fix: Make the plan flatter."
        )
    ]


@pytest.mark.parametrize(
    ("edge", "told"),
    [
        ("fetch>link", "joins tasks of two levels: 'link' is a part of 'build'. Fix: Name 'fetch' → 'build' instead."),
        ("link>ship", "joins tasks of two levels: 'link' is a part of 'build'. Fix: Name 'build' → 'ship' instead."),
        (
            "build>link",
            ("joins a task and a part of it. Fix: Remove it: a part waits for what its parent waits for, and a parent "
            "for its parts."),
        ),
        (
            "link>pack",
            ("joins tasks of two levels: 'link' is a part of 'build' and 'pack' is a part of 'ship'. "
            "Fix: Name 'build' → 'ship' instead."),
        ),
    ],
)  # fmt: skip
def test_edges_stay_on_one_level(edge: str, told: str) -> None:
    """The problem says which ends to name instead."""
    source, target = edge.split(">")
    dag = tree(*BUILD, build="compile link", ship="pack")
    dag.add_dependency(TaskEdge(source, target))

    assert found_in(dag) == [f"edges[{source}→{target}]: {told}"]


@pytest.mark.parametrize(
    ("task_id", "reference", "told"),
    [
        (
            "link",
            "${build}",
            (
                "names task 'build', which 'link' is a part of: it has no output before its parts. "
                "Fix: Name a task before it."
            ),
        ),
        (
            "ship",
            "${link.path}",
            (
                "names task 'link', which is a part of another task. "
                "Fix: Name 'build', whose output has that of its parts."
            ),
        ),
        (
            "link",
            "${ship}",
            (
                "names task 'ship', which is not upstream of 'build'. Fix: 'ship' runs after 'build': turn the edges "
                "between them round, or drop the reference."
            ),
        ),
        (
            "compile",
            "${link}",
            (
                "names task 'link', which is not upstream of 'compile'. Fix: 'link' runs after 'compile': turn the "
                "edges between them round, or drop the reference."
            ),
        ),
    ],
)
def test_a_reference_leads_to_what_is_before_the_task_or_the_tasks_around_it(
    task_id: str, reference: str, told: str
) -> None:
    """Never into another parent, whose output stands for its parts; never to a parent of its own."""
    dag = with_argument(build(), task_id, reference)

    assert found_in(dag) == [f"tasks[{task_id}].arguments.value: {reference} {told}"]


def test_a_reference_from_a_part_adds_the_edge_on_the_level_of_what_it_names() -> None:
    """No edge crosses levels: the parent waits for the named task, and its parts with it."""
    dag = with_argument(tree("first>fetch", *BUILD, build="compile link"), "link", "${first.x} ${compile.y}")

    added = normalized(dag).edges[len(dag.edges) :]

    assert added == [TaskEdge("first", "build")]
    assert normalized(normalized(dag)) == normalized(dag)


def test_a_cycle_inside_a_parent_is_found() -> None:
    """The parts are named, as tasks of the first level are."""
    (problem,) = found_in(tree("a>b", "b>a", outer="a b"))

    assert problem.startswith("edges: form a cycle: a → b → a.")


def test_edges_out_of_a_parent_with_many_ends_are_counted() -> None:
    """A few edges may stand for very many between parts."""
    parts = " ".join(f"p{number}" for number in range(20))
    dag = tree(*(f"wide>t{number}" for number in range(20)), wide=parts)

    assert found_in(dag, max_edges=400) == []
    assert found_in(dag, max_edges=399) == [
        (
            "edges: stand for 400 edges between parts of tasks; at most 399 are allowed. "
            "Fix: Let one last part of a task wait for its others."
        )
    ]


# --- What a run makes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["a~1", "a[0]", "a~1[0]", "a[0]~1"])
def test_only_a_run_makes_ids_with_a_mark(task_id: str) -> None:
    """A DAG that is sent may not have them; the present graph of an orchestration may."""
    dag = TaskDAG("d")
    dag.add_task(TaskNode("a", tool="t", foreach=["x"], arguments={"v": "${item}"}))
    dag.add_task(TaskNode(task_id, parent="a" if "[" in task_id else None, arguments={"v": "${item}"}))

    sent = found_in(dag)

    assert sent[0] == (
        f"tasks[{task_id}].task_id: is {task_id!r}; `~n` marks the tasks of an alternative plan and `[n]` the items of "
        "a `foreach`: only a run makes such ids. Fix: Use letters, digits, `_` and `-`."
    )
    assert found_in(dag, is_live=True) == ([] if "[" in task_id else [sent[1]])


def test_a_list_inside_the_deepest_task_goes_on_level_further_in_a_run() -> None:
    """The limit is about what people plan."""
    dag = tree(a="b")
    dag.add_task(TaskNode("b[0]", parent="b"))

    assert found_in(dag, is_live=True, max_hierarchy_depth=1) == []


# --- At scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_hostile_hierarchies_are_answered_in_time(shape: str) -> None:
    """Twenty thousand tasks inside each other, or in one: neither takes more than linear time."""
    dag = TaskDAG("d")
    dag.add_task(TaskNode("t0"))
    for number in range(1, 20_000):
        dag.add_task(TaskNode(f"t{number}", parent=f"t{number - 1}" if shape == "deep" else "t0"))
    start = time.process_time()

    problems = found_in(dag)
    dag.topological_sort()

    assert len(problems) == (19_994 if shape == "deep" else 0)
    assert time.process_time() - start < 10


@st.composite
def forests(draw: st.DrawFn) -> TaskDAG:
    """Draw a sound graph with tasks inside tasks; edges lead forward on each level."""
    count = draw(st.integers(1, 9))
    dag = TaskDAG("d")
    parents: list[int | None] = []
    for number in range(count):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        parents.append(parent)
        dag.add_task(TaskNode(f"t{number}", parent=None if parent is None else f"t{parent}"))
    pairs = [(low, high) for high in range(count) for low in range(high) if parents[low] == parents[high]]
    for source, target in draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []:
        dag.add_dependency(TaskEdge(f"t{source}", f"t{target}"))
    return dag


@given(forests())
@settings(max_examples=200, deadline=None)
def test_a_flattened_graph_orders_what_runs_as_the_levels_do(dag: TaskDAG) -> None:
    """Every part of a downstream task, at any depth, comes after every part of its upstream; parents before parts."""
    assert found_in(dag, max_hierarchy_depth=9) == []
    place = {task_id: index for index, task_id in enumerate(dag.topological_sort())}

    def inside(outer: str) -> list[str]:
        direct = [task_id for task_id, node in dag.nodes.items() if node.parent == outer]
        return [outer, *(deeper for part in direct for deeper in inside(part))]

    for edge in dag.edges:
        latest = max(place[task_id] for task_id in inside(edge.source_task_id))
        assert all(latest < place[task_id] for task_id in inside(edge.target_task_id))
    for task_id in dag.nodes:
        assert all(place[task_id] <= place[part] for part in inside(task_id))
    assert sorted(task_id for level in dag.levels() for task_id in level) == sorted(
        dag.nodes.keys() - dag.parents()
    )
