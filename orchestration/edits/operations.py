"""What somebody wants changed in a graph, read from what they sent: a list of operations, each an object with `op`.

May import: orchestration.{errors, models, planning.draft_values, problems}, stdlib.

Read as language models send it: JSON inside strings, names in another spelling or case, `{"remove": "load"}` for
`{"op": "remove", "task_id": "load"}`. What is no operation, or says something an operation does not know, is refused.
What the operations do to a graph is in `graph.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.errors import Problem
from orchestration.planning.draft_values import EDGE_FIELD_NAMES, as_list, canonical_field, from_json_text
from orchestration.problems import nearest, shown

MAX_OPERATIONS = 1_000
"""Of one edit; who changes more makes a new plan."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "add": ("task", "tasks", "edges"),
    "set": ("task_id", "fields"),
    "remove": ("task_id", "reconnect"),
    "link": ("source_task_id", "target_task_id", "condition", "data_requirements", "is_optional"),
    "unlink": ("source_task_id", "target_task_id"),
    "skip": ("task_id", "reason"),
    "priority": ("task_id", "priority"),
    "replace": ("task_id", "tasks", "edges", "delivers"),
}
"""What each operation may say besides its name."""

EXAMPLES: Mapping[str, str] = {
    "add": '{"op": "add", "task": {"task_id": "audit", "tool": "audit", "depends_on": ["load"]}}',
    "set": '{"op": "set", "task_id": "load", "timeout_seconds": 600}',
    "remove": '{"op": "remove", "task_id": "load", "reconnect": true}',
    "link": '{"op": "link", "from": "load", "to": "audit"}',
    "unlink": '{"op": "unlink", "from": "load", "to": "audit"}',
    "skip": '{"op": "skip", "task_id": "load", "reason": "it is loaded already"}',
    "priority": '{"op": "priority", "task_id": "load", "priority": "HIGH"}',
    "replace": '{"op": "replace", "task_id": "load", "tasks": [{"task_id": "copy", "tool": "copy"}]}',
}

_NAMES: Mapping[str, str] = {
    **{name: name for name in KEYS},
    **dict.fromkeys(("add_task", "add_tasks", "create", "insert", "new", "append"), "add"),
    **dict.fromkeys(("update", "change", "modify", "edit", "set_task", "update_task", "patch"), "set"),
    **dict.fromkeys(("delete", "drop", "remove_task", "delete_task"), "remove"),
    **dict.fromkeys(("connect", "add_edge", "add_dependency", "add_link", "depend"), "link"),
    **dict.fromkeys(
        ("disconnect", "remove_edge", "remove_dependency", "delete_edge", "remove_link"), "unlink"
    ),
    **dict.fromkeys(("skip_task", "omit"), "skip"),
    **dict.fromkeys(("set_priority", "prioritize", "reprioritize"), "priority"),
    **dict.fromkeys(("replace_task", "substitute", "swap"), "replace"),
}
_OP_KEYS = ("op", "operation", "action", "type", "kind")
_TASK_KEYS = frozenset({"task", "task_id", "id", "taskid", "name", "target"})
"""What a task is called in operations that name one."""
_EDGE_OPS = frozenset({"link", "unlink"})
_DRAFTING_OPS = frozenset({"add", "replace"})
_TRUE = frozenset({"true", "yes", "1", "on"})
_FALSE = frozenset({"false", "no", "0", "off", ""})


@dataclass(frozen=True, slots=True)
class Operation:
    """One change that is wanted."""

    index: int
    op: str
    """One of `KEYS`."""
    fields: Mapping[str, Any]
    """What it says, under the names of `KEYS`; of `set`, the task's fields as they were sent."""
    sent: object = None
    """As it came."""

    @property
    def path(self) -> str:
        """How problems name it."""
        return f"operations[{self.index}]"

    @property
    def as_sent(self) -> str:
        """As JSON, for a command that somebody else types."""
        return json.dumps(self.sent, ensure_ascii=False, default=str)

    @property
    def told(self) -> str:
        """What it is, in the words of its sender."""
        if self.op in _EDGE_OPS:
            return f"{self.op} {self.fields.get('source_task_id')} → {self.fields.get('target_task_id')}"
        name = self.fields.get("task_id")
        return f"{self.op} {name}" if name is not None else self.op


