"""The orchestrator's preview: what running a DAG, a plan or a stored plan would take.

May import: orchestration.* but for planners, submission, control and the façade, stdlib. Nothing runs or is stored.
"""

from __future__ import annotations

from typing import Any

from orchestration.dag import TaskDAG
from orchestration.driver import OrchestrationDriver
from orchestration.errors import InvalidArgumentError
from orchestration.models import OrchestrationMode, PlanId
from orchestration.plan_store import load_plan
from orchestration.planning.plan import Plan
from orchestration.preview import preview_dag


class OrchestrationPreviewer(OrchestrationDriver):
    """Says what a run would be like."""

    async def preview(
        self,
        work: TaskDAG | Plan | PlanId,
        *,
        mode: OrchestrationMode | str | None = None,
        workers: int | None = None,
        assumed_items: int = 1,
        allows_agent: bool = False,
    ) -> dict[str, Any]:
        """Return what running a DAG would take. Nothing runs and nothing is stored.

        Args:
            work: A DAG, a plan, or a stored plan's id.
            mode: How it would be run; the plan's wish, else the options' default when absent.
            workers: Attempts at once; the options' concurrency when absent.
            assumed_items: How many items a `foreach` has whose list is known only during the run.
            allows_agent: As for `submit`.

        Returns:
            What `preview_dag` says, and `plan_id` and `revision` of a stored plan.

        Raises:
            InvalidDagError: The DAG has mistakes; all are listed.
            PlanNotFoundError: There is no such plan.
            InvalidArgumentError: An argument can't be used.
        """
        plan: Plan | None = None
        if isinstance(work, TaskDAG):
            dag = work
        else:
            plan = await load_plan(self.storage, work) if isinstance(work, str) else work
            if not isinstance(plan, Plan):
                raise InvalidArgumentError("dag", work, "a TaskDAG, a Plan or the id of a stored plan")
            dag = plan.dag
        found = await preview_dag(
            dag,
            options=self.options,
            systems=self.systems,
            storage=self.storage,
            mode=as_mode(mode) or (plan.mode if plan is not None else None),
            workers=workers,
            assumed_items=assumed_items,
            allows_agent=allows_agent,
        )
        if plan is not None:
            found["goal"] = plan.goal or found["goal"]
        stored = {"plan_id": plan.plan_id, "revision": plan.revision} if plan is not None else {}
        return {"plan_id": None, "revision": None, **stored, **found}


def as_mode(value: OrchestrationMode | str | None) -> OrchestrationMode | None:
    """Return a mode given by member, name or value.

    Raises:
        InvalidArgumentError: There is no such mode.
    """
    if value is None:
        return None
    try:
        return OrchestrationMode(value)
    except ValueError:
        names = ", ".join(mode.name for mode in OrchestrationMode)
        raise InvalidArgumentError("mode", value, f"one of {names}") from None
