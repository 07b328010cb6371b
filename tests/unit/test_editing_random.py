"""Any operations on any graph: what is not refused is sound, the engine takes it, and it can be undone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.dag import TaskDAG
from orchestration.edits.editing import Subject, edit_graph, subject_of, undo_to
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import EditPlan
from orchestration.engine.state import replay
from orchestration.models import TaskEdge, TaskId, TaskNode
from orchestration.validation import validate
from tests.engine_kit import Bench

NAMES = [f"t{number}" for number in range(6)]
NEW = [f"n{number}" for number in range(4)]


@st.composite
def graphs(draw: st.DrawFn) -> TaskDAG:
    """Draw a graph of a few tasks, some of which name the output of an upstream one."""
    count = draw(st.integers(3, len(NAMES)))
    dag = TaskDAG("random")
    for index, name in enumerate(NAMES[:count]):
        upstream = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=3)) if index else []
        for source in upstream:
            dag.add_dependency(TaskEdge(source, name, is_optional=draw(st.booleans())))
        named = draw(st.sampled_from([None, *upstream]))
        arguments: dict[str, Any] = {} if named is None else {"x": f"${{{named}.y}}"}
        dag.add_task(TaskNode(name, arguments=arguments, max_retries=draw(st.integers(0, 1))))
    return dag


@st.composite
def operations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw operations on tasks that may be there."""
    name = st.sampled_from([*NAMES, *NEW])
    one = st.one_of(
        st.fixed_dictionaries(
            {
                "op": st.just("add"),
                "task": st.fixed_dictionaries(
                    {"task_id": st.sampled_from(NEW), "depends_on": st.lists(name, max_size=2, unique=True)}
                ),
            }
        ),
        st.fixed_dictionaries({"op": st.just("set"), "task_id": name, "tool": st.sampled_from(["a", "b"])}),
        st.fixed_dictionaries({"op": st.just("set"), "task_id": name, "arguments": st.just({})}),
        st.fixed_dictionaries(
            {"op": st.just("set"), "task_id": name, "depends_on": st.lists(name, max_size=2)}
        ),
        st.fixed_dictionaries({"op": st.just("remove"), "task_id": name, "reconnect": st.booleans()}),
        st.fixed_dictionaries(
            {"op": st.just("link"), "from": name, "to": name, "is_optional": st.booleans()}
        ),
        st.fixed_dictionaries({"op": st.just("unlink"), "from": name, "to": name}),
        st.fixed_dictionaries({"op": st.just("priority"), "task_id": name, "priority": st.integers(1, 5)}),
        st.fixed_dictionaries(
            {
                "op": st.just("replace"),
                "task_id": name,
                "tasks": st.just([{"task_id": "r0"}, {"task_id": "r1", "depends_on": ["r0"]}]),
            }
        ),
    )
    return draw(st.lists(one, min_size=1, max_size=4))


def same(one: TaskDAG, other: TaskDAG) -> bool:
    """Whether two graphs have the same tasks and edges, in whatever order."""
    edges = [sorted(map(repr, dag.edges)) for dag in (one, other)]
    return one.nodes == other.nodes and edges[0] == edges[1]


@settings(deadline=None)
@given(dag=graphs(), wanted=st.lists(operations(), min_size=1, max_size=3))
def test_an_edited_plan_is_sound_and_goes_back_to_what_it_was(
    dag: TaskDAG, wanted: list[list[dict[str, Any]]]
) -> None:
    """An edit is refused, or the graph afterwards is valid; each revision can be had again, to the letter."""
    revisions = [
        edit_graph(Subject(target="p", dag=dag), [{"op": "priority", "task_id": "t0", "priority": 3}]).dag
    ]
    for each in wanted:
        found = edit_graph(Subject(target="p", dag=revisions[-1]), each)
        if not found.problems:
            assert validate(found.dag) == []
            revisions.append(found.dag)

    for number, earlier in enumerate(revisions[:-1], start=1):
        back = undo_to(Subject(target="p", dag=revisions[-1]), earlier, number)
        assert (back.problems, back.dag) == ((), earlier)


@settings(deadline=None)
@given(dag=graphs(), data=st.data())
def test_the_engine_takes_what_is_not_refused(dag: TaskDAG, data: st.DataObject) -> None:
    """While tasks start, end and fail between edits: what the checks let through, the engine carries out."""
    bench = Bench(dag, slots=2)
    bench.start()
    graphs_by_revision = {1: present_graph(bench.state)}
    for _ in range(data.draw(st.integers(1, 4))):
        _go_on(bench, data)
        if has_ended(bench):
            return
        found = edit_graph(subject_of(bench.state), data.draw(operations()))
        if found.problems or found.is_empty:
            continue
        _tell(bench, found.change, None)
        graphs_by_revision[bench.state.revision] = present_graph(bench.state)
        assert same(_plain(present_graph(bench.state)), _plain(found.dag))
        if has_ended(bench):
            return
    _undo(bench, data, graphs_by_revision)
    bench.run_out()
    for task_id in [task_id for task_id, status in bench.statuses().items() if status == "retrying"]:
        bench.wait(100)
        if task_id in bench.running:
            bench.succeed(task_id)
    bench.run_out()
    assert has_ended(bench)


def has_ended(bench: Bench) -> bool:
    return bench.outcome.is_terminal


def _go_on(bench: Bench, data: st.DataObject) -> None:
    """Let some running tasks end, one way or the other."""
    for task_id in list(bench.running):
        match data.draw(st.sampled_from(["succeed", "fail", "wait"])):
            case "succeed":
                bench.succeed(task_id, {"y": 1})
            case "fail":
                bench.fail(task_id, retryable=True)
            case _:
                pass


def _undo(bench: Bench, data: st.DataObject, graphs_by_revision: dict[int, TaskDAG]) -> None:
    """Go back to some revision, where that is possible."""
    if bench.state.revision == 1:
        return
    revision = data.draw(st.integers(1, bench.state.revision - 1))
    end = next(i for i, entry in enumerate(bench.journal) if getattr(entry.event, "revision", 1) > revision)
    earlier = present_graph(replay(bench.id, bench.dag, bench.journal[:end]))
    assert same(_plain(earlier), _plain(graphs_by_revision[revision]))
    back = undo_to(subject_of(bench.state), earlier, revision, since=bench.journal[end:])
    if not back.problems and not back.is_empty:
        _tell(bench, back.change, revision)
        assert same(_plain(present_graph(bench.state)), _plain(earlier))


def _tell(bench: Bench, change: Any, undoes: int | None) -> None:
    values: dict[TaskId, Any] = {task_id: {"y": 1} for task_id in bench.state.tasks}
    bench.tell(
        EditPlan(
            orchestration_id=bench.id,
            expected_revision=bench.state.revision,
            change=change,
            values=values,
            undoes=undoes,
        )
    )


def _plain(dag: TaskDAG) -> TaskDAG:
    """Return a graph without what is no part of it."""
    return dag.with_statuses(dict.fromkeys(dag.nodes, TaskNode("any").status))
