"""Validation: every mistake at once, each with its place and a fix; and the form in which a DAG is run."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError
from orchestration.models import (
    CachePolicy,
    Fallback,
    Json,
    TaskEdge,
    TaskNode,
    TaskStatus,
    Verification,
)
from orchestration.options import Limits
from orchestration.validation import normalized, validate

from .dags import dag_of


def found_in(dag: TaskDAG, **limits: int) -> list[str]:
    """Return the problems as they are shown."""
    return [str(problem) for problem in validate(dag, Limits(**limits))]


def with_arguments(dag: TaskDAG, **arguments: Json) -> TaskDAG:
    """Give tasks an argument `value` each."""
    for task_id, value in arguments.items():
        dag.nodes[task_id] = TaskNode(task_id, arguments={"value": value})
    return dag


def test_a_sound_dag_has_no_problems() -> None:
    """Edges of every kind, conditions and references to upstream tasks pass."""
    dag = with_arguments(dag_of("a>b", "b>c"), b="${a.x}", c=["${b}", {"deep": "x ${a.y[0]} $${no}"}])
    dag.add_dependency(TaskEdge("a", "c", ["x"], True, "output.rows > 0"))

    assert validate(dag) == []


def test_every_mistake_is_found_at_once() -> None:
    """One answer holds them all, so that one round of corrections is enough."""
    dag = with_arguments(
        dag_of("extract>load", "load>load", "load>audit", "load>audit", "x>y", "y>x"),
        audit=["${exrtact.a}", "${x.a}", "${", {"${load}": 1}, "${audit}"],
        extract="${audit}",
    )
    dag.add_dependency(TaskEdge("extract", "audti"))
    dag.add_dependency(TaskEdge("extract", "audit", condition="outptu.rows > 0"))

    assert found_in(dag) == [
        "edges[load→load]: joins task 'load' to itself. Fix: Remove the edge.",
        "edges[load→audit]: is there twice. Fix: Keep one edge per pair; join two conditions with `||` or `&&`.",
        (
            "edges[extract→audti].target_task_id: names task 'audti', which is not in the DAG. "
            "Fix: Did you mean 'audit'?"
        ),
        (
            "edges[extract→audit].condition: 'outptu.rows > 0': column 1: unknown variable 'outptu'; "
            "there are output, status, context. Did you mean 'output'?"
        ),
        (
            "tasks[audit].arguments.value[0]: ${exrtact.a} names task 'exrtact', which is not in the DAG. "
            "Fix: Did you mean 'extract'?"
        ),
        (
            "tasks[audit].arguments.value[2]: '${': column 1: no reference can be read here; expected "
            "`${task.key[0]}`. Fix: write `$${` for a literal `${`."
        ),
        (
            "tasks[audit].arguments.value[3].${load}: '${load}': a reference can't stand in a key. "
            "Fix: put it into a value."
        ),
        "tasks[audit].arguments.value[4]: ${audit} names the task itself. Fix: Name an upstream task.",
        "edges: form a cycle: x → y → x. Fix: Remove one of these edges, for example y → x.",
        (
            "tasks[extract].arguments.value: ${audit} names task 'audit', which is not upstream of 'extract'. "
            "Fix: 'audit' runs after 'extract': turn the edges between them round, or drop the reference."
        ),
        (
            "tasks[audit].arguments.value[1]: ${x.a} names task 'x', which is not upstream of 'audit'. "
            "Fix: Add 'x' to depends_on of 'audit'."
        ),
    ]


def test_each_knot_of_cycles_is_reported() -> None:
    """Two cycles that have nothing to do with each other are two problems."""
    problems = found_in(dag_of("a>b", "b>c", "c>a", "c>d", "d>e", "e>d"))

    assert [problem.split(". ")[0] for problem in problems] == [
        "edges: form a cycle: a → b → c → a",
        "edges: form a cycle: d → e → d",
    ]


def test_a_long_cycle_is_shown_in_part() -> None:
    """A thousand tasks in a circle still make a short message."""
    ring = dag_of(*(f"t{number}>t{(number + 1) % 1000}" for number in range(1000)))

    (problem,) = found_in(ring)

    assert "t18 → t19 → … → t0. Fix: Remove one of these edges, for example t999 → t0." in problem


@pytest.mark.parametrize(
    ("dag", "limits", "message"),
    [
        (TaskDAG("d"), {}, "tasks: is empty; expected at least one task. Fix: Add a task."),
        (
            dag_of("a>b", "b>c"),
            {"max_tasks": 2},
            "tasks: has 3 entries; at most 2 are allowed. Fix: Split the DAG.",
        ),
        (
            dag_of("a>b", "b>c"),
            {"max_edges": 1},
            "edges: has 2 entries; at most 1 are allowed. Fix: Split the DAG.",
        ),
        (
            with_arguments(dag_of(tasks="a"), a="x" * 100),
            {"max_arguments_bytes": 100},
            (
                "tasks[a].arguments: has 113 bytes as JSON; at most 100 are allowed. "
                "Fix: Put large values into a file and pass its path."
            ),
        ),
        (
            with_arguments(dag_of(tasks="a"), a=[float("nan")]),
            {},
            "tasks[a].arguments: can't be written as JSON: it contains NaN, an infinity or a circle.",
        ),
    ],
)
def test_what_is_too_large_or_no_json_is_refused(dag: TaskDAG, limits: dict[str, int], message: str) -> None:
    """Sizes over the limits and values without a JSON form name the limit and the place."""
    assert found_in(dag, **limits) == [message]


@pytest.mark.parametrize("dag_id", ["", "  ", "a\nb", "x" * 201])
def test_a_dag_needs_a_name_that_can_be_shown(dag_id: str) -> None:
    """Orchestrations are called after it."""
    dag = TaskDAG(dag_id)
    dag.add_task(TaskNode("a"))

    (problem,) = found_in(dag)

    assert problem.startswith("dag_id: is ")
    assert problem.endswith(
        "; expected 1 to 200 printable characters. Fix: Write a short speaking name, like nightly-report."
    )


def test_texts_that_no_file_could_hold_are_refused() -> None:
    """A lone surrogate would fail much later, when the DAG is stored."""
    dag = dag_of(tasks="a")
    dag.goal = "\ud800"
    dag.metadata = {"x": "\udfff"}

    assert found_in(dag) == [
        "goal: can't be written as JSON: it contains text that is no Unicode.",
        "metadata: can't be written as JSON: it contains text that is no Unicode.",
    ]


def test_a_task_under_another_name_is_refused() -> None:
    """`nodes` is a plain dict; what is put there by hand must fit its key."""
    dag = dag_of(tasks="a")
    dag.nodes["b"] = TaskNode("c")

    assert found_in(dag) == ["tasks[b]: holds the task 'c'; expected the task 'b'. Fix: Use add_task."]


def test_references_of_a_fallback_follow_the_rules_of_the_tasks_own() -> None:
    """At any depth, in arguments and in the question; naming an ancestor adds the edge."""
    dag = dag_of("a>b", "b>c", "c>d")
    inner = Fallback(
        idempotent=False, verify=Verification("ask", {"x": ["${d}"]}), arguments={"y": "${nope}"}
    )
    dag.nodes["c"] = TaskNode("c", fallback=Fallback(arguments={"x": "${a.x}"}, fallback=inner))

    assert found_in(dag) == [
        (
            "tasks[c].fallback.fallback.arguments.y: ${nope} names task 'nope', which is not in the DAG. "
            "Fix: Add the task, or write the id of one that is there."
        ),
        (
            "tasks[c].fallback.fallback.verify.arguments.x[0]: ${d} names task 'd', which is not upstream of 'c'. "
            "Fix: 'd' runs after 'c': turn the edges between them round, or drop the reference."
        ),
    ]

    dag.nodes["c"] = TaskNode("c", fallback=Fallback(arguments={"x": "${a.x}"}))
    run = normalized(dag)
    assert run.edges[len(dag.edges) :] == [TaskEdge("a", "c")]
    fallback = run.nodes["c"].fallback
    assert fallback is not None
    fallback.arguments["x"] = "changed"
    assert dag.nodes["c"].fallback == Fallback(arguments={"x": "${a.x}"})


def test_a_fallback_that_makes_no_sense_is_refused() -> None:
    """Too many inside each other, too large, no JSON, a question nobody would ask."""
    fourth = Fallback(fallback=Fallback(fallback=Fallback(fallback=Fallback())))
    dag = dag_of(tasks="a b c d")
    dag.nodes["a"] = TaskNode("a", fallback=fourth)
    dag.nodes["b"] = TaskNode("b", fallback=Fallback(arguments={"x": "y" * 100}))
    dag.nodes["c"] = TaskNode("c", fallback=Fallback(verify=Verification("ask"), description="\udc80"))
    dag.nodes["d"] = TaskNode("d", idempotent=False, fallback=Fallback(verify=Verification("ask")))

    assert found_in(dag, max_arguments_bytes=100) == [
        (
            "tasks[a].fallback.fallback.fallback.fallback: is a fallback too many: at most 3 may be inside each other. "
            "Fix: Leave it out."
        ),
        (
            "tasks[b].fallback.arguments: has 109 bytes as JSON; at most 100 are allowed. "
            "Fix: Put large values into a file and pass its path."
        ),
        "tasks[c].fallback.description: can't be written as JSON: it contains text that is no Unicode.",
        (
            "tasks[c].fallback.verify: is set, but the task is idempotent: it is simply run again, and nobody would "
            "ask. Fix: Add `idempotent: false`, or remove `verify`."
        ),
    ]


def test_what_somebody_must_agree_to_is_never_taken_from_the_cache() -> None:
    """A cached output would stand for work that nobody agreed to."""
    dag = dag_of(tasks="a")
    dag.nodes["a"] = TaskNode("a", approval="caller", cache=CachePolicy(60))

    assert found_in(dag) == [
        (
            "tasks[a].cache: is set together with `approval`: a cached result would stand for work that nobody agreed "
            "to. Fix: Remove one of the two."
        )
    ]


def test_a_task_with_a_list_has_an_item() -> None:
    """`${item}` and `${index}` are the element in its arguments, question and fallbacks, and tasks anywhere else."""
    dag = dag_of("a>b", "b>each", "each>item", "item>last")
    given: dict[str, Json] = {"x": "${item.path[0]} ${index} ${b}"}
    dag.nodes["each"] = TaskNode(
        "each",
        foreach="${a.items}",
        arguments=given,
        idempotent=False,
        verify=Verification("ask", dict(given)),
        fallback=Fallback(arguments=dict(given)),
    )
    dag.nodes["last"] = TaskNode("last", arguments={"x": "${item}"})

    assert found_in(dag) == []
    assert normalized(dag).edges[len(dag.edges) :] == [TaskEdge("a", "each")]

    dag.nodes["each"] = TaskNode("each", foreach="${item}")
    dag.nodes["b"] = TaskNode("b", arguments={"x": "${index}"})
    assert found_in(dag) == [
        (
            "tasks[b].arguments.x: ${index} names task 'index', which is not in the DAG. "
            "Fix: Only a task with `foreach` has one: add it."
        ),
        (
            "tasks[each].foreach: ${item} names task 'item', which is not upstream of 'each'. "
            "Fix: 'item' runs after 'each': turn the edges between them round, or drop the reference."
        ),
    ]


@pytest.mark.parametrize(
    ("foreach", "told"),
    [
        ("files", "is 'files'; expected a list, or exactly one reference to one. Fix: Write it like ${fetch.items}."),
        (
            "${a.x} and more",
            (
                "is '${a.x} and more'; expected a list, or exactly one reference to one. "
                "Fix: Write it like ${fetch.items}."
            ),
        ),
        ("${", ("'${': column 1: no reference can be read here; expected `${task.key[0]}`. "
               "Fix: write `$${` for a literal `${`.")),
        (list(range(5)), "has 5 items; at most 4 are allowed. Fix: Let one task work on many of them."),
        ([float("nan")], "can't be written as JSON: it contains NaN, an infinity or a circle."),
        (["${b.x}"], None),
    ],
)  # fmt: skip
def test_a_list_to_go_through_is_a_list_or_one_reference(foreach: str | list[Json], told: str | None) -> None:
    """A literal list is bounded, and its items may hold references."""
    dag = dag_of("a>each")
    dag.nodes["each"] = TaskNode("each", foreach=foreach)

    place = "tasks[each].foreach"
    assert found_in(dag, max_foreach_items=4) == (
        [f"{place}: {told}"]
        if told
        else [
            (
                f"{place}[0]: ${{b.x}} names task 'b', which is not in the DAG. "
                "Fix: Add the task, or write the id of one that is there."
            )
        ]
    )


def test_hopeless_input_is_answered_in_time() -> None:
    """Ten thousand unknown ids get ten thousand problems, but few searches for what was meant."""
    dag = dag_of(tasks=" ".join(f"task-{number}" for number in range(5_000)))
    for number in range(10_000):
        dag.add_dependency(TaskEdge(f"tsak-{number}", "task-0"))

    assert len(validate(dag)) == 10_000


def test_a_normalized_dag_has_an_edge_for_every_reference() -> None:
    """Naming an ancestor that is no direct upstream adds one required edge; the given DAG stays as it is."""
    dag = with_arguments(dag_of("a>b", "b>c", "b>d"), c=["${a.x}", "${b}", "${a.y}"], d="${a}")

    run = normalized(dag)

    assert run.edges[3:] == [TaskEdge("a", "c"), TaskEdge("a", "d")]
    assert len(dag.edges) == 3
    assert normalized(run) == run


def test_a_normalized_dag_starts_from_the_beginning() -> None:
    """Statuses of an earlier run are no part of what is to be done."""
    dag = dag_of("a>b").with_statuses({"a": TaskStatus.COMPLETED, "b": TaskStatus.FAILED})

    assert {node.status for node in normalized(dag).nodes.values()} == {TaskStatus.PENDING}


def test_a_dag_with_mistakes_has_no_normal_form() -> None:
    """The error lists the problems, counts them, and carries them for programs."""
    with pytest.raises(InvalidDagError) as caught:
        normalized(dag_of("a>a", "a>a"))

    assert str(caught.value) == (
        "The DAG has 2 mistakes:\n"
        "  edges[a→a]: joins task 'a' to itself. Fix: Remove the edge.\n"
        "  edges[a→a]: joins task 'a' to itself. Fix: Remove the edge."
    )
    assert len(caught.value.problems) == 2


@st.composite
def _with_references(draw: st.DrawFn) -> TaskDAG:
    count = draw(st.integers(2, 8))
    pairs = [(low, high) for high in range(count) for low in range(high)]
    dag = dag_of(tasks=" ".join(f"t{number}" for number in range(count)))
    for low, high in draw(st.lists(st.sampled_from(pairs), unique=True)):
        dag.add_dependency(TaskEdge(f"t{low}", f"t{high}"))
    for number in range(count):
        named = draw(st.lists(st.integers(0, count - 1), max_size=3))
        dag.nodes[f"t{number}"] = TaskNode(
            f"t{number}", arguments={"v": [f"${{t{other}.x}}" for other in named]}
        )
    return dag


@given(_with_references())
@settings(max_examples=100, deadline=None)
def test_references_are_judged_by_true_ancestry(dag: TaskDAG) -> None:
    """A reference is a problem exactly when networkx finds no path; the rest get their edge."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(dag.nodes)
    graph.add_edges_from((edge.source_task_id, edge.target_task_id) for edge in dag.edges)
    wrong, distant = set(), set()
    for task_id, node in dag.nodes.items():
        for text in node.arguments["v"]:  # type: ignore[union-attr]
            named = str(text)[2:-3]
            if named not in nx.ancestors(graph, task_id):
                wrong.add((named, task_id))
            elif not graph.has_edge(named, task_id):
                distant.add((named, task_id))

    problems = validate(dag)

    assert bool(problems) == bool(wrong)
    if not wrong:
        added = normalized(dag).edges[len(dag.edges) :]
        assert {(edge.source_task_id, edge.target_task_id) for edge in added} == distant
        assert len(added) == len(distant)


