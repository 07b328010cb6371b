"""What `set` and `priority` do: the fields of a task that is there.

May import: orchestration.{models, problems}, orchestration.edits.{drafts, graph, operations},
orchestration.planning.draft_values, stdlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.edits.drafts import TASK_FIELDS, read_fields, unknown_field
from orchestration.edits.graph import EditedGraph
from orchestration.edits.operations import Operation
from orchestration.models import TaskEdge, TaskId, TaskNode
from orchestration.planning.draft_values import FIELD_NAMES, canonical_field, names_in
from orchestration.problems import shown

_NOT_SETTABLE: Mapping[str, str] = {
    "task_id": "An id stays: add a task under the new one, and remove this one.",
    "status": "Skip the task, or use the control commands (retry, decide, approve).",
}
_DEEP_FIELDS = ("arguments", "metadata", "resource_requirements")
"""Fields of which a part may be set by a path: `arguments.day`."""


class FieldEditing(EditedGraph):
    """Changes the fields of tasks."""

    def _set(self, operation: Operation) -> None:
        """Give a task other fields; one that is set to nothing gets what it has when it is not given."""
        task_id = self._find(operation)
        sent: Mapping[str, Any] = operation.fields["fields"]
        plain: dict[str, Any] = {}
        parts: list[tuple[str, list[str], Any]] = []
        resets: list[str] = []
        for key, value in sent.items():
            name, *steps = key.split(".")
            own = canonical_field(name, FIELD_NAMES)
            if steps and own in _DEEP_FIELDS:
                parts.append((own, steps, value))
            elif value is None:
                resets.append(own)
            else:
                plain[key] = value
        fields, problems, notes = read_fields(operation, plain, self.nodes)
        self.problems += problems
        self.notes += notes
        if task_id is None:
            return
        node = self.nodes[task_id]
        self._reset(operation, fields, resets)
        title = fields.pop("title", None)
        if title is not None:
            fields.setdefault("description", title)
        for name, steps, value in parts:
            fields[name] = _with_part(fields.get(name, getattr(node, name)), steps, value)
        if "depends_on" in fields:
            self._set_upstreams(operation, task_id, fields.pop("depends_on"))
        self._refuse_fixed(operation, node, fields)
        self._change(operation, node, fields)

    def _reset(self, operation: Operation, fields: dict[str, Any], names: Sequence[str]) -> None:
        defaults = _defaults()
        for name in names:
            if name == "depends_on":
                fields[name] = []
            elif name in defaults:
                fields.setdefault(name, defaults[name])
            elif name not in _NOT_SETTABLE:
                self.problems.append(unknown_field(operation.path, name))

    def _refuse_fixed(self, operation: Operation, node: TaskNode, fields: dict[str, Any]) -> None:
        """Take out of the fields, and refuse, what no task has and what stays as it is."""
        for name in list(fields):
            if name in _NOT_SETTABLE:
                if fields[name] != getattr(node, name):
                    self._refuse(operation, "can't be set.", _NOT_SETTABLE[name], name)
                del fields[name]
            elif name not in TASK_FIELDS:
                self.problems.append(unknown_field(operation.path, name))
                del fields[name]

    def _set_upstreams(self, operation: Operation, task_id: TaskId, sent: object) -> None:
        """Let a task depend on exactly these; edges that stay are not touched."""
        given = names_in(sent) if isinstance(sent, str) else sent
        if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
            told = f"is {shown(sent)}; expected a list of task ids."
            self._refuse(operation, told, "Use `link` for an edge with fields of its own.", "depends_on")
            return
        wanted: list[TaskId] = []
        for name in given:
            named = replace(operation, fields={"depends_on": name})
            found = self._find(named, "depends_on")
            wanted += [found] if found is not None else []
        for edge in self._incoming(task_id):
            if edge.source_task_id not in wanted:
                self._cut(operation, (edge.source_task_id, task_id))
        for source in wanted:
            if (source, task_id) not in self.edges:
                self._join(operation, TaskEdge(source, task_id))

    def _priority(self, operation: Operation) -> None:
        task_id = self._find(operation)
        sent = {"priority": operation.fields.get("priority")}
        fields, problems, notes = read_fields(operation, sent, self.nodes)
        self.problems += problems
        self.notes += notes
        if task_id is not None:
            self._change(operation, self.nodes[task_id], fields)


def _defaults() -> dict[str, Any]:
    """Return what a task has in fields it does not give."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(TaskNode):
        if item.default is not dataclasses.MISSING:
            found[item.name] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            found[item.name] = item.default_factory()
    return found


def _with_part(value: Any, steps: Sequence[str], new: Any) -> Any:
    """Return an object with one part of it set, or taken out where it is set to nothing."""
    found = dict(value) if isinstance(value, Mapping) else {}
    first, *rest = steps
    if rest:
        found[first] = _with_part(found.get(first), rest, new)
    elif new is None:
        found.pop(first, None)
    else:
        found[first] = new
    return found
