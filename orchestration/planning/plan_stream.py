"""A plan that is handed out while it is made, with everything around it: what it ends in is a `Plan` like any other.

May import: orchestration.planning.{plan, proposal}, stdlib.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from orchestration.planning.plan import Plan
from orchestration.planning.proposal import Proposal, TaskBatch


class PlanStream:
    """Batches of tasks, upstreams first, and after the last one the plan they make.

    What `TaskStream` promises of batches holds here. A plan by somebody who makes it whole is one batch.

    Args:
        batches: Where they come from.
        finish: Makes the plan of the proposal that they were.
    """

    def __init__(
        self,
        batches: AsyncGenerator[TaskBatch | Proposal, None],
        finish: Callable[[Proposal], Awaitable[Plan]],
    ) -> None:
        self._batches = batches
        self._finish = finish
        self._plan: Plan | None = None

    def __aiter__(self) -> AsyncIterator[TaskBatch]:
        """Return itself."""
        return self

    async def __anext__(self) -> TaskBatch:
        """Return the next batch.

        Raises:
            SystemUnavailableError: The rest can't be made; `reason` says why.
            ConfigurationError: The model can't be used as it is configured.
            NoFittingPlanError: Nobody has a plan for the goal; nothing was handed out.
        """
        found = await anext(self._batches)
        if isinstance(found, Proposal):
            self._plan = await self._finish(found)
            raise StopAsyncIteration
        return found

    @property
    def plan(self) -> Plan:
        """Return the whole plan, once iteration has ended without an exception."""
        if self._plan is None:
            raise RuntimeError("The plan is not whole. Fix: read `plan` after the last batch.")
        return self._plan


def whole(proposal: Proposal) -> TaskBatch:
    """Return a plan that was made at once as a batch."""
    return TaskBatch(tasks=tuple(proposal.dag.nodes.values()), edges=tuple(proposal.dag.edges))
