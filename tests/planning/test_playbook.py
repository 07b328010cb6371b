"""Playbooks are checked whole when they are read, and expand to sound DAGs."""

from __future__ import annotations

import inspect
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from orchestration.dag import TaskDAG
from orchestration.errors import ConfigurationError, InvalidDagError
from orchestration.expressions import resolve_references
from orchestration.models import Json, TaskEdge
from orchestration.planning.playbook import load_playbooks
from orchestration.planning.playbook_expansion import expand
from orchestration.planning.playbook_planner import bind
from orchestration.systems.codebase import FUNCTIONS


def write(folder: Path, **playbooks: str) -> Path:
    """Write playbooks, each under its keyword."""
    for name, text in playbooks.items():
        (folder / f"{name}.yaml").write_text(dedent(text), encoding="utf-8")
    return folder


def mistakes(folder: Path, **playbooks: str) -> list[str]:
    """Return what reading these playbooks is refused for."""
    with pytest.raises(ConfigurationError) as refused:
        load_playbooks([write(folder, **playbooks)])
    return [str(problem) for problem in refused.value.problems]


def planned(folder: Path, text: str, *, name: str = "own", values: dict[str, Json] | None = None) -> TaskDAG:
    """Return the DAG of one playbook for some values."""
    library = load_playbooks([write(folder, own=text)] if text else [folder])
    playbook = library.playbooks[name]
    bound = {key: each.value for key, each in bind(playbook, "the goal", values or {}).items()}
    return expand(playbook, bound | {"goal": "the goal"}, library.playbooks).to_dag("own", "the goal")


def ends(dag: TaskDAG) -> set[tuple[str, str]]:
    return {(edge.source_task_id, edge.target_task_id) for edge in dag.edges}


SMALLEST = """\
    name: own
    title: Own
    subtasks:
      - {task_id: only, description: Do it}
    """


# --- Expansion ------------------------------------------------------------------------------------------------------


def test_the_smallest_playbook_is_one_task(tmp_path: Path) -> None:
    """A name, a title and a step are enough."""
    assert list(planned(tmp_path, SMALLEST).nodes) == ["only"]


def test_a_placeholder_keeps_the_type_of_its_value_where_it_is_alone(tmp_path: Path) -> None:
    """Inside a text a value reads as part of a sentence."""
    dag = planned(
        tmp_path,
        """\
        name: own
        title: Own
        parameters: {items: {default: []}, count: {default: 3}}
        subtasks:
          - task_id: only
            title: Take {{count}}
            description: "{{goal}}: {{ items }} ({{count}})"
            estimated_time_seconds: "{{count}}"
            arguments: {items: "{{items}}", nested: [{n: "{{count}}"}], text: "n={{count}}"}
        """,
        values={"items": ["a", "b"]},
    )

    task = dag.nodes["only"]
    assert task.description == "the goal: a, b (3)"
    assert task.arguments == {"items": ["a", "b"], "nested": [{"n": 3}], "text": "n=3"}
    assert task.estimated_time_seconds == 3
    assert task.metadata == {"title": "Take 3"}


@pytest.mark.parametrize("hostile", ["${first.secret}", "{first.secret}", "$${first.secret}", "x ${first}"])
def test_a_value_never_becomes_a_reference(tmp_path: Path, hostile: str) -> None:
    """Whoever gives a parameter can't reach another task's output with it."""
    dag = planned(
        tmp_path,
        """\
        name: own
        title: Own
        parameters: {x: {}}
        subtasks:
          - {task_id: first}
          - {task_id: second, depends_on: [first], arguments: {whole: "{{x}}", part: "a{{x}}", dollar: "${{x}}"}}
        """,
        values={"x": hostile},
    )

    resolved = resolve_references(dag.nodes["second"].arguments, {"first": {"secret": "s3cret"}})

    assert resolved == {"whole": hostile, "part": f"a{hostile}", "dollar": f"${hostile}"}


