"""What operations do to a plan's graph, how they are read, and what is refused; nothing runs here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.edits.changes import told_of
from orchestration.edits.editing import Edited, Subject, edit_graph, undo_to
from orchestration.edits.operations import EXAMPLES
from orchestration.models import Fallback, TaskEdge, TaskNode, TaskPriority
from orchestration.options import Limits
from tests.engine_kit import graph


def etl() -> TaskDAG:
    """Return extract → load → report, the last with a reference."""
    return graph(
        [
            TaskNode("extract", description="Extract the orders", tool="query"),
            TaskNode("load", description="Load them", tool="copy", arguments={"from": "${extract.path}"}),
            TaskNode("report", description="Report", tool="write", arguments={"rows": "${load.rows}"}),
        ],
        "extract load",
        "load report",
        dag_id="nightly",
    )


def edited(*operations: Any, dag: TaskDAG | None = None, by: str = "person") -> Edited:
    subject = Subject(target="plan-nightly-1", dag=etl() if dag is None else dag)
    return edit_graph(subject, list(operations), by=by)


def made(*operations: Any, dag: TaskDAG | None = None, by: str = "person") -> Edited:
    found = edited(*operations, dag=dag, by=by)
    assert found.problems == ()
    return found


def refused(*operations: Any, dag: TaskDAG | None = None, by: str = "person") -> list[str]:
    return [str(problem) for problem in edited(*operations, dag=dag, by=by).problems]


def pairs(dag: TaskDAG) -> set[tuple[str, str]]:
    return {(edge.source_task_id, edge.target_task_id) for edge in dag.edges}


# --- What the operations do ---------------------------------------------------------------------------------------


def test_a_task_is_added_with_what_it_depends_on() -> None:
    """The draft is read as any plan is: durations, titles as dependencies, other names of fields."""
    found = made(
        {"op": "add", "task": {"id": "audit", "after": "Load them", "timeout": "5 min", "tool": "audit"}}
    )

    assert found.dag.nodes["audit"] == TaskNode("audit", tool="audit", timeout_seconds=300.0)
    assert ("load", "audit") in pairs(found.dag)
    assert found.told == "added audit"


def test_tasks_added_together_may_depend_on_each_other_in_any_order() -> None:
    """An operation may name a task that a later one brings."""
    found = made(
        {"op": "add", "task": {"task_id": "second", "depends_on": ["first"]}},
        {"op": "add", "tasks": [{"task_id": "first", "depends_on": ["report"]}, "Tell everybody"]},
    )

    assert {("first", "second"), ("report", "first")} <= pairs(found.dag)
    assert "tell-everybody" in found.dag.nodes


def test_an_added_task_that_names_an_output_depends_on_it() -> None:
    """The edge is added where the named task is upstream already, and said."""
    found = made(
        {
            "op": "add",
            "task": {"task_id": "audit", "depends_on": ["load"], "arguments": {"a": "${extract.path}"}},
        }
    )

    assert {("load", "audit"), ("extract", "audit")} <= pairs(found.dag)
    assert found.notes == ("Dependencies added because arguments name the task: extract → audit.",)


def test_fields_are_set_and_set_back() -> None:
    """What is null gets what a task has that does not say; a path sets a part of an object."""
    found = made(
        {"op": "set", "task_id": "load", "timeout_seconds": "10 min", "priority": "urgent"},
        {"op": "set", "task_id": "load", "fields": {"arguments.mode": "fast", "tool": None}},
        {"op": "set", "task_id": "load", "field": "max_retries", "value": 0},
    )

    load = found.dag.nodes["load"]
    assert (load.timeout_seconds, load.priority, load.max_retries) == (600.0, TaskPriority.URGENT, 0)
    assert (load.tool, load.arguments) == (None, {"from": "${extract.path}", "mode": "fast"})
    assert found.told == "changed load"


def test_depends_on_is_set_as_a_whole() -> None:
    """Edges that stay keep their conditions."""
    dag = graph("a b c d", "a d if output.ok", "b d")

    found = made({"op": "set", "task_id": "d", "depends_on": ["a", "c"]}, dag=dag)

    assert found.dag.edges == [TaskEdge("a", "d", condition="output.ok"), TaskEdge("c", "d")]


def test_a_task_is_removed_with_its_edges() -> None:
    """What depended on it does not wait for anything in its place, unless it is told to."""
    dag = graph("a b c", "a b", "b c")

    assert pairs(made({"op": "remove", "task_id": "b"}, dag=dag).dag) == set()
    assert pairs(made({"op": "remove", "task_id": "b", "reconnect": "yes"}, dag=dag).dag) == {("a", "c")}


def test_reconnecting_keeps_what_the_edges_say() -> None:
    """A condition on an upstream's output still holds; an optional edge on the way makes an optional one."""
    dag = graph("a b c", "a b if output.ok", "b c?")

    found = made({"op": "remove", "task_id": "b", "reconnect": True}, dag=dag)

    assert found.dag.edges == [TaskEdge("a", "c", condition="output.ok", is_optional=True)]


