"""The task graph: structure, order and analysis. Validation of everything at once is in `validation.py`.

May import: orchestration.{errors, hierarchy, models, problems}, networkx (late: only a cycle needs it), stdlib.

A task may be part of another one (`parent`). The analysis looks at what runs: a parent takes no time and no place on a
level, its parts begin when it could, and what waits for it waits for its last parts.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.errors import CycleError, DuplicateTaskError, InvalidArgumentError, UnknownDependencyError
from orchestration.hierarchy import Hierarchy
from orchestration.models import JsonObject, TaskEdge, TaskId, TaskNode, TaskStatus
from orchestration.problems import nearest

DEFAULT_DURATION_SECONDS = 1.0
"""What a task is expected to take when no task of the DAG says anything: only ratios matter then."""


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
        timeout_seconds: Time limit of the whole run; the orchestrator's default when absent.
    """

    def __init__(
        self,
        dag_id: str,
        goal: str = "",
        *,
        metadata: JsonObject | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.dag_id = dag_id
        self.goal = goal
        self.metadata: JsonObject = dict(metadata or {})
        self.timeout_seconds = timeout_seconds
        self.nodes: dict[TaskId, TaskNode] = {}
        self.edges: list[TaskEdge] = []

    def __repr__(self) -> str:
        return f"TaskDAG({self.dag_id!r}, tasks={len(self.nodes)}, edges={len(self.edges)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskDAG):
            return NotImplemented
        return (self.dag_id, self.goal, self.metadata, self.timeout_seconds, self.nodes, self.edges) == (
            other.dag_id,
            other.goal,
            other.metadata,
            other.timeout_seconds,
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
        twin = TaskDAG(self.dag_id, self.goal, metadata=self.metadata, timeout_seconds=self.timeout_seconds)
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
        """Return each task's incoming edges, in insertion order. Both ends of every edge must be there."""
        return self._by_target(self.edges)

    def _by_target(self, edges: Sequence[TaskEdge]) -> dict[TaskId, list[TaskEdge]]:
        found: dict[TaskId, list[TaskEdge]] = {task_id: [] for task_id in self.nodes}
        for edge in edges:
            found[edge.target_task_id].append(edge)
        return found

    def outgoing(self) -> dict[TaskId, list[TaskEdge]]:
        """Return each task's outgoing edges, in insertion order. Both ends of every edge must be there."""
        found: dict[TaskId, list[TaskEdge]] = {task_id: [] for task_id in self.nodes}
        for edge in self.edges:
            found[edge.source_task_id].append(edge)
        return found

    def parents(self) -> set[TaskId]:
        """Return the tasks that have parts, whether they are in the DAG or not."""
        return {node.parent for node in self.nodes.values() if node.parent is not None}

    def composites(self) -> set[TaskId]:
        """Return the tasks that run nothing themselves: their parts do, or the children a `foreach` makes of a list."""
        return self.parents() | {task_id for task_id, node in self.nodes.items() if node.foreach is not None}

    def flattened_edges(self) -> list[TaskEdge]:
        """Return the edges between what runs; `edges` itself where no task has a parent.

        An edge out of a parent starts at its leaves instead, and at theirs. What a parent waits for, its roots wait for
        through it: an edge leads from each parent to its roots.

        Raises:
            UnknownDependencyError: A task's parent is not there.
            CycleError: Tasks are parts of each other.
        """
        if not any(node.parent is not None for node in self.nodes.values()):
            return self.edges
        return Hierarchy(self.nodes, self.edges).flattened(self.edges)

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

        A parent comes before its parts.

        Raises:
            UnknownDependencyError: An edge names a task that is not there.
            CycleError: The edges form a cycle; the error names it.
        """
        return self._sorted(self.flattened_edges())

    def _sorted(self, edges: Sequence[TaskEdge]) -> list[TaskId]:
        ids = list(self.nodes)
        links = self._links(edges)
        order = sorted_prefix(len(ids), links)
        if len(order) < len(ids):
            cycle = next(find_cycles(len(ids), links, order))
            raise CycleError([ids[index] for index in cycle])
        return [ids[index] for index in order]

    def _links(self, edges: Sequence[TaskEdge]) -> list[tuple[int, int]]:
        """Return edges as pairs of insertion positions."""
        position = {task_id: index for index, task_id in enumerate(self.nodes)}
        try:
            return [(position[edge.source_task_id], position[edge.target_task_id]) for edge in edges]
        except KeyError as exc:
            near = nearest(exc.args[0], position)
            raise UnknownDependencyError(exc.args[0], [near] if near else ()) from None

    # Analysis

    def expected_durations(self) -> dict[TaskId, float]:
        """Return each task's expected seconds: its estimate, else the mean of the known ones, else 1.

        A task with parts takes none: they do the work.
        """
        parents = self.parents()
        known = [
            node.estimated_time_seconds
            for task_id, node in self.nodes.items()
            if node.estimated_time_seconds is not None and task_id not in parents
        ]
        mean = sum(known) / len(known) if known else DEFAULT_DURATION_SECONDS
        found = {
            task_id: mean if node.estimated_time_seconds is None else node.estimated_time_seconds
            for task_id, node in self.nodes.items()
        }
        return found | dict.fromkeys(parents & found.keys(), 0.0) if parents else found

    def critical_path(self, durations: Mapping[TaskId, float] | None = None) -> CriticalPath:
        """Return the longest path by duration; parents are not named on it.

        Args:
            durations: Seconds per task; `expected_durations()` when absent. Tasks not named, and parents, take none.

        Raises:
            UnknownDependencyError: An edge names a task that is not there.
            CycleError: The edges form a cycle.
        """
        spent = self.expected_durations() if durations is None else durations
        finish: dict[TaskId, float] = {}
        previous: dict[TaskId, TaskId] = {}
        parents = self.parents()
        edges = self.flattened_edges()
        order = self._sorted(edges)
        incoming = self._by_target(edges)
        for task_id in order:
            start = 0.0
            for edge in incoming[task_id]:
                if finish[edge.source_task_id] > start or task_id not in previous:
                    start = max(start, finish[edge.source_task_id])
                    previous[task_id] = edge.source_task_id
            finish[task_id] = start + (0.0 if task_id in parents else spent.get(task_id, 0.0))
        if not finish:
            return CriticalPath((), 0.0)
        last = max(finish, key=lambda task_id: finish[task_id])
        path = [last]
        while path[-1] in previous:
            path.append(previous[path[-1]])
        return CriticalPath(
            tuple(task_id for task_id in reversed(path) if task_id not in parents), finish[last]
        )

    def lower_bound_seconds(self, workers: int, durations: Mapping[TaskId, float] | None = None) -> float:
        """Return a makespan no schedule on `workers` workers can beat: max(critical path, work / workers).

        Raises:
            InvalidArgumentError: There is not one worker.
            CycleError: The edges form a cycle.
        """
        if workers < 1:
            raise InvalidArgumentError("workers", workers, "at least 1")
        spent = self.expected_durations() if durations is None else durations
        parents = self.parents()
        work = sum(spent.get(task_id, 0.0) for task_id in self.nodes if task_id not in parents)
        return max(self.critical_path(spent).seconds, work / workers)

    def width(self) -> int:
        """Return the most tasks on one level, a level being the tasks with equally many tasks before them.

        Parents are not counted, and what is behind one is on no higher level for it.
        """
        return max((len(level) for level in self.levels()), default=0)

    def levels(self) -> list[list[TaskId]]:
        """Return what runs level by level: each task right after the last of those it waits for; without parents."""
        depth: dict[TaskId, int] = {}
        found: list[list[TaskId]] = []
        parents = self.parents()
        edges = self.flattened_edges()
        incoming = self._by_target(edges)
        for task_id in self._sorted(edges):
            before = max((depth[edge.source_task_id] for edge in incoming[task_id]), default=0)
            if task_id in parents:
                depth[task_id] = before
                continue
            depth[task_id] = before + 1
            if before == len(found):
                found.append([])
            found[before].append(task_id)
        return found


def sorted_prefix(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return the vertices 0 … count - 1 in topological order, ties broken by number, as far as there is one.

    What is missing from the answer lies in or behind a cycle. Kahn's algorithm over a heap: O((V + E) log V),
    the same answer every time.

    Args:
        count: How many vertices there are.
        links: The edges, from first to second.
    """
    waiting = [0] * count
    downstream: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        waiting[target] += 1
        downstream[source].append(target)
    heap = [index for index, missing in enumerate(waiting) if missing == 0]
    order: list[int] = []
    while heap:
        index = heapq.heappop(heap)
        order.append(index)
        for after in downstream[index]:
            waiting[after] -= 1
            if waiting[after] == 0:
                heapq.heappush(heap, after)
    return order


def find_cycles(count: int, links: Sequence[tuple[int, int]], order: Sequence[int]) -> Iterator[list[int]]:
    """Yield a shortest cycle through the first vertex of each knot of cycles, in order of those vertices.

    A knot is a strongly connected component: whoever opens the cycles shown and asks again finds all others.

    Args:
        count: How many vertices there are.
        links: The edges, from first to second.
        order: `sorted_prefix` of them: no cycle goes through these.
    """
    import networkx as nx

    sound = set(order)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(index for index in range(count) if index not in sound)
    graph.add_edges_from(
        (source, target) for source, target in links if source not in sound and target not in sound
    )
    knots = [knot for knot in nx.strongly_connected_components(graph) if len(knot) > 1]
    knots += [{index} for index in nx.nodes_with_selfloops(graph) if not any(index in knot for knot in knots)]
    for knot in sorted(knots, key=min):
        start = min(knot)
        before = {start: start}
        queue = deque([start])
        while queue:
            index = queue.popleft()
            for after in graph[index]:
                if after == start:
                    yield _trail(before, index, start)
                    queue.clear()
                    break
                if after in knot and after not in before:
                    before[after] = index
                    queue.append(after)


def _trail(before: Mapping[int, int], last: int, start: int) -> list[int]:
    """Walk back from `last` to `start`; return the walk in forward order."""
    trail = [last]
    while trail[-1] != start:
        trail.append(before[trail[-1]])
    return trail[::-1]
