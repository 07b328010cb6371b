"""A DAG as a drawing, in Mermaid and in Graphviz's DOT.

May import: orchestration.{dag, folding, models}, stdlib.

A task with parts is drawn as one box that says how far they came; unfolded, as a frame around them. What was replaced
is dashed, with an arrow to what stands in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestration.dag import TaskDAG
from orchestration.folding import Parts, parts_of
from orchestration.models import TaskId, TaskNode, TaskStatus

_COLOURS: Mapping[TaskStatus, tuple[str, str]] = {
    TaskStatus.PENDING: ("#f1f3f5", "#868e96"),
    TaskStatus.READY: ("#e7f5ff", "#1c7ed6"),
    TaskStatus.RUNNING: ("#74c0fc", "#1864ab"),
    TaskStatus.RETRYING: ("#fff3bf", "#f08c00"),
    TaskStatus.OFFERED: ("#e5dbff", "#7048e8"),
    TaskStatus.CLAIMED: ("#b197fc", "#5f3dc4"),
    TaskStatus.AWAITING_APPROVAL: ("#ffe066", "#e67700"),
    TaskStatus.EXPANDED: ("#e3fafc", "#0c8599"),
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
_MAX_REASON_CHARS = 200
_ENTITIES = {
    "&": "&amp;",
    '"': "&quot;",
    "<": "&lt;",
    ">": "&gt;",
    "#": "&num;",
    "`": "&#96;",
    "\\": "&bsol;",
}
_STEP = "    "


@dataclass(frozen=True, slots=True)
class Replaced:
    """A task that a revision of the plan put something else in the place of, or removed."""

    task_id: TaskId
    revision: int
    by: str
    """Who made the revision."""
    reason: str
    tasks: Sequence[TaskId] = ()
    """What came in its place; nothing when it was removed."""
    delivers: TaskId | None = None
    """Which of them stands for it."""

    def __str__(self) -> str:
        what = f"was replaced by {', '.join(self.tasks)}" if self.tasks else "was removed"
        why = f": {self.reason}" if self.reason else ""
        return f"revision {self.revision} by {self.by}: {self.task_id} {what}{why}"


def to_mermaid(dag: TaskDAG, *, unfold: bool = False, replaced: Sequence[Replaced] = ()) -> str:
    """Return a DAG as a Mermaid flowchart: coloured by status, optional edges dotted, conditions on the edges.

    Args:
        dag: What to draw.
        unfold: Whether to draw the parts of tasks, in a frame each.
        replaced: What stands in the place of superseded tasks, and why.
    """
    drawing = _Drawing(dag, unfold=unfold, replaced=replaced)
    lines = ["flowchart TD"]
    for task_id in drawing.outermost:
        lines += _mermaid_task(drawing, task_id, _STEP)
    for edge in drawing.edges:
        arrow = "-.->" if edge.is_optional else "-->"
        label = f'|"{_mermaid_text(_shortened(edge.condition))}"|' if edge.condition else ""
        source, target = drawing.name(edge.source_task_id), drawing.name(edge.target_task_id)
        lines.append(f"    {source} {arrow}{label} {target}")
    for each in drawing.replaced:
        # Braces would begin a directive.
        told = _shortened(str(each), _MAX_REASON_CHARS).replace("{", "(").replace("}", ")")
        lines.append(f"    %% {told}")
        lines += [
            f'    {drawing.name(each.task_id)} -.->|"replaced by"| {drawing.name(new)}'
            for new in drawing.successors(each)
        ]
    for status in drawing.statuses:
        fill, border = _COLOURS[status]
        dashes = ",stroke-dasharray:5 5" if status is TaskStatus.SUPERSEDED else ""
        lines.append(f"    classDef {status.value} fill:{fill},stroke:{border},color:#212529{dashes}")
    return "\n".join(lines) + "\n"


def part_of(dag: TaskDAG, parent: TaskId) -> TaskDAG:
    """Return the graph of what is part of a task, at any depth; empty where nothing is."""
    inner: set[TaskId] = set()
    around = {parent}
    while around:
        around = {task_id for task_id, node in dag.nodes.items() if node.parent in around} - inner
        inner |= around
    twin = dag.copy()
    twin.nodes = {task_id: node for task_id, node in dag.nodes.items() if task_id in inner}
    twin.edges = [edge for edge in dag.edges if edge.source_task_id in inner and edge.target_task_id in inner]
    return twin


def _mermaid_task(drawing: _Drawing, task_id: TaskId, indent: str) -> Iterator[str]:
    node, name = drawing.dag.nodes[task_id], drawing.name(task_id)
    label = "<br/>".join(_mermaid_text(line) for line in drawing.label(node))
    if children := drawing.children.get(task_id):
        yield f'{indent}subgraph {name}["{label}"]'
        for child in children:
            yield from _mermaid_task(drawing, child, indent + _STEP)
        yield f"{indent}end"
        yield f"{indent}class {name} {node.status.value}"
    elif drawing.is_composite(node):
        yield f'{indent}{name}[["{label}"]]:::{node.status.value}'
    else:
        yield f'{indent}{name}["{label}"]:::{node.status.value}'


def to_dot(dag: TaskDAG, *, unfold: bool = False, replaced: Sequence[Replaced] = ()) -> str:
    """Return a DAG in Graphviz's DOT: coloured by status, optional edges dashed, conditions on the edges.

    Args:
        dag: What to draw.
        unfold: Whether to draw the parts of tasks, in a frame each.
        replaced: What stands in the place of superseded tasks, and why.
    """
    drawing = _Drawing(dag, unfold=unfold, replaced=replaced)
    lines = [
        f"digraph {_dot_text(dag.dag_id)} {{",
        '    node [shape=box, style="rounded,filled", fontname="sans-serif"];',
    ]
    if drawing.children:
        lines.append("    compound=true;")
    for task_id in drawing.outermost:
        lines += _dot_task(drawing, task_id, _STEP)
    for edge in drawing.edges:
        attributes = ["style=dashed"] if edge.is_optional else []
        if edge.condition:
            attributes.append(f"label={_dot_text(_shortened(edge.condition))}")
        lines.append(_dot_edge(drawing, edge.source_task_id, edge.target_task_id, attributes))
    for each in drawing.replaced:
        told = _dot_text(_shortened(str(each), _MAX_REASON_CHARS))
        attributes = ["style=dashed", 'label="replaced by"', f"tooltip={told}"]
        lines += [_dot_edge(drawing, each.task_id, new, attributes) for new in drawing.successors(each)]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_task(drawing: _Drawing, task_id: TaskId, indent: str) -> Iterator[str]:
    node, name = drawing.dag.nodes[task_id], drawing.name(task_id)
    fill, border = _COLOURS[node.status]
    label = _dot_text("\n".join(drawing.label(node)))
    if children := drawing.children.get(task_id):
        yield f"{indent}subgraph cluster_{name} {{"
        style = f'style="rounded,filled", fontname="sans-serif", fillcolor="{fill}", color="{border}"'
        yield f"{indent}    graph [label={label}, {style}];"
        for child in children:
            yield from _dot_task(drawing, child, indent + _STEP)
        yield f"{indent}}}"
        return
    more = ""
    if node.status is TaskStatus.SUPERSEDED:
        more = ', style="rounded,filled,dashed"'
    elif drawing.is_composite(node):
        more = ", peripheries=2"
    yield f'{indent}{name} [label={label}, fillcolor="{fill}", color="{border}"{more}];'


def _dot_edge(drawing: _Drawing, source: TaskId, target: TaskId, attributes: Sequence[str]) -> str:
    """Return an edge; one from or to a frame is drawn from or to one of its tasks and cut at the frame."""
    more = list(attributes)
    ends = []
    for end, cut in ((source, "ltail"), (target, "lhead")):
        inner = end
        while drawing.children.get(inner):
            inner = drawing.children[inner][0]
        if inner != end:
            more.append(f"{cut}=cluster_{drawing.name(end)}")
        ends.append(drawing.name(inner))
    told = f" [{', '.join(more)}]" if more else ""
    return f"    {ends[0]} -> {ends[1]}{told};"


class _Drawing:
    """What is to be seen of a DAG: which tasks, in which frames, and the edges between them."""

    def __init__(self, dag: TaskDAG, *, unfold: bool, replaced: Sequence[Replaced]) -> None:
        self.dag = dag
        nodes = dag.nodes
        inner = {
            task_id: node.parent
            for task_id, node in nodes.items()
            if node.parent is not None and node.parent in nodes
        }
        self._parts: Mapping[TaskId, Parts] = parts_of(
            (inner.get(task_id), node.status) for task_id, node in nodes.items()
        )
        self.outermost = [task_id for task_id in nodes if task_id not in inner]
        self.children: dict[TaskId, list[TaskId]] = {}
        """The tasks in each frame; none when folded."""
        if unfold:
            for task_id, parent in inner.items():
                self.children.setdefault(parent, []).append(task_id)
        hidden = set() if unfold else set(inner)
        # What a parent waits for is handed to its parts; drawn once, to the parent, it says the same.
        self.edges = [
            edge
            for edge in dag.edges
            if not hidden & {edge.source_task_id, edge.target_task_id}
            and inner.get(edge.source_task_id) == inner.get(edge.target_task_id)
        ]
        # A name that no drawing language takes for a keyword.
        self._names = {task_id: f"t{index}" for index, task_id in enumerate(nodes)}
        self._hidden = hidden
        self.replaced = [each for each in replaced if each.task_id in nodes and each.task_id not in hidden]
        present = {node.status for task_id, node in nodes.items() if task_id not in hidden}
        self.statuses = [status for status in TaskStatus if status in present]

    def name(self, task_id: TaskId) -> str:
        """Return a task's name in the drawing; an edge's end that is not in the DAG is drawn bare."""
        return self._names.setdefault(task_id, f"t{len(self._names)}")

    def is_composite(self, node: TaskNode) -> bool:
        """Whether others do a task's work."""
        return node.foreach is not None or node.task_id in self._parts

    def label(self, node: TaskNode) -> list[str]:
        """Return the lines in a task's box."""
        lines = [node.task_id]
        if node.description:
            lines.append(_shortened(node.description))
        parts = self._parts.get(node.task_id)
        if parts is not None and parts.total:
            lines.append(str(parts))
        elif isinstance(node.foreach, str):
            lines.append(_shortened(f"for each of {node.foreach}"))
        elif node.foreach is not None:
            lines.append(f"for each of {len(node.foreach):,} items")
        return lines

    def successors(self, each: Replaced) -> list[TaskId]:
        """Return the drawn tasks that came in the place of one: those no other of them leads to."""
        new = [task_id for task_id in each.tasks if task_id in self.dag.nodes and task_id not in self._hidden]
        led_to = {edge.target_task_id for edge in self.edges if edge.source_task_id in new}
        return [task_id for task_id in new if task_id not in led_to]


def _shortened(text: str | None, limit: int = _MAX_LABEL_CHARS) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _mermaid_text(text: str) -> str:
    return "".join(_ENTITIES.get(letter, letter) for letter in text)


def _dot_text(text: str) -> str:
    """Return a DOT string; a line break stays one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
