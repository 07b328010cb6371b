"""Plans that run while they are made: the decomposer as execution needs it, and where such a plan is kept in the end.

May import: orchestration.{clock, dag, errors, models, plan_store, ports}, orchestration.planning.*, stdlib.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from orchestration.clock import Clock
from orchestration.dag import TaskDAG
from orchestration.errors import PlanNotFoundError
from orchestration.models import Json, OrchestrationId, OrchestrationMode
from orchestration.plan_store import load_plan, save_plan, streamed_base
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.drafts import task_drafts
from orchestration.planning.plan_stream import PlanStream
from orchestration.ports import PlanPart, Storage


class StreamedPlans:
    """A `StreamPlanner` over a decomposer.

    Args:
        decomposer: Makes the plans.
        storage: Where the whole plan is kept, with its thoughts.
        clock: Says when it was made.
    """

    def __init__(self, decomposer: AdvancedTaskDecomposer, storage: Storage, clock: Clock) -> None:
        self._decomposer = decomposer
        self._storage = storage
        self._clock = clock

    @asynccontextmanager
    async def continue_plan(
        self,
        orchestration_id: OrchestrationId,
        goal: str,
        context: Mapping[str, Json],
        mode: OrchestrationMode,
        so_far: TaskDAG,
    ) -> AsyncIterator[AsyncIterator[PlanPart]]:
        """Return the parts of a plan that are still missing; when it is whole, it is kept."""
        if await self._is_whole(orchestration_id, so_far):
            yield _nothing()
            return
        existing = task_drafts(so_far) if so_far.nodes else ()
        # What nobody can plan is no plan: a goal cut into sentences would be run before anybody saw it.
        async with self._decomposer.stream(
            goal, context=context, mode=mode, existing=existing, allow_sentences=False
        ) as stream:
            yield self._parts(orchestration_id, stream)

    async def _is_whole(self, orchestration_id: OrchestrationId, so_far: TaskDAG) -> bool:
        """Whether the process that made the plan had kept it before it could say so: it is not to be made anew."""
        try:
            kept = await load_plan(self._storage, f"{streamed_base(orchestration_id)}-1")
        except PlanNotFoundError:
            return False
        return kept.goal == so_far.goal and kept.dag.nodes.keys() == so_far.nodes.keys()

    async def _parts(self, orchestration_id: OrchestrationId, stream: PlanStream) -> AsyncIterator[PlanPart]:
        async for batch in stream:
            yield PlanPart(tasks=batch.tasks, edges=batch.edges)
        await save_plan(
            self._storage, stream.plan, self._clock.now_us(), base=streamed_base(orchestration_id)
        )


async def _nothing() -> AsyncIterator[PlanPart]:
    parts: tuple[PlanPart, ...] = ()
    for part in parts:
        yield part