def test_reconnecting_does_not_drop_a_condition_on_the_removed_output() -> None:
    """A condition that is silently dropped would be dangerous."""
    dag = graph("a b c", "a b", "b c if output.ok")

    assert refused({"op": "remove", "task_id": "b", "reconnect": True}, dag=dag) == [
        (
            "operations[0].reconnect: can't reconnect 'c': its edge has condition about the output of 'b'. "
            "Fix: Remove 'b' without `reconnect`, and link what 'c' is to wait for."
        )
    ]


def test_a_parent_is_removed_with_its_parts() -> None:
    """The last part alone can't be: a task of no parts would do nothing."""
    dag = graph([TaskNode("whole"), TaskNode("part", parent="whole"), TaskNode("other")])

    assert list(made({"op": "remove", "task_id": "whole"}, dag=dag).dag.nodes) == ["other"]
    assert refused({"op": "remove", "task_id": "part"}, dag=dag) == [
        (
            "operations[0]: takes 'part' out, the last part of 'whole'. "
            "Fix: Remove 'whole' instead, or add a part to it first."
        )
    ]


def test_edges_are_added_changed_and_removed() -> None:
    """Linking what is linked changes the fields that are given, and keeps the others."""
    dag = graph("a b c", "a b if output.ok", "b c")

    found = made(
        {"op": "link", "from": "a", "to": "b", "is_optional": True},
        {"op": "link", "source": "a", "target": "c", "data": "path, rows"},
        {"unlink": ["b", "c"]},
        dag=dag,
    )

    assert found.dag.edges == [
        TaskEdge("a", "b", condition="output.ok", is_optional=True),
        TaskEdge("a", "c", data_requirements=["path", "rows"]),
    ]
    assert found.change.unlinked == (("a", "b"), ("b", "c"))
    assert found.told == "linked a → c, changed a → b, unlinked b → c"


def test_linking_what_is_linked_changes_nothing_and_is_said() -> None:
    """A repeated call does no harm."""
    found = made({"op": "link", "from": "extract", "to": "load"})

    assert found.is_empty
    assert found.notes == ("operations[0]: the edge extract → load is there already.",)


def test_a_task_is_replaced_by_others_and_references_follow() -> None:
    """Roots get what led to it; what came after it comes after the one that delivers."""
    found = made(
        {
            "op": "replace",
            "task_id": "load",
            "tasks": [
                {"task_id": "stage", "tool": "copy", "arguments": {"from": "${extract.path}"}},
                {"task_id": "commit", "tool": "commit", "depends_on": ["stage"]},
            ],
        }
    )

    assert pairs(found.dag) == {("extract", "stage"), ("stage", "commit"), ("commit", "report")}
    assert found.dag.nodes["report"].arguments == {"rows": "${commit.rows}"}
    assert found.told == "added stage, commit, changed report, removed load"


