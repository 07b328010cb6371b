"""DAG files: what is written reads back the same; what is wrong is named with its line, all at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from orchestration.dag import TaskDAG
from orchestration.dag_file import (
    dag_from_json,
    dag_to_document,
    dag_to_json,
    dump_yaml,
    load_dag,
    parse_document,
)
from orchestration.documents import read_document, write_yaml
from orchestration.errors import InvalidArgumentError, InvalidDagError
from orchestration.models import NOT_YET_AVAILABLE, Fallback, Json, TaskEdge, TaskPriority, Verification

from .dags import VALUES, any_dags, dag_of

REPORT = """\
dag_id: nightly-report
goal: Build the nightly report
defaults: {max_retries: 3, timeout_seconds: 60, priority: low}
tasks:
  - task_id: extract
    description: Pull yesterday's orders
    system_preference: warehouse
    tool: run_query
    arguments: {day: 2026-11-21, dry: no, limit: 1e3}
    priority: HIGH
    estimated_time_seconds: 30
    complexity_score: 3
    resource_requirements: {cpu: 1, memory_mb: 512, "api:github": 1}
  - task_id: load
    depends_on: [extract]
    arguments: {path: "${extract.path}"}
    max_retries: 0
  - task_id: audit
    depends_on: [extract, load]
edges:
  - {source_task_id: extract, target_task_id: audit, data_requirements: [path],
     is_optional: true, condition: "output.rows > 0"}
"""


def mistakes_in(source: str | Path) -> list[str]:
    """Return the problems of a file or text as they are shown."""
    with pytest.raises(InvalidDagError) as caught:
        load_dag(source)
    return [str(problem) for problem in caught.value.problems]


def test_the_format_means_what_the_contract_says() -> None:
    """Defaults fill what a task leaves out, `depends_on` makes edges, an entry in `edges` overrides it."""
    dag = load_dag(REPORT)

    extract, load, audit = dag.nodes.values()
    assert (dag.dag_id, dag.goal) == ("nightly-report", "Build the nightly report")
    assert extract.priority is TaskPriority.HIGH
    assert load.priority is TaskPriority.LOW
    assert (extract.max_retries, load.max_retries, audit.timeout_seconds) == (3, 0, 60)
    assert dag.edges == [
        TaskEdge("extract", "load"),
        TaskEdge("load", "audit"),
        TaskEdge("extract", "audit", ["path"], True, "output.rows > 0"),
    ]


def test_yaml_is_read_as_json_would_be() -> None:
    """Dates and `no` are texts, as in YAML 1.2; numbers are numbers."""
    assert load_dag(REPORT).nodes["extract"].arguments == {"day": "2026-11-21", "dry": "no", "limit": 1000.0}
    assert read_document("[~, null, TRUE, 0x1F, 0o17, 010, -1, +2, .5, 1., 1e3, 'true', !!str 1, '', on, 1_0]") == [
        None, None, True, 31, 15, 10, -1, 2, 0.5, 1.0, 1000.0, "true", "1", "", "on", "1_0",
    ]  # fmt: skip
    assert read_document("{a: &x [1, 2], b: *x}\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_file_may_be_yaml_or_json_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    """The name does not matter; a path may be a text or a Path."""
    dag = load_dag(REPORT)
    (tmp_path / "a.yaml").write_text(REPORT, encoding="utf-8-sig")
    (tmp_path / "b.dag").write_bytes(dag_to_json(dag))

    assert load_dag(tmp_path / "a.yaml") == dag
    assert load_dag(str(tmp_path / "b.dag")) == dag
    assert load_dag(json.dumps(dag_to_document(dag), indent=2)) == dag


@given(any_dags())
@settings(max_examples=80, deadline=None)
def test_what_was_exported_reads_back_the_same(dag: TaskDAG) -> None:
    """JSON, YAML, the stored form and the plain document all give an equal DAG, edges in the same order."""
    stored = dag_to_json(dag)

    assert dag_from_json(stored) == dag
    assert load_dag(stored.decode()) == dag
    assert load_dag(dump_yaml(dag)) == dag
    assert parse_document(dag_to_document(dag)) == dag
    assert dag_to_json(load_dag(dump_yaml(dag))) == stored


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_survives_yaml(value: Json) -> None:
    """Texts that look like numbers, booleans or dates, and odd characters, come back as they were."""
    assert read_document(write_yaml({"value": value})) == {"value": value}


def test_an_export_is_short() -> None:
    """Only what differs from the defaults is written, plain edges as depends_on."""
    assert dump_yaml(dag_of("a>b", "b>c", "a>c")) == (
        "dag_id: test\ntasks:\n- task_id: a\n- task_id: b\n  depends_on:\n  - a\n"
        "- task_id: c\n  depends_on:\n  - b\n  - a\n"
    )
    assert dag_to_json(dag_of("b>c", "a>b", tasks="a b")) == (
        b'{"dag_id":"test","tasks":[{"task_id":"a"},{"task_id":"b"},{"task_id":"c","depends_on":["b"]}],'
        b'"edges":[{"source_task_id":"a","target_task_id":"b"}]}'
    )


BAD = """\
dag_id: nightly-report
gaol: oops
defaults: {max_retries: -1, status: done, prio: 3}
tasks:
  - task_id: extract
    estimated_time_seconds: -30
    priority: SOON
    complexty_score: 3
    deadline_seconds: 5
    arguments:
      path: "${nowhere.path}"
  - task_id: load
    depends_on: [extract, exrtact]
    arguments:
      deep:
        - ok
        - "${nope}"
  - task_id: load
  - 5
  - task_id: "a b"
  - description: nameless
  - task_id: last
    depends_on: extract
