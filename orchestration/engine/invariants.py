"""What must hold of a state after every event. Tests check it after each step; nothing else pays for it.

May import: orchestration.models, orchestration.engine.{state, task_state}, stdlib.
"""

from __future__ import annotations

from collections import Counter

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import SETTLED, OrchestrationStatus, TaskStatus

_BEGUN = frozenset(
    {TaskStatus.READY, TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.UNKNOWN, TaskStatus.COMPLETED}
)


def check_state(state: State) -> None:
    """Raise AssertionError when the state contradicts itself."""
    counted = Counter(task.status for task in state.tasks.values())
    kept = {status: count for status, count in state.counts.items() if count}
    assert kept == dict(counted), f"counts say {kept}, tasks say {dict(counted)}"
    over = SETTLED | {TaskStatus.SUPERSEDED}
    unsettled = sum(task.status not in over for task in state.tasks.values())
    assert unsettled == state.unsettled, f"{state.unsettled} unsettled counted, {unsettled} found"
    running = [task_id for task_id, task in state.tasks.items() if task.status is TaskStatus.RUNNING]
    assert sorted(running) == sorted(state.running), "the running set is not the running tasks"
    if state.status.is_terminal:
        assert unsettled == 0, "ended with unsettled tasks"
    for task in state.tasks.values():
        _check_task(state, task)


def _check_task(state: State, task: TaskState) -> None:
    name = task.node.task_id
    undecided = sum(edge.delivers is None for edge in task.incoming)
    dead = sum(edge.delivers is False and not edge.edge.is_optional for edge in task.incoming)
    if state.status not in {OrchestrationStatus.CANCELLING, OrchestrationStatus.CANCELLED}:
        assert undecided == task.undecided, (
            f"{name}: {task.undecided} undecided edges counted, {undecided} found"
        )
    assert dead == task.dead, f"{name}: {task.dead} dead edges counted, {dead} found"
    if task.status in _BEGUN:
        assert not undecided, f"{name} is {task.status} before its upstreams settled"
        assert not dead, f"{name} is {task.status} despite a dead required edge"
    if task.status is TaskStatus.COMPLETED:
        assert task.output is not None, f"{name} completed without an output"
        assert task.attempt > 0 or task.is_reused, f"{name} completed without an attempt"
    if task.status in {TaskStatus.PENDING, TaskStatus.PAUSED}:
        assert undecided, f"{name} is {task.status} although nothing is left to wait for"
    if task.status is TaskStatus.UNKNOWN:
        assert not task.node.idempotent, f"{name} is unknown, but could simply run again"
    assert name not in state.held or task.node.cache is not None, f"{name} is held, but has no cache to ask"
    if task.status is TaskStatus.PAUSED:
        assert task.paused_by, f"{name} is paused by nobody"
    if state.status is OrchestrationStatus.CANCELLING:
        is_over = task.is_settled or task.status in {TaskStatus.RUNNING, TaskStatus.SUPERSEDED}
        assert is_over, f"{name} is {task.status} while the orchestration is being cancelled"
    if task.status is TaskStatus.SUPERSEDED:
        assert state.current(name) != name, f"{name} is superseded by nothing"
