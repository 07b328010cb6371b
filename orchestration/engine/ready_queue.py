"""The ready tasks of one orchestration in the order in which they should start.

May import: orchestration.models, orchestration.engine.{graph, state, task_state}, stdlib.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Protocol

from orchestration.engine.graph import strict_order
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import TaskId, TaskStatus

Key = tuple[float, float]
_LAST: Key = (0.0, 0.0)


class ReadyQueue(Protocol):
    """Knows which ready task comes next."""

    def push(self, task_id: TaskId) -> None:
        """Take in a task that has become ready."""
        ...

    def head(self) -> tuple[Key, TaskId] | None:
        """Return the task that should start next with its key, or None when none may start now."""
        ...

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Order by new keys."""
        ...


class RankedQueue:
    """Ready tasks by key, ties by place in the DAG; a heap, never a scan.

    Entries of tasks that are not ready any more, or are held back, are dropped when they come up.
    """

    def __init__(self, state: State, keys: Mapping[TaskId, Key]) -> None:
        self._state = state
        self._keys = keys
        self._heap: list[tuple[Key, int, TaskId]] = []

    def push(self, task_id: TaskId) -> None:
        """Take in a task that has become ready."""
        position = self._state.tasks[task_id].position
        heapq.heappush(self._heap, (self._keys.get(task_id, _LAST), position, task_id))

    def head(self) -> tuple[Key, TaskId] | None:
        """Return the most urgent ready task with its key."""
        heap, tasks, held = self._heap, self._state.tasks, self._state.held
        while heap:
            key, _, task_id = heap[0]
            if tasks[task_id].status is TaskStatus.READY and task_id not in held:
                return key, task_id
            heapq.heappop(heap)
        return None

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Order by new keys; a task that has none any more keeps its old one."""
        self._keys = keys
        self._heap = [(keys.get(task_id, key), position, task_id) for key, position, task_id in self._heap]
        heapq.heapify(self._heap)


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

    def head(self) -> tuple[Key, TaskId] | None:
        """Return the first unsettled task if it is ready; the whole order waits for it otherwise.

        After a retry a later one may still be running; it is let finish first.
        """
        if self._state.running:
            return None
        tasks = self._state.tasks
        while self._cursor < len(self._order):
            task_id = self._order[self._cursor]
            task = tasks[task_id]
            if not task.is_settled and not _is_passed_over(task):
                may_start = task.status is TaskStatus.READY and task_id not in self._state.held
                return (self._keys.get(task_id, _LAST), task_id) if may_start else None
            self._cursor += 1
        return None

    def rerank(self, keys: Mapping[TaskId, Key]) -> None:
        """Note how urgent the tasks are; their order stands, unless the graph has changed."""
        self._keys = keys
        if self._graph != (self._state.revision, len(self._state.tasks)):
            self._set_order()


def _is_passed_over(task: TaskState) -> bool:
    """Whether a task holds no place: its parts do, or another task stands for it."""
    return task.status in {TaskStatus.EXPANDED, TaskStatus.SUPERSEDED}
