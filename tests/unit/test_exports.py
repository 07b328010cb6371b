"""Drawings and schema: they show what is there, break on nothing, and agree with the files they describe."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from orchestration.dag import TaskDAG
from orchestration.dag_file import (
    DEFAULTABLE_KEYS,
    EDGE_KEYS,
    TASK_KEYS,
    dag_to_document,
    load_dag,
    parse_document,
)
from orchestration.documents import read_document
from orchestration.errors import InvalidArgumentError, InvalidDagError
from orchestration.exports import export, to_dot, to_mermaid
from orchestration.models import NOT_YET_AVAILABLE, Json, TaskEdge, TaskNode, TaskStatus
from orchestration.schema import dag_json_schema, main

from .dags import any_dags, dag_of

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(dag_json_schema())


def _shown() -> TaskDAG:
    dag = dag_of("a>b", "a>end")
    dag.nodes["a"] = TaskNode("a", description='say "hi" <b> & `x` #1 \\\nnow', status=TaskStatus.COMPLETED)
    dag.add_dependency(TaskEdge("b", "end", is_optional=True, condition='output.x == "a|b"'))
    return dag


def test_mermaid_shows_statuses_options_and_conditions() -> None:
    """Tasks carry their colour, optional edges are dotted, conditions are labels; everything is escaped."""
    assert to_mermaid(_shown()) == (
        "flowchart TD\n"
        '    t0["a<br/>say &quot;hi&quot; &lt;b&gt; &amp; &#96;x&#96; &num;1 &bsol; now"]:::completed\n'
        '    t1["b"]:::pending\n'
        '    t2["end"]:::pending\n'
        "    t0 --> t1\n"
        "    t0 --> t2\n"
        '    t1 -.->|"output.x == &quot;a|b&quot;"| t2\n'
        "    classDef pending fill:#f1f3f5,stroke:#868e96,color:#212529\n"
        "    classDef completed fill:#b2f2bb,stroke:#2b8a3e,color:#212529\n"
    )


def test_dot_shows_statuses_options_and_conditions() -> None:
    """The same in Graphviz's language."""
    assert to_dot(_shown()) == (
        'digraph "test" {\n'
        '    node [shape=box, style="rounded,filled", fontname="sans-serif"];\n'
        '    t0 [label="a\\nsay \\"hi\\" <b> & `x` #1 \\\\ now", fillcolor="#b2f2bb", color="#2b8a3e"];\n'
        '    t1 [label="b", fillcolor="#f1f3f5", color="#868e96"];\n'
        '    t2 [label="end", fillcolor="#f1f3f5", color="#868e96"];\n'
        "    t0 -> t1;\n"
        "    t0 -> t2;\n"
        '    t1 -> t2 [style=dashed, label="output.x == \\"a|b\\""];\n'
        "}\n"
    )


@given(any_dags())
@settings(max_examples=50, deadline=None)
def test_no_text_breaks_a_drawing(dag: TaskDAG) -> None:
    """Whatever descriptions hold, each task and edge is one line with balanced quotes."""
    mermaid, dot = to_mermaid(dag).rstrip("\n").split("\n"), to_dot(dag).rstrip("\n").split("\n")

    classes = {node.status for node in dag.nodes.values()}
    assert len(mermaid) == 1 + len(dag.nodes) + len(dag.edges) + len(classes)
    assert all(line.count('"') in (0, 2) for line in mermaid)
    assert len(dot) == 3 + len(dag.nodes) + len(dag.edges)
    assert all(len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0 for line in dot)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_the_dot() -> None:
    """The real program accepts the drawing."""
    subprocess.run(
        ["dot", "-Tsvg"], input=to_dot(_shown()), text=True, capture_output=True, check=True, timeout=30
    )


def test_a_drawing_of_a_dag_with_mistakes_is_possible() -> None:
    """An edge to nowhere is drawn to a bare name: drawings help to find mistakes."""
    dag = dag_of("a>b")
    dag.add_dependency(TaskEdge("a", "nowhere"))

    assert "    t0 --> t2\n" in to_mermaid(dag)


