"""A draft as language models send it becomes a plan, or is refused with a fix for every mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.errors import InvalidDagError, Problem
from orchestration.models import (
    NOT_YET_AVAILABLE,
    Fallback,
    TaskEdge,
    TaskNode,
    TaskPriority,
    Verification,
)
from orchestration.options import Limits
from orchestration.planning.caller_plan import read_caller_plan
from orchestration.planning.draft_values import seconds_of, slug


def pairs(draft: Any, **more: Any) -> list[tuple[str, str]]:
    """Return the ends of a draft's edges."""
    dag = read_caller_plan(draft, **more).dag
    return [(edge.source_task_id, edge.target_task_id) for edge in dag.edges]


def problems(draft: Any, **more: Any) -> dict[str, Problem]:
    """Return what a draft is refused for, by place; every problem has a fix."""
    with pytest.raises(InvalidDagError) as refused:
        read_caller_plan(draft, **more)
    assert all(problem.fix for problem in refused.value.problems)
    return {problem.path: problem for problem in refused.value.problems}


# --- What is completed ----------------------------------------------------------------------------------------------


def test_a_plan_in_the_right_form_is_taken_as_it_is() -> None:
    """Nothing is changed where nothing needs to be, and nothing is said."""
    draft = [
        {"task_id": "fetch", "description": "Fetch", "priority": "HIGH", "estimated_time_seconds": 30},
        {
            "task_id": "load",
            "description": "Load",
            "depends_on": ["fetch"],
            "arguments": {"p": "${fetch.path}"},
        },
    ]

    read = read_caller_plan(draft, goal="Load the nightly data", dag_id="nightly")

    assert read.notes == ()
    assert (read.dag.dag_id, read.dag.goal) == ("nightly", "Load the nightly data")
    assert read.dag.nodes["fetch"] == TaskNode(
        task_id="fetch", description="Fetch", priority=TaskPriority.HIGH, estimated_time_seconds=30
    )
    assert read.dag.edges == [TaskEdge("fetch", "load")]


def test_the_dag_is_named_after_the_goal() -> None:
    """A plan without a name of its own gets a speaking one."""
    read = read_caller_plan(
        ["Do it"], goal="Migrate the database to PostgreSQL 17, without downtime for our users"
    )

    assert read.dag.dag_id == "migrate-the-database-to-postgresql-17-without"


def test_a_missing_id_is_made_of_the_title_else_the_description() -> None:
    """Ids speak; where two would be the same, the later gets a number; where nothing is told in Latin, a place."""
    read = read_caller_plan(
        [
            {"title": "Fetch Orders!"},
            {"description": "Clean the data"},
            {"title": "fetch orders"},
            {"title": "データ"},
        ]
    )

    assert list(read.dag.nodes) == ["fetch-orders", "clean-the-data", "fetch-orders-2", "task-4"]
    assert read.notes == (
        "Ids made for tasks without one: fetch-orders, clean-the-data, fetch-orders-2, task-4.",
    )


def test_an_id_that_cannot_be_one_is_changed_everywhere() -> None:
    """Dependencies, edges and references follow the change; `$${` stays text."""
    read = read_caller_plan(
        [
            {"id": "1. Load data"},
            {
                "id": "step.two",
                "depends_on": ["1. Load data"],
                "arguments": {
                    "all": "${1. Load data}",
                    "deep": [{"x": "a ${1. Load data.rows[0]} $${1. Load data}"}],
                },
            },
        ],
        edges=[{"source": "1. Load data", "target": "step.two", "optional": True}],
    )

    assert list(read.dag.nodes) == ["1-load-data", "step-two"]
    assert read.dag.nodes["step-two"].arguments == {
        "all": "${1-load-data}",
        "deep": [{"x": "a ${1-load-data.rows[0]} $${1. Load data}"}],
    }
    assert read.dag.edges == [TaskEdge("1-load-data", "step-two", is_optional=True)]
    assert (
        "Ids changed to letters, digits, - and _: 1. Load data to 1-load-data, step.two to step-two."
        in read.notes
    )