edges:
  - {source_task_id: extract, target_task_id: load, is_optional: perhaps, conditon: x}
  - source_task_id: load
    target_task_id: last
    condition: output.rows >
  - 7
"""


def test_every_mistake_is_listed_with_its_line() -> None:
    """Shape, values and what only shows in the whole, in one answer."""
    assert mistakes_in(BAD) == [
        "gaol (line 2): is an unknown key. Fix: Write 'goal'.",
        "defaults.prio (line 3): is an unknown key. Fix: Write 'priority'.",
        ("defaults.status (line 3): can't be a default; every task has its own. Fix: Defaults are: "
         "system_preference, tool, priority, estimated_time_seconds, complexity_score, resource_requirements, "
         "max_retries, backoff_factor, timeout_seconds, heartbeat_timeout_seconds, idempotent, skills, cache, "
            "approval, cost."),
        "defaults.max_retries (line 3): is -1; expected a number greater than or equal to 0.",
        "tasks[0].complexty_score (line 8): is an unknown key. Fix: Write 'complexity_score'.",
        ("tasks[0].deadline_seconds (line 9): is not available yet (a deadline for one task); "
         "nothing would honour it. Fix: Remove it."),
        "tasks[0].priority (line 7): is 'SOON'; expected one of LOW, MEDIUM, HIGH, CRITICAL, URGENT.",
        "tasks[0].estimated_time_seconds (line 6): is -30; expected a number greater than or equal to 0.",
        "tasks[2].task_id (line 18): is 'load', as is tasks[1]. Fix: Give each task an id of its own.",
        "tasks[3] (line 19): is 5; expected a mapping with at least a task_id.",
        ("tasks[4].task_id (line 20): is 'a b'; expected a letter or digit, then letters, digits, `_` and `-`. "
         "Fix: Write at most 100 of these characters."),
        "tasks[5].task_id (line 21): is missing.",
        ("tasks[6].depends_on (line 23): is 'extract'; expected a list of task ids. "
         "Fix: Write [first, second]."),
        "edges[0].conditon (line 25): is an unknown key. Fix: Write 'condition'.",
        "edges[0].is_optional (line 25): is 'perhaps'; expected a valid boolean, unable to interpret input.",
        "edges[2] (line 29): is 7; expected a mapping with source_task_id and target_task_id.",
        ("edges[exrtact→load].source_task_id (line 13): names task 'exrtact', which is not in the DAG. "
         "Fix: Did you mean 'extract'?"),
        "edges[load→last].condition (line 28): 'output.rows >': column 14: mismatched input '<EOF>'",
        ("tasks[load].arguments.deep[1] (line 17): ${nope} names task 'nope', which is not in the DAG. "
         "Fix: Add the task, or write the id of one that is there."),
    ]  # fmt: skip


RELEASE = """\
dag_id: release
defaults: {tool: run, approval: caller, idempotent: false, cost: 2}
tasks:
  - task_id: list
  - task_id: each
    depends_on: [list]
    foreach: ${list.files}
    arguments: {path: "${item.path}", place: "${index}"}
    fallback:
      tool: slow
      arguments: {path: "${item.path}", all: "${list.files}"}
      timeout_seconds: 5
      fallback: {description: By hand, verify: {tool: is_done}}
  - task_id: ship
    description: Ship it
    depends_on: [each]
  - task_id: sign
    parent: ship
    approval: true
