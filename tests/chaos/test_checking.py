"""The comparison of effects and journal finds what it is there to find: each kind of lie is told to it once."""

from __future__ import annotations

import pytest

from orchestration import TaskDAG, TaskEdge, TaskNode
from tests.chaos.checking import Verdict, check
from tests.chaos.places import Place
from tests.chaos.work import traces

pytestmark = pytest.mark.anyio

KEY = "honest-1"


async def judged(place: Place, *, without: str = "", beside: str = "") -> Verdict:
    """Run two tasks for real, then take a line of their effects away, or add one, and compare."""
    dag = TaskDAG("honest")
    dag.add_task(TaskNode("a", tool="act"))
    dag.add_task(TaskNode("b", tool="act", idempotent=False))
    dag.add_dependency(TaskEdge("a", "b"))
    orchestrator = place.orchestrator()
    async with orchestrator:
        await orchestrator.execute_dag(dag)
        lines = [line for line in traces(place.effects) if line != without] + [beside] * bool(beside)
        place.effects.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return await check(orchestrator.storage, place.effects)


async def test_the_truth_is_found_to_be_true(place: Place) -> None:
    """Two tasks, two effects."""
    verdict = await judged(place)

    assert verdict.violations == []
    assert verdict.completed == 2
    assert verdict.events["attempt_started"] == 2


async def test_a_completed_task_without_its_effect_is_found(place: Place) -> None:
    """The effect is lost."""
    verdict = await judged(place, without=f"a#1#{KEY}:a:1")

    assert verdict.lost == [f"{KEY}:a#1"]


async def test_an_effect_of_an_attempt_nobody_knows_is_found(place: Place) -> None:
    """Nothing may happen before it is committed that it begins."""
    verdict = await judged(place, beside=f"a#2#{KEY}:a:1")

    assert verdict.unannounced == [f"a#2#{KEY}:a:1"]


async def test_an_effect_under_another_key_is_found(place: Place) -> None:
    """The same attempt, but not the task's idempotency key."""
    verdict = await judged(place, without=f"a#1#{KEY}:a:1", beside=f"a#1#{KEY}:a:2")

    assert verdict.unannounced == [f"a#1#{KEY}:a:2"]
    assert verdict.lost == [f"{KEY}:a#1"]


async def test_an_attempt_that_acted_twice_is_found(place: Place) -> None:
    """An attempt is begun once in all; a task that must not be repeated was repeated, too."""
    verdict = await judged(place, beside=f"b#1#{KEY}:b:1")

    assert verdict.unannounced == [f"b#1#{KEY}:b:1, 2 times"]
    assert verdict.repeated_once == [f"{KEY}:b by attempts [1, 1], 1 allowed"]
