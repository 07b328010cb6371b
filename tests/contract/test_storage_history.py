"""What tasks of one system and tool took so far is known at once, in every storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestration.engine.events import (
    AttemptStarted,
    AttemptSucceeded,
    ChildrenGathered,
    Event,
    ResultReused,
    TaskDecided,
    TaskFailed,
)
from orchestration.engine.inputs import OutputRef
from orchestration.errors import StaleFencingTokenError
from orchestration.execution.history import LOOKED_AT
from orchestration.models import TaskStatus
from orchestration.ports import Commit, History, Lease, Storage
from tests.storage.records import (
    ERROR,
    NOW_US,
    commit,
    created,
    keep,
    over,
    row,
)

pytestmark = pytest.mark.anyio

OUTPUT = OutputRef(sha256="e" * 64, size_bytes=17)


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


def succeeded(task_id: str = "a", cost: float | None = None) -> AttemptSucceeded:
    """The event of an attempt that delivered."""
    return AttemptSucceeded(task_id=task_id, attempt=1, output=OUTPUT, cost=cost)


def done(seconds: float, **fields: Any) -> dict[str, Any]:
    """What a commit brings of task `a`, completed on `py` by `load`."""
    facts = {"system": "py", "tool": "load", "duration_seconds": seconds, **fields}
    return {"tasks": [row("a", 0, TaskStatus.COMPLETED, **facts)]}


def told(found: dict[tuple[str, str | None], History]) -> dict[Any, Any]:
    """How many tasks of each kind, and their mean."""
    return {kind: (each.count, each.mean_seconds) for kind, each in found.items()}


async def completed(
    storage: Storage, lease: Lease, *seconds: float, first_seq: int = 2, **fields: Any
) -> None:
    """Complete `a` so often, one commit each, in one batch."""
    commits = [
        commit(lease, seq, succeeded(), **done(each, **fields))
        for seq, each in enumerate(seconds, start=first_seq)
    ]
    await storage.append(commits)


async def test_a_kind_has_the_mean_of_what_its_tasks_took(storage: Storage) -> None:
    """Over all orchestrations; a system and a tool are one kind, and none at all is one, too."""
    one, two = await created(storage, "one"), await created(storage, "two")
    await completed(storage, one, 1.0, 2.0)
    await completed(storage, two, 6.0)
    await completed(storage, one, 10.0, first_seq=4, tool=None)
    await completed(storage, two, 20.0, first_seq=3, system="shell")

    kinds = [("py", "load"), ("py", None), ("shell", "load"), ("py", "never"), ("never", None)]
    found = await storage.load_history(kinds)

    assert found == {
        ("py", "load"): History(count=3, mean_seconds=3.0),
        ("py", None): History(count=1, mean_seconds=10.0),
        ("shell", "load"): History(count=1, mean_seconds=20.0),
    }


async def test_nothing_is_known_of_what_never_ran(storage: Storage) -> None:
    """No kinds, unknown ones, and names that can't exist."""
    await created(storage)

    assert await storage.load_history([]) == {}
    assert await storage.load_history([("py", "load"), ("\udcff", None), ("py", "\udcff"), ("", "")]) == {}


async def test_costs_are_averaged_over_those_that_have_one(storage: Storage) -> None:
    """None at all is not a cost of nothing."""
    lease = await created(storage)
    await storage.append([commit(lease, 2, succeeded(), **done(1.0))])
    without = await storage.load_history([("py", "load")])

    await storage.append(
        [
            commit(lease, 3, succeeded(cost=3.0), **done(1.0)),
            commit(lease, 4, succeeded(), **done(1.0)),
            commit(lease, 5, succeeded(cost=0.0), **done(1.0)),
        ]
    )

    assert without == {("py", "load"): History(count=1, mean_seconds=1.0, mean_cost=None)}
    assert await storage.load_history([("py", "load")]) == {
        ("py", "load"): History(count=4, mean_seconds=1.0, mean_cost=1.5)
    }


async def test_the_latest_orchestrations_are_asked_until_that_is_enough(storage: Storage) -> None:
    """Fifty tasks of a kind even out chance; what is older than those says nothing more."""
    old, middle, young = [await created(storage, base) for base in ("old", "middle", "young")]
    await completed(storage, old, 100.0)
    await completed(storage, old, 100.0, first_seq=3, tool="rare")
    await completed(storage, middle, *[3.0] * 30)
    before = await storage.load_history([("py", "load")])

    await completed(storage, young, *[1.0] * 19)
    few = await storage.load_history([("py", "load")])
    await completed(storage, young, 1.0, first_seq=21)
    enough = await storage.load_history([("py", "load"), ("py", "rare")])

    assert told(before) == {("py", "load"): (31, pytest.approx(190 / 31))}
    assert told(few) == {("py", "load"): (50, pytest.approx(209 / 50))}
    assert told(enough) == {("py", "load"): (50, pytest.approx(110 / 50)), ("py", "rare"): (1, 100.0)}