def test_each_format_is_exported_by_name() -> None:
    """JSON and YAML read back; an unknown name is refused with the ones there are."""
    dag = load_dag(export(_shown(), "json"))

    assert dag == load_dag(export(dag, "yaml"))
    assert export(dag, "mermaid").startswith("flowchart TD")
    assert export(dag, "dot").startswith("digraph")
    with pytest.raises(InvalidArgumentError) as caught:
        export(dag, "png")
    assert str(caught.value) == "format is 'png'; expected one of json, yaml, mermaid, dot."


# --- The schema ---------------------------------------------------------------------------------------------


def test_the_published_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """`docs/dag.schema.json` is what the model says; the command that compares them agrees."""
    path = ROOT / "docs" / "dag.schema.json"

    assert json.loads(path.read_text(encoding="utf-8")) == dag_json_schema()
    assert main([str(path), "--check"]) == 0
    assert main([]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not current is named with the command that makes it so."""
    path = tmp_path / "schema.json"

    assert main([str(path), "--check"]) == 1
    assert f"{path} is not current. Fix: python -m orchestration.schema {path}\n" == capsys.readouterr().err
    assert main([str(path)]) == 0
    assert main([str(path), "--check"]) == 0


def test_the_schema_command_runs_as_a_module() -> None:
    """As CONTRIBUTING and the Makefile call it."""
    command = [sys.executable, "-m", "orchestration.schema", "docs/dag.schema.json", "--check"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def test_the_schema_knows_every_key_the_reader_knows() -> None:
    """Keys, defaults and required ones are the same in both."""
    schema = dag_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    task = schema["properties"]["tasks"]["items"]

    assert set(task["properties"]) == set(TASK_KEYS)
    assert task["required"] == ["task_id"]
    assert set(schema["properties"]["edges"]["items"]["properties"]) == set(EDGE_KEYS)
    assert set(schema["properties"]["defaults"]["properties"]) == set(DEFAULTABLE_KEYS)


@given(any_dags())
@settings(max_examples=50, deadline=None)
def test_every_export_fits_the_schema(dag: TaskDAG) -> None:
    """What the program writes is what the schema describes."""
    VALIDATOR.validate(dag_to_document(dag))


@pytest.mark.parametrize(
    "task",
    [
        {"task_id": "a b"},
        {"task_id": "a", "colour": 1},
        {"task_id": "a", "priority": "soon"},
        {"task_id": "a", "cost": -1},
        {"task_id": "a", "complexity_score": 11},
        {"task_id": "a", "timeout_seconds": 0},
        {"task_id": "a", "depends_on": "b"},
        {"task_id": "a~1"},
        {"task_id": "a[0]"},
        {"task_id": "a", "parent": "a[0]"},
        {"task_id": "a", "approval": "somebody"},
        {"task_id": "a", "foreach": 5},
        {"task_id": "a", "fallback": "b"},
        {"task_id": "a", "fallback": {"fallback": {"priority": "HIGH"}}},
        {},
        *({"task_id": "a", key: 1} for key in NOT_YET_AVAILABLE),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(task: dict[str, Any]) -> None:
    """Editor and program agree on what one task may say."""
    document = {"dag_id": "x", "tasks": [task]}

    assert not VALIDATOR.is_valid(document)
    with pytest.raises(InvalidDagError):
        parse_document(document)


def _examples() -> dict[str, Json]:
    guide = (ROOT / "docs" / "dag-file.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    found = {f"docs/dag-file.md, {number}": read_document(block) for number, block in enumerate(blocks, 1)}
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        document = read_document(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and "tasks" in document:
            found[str(path.relative_to(ROOT))] = document
    return found


@pytest.mark.parametrize("name", _examples())
def test_every_example_fits_the_schema_and_loads(name: str) -> None:
    """The examples of the docs and of `examples/` are sound."""
    document = _examples()[name]

    VALIDATOR.validate(document)
    assert isinstance(document, dict)
    assert parse_document(document).nodes


def test_the_guide_names_every_key() -> None:
    """`docs/dag-file.md` documents each key of the format, and each one that is refused."""
    guide = (ROOT / "docs" / "dag-file.md").read_text(encoding="utf-8")

    assert [key for key in (*TASK_KEYS, *EDGE_KEYS, *NOT_YET_AVAILABLE) if f"`{key}`" not in guide] == []
    assert {key for key in TASK_KEYS if f"`{key}` †" in guide} == set(DEFAULTABLE_KEYS)
