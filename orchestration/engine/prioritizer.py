"""Ranks tasks: which of several ready ones should start first.

May import: orchestration.{dag, models, options}, orchestration.engine.{state, task_state}, stdlib.

`upward_rank` is the longest remaining path over expected durations, from HEFT (Topcuoglu, Hariri and Wu, "Performance-
effective and low-complexity task scheduling for heterogeneous computing", IEEE TPDS 13(3), 2002), without communication
costs. `weighted` is the specification's formula, exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from orchestration.dag import TaskDAG
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import SETTLED, TaskId, TaskNode, TaskStatus
from orchestration.options import PrioritizationOptions

_OVER = SETTLED | {TaskStatus.SUPERSEDED}


class DynamicTaskPrioritizer:
    """Scores tasks.

    Args:
        options: Weights of the formula and the policy of the ready queue.
    """

    def __init__(self, options: PrioritizationOptions | None = None) -> None:
        self.options = options or PrioritizationOptions()

    def calculate_priority_score(self, task: TaskNode, dag: TaskDAG) -> float:
        """Return the specification's score of a task; higher starts earlier.

        `priority · base_priority_weight + time · time_weight + dependents · dependency_weight + simplicity ·
        complexity_weight`, where time = 1 / max(estimated seconds, 1), simplicity = 1 / max(complexity, 1) and
        dependents counts the tasks that depend on it directly. Nothing is normalised; an unknown estimate or
        complexity counts as 0, so its term is 1.
        """
        return self._score(task, sum(1 for edge in dag.edges if edge.source_task_id == task.task_id))

    def _score(self, task: TaskNode, dependents: int) -> float:
        options = self.options
        time_factor = 1.0 / max(task.estimated_time_seconds or 0.0, 1.0)
        complexity_factor = 1.0 / max(task.complexity_score or 0.0, 1.0)
        return (
            task.priority.value * options.base_priority_weight
            + time_factor * options.time_weight
            + dependents * options.dependency_weight
            + complexity_factor * options.complexity_weight
        )

    def keys(self, state: State, expected: Callable[[TaskId], float]) -> dict[TaskId, tuple[float, float]]:
        """Return a sort key per unsettled task; the smallest starts first.

        Args:
            state: The orchestration.
            expected: Expected duration of a task in seconds.
        """
        if self.options.policy == "weighted":
            return {
                task_id: (-self._score(task.node, len(task.outgoing)), 0.0)
                for task_id, task in state.tasks.items()
                if not task.is_settled
            }
        tasks = state.tasks
        ranks = upward_ranks(state, expected)
        return {task_id: (-tasks[task_id].node.priority, -rank) for task_id, rank in ranks.items()}


def upward_ranks(state: State, expected: Callable[[TaskId], float]) -> Mapping[TaskId, float]:
    """Return, per unsettled task, the longest expected time from its start to the end of all that depends on it.

    Depth-first over the unsettled part of the graph without recursion: O(V + E).
    """
    tasks = state.tasks
    ranks: dict[TaskId, float] = {}
    for root, root_task in tasks.items():
        if root in ranks or root_task.status in _OVER:
            continue
        stack = [root]
        while stack:
            task_id = stack[-1]
            if task_id in ranks:
                stack.pop()
                continue
            longest = 0.0
            depth = len(stack)
            for target in _downstream(tasks, task_id):
                if target in ranks:
                    rank = ranks[target]
                    longest = max(longest, rank)
                elif tasks[target].status not in _OVER:
                    stack.append(target)
            if len(stack) == depth:  # everything downstream is ranked
                ranks[task_id] = longest + (0.0 if tasks[task_id].children else expected(task_id))
                stack.pop()
    return ranks


def _downstream(tasks: Mapping[TaskId, TaskState], task_id: TaskId) -> Iterator[TaskId]:
    """Yield what can follow: a task's dependents, a composite's parts, of a last part its parent's dependents."""
    task = tasks[task_id]
    if task.children:
        yield from task.children
        return
    while not task.outgoing and task.node.parent is not None:
        task = tasks[task.node.parent]
    for edge in task.outgoing:
        yield edge.target
