"""Work that is offered among real processes: drivers and claimants killed at any moment; each task is done once.

What is done leaves a line outside of the database (`work.py`): the task, its attempt, and the claim it was done under.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import AsyncExitStack

import anyio
import anyio.abc
import pytest

from orchestration import TaskDAG, TaskEdge, TaskNode
from orchestration.models import AGENT, OrchestrationStatus, TaskStatus
from tests.chaos.places import Place
from tests.chaos.work import traces

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


def offered(count: int, *, idempotent: bool = True, lease_seconds: float = 60.0, layers: int = 1) -> TaskDAG:
    """Return so many tasks for agents; in several layers each waits for one of the layer before."""
    dag = TaskDAG("offered")
    width = count // layers
    for number in range(count):
        node = TaskNode(
            f"t{number}",
            "Do it.",
            system_preference=AGENT,
            idempotent=idempotent,
            heartbeat_timeout_seconds=lease_seconds,
        )
        dag.add_task(node)
        if number >= width:
            dag.add_dependency(TaskEdge(f"t{number - width}", f"t{number}"))
    return dag


def claimants(place: Place, name: str, workers: int, *more: str) -> list[str]:
    """Return the command line of some claimants."""
    words = [sys.executable, "-m", "tests.chaos.claimant", str(place.database), name, str(workers)]
    return [*words, *more]


async def until_done(place: Place, count: int) -> None:
    """Wait until so many tasks have left a line."""
    while len(traces(place.effects)) < count:  # noqa: ASYNC110  other processes write it
        await anyio.sleep(0.02)


async def ended(process: anyio.abc.Process, place: Place) -> str:
    """Wait for a process that ends by itself, and return what it said."""
    await process.wait()
    assert process.returncode == 0, place.told(process)
    return place.told(process)


async def assert_all_done(place: Place, count: int) -> Counter[str]:
    """Every task completed with what its last claim said; return how often each was done."""
    orchestrator = place.orchestrator()
    result = await orchestrator.load_result("offered-1")
    assert result["success"] is True
    assert len(result["results"]) == count
    under = {line.rpartition("#")[2]: line.partition("#")[0] for line in traces(place.effects)}
    for task_id, claim in result["results"].items():
        assert under[claim] == task_id, f"{task_id} completed with what was done for something else"
    await orchestrator.storage.aclose()
    return Counter(line.partition("#")[0] for line in traces(place.effects))


async def test_fifty_claimants_in_three_processes_do_a_thousand_offers_once_each(place: Place) -> None:
    """None is lost, none is done twice."""
    dag = offered(1_000)
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(place.process(place.words("run", place.write(dag))))
        with anyio.fail_after(60):
            crowd = [
                await stack.enter_async_context(place.process(claimants(place, f"p{number}", workers)))
                for number, workers in enumerate((17, 17, 16))
            ]
            assert "offered-1 True" in await ended(driver, place)
            told = [await ended(each, place) for each in crowd]

    counts = await assert_all_done(place, 1_000)
    assert len(counts) == 1_000
    assert max(counts.values()) == 1
    assert sum(int(each.split()[0]) for each in told) == 1_000
    assert all(int(each.split()[0]) > 0 for each in told), "a process got nothing"
    assert all("0 refused" in each for each in told)


async def test_claimants_go_on_while_their_driver_is_killed_and_another_one_takes_over(place: Place) -> None:
    """What they claim and report meanwhile is durable; the next driver reads of it."""
    dag = offered(120, layers=3)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(place.process(place.words("run", place.write(dag))))
        with anyio.fail_after(60):
            for name in ("p", "q"):
                words = claimants(place, name, 4, "--lazy", "0.01")
                await stack.enter_async_context(place.process(words))
            for count in (15, 55, 90):
                await until_done(place, count)
                first.kill()
                await first.wait()
                first = await stack.enter_async_context(place.process(place.words("resume")))
            await ended(first, place)

    counts = await assert_all_done(place, 120)
    assert set(counts.values()) == {1}


async def test_what_a_claimant_had_in_its_hands_when_it_was_killed_is_done_by_another_one(
    place: Place,
) -> None:
    """Once more, for nobody can know whether it was done; everything else once."""
    dag = offered(60, lease_seconds=1.5)
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(place.process(place.words("run", place.write(dag))))
        with anyio.fail_after(60):
            victim = await stack.enter_async_context(
                place.process(claimants(place, "victim", 5, "--die", "20", "--lazy", "0.05"))
            )
            await victim.wait()
            other = await stack.enter_async_context(place.process(claimants(place, "other", 5)))
            assert "offered-1 True" in await ended(driver, place)
            await ended(other, place)

    counts = await assert_all_done(place, 60)
    assert len(counts) == 60
    twice = [task_id for task_id, count in counts.items() if count > 1]
    assert 1 <= len(twice) <= 5, "what five workers had in their hands"
    assert max(counts.values()) == 2


async def test_what_must_not_be_repeated_is_decided_about_when_its_claimant_was_killed(place: Place) -> None:
    """Nobody else is given it; a person who looks what has happened decides."""
    dag = offered(30, idempotent=False, lease_seconds=1.5)
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(place.process(place.words("run", place.write(dag))))
        with anyio.fail_after(60):
            victim = await stack.enter_async_context(
                place.process(claimants(place, "victim", 3, "--die", "10", "--lazy", "0.05"))
            )
            await victim.wait()
            other = await stack.enter_async_context(place.process(claimants(place, "other", 3)))
            person = place.orchestrator()
            while True:
                (status,) = await person.list_orchestrations()
                if status["state"] == OrchestrationStatus.COMPLETED:
                    break
                for row in await person.load_tasks("offered-1", limit=100):
                    if row.status is TaskStatus.UNKNOWN:
                        (line,) = [
                            each for each in traces(place.effects) if each.startswith(f"{row.task_id}#")
                        ]
                        done_under = line.rpartition("#")[2]
                        await person.decide("offered-1", row.task_id, "done", output=done_under)
                await anyio.sleep(0.1)
            await ended(driver, place)
            await ended(other, place)
            await person.storage.aclose()

    counts = await assert_all_done(place, 30)
    assert set(counts.values()) == {1}
