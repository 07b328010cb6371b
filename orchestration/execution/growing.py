"""Lets tasks of a plan in as soon as they are planned, until the plan is whole or has failed.

May import: orchestration.{dag, errors, logs, models, ports, systems}, orchestration.engine.*,
orchestration.execution.{driven, letters, preparation}, stdlib.

The engine asks for it (`ContinuePlan`) when it begins to drive an orchestration whose plan is still being made: a new
one, or one whose process died meanwhile. Then the planner goes on from the tasks that are there; they stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.dag import TaskDAG
from orchestration.engine.graph import planned_graph
from orchestration.engine.inputs import PlanEnded, PlanGrown
from orchestration.engine.state import State
from orchestration.errors import (
    DuplicateTaskError,
    InvalidDagError,
    LeaseError,
    OrchestrationError,
    Problem,
    StateError,
    StorageError,
)
from orchestration.execution.driven import Driven
from orchestration.execution.letters import HandIn
from orchestration.execution.preparation import Preparation
from orchestration.logs import get_logger
from orchestration.models import Json, OrchestrationStatus, TaskEdge, TaskId, TaskStatus
from orchestration.ports import PlanPart, StreamPlanner
from orchestration.systems.base import bounded, words_of
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import route, routed_dag, routes_of

log = get_logger()


class PlanGrower:
    """Makes the rest of a plan part by part.

    Args:
        registry: Where tasks can run.
        preparation: Loads what completed tasks delivered, for conditions.
        planner: Makes the plan.
    """

    def __init__(self, registry: SystemRegistry, preparation: Preparation, planner: StreamPlanner) -> None:
        self._registry = registry
        self._preparation = preparation
        self._planner = planner

    async def grow(self, driven: Driven, hand_in: HandIn) -> None:
        """Hand the plan in as it is made; its end, good or bad, as well."""
        identifier = driven.lease.orchestration_id
        try:
            error = await self._make(driven.state, hand_in)
            await _handed_in(hand_in, PlanEnded(orchestration_id=identifier, error=error))
        except _UnwantedError as unwanted:
            log.info(
                "The rest of a plan is not wanted any more",
                operation="PLAN_UNWANTED",
                orchestration_id=identifier,
                reason=str(unwanted.__cause__),
            )

    async def _make(self, state: State, hand_in: HandIn) -> str | None:
        """Hand in all parts; return why the plan will never be whole, if so.

        Raises:
            _UnwantedError: It was cancelled, or nothing can be stored, or somebody else drives it by now.
        """
        identifier = state.orchestration_id
        failure: Exception | None = None
        try:
            async with self._planner.continue_plan(
                identifier, state.dag.goal, state.context, state.mode, planned_graph(state)
            ) as parts:
                try:
                    async for part in parts:
                        await self._put(state, part, hand_in)
                except Exception as exc:  # noqa: BLE001  raised through the planner's own task group it would be wrapped
                    failure = exc
        except Exception as exc:  # noqa: BLE001  whatever a planner raises, the plan will not be whole
            failure = failure or exc
        if failure is None:
            return None
        if isinstance(failure, _UnwantedError):
            raise failure
        if not isinstance(failure, OrchestrationError):
            log.warning("The planner failed", operation="PLAN_FAILED", orchestration_id=identifier)
        reason = bounded(self._registry.redactor.text(words_of(failure)))
        return f"plan_incomplete: the rest of the plan could not be made: {reason}"

    async def _put(self, state: State, part: PlanPart, hand_in: HandIn) -> None:
        """Route a part and put it to the engine.

        Raises:
            DefinitionError: It does not fit what is there, or nothing can run some of it.
            _UnwantedError: As for `_make`.
        """
        dag = _checked(state, part)
        routing = await route(
            dag, self._registry, tasks_before=len(state.tasks), allows_agent=state.allows_agent
        )
        routed = routed_dag(dag, routing)
        while True:
            values = await self._values(state, part.edges)
            try:
                await _handed_in(
                    hand_in,
                    PlanGrown(
                        orchestration_id=state.orchestration_id,
                        tasks=tuple(routed.nodes.values()),
                        edges=tuple(part.edges),
                        routes=routes_of(routing),
                        values=values,
                    ),
                )
            except _UnwantedError:
                missing = self._completed_before(state, part.edges) - values.keys()
                if state.status is not OrchestrationStatus.PLANNING or not missing:
                    raise
                continue  # tasks completed meanwhile whose outputs decide edges; each of them does so once
            return

    async def _values(self, state: State, edges: Sequence[TaskEdge]) -> dict[TaskId, Json]:
        """Return the outputs that new edges with conditions or required keys are decided by."""
        wanted = self._completed_before(state, edges)
        found = await self._preparation.outputs.load(state.orchestration_id, wanted) if wanted else {}
        return {task_id: found.get(task_id) for task_id in wanted}

    def _completed_before(self, state: State, edges: Sequence[TaskEdge]) -> set[TaskId]:
        """Return the completed tasks, each as it is called now, whose outputs new edges look at."""
        sources = {
            state.current(edge.source_task_id)
            for edge in edges
            if edge.condition is not None or edge.data_requirements
        }
        return {
            task_id
            for task_id in sources
            if task_id in state.tasks and state.tasks[task_id].status is TaskStatus.COMPLETED
        }


class _UnwantedError(Exception):
    """A part could not be handed in; its cause says why."""


async def _handed_in(hand_in: HandIn, item: PlanGrown | PlanEnded) -> None:
    """Hand something in.

    Raises:
        _UnwantedError: It was refused, or could not be stored.
    """
    try:
        await hand_in(item)
    except (StateError, LeaseError, StorageError) as exc:
        raise _UnwantedError from exc


def _checked(state: State, part: PlanPart) -> TaskDAG:
    """Return the tasks of a part as a DAG, if they fit what is there: the engine takes a planner at its word.

    Raises:
        DefinitionError: They don't.
    """
    dag = TaskDAG(state.dag.dag_id, state.dag.goal)
    for node in part.tasks:
        if node.task_id in state.tasks:
            raise DuplicateTaskError(node.task_id)
        dag.add_task(node)
    for node in part.tasks:
        if node.parent is not None and node.parent not in dag.nodes:
            told = f"is {node.parent!r}, which did not come with it."
            fix = "Hand a task out together with its parts."
            raise InvalidDagError([Problem(f"tasks[{node.task_id}].parent", told, fix)])
    for edge in part.edges:
        if edge.target_task_id not in dag.nodes:
            told = f"leads to {edge.target_task_id!r}, which is no task of this part."
            fix = "Hand a task out with all edges that lead to it."
            raise InvalidDagError([Problem("edges", told, fix)])
        if edge.source_task_id in dag.nodes:
            dag.add_dependency(edge)
        elif edge.source_task_id not in state.tasks:
            told = f"comes from {edge.source_task_id!r}, which is not there."
            raise InvalidDagError([Problem("edges", told, "Hand its upstream out before.")])
    dag.validate_dependencies()
    return dag