def test_data_flows_between_steps(tmp_path: Path) -> None:
    """`${step.path}` is left for the run, and an edge carries it."""
    dag = planned(
        tmp_path,
        """\
        name: own
        title: Own
        subtasks:
          - {task_id: first}
          - {task_id: second, depends_on: [first], arguments: {x: "${first.x[0]}"}}
        """,
    )

    assert dag.nodes["second"].arguments == {"x": "${first.x[0]}"}
    assert dag.edges == [TaskEdge("first", "second")]


def test_an_edge_says_more_than_a_dependency(tmp_path: Path) -> None:
    """For one pair the edge replaces `depends_on`."""
    dag = planned(
        tmp_path,
        """\
        name: own
        title: Own
        subtasks:
          - {task_id: first}
          - {task_id: second, depends_on: [first]}
        edges:
          - {source_task_id: first, target_task_id: second, is_optional: true, condition: "output.ok"}
        """,
    )

    assert dag.edges == [TaskEdge("first", "second", is_optional=True, condition="output.ok")]


def test_a_step_left_out_hands_its_dependencies_on(tmp_path: Path) -> None:
    """What comes after a step that is not wanted waits for what came before it."""
    text = """\
        name: own
        title: Own
        parameters: {review: {}}
        subtasks:
          - {task_id: write}
          - {task_id: review, when: review, depends_on: [write]}
          - {task_id: publish, depends_on: [review]}
        """

    assert ends(planned(tmp_path, text, values={"review": "Anna"})) == {
        ("write", "review"),
        ("review", "publish"),
    }
    assert ends(planned(tmp_path, text)) == {("write", "publish")}


NESTED = {
    "own": """\
        name: own
        title: Own
        parameters: {topic: {default: owls}}
        subtasks:
          - {task_id: start}
          - {task_id: study, playbook: inner, with: {subject: "{{topic}}"}, depends_on: [start]}
          - {task_id: end, depends_on: [study], arguments: {found: "${study.text}"}}
        """,
    "inner": """\
        name: inner
        title: Inner
        parameters: {subject: {required: true}, depth: {default: 2}}
        subtasks:
          - {task_id: read, description: "Read about {{subject}} for {{goal}}"}
          - {task_id: ask, description: "Ask about {{subject}}", arguments: {depth: "{{depth}}"}}
          - {task_id: sum, depends_on: [read, ask], arguments: {a: "${read}", b: "${ask.b}"}}
        """,
}


def test_a_nested_playbook_takes_the_place_of_its_step(tmp_path: Path) -> None:
    """Edges in lead to its roots, edges out come from its leaves, and its output is its only leaf's."""
    write(tmp_path, **NESTED)

    dag = planned(tmp_path, "", values={"topic": "newts"})

    assert list(dag.nodes) == ["start", "study-read", "study-ask", "study-sum", "end"]
    assert ends(dag) == {
        ("start", "study-read"),
        ("start", "study-ask"),
        ("study-read", "study-sum"),
        ("study-ask", "study-sum"),
        ("study-sum", "end"),
    }
    assert dag.nodes["study-read"].description == "Read about newts for the goal"
    assert dag.nodes["study-ask"].arguments == {"depth": 2}
    assert dag.nodes["study-sum"].arguments == {"a": "${study-read}", "b": "${study-ask.b}"}
    assert dag.nodes["end"].arguments == {"found": "${study-sum.text}"}


@pytest.mark.parametrize("hostile", ["${first.secret}", "$${first.secret}", "x ${first}"])
def test_a_value_never_becomes_a_reference_of_items_questions_or_fallbacks(
    tmp_path: Path, hostile: str
) -> None:
    """Wherever a run resolves references, a parameter's value is only data."""
    dag = planned(
        tmp_path,
        """\
        name: own
        title: Own
        parameters: {x: {type: list}, y: {}}
        subtasks:
          - {task_id: first}
          - task_id: second
            depends_on: [first]
            foreach: "{{x}}"
            idempotent: false
            verify: {tool: t, arguments: {y: "{{y}}"}}
            fallback: {tool: t, arguments: {y: "{{y}}"}}
        """,
        values={"x": [hostile], "y": hostile},
    )
    task = dag.nodes["second"]
    assert task.verify is not None
    assert task.fallback is not None

    outputs: dict[str, Any] = {"first": {"secret": "s3cret"}}

    assert resolve_references({"items": task.foreach}, outputs) == {"items": [hostile]}
    assert resolve_references(task.verify.arguments, outputs) == {"y": hostile}
    assert resolve_references(task.fallback.arguments, outputs) == {"y": hostile}


