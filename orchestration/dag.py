"""The task graph: structure, order and analysis. Validation of everything at once is in `validation.py`.

May import: orchestration.{errors, models}, networkx, stdlib.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestration.errors import CycleError, DuplicateTaskError, UnknownDependencyError
from orchestration.models import JsonObject, TaskEdge, TaskId, TaskNode, TaskStatus

DEFAULT_DURATION_SECONDS = 1.0
"""What a task is expected to take when neither it nor any other task of the DAG says: only ratios matter then."""


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The longest path through a DAG by duration: no schedule can be shorter."""

    task_ids: tuple[TaskId, ...]
    seconds: float


class TaskDAG:
    """A directed acyclic graph of tasks. Insertion order is kept and breaks all ties.

    Args:
        dag_id: Speaking name; orchestrations of it are called `dag_id-N`.
        goal: What the whole is for.
        metadata: Free for the caller; kept and exported.
    """

    def __init__(self, dag_id: str, goal: str = "", *, metadata: JsonObject | None = None) -> None:
        self.dag_id = dag_id
        self.goal = goal
        self.metadata: JsonObject = dict(metadata or {})
        self.nodes: dict[TaskId, TaskNode] = {}
        self.edges: list[TaskEdge] = []

    def __repr__(self) -> str:
        return f"TaskDAG({self.dag_id!r}, tasks={len(self.nodes)}, edges={len(self.edges)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskDAG):
            return NotImplemented
        return (self.dag_id, self.goal, self.metadata, self.nodes, self.edges) == (
            other.dag_id,
            other.goal,
            other.metadata,
            other.nodes,
            other.edges,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def add_task(self, task: TaskNode) -> None:
        """Add a task.

        Raises:
            DuplicateTaskError: Its id is in the DAG already.
        """
        if task.task_id in self.nodes:
            raise DuplicateTaskError(task.task_id)
        self.nodes[task.task_id] = task

    def add_dependency(self, edge: TaskEdge) -> None:
        """Add an edge. Its ends may be added later; `validate_dependencies` checks them."""
        self.edges.append(edge)

    def copy(self) -> TaskDAG:
        """Return a copy that shares only the frozen tasks and edges."""
        twin = TaskDAG(self.dag_id, self.goal, metadata=self.metadata)
        twin.nodes = dict(self.nodes)
        twin.edges = list(self.edges)
        return twin

    def with_statuses(self, statuses: Mapping[TaskId, TaskStatus]) -> TaskDAG:
        """Return a copy in which the named tasks have the given statuses."""
        twin = self.copy()
        for task_id, status in statuses.items():
            node = twin.nodes[task_id]
            if node.status is not status:
                twin.nodes[task_id] = replace(node, status=status)
        return twin

    def incoming(self) -> dict[TaskId, list[TaskEdge]]:
        """Return each task's incoming edges, in insertion order."""
        found: dict[TaskId, list[TaskEdge]] = {task_id: [] for task_id in self.nodes}
        for edge in self.edges:
            found[edge.target_task_id].append(edge)
        return found

    def outgoing(self) -> dict[TaskId, list[TaskEdge]]:
        """Return each task's outgoing edges, in insertion order."""
        found: dict[TaskId, list[TaskEdge]] = {task_id: [] for task_id in self.nodes}
        for edge in self.edges:
            found[edge.source_task_id].append(edge)
        return found

    def validate_dependencies(self) -> bool:
        """Return True when every edge joins two tasks of the DAG and there is no cycle.

        Raises:
            UnknownDependencyError: An edge names a task that is not there.
            CycleError: The edges form a cycle; the error names it.
        """
        self.topological_sort()
        return True

    def topological_sort(self) -> list[TaskId]:
        """Return the ids so that every task comes after its upstreams; ties are broken by insertion order.

        Kahn's algorithm over a heap of insertion positions: O((V + E) log V), the same answer every time.

        Raises:
            UnknownDependencyError: An edge names a task that is not there.
            CycleError: The edges form a cycle; the error names it.
        """
        position = {task_id: index for index, task_id in enumerate(self.nodes)}
        ids = list(self.nodes)
        waiting = [0] * len(ids)
        downstream: list[list[int]] = [[] for _ in ids]
        for edge in self.edges:
            for end in (edge.source_task_id, edge.target_task_id):
                if end not in position:
                    raise UnknownDependencyError(end, difflib.get_close_matches(end, list(position)[:10_000], 1))
            waiting[position[edge.target_task_id]] += 1
            downstream[position[edge.source_task_id]].append(position[edge.target_task_id])
        heap = [index for index, count in enumerate(waiting) if count == 0]
        order: list[TaskId] = []
        while heap:
            index = heapq.heappop(heap)
            order.append(ids[index])
            for after in downstream[index]:
                waiting[after] -= 1
                if waiting[after] == 0:
                    heapq.heappush(heap, after)
        if len(order) < len(ids):
            raise CycleError(self._find_cycle({ids[index] for index, count in enumerate(waiting) if count}))
        return order

    def _find_cycle(self, candidates: set[TaskId]) -> list[TaskId]:
        """Return one cycle among `candidates`, every one of which has an incoming edge from another of them."""
        before = {
            edge.target_task_id: edge.source_task_id
            for edge in self.edges
            if edge.source_task_id in candidates and edge.target_task_id in candidates
        }
        task_id = next(task_id for task_id in self.nodes if task_id in candidates)
        seen: dict[TaskId, int] = {}
        trail: list[TaskId] = []
        while task_id not in seen:
            seen[task_id] = len(trail)
            trail.append(task_id)
            task_id = before[task_id]
        return trail[seen[task_id] :][::-1]

    # Analysis

    def expected_durations(self) -> dict[TaskId, float]:
        """Return each task's expected duration in seconds: its estimate, else the mean of the known ones, else 1."""
        known = [node.estimated_time_seconds for node in self.nodes.values() if node.estimated_time_seconds is not None]
        mean = sum(known) / len(known) if known else DEFAULT_DURATION_SECONDS
        return {
            task_id: mean if node.estimated_time_seconds is None else node.estimated_time_seconds
            for task_id, node in self.nodes.items()
        }

    def critical_path(self, durations: Mapping[TaskId, float] | None = None) -> CriticalPath:
        """Return the longest path by duration.

        Args:
            durations: Seconds per task; `expected_durations()` when absent. Tasks not named take none.

        Raises:
            CycleError: The edges form a cycle.
        """
        spent = self.expected_durations() if durations is None else durations
        finish: dict[TaskId, float] = {}
        previous: dict[TaskId, TaskId] = {}
        incoming = self.incoming()
        for task_id in self.topological_sort():
            start = 0.0
            for edge in incoming[task_id]:
                if finish[edge.source_task_id] > start or task_id not in previous:
                    start = max(start, finish[edge.source_task_id])
                    previous[task_id] = edge.source_task_id
            finish[task_id] = start + spent.get(task_id, 0.0)
        if not finish:
            return CriticalPath((), 0.0)
        last = max(finish, key=lambda task_id: finish[task_id])
        path = [last]
        while path[-1] in previous:
            path.append(previous[path[-1]])
        return CriticalPath(tuple(reversed(path)), finish[last])

    def lower_bound_seconds(self, workers: int, durations: Mapping[TaskId, float] | None = None) -> float:
        """Return a makespan no schedule on `workers` workers can beat: max(critical path, work / workers)."""
        spent = self.expected_durations() if durations is None else durations
        work = sum(spent.get(task_id, 0.0) for task_id in self.nodes)
        return max(self.critical_path(spent).seconds, work / workers)

    def width(self) -> int:
        """Return the most tasks on one level, a level being the tasks with equally many edges to a root."""
        level: dict[TaskId, int] = {}
        incoming = self.incoming()
        for task_id in self.topological_sort():
            level[task_id] = 1 + max((level[edge.source_task_id] for edge in incoming[task_id]), default=0)
        counts: dict[int, int] = {}
        for depth in level.values():
            counts[depth] = counts.get(depth, 0) + 1
        return max(counts.values(), default=0)
