"""Results of an earlier orchestration in a new one of an edited DAG: found, and the events that say so.

May import: orchestration.{errors, models, ports, reuse_rules}, orchestration.engine.*,
orchestration.execution.recovery, stdlib.

`reuse_rules.py` says which. To use them, the new orchestration is driven for a moment by an engine that has no slot:
tasks with parts begin, what is reused completes, and nothing else starts.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass

from orchestration.engine.engine import Engine
from orchestration.engine.events import Event, Recorded
from orchestration.engine.inputs import Input, OutputsGathered, Reusable, ReuseResults, TakeOver
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.execution.recovery import load_state
from orchestration.models import Json, OrchestrationId, TaskId, TaskStatus
from orchestration.ports import Needs, ReusedOutput, Storage
from orchestration.reuse_rules import Comparison

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
    sources = Comparison(earlier.state, earlier.needs, state, needs, seen_whole).sources()
    values = await _values(earlier, state, sources)
    events = _use(earlier, state, sources, values, now_us) if sources else []
    completed = [task_id for task_id in sources if state.tasks[task_id].status is TaskStatus.COMPLETED]
    notes = (
        ()
        if completed
        else (f"Nothing of {earlier.orchestration_id} could be reused: every task has changed.",)
    )
    return Reused(
        events=tuple(recorded.event for recorded in events),
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


def _use(
    earlier: Earlier,
    state: State,
    sources: dict[TaskId, TaskState],
    values: dict[TaskId, Json],
    now_us: int,
) -> list[Recorded]:
    """Complete tasks of the new orchestration; a task whose turn does not come (an edge is dead) is passed over."""
    engine = Engine(AdaptiveTaskScheduler(SlotPool(0)))
    engine.adopt(state)
    events = engine.handle(TakeOver(orchestration_id=state.orchestration_id), now_us).events
    state.unsettled += 1  # it is not to end here, even where everything is reused: whoever drives it ends it
    for task_id, source in sources.items():
        item: Input
        if state.tasks[task_id].is_composite and state.tasks[task_id].node.foreach is None:
            item = OutputsGathered(
                orchestration_id=state.orchestration_id,
                task_id=task_id,
                generation=state.tasks[task_id].generation,
                output=source.output,
                value=values.get(task_id),
            )
        else:
            item = ReuseResults(
                orchestration_id=state.orchestration_id,
                results=(_reusable(earlier, task_id, source, values.get(task_id)),),
            )
        events += engine.handle(item, now_us).events
    state.unsettled -= 1
    return events


def _reusable(earlier: Earlier, task_id: TaskId, source: TaskState, value: Json) -> Reusable:
    assert source.output is not None, "what has no output is no source"
    before = earlier.state.tasks[task_id]
    return Reusable(
        task_id=task_id,
        output=source.output,
        value=value,
        source=f"{earlier.orchestration_id}:{source.node.task_id}",
        deliveries=tuple((edge.edge.source_task_id, bool(edge.delivers)) for edge in before.incoming),
    )


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