def test_a_text_that_is_no_list_can_not_make_a_foreach_read_an_output(tmp_path: Path) -> None:
    """A value that looks like a reference gives no valid plan; the planner passes the playbook over."""
    with pytest.raises(InvalidDagError, match="foreach"):
        planned(
            tmp_path,
            """\
            name: own
            title: Own
            parameters: {x: {default: [a]}}
            subtasks:
              - {task_id: first}
              - {task_id: second, depends_on: [first], foreach: "{{x}}"}
            """,
            values={"x": "${first.secrets}"},
        )


def test_parts_of_a_step_stay_its_parts_inside_another_playbook(tmp_path: Path) -> None:
    """A parent is called by its new id, and only whole steps begin and end what is nested."""
    write(
        tmp_path,
        own="""\
        name: own
        title: Own
        subtasks:
          - {task_id: start}
          - {task_id: work, playbook: inner, depends_on: [start]}
          - {task_id: end, depends_on: [work], arguments: {x: "${work}"}}
        """,
        inner="""\
        name: inner
        title: Inner
        subtasks:
          - {task_id: whole}
          - {task_id: left, parent: whole}
          - {task_id: right, parent: whole, depends_on: [left]}
        """,
    )

    dag = planned(tmp_path, "")

    assert {task.task_id: task.parent for task in dag.nodes.values() if task.parent} == {
        "work-left": "work-whole",
        "work-right": "work-whole",
    }
    assert ends(dag) == {("start", "work-whole"), ("work-left", "work-right"), ("work-whole", "end")}
    assert dag.nodes["end"].arguments == {"x": "${work-whole}"}


def test_references_of_fallbacks_and_items_follow_a_nested_playbook(tmp_path: Path) -> None:
    """`${step}` is the output of its last task wherever it stands."""
    write(
        tmp_path,
        own="""\
        name: own
        title: Own
        subtasks:
          - {task_id: work, playbook: inner}
          - task_id: end
            depends_on: [work]
            foreach: "${work.items}"
            arguments: {x: "${item}"}
            fallback: {arguments: {x: "${work.items[0]}"}}
        """,
        inner="name: inner\ntitle: Inner\nsubtasks: [{task_id: list}]\n",
    )

    end = planned(tmp_path, "").nodes["end"]

    assert end.foreach == "${work-list.items}"
    assert end.fallback is not None
    assert end.fallback.arguments == {"x": "${work-list.items[0]}"}


# --- Parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "context", "expected"),
    [
        ("Build and deploy a web application", {"deployment_target": "AWS"}, "AWS"),
        ("Build and deploy a web application to Azure", {"deployment_target": "AWS"}, "AWS"),
        ("Build and deploy a web application", {"hosting": "Fly.io"}, "Fly.io"),
        ("Build and deploy a web app to Google Cloud Run using Django", {}, "Google Cloud Run"),
        ("Build a web app and host it on Hetzner.", {}, "Hetzner"),
        ("Build and deploy a web application", {}, "the hosting the team uses already"),
        ("Build a web application", {}, ""),
        ("Build a web application", {"deployment_target": ""}, ""),
    ],
)
def test_a_parameter_comes_from_the_context_else_the_goal_else_its_default(
    goal: str, context: dict[str, Json], expected: str
) -> None:
    """What is stated on purpose beats what is found in a sentence."""
    playbook = load_playbooks().playbooks["web-application"]

    assert bind(playbook, goal, context)["deployment_target"].value == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a, b and c", ["a", "b", "c"]),
        ("a, b, and c", ["a", "b", "c"]),
        ("a & b", ["a", "b"]),
        ("a\nb;c", ["a", "b", "c"]),
        ("Anderson and Sandy", ["Anderson", "Sandy"]),
        ("one", ["one"]),
        (["a and b"], ["a and b"]),
        (3, [3]),
        ({"k": 1}, [{"k": 1}]),
        ("", ["d"]),
        ([], ["d"]),
    ],
)
def test_a_list_is_taken_out_of_a_text(tmp_path: Path, given: Json, expected: Json) -> None:
    """What is a list already stays one; what is not given is the default."""
    text = """\
        name: own
        title: Own
        parameters: {x: {type: list, default: d}}
        subtasks: [{task_id: a, foreach: "{{x}}"}]
        """

    assert planned(tmp_path, text, values={"x": given}).nodes["a"].foreach == expected