def test_a_title_is_kept_beside_the_description() -> None:
    """With a description the title goes into the metadata; alone it is the description."""
    read = read_caller_plan(
        [{"task_id": "a", "title": "Fetch", "description": "Fetch it all"}, {"task_id": "b", "title": "Load"}]
    )

    assert read.dag.nodes["a"].metadata == {"title": "Fetch"}
    assert read.dag.nodes["b"].description == "Load"
    assert read.dag.nodes["b"].metadata == {}


@pytest.mark.parametrize(
    "depends_on",
    [
        ["a", "b"],
        ["First task", "SECOND TASK"],
        ["A", "b"],
        "a, b",
        "a; second task",
        '["a", "b"]',
        ["first-task", "second task"],
        ["a", "b", "a"],
        [{"task_id": "a"}, {"id": "b"}],
    ],
)
def test_dependencies_may_be_given_in_many_spellings(depends_on: Any) -> None:
    """By id or title, in any case, as a list, a text or JSON text."""
    draft = [
        {"task_id": "a", "title": "First task"},
        {"task_id": "b", "title": "Second task"},
        {"task_id": "c", "depends_on": depends_on},
    ]

    assert sorted(pairs(draft)) == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize("nothing", [None, "", "none", "None", "N/A", "[]", []])
def test_a_dependency_on_nothing_is_none(nothing: Any) -> None:
    """Models fill the field in even where nothing belongs there."""
    assert pairs([{"task_id": "a"}, {"task_id": "b", "depends_on": nothing}]) == []


def test_one_dependency_may_stand_alone() -> None:
    """A text that is a task's title is one dependency, commas or not; a number is one where ids are numbers."""
    assert pairs([{"id": 1}, {"id": 2, "depends_on": 1}]) == [("1", "2")]
    assert pairs([{"id": "x", "title": "Fetch, clean"}, {"id": "y", "depends_on": "Fetch, clean"}]) == [
        ("x", "y")
    ]


def test_a_dependency_may_carry_the_fields_of_an_edge() -> None:
    """Conditions, options and required data stay with their dependency."""
    draft = [
        {"task_id": "a"},
        {
            "task_id": "b",
            "depends_on": [
                {
                    "task": "a",
                    "condition": "output.rows > 0",
                    "isOptional": True,
                    "data_requirements": "rows, path",
                }
            ],
        },
    ]

    assert read_caller_plan(draft).dag.edges == [
        TaskEdge("a", "b", data_requirements=["rows", "path"], is_optional=True, condition="output.rows > 0")
    ]


@pytest.mark.parametrize(
    "edges",
    [
        [{"source_task_id": "a", "target_task_id": "b"}],
        [{"from": "a", "to": "B title"}],
        [{"sourceTaskId": "a", "targetTaskId": "b"}],
        [["a", "b"]],
        [TaskEdge("a", "b")],
        '[{"source": "a", "target": "b"}]',
        {"source": "a", "target": "b"},
    ],
)
def test_edges_may_be_given_in_many_spellings(edges: Any) -> None:
    """Beside the tasks or inside the plan."""
    tasks = [{"task_id": "a"}, {"task_id": "b", "title": "B title"}]

    assert pairs(tasks, edges=edges) == [("a", "b")]
    assert pairs({"tasks": tasks, "edges": edges}) == [("a", "b")]


def test_an_edge_replaces_the_dependency_of_its_pair() -> None:
    """There is one edge per pair, and `edges` says more."""
    read = read_caller_plan(
        {
            "tasks": [{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}],
            "edges": [{"source": "a", "target": "b", "condition": "status == 'failed'"}],
        }
    )

    assert read.dag.edges == [TaskEdge("a", "b", condition="status == 'failed'")]


@pytest.mark.parametrize(
    "draft",
    [
        '[{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}]',
        {"tasks": '[{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}]'},
        '{"tasks": [{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}]}',
        ['{"task_id": "a"}', {"task_id": "b", "depends_on": ["a"]}],
        {"a": {"description": "A"}, "b": {"description": "B", "depends_on": ["a"]}},
        [TaskNode("a"), {"task_id": "b", "depends_on": ["a"]}],
        ["a", {"task_id": "b", "depends_on": ["a"]}],
    ],
)
def test_a_plan_may_come_in_many_wrappings(draft: Any) -> None:
    """As JSON text, as an object by id, with tasks as texts or as nodes."""
    assert pairs(draft) == [("a", "b")]


