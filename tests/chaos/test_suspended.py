"""A driver that is stopped for longer than its lease, and then goes on: it finds itself replaced, and says so."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import pytest

from orchestration import TaskDAG, TaskEdge, TaskNode
from orchestration.orchestrator import AdvancedTaskOrchestrator
from tests.chaos.places import Place
from tests.chaos.work import EFFECTS, traces

pytestmark = pytest.mark.anyio

NAME = "slow-1"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place where leases are short."""
    made = Place(tmp_path, lease_seconds=1.0)
    monkeypatch.setenv(EFFECTS, str(made.effects))
    return made


def slow_dag(tool: str) -> TaskDAG:
    """Return a chain beside a task that must not be repeated; each takes half a second."""
    dag = TaskDAG("slow")
    for task_id in ("first", "second", "third", "once"):
        dag.add_task(
            TaskNode(
                task_id,
                tool=tool,
                arguments={"before": 0.25, "after": 0.25},
                idempotent=task_id != "once",
            )
        )
    dag.add_dependency(TaskEdge("first", "second"))
    dag.add_dependency(TaskEdge("second", "third"))
    return dag


@pytest.mark.parametrize(
    ("tool", "effects", "events"),
    [
        ("act", 1, 0),
        pytest.param("act", 0, 3, marks=pytest.mark.slow),
        pytest.param("act", 2, 0, marks=pytest.mark.slow),
        pytest.param("act", 0, 6, marks=pytest.mark.slow),
        pytest.param("act_on_a_thread", 0, 3, marks=pytest.mark.slow),
        pytest.param("act_on_a_thread", 2, 0, marks=pytest.mark.slow),
    ],
)
async def test_a_driver_that_slept_past_its_lease_is_fenced_and_says_so(
    place: Place, tool: str, effects: int, events: int
) -> None:
    """Another process went on meanwhile; nothing the sleeper did or says is recorded, nothing is done twice."""
    watcher = place.orchestrator()

    async with (
        place.process(place.words("serve")) as successor,
        place.process(place.words("run", place.write(slow_dag(tool)))) as sleeper,
    ):
        with anyio.fail_after(30):
            await until_driven_by(watcher, sleeper.pid)
            await until_reached(watcher, place, effects, events)
            sleeper.send_signal(signal.SIGSTOP)
            await until_driven_by(watcher, successor.pid)
            sleeper.send_signal(signal.SIGCONT)
            await sleeper.wait()
            await place.decide_until_it_ends(watcher, NAME)
    await watcher.aclose()
    verdict = await place.see_to_the_end(place.orchestrator())

    assert sleeper.returncode == 1
    assert "ORCHESTRATION_FENCED" in place.told(sleeper)
    assert "LeaseLostError" in place.told(sleeper) or "StaleFencingTokenError" in place.told(sleeper)
    assert "TAKEOVER" in place.told(successor)
    assert verdict.violations == []
    assert verdict.events["orchestration_finished"] == 1
    assert verdict.events["attempt_left_open"] <= 1
    once = [line for line in traces(place.effects) if line.startswith("once#")]
    assert len(once) <= 1 + verdict.events["decided by a person"]


async def until_reached(
    orchestrator: AdvancedTaskOrchestrator, place: Place, effects: int, events: int
) -> None:
    """Wait until so much has happened outside, and so much is in the journal."""
    while True:
        record = await orchestrator.storage.load_orchestration(NAME)
        if len(traces(place.effects)) >= effects and record.last_seq >= events:
            return
        await anyio.sleep(0.005)


async def until_driven_by(orchestrator: AdvancedTaskOrchestrator, pid: int) -> None:
    """Wait until a process drives the orchestration."""
    while True:
        for record in await orchestrator.storage.list_orchestrations():
            if record.holder is not None and record.holder.pid == pid:
                return
        await anyio.sleep(0.02)