@pytest.mark.parametrize(
    ("goal", "path"),
    [
        ("Report on the health of this Python codebase", "."),
        ("Report on the health of the codebase in /srv/shop", "/srv/shop"),
        ("Review the repository at ../other, and say what is odd.", "../other"),
        ("Analyse the codebase in '~/my code/x'", "~/my code/x"),
        ("Report on the codebase under ./src.", "./src"),
    ],
)
def test_a_path_is_found_in_a_goal(goal: str, path: str) -> None:
    """A sentence may say where the code is."""
    assert bind(load_playbooks().playbooks["codebase-report"], goal, {})["path"].value == path


# --- What is shipped ------------------------------------------------------------------------------------------------


def shipped(name: str, goal: str, context: dict[str, Json]) -> TaskDAG:
    library = load_playbooks()
    playbook = library.playbooks[name]
    values = {key: each.value for key, each in bind(playbook, goal, context).items()} | {"goal": goal}
    return expand(playbook, values, library.playbooks).to_dag("d", goal)


def test_every_task_of_codebase_report_calls_a_function_with_arguments_it_takes() -> None:
    """The playbook and the functions of system `codebase` agree."""
    for task in shipped("codebase-report", "g", {}).nodes.values():
        assert task.system_preference == "codebase"
        assert task.tool is not None
        inspect.signature(FUNCTIONS[task.tool]).bind(**task.arguments)


def test_codebase_report_is_wide_and_joins_in_one_report() -> None:
    """At least ten tasks, most of them at once, and one leaf that waits for all, delivering or not."""
    dag = shipped("codebase-report", "g", {})
    into_report = [edge for edge in dag.edges if edge.target_task_id == "report"]

    assert len(dag.nodes) >= 10
    assert dag.width() >= 10
    assert {edge.source_task_id for edge in into_report} == set(dag.nodes) - {"report"}
    assert all(edge.is_optional for edge in into_report)