def test_a_single_task_may_stand_alone() -> None:
    """An object that is no object of tasks is one task."""
    assert list(read_caller_plan({"title": "Do it", "priority": "low"}).dag.nodes) == ["do-it"]


def test_fields_may_have_other_names() -> None:
    """What can mean only one field is that field; the notes say which."""
    read = read_caller_plan(
        [
            {
                "id": "a",
                "name": "A",
                "details": "Do a",
                "system": "local",
                "tool-name": "count",
                "params": '{"path": "x"}',
                "estimatedTime": "1h 30m",
                "timeout": "90 s",
                "complexity": 4,
                "retries": 1,
                "resources": {"cpu": 1},
                "Priority": "urgent",
                "acceptance": None,
            }
        ]
    )

    assert read.dag.nodes["a"] == TaskNode(
        task_id="a",
        description="Do a",
        system_preference="local",
        tool="count",
        arguments={"path": "x"},
        estimated_time_seconds=5400,
        timeout_seconds=90,
        complexity_score=4,
        max_retries=1,
        resource_requirements={"cpu": 1},
        priority=TaskPriority.URGENT,
        metadata={"title": "A"},
    )
    assert "Durations turned into seconds: 1h 30m = 5400, 90 s = 90." in read.notes
    assert "Read from JSON inside a string: tasks[0].arguments." in read.notes


def test_a_status_is_left_out_and_said_so() -> None:
    """Every task starts as pending, whatever a draft says."""
    read = read_caller_plan([{"task_id": "a", "status": "completed"}, {"task_id": "b", "status": "pending"}])

    assert {node.status.value for node in read.dag.nodes.values()} == {"pending"}
    assert read.notes == (
        "Statuses left out, for every task starts as pending: tasks[0].status 'completed'.",
    )


def test_a_reference_to_a_distant_ancestor_adds_an_edge() -> None:
    """The data must flow; the notes name the edge."""
    read = read_caller_plan(
        [
            {"task_id": "a"},
            {"task_id": "b", "depends_on": ["a"]},
            {"task_id": "c", "depends_on": ["b"], "arguments": {"x": "${a.x}"}},
        ]
    )

    assert TaskEdge("a", "c") in read.dag.edges
    assert read.notes == ("Dependencies added because arguments name the task: a → c.",)


def test_many_changes_of_one_kind_are_one_note() -> None:
    """The notes stay short however long the plan is."""
    read = read_caller_plan([f"Do number {index}" for index in range(50)])

    assert all(len(note) < 200 for note in read.notes)
    assert read.notes[0].endswith("and 45 more.")


# --- Tasks inside tasks, fallbacks, lists, approvals ----------------------------------------------------------------


@pytest.mark.parametrize(
    "draft",
    [
        [{"id": "build", "subtasks": [{"id": "compile"}, {"id": "link", "depends_on": ["compile"]}]}],
        [{"id": "build", "children": {"compile": {}, "link": {"depends_on": "compile", "title": "Link"}}}],
        [{"id": "build", "sub-tasks": '[{"id": "compile"}, {"id": "link", "after": "compile"}]'}],
        [{"id": "build"}, {"id": "compile", "parent": "build"}, {"id": "link", "part_of": "BUILD", "after": "compile"}],
        [{"id": "build", "subtasks": ["link", "compile"]}, {"id": "compile"}, {"id": "link", "after": "compile"}],
        [{"id": "build"}, {"id": "compile", "parentId": "build", "depends_on": "build"},
         {"id": "link", "parent_task": "build", "depends_on": ["build", "compile"]}],
        [{"id": "build", "after": ["compile", "link"], "subtasks": ["compile", {"id": "link", "after": "compile"}]},
         {"id": "compile", "parent": "none"}],
    ],
)  # fmt: skip
def test_tasks_inside_a_task_become_its_parts(draft: Any) -> None:
    """Nested, named by the outer task, or naming it; that a part waits for its parent goes without saying."""
    for task in draft:
        if task["id"] == "build" and isinstance(task.get("children"), dict):
            task["children"]["compile"] = {"title": "Compile"}

    dag = read_caller_plan(draft).dag

    assert {task_id: node.parent for task_id, node in dag.nodes.items()} == {
        "build": None,
        "compile": "build",
        "link": "build",
    }
    assert dag.edges == [TaskEdge("compile", "link")]


