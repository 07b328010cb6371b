"""The tasks that operations bring, read the way a caller's own plan is: nodes and edges that fit into the graph.

May import: orchestration.{errors, models, options, problems, task_fields}, orchestration.edits.operations,
orchestration.planning.{caller_plan, draft_findings, draft_task, draft_values}, pydantic, stdlib.

All drafts of one edit are read together, beside the tasks that are there: what they depend on may be any of these, by
id or title, or a task of another operation.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from orchestration.edits.operations import Operation
from orchestration.errors import Problem
from orchestration.models import NOT_YET_AVAILABLE, TaskEdge, TaskId, TaskNode
from orchestration.options import Limits
from orchestration.planning.caller_plan import DraftReading
from orchestration.planning.draft_findings import Findings
from orchestration.planning.draft_task import named_fields, settle_values
from orchestration.planning.draft_values import FIELD_NAMES, Renaming, as_list, from_json_text
from orchestration.problems import problems_in, unknown_key
from orchestration.task_fields import field_problems, without_unknown

TASK_FIELDS = tuple(item.name for item in dataclasses.fields(TaskNode))

_KNOWN_BY_TITLE = 2_000
"""Up to so many tasks, drafts may name them by their titles; in larger graphs by their ids only."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_~\[\]-]*")
_ANY_PLACE = re.compile(r"\btasks\[\d+\]")
_PLACE = re.compile(r"^(tasks|edges)\[(\d+)\]")


@dataclass(slots=True)
class Drafted:
    """What one operation brings."""

    nodes: list[TaskNode] = field(default_factory=list)
    edges: list[TaskEdge] = field(default_factory=list)
    """Between them, and from or to tasks that are there."""


@dataclass(slots=True)
class Drafts:
    """What all operations bring."""

    by_operation: dict[int, Drafted] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_drafts(operations: Iterable[Operation], there: Mapping[TaskId, TaskNode], limits: Limits) -> Drafts:
    """Read the tasks of `add` and `replace` operations.

    Args:
        operations: Of one edit.
        there: The tasks of the graph.
        limits: Bounds on what one edit brings.
    """
    return _DraftReading(there, limits).read([each for each in operations if each.op in {"add", "replace"}])


def read_fields(
    operation: Operation, sent: Mapping[str, Any], there: Mapping[TaskId, TaskNode]
) -> tuple[dict[str, Any], list[Problem], list[str]]:
    """Return a task's fields under their own names and with values of the model's form, problems, and notes."""
    findings = Findings()
    fields = named_fields(findings, operation.path, sent, FIELD_NAMES)
    settle_values(findings, operation.path, fields, there.__contains__)
    fields = without_unknown(operation.path, fields, findings.problems)
    return fields, findings.problems, list(findings.said())


def unknown_field(path: str, key: str) -> Problem:
    """Say that no task has a field of this name."""
    if key in NOT_YET_AVAILABLE:
        told = f"is not available yet ({NOT_YET_AVAILABLE[key]}); nothing would honour it."
        return Problem(f"{path}.{key}", told, "Leave it out.")
    return unknown_key(path, key, TASK_FIELDS)


@dataclass(slots=True)
class _Sent:
    """One draft on its way: whose it is, and where it stands there."""

    operation: Operation
    path: str
    draft: object