def test_what_stands_for_a_guarded_task_is_guarded() -> None:
    """Neither an approval nor `idempotent: false` is got rid of by a person's replacement; a model may make none."""
    dag = graph([TaskNode("pay", approval="person", idempotent=False)])

    found = made({"op": "replace", "task_id": "pay", "tasks": [{"task_id": "wire"}]}, dag=dag)

    assert found.dag.nodes["wire"] == TaskNode("wire", approval="person", idempotent=False)


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "set", "task_id": "guard", "foreach": []}],
        [
            {"op": "replace", "task_id": "guard", "tasks": [{"task_id": "other"}]},
            {"op": "remove", "task_id": "other", "reconnect": True},
        ],
        [
            {"op": "replace", "task_id": "guard", "tasks": [{"task_id": "other"}]},
            {"op": "set", "task_id": "other", "approval": None},
        ],
        [{"op": "link", "from": "guard", "to": "checked", "is_optional": True}],
        [{"op": "unlink", "from": "checked", "to": "behind"}],
        [{"op": "set", "task_id": "part", "parent": None}],
        [
            {"op": "add", "task": {"task_id": "handler", "parent": "whole"}},
            {"op": "link", "from": "part", "to": "handler", "is_optional": True},
        ],
        [{"op": "set", "task_id": "once", "verify": {"tool": "say_not_done"}}],
        [
            {"op": "replace", "task_id": "once", "tasks": [{"task_id": "twice"}]},
            {"op": "set", "task_id": "twice", "idempotent": True},
        ],
    ],
)
def test_no_way_round_what_a_person_protects_is_open_to_a_model(operations: list[dict[str, Any]]) -> None:
    """By whatever detour, in one edit or with a condition that reads like a status."""
    dag = graph(
        [
            TaskNode("guard", approval="person"),
            TaskNode("checked"),
            TaskNode("behind"),
            TaskNode("whole"),
            TaskNode("part", parent="whole", approval="person"),
            TaskNode("after"),
            TaskNode("once", idempotent=False),
        ],
        TaskEdge("guard", "checked"),
        TaskEdge("checked", "behind", condition='output.status == "ok"'),
        TaskEdge("whole", "after"),
    )

    assert any("only a person may change that" in told for told in refused(*operations, dag=dag, by="caller"))


def test_a_replacement_by_nothing_is_refused() -> None:
    """It would be a removal, and is said so."""
    assert refused({"op": "replace", "task_id": "load", "tasks": []}) == [
        "operations[0].tasks: brings no task. Fix: Send the tasks that take its place."
    ]


def test_a_replacement_with_several_ends_names_the_one_that_delivers() -> None:
    """Which output stands for the old one's is not guessed."""
    tasks = [{"task_id": "left"}, {"task_id": "right"}]

    assert refused({"op": "replace", "task_id": "load", "tasks": tasks}) == [
        (
            "operations[0].delivers: is missing, and the new tasks end in 2 (left, right). "
            "Fix: Name the one whose output stands for that of the replaced task."
        )
    ]
    found = made({"op": "replace", "task_id": "load", "tasks": tasks, "delivers": "right"})
    assert {("extract", "left"), ("extract", "right"), ("right", "report")} == pairs(found.dag)


def test_operations_are_carried_out_in_order() -> None:
    """Each is about what the ones before left."""
    found = made(
        {"op": "add", "task": {"task_id": "audit", "depends_on": ["load"]}},
        {"op": "set", "task_id": "audit", "tool": "audit"},
        {"op": "unlink", "from": "load", "to": "audit"},
        {"op": "priority", "task_id": "audit", "priority": 4},
    )

    assert found.dag.nodes["audit"] == TaskNode("audit", tool="audit", priority=TaskPriority.CRITICAL)
    assert not [pair for pair in pairs(found.dag) if "audit" in pair]