def test_many_distant_references_are_answered_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory the questions are put in several passes; the answers are the same."""
    monkeypatch.setattr("orchestration.validation._REACHABILITY_BITS", 1)
    dag = dag_of(*(f"t{number}>t{number + 1}" for number in range(300)))
    for number in range(2, 301):
        dag.nodes[f"t{number}"] = TaskNode(f"t{number}", arguments={"v": f"${{t{number - 2}}}"})
    dag.nodes["t7"] = TaskNode("t7", arguments={"v": "${t200}"})

    problems = validate(dag)

    assert [problem.path for problem in problems] == ["tasks[t7].arguments.v"]


_BIG = """
import random, resource, sys, time
from orchestration.dag import TaskDAG
from orchestration.models import TaskEdge, TaskNode
from orchestration.validation import normalized, validate

TASKS, EDGES = 100_000, 300_000
draw = random.Random(1)
dag = TaskDAG("big")
for number in range(TASKS):
    above = draw.randrange(number) if number else 0
    dag.add_task(TaskNode(f"t{number}", arguments={"x": "${t%d.value}" % above} if number else {}))
pairs = {(number - 1, number): None for number in range(1, TASKS)}
while len(pairs) < EDGES:
    target = draw.randrange(1, TASKS)
    pairs[draw.randrange(max(0, target - 1000), target), target] = None
for index, (source, target) in enumerate(pairs):
    condition = f"output.rows > {source % 50}" if index % 10 == 0 else None
    dag.add_dependency(TaskEdge(f"t{source}", f"t{target}", condition=condition))
began = time.perf_counter()
assert validate(dag) == []
seconds = time.perf_counter() - began
assert len(normalized(dag).edges) > 390_000
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_hundred_thousand_tasks_validate_in_seconds_and_under_a_gigabyte() -> None:
    """300,000 edges, 30,000 conditions and 100,000 references to tasks anywhere upstream."""
    done = subprocess.run(
        [sys.executable, "-c", _BIG], check=True, capture_output=True, text=True, timeout=100
    )

    seconds, mebibytes = map(float, done.stdout.split())
    print(f"validated in {seconds:.1f} s, peak {mebibytes:.0f} MiB")
    assert seconds < 20  # some 3 s on a quiet machine
    assert mebibytes < 1024
