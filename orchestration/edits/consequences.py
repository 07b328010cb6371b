"""What follows at once of a change in a running orchestration: the engine itself is asked, on a state of its own.

May import: orchestration.{dag, models}, orchestration.engine.{engine, events, graph, inputs, state}, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestration.dag import TaskDAG
from orchestration.engine.engine import Engine
from orchestration.engine.events import OrchestrationFinished, TaskFailed, TaskSkipped
from orchestration.engine.graph import present_graph
from orchestration.engine.inputs import AlternativeFound, EditPlan
from orchestration.engine.state import State
from orchestration.models import SETTLED, OrchestrationStatus, TaskId, TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows at once when a running orchestration is changed so."""

    skipped: tuple[TaskId, ...] = ()
    """Tasks that will never run because something they require won't deliver."""
    failed: tuple[TaskId, ...] = ()
    """Tasks that fail because a new edge to them can't be decided."""
    unblocked: tuple[TaskId, ...] = ()
    """Tasks that waited and may start."""
    voided: tuple[TaskId, ...] = ()
    """Tasks whose approval, asked for or given, is void."""
    outcome: OrchestrationStatus | None = None
    """What the orchestration ends with, where that is its end."""


def consequences(
    state: State, item: EditPlan | AlternativeFound, asked: Sequence[TaskId] = ()
) -> Consequences:
    """Return what follows at once when the engine makes a change; the state is used up.

    Args:
        state: The orchestration's, of the caller's own.
        item: The change.
        asked: Tasks that somebody wants skipped: they are no consequence.

    Raises:
        StateError: The engine refuses the change.
    """
    before = {task_id: task.status for task_id, task in state.tasks.items()}
    agreed = {task_id for task_id, task in state.tasks.items() if task.asked_digest or task.approved_digest}
    engine = Engine()
    engine.adopt(state)
    events = [recorded.event for recorded in engine.handle(item, state.last_at_us).events]
    after = state.tasks
    waiting = {TaskStatus.PENDING, TaskStatus.PAUSED}
    return Consequences(
        skipped=tuple(
            event.task_id for event in events if isinstance(event, TaskSkipped) and event.task_id not in asked
        ),
        failed=tuple(event.task_id for event in events if isinstance(event, TaskFailed)),
        unblocked=tuple(
            task_id
            for task_id, status in before.items()
            if status in waiting and after[task_id].status is TaskStatus.READY
        ),
        voided=tuple(
            task_id
            for task_id in before
            if task_id in agreed and not after[task_id].asked_digest and not after[task_id].approved_digest
        ),
        outcome=next((event.outcome for event in events if isinstance(event, OrchestrationFinished)), None),
    )


def what_is_left(state: State) -> TaskDAG:
    """Return the part of an orchestration's graph that has not settled."""
    dag = present_graph(state)
    left = {task_id: node for task_id, node in dag.nodes.items() if node.status not in SETTLED}
    dag.nodes = {
        task_id: node if node.parent in left else replace(node, parent=None) for task_id, node in left.items()
    }
    dag.edges = [edge for edge in dag.edges if edge.source_task_id in left and edge.target_task_id in left]
    return dag