def test_what_tasks_inside_tasks_changed_is_said() -> None:
    """And ids, titles and references are followed through every level."""
    read = read_caller_plan(
        [
            {"title": "Get it"},
            {
                "title": "Build all",
                "depends_on": "get it",
                "subtasks": [
                    {"title": "Compile", "args": {"source": "${Get it.path}"}, "subtasks": []},
                    {"title": "Link", "depends_on": ["compile", "Build all"]},
                    "Sign it",
                ],
            },
        ]
    )

    nodes = read.dag.nodes
    assert [(task_id, node.parent) for task_id, node in nodes.items()] == [
        ("get-it", None),
        ("build-all", None),
        ("compile", "build-all"),
        ("link", "build-all"),
        ("sign-it", "build-all"),
    ]
    assert nodes["compile"].arguments == {"source": "${get-it.path}"}
    assert "Tasks inside a task made its parts: build-all." in read.notes
    assert (
        "Dependencies between a task and its parts left out, for it is done with them: build-all → link."
        in read.notes
    )


def test_mistakes_of_inner_tasks_are_named_by_their_place() -> None:
    """The place is the one in the draft, however deep."""
    found = problems(
        [
            {"id": "a", "tool": "x", "subtasks": [{"id": "b", "colour": 1, "subtasks": [{"id": "c", "cost": -1}]}]},
            {"id": "d", "depends_on": "c"},
            {"id": "e", "subtasks": 5},
            {"id": "f", "subtasks": [{"id": "g", "parent": "d"}, 7]},
        ]
    )  # fmt: skip

    assert {path: problem.message for path, problem in found.items()} == {
        "tasks[2].subtasks": "is 5; expected a list of tasks.",
        "tasks[3].subtasks[1]": "is 7; expected a task.",
        "tasks[3].subtasks[0].parent": "is 'd', but the task is among the subtasks of 'f'.",
        "tasks[0].subtasks[0].colour": "is an unknown key.",
        "tasks[0].subtasks[0].subtasks[0].cost": "is -1; expected a number greater than or equal to 0.",
        "tasks[a].tool": "is set, but 'a' has parts (b) and runs nothing itself.",
        "edges[c→d]": "joins tasks of two levels: 'c' is a part of 'a'.",
    }
    assert found["edges[c→d]"].fix == "Name 'a' → 'd' instead."


def test_tasks_inside_each_other_are_bounded() -> None:
    """By depth and by number; a draft that is a circle ends, too."""
    circle: dict[str, Any] = {"title": "Again"}
    circle["subtasks"] = [circle]
    wide = [{"id": "a", "subtasks": [{"id": f"t{number}"} for number in range(5)]}]

    deep = problems([circle], limits=Limits(max_hierarchy_depth=2))
    many = problems(wide, limits=Limits(max_tasks=5))

    assert deep["tasks[0].subtasks[0].subtasks[0].subtasks"].message == (
        "lie deeper than 2 tasks inside each other, which is the limit."
    )
    assert many["tasks[0].subtasks"].message == "bring the plan to more than 5 tasks, which is the limit."


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"tool": "other", "params": {"x": 1}}, Fallback(tool="other", arguments={"x": 1})),
        (
            '{"name": "By hand", "timeout": "5 min", "id": "a-by-hand"}',
            Fallback(description="By hand", timeout_seconds=300),
        ),
        (
            [{"tool": "second"}, {"tool": "third"}],
            Fallback(tool="second", fallback=Fallback(tool="third")),
        ),
        ([{"tool": "only", "fallback": {"tool": "next"}}], Fallback(tool="only", fallback=Fallback(tool="next"))),
        (
            {"idempotent": False, "verify": {"tool": "ask", "timeout_seconds": "10s"}},
            Fallback(idempotent=False, verify=Verification("ask", timeout_seconds=10)),
        ),
        ("none", None),
        ("", None),
        ([], None),
        (None, None),
    ],
)  # fmt: skip
def test_a_fallback_may_be_written_in_many_ways(sent: Any, read: Fallback | None) -> None:
    """As an object, as JSON text, as a list in the order to try; nothing is no fallback."""
    assert read_caller_plan([{"task_id": "a", "fallback": sent}]).dag.nodes["a"].fallback == read