# --- How they are read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        [{"op": "remove", "task_id": "extract"}],
        {"op": "remove", "task_id": "extract"},
        '[{"op": "remove", "task_id": "extract"}]',
        {"operations": [{"op": "remove", "task_id": "extract"}]},
        ['{"operation": "Delete", "id": "extract"}'],
        [{"remove": "extract"}],
        [{"remove": {"task": "extract"}}],
        [{"action": "remove_task", "taskId": "extract"}],
        [{"OP": "REMOVE", "task": "Extract the orders"}],
        [{"op": "remove", "task_id": "EXTRACT"}],
    ],
)
def test_an_operation_is_understood_as_models_send_it(sent: object) -> None:
    """JSON inside strings, other words, another case, a task named by its title."""
    dag = graph([TaskNode("extract", description="Extract the orders"), TaskNode("other")])

    found = edit_graph(Subject(target="p", dag=dag), sent)

    assert (found.problems, found.told) == ((), "removed extract")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (
            {"task_id": "load"},
            (
                "operations[0].op: is missing. Fix: Name one of add, set, remove, link, unlink, skip, priority, "
                "replace, "
                'for example {"op": "set", "task_id": "load", "timeout_seconds": 600}.'
            ),
        ),
        (
            {"op": "removee", "task_id": "load"},
            "operations[0].op: is 'removee', which is no operation. Fix: Did you mean 'remove'?",
        ),
        (
            "load",
            (
                "operations[0]: is 'load'; expected an operation. Fix: Send an object such as "
                '{"op": "set", "task_id": "load", "timeout_seconds": 600}.'
            ),
        ),
        (
            {"op": "remove"},
            (
                "operations[0].task_id: is missing. Fix: For example "
                '{"op": "remove", "task_id": "load", "reconnect": true}.'
            ),
        ),
        (
            {"op": "remove", "task_id": "lod"},
            "operations[0].task_id: names task 'lod', which is not in the graph. Fix: Did you mean 'load'?",
        ),
        (
            {"op": "remove", "task_id": "load", "reconect": True},
            "operations[0].reconect: means nothing to remove. Fix: Write 'reconnect'.",
        ),
        (
            {"op": "remove", "task_id": "load", "reconnect": "perhaps"},
            "operations[0].reconnect: is 'perhaps'; expected true or false.",
        ),
        (
            {"op": "set", "task_id": "load"},
            (
                "operations[0].fields: is missing. Fix: For example "
                '{"op": "set", "task_id": "load", "timeout_seconds": 600}.'
            ),
        ),
        (
            {"op": "set", "task_id": "load", "timeout_seconds": -1},
            "operations[0].timeout_seconds: is -1; expected a number greater than 0.",
        ),
        (
            {"op": "set", "task_id": "load", "timeout": "soon"},
            "operations[0].timeout_seconds: is 'soon'; expected a duration. Fix: Write 300 or \"5 min\".",
        ),
        (
            {"op": "set", "task_id": "load", "max_retrys": 3},
            "operations[0].max_retrys: is an unknown key. Fix: Write 'max_retries'.",
        ),
        (
            {"op": "set", "task_id": "load", "deadline_seconds": 5},
            (
                "operations[0].deadline_seconds: is not available yet (a deadline for one task); "
                "nothing would honour it. Fix: Leave it out."
            ),
        ),
        (
            {"op": "set", "task_id": "load", "fields": {"task_id": "store"}},
            (
                "operations[0].task_id: can't be set. "
                "Fix: An id stays: add a task under the new one, and remove this one."
            ),
        ),
        (
            {"op": "priority", "task_id": "load", "priority": "top"},
            "operations[0].priority: is 'top'; expected one of LOW, MEDIUM, HIGH, CRITICAL, URGENT.",
        ),
        (
            {"op": "link", "from": "load"},
            (
                "operations[0].target_task_id: is missing. Fix: For example "
                '{"op": "link", "from": "load", "to": "audit"}.'
            ),
        ),
        (
            {"op": "unlink", "from": "load", "to": "extract"},
            (
                "operations[0]: takes out the edge load → extract, which is not there. "
                "Fix: The edge leads the other way: unlink extract → load."
            ),
        ),
        (
            {"op": "unlink", "from": "extract", "to": "report"},
            (
                "operations[0]: takes out the edge extract → report, which is not there. "
                "Fix: 'report' depends on: load."
            ),
        ),
        (
            {"op": "link", "from": "extract", "to": "report", "condition": 3},
            "operations[0].condition: is 3; expected a valid string.",
        ),
        (
            {"op": "skip", "task_id": "load"},
            (
                "operations[0]: is about task 'load' of a plan; only a run skips tasks. "
                'Fix: Take it out: {"op": "remove", "task_id": "load", "reconnect": true}.'
            ),
        ),
        (
            {"op": "add", "task": {"task_id": "load"}},
            (
                "operations[0].task: brings task 'load', but there is one of that id already. "
                "Fix: Change that one with `set`, or give the new one another id."
            ),
        ),
        (
            {"op": "add", "task": {"task_id": "audit", "depends_on": ["lod"]}},
            (
                "operations[0].task.depends_on[0]: names task 'lod', "
                "which is not in the plan. Fix: Did you mean 'load'?"
            ),
        ),
        (
            {"op": "add", "task": {"task_id": "audit", "max_retrys": 1}},
            "operations[0].task.max_retrys: is an unknown key. Fix: Write 'max_retries'.",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_fix(sent: object, told: str) -> None:
    """The operation, the field, the value, what was expected, what to do."""
    assert refused(sent) == [told]


def test_what_is_no_list_is_refused() -> None:
    """A number, a broken text: nothing is guessed."""
    for sent in (7, "remove load", '[{"op": '):
        (problem,) = edit_graph(Subject(target="p", dag=etl()), sent).problems
        assert problem.path == "operations"
        assert "expected a list of operations" in problem.message


def test_too_many_operations_are_refused_at_once() -> None:
    """Bounded, whoever sends it."""
    (problem,) = edited(*[{"op": "remove", "task_id": "load"}] * 1_001).problems

    assert str(problem) == (
        "operations: has 1,001 entries; at most 1,000 are allowed. "
        "Fix: Send them in several edits, or make a new plan."
    )


def test_every_refusal_is_told_at_once_in_the_order_of_the_operations() -> None:
    """A caller that mends one mistake per call would be at it all day."""
    places = [
        problem.path
        for problem in edited(
            {"op": "set", "task_id": "load", "timeout_seconds": -1},
            {"op": "link", "from": "load", "to": "nowhere"},
            {"op": "frob"},
            {"op": "add", "task": {"task_id": "extract"}},
        ).problems
    ]

    assert places == [
        "operations[0].timeout_seconds",
        "operations[1].target_task_id",
        "operations[2].op",
        "operations[3].task",
    ]


# --- What the whole must be ---------------------------------------------------------------------------------------


def test_a_cycle_is_laid_at_the_door_of_the_edge_that_closes_it() -> None:
    """The way round is named."""
    assert refused({"op": "link", "from": "report", "to": "extract"}) == [
        (
            "operations[0]: link report → extract: the edges form a cycle: extract → load → report → extract. "
            "Fix: Remove one of these edges, for example report → extract."
        )
    ]


def test_removing_what_others_refer_to_is_refused() -> None:
    """The one who refers, and the one who takes away, are both named."""
    assert refused({"op": "remove", "task_id": "load"}) == [
        (
            "operations[0]: remove load: takes task 'load' out, but tasks[report].arguments.rows: ${load.rows} names "
            "task "
            "'load', which is not in the DAG. "
            "Fix: Change that in the same edit, before; or replace 'load' by another task."
        )
    ]
    made({"op": "set", "task_id": "report", "arguments": {}}, {"op": "remove", "task_id": "load"})


def test_an_edge_that_a_reference_brings_back_is_not_taken_out() -> None:
    """Who unlinks it and is told "done" would wait for nothing in vain."""
    dag = graph([TaskNode("a"), TaskNode("b"), TaskNode("c", arguments={"x": "${a.y}"})], "a b", "b c", "a c")

    assert refused({"op": "unlink", "from": "a", "to": "c"}, dag=dag) == [
        (
            "operations[0]: unlink a → c: 'c' names 'a' in a reference, so it depends on it all the same. "
            "Fix: Change what 'c' refers to in the same edit."
        )
    ]


def test_a_bad_condition_is_told_with_its_operation() -> None:
    """Conditions are compiled before anything is stored."""
    (told,) = refused({"op": "link", "from": "extract", "to": "report", "condition": "output.rows >"})

    assert told.startswith("operations[0].condition: link extract → report: 'output.rows >': ")


def test_a_graph_that_would_be_empty_is_refused() -> None:
    """A plan has at least one task."""
    dag = graph("only")

    assert refused({"op": "remove", "task_id": "only"}, dag=dag) == [
        "tasks: is empty; expected at least one task. Fix: Add a task."
    ]


def test_limits_hold_for_the_graph_afterwards() -> None:
    """An edit is no way round what a submission may not bring."""
    subject = Subject(target="p", dag=etl())

    found = edit_graph(subject, [{"op": "add", "task": {"task_id": "audit"}}], limits=Limits(max_tasks=3))

    assert [str(problem) for problem in found.problems] == [
        "tasks: has 4 tasks; at most 3 are allowed. Fix: Split the plan."
    ]


def test_nothing_of_the_subject_changes() -> None:
    """The graph that is edited is the caller's own."""
    dag, before = etl(), etl()

    edit_graph(
        Subject(target="p", dag=dag),
        [{"op": "set", "task_id": "load", "arguments.x": 1}, {"remove": "report"}],
    )

    assert dag == before


# --- What a model may do ------------------------------------------------------------------------------------------


GUARDED = graph(
    [
        TaskNode("build"),
        TaskNode("publish", approval="person", idempotent=False, fallback=Fallback(tool="mirror")),
        TaskNode("announce"),
    ],
    "build publish",
    "publish announce",
)


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (
            {"op": "set", "task_id": "publish", "approval": "caller"},
            (
                "operations[0].approval: set publish: the approval of task 'publish' is a person's; only "
                "a person may change that."
            ),
        ),
        (
            {"op": "set", "task_id": "publish", "fields": {"approval": None}},
            (
                "operations[0].approval: set publish: the approval of task 'publish' is a person's; only "
                "a person may change that."
            ),
        ),
        (
            {"op": "set", "task_id": "publish", "idempotent": True},
            (
                "operations[0].idempotent: set publish: task 'publish' must not be repeated; only a "
                "person may change that."
            ),
        ),
        (
            {"op": "remove", "task_id": "publish"},
            "operations[0]: remove publish: task 'publish' needs a person's approval; only a person may change that.",
        ),
        (
            {"op": "unlink", "from": "publish", "to": "announce"},
            (
                "operations[0]: unlink publish → announce: 'announce' waits for task 'publish', which needs a person's "
                "approval; only a person may change that."
            ),
        ),
        (
            {"op": "link", "from": "publish", "to": "announce", "is_optional": True},
            (
                "operations[0]: link publish → announce: 'announce' waits for task 'publish', which needs a person's "
                "approval; only a person may change that."
            ),
        ),
    ],
)
def test_a_model_takes_nothing_away_that_a_person_protected(operation: dict[str, Any], told: str) -> None:
    """It is told the very command a person would type; a person may."""
    (problem,) = edited(operation, dag=GUARDED, by="caller").problems

    assert str(problem).startswith(told)
    assert problem.fix == (
        "Show the user this command: `advanced-orchestration edit plan-nightly-1 --op "
        f"'{json.dumps(operation)}'`."
    )
    assert edited(operation, dag=GUARDED).problems == ()


