"""From a playbook and its parameters' values to a DAG: placeholders filled in, nested playbooks in their steps' place.

May import: orchestration.{dag, dag_file, models, options, validation}, planning.{draft_values, playbook_model}, stdlib.

`{{parameter}}` is filled in here and `${task.path}` when the task runs. A value put where references may stand is only
ever text or data: a `${` in it, whoever wrote it, stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.dag_file import parse_document
from orchestration.models import Json, TaskEdge, TaskId
from orchestration.options import Limits
from orchestration.planning.draft_values import Renaming, set_fields
from orchestration.planning.playbook_model import Playbook, Subtask
from orchestration.validation import normalized

MAX_DEPTH = 8
"""How deep playbooks may name playbooks."""

_PLACEHOLDER = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")
_LIKE_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w-]*)\s*\}\}")
"""Also what no parameter can be called: whoever writes `{{Version}}` meant `version`."""
_DEFAULT_LIMITS = Limits()

_WITH_REFERENCES = ("arguments", "foreach", "verify", "fallback", "acceptance")
"""Fields of a task in which `${…}` is a reference."""


@dataclass(slots=True)
class Expansion:
    """Tasks and edges as the file format has them, and which step of which playbook each task comes from."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    origins: list[tuple[str, int]] = field(default_factory=list)

    def to_dag(self, dag_id: str, goal: str, limits: Limits = _DEFAULT_LIMITS) -> TaskDAG:
        """Return the expansion as a validated DAG.

        Raises:
            InvalidDagError: It has mistakes; all are listed.
        """
        document = {"dag_id": dag_id, "goal": goal, "tasks": self.tasks, "edges": self.edges}
        return normalized(parse_document(document, limits), limits)


@dataclass(frozen=True, slots=True)
class _Step:
    """What stands for a step in the DAG: where edges lead in, and where they come out."""

    roots: Sequence[TaskId]
    leaves: Sequence[TaskId]


def expand(playbook: Playbook, values: Mapping[str, Json], playbooks: Mapping[str, Playbook]) -> Expansion:
    """Expand a playbook.

    Args:
        playbook: One that was checked together with `playbooks`.
        values: A value for every parameter, and for `goal`.
        playbooks: Those its steps may name.
    """
    expansion = Expansion()
    _expand(playbook, values, playbooks, "", expansion)
    return expansion


def _expand(
    playbook: Playbook,
    values: Mapping[str, Json],
    playbooks: Mapping[str, Playbook],
    prefix: str,
    into: Expansion,
) -> _Step:
    steps: dict[str, _Step] = {}
    left_out: dict[str, Sequence[str]] = {}
    first = len(into.tasks)
    direct: list[dict[str, Any]] = []
    for index, subtask in enumerate(playbook.subtasks):
        if subtask.when is not None and not values[subtask.when]:
            left_out[subtask.task_id] = subtask.depends_on
        elif subtask.playbook is not None:
            named = playbooks[subtask.playbook]
            given = _filled(subtask.with_, values)
            inner = {
                name: parameter.typed(given.get(name, parameter.default))
                for name, parameter in named.parameters.items()
            }
            inner["goal"] = values["goal"]
            steps[subtask.task_id] = _expand(named, inner, playbooks, f"{prefix}{subtask.task_id}-", into)
        else:
            task_id = f"{prefix}{subtask.task_id}"
            direct.append(_task(task_id, subtask, values, prefix))
            into.tasks.append(direct[-1])
            into.origins.append((playbook.name, index))
            steps[subtask.task_id] = _Step((task_id,), (task_id,))
    _join(playbook, steps, left_out, into)
    _rename_references(direct, steps)
    return _ends(into.tasks[first:], into.edges)


def _task(task_id: TaskId, subtask: Subtask, values: Mapping[str, Json], prefix: str) -> dict[str, Any]:
    task: dict[str, Any] = {"task_id": task_id}
    for name, value in subtask.task_fields().items():
        task[name] = _filled(value, values, escape=name in _WITH_REFERENCES)
    if isinstance(task.get("parent"), str):
        task["parent"] = f"{prefix}{task['parent']}"
    if subtask.title:
        metadata = task.get("metadata")
        title = _filled(subtask.title, values)
        task["metadata"] = {"title": title, **(metadata if isinstance(metadata, dict) else {})}
    return task