def test_codebase_report_runs_for_real(tmp_path: Path) -> None:
    """Run in topological order over a small tree, it makes a report of every measurement."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["pyyaml"]\n'
    )
    (tmp_path / "a.py").write_text('"""A."""\nimport b, yaml\n\n\ndef f():\n    return b.g()  # TODO later\n')
    (tmp_path / "b.py").write_text("import a\n\n\ndef g():\n    return a.f()\n")
    dag = shipped("codebase-report", "g", {"path": str(tmp_path)})
    outputs: dict[str, Any] = {}

    for task_id in dag.topological_sort():
        task = dag.nodes[task_id]
        function = FUNCTIONS[str(task.tool)]
        arguments: Any = resolve_references(task.arguments, outputs)
        if "inputs" in inspect.signature(function).parameters:
            arguments["inputs"] = {
                edge.source_task_id: outputs[edge.source_task_id] for edge in dag.incoming()[task_id]
            }
        outputs[task_id] = function(**arguments)

    assert outputs["report"]["sections"] == len(dag.nodes) - 1
    assert outputs["import-cycles"]["total_cycles"] == 1
    assert "a → b → a" in outputs["report"]["markdown"]


def test_web_application_has_the_shape_a_practitioner_expects() -> None:
    """The design comes first, both sides grow at once, tests and review come before the release."""
    dag = shipped("web-application", "Build a web application with user authentication", {})
    order = {task_id: place for place, task_id in enumerate(dag.topological_sort())}
    joined = ends(dag)

    assert len(dag.nodes) >= 8
    assert [task_id for task_id in dag.nodes if not any(target == task_id for _, target in joined)] == [
        "requirements"
    ]
    assert {
        ("api-contract", "frontend"),
        ("api-contract", "backend"),
        ("api-contract", "authentication"),
    } <= joined
    assert ("backend", "frontend") not in joined
    assert order["threat-model"] < order["authentication"] < order["security-review"] < order["release"]
    assert order["end-to-end-tests"] < order["fixes"] < order["release"]
    assert "deployment" not in dag.nodes


def test_web_application_uses_the_context() -> None:
    """Stack, requirements and deployment target stand in the tasks they concern."""
    dag = shipped(
        "web-application",
        "Build and deploy a web application",
        {
            "technology_stack": "React, Node.js",
            "requirements": ["responsive", "fast"],
            "deployment_target": "AWS",
        },
    )

    assert "responsive, fast" in dag.nodes["requirements"].description
    assert "React, Node.js" in dag.nodes["backend"].description
    assert all(
        "AWS" in dag.nodes[name].description for name in ("infrastructure", "deployment", "monitoring")
    )
    assert "infrastructure" not in [
        edge.target_task_id for edge in dag.edges if edge.source_task_id == "release"
    ]


def test_web_application_demands_no_data_of_any_worker() -> None:
    """Whoever answers in words alone can do every task: no keys, no conditions, no references."""
    dag = shipped("web-application", "Build and deploy a web application", {"deployment_target": "AWS"})

    assert all(not edge.data_requirements and edge.condition is None for edge in dag.edges)
    assert all(not task.arguments for task in dag.nodes.values())
    assert all(task.system_preference in {"auto", "alita", "kgot"} for task in dag.nodes.values())
    assert all(task.estimated_time_seconds and task.complexity_score for task in dag.nodes.values())


def test_every_shipped_task_has_a_title_and_a_description() -> None:
    """People read plans."""
    for name in load_playbooks().playbooks:
        for task in shipped(name, "g", {"deployment_target": "AWS"}).nodes.values():
            assert task.metadata["title"]
            assert task.description
            assert "{{" not in task.description


# --- The user's own -------------------------------------------------------------------------------------------------


def test_a_playbook_of_the_user_replaces_a_shipped_one_of_its_name(tmp_path: Path) -> None:
    """A later folder beats an earlier one, and all beat the package."""
    text = SMALLEST.replace("name: own", "name: web-application")

    library = load_playbooks([write(tmp_path, mine=text)])

    assert library.playbooks["web-application"].title == "Own"
    assert "codebase-report" in library.playbooks


def test_other_files_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    """Only .yaml and .yml files that are not hidden are playbooks."""
    (tmp_path / "notes.txt").write_text("{")
    (tmp_path / ".draft.yaml").write_text("{")
    (tmp_path / "mine.yml").write_text(dedent(SMALLEST))

    assert "own" in load_playbooks([tmp_path]).playbooks


# --- Mistakes -------------------------------------------------------------------------------------------------------


def test_each_mistake_is_named_with_file_and_line(tmp_path: Path) -> None:
    """All mistakes of the form are told at once."""
    assert mistakes(
        tmp_path,
        own="""\
        name: Own Thing
        titel: Own
        parameters:
          path: {from_goal: ["("]}
        subtasks:
          - {task_id: a, when: 5}
        """,
    ) == [
        "own.yaml:1: name: is 'Own Thing'; string should match pattern '^[a-z][a-z0-9-]{0,59}$'.",
        "own.yaml:1: title: is missing.",
        (
            "own.yaml:4: parameters.path.from_goal[0].pattern: is '('; expected a regular expression; "
            "missing ) at position 1."
        ),
        "own.yaml:6: subtasks[0].when: is 5; expected a valid string.",
        "own.yaml:2: titel: is an unknown key. Fix: Write 'title'.",
    ]


def test_each_name_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """Steps, parameters and playbooks that are not there, with the nearest that is."""
    assert mistakes(
        tmp_path,
        own="""\
        name: own
        title: Own
        parameters: {path: {}}
        subtasks:
          - task_id: first
            description: Look at {{paht}}
          - task_id: second
            depends_on: [frist]
            when: pat
          - task_id: second
          - task_id: third
            playbook: codebase-repot
          - task_id: fourth
            playbook: codebase-report
            with: {pathh: x}
        edges:
          - {source_task_id: first, target_task_id: nowhere}
        """,
    ) == [
        "own.yaml:6: subtasks[0].description: names the parameter 'paht', which there is not. Fix: Write 'path'.",
        "own.yaml:8: subtasks[1].depends_on: names the subtask 'frist', which there is not. Fix: Write 'first'.",
        "own.yaml:9: subtasks[1].when: names the parameter 'pat', which there is not. Fix: Write 'path'.",
        "own.yaml:10: subtasks[2].task_id: is 'second' a second time. Fix: Give each an id of its own.",
        (
            "own.yaml:12: subtasks[3].playbook: names the playbook 'codebase-repot', which there is not. "
            "Fix: Write 'codebase-report'."
        ),
        "own.yaml:15: subtasks[4].with: names the parameter 'pathh', which there is not. Fix: Write 'path'.",
        (
            "own.yaml:17: edges[0].target_task_id: names the subtask 'nowhere', which there is not. "
            "Fix: There are: first, second, third, fourth."
        ),
    ]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("{task_id: a, priority: enormous}", "subtasks[0].priority: is 'enormous'; expected one of LOW,"),
        ("{task_id: a, approval: nobody}", "subtasks[0].approval: is 'nobody'; expected"),
        ("{task_id: a, retries: 3}", "subtasks[0].retries: is an unknown key."),
        (
            '{task_id: a, arguments: {x: "${b}"}}',
            "subtasks[0].arguments.x: ${b} names task 'b', which is not in",
        ),
        (
            "{task_id: a, depends_on: [a]}",
            "subtasks[0].depends_on: names the subtask itself. Fix: Remove it.",
        ),
        ("{task_id: a, playbook: own}", "subtasks: name playbooks in a circle, or too deeply: own → own."),
        (
            "{task_id: a, with: {x: 1}}",
            "subtasks[0]: is {'task_id': 'a', 'with': {'x': 1}}; `with` goes with",
        ),
        ("{task_id: a, playbook: inner, tool: t}", "subtasks[0]: is {"),
        ("{task_id: a, playbook: inner}", "subtasks[0]: does not give 'x', which playbook 'inner' requires."),
        (
            '{task_id: a, playbook: inner, with: {x: "${b}"}}',
            "subtasks[0].with: holds a `${…}`; expected values",
        ),
    ],
)
def test_a_step_that_could_not_be_planned_with_is_refused(tmp_path: Path, step: str, told: str) -> None:
    """What the DAG's own validation finds is found when the playbook is read."""
    inner = """\
        name: inner
        title: Inner
        parameters: {x: {required: true}}
        subtasks: [{task_id: t}]
        """

    found = mistakes(tmp_path, own=f"name: own\ntitle: Own\nsubtasks:\n  - {step}\n", inner=inner)

    assert len(found) == 1
    assert found[0].removeprefix("own.yaml:4: ").removeprefix("own.yaml:3: ").startswith(told)


