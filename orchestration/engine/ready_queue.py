"""The ready tasks of one orchestration in the order in which they should start.

May import: orchestration.models, orchestration.engine.{graph, state, task_state}, stdlib.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeAlias

from orchestration.engine.graph import strict_order
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import AGENT, TaskId, TaskStatus

Key = tuple[float, float]
_LAST: Key = (0.0, 0.0)


Admits: TypeAlias = Callable[[str], bool]
"""Whether a system takes something now."""


class ReadyQueue(Protocol):
    """Knows which ready task comes next."""

    def push(self, task_id: TaskId) -> None:
        """Take in a task that has become ready."""
        ...

    def head(self, admits: Admits) -> tuple[Key, TaskId] | None:
        """Return the task that should start next with its key, or None when none may start now."""
        ...

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Order by new keys."""
        ...

    def systems(self) -> Collection[str]:
        """Return the systems for which tasks wait."""
        ...


class RankedQueue:
    """Ready tasks by key, ties by place in the DAG; a heap per system, never a scan.

    Entries of tasks that are not ready any more, are held back, or go elsewhere now, are dropped when they come up.
    """

    def __init__(self, state: State, keys: Mapping[TaskId, Key]) -> None:
        self._state = state
        self._keys = keys
        self._heaps: dict[str, list[tuple[Key, int, TaskId]]] = {}

    def push(self, task_id: TaskId) -> None:
        """Take in a task that has become ready."""
        task = self._state.tasks[task_id]
        heap = self._heaps.setdefault(task.system, [])
        heapq.heappush(heap, (self._keys.get(task_id, _LAST), task.position, task_id))

    def head(self, admits: Admits) -> tuple[Key, TaskId] | None:
        """Return the most urgent ready task with its key."""
        best: tuple[Key, int, TaskId] | None = None
        for system, heap in self._heaps.items():
            if heap and admits(system):
                first = self._first(system, heap)
                if first is not None and (best is None or first < best):
                    best = first
        return None if best is None else (best[0], best[2])

    def _first(self, system: str, heap: list[tuple[Key, int, TaskId]]) -> tuple[Key, int, TaskId] | None:
        tasks, held = self._state.tasks, self._state.held
        while heap:
            task_id = heap[0][2]
            task = tasks[task_id]
            if task.status is TaskStatus.READY and task_id not in held and task.system == system:
                return heap[0]
            heapq.heappop(heap)
        return None

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Order by new keys; a task that has none any more keeps its old one."""
        self._keys = keys
        for system, heap in self._heaps.items():
            self._heaps[system] = [
                (keys.get(task_id, key), position, task_id) for key, position, task_id in heap
            ]
            heapq.heapify(self._heaps[system])

    def systems(self) -> Collection[str]:
        """Return the systems for which tasks wait."""
        return [system for system, heap in self._heaps.items() if self._first(system, heap) is not None]


class StrictQueue:
    """One task at a time in topological order: a task that waits for its back-off holds its place.

    The key of its head only says how urgent it is among the heads of other orchestrations. The order is made anew when
    the graph has changed: by a revision, or by children that came into being.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._keys: Mapping[TaskId, Key] = {}
        self._set_order()

    def _set_order(self) -> None:
        self._graph = (self._state.revision, len(self._state.tasks))
        self._order = strict_order(self._state)
        self._place = {task_id: place for place, task_id in enumerate(self._order)}
        self._cursor = 0

    def push(self, task_id: TaskId) -> None:
        """Take in a task; the order stands already, but a retry goes back in it."""
        if self._graph != (self._state.revision, len(self._state.tasks)):
            self._set_order()
        self._cursor = min(self._cursor, self._place[task_id])

    def head(self, admits: Admits) -> tuple[Key, TaskId] | None:
        """Return the first unsettled task if it is ready; the whole order waits for it otherwise.

        After a retry a later one may still be running, or be with a worker; it is let finish first.
        """
        if self._is_under_way():
            return None
        tasks = self._state.tasks
        while self._cursor < len(self._order):
            task_id = self._order[self._cursor]
            task = tasks[task_id]
            if not task.is_settled and not _is_passed_over(task):
                is_ready = task.status is TaskStatus.READY and task_id not in self._state.held
                may_start = is_ready and admits(task.system)
                return (self._keys.get(task_id, _LAST), task_id) if may_start else None
            self._cursor += 1
        return None

    def _is_under_way(self) -> bool:
        """Whether a task runs, is offered or claimed, or what workers are told of it is being written."""
        state = self._state
        if state.running or state.counts.get(TaskStatus.OFFERED) or state.counts.get(TaskStatus.CLAIMED):
            return True
        return any(_is_being_offered(state.tasks[task_id]) for task_id in state.held)

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Note how urgent the tasks are; their order stands, unless the graph has changed."""
        self._keys = keys
        if self._graph != (self._state.revision, len(self._state.tasks)):
            self._set_order()

    def systems(self) -> Collection[str]:
        """Return the systems for which tasks wait."""
        head = self.head(lambda _system: True)
        return [] if head is None else [self._state.tasks[head[1]].system]


def _is_being_offered(task: TaskState) -> bool:
    """Whether a task that is held back waits for its brief, and not for an agreement or its parts."""
    is_agreed = task.node.approval is None or task.approved_digest is not None
    return task.system == AGENT and is_agreed and not task.is_composite


def _is_passed_over(task: TaskState) -> bool:
    """Whether a task holds no place: its parts do, or another task stands for it."""
    return task.status in {TaskStatus.EXPANDED, TaskStatus.SUPERSEDED}