def _join(
    playbook: Playbook, steps: Mapping[str, _Step], left_out: Mapping[str, Sequence[str]], into: Expansion
) -> None:
    """Add the edges between steps: `edges` as written, and `depends_on` for the other pairs."""
    found: dict[tuple[TaskId, TaskId], TaskEdge] = {}
    for subtask in playbook.subtasks:
        if subtask.task_id not in steps:
            continue
        for upstream in _present(subtask.depends_on, left_out):
            found |= _between(steps[upstream], steps[subtask.task_id], TaskEdge(upstream, subtask.task_id))
    for edge in playbook.edges:
        if edge.source_task_id in steps and edge.target_task_id in steps:
            found |= _between(steps[edge.source_task_id], steps[edge.target_task_id], edge)
    into.edges.extend(set_fields(edge) for edge in found.values())


def _between(source: _Step, target: _Step, edge: TaskEdge) -> dict[tuple[TaskId, TaskId], TaskEdge]:
    """Return the edges that stand for one between two steps: from every leaf to every root."""
    return {
        (leaf, root): replace(edge, source_task_id=leaf, target_task_id=root)
        for leaf in source.leaves
        for root in target.roots
    }


def _present(names: Sequence[str], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps that are there; in place of one left out, those that it depended on."""
    found: dict[str, None] = {}
    waiting = list(reversed(names))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in left_out:
            waiting.extend(reversed(left_out[name]))
        else:
            found[name] = None
    return list(found)


def _rename_references(tasks: Sequence[dict[str, Any]], steps: Mapping[str, _Step]) -> None:
    """Let `${step…}` name the task that stands for the step; a nested playbook's is its only leaf."""
    renamed = {
        name: step.leaves[0]
        for name, step in steps.items()
        if len(step.leaves) == 1 and step.leaves[0] != name
    }
    if renamed:
        renaming = Renaming(renamed)
        for task in tasks:
            task.update(renaming.of_task(task))


def _ends(tasks: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> _Step:
    """Return the roots and leaves of some tasks among themselves; what is a part of a task is neither."""
    ids = [task["task_id"] for task in tasks if task.get("parent") is None]
    own = set(ids)
    inner = [edge for edge in edges if edge["source_task_id"] in own and edge["target_task_id"] in own]
    targets = {edge["target_task_id"] for edge in inner}
    sources = {edge["source_task_id"] for edge in inner}
    return _Step([name for name in ids if name not in targets], [name for name in ids if name not in sources])


# --- Placeholders ---------------------------------------------------------------------------------------------------


def placeholders_in(
    value: object, way: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each parameter named in a value, there or not, with the way to the text that names it."""
    if isinstance(value, str):
        for found in _LIKE_PLACEHOLDER.finditer(value):
            yield way, found[1]
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from placeholders_in(item, (*way, key))
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from placeholders_in(item, (*way, index))


def _filled(value: Any, values: Mapping[str, Json], *, escape: bool = False) -> Any:
    """Return a value with its placeholders filled in: typed where one is the whole text, else as text."""
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole:
            return _escaped(values[whole[1]]) if escape else values[whole[1]]
        return _PLACEHOLDER.sub(lambda found: _piece(found, values, escape=escape), value)
    if isinstance(value, Mapping):
        return {key: _filled(item, values, escape=escape) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values, escape=escape) for item in value]
    return value


def _piece(found: re.Match[str], values: Mapping[str, Json], *, escape: bool) -> str:
    """Return the text that takes a placeholder's place inside a longer one."""
    text = as_text(values[found[1]])
    if not escape:
        return text
    opens = text.startswith("{") and found.string[: found.start()].endswith("$")
    return ("$" if opens else "") + str(_escaped(text))


def _escaped(value: Json) -> Json:
    """Return a value in which `${` means itself."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key.replace("${", "$${"): _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value


def as_text(value: Json) -> str:
    """Return a value as it reads inside a sentence: a list as its items with commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(as_text(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {as_text(item)}" for key, item in value.items())
    return "" if value is None else str(value)
