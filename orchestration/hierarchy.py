"""Tasks inside tasks: which parts a task has, with which of them it begins and ends, and the graph without parents.

May import: orchestration.{errors, models, problems}, stdlib.

Edges join only parts of one task. What waits for a parent waits for its leaves; its roots wait for what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orchestration.errors import CycleError, UnknownDependencyError
from orchestration.models import TaskEdge, TaskId, TaskNode
from orchestration.problems import nearest


class Hierarchy:
    """The parts of every task of a graph.

    Nothing is presumed of the graph: a parent may be missing, and parents may be parts of each other.

    Args:
        nodes: The tasks.
        edges: The dependencies; they say which parts are roots and leaves.
    """

    def __init__(self, nodes: Mapping[TaskId, TaskNode], edges: Sequence[TaskEdge] = ()) -> None:
        self._nodes = nodes
        self.children: dict[TaskId, list[TaskId]] = {}
        """Parts by parent, in insertion order; only of tasks that have some."""
        for task_id, node in nodes.items():
            if node.parent is not None:
                self.children.setdefault(node.parent, []).append(task_id)
        self._targets = {edge.target_task_id for edge in edges} if self.children else set()
        self._sources = {edge.source_task_id for edge in edges} if self.children else set()

    def enclosing(self, task_id: TaskId) -> list[TaskId]:
        """Return the tasks a task is a part of, innermost first; as far as they are there, and each once."""
        found: list[TaskId] = []
        seen = {task_id}
        parent = self._nodes[task_id].parent
        while parent is not None and parent in self._nodes and parent not in seen:
            found.append(parent)
            seen.add(parent)
            parent = self._nodes[parent].parent
        return found

    def roots(self, parent: TaskId) -> list[TaskId]:
        """Return the parts a task begins with: those no edge leads to."""
        return [child for child in self.children.get(parent, ()) if child not in self._targets]

    def leaves(self, parent: TaskId) -> list[TaskId]:
        """Return the parts a task ends with: those no edge starts from."""
        return [child for child in self.children.get(parent, ()) if child not in self._sources]

    def last_tasks(self, task_id: TaskId) -> Iterator[TaskId]:
        """Yield the tasks that do the last of a task's work: itself, or its leaves, or theirs."""
        waiting = [task_id]
        while waiting:
            found = waiting.pop()
            if found in self.children:
                waiting += reversed(self.leaves(found))
            else:
                yield found

    def loops(self) -> Iterator[list[TaskId]]:
        """Yield each ring of tasks that are parts of each other, beginning with its first task."""
        sound: set[TaskId] = set()
        for start in self._nodes:
            way: dict[TaskId, None] = {}
            at: TaskId | None = start
            while at is not None and at in self._nodes and at not in sound and at not in way:
                way[at] = None
                at = self._nodes[at].parent
            if at in way:
                ring = list(way)[list(way).index(at) :]
                yield ring
            sound.update(way)

    def flattened(self, edges: Sequence[TaskEdge]) -> list[TaskEdge]:
        """Return the edges between what runs: out of a task's last parts instead of out of itself.

        What a parent waits for, its roots wait for through it: an edge leads from each parent to its roots.

        Raises:
            UnknownDependencyError: A task's parent is not there.
            CycleError: Tasks are parts of each other.
        """
        for parent in self.children:
            if parent not in self._nodes:
                near = nearest(parent, self._nodes)
                raise UnknownDependencyError(parent, [near] if near else ())
        for ring in self.loops():
            raise CycleError(ring)
        last: dict[TaskId, list[TaskId]] = {}
        found: list[TaskEdge] = []
        for edge in edges:
            source = edge.source_task_id
            if source not in self.children:
                found.append(edge)
                continue
            if source not in last:
                last[source] = list(self.last_tasks(source))
            found += [replace(edge, source_task_id=task_id) for task_id in last[source]]
        for parent in self.children:
            found += [TaskEdge(parent, root) for root in self.roots(parent)]
        return found