"""


def test_fallbacks_lists_parts_and_approvals_are_read_and_written() -> None:
    """Nested records stand as mappings; defaults that say something about an attempt pass over parents."""
    dag = load_dag(RELEASE)

    each, ship, sign = dag.nodes["each"], dag.nodes["ship"], dag.nodes["sign"]
    assert each.foreach == "${list.files}"
    assert each.fallback == Fallback(
        tool="slow",
        arguments={"path": "${item.path}", "all": "${list.files}"},
        timeout_seconds=5,
        fallback=Fallback(description="By hand", verify=Verification("is_done")),
    )
    assert (ship.tool, ship.approval, ship.idempotent, ship.cost) == (None, None, True, 2)
    assert (sign.parent, sign.tool, sign.approval, sign.idempotent) == ("ship", "run", "person", False)
    assert load_dag(dump_yaml(dag)) == dag
    assert dag_from_json(dag_to_json(dag)) == dag


def test_mistakes_inside_a_task_have_their_lines() -> None:
    """Unknown keys, values and references inside fallbacks; a list that is none; parents; ids of a run."""
    text = """\
dag_id: x
tasks:
  - task_id: a
    fallback:
      tol: x
      arguments:
        deep: ["${nope}"]
      fallback:
        timeout_seconds: 0
        verify: {tool: t, colour: red}
        fallback:
          tool: third
          fallback: {tool: fourth}
  - task_id: b
    foreach: 5
    parent: "b c"
  - task_id: c
    foreach: each of them
    approval: somebody
  - task_id: d~1
    parent: a
  - task_id: e[0]
    verify: {tool: t, tol: x}
    cache: {ttl: 5}
"""

    assert mistakes_in(text) == [
        "tasks[0].fallback.tol (line 5): is an unknown key. Fix: Write 'tool'.",
        ("tasks[0].fallback.fallback.verify.colour (line 10): is an unknown key. Fix: The keys are: tool, arguments, "
        "system_preference, timeout_seconds."),
        ("tasks[0].fallback.fallback.fallback.fallback (line 13): is a fallback too many: at most 3 may be inside each "
        "other. Fix: Leave it out."),
        "tasks[0].fallback.fallback.timeout_seconds (line 9): is 0; expected a number greater than 0.",
        "tasks[1].foreach (line 15): is 5; expected a list, or a reference to one. Fix: Write it like ${fetch.items}.",
        ("tasks[1].parent (line 16): is 'b c'; expected a letter or digit, then letters, digits, `_` and `-`. "
        "Fix: Write at most 100 of these characters."),
        "tasks[2].approval (line 19): is 'somebody'; expected 'person' or 'caller'.",
        "tasks[4].verify.tol (line 23): is an unknown key. Fix: Write 'tool'.",
        "tasks[4].cache.ttl (line 24): is an unknown key. Fix: The keys are: ttl_seconds.",
        "tasks[4].cache.ttl_seconds (line 24): is missing.",
        ("tasks[d~1].task_id (line 20): is 'd~1'; `~n` marks the tasks of an alternative plan and `[n]` the items of a "
        "`foreach`: only a run makes such ids. Fix: Use letters, digits, `_` and `-`."),
        ("tasks[e[0]].task_id (line 22): is 'e[0]'; `~n` marks the tasks of an alternative plan and `[n]` the items of "
        "a `foreach`: only a run makes such ids. Fix: Use letters, digits, `_` and `-`."),
    ]  # fmt: skip


def test_a_reference_inside_a_fallback_has_its_line() -> None:
    """It follows the rules of the task's own, and its place is named however deep."""
    text = RELEASE.replace('${list.files}"}', '${lisd.files}"}')

    assert mistakes_in(text) == [
        (
            "tasks[each].fallback.arguments.all (line 11): ${lisd.files} names task 'lisd', which is not in the DAG. "
            "Fix: Did you mean 'list'?"
        )
    ]


