"""What a retry makes pending again: the failed tasks, and what never ran or ended because of them.

May import: orchestration.{errors, models}, orchestration.engine.{policy, state, task_state}, stdlib.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from orchestration.engine.policy import listed
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import TaskId, TaskStatus

_NAMED = 20
"""Tasks a refusal names."""


def reopened_by(state: State, chosen: Sequence[TaskId]) -> tuple[TaskId, ...]:
    """Return the tasks that a retry makes pending again, by their place in the DAG.

    The chosen failed tasks (all of them when none is chosen), every cancelled task (nothing could follow it
    otherwise), and, as often as it applies, each task that never ran because of nothing but these.

    Raises:
        TaskNotFoundError: A chosen task is not there.
        NotPossibleError: A chosen task has not failed, or failed over something a retry does not change; or there is
            nothing to retry: no task, and no plan that was never whole.
    """
    for task_id in chosen:
        if task_id not in state.tasks:
            raise TaskNotFoundError(state.orchestration_id, task_id, list(state.tasks)[:_NAMED])
        if state.tasks[task_id].status not in {TaskStatus.FAILED, TaskStatus.CANCELLED}:
            raise NotPossibleError(
                f"Task {task_id!r}", state.tasks[task_id].status, "retried", _retryable_words(state)
            )
        if _is_done_without(state, state.tasks[task_id]):
            told = f"{state.tasks[task_id].status}, and what it is a part of has completed without it"
            raise NotPossibleError(f"Task {task_id!r}", told, "retried", _retryable_words(state))
    wanted = _with_parts(state, chosen) or [
        task_id for task_id, task in state.tasks.items() if _can_be_retried(state, task)
    ]
    again = dict.fromkeys(wanted)
    again |= dict.fromkeys(
        task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.CANCELLED
    )
    freed = _spread(state, again)
    for task_id in chosen:
        task = state.tasks[task_id]
        if task.status is TaskStatus.FAILED and task.dead > freed[task_id]:
            raise NotPossibleError(
                f"Task {task_id!r}",
                task.status,
                "retried",
                "It failed before it ran: an edge it requires can't be decided. Fix: retry the task before it, or "
                "submit a DAG with that edge mended.",
            )
    if not again and (state.is_whole or not state.status.is_terminal):
        raise NotPossibleError(
            f"Orchestration {state.orchestration_id!r}", state.status, "retried", _retryable_words(state)
        )
    return tuple(sorted(again, key=lambda task_id: state.tasks[task_id].position))


def _spread(state: State, again: dict[TaskId, None]) -> Counter[TaskId]:
    """Add what must be pending again, too; return how many dead required edges of each task come to life with it."""
    freed: Counter[TaskId] = Counter()
    frontier = deque(again)
    while frontier:
        task = state.tasks[frontier.popleft()]
        found = _reopened_with(state, task)
        for edge in task.outgoing:
            target = state.tasks[edge.target]
            if edge.delivers is not False or edge.edge.is_optional or not target.never_ran:
                continue
            freed[edge.target] += 1
            if freed[edge.target] == target.dead:
                found.append(edge.target)
        for other in found:
            if other not in again:
                again[other] = None
                frontier.append(other)
    return freed


def _with_parts(state: State, chosen: Sequence[TaskId]) -> list[TaskId]:
    """Return the chosen tasks, and of composites that failed over their parts those parts."""
    found = dict.fromkeys(chosen)
    frontier = deque(chosen)
    while frontier:
        for child in state.tasks[frontier.popleft()].children:
            if state.tasks[child].status is TaskStatus.FAILED and child not in found:
                found[child] = None
                frontier.append(child)
    return list(found)


def _reopened_with(state: State, task: TaskState) -> list[TaskId]:
    """Return what must be pending again because a task is: its settled parent, and parts that never began for it."""
    found = []
    parent = task.node.parent
    if parent is not None and state.tasks[parent].is_settled:
        found.append(parent)
    if not task.is_expanded:
        found += [child for child in task.children if state.tasks[child].never_ran]
    return found


def _can_be_retried(state: State, task: TaskState) -> bool:
    """Whether a task has failed by itself, and something can still come of it."""
    return task.status is TaskStatus.FAILED and not task.dead and not _is_done_without(state, task)


def _is_done_without(state: State, task: TaskState) -> bool:
    """Whether a task is part of something that has completed: what completed never runs again."""
    while task.node.parent is not None:
        task = state.tasks[task.node.parent]
        if task.status is TaskStatus.COMPLETED:
            return True
    return False


def _retryable_words(state: State) -> str:
    named = [
        task_id
        for task_id, task in state.tasks.items()
        if (task.status is TaskStatus.CANCELLED and not task.dead) or _can_be_retried(state, task)
    ]
    return f"Failed or cancelled tasks can: {listed(named)}." if named else "No task of it has failed."