@pytest.mark.parametrize(
    ("sent", "place", "told"),
    [
        ("b", "tasks[0].fallback", "names task 'b', which runs in any case; expected what to do in this task's place."),
        ("The B", "tasks[0].fallback",
         "names task 'The B', which runs in any case; expected what to do in this task's place."),
        ({"task_id": "b"}, "tasks[0].fallback.task_id",
         "names task 'b', which runs in any case; expected what to do in this task's place."),
        ("do it by hand", "tasks[0].fallback", "is 'do it by hand'; expected what to do in this task's place."),
        (True, "tasks[0].fallback", "is True; expected what to do in this task's place."),
        (["x", "y"], "tasks[0].fallback", "is ['x', 'y']; expected objects, in the order to try."),
        ({"tool": "t", "depends_on": ["b"]}, "tasks[0].fallback.depends_on", "is an unknown key."),
        ([{"tool": "t"}] * 4, "tasks[0].fallback.fallback.fallback.fallback",
         "is a fallback too many: at most 3 may be inside each other."),
    ],
)  # fmt: skip
def test_a_fallback_that_could_mean_two_things_is_refused(sent: Any, place: str, told: str) -> None:
    """A task of the plan runs anyway; a text may as well be advice to a person."""
    found = problems([{"task_id": "a", "fallback": sent}, {"task_id": "b", "title": "The B"}])

    assert found[place].message == told


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("approval", True, "person"),
        ("approval", "yes", "person"),
        ("approval", "Human", "person"),
        ("requires_approval", "true", "person"),
        ("needsApproval", True, "person"),
        ("human_approval", "required", "person"),
        ("approval", "caller", "caller"),
        ("approval", False, None),
        ("approval", "no", None),
        ("requires_approval", "false", None),
        ("approval", "", None),
    ],
)
def test_an_approval_may_be_written_in_many_ways(field: str, sent: Any, read: str | None) -> None:
    """What asks for agreement without saying whose asks for a person's."""
    assert read_caller_plan([{"task_id": "a", field: sent}]).dag.nodes["a"].approval == read


@pytest.mark.parametrize("sent", ["agent", "maybe", 1, ["person"], {"by": "person"}])
def test_an_approval_nobody_understands_is_refused(sent: Any) -> None:
    """It is never taken for none."""
    assert problems([{"task_id": "a", "approval": sent}])["tasks[0].approval"].message == (
        f"is {sent!r}; expected who must agree."
    )


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("${list it.files}", "${list-it.files}"),
        ("${list-it.files}", "${list-it.files}"),
        ("list-it.files", "${list-it.files}"),
        ("list-it", "${list-it}"),
        ('["a", "b"]', ["a", "b"]),
        (["a", {"b": "${list it.x}"}], ["a", {"b": "${list-it.x}"}]),
    ],
)
def test_a_list_to_go_through_may_be_written_in_many_ways(sent: Any, read: Any) -> None:
    """As a reference, bare where it can only be one, as a list or its JSON text; the element stays the element."""
    draft = [
        {"id": "list it", "title": "item"},
        {
            "id": "each",
            "for_each": sent,
            "depends_on": ["list it"],
            "arguments": {"x": "${item.name} ${index} ${list it.y}"},
            "fallback": {"arguments": {"x": "${item} ${list it.z}"}},
        },
        {"id": "last", "depends_on": ["list it"], "arguments": {"x": "${item.name}"}},
    ]

    nodes = read_caller_plan(draft).dag.nodes

    assert nodes["each"].foreach == read
    assert nodes["each"].arguments == {"x": "${item.name} ${index} ${list-it.y}"}
    assert nodes["each"].fallback == Fallback(arguments={"x": "${item} ${list-it.z}"})
    assert nodes["last"].arguments == {"x": "${list-it.name}"}


def test_durations_are_read_wherever_there_are_some() -> None:
    """In seconds, from a text with a unit."""
    read = read_caller_plan(
        [
            {
                "task_id": "a",
                "heartbeat": "2 min",
                "cache": {"ttl_seconds": "1 h"},
                "timeout": "90s",
                "tool": "",
            }
        ]
    )

    node = read.dag.nodes["a"]
    assert (node.heartbeat_timeout_seconds, node.timeout_seconds, node.tool) == (120, 90, None)
    assert node.cache is not None
    assert node.cache.ttl_seconds == 3600
    assert problems([{"task_id": "a", "cache": {"ttl_seconds": "a while"}}])[
        "tasks[0].cache.ttl_seconds"
    ].message == ("is 'a while'; expected a duration.")