def test_a_model_leads_no_way_round_an_approval() -> None:
    """What waits for it through others waits for it all the same."""
    dag = graph(
        [TaskNode("gate", approval="person"), TaskNode("pack"), TaskNode("ship")], "gate pack", "pack ship"
    )

    (problem,) = edited({"op": "remove", "task_id": "pack"}, dag=dag, by="caller").problems

    assert str(problem).startswith(
        "operations[0]: remove pack: 'ship' waits for task 'gate', which needs a person's approval; only a person may"
    )
    assert refused({"op": "link", "from": "pack", "to": "ship", "is_optional": True}, dag=dag, by="caller")
    made({"op": "remove", "task_id": "pack", "reconnect": True}, dag=dag, by="caller")


def test_a_model_may_change_what_a_guarded_task_does() -> None:
    """A person is asked about exactly that; nothing of the guard is gone."""
    made({"op": "set", "task_id": "publish", "arguments": {"where": "here"}}, dag=GUARDED, by="caller")
    made({"op": "set", "task_id": "build", "approval": "person"}, dag=GUARDED, by="caller")


# --- Undo ---------------------------------------------------------------------------------------------------------


def test_undo_gives_the_earlier_graph_back() -> None:
    """As a revision of its own, with what it changes."""
    now = made({"op": "add", "task": {"task_id": "audit", "depends_on": ["load"]}}).dag

    back = undo_to(Subject(target="p", dag=now), etl(), 1)

    assert (back.problems, back.dag, back.undoes) == ((), etl(), 1)
    assert back.told == "went back to revision 1: removed audit"