def read_operations(sent: object) -> tuple[list[Operation], list[Problem]]:
    """Return the operations, and what is wrong with those that are none."""
    plain = from_json_text(sent, "[{")
    if isinstance(plain, Mapping) and "operations" in plain and not any(key in plain for key in _OP_KEYS):
        plain = from_json_text(plain["operations"], "[{")
    if isinstance(plain, str) or not isinstance(plain, Mapping | Sequence | None):
        fix = f"Send a list such as [{EXAMPLES['set']}]."
        return [], [Problem("operations", f"is {shown(sent)}; expected a list of operations.", fix)]
    given = as_list(plain)
    if len(given) > MAX_OPERATIONS:
        told = f"has {len(given):,} entries; at most {MAX_OPERATIONS:,} are allowed."
        return [], [Problem("operations", told, "Send them in several edits, or make a new plan.")]
    reading = _Reading()
    found = [reading.operation(index, entry) for index, entry in enumerate(given)]
    return [operation for operation in found if operation is not None], reading.problems


class _Reading:
    """One reading of operations: what is wrong so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def operation(self, index: int, sent: object) -> Operation | None:
        path = f"operations[{index}]"
        plain = from_json_text(sent, "{")
        if not isinstance(plain, Mapping):
            fix = f"Send an object such as {EXAMPLES['set']}."
            self.problems.append(Problem(path, f"is {shown(sent)}; expected an operation.", fix))
            return None
        fields = {str(key): value for key, value in plain.items()}
        name = self._name(path, fields)
        if name is None:
            return None
        return Operation(index, name, self._fields(path, name, fields), plain)

    def _name(self, path: str, fields: dict[str, Any]) -> str | None:
        """Take the operation's name out of its fields; None when there is none."""
        lower = {key.lower(): key for key in fields}
        for wanted in _OP_KEYS:
            if wanted in lower and isinstance(fields[lower[wanted]], str):
                sent = fields.pop(lower[wanted])
                name = _NAMES.get(canonical_field(sent, {}))
                if name is None:
                    near = nearest(sent.lower(), _NAMES)
                    fix = f"Did you mean {_NAMES[near]!r}?" if near else f"There are: {', '.join(KEYS)}."
                    self.problems.append(
                        Problem(f"{path}.op", f"is {shown(sent)}, which is no operation.", fix)
                    )
                return name
        if len(fields) == 1:  # {"remove": "load"}
            ((key, value),) = fields.items()
            name = _NAMES.get(canonical_field(key, {}))
            if name is not None:
                fields.clear()
                fields.update(_of_short_form(name, value))
                return name
        fix = f"Name one of {', '.join(KEYS)}, for example {EXAMPLES['set']}."
        self.problems.append(Problem(f"{path}.op", "is missing.", fix))
        return None

    def _fields(self, path: str, name: str, sent: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an operation says, under its own names."""
        if name == "set":
            return self._changes(path, sent)
        fields: dict[str, Any] = {}
        loose: dict[str, Any] = {}
        for key, value in sent.items():
            own = _own_key(name, key)
            if own in KEYS[name]:
                fields[own] = value
            elif name == "add":
                loose[key] = value
            elif value is not None:
                near = nearest(own, KEYS[name])
                fix = f"Write {near!r}." if near else f"It may have: {', '.join(KEYS[name])}."
                self.problems.append(Problem(f"{path}.{key}", f"means nothing to {name}.", fix))
        if loose:  # the task's fields stand beside `op`
            if isinstance(fields.get("task"), Mapping):
                self.problems.append(
                    Problem(f"{path}.{next(iter(loose))}", "stands beside the task.", "Put it into `task`.")
                )
            else:
                if isinstance(fields.get("task"), str):
                    loose["task_id"] = fields["task"]
                fields["task"] = loose
        if name in _EDGE_OPS or name == "remove":
            self._flags(path, fields)
        self._refuse_missing(path, name, fields)
        return fields

    def _changes(self, path: str, sent: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `set`: its task, and the fields, wherever they stand."""
        fields: dict[str, Any] = {}
        task_id: object = None
        one: dict[str, Any] = {}
        for key, value in sent.items():
            name = canonical_field(key, {})
            if name in _TASK_KEYS and not (name == "name" and task_id is not None):
                task_id = value
            elif name in {"fields", "changes", "values", "set"}:
                inner = from_json_text(value, "{")
                if isinstance(inner, Mapping):
                    fields |= {str(each): what for each, what in inner.items()}
                else:
                    told = f"is {shown(value)}; expected the fields to change."
                    self.problems.append(Problem(f"{path}.{key}", told, EXAMPLES["set"]))
            elif name in {"field", "value"}:
                one[name] = value
            else:
                fields[key] = value
        if isinstance(task_id, Mapping):  # {"op": "set", "task": {"task_id": …, …}}
            inner = {str(key): value for key, value in task_id.items()}
            task_id = next((inner.pop(key) for key in list(inner) if key.lower() in _TASK_KEYS), None)
            fields |= inner
        if isinstance(one.get("field"), str) and "value" in one:
            fields[one["field"]] = one["value"]
        elif one:
            fields |= one
        found = {"task_id": task_id, "fields": fields}
        self._refuse_missing(path, "set", found)
        return found

    def _flags(self, path: str, fields: dict[str, Any]) -> None:
        for name in ("is_optional", "reconnect"):
            value = fields.get(name)
            if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
                fields[name] = value.strip().lower() in _TRUE
            elif value is not None and not isinstance(value, bool):
                self.problems.append(Problem(f"{path}.{name}", f"is {shown(value)}; expected true or false."))
                fields[name] = False

    def _refuse_missing(self, path: str, name: str, fields: Mapping[str, Any]) -> None:
        """Say what an operation can't do without, and does not have."""
        for key in _needed(name, fields):
            fix = f"For example {EXAMPLES[name]}."
            self.problems.append(Problem(f"{path}.{key}", "is missing.", fix))


def _needed(name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    needed = {"add": (), "replace": ("task_id", "tasks")}.get(name)
    if needed is None:
        needed = ("source_task_id", "target_task_id") if name in _EDGE_OPS else ("task_id",)
    yield from (key for key in needed if fields.get(key) is None)
    if name == "add" and fields.get("task") is None and fields.get("tasks") is None:
        yield "task"
    if name == "set" and not fields.get("fields"):
        yield "fields"
    if name == "priority" and fields.get("priority") is None:
        yield "priority"


def _own_key(name: str, key: str) -> str:
    """Return the name an operation has for one of its keys."""
    plain = canonical_field(key, {})
    if name in _EDGE_OPS:
        if plain in {"source", "upstream", "from_id"}:
            return "source_task_id"
        if plain in {"target", "downstream", "to_id", "task", "task_id"}:
            return "target_task_id"
        if plain in {"depends_on", "on"}:
            return "source_task_id"
        return canonical_field(key, EDGE_FIELD_NAMES)
    if name == "replace" and plain in {"with", "task_list", "by", "plan", "replacement", "alternative"}:
        return "tasks"
    if name not in _DRAFTING_OPS and plain in _TASK_KEYS:
        return "task_id"
    if name == "replace" and plain in {"task", "id", "taskid", "target"}:
        return "task_id"
    if name == "priority" and plain in {"value", "to", "level"}:
        return "priority"
    return {"why": "reason", "because": "reason"}.get(plain, plain)


def _of_short_form(name: str, value: object) -> dict[str, Any]:
    """Return the fields that `{"remove": "load"}` and the like stand for."""
    plain = from_json_text(value, "[{")
    if name == "add":
        return {"tasks" if isinstance(plain, Sequence) and not isinstance(plain, str) else "task": plain}
    if isinstance(plain, Mapping):
        return {str(key): inner for key, inner in plain.items()}
    if name in _EDGE_OPS and isinstance(plain, Sequence) and not isinstance(plain, str) and len(plain) == 2:
        return {"from": plain[0], "to": plain[1]}
    return {"task_id": plain}