def test_tasks_outside_may_be_those_of_an_alternative_plan() -> None:
    """The present graph of an orchestration has ids with a mark; a draft's own never get one."""
    read = read_caller_plan(
        [{"task_id": "x~1", "arguments": {"v": "${load~1.rows}"}}, {"task_id": "y[0]", "depends_on": "x~1"}],
        upstreams=["load~1"],
    )

    assert list(read.dag.nodes) == ["x-1", "y-0"]
    assert read.dag.nodes["x-1"].arguments == {"v": "${load~1.rows}"}


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(NOT_YET_AVAILABLE))
def test_a_field_nothing_honours_is_refused_by_name(field: str) -> None:
    """An approval that is silently ignored would be dangerous."""
    found = problems([{"task_id": "a", field: True}])

    assert list(found) == [f"tasks[0].{field}"]
    assert "is not available yet" in found[f"tasks[0].{field}"].message


def test_every_mistake_is_listed_once_with_a_fix() -> None:
    """One round is enough to put a plan right."""
    found = problems(
        [
            {"task_id": "fetch", "estimate": "soon", "approval": "perhaps"},
            {"task_id": "load", "depends_on": ["fetsh"], "priority": "enormous", "arguments": "not json"},
            {"task_id": "tell", "descripton": "Tell", "complexity_score": 11},
            7,
            {},
        ]
    )

    assert {path: str(problem).removeprefix(f"{path}: ") for path, problem in found.items()} == {
        "tasks[0].estimated_time_seconds": "is 'soon'; expected a duration. Fix: Write 300 or \"5 min\".",
        "tasks[0].approval": "is 'perhaps'; expected who must agree. "
        'Fix: Write "person" (a human) or "caller" (you may agree, too), or leave it out.',
        "tasks[1].depends_on[0]": "names task 'fetsh', which is not in the plan. Fix: Did you mean 'fetch'?",
        "tasks[1].priority": "is 'enormous'; expected one of LOW, MEDIUM, HIGH, CRITICAL, URGENT. "
        "Fix: Correct the value, or leave the field out.",
        "tasks[1].arguments": "is 'not json'; expected a valid dictionary. "
        "Fix: Correct the value, or leave the field out.",
        "tasks[2].complexity_score": "is 11; expected a number less than or equal to 10. "
        "Fix: Correct the value, or leave the field out.",
        "tasks[2].descripton": "is an unknown key. Fix: Write 'description'.",
        "tasks[3]": 'is 7; expected a task. Fix: Send an object such as {"task_id": "fetch", "description": '
        '"Fetch the data"}.',
        "tasks[4]": "says nothing. Fix: Say what is to be done in its description.",
    }


def test_two_tasks_with_one_id_are_refused() -> None:
    """Which of them a dependency means can't be known."""
    found = problems([{"task_id": "a"}, {"task_id": "a"}])

    assert found["tasks[1].task_id"].fix == "Give each task an id of its own."


def test_a_title_of_two_tasks_names_neither() -> None:
    """An ambiguous dependency is refused with the ids to choose from."""
    found = problems(
        [{"id": "x", "title": "Same"}, {"id": "y", "title": "same"}, {"id": "z", "depends_on": "SAME"}]
    )

    assert str(found["tasks[2].depends_on[0]"]) == (
        "tasks[2].depends_on[0]: 'SAME' is the title of 2 tasks. Fix: Write x or y."
    )


def test_a_number_for_a_task_without_one_is_refused() -> None:
    """Whether counting starts at 0 or at 1 is not guessed."""
    found = problems([{"title": "A"}, {"title": "B", "depends_on": [1]}])

    assert "whether counting starts at 0 or at 1" in found["tasks[1].depends_on[0]"].message