def test_a_model_can_not_undo_an_approval() -> None:
    """Going back is a change like any other."""
    earlier = graph([TaskNode("build"), TaskNode("publish")], "build publish")
    now = graph([TaskNode("build"), TaskNode("publish", approval="person")], "build publish")

    (problem,) = undo_to(Subject(target="plan-x-1", dag=now), earlier, 3, by="caller").problems

    assert str(problem) == (
        "undo_to: the approval of task 'publish' is a person's; only a person may change that. Fix: Show the user "
        "this command: `advanced-orchestration edit plan-x-1 --undo 3`."
    )


def test_many_changes_are_told_in_a_few_words() -> None:
    """The log is read by people."""
    tasks = [{"task_id": f"t{number}"} for number in range(12)]

    assert told_of(made({"op": "add", "tasks": tasks}).change) == "added t0, t1, t2, t3, t4 and 7 more"


def test_every_example_of_an_operation_works() -> None:
    """Errors, the help and the documentation quote them: whoever copies one must not be refused."""
    dag = graph([TaskNode("extract"), TaskNode("load"), TaskNode("audit")], "extract load")
    on_linked = graph([TaskNode("load"), TaskNode("audit")], "load audit")

    for name, example in EXAMPLES.items():
        operation = json.loads(example)
        if name == "add":
            operation["task"]["task_id"] = "another"
        found = edited(operation, dag=on_linked if name == "unlink" else dag)
        expected = ["operations[0]"] if name == "skip" else []  # only what runs is skipped
        assert [problem.path for problem in found.problems] == expected, name