def test_a_graph_of_a_run_is_read_where_it_may_be() -> None:
    """An orchestration's present graph has tasks of alternatives and of lists; a file may not bring them."""
    document = {
        "dag_id": "x",
        "tasks": [{"task_id": "a", "foreach": [1]}, {"task_id": "a[0]", "parent": "a"}, {"task_id": "b~1"}],
    }

    assert list(parse_document(document, is_live=True).nodes) == ["a", "a[0]", "b~1"]
    with pytest.raises(InvalidDagError):
        parse_document(document)


def test_a_json_file_gets_lines_too() -> None:
    """The places are found in the text, whatever its format."""
    text = (
        '{\n  "dag_id": "x",\n  "tasks": [\n    {"task_id": "a", "cost": -1},\n    {"task_id": "b"}\n  ]\n}\n'
    )

    assert mistakes_in(text) == [
        "tasks[0].cost (line 4): is -1; expected a number greater than or equal to 0."
    ]


@pytest.mark.parametrize("key", sorted(NOT_YET_AVAILABLE))
def test_a_field_nothing_honours_yet_is_refused_by_name(key: str) -> None:
    """An approval that is silently ignored would be dangerous."""
    (problem,) = mistakes_in(json.dumps({"dag_id": "x", "tasks": [{"task_id": "a", key: True}]}))

    assert problem.startswith(f"tasks[0].{key} (line 1): is not available yet ({NOT_YET_AVAILABLE[key]}); ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed in this context."),
        ('dag_id: "x\n', "line 2, column 1: found unexpected end of stream (while scanning a quoted scalar)."),
        ("a:\n\t- b\n", ("line 2, column 1: found character that cannot start any token "
                         "(while scanning for the next token).")),
        ('{"dag_id": 3,', "line 2, column 1: did not find expected node content (while parsing a flow node)."),
        ("dag_id: a\ntasks: []\ndag_id: b\n", "line 3, column 1: key 'dag_id' is there twice. Fix: Keep one of them."),
        ('{"dag_id": "a", "dag_id": "b"}', "line 1, column 17: key 'dag_id' is there twice. Fix: Keep one of them."),
        ("dag_id: x\n---\ndag_id: y\n", "line 2, column 1: starts a second document; expected one. Fix: Remove `---`."),
        ("a: !!python/object/apply:os.system [ls]\n",
         ("line 1, column 4: tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed. "
          "Fix: Write the plain value.")),
        ("a: !secret x\n", "line 1, column 4: tag '!secret' is not allowed. Fix: Write the plain value."),
        ("? [a]\n: b\n", "line 1, column 3: a key is a mapping, a list or an alias; expected text. Fix: Quote it."),
        ("a: &a [*a]\n", "line 1, column 8: alias *a names nothing complete above it. Fix: Write the value."),
        ("a: " + "9" * 5000 + "\n",
         f"line 1, column 4: number '{'9' * 58}… is too long. Fix: Quote it."),
        ("\n" + "[" * 100_000, "line 2, column 101: nests more than 100 deep. Fix: Make the document flatter."),
        ("{" + '"a":{' * 100_000, "line 1, column 501: nests more than 100 deep. Fix: Make the document flatter."),
        ("a: \x00\n", "document: unacceptable character #x0000: control characters are not allowed."),
        ("- just\n- a list\n", ("document: is ['just', 'a list']; expected a mapping with dag_id, goal, "
                               "timeout_seconds, defaults, tasks, edges, metadata.")),
        ("{}", "dag_id: is missing. Fix: Add `dag_id: a-speaking-name`."),
    ],
)  # fmt: skip
def test_broken_or_hostile_text_is_refused_with_its_place(text: str, problem: str) -> None:
    """Line and column of the first thing that makes reading on pointless; quickly, whatever the text is."""
    assert mistakes_in(text)[0] == problem


