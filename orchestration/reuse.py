"""Which results of an earlier orchestration a new one of an edited DAG may use, and the events that say so.

May import: orchestration.{errors, models, ports}, orchestration.engine.*, orchestration.execution.recovery, stdlib.

A task is reused when it completed, does the same as before on the same system under the same declaration, sees the same
context, is fed by the same edges, and all its upstream tasks are reused. What only shapes how a task runs (priority,
estimates, limits, retries) may differ.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass

from orchestration.engine.engine import Engine
from orchestration.engine.events import Event
from orchestration.engine.inputs import Reusable, ReuseResults
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.execution.recovery import load_state
from orchestration.models import Json, OrchestrationId, TaskId, TaskNode, TaskStatus
from orchestration.ports import Needs, ReusedOutput, Storage

_PAGE = 1_000
"""Outputs read at once."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An orchestration whose results may be used."""

    orchestration_id: OrchestrationId
    state: State
    needs: Needs
    storage: Storage


@dataclass(frozen=True, slots=True)
class Reused:
    """What a new orchestration takes over."""

    events: tuple[Event, ...] = ()
    """In order, after the first one of its journal."""
    outputs: tuple[ReusedOutput, ...] = ()
    notes: tuple[str, ...] = ()
    """Why nothing is reused, where that is so."""


async def load_earlier(storage: Storage, orchestration_id: OrchestrationId) -> Earlier:
    """Return an orchestration whose results are to be used.

    Raises:
        OrchestrationNotFoundError: There is no such orchestration.
    """
    record = await storage.load_orchestration(orchestration_id)
    return Earlier(orchestration_id, await load_state(storage, orchestration_id), record.needs, storage)


async def reused_from(
    earlier: Earlier, state: State, needs: Needs, seen_whole: Container[str], now_us: int
) -> Reused:
    """Return what of an earlier orchestration a new one may use; it is applied to the new one's state.

    Args:
        earlier: The earlier one.
        state: The new one, freshly submitted.
        needs: The declarations the new one goes by.
        seen_whole: Systems that see more of a task than its tool, arguments, inputs and context.
        now_us: Wall time in microseconds since the epoch.
    """
    if earlier.state.context != state.context:
        note = f"Nothing of {earlier.orchestration_id} is reused: its context was another one."
        return Reused(notes=(note,))
    sources = _sources(earlier, state, needs, seen_whole)
    values = await _values(earlier, state, sources)
    engine = Engine()
    engine.adopt(state)
    results = tuple(
        Reusable(
            task_id=task_id,
            output=source.output,
            value=values.get(task_id),
            source=f"{earlier.orchestration_id}:{source.node.task_id}",
            deliveries=tuple(
                (edge.edge.source_task_id, bool(edge.delivers))
                for edge in earlier.state.tasks[task_id].incoming
            ),
        )
        for task_id, source in sources.items()
        if source.output is not None
    )
    decision = engine.handle(ReuseResults(orchestration_id=state.orchestration_id, results=results), now_us)
    completed = [task_id for task_id in sources if state.tasks[task_id].status is TaskStatus.COMPLETED]
    notes = (
        ()
        if completed
        else (f"Nothing of {earlier.orchestration_id} could be reused: every task has changed.",)
    )
    return Reused(
        events=tuple(recorded.event for recorded in decision.events),
        outputs=tuple(
            ReusedOutput(
                task_id=task_id,
                from_orchestration=earlier.orchestration_id,
                from_task=sources[task_id].node.task_id,
            )
            for task_id in completed
        ),
        notes=notes,
    )


def _sources(
    earlier: Earlier, state: State, needs: Needs, seen_whole: Container[str]
) -> dict[TaskId, TaskState]:
    """Return, for each reusable task, the one whose output it takes; upstream first."""
    found: dict[TaskId, TaskState] = {}
    for task_id in state.dag.topological_sort():
        task = state.tasks[task_id]
        before = earlier.state.tasks.get(task_id)
        if before is None or not _is_same(before, task):
            continue
        if task.system in seen_whole and _words(earlier.state, before) != _words(state, task):
            continue
        tool = task.node.tool or ""
        if earlier.needs.get(before.system, {}).get(tool) != needs.get(task.system, {}).get(tool):
            continue  # it would be run by another declaration now
        if any(edge.source not in found for edge in task.incoming):
            continue
        source = earlier.state.tasks[earlier.state.current(task_id)]
        if source.status is TaskStatus.COMPLETED and source.output is not None:
            found[task_id] = source
    return found


def _is_same(before: TaskState, task: TaskState) -> bool:
    return (
        before.system == task.system
        and _work(before.node) == _work(task.node)
        and _feeds(before) == _feeds(task)
    )


def _work(node: TaskNode) -> tuple[object, ...]:
    """Return what decides about a task's output."""
    return node.tool, node.description, json.dumps(node.arguments, sort_keys=True)


def _words(state: State, task: TaskState) -> tuple[object, ...]:
    """Return what a system that sees a task whole is told besides."""
    return state.dag.goal, task.node.system_preference, task.node.complexity_score


def _feeds(task: TaskState) -> set[tuple[str, tuple[str, ...], bool, str | None]]:
    """Return what decides about a task's inputs, as the DAG says it."""
    edges = [edge.edge for edge in task.incoming]
    return {
        (edge.source_task_id, tuple(edge.data_requirements), edge.is_optional, edge.condition)
        for edge in edges
    }


async def _values(earlier: Earlier, state: State, sources: dict[TaskId, TaskState]) -> dict[TaskId, Json]:
    """Return the outputs that conditions and data requirements look at."""
    wanted = {
        source.node.task_id: task_id
        for task_id, source in sources.items()
        if any(edge.needs_checking for edge in state.tasks[task_id].outgoing)
    }
    names = list(wanted)
    values: dict[TaskId, Json] = {}
    for start in range(0, len(names), _PAGE):
        page = names[start : start + _PAGE]
        texts = await earlier.storage.load_outputs(earlier.orchestration_id, page)
        values |= {wanted[name]: json.loads(text) for name, text in texts.items()}
    return values