def test_two_names_of_one_field_with_two_values_are_refused() -> None:
    """One of them would have to be dropped."""
    found = problems([{"task_id": "a", "timeout": 5, "timeout_seconds": 6}])

    assert str(found["tasks[0].timeout_seconds"]) == (
        "tasks[0].timeout_seconds: says the same as timeout, with another value. Fix: Keep only timeout_seconds."
    )


def test_a_cycle_is_refused_by_its_tasks() -> None:
    """The tasks on the way round are named."""
    found = problems([{"task_id": "a", "depends_on": "b"}, {"task_id": "b", "depends_on": "a"}])

    assert "a → b → a" in found["edges"].message


def test_a_reference_to_what_is_not_upstream_is_refused() -> None:
    """Data flows along edges only; an edge is not invented where there is no path."""
    found = problems([{"task_id": "a"}, {"task_id": "b", "arguments": {"x": "${a.x}"}}])

    assert found["tasks[b].arguments.x"].fix == "Add 'a' to depends_on of 'b'."


@pytest.mark.parametrize(
    ("draft", "path", "told"),
    [
        ([], "tasks", "is empty; expected at least one task."),
        ("do it", "tasks", "is 'do it'; expected a list of tasks."),
        (5, "tasks", "is 5; expected a list of tasks."),
        (None, "tasks", "is None; expected a list of tasks."),
        ("[{", "tasks", "is '[{'; expected a list of tasks."),
        ({"tasks": [{"task_id": "a"}], "budget": 5}, "budget", "is no part of a plan."),
        (
            {"tasks": [{"task_id": "a"}], "delivers": "b"},
            "delivers",
            "names task 'b', which is not in the plan.",
        ),
        ([{"task_id": True}], "tasks[0].task_id", "is True; expected a text."),
        (
            [{"task_id": "a", "depends_on": 1.5}],
            "tasks[0].depends_on",
            "is 1.5; expected a list of task ids.",
        ),
        (
            [{"task_id": "a", "depends_on": [None]}],
            "tasks[0].depends_on[0]",
            "is None; expected the id of a task.",
        ),
        ({"tasks": [{"task_id": "a"}], "edges": [5]}, "edges[0]", "is 5; expected an edge."),
        ({"tasks": [{"task_id": "a"}], "edges": [{"from": "a"}]}, "edges[0].target_task_id", "is missing."),
    ],
)
def test_what_is_no_plan_is_refused(draft: Any, path: str, told: str) -> None:
    """The place and what was expected there are named."""
    assert problems(draft)[path].message == told


def test_a_plan_over_the_limit_is_refused_at_once() -> None:
    """Nothing of it is looked at."""
    found = problems([{"task_id": f"t{index}"} for index in range(4)], limits=Limits(max_tasks=3))

    assert found["tasks"].message == "has 4 tasks; at most 3 are allowed."


def test_a_large_plan_is_read_in_linear_time() -> None:
    """Twenty thousand tasks that depend on each other by title are no burden."""
    draft = [
        {"title": f"Task number {index}", "depends_on": [f"Task number {index - 1}"] if index else []}
        for index in range(20_000)
    ]

    assert len(pairs(json.dumps(draft))) == 19_999


# --- Single values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90", 90),
        ("5 min", 300),
        ("5m", 300),
        ("~2 hours", 7200),
        ("about 1 day", 86400),
        ("1h 30m", 5400),
        ("1 hour and 30 minutes", 5400),
        ("500ms", 0.5),
        ("0.5 h", 1800),
        ("soon", None),
        ("5 parsecs", None),
        ("5 min?", None),
        ("-5", None),
        ("", None),
        (True, None),
        (None, None),
    ],
)
def test_durations_are_read_as_people_write_them(value: object, seconds: float | None) -> None:
    """A number is in seconds; a text may name its unit; anything else is no duration."""
    assert seconds_of(value) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fetch the Data!", "fetch-the-data"),
        ("Café für Überraschungen", "cafe-fur-uberraschungen"),
        ("don't stop", "dont-stop"),
        ("  -- ", ""),
        ("x" * 80, "x" * 48),
        (
            "one two three four five six seven eight nine ten eleven",
            "one-two-three-four-five-six-seven-eight-nine-ten",
        ),
    ],
)
def test_slugs_are_short_and_speak(text: str, expected: str) -> None:
    """Letters lose their marks, words are joined by a dash and never cut, but for one longer than all."""
    assert slug(text) == expected