def test_a_mistake_that_shows_only_without_an_optional_step_is_found(tmp_path: Path) -> None:
    """Every step that can be left out is left out once."""
    found = mistakes(
        tmp_path,
        own="""\
        name: own
        title: Own
        parameters: {extra: {}, more: {}}
        subtasks:
          - {task_id: a, when: extra}
          - {task_id: b, depends_on: [a], arguments: {x: "${a}"}}
          - {task_id: c, when: more}
        """,
    )

    assert found == [
        (
            "own.yaml:6: subtasks[1].arguments.x: ${a} names task 'a', which is not in the DAG. "
            "Fix: Add the task, or write the id of one that is there."
        )
    ]


def test_a_mistake_of_a_nested_playbook_is_named_in_its_own_file(tmp_path: Path) -> None:
    """The line is where it can be mended."""
    write(tmp_path, own=NESTED["own"])
    found = mistakes(tmp_path, inner=NESTED["inner"].replace("${ask.b}", "${ask.b"))

    assert all(problem.startswith("inner.yaml:7: subtasks[2].arguments.b: ") for problem in found)


def test_playbooks_in_a_wide_circle_are_refused(tmp_path: Path) -> None:
    """Each one on the circle is named, and reading ends."""
    text = "name: {}\ntitle: T\nsubtasks:\n  - {{task_id: s, playbook: {}}}\n"

    found = mistakes(tmp_path, a=text.format("a", "b"), b=text.format("b", "c"), c=text.format("c", "a"))

    assert found[0] == (
        "a.yaml:3: subtasks: name playbooks in a circle, or too deeply: a → b → c → a. "
        "Fix: Let none of them name one before it."
    )
    assert len(found) == 3


