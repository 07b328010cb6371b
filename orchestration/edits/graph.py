"""A graph while operations change it: its tasks and edges, who is meant by a name, and which operation did what.

May import: orchestration.{dag, errors, models, options, problems, task_fields}, orchestration.edits.{drafts,
operations}, orchestration.planning.draft_values, pydantic, stdlib.

The graph need not be sound in between. Whether a run allows a change is asked afterwards (`checks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from orchestration.dag import TaskDAG
from orchestration.edits.drafts import Drafts
from orchestration.edits.operations import Operation
from orchestration.errors import Problem
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus
from orchestration.options import Limits
from orchestration.planning.draft_values import slug
from orchestration.problems import nearest, shown
from orchestration.task_fields import field_problems

Pair = tuple[TaskId, TaskId]
"""Upstream and downstream end of an edge."""


@dataclass(frozen=True, slots=True)
class Away:
    """A task that is no part of the graph any more, or never was one of its own."""

    told: str
    """What became of it: `was replaced by load~1`."""
    instead: str
    """What to name, or do, instead."""
    may_return: bool = False
    """Whether a new task may have its id."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """What takes the place of a task that failed and asks how to go on."""

    task_id: TaskId
    dag: TaskDAG
    delivers: TaskId
    operation: Operation


@dataclass(slots=True)
class Trace:
    """Which operation changed what last; so that what is found later can be laid at its door."""

    tasks: dict[TaskId, Operation] = field(default_factory=dict)
    edges: dict[Pair, Operation] = field(default_factory=dict)
    gone: dict[TaskId, Operation] = field(default_factory=dict)
    """Tasks that were removed or replaced."""
    unlinked: dict[Pair, Operation] = field(default_factory=dict)
    """Edges somebody wanted gone."""


class EditedGraph:
    """A graph that operations change.

    Args:
        dag: As it is; it is not changed.
        away: Tasks that are not in it any more.
        statuses: Of a running orchestration's tasks; None for a plan.
        limits: Bounds on what an edit brings.
    """

    def __init__(
        self,
        dag: TaskDAG,
        *,
        away: Mapping[TaskId, Away],
        statuses: Mapping[TaskId, TaskStatus] | None,
        limits: Limits,
    ) -> None:
        self._dag = dag
        self._away = away
        self._statuses = statuses
        self._limits = limits
        self.nodes: dict[TaskId, TaskNode] = dict(dag.nodes)
        self.edges: dict[Pair, TaskEdge] = {pair_of(edge): edge for edge in dag.edges}
        self.skipped: dict[TaskId, str] = {}
        """Why, by task."""
        self.alternative: Alternative | None = None
        self.trace = Trace()
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._drafts = Drafts()
        self._spellings: dict[str, list[TaskId]] | None = None
        self._by_end: dict[TaskId, dict[Pair, None]] = {}
        """Edges by either end."""
        for pair in self.edges:
            self._index(pair)

    def graph(self) -> TaskDAG:
        """Return the graph as it has become, unchecked."""
        twin = self._dag.copy()
        twin.nodes = dict(self.nodes)
        twin.edges = list(self.edges.values())
        return twin

    # Names

    def _find(self, operation: Operation, key: str = "task_id") -> TaskId | None:
        """Return the task an operation names; None when that is refused."""
        sent = operation.fields.get(key)
        if sent is None:
            return None  # said already
        if isinstance(sent, bool) or not isinstance(sent, str | int):
            self._refuse(operation, f"is {shown(sent)}; expected the id of a task.", "Write a task_id.", key)
            return None
        name = str(sent).strip()
        if name in self.nodes:
            return name
        if name in self.trace.gone:
            by = self.trace.gone[name]
            told = f"names task {name!r}, which {by.path} ({by.told}) has taken out of the graph."
            self._refuse(operation, told, "Leave one of the two out.", key)
            return None
        if name in self._away:
            away = self._away[name]
            self._refuse(operation, f"names task {name!r}, which {away.told}.", away.instead, key)
            return None
        found = self._in_another_spelling(name)
        if len(found) == 1:
            self.notes.append(f"{operation.path}: {name!r} is read as task {found[0]!r}.")
            return found[0]
        if found:
            told = f"names {name!r}, which is the title of {len(found)} tasks."
            self._refuse(operation, told, f"Write {found[0]} or {found[1]}.", key)
            return None
        near = nearest(name, self.nodes)
        some = ", ".join(list(self.nodes)[:10])
        fix = (
            f"Did you mean {near!r}?"
            if near
            else f"The tasks are: {some}{', …' if len(self.nodes) > 10 else ''}."
        )
        self._refuse(operation, f"names task {shown(name)}, which is not in the graph.", fix, key)
        return None

    def _in_another_spelling(self, name: str) -> list[TaskId]:
        if self._spellings is None:
            self._spellings = {}
            for task_id, node in self.nodes.items():
                title = node.metadata.get("title")
                names = [task_id, node.description, title if isinstance(title, str) else ""]
                for spelling in {text for name in names if name for text in (name.lower(), slug(name))}:
                    self._spellings.setdefault(spelling, []).append(task_id)
        found = self._spellings.get(name.lower()) or self._spellings.get(slug(name)) or []
        return [task_id for task_id in found if task_id in self.nodes]

    # Changes

    def _refuse(self, operation: Operation, message: str, fix: str, key: str = "") -> None:
        path = f"{operation.path}.{key}" if key else operation.path
        self.problems.append(Problem(path, message, fix))

    def _change(self, operation: Operation, node: TaskNode, fields: Mapping[str, Any]) -> None:
        if not fields:
            return
        try:
            self.nodes[node.task_id] = replace(node, **fields)
        except ValidationError as exc:
            self.problems += field_problems(exc, operation.path, fields)
            return
        self.trace.tasks[node.task_id] = operation

    def _join(self, operation: Operation, edge: TaskEdge) -> None:
        pair = pair_of(edge)
        self.edges[pair] = edge
        self._index(pair)
        self.trace.edges[pair] = operation
        self.trace.unlinked.pop(pair, None)

    def _cut(self, operation: Operation, pair: Pair) -> None:
        self._lose(pair)
        self.trace.edges[pair] = self.trace.unlinked[pair] = operation

    def _index(self, pair: Pair) -> None:
        for end in pair:
            self._by_end.setdefault(end, {})[pair] = None

    def _lose(self, pair: Pair) -> None:
        """Take an edge out of the graph."""
        del self.edges[pair]
        for end in set(pair):
            del self._by_end[end][pair]

    def _incoming(self, task_id: TaskId) -> list[TaskEdge]:
        return [self.edges[pair] for pair in self._by_end.get(task_id, ()) if pair[1] == task_id]

    def _outgoing(self, task_id: TaskId) -> list[TaskEdge]:
        return [self.edges[pair] for pair in self._by_end.get(task_id, ()) if pair[0] == task_id]


def pair_of(edge: TaskEdge) -> Pair:
    """Return the ends of an edge."""
    return edge.source_task_id, edge.target_task_id
