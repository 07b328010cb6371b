"""What nothing else can run goes to agents only where somebody said that one is there."""

from __future__ import annotations

import anyio
import pytest

from orchestration.claim_records import Claim
from orchestration.dag import TaskDAG
from orchestration.errors import UnroutableTaskError
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.models import TaskNode, TaskStatus
from orchestration.systems.function import FunctionSystem

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


def think(*, tool: str | None = None, preference: str = "auto") -> TaskDAG:
    dag = TaskDAG("think")
    dag.add_task(TaskNode("think", description="Think.", tool=tool, system_preference=preference))
    return dag


async def test_a_task_is_offered_only_where_it_may_be_or_names_the_agent() -> None:
    """A library that has no worker would wait for ever; a tool nobody has is misspelled wherever it stands."""
    async with create_advanced_task_orchestrator() as orchestrator:
        with anyio.fail_after(10):
            with pytest.raises(UnroutableTaskError):
                await orchestrator.submit(think())
            with pytest.raises(UnroutableTaskError):
                await orchestrator.submit(think(tool="levitate"), allows_agent=True)
            names = [
                await orchestrator.submit(think(), allows_agent=True),
                await orchestrator.submit(think(preference="agent")),
            ]
            claims = [
                await orchestrator.claim_task("ada", orchestration_id=name, wait_seconds=5) for name in names
            ]
            preview = await orchestrator.preview(think(), allows_agent=True)
            alone = await orchestrator.preview(think())
            problems = await orchestrator.find_unroutable(think())
            offered = await orchestrator.find_unroutable(think(), allows_agent=True)

    assert [each.orchestration_id for each in claims if isinstance(each, Claim)] == names
    assert (preview["can_run"], preview["tasks"][0]["system"]) == (True, "agent")
    assert alone["can_run"] is False
    assert (len(problems), offered) == (1, ())


async def test_an_orchestration_remembers_whether_agents_may_be_asked() -> None:
    """Tasks that are added to it later are offered as well; those of another are refused."""
    gate = anyio.Event()

    async def hold() -> None:
        await gate.wait()

    operation = {"op": "add", "task": {"task_id": "think", "description": "Think."}}
    dag = TaskDAG("holding")
    dag.add_task(TaskNode("hold"))
    async with create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"hold": hold})}
    ) as orchestrator:
        with anyio.fail_after(10):
            with_agents = await orchestrator.submit(dag, allows_agent=True)
            without = await orchestrator.submit(dag)
            await orchestrator.edit(with_agents, [operation], expected_revision=1)
            with pytest.raises(UnroutableTaskError):
                await orchestrator.edit(without, [operation], expected_revision=1)
            claim = await orchestrator.claim_task("ada", wait_seconds=5)
            assert isinstance(claim, Claim)
            reported = await orchestrator.report_task(claim.claim_id, "done", output="thought")
            gate.set()
            await orchestrator.wait(with_agents)
            rows = await orchestrator.load_tasks(with_agents, task_ids=["think"])

    assert reported.verdict.is_accepted
    assert [row.status for row in rows] == [TaskStatus.COMPLETED]