async def test_a_look_goes_through_so_many_orchestrations_and_no_more(storage: Storage) -> None:
    """However many there are, it costs the same."""
    await completed(storage, await created(storage, "old"), 9.0, tool="old")
    await completed(storage, await created(storage, "young"), 1.0)
    for _ in range(LOOKED_AT - 2):
        await created(storage, task_ids=())
    all_of_them = await storage.load_history([("py", "old"), ("py", "load")])

    await created(storage, task_ids=())

    assert len(all_of_them) == 2
    assert await storage.load_history([("py", "old"), ("py", "load")]) == {
        ("py", "load"): History(count=1, mean_seconds=1.0)
    }


async def test_an_orchestration_counts_its_first_hundred_kinds(storage: Storage) -> None:
    """What is written with every commit stays small; those it knows go on counting."""
    lease = await created(storage)
    for number in range(102):
        await completed(storage, lease, 1.0, first_seq=2 + number, tool=f"tool-{number}")

    await completed(storage, lease, 3.0, first_seq=104, tool="tool-0")

    found = await storage.load_history([("py", f"tool-{number}") for number in range(102)])
    assert list(found) == [("py", f"tool-{number}") for number in range(100)]
    assert found["py", "tool-0"] == History(count=2, mean_seconds=2.0)


UNCOUNTED: dict[str, Sequence[Event]] = {
    "reused": [ResultReused(task_id="a", output=OUTPUT, source="x-1:a", because="cache")],
    "decided": [TaskDecided(task_id="a", decision="done", by="person", output=OUTPUT)],
    "gathered": [ChildrenGathered(task_id="a", output=OUTPUT)],
    "failed": [TaskFailed(task_id="a", error=ERROR)],
    "begun": [AttemptStarted(task_id="a", attempt=1, system="py")],
}


@pytest.mark.parametrize("kind", UNCOUNTED)
async def test_only_what_an_attempt_completed_is_counted(storage: Storage, kind: str) -> None:
    """A result that was there already took nothing, and nobody knows how long what a person did took."""
    lease = await created(storage)

    await storage.append([commit(lease, 2, *UNCOUNTED[kind], **done(1.0))])

    assert await storage.load_history([("py", "load")]) == {}


async def test_composites_are_not_counted(storage: Storage) -> None:
    """Their parts are."""
    lease = await created(storage)
    part = row("a[0]", 2, TaskStatus.COMPLETED, parent="a", system="py", tool="load", duration_seconds=2.0)
    whole = done(9.0, is_composite=True)["tasks"]

    await storage.append([commit(lease, 2, succeeded("a[0]"), succeeded("a"), tasks=[*whole, part])])

    assert await storage.load_history([("py", "load")]) == {
        ("py", "load"): History(count=1, mean_seconds=2.0)
    }


async def test_a_refused_batch_counts_nothing(storage: Storage) -> None:
    """It is stored with the events or not at all."""
    lease = await created(storage)
    stale: Commit = commit(replace(lease, token=9), 3, succeeded(), **done(1.0))

    with pytest.raises(StaleFencingTokenError):
        await storage.append([commit(lease, 2, succeeded(), **done(1.0)), stale])

    assert await storage.load_history([("py", "load")]) == {}


async def test_history_goes_with_what_it_was_made_of(storage: Storage) -> None:
    """What is removed is as if it had never been; compressing a journal takes nothing away."""
    gone, kept = await created(storage, "gone"), await created(storage, "kept")
    await storage.append([commit(gone, 2, succeeded(), **done(1.0), summary=over())])
    await storage.release_lease(gone)
    await storage.append([commit(kept, 2, succeeded(), **done(3.0))])

    await storage.retain(keep(compact_after_seconds=0.0), now_us=NOW_US + 1)
    before = await storage.load_history([("py", "load")])
    await storage.retain(keep(keep_finished=0), now_us=NOW_US + 1)

    assert before == {("py", "load"): History(count=2, mean_seconds=2.0)}
    assert await storage.load_history([("py", "load")]) == {
        ("py", "load"): History(count=1, mean_seconds=3.0)
    }
