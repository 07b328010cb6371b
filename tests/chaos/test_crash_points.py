"""kill -9 at each named point: reopened by another process, nothing is lost and nothing that is done is done again.

The points stand in `mortal.py`. Every process is a real one on a real SQLite file, effects are counted outside of it.
A person who decides looks there first, so that what must not be repeated happens exactly once.
"""

from __future__ import annotations

from collections import Counter

import pytest

from orchestration import TaskDAG
from tests.chaos.places import Place, layered
from tests.chaos.work import traces

pytestmark = pytest.mark.anyio
slow = pytest.mark.slow


def assert_once(place: Place, dag: TaskDAG) -> None:
    """Every task has left its line, and what must not be repeated just one."""
    counts = Counter(line.partition("#")[0] for line in traces(place.effects))
    assert set(counts) == set(dag.nodes)
    repeated = [task_id for task_id, node in dag.nodes.items() if not node.idempotent and counts[task_id] > 1]
    assert repeated == []
    assert max(counts.values()) <= 3


@pytest.mark.parametrize(
    "point",
    [
        "before_commit:1",
        "before_commit:2",
        "before_commit:3",
        "before_commit:4",
        "inside_transaction:1",
        "inside_transaction:2",
        "inside_transaction:3",
        "after_commit:1",
        "after_commit:2",
        "after_commit:3",
        "after_commit:4",
        "after_effect:1",
        "after_effect:3",
        "after_effect:6",
        "after_effect:9",
        "before_heartbeat:1",
        "after_heartbeat:1",
        "before_release:1",
    ],
)
async def test_a_driver_killed_at_a_point_is_taken_over_without_loss_or_repetition(
    place: Place, point: str
) -> None:
    """Whatever was committed is all the next one needs."""
    dag = layered()
    await place.die("run", place.write(dag), at=point)

    verdict = await place.see_to_the_end(place.orchestrator())

    assert verdict.violations == []
    assert verdict.events["orchestration_finished"] == 1
    assert_once(place, dag)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before_lease:1", marks=slow),
        "after_lease:1",
        "before_commit:1",
        pytest.param("inside_transaction:1", marks=slow),
        "after_commit:1",
        pytest.param("after_heartbeat:1", marks=slow),
        "after_effect:1",
        pytest.param("before_release:1", marks=slow),
    ],
)
@pytest.mark.parametrize("role", ["resume", pytest.param("serve", marks=slow)])
async def test_whoever_is_killed_while_taking_over_is_taken_over_as_well(
    place: Place, role: str, point: str
) -> None:
    """A takeover is a commit like any other."""
    dag = layered(has_once=False)
    await place.die("run", place.write(dag), at="after_effect:1")
    await place.die(role, at=point)

    verdict = await place.see_to_the_end(place.orchestrator())

    assert verdict.violations == []
    assert verdict.events["orchestration_finished"] == 1
    assert_once(place, dag)


async def test_a_driver_killed_after_it_gave_its_lease_back_leaves_nothing_to_do(place: Place) -> None:
    """The end was committed before."""
    dag = layered(has_once=False)
    await place.die("run", place.write(dag), at="after_effect:1")
    await place.die("serve", at="after_release:1")

    orchestrator = place.orchestrator()
    async with orchestrator:
        taken = await orchestrator.resume_all()
    verdict = await place.see_to_the_end(place.orchestrator())

    assert taken == []
    assert verdict.violations == []
    assert_once(place, dag)
