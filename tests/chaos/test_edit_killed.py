"""kill -9 between the request for an edit and its answer: it is made once, by whoever goes on, or not at all."""

from __future__ import annotations

import signal

import anyio
import pytest

from orchestration import TaskDAG, TaskEdge, TaskNode, create_advanced_task_orchestrator
from orchestration.edits.targets import look_at
from orchestration.errors import ControlPendingError
from orchestration.options import OrchestratorOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from tests.chaos import work
from tests.chaos.places import Place

pytestmark = pytest.mark.anyio
slow = pytest.mark.slow

NAME = "edited-1"
CHANGE = {"op": "priority", "task_id": "last", "priority": "urgent"}


def edited() -> TaskDAG:
    """Return long → last."""
    dag = TaskDAG("edited")
    dag.add_task(TaskNode("long", tool="act", arguments={"after": 0.4}))
    dag.add_task(TaskNode("last", tool="act"))
    dag.add_dependency(TaskEdge("long", "last"))
    return dag


async def until_running(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Wait until the first task runs."""
    while True:
        found = await orchestrator.list_orchestrations()
        if found and found[0]["counts"].get("running"):
            return
        await anyio.sleep(0.02)


@pytest.mark.parametrize(
    "point",
    [
        "before_control_commit",
        pytest.param("inside_control_transaction", marks=slow),
        pytest.param("after_control_commit", marks=slow),
    ],
)
async def test_an_edit_whose_driver_dies_of_it_is_made_once(place: Place, point: str) -> None:
    """Before its commit nothing of it was done, and whoever asks carries it out; after it, its answer is there."""
    here = place.orchestrator()

    async with place.process(place.words("run", place.write(edited()), "--die", point)) as driver:
        with anyio.fail_after(20):
            async with here:
                await until_running(here)
                report = await here.edit(NAME, [CHANGE], expected_revision=1)
                await driver.wait()
        verdict = await place.see_to_the_end(place.orchestrator())
    looked = await look_at(here.storage, NAME)
    await here.storage.aclose()

    assert report.revision == 2
    assert verdict.violations == []
    assert verdict.events["plan_edited"] == 1
    assert [each.revision for each in looked.log] == [1, 2]
    last = looked.dag.nodes["last"]
    assert (last.priority.name, last.status) == ("URGENT", "completed")


async def test_an_edit_that_was_only_stored_is_made_by_whoever_goes_on(place: Place) -> None:
    """The asker gets no answer, the driver is killed: the request lies in the inbox, and is carried out first."""
    with anyio.fail_after(30):
        async with place.process(place.words("run", place.write(edited()))) as driver:
            here = place.orchestrator()
            await until_running(here)
            driver.send_signal(signal.SIGSTOP)  # it never looks at its inbox again
            asker = create_advanced_task_orchestrator(
                systems={"python": work.system()},
                state_manager=here.storage,
                settings=OrchestratorOptions(control_wait_seconds=0.2),
            )
            with pytest.raises(ControlPendingError):
                await asker.edit(NAME, [CHANGE], expected_revision=1)
            driver.kill()
            await driver.wait()
            verdict = await place.see_to_the_end(here)
            looked = await look_at(here.storage, NAME)
            await here.storage.aclose()

    assert verdict.violations == []
    assert verdict.events["plan_edited"] == 1
    last = looked.dag.nodes["last"]
    assert (last.priority.name, last.status) == ("URGENT", "completed")