class _DraftReading:
    """One reading of the drafts of an edit."""

    def __init__(self, there: Mapping[TaskId, TaskNode], limits: Limits) -> None:
        self.there = there
        self.limits = limits
        self.found = Drafts()

    def read(self, operations: Sequence[Operation]) -> Drafts:
        if not operations:
            return self.found
        sent = [draft for operation in operations for draft in self._sent(operation)]
        edges = [
            _Sent(operation, f"{operation.path}.edges[{index}]", edge)
            for operation in operations
            for index, edge in enumerate(as_list(_edges_of(operation)))
        ]
        for operation in operations:
            self.found.by_operation[operation.index] = Drafted()
        if not sent:
            return self.found
        if len(sent) > self.limits.max_tasks:
            told = f"bring {len(sent):,} tasks; at most {self.limits.max_tasks:,} are allowed."
            self.found.problems.append(Problem("operations", told, "Make a new plan."))
            return self.found
        known = self._known(sent)
        reading = DraftReading(limits=self.limits)
        titles = [{"task_id": task_id, "title": _title_of(self.there[task_id])} for task_id in known]
        document = reading.document([*titles, *(each.draft for each in sent)], [each.draft for each in edges])
        real = {task.task_id: task_id for task, task_id in zip(reading.tasks, known, strict=False)}
        self._take_problems(reading.problems, len(known), sent, edges)
        own = {f"{task_id} to {made}" for made, task_id in real.items()}
        for what, examples in list(reading.changes.items()):
            kept = [example for example in examples if example not in own]
            reading.changes[what] = kept
            if not kept:
                del reading.changes[what]
        self.found.notes += [self._placed(note, len(known), sent) for note in reading.said()]
        renamed = {made: task_id for made, task_id in real.items() if made != task_id}
        self._refuse_adopted(document["tasks"][: len(known)], real, operations[0])
        owners: dict[TaskId, Operation] = {}
        for task, plain in zip(reading.tasks[len(known) :], document["tasks"][len(known) :], strict=False):
            owner = self._owner(task.path, len(known), sent)
            if owner is None:
                continue
            owners[plain["task_id"]] = owner.operation
            path = owner.path + _PLACE.sub("", task.path)
            self._take(owner.operation, path, Renaming(renamed).of_task(plain) if renamed else plain, real)
        self._take_edges(document["edges"], real, owners, edges)
        return self.found

    def _refuse_adopted(
        self, documents: Sequence[Mapping[str, Any]], real: Mapping[TaskId, TaskId], operation: Operation
    ) -> None:
        """Refuse drafts that make a task which is there a part of a new one."""
        for plain in documents:
            if "parent" in plain:
                name = real[plain["task_id"]]
                told = f"make task {name!r}, which is there already, a part of {plain['parent']!r}."
                fix = f'Send {{"op": "set", "task_id": "{name}", "parent": "{plain["parent"]}"}} as well.'
                self.found.problems.append(Problem(f"{operation.path}.subtasks", told, fix))

    def _sent(self, operation: Operation) -> list[_Sent]:
        """Return the drafts of an operation, however they were put into it."""
        plain = from_json_text(_tasks_of(operation), "[{")
        place = f"{operation.path}.{'task' if operation.fields.get('tasks') is None else 'tasks'}"
        if isinstance(plain, Mapping) and "tasks" in plain:
            plain = from_json_text(plain["tasks"], "[{")
        if isinstance(plain, Mapping):
            if plain and all(isinstance(value, Mapping) for value in plain.values()):
                plain = [{"task_id": key, **value} for key, value in plain.items()]
            else:
                return [_Sent(operation, place, plain)]
        if isinstance(plain, Sequence) and not isinstance(plain, str | bytes):
            return [_Sent(operation, f"{place}[{index}]", draft) for index, draft in enumerate(plain)]
        return [] if plain is None else [_Sent(operation, place, plain)]

    def _known(self, sent: Sequence[_Sent]) -> list[TaskId]:
        """Return the tasks that are there and that drafts may name."""
        if len(self.there) <= _KNOWN_BY_TITLE:
            return list(self.there)
        text = json.dumps([each.draft for each in sent], default=str)
        return [word for word in dict.fromkeys(_WORD.findall(text)) if word in self.there]

    def _owner(self, path: str, before: int, sent: Sequence[_Sent]) -> _Sent | None:
        place = _PLACE.match(path)
        if place is None or place[1] != "tasks" or not before <= int(place[2]) < before + len(sent):
            return None
        return sent[int(place[2]) - before]

    def _placed(self, note: str, before: int, sent: Sequence[_Sent]) -> str:
        """Return a note that names the places of what was sent."""

        def place(found: re.Match[str]) -> str:
            owner = self._owner(found[0], before, sent)
            return owner.path if owner is not None else found[0]

        return _ANY_PLACE.sub(place, note)

    def _take_problems(
        self, problems: Sequence[Problem], before: int, sent: Sequence[_Sent], edges: Sequence[_Sent]
    ) -> None:
        for problem in problems:
            owner = self._owner(problem.path, before, sent)
            place = _PLACE.match(problem.path)
            if owner is None and place is not None and place[1] == "edges" and int(place[2]) < len(edges):
                owner = edges[int(place[2])]
            path = problem.path if owner is None else owner.path + _PLACE.sub("", problem.path)
            self.found.problems.append(dataclasses.replace(problem, path=path))

    def _take(
        self, operation: Operation, path: str, plain: dict[str, Any], real: Mapping[TaskId, TaskId]
    ) -> None:
        """Make a node, and the edges of its `depends_on`, of a draft that was read."""
        drafted = self.found.by_operation[operation.index]
        upstreams = [real.get(name, name) for name in plain.pop("depends_on", ())]
        if "parent" in plain:
            plain["parent"] = real.get(plain["parent"], plain["parent"])
        problems = self.found.problems
        fields = without_unknown(path, plain, problems)
        for key in [key for key in fields if key not in TASK_FIELDS]:
            problems.append(unknown_field(path, key))
            del fields[key]
        try:
            node = TaskNode(**fields)
        except ValidationError as exc:
            problems += field_problems(exc, path, fields)
            return
        drafted.nodes.append(node)
        drafted.edges += [TaskEdge(source, node.task_id) for source in dict.fromkeys(upstreams)]

    def _take_edges(
        self,
        plain: Sequence[Mapping[str, Any]],
        real: Mapping[TaskId, TaskId],
        owners: Mapping[TaskId, Operation],
        edges: Sequence[_Sent],
    ) -> None:
        """Make the edges that are written as such; each belongs to the operation of one of its ends."""
        for entry in plain:
            ends = {end: real.get(entry[end], entry[end]) for end in ("source_task_id", "target_task_id")}
            owner = owners.get(ends["target_task_id"]) or owners.get(ends["source_task_id"])
            if owner is None:
                owner = edges[0].operation if edges else None
            if owner is None:
                continue
            path = f"{owner.path}.edges"
            try:
                edge = TaskEdge(**{**entry, **ends})
            except ValidationError as exc:
                self.found.problems += problems_in(exc, path)
            except TypeError:
                known = tuple(item.name for item in dataclasses.fields(TaskEdge))
                self.found.problems += [unknown_key(path, key, known) for key in entry if key not in known]
            else:
                drafted = self.found.by_operation[owner.index]
                pair = (edge.source_task_id, edge.target_task_id)
                drafted.edges = [
                    each for each in drafted.edges if (each.source_task_id, each.target_task_id) != pair
                ]
                drafted.edges.append(edge)


def _tasks_of(operation: Operation) -> object:
    tasks = operation.fields.get("tasks")
    return operation.fields.get("task") if tasks is None else tasks


def _edges_of(operation: Operation) -> object:
    """Return the edges an operation brings, beside its tasks or together with them."""
    plain = from_json_text(_tasks_of(operation), "{")
    inner = plain.get("edges") if isinstance(plain, Mapping) and "tasks" in plain else None
    return [*as_list(inner), *as_list(operation.fields.get("edges"))]


def _title_of(node: TaskNode) -> str:
    title = node.metadata.get("title")
    return title if isinstance(title, str) and title.strip() else node.description or node.task_id
