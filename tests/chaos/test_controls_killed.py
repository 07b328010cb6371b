"""kill -9 while a request of another process is carried out: it is carried out once, whoever ends up doing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestration import TaskDAG, TaskEdge, TaskNode
from orchestration.orchestrator import AdvancedTaskOrchestrator
from tests.chaos.places import Place

pytestmark = pytest.mark.anyio
slow = pytest.mark.slow

NAME = "asked-1"
Ask = Callable[[AdvancedTaskOrchestrator], Awaitable[object]]


def asked() -> TaskDAG:
    """Return a graph in which something takes a while, something fails, and something is left open."""
    dag = TaskDAG("asked")
    dag.add_task(TaskNode("long", tool="act", arguments={"after": 0.4}))
    dag.add_task(TaskNode("failing", tool="fail"))
    dag.add_task(TaskNode("open", tool="act_and_break_off", idempotent=False))
    dag.add_task(TaskNode("last", tool="act"))
    for source in ("long", "failing", "open"):
        dag.add_dependency(TaskEdge(source, "last", is_optional=source != "long"))
    return dag


CASES: dict[str, tuple[Ask, str, int]] = {
    "pause": (lambda orchestrator: orchestrator.pause(NAME), "orchestration_paused", 1),
    "cancel": (lambda orchestrator: orchestrator.cancel_orchestration(NAME), "cancel_requested", 0),
    "decide": (
        lambda orchestrator: orchestrator.decide(NAME, "open", "done", output="seen"),
        "decided by a person",
        1,
    ),
    "retry": (lambda orchestrator: orchestrator.retry(NAME, ["failing"]), "retry_requested", 1),
}
"""The request, the event it leads to, and how often somebody decides in the end."""


@pytest.mark.parametrize("request_name", list(CASES))
@pytest.mark.parametrize(
    "point",
    [
        "before_control_commit",
        pytest.param("inside_control_transaction", marks=slow),
        pytest.param("after_control_commit", marks=slow),
    ],
)
async def test_a_request_whose_driver_dies_of_it_is_carried_out_once(
    place: Place, request_name: str, point: str
) -> None:
    """Before its commit nothing of it was done; after it, its answer is there, too."""
    ask, event, decisions = CASES[request_name]
    here = place.orchestrator()

    async with place.process(place.words("run", place.write(asked()), "--die", point)) as driver:
        with anyio.fail_after(20):
            async with here:
                await until_open(here)
                await ask(here)
                await driver.wait()
        verdict = await place.see_to_the_end(place.orchestrator())

    assert verdict.violations == []
    assert verdict.events[event] == 1
    assert verdict.events["decided by a person"] == decisions
    assert verdict.events["orchestration_finished"] == 1


async def until_open(orchestrator: AdvancedTaskOrchestrator) -> None:
    """Wait until one task has failed and one is unknown."""
    while True:
        found = await orchestrator.list_orchestrations()
        counts = found[0]["counts"] if found else {}
        if counts.get("unknown") and counts.get("failed"):
            return
        await anyio.sleep(0.02)
