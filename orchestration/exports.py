"""A DAG in the formats people look at: Mermaid and DOT drawings, and the file formats by name.

May import: orchestration.{dag, dag_file, errors, models}, stdlib.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_to_document, dump_yaml
from orchestration.errors import InvalidArgumentError
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus

_COLOURS: Mapping[TaskStatus, tuple[str, str]] = {
    TaskStatus.PENDING: ("#f1f3f5", "#868e96"),
    TaskStatus.READY: ("#e7f5ff", "#1c7ed6"),
    TaskStatus.RUNNING: ("#74c0fc", "#1864ab"),
    TaskStatus.RETRYING: ("#fff3bf", "#f08c00"),
    TaskStatus.UNKNOWN: ("#ffec99", "#e8590c"),
    TaskStatus.REPLANNING: ("#ffe8cc", "#e8590c"),
    TaskStatus.PAUSED: ("#e9ecef", "#495057"),
    TaskStatus.COMPLETED: ("#b2f2bb", "#2b8a3e"),
    TaskStatus.FAILED: ("#ffc9c9", "#c92a2a"),
    TaskStatus.CANCELLED: ("#dee2e6", "#343a40"),
    TaskStatus.SKIPPED: ("#f8f9fa", "#adb5bd"),
    TaskStatus.SUPERSEDED: ("#f3d9fa", "#862e9c"),
}
"""Fill and border per status; dark text is readable on every fill."""
_MAX_LABEL_CHARS = 60
_ENTITIES = {
    "&": "&amp;",
    '"': "&quot;",
    "<": "&lt;",
    ">": "&gt;",
    "#": "&num;",
    "`": "&#96;",
    "\\": "&bsol;",
}


def export(dag: TaskDAG, format: str) -> str:  # noqa: A002  (the word every caller uses)
    """Return a DAG as `json`, `yaml`, `mermaid` or `dot`.

    Raises:
        InvalidArgumentError: There is no such format.
    """
    write = _FORMATS.get(format)
    if write is None:
        raise InvalidArgumentError("format", format, f"one of {', '.join(_FORMATS)}")
    return write(dag)


def to_json(dag: TaskDAG) -> str:
    """Return a DAG as indented JSON, which `load_dag` reads back."""
    return json.dumps(dag_to_document(dag), ensure_ascii=False, indent=2) + "\n"


def to_mermaid(dag: TaskDAG) -> str:
    """Return a DAG as a Mermaid flowchart: coloured by status, optional edges dotted, conditions on the edges."""
    names = _names(dag)
    lines = ["flowchart TD"]
    for task_id, node in dag.nodes.items():
        label = "<br/>".join(_mermaid_text(line) for line in _label(node))
        lines.append(f'    {names[task_id]}["{label}"]:::{node.status.value}')
    for edge in dag.edges:
        arrow = "-.->" if edge.is_optional else "-->"
        label = f'|"{_mermaid_text(_shortened(edge.condition))}"|' if edge.condition else ""
        lines.append(
            f"    {_name(names, edge.source_task_id)} {arrow}{label} {_name(names, edge.target_task_id)}"
        )
    for status in _statuses(dag):
        fill, border = _COLOURS[status]
        lines.append(f"    classDef {status.value} fill:{fill},stroke:{border},color:#212529")
    return "\n".join(lines) + "\n"


def to_dot(dag: TaskDAG) -> str:
    """Return a DAG in Graphviz's DOT: coloured by status, optional edges dashed, conditions on the edges."""
    names = _names(dag)
    lines = [
        f"digraph {_dot_text(dag.dag_id)} {{",
        '    node [shape=box, style="rounded,filled", fontname="sans-serif"];',
    ]
    for task_id, node in dag.nodes.items():
        fill, border = _COLOURS[node.status]
        label = _dot_text("\n".join(_label(node)))
        lines.append(f'    {names[task_id]} [label={label}, fillcolor="{fill}", color="{border}"];')
    for edge in dag.edges:
        ends = f"{_name(names, edge.source_task_id)} -> {_name(names, edge.target_task_id)}"
        lines.append(f"    {ends}{_dot_attributes(edge)};")
    return "\n".join([*lines, "}"]) + "\n"


_FORMATS: Mapping[str, Callable[[TaskDAG], str]] = {
    "json": to_json,
    "yaml": dump_yaml,
    "mermaid": to_mermaid,
    "dot": to_dot,
}


def _names(dag: TaskDAG) -> dict[TaskId, str]:
    """Give each task a name no drawing language takes for a keyword."""
    return {task_id: f"t{index}" for index, task_id in enumerate(dag.nodes)}


def _name(names: dict[TaskId, str], task_id: TaskId) -> str:
    """Return the name of an edge's end; an end that is not in the DAG is drawn bare."""
    return names.setdefault(task_id, f"t{len(names)}")


def _label(node: TaskNode) -> list[str]:
    return [node.task_id, _shortened(node.description)] if node.description else [node.task_id]


def _shortened(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= _MAX_LABEL_CHARS else words[: _MAX_LABEL_CHARS - 1] + "…"


def _statuses(dag: TaskDAG) -> list[TaskStatus]:
    present = {node.status for node in dag.nodes.values()}
    return [status for status in TaskStatus if status in present]


def _mermaid_text(text: str) -> str:
    return "".join(_ENTITIES.get(letter, letter) for letter in text)


def _dot_text(text: str) -> str:
    """Return a DOT string; a line break stays one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _dot_attributes(edge: TaskEdge) -> str:
    attributes = ["style=dashed"] if edge.is_optional else []
    if edge.condition:
        attributes.append(f"label={_dot_text(_shortened(edge.condition))}")
    return f" [{', '.join(attributes)}]" if attributes else ""
