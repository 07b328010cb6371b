"""Plans to and from storage.

May import: orchestration.{dag_file, models, ports, submission}, orchestration.planning.plan, stdlib.
"""

from __future__ import annotations

import hashlib

from orchestration.dag_file import dag_from_json, dag_to_json
from orchestration.models import OrchestrationId, PlanId
from orchestration.planning.plan import Plan
from orchestration.ports import NewPlan, OrchestrationRecord, Storage
from orchestration.submission import base_id


def streamed_base(orchestration_id: OrchestrationId) -> str:
    """Return what the id of a plan begins with that ran while it was made; no other plan's does."""
    return f"plan_of_{orchestration_id}"


def kept_plan_id(record: OrchestrationRecord) -> PlanId:
    """Return the id under which an orchestration's plan is kept, where it has one."""
    return record.plan_id or f"{streamed_base(record.orchestration_id)}-1"


async def save_plan(storage: Storage, plan: Plan, now_us: int, base: str | None = None) -> Plan:
    """Store a plan and return it with its id, which begins with `base`; made of the DAG's id when absent."""
    dag_json = dag_to_json(plan.dag)
    record = await storage.save_plan(
        NewPlan(
            base_id=base or f"plan-{base_id(plan.dag.dag_id or plan.goal)}",
            goal=plan.goal,
            mode=plan.mode,
            context=plan.context,
            dag_json=dag_json,
            dag_sha256=hashlib.sha256(dag_json).hexdigest(),
            planner=plan.planner,
            thoughts=plan.thoughts,
            thinking_server=plan.thinking_server,
            notes=plan.notes,
            created_at_us=now_us,
        )
    )
    return plan.stored(record.plan_id, record.revision)


async def load_plan(storage: Storage, plan_id: PlanId, revision: int | None = None) -> Plan:
    """Return a stored plan, as it is now or was in an earlier revision.

    Raises:
        PlanNotFoundError: There is no such plan, or it has no such revision.
    """
    record = await storage.load_plan(plan_id, revision)
    return Plan(
        goal=record.goal,
        mode=record.mode,
        context=record.context,
        dag=dag_from_json(record.dag_json),
        planner=record.planner,
        thoughts=record.thoughts,
        thinking_server=record.thinking_server,
        notes=record.notes,
        plan_id=record.plan_id,
        revision=record.revision,
    )
