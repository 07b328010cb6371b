"""What must hold of a state after every event. Tests check it after each step; nothing else pays for it.

May import: orchestration.models, orchestration.engine.{state, task_state}, stdlib.
"""

from __future__ import annotations

from collections import Counter

from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import AGENT, SETTLED, OrchestrationStatus, TaskStatus

_BEGUN = frozenset(
    {
        TaskStatus.READY,
        TaskStatus.AWAITING_APPROVAL,
        TaskStatus.OFFERED,
        TaskStatus.CLAIMED,
        TaskStatus.EXPANDED,
        TaskStatus.RUNNING,
        TaskStatus.RETRYING,
        TaskStatus.UNKNOWN,
        TaskStatus.COMPLETED,
    }
)


def check_state(state: State) -> None:
    """Raise AssertionError when the state contradicts itself."""
    for is_composite, counts in ((False, state.counts), (True, state.composites)):
        counted = Counter(task.status for task in state.tasks.values() if task.is_composite is is_composite)
        kept = {status: count for status, count in counts.items() if count}
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
        did_something = task.attempt > 0 or task.is_reused or task.is_composite
        assert did_something, f"{name} completed without an attempt"
    if task.status in {TaskStatus.PENDING, TaskStatus.PAUSED}:
        parent = task.node.parent
        waits = parent is not None and state.tasks[parent].status is not TaskStatus.EXPANDED
        assert undecided or waits, f"{name} is {task.status} although nothing is left to wait for"
    _check_children(state, task)
    _check_claim(task)
    if task.status is TaskStatus.AWAITING_APPROVAL:
        assert task.asked_digest, f"{name} awaits an approval nobody is asked for"
    if task.status in {TaskStatus.RUNNING, TaskStatus.OFFERED, TaskStatus.CLAIMED} and task.node.approval:
        assert task.approved_digest, f"{name} runs although nobody agreed to it"
    assert not task.is_asked or task.status is TaskStatus.REPLANNING, (
        f"{name} asks although it is {task.status}"
    )
    if task.status is TaskStatus.UNKNOWN:
        assert not task.node.idempotent, f"{name} is unknown, but could simply run again"
    assert name not in state.held or task.status is TaskStatus.READY, f"{name} is held, but {task.status}"
    if task.status is TaskStatus.PAUSED:
        assert task.paused_by, f"{name} is paused by nobody"
    if state.status is OrchestrationStatus.CANCELLING:
        is_over = task.is_settled or task.status in {TaskStatus.RUNNING, TaskStatus.SUPERSEDED}
        assert is_over, f"{name} is {task.status} while the orchestration is being cancelled"
    if task.status is TaskStatus.SUPERSEDED:
        assert state.current(name) != name or name in state.removed, f"{name} is superseded by nothing"


def _check_claim(task: TaskState) -> None:
    name = task.node.task_id
    if task.status is TaskStatus.CLAIMED:
        assert task.claim, f"{name} is claimed under no name"
        assert task.worker, f"{name} is claimed by nobody"
    if task.status in {TaskStatus.OFFERED, TaskStatus.CLAIMED}:
        assert task.offers, f"{name} is {task.status} without an offer"
        assert task.system == AGENT, f"{name} is {task.status}, but goes to {task.system}"
    assert task.reported is None or task.status is TaskStatus.CLAIMED, (
        f"{name} is looked at although it is {task.status}"
    )


def _check_children(state: State, task: TaskState) -> None:
    name = task.node.task_id
    parts = [other for other in state.tasks.values() if other.node.parent == name] if task.children else []
    present = [part.node.task_id for part in parts if part.status is not TaskStatus.SUPERSEDED]
    assert sorted(present) == sorted(task.children), (
        f"{name} has the parts {present}, and knows {task.children}"
    )
    unsettled = sum(not part.is_settled for part in parts if part.status is not TaskStatus.SUPERSEDED)
    assert unsettled == task.open_children, (
        f"{name}: {task.open_children} open parts counted, {unsettled} found"
    )
    # What was cancelled when it ran, and is to be decided about, may wait for that before its parent begins again.
    running = _BEGUN - SETTLED - {TaskStatus.UNKNOWN}
    begun = [part.node.task_id for part in parts if part.status in running]
    is_right = task.status is TaskStatus.EXPANDED or (
        state.status is OrchestrationStatus.CANCELLING and task.status is TaskStatus.CANCELLED
    )
    assert not begun or is_right, f"{name} is {task.status}, but {begun} have begun"