def test_aliases_can_not_stand_for_billions() -> None:
    """A few lines that would expand to 10^9 values are refused at once."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )

    assert mistakes_in(bomb) == [
        "line 5, column 36: aliases stand for more than 100,000 values. Fix: Write them out."
    ]


def test_parts_of_the_wrong_kind_are_named() -> None:
    """Each top-level part says what it should be."""
    assert mistakes_in("dag_id: 7\ngoal: [x]\ndefaults: 1\ntasks: {a: b}\nedges: none\nmetadata: x\n") == [
        'dag_id (line 1): is 7; expected a text. Fix: Quote it: "7".',
        "goal (line 2): is ['x']; expected a text. Fix: Quote it: \"['x']\".",
        "metadata (line 6): is 'x'; expected a mapping.",
        "defaults (line 3): is 1; expected a mapping.",
        "tasks (line 4): is {'a': 'b'}; expected a list.",
        "edges (line 5): is 'none'; expected a list.",
    ]
    assert mistakes_in("dag_id: x\n") == ["tasks: is missing. Fix: Add a list with at least one task."]
    assert mistakes_in("dag_id: x\ntasks: []\n") == [
        "tasks (line 2): is empty; expected at least one task. Fix: Add a task."
    ]


def test_an_inline_document_is_read_without_lines() -> None:
    """A mapping that came from elsewhere gets the same findings."""
    document: dict[Any, Any] = {"dag_id": "x", "tasks": [{"task_id": "a", "tool": 3}], 5: 6}

    with pytest.raises(InvalidDagError) as caught:
        parse_document(document)

    assert [str(problem) for problem in caught.value.problems] == [
        "document: has the key 5; expected a text. Fix: Quote it.",
        "tasks[0].tool: is 3; expected a valid string.",
    ]


def test_a_file_that_can_not_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, no text, too large: each names the path and the fix."""
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff")
    (tmp_path / "large").write_text("x" * 100)
    missing, binary = tmp_path / "missing.yaml", tmp_path / "binary"

    def refusal(path: Path) -> str:
        with pytest.raises(InvalidArgumentError) as caught:
            load_dag(path)
        return str(caught.value).replace(repr(str(path)), "PATH")

    assert refusal(missing) == (
        "path is PATH; expected an existing DAG file (YAML or JSON). "
        "Fix: check the path; it is relative to the current folder"
    )
    assert refusal(tmp_path).startswith(
        "path is PATH; expected a DAG file that can be read (Is a directory)."
    )
    assert refusal(binary) == (
        "path is PATH; expected a text in UTF-8, but byte 0 is not. Fix: save the file as UTF-8"
    )
    monkeypatch.setattr("orchestration.documents.MAX_TEXT_BYTES", 99)
    assert (
        refusal(tmp_path / "large") == "path is PATH; expected a file of at most 99 bytes. Fix: split the DAG"
    )
    assert mistakes_in("x: " + "y" * 100 + "\n") == [
        "document: has 104 bytes; at most 99 are allowed. Fix: Split the DAG."
    ]


def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    """The reason of the operating system is passed on."""
    path = tmp_path / "secret.yaml"
    path.write_text(REPORT)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")

    with pytest.raises(InvalidArgumentError, match="Permission denied"):
        load_dag(path)
