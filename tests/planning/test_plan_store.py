"""A plan goes to storage and comes back as it was; its revisions are DAGs of their own."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestration import MemoryStorage
from orchestration.dag import TaskDAG
from orchestration.dag_file import dag_to_json
from orchestration.errors import PlanNotFoundError
from orchestration.models import Fallback, OrchestrationMode, TaskEdge, TaskNode
from orchestration.plan_store import load_plan, save_plan
from orchestration.planning.plan import Plan
from orchestration.ports import Thought
from tests.storage.records import plan_revision

pytestmark = pytest.mark.anyio


def dag(*task_ids: str) -> TaskDAG:
    """A chain."""
    made = TaskDAG("nightly")
    for task_id in task_ids:
        made.add_task(TaskNode(task_id, fallback=Fallback(tool="copy"), approval="person"))
    for source, target in pairwise(task_ids):
        made.add_dependency(TaskEdge(source, target))
    return made


THOUGHT = Thought(number=1, text="First…")
PLAN = Plan(
    goal="Load the orders",
    mode=OrchestrationMode.ADAPTIVE,
    context={"region": "eu"},
    dag=dag("fetch", "load"),
    planner="caller",
    thoughts=(THOUGHT,),
    notes=("as sent",),
)


async def test_a_stored_plan_comes_back_as_it_was() -> None:
    """With its id, and everything its planner said."""
    storage = MemoryStorage()

    stored = await save_plan(storage, PLAN, 1_000)
    assert stored.plan_id is not None
    loaded = await load_plan(storage, stored.plan_id)

    assert (loaded.plan_id, loaded.revision) == (stored.plan_id, 1)
    assert loaded.dag == PLAN.dag
    assert (loaded.goal, loaded.mode, loaded.context) == (PLAN.goal, PLAN.mode, PLAN.context)
    assert (loaded.planner, list(loaded.thoughts), list(loaded.notes)) == ("caller", [THOUGHT], ["as sent"])


async def test_each_revision_of_a_plan_comes_back_with_its_dag() -> None:
    """The present one unless another is named; one that is not there is refused."""
    storage = MemoryStorage()
    plan_id = (await save_plan(storage, PLAN, 1_000)).plan_id
    assert plan_id is not None
    dag_json = dag_to_json(dag("fetch", "audit", "load"))
    await storage.revise_plan(plan_id, plan_revision(1, dag_json=dag_json))

    present, first = await load_plan(storage, plan_id), await load_plan(storage, plan_id, 1)

    assert (present.revision, list(present.dag.nodes)) == (2, ["fetch", "audit", "load"])
    assert present.dag.nodes["audit"].fallback == Fallback(tool="copy")
    assert (first.revision, list(first.dag.nodes)) == (1, ["fetch", "load"])
    assert (present.planner, present.goal) == (first.planner, first.goal) == ("caller", PLAN.goal)
    with pytest.raises(PlanNotFoundError):
        await load_plan(storage, plan_id, 3)