def test_playbooks_that_stand_for_too_many_tasks_are_refused(tmp_path: Path) -> None:
    """A few small files can't make billions of tasks."""
    step = "  - {{task_id: s{}, playbook: {}}}\n"
    texts = {"p0": "name: p0\ntitle: T\nsubtasks: [{task_id: t}]\n"}
    for level in range(1, 6):
        steps = "".join(step.format(index, f"p{level - 1}") for index in range(10))
        texts[f"p{level}"] = f"name: p{level}\ntitle: T\nsubtasks:\n{steps}"

    found = mistakes(tmp_path, **texts)

    assert found[0] == (
        "p4.yaml:3: subtasks: stand for 10,000 tasks with the playbooks they name; at most 1,000 are allowed. "
        "Fix: Stay within 1,000."
    )


def test_broken_yaml_is_named_with_line_and_column(tmp_path: Path) -> None:
    """The parser's finding comes with its place."""
    found = mistakes(tmp_path, own="name: own\nname: own\ntitle: [\n")

    assert len(found) == 2
    assert found[0] == "own.yaml:2: column 1: key 'name' is there twice. Fix: Keep one of them."
    assert found[1].startswith("own.yaml:4: column 1: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are no playbook."""
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(
        ConfigurationError, match=r"own\.yaml: can't be read: .* Fix: Save it as UTF-8 text\."
    ):
        load_playbooks([tmp_path])


def test_two_playbooks_of_one_name_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Which of them is meant can't be known."""
    assert mistakes(tmp_path, a=SMALLEST, b=SMALLEST) == [
        "b.yaml:1: name: is 'own', as in a.yaml. Fix: Give it a name of its own."
    ]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A mistyped folder would silently lose its playbooks."""
    with pytest.raises(
        ConfigurationError, match=r"nowhere: is no folder of playbooks \(No such file or directory\)"
    ):
        load_playbooks([tmp_path / "nowhere"])


def test_a_pattern_that_goes_back_and_forth_for_ever_is_given_up(tmp_path: Path) -> None:
    """The goal is the caller's: it must not be able to hold up whoever reads it."""
    text = """\
        name: own
        title: Own
        goals: [Count letters]
        parameters: {letters: {default: none, from_goal: ["(a|a)+$"]}}
        subtasks:
          - {task_id: count, title: "{{letters}}"}
        """
    (tmp_path / "own.yaml").write_text(dedent(text))
    playbook = load_playbooks([tmp_path]).playbooks["own"]

    bound = bind(playbook, f"Count letters {'a' * 60}b", {})

    assert (bound["letters"].value, bound["letters"].source) == ("none", "default")
