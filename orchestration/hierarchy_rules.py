"""What tasks inside tasks may say: which task is a part of which, what a parent may have, and who may name whom.

May import: orchestration.{dag, errors, hierarchy, models, options, problems, task_rules}, stdlib.

A graph has levels: the tasks without a parent, and the parts of each. Edges stay on one level. A reference may also
lead to what an enclosing parent waits for, never into another parent: that one's output stands for its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestration.dag import TaskDAG
from orchestration.errors import Problem
from orchestration.hierarchy import Hierarchy
from orchestration.models import TaskEdge, TaskId, TaskNode
from orchestration.options import Limits
from orchestration.task_rules import is_item

RUNS_NOTHING = (
    "tool",
    "arguments",
    "foreach",
    "fallback",
    "verify",
    "cache",
    "approval",
    "idempotent",
    "acceptance",
    "skills",
)
"""Fields that say something about an attempt: a parent makes none."""
_SHOWN = 10
"""Tasks of a ring of parents that are named."""


class HierarchyRules:
    """The levels of one graph, and what is wrong with them.

    Args:
        dag: The graph.
        limits: How deep tasks may lie inside each other.
    """

    def __init__(self, dag: TaskDAG, limits: Limits) -> None:
        self._nodes = dag.nodes
        self._edges = dag.edges
        self._limits = limits
        self._hierarchy = Hierarchy(dag.nodes, dag.edges)
        self._chains: dict[TaskId, list[TaskId]] = {}

    def problems(self, hint: Callable[[TaskId], str]) -> Iterator[Problem]:
        """Yield what is wrong with parents and parts; `hint` returns what to write for an id that is not there."""
        in_rings: set[TaskId] = set()
        for ring in self._hierarchy.loops():
            in_rings.update(ring)
            path = f"tasks[{ring[0]}].parent"
            if len(ring) == 1:
                yield Problem(path, "names the task itself.", "Name the task this one is a part of.")
            else:
                way = " in ".join([*ring[:_SHOWN], *(["…"] if len(ring) > _SHOWN else []), ring[0]])
                yield Problem(path, f"closes a ring: {way}.", "Let one of them have no parent.")
        for task_id, node in self._nodes.items():
            if node.parent is None:
                continue
            path = f"tasks[{task_id}].parent"
            if node.parent not in self._nodes:
                told = f"names task {node.parent!r}, which is not in the DAG."
                yield Problem(path, told, hint(node.parent))
            elif in_rings.isdisjoint(self.chain(task_id)) and self._is_too_deep(task_id):
                limit = self._limits.max_hierarchy_depth
                told = f"puts the task into more than {limit} others; at most {limit} may be around a task."
                yield Problem(path, told, "Make the plan flatter.")
        for parent, children in self._hierarchy.children.items():
            parts = [child for child in children if not is_item(child)]
            if parent in self._nodes and parts:
                yield from _as_parent(self._nodes[parent], parts)

    def _is_too_deep(self, task_id: TaskId) -> bool:
        return len(self.chain(task_id)) - 1 - is_item(task_id) > self._limits.max_hierarchy_depth

    def flattening_problem(self) -> Problem | None:
        """Return that the edges stand for too many between parts. The graph must be sound otherwise."""
        count = 0
        last: dict[TaskId, int] = {}
        for edge in self._edges:
            source = edge.source_task_id
            if source not in last:
                last[source] = sum(1 for _ in self._hierarchy.last_tasks(source))
            count += last[source]
        if count <= self._limits.max_edges:
            return None
        return Problem(
            "edges",
            f"stand for {count:,} edges between parts of tasks; at most {self._limits.max_edges:,} are allowed.",
            "Let one last part of a task wait for its others.",
        )

    def chain(self, task_id: TaskId) -> list[TaskId]:
        """Return a task and those it is a part of, innermost first; no further than the limit can tell."""
        found = self._chains.get(task_id)
        if found is None:
            found = [task_id]
            while len(found) <= self._limits.max_hierarchy_depth + 2:
                parent = self._nodes[found[-1]].parent
                if parent is None or parent not in self._nodes:
                    break
                found.append(parent)
            self._chains[task_id] = found
        return found

    def edge_problem(self, edge: TaskEdge, path: str) -> Problem | None:
        """Return why an edge between two tasks of the DAG joins none of one level."""
        source, target = edge.source_task_id, edge.target_task_id
        if self._nodes[source].parent == self._nodes[target].parent:
            return None
        above, below = self._meeting(source, target)
        if above is None or below is None:
            return Problem(path, "joins tasks that are not parts of one task.", "Name tasks of one level.")
        if above == below:
            fix = "Remove it: a part waits for what its parent waits for, and a parent for its parts."
            return Problem(path, "joins a task and a part of it.", fix)
        wrong = [
            f"{end!r} is a part of {at!r}" for end, at in ((source, above), (target, below)) if end != at
        ]
        return Problem(
            path, f"joins tasks of two levels: {' and '.join(wrong)}.", f"Name {above!r} → {below!r} instead."
        )

    def anchor(self, named: TaskId, task_id: TaskId) -> tuple[TaskId, Problem | None]:
        """Return the task on the level of `named` that is, or has around it, the referring task; or what is wrong.

        The problem's path is left to the caller.
        """
        chain = self.chain(task_id)
        if named in chain[1:]:
            told = f"names task {named!r}, which {task_id!r} is a part of: it has no output before its parts."
            return task_id, Problem("", told, "Name a task before it.")
        level = self._nodes[named].parent
        for member in chain:
            if self._nodes[member].parent == level:
                return member, None
        above, _ = self._meeting(named, task_id)
        told = f"names task {named!r}, which is a part of another task."
        fix = (
            f"Name {above!r}, whose output has that of its parts." if above else "Name a task of this level."
        )
        return task_id, Problem("", told, fix)

    def _meeting(self, source: TaskId, target: TaskId) -> tuple[TaskId | None, TaskId | None]:
        """Return the tasks around (or at) two ends that are on one level, the innermost such level."""
        by_level = {self._nodes[member].parent: member for member in reversed(self.chain(target))}
        for member in self.chain(source):
            level = self._nodes[member].parent
            if level in by_level:
                return member, by_level[level]
        return None, None


def _as_parent(node: TaskNode, parts: list[TaskId]) -> Iterator[Problem]:
    for name in RUNS_NOTHING:
        value = getattr(node, name)
        if value is True or value in (None, {}, []):
            continue
        told = f"is set, but {node.task_id!r} has parts ({', '.join(parts[:3])}{', …' if len(parts) > 3 else ''}) and "
        yield Problem(
            f"tasks[{node.task_id}].{name}",
            f"{told}runs nothing itself.",
            "Move it to the part that is to do it, or remove it.",
        )
