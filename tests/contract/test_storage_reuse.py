"""Outputs that serve again, from the cache or from an earlier orchestration, in every storage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.errors import StaleFencingTokenError, TaskNotFoundError
from orchestration.models import TaskStatus
from orchestration.ports import CachedResult, ReusedOutput, Storage
from tests.storage.records import (
    NOW_US,
    cache_entry,
    commit,
    created,
    new_orchestration,
    output,
    row,
    sha256,
)

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 5_000 + b'"'
KEY, OTHER_KEY = sha256(b"key"), sha256(b"other key")


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


# --- The cache ---


@pytest.mark.parametrize("text", [b"42", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("inline", [True, False])
async def test_a_cached_output_is_found_by_its_key(storage: Storage, text: bytes, inline: bool) -> None:
    """Byte for byte, with its hash and whose it is, whatever way it is stored."""
    lease = await created(storage)
    before = await storage.load_cached(KEY, now_us=NOW_US)

    await storage.append(
        [commit(lease, 2, outputs=[output("a", text, inline=inline)], cached=[cache_entry(KEY)])]
    )

    assert before is None
    assert await storage.load_cached(KEY, now_us=NOW_US) == CachedResult(
        text=text, sha256=sha256(text), source="report-1:a", stored_at_us=NOW_US
    )
    assert await storage.load_cached(OTHER_KEY, now_us=NOW_US) is None


async def test_a_cached_output_serves_until_it_expires(storage: Storage) -> None:
    """The instant itself is too late."""
    lease = await created(storage)
    entry = cache_entry(KEY, expires_at_us=NOW_US + 10)
    await storage.append([commit(lease, 2, outputs=[output("a", b"1")], cached=[entry])])

    assert await storage.load_cached(KEY, now_us=NOW_US + 9) is not None
    assert await storage.load_cached(KEY, now_us=NOW_US + 10) is None


async def test_a_newer_output_takes_the_place_under_its_key(storage: Storage) -> None:
    """Text, source and expiry; within one batch the last one stands."""
    one, two = await created(storage, "one"), await created(storage, "two")
    first = cache_entry(KEY, expires_at_us=NOW_US + 10)
    await storage.append([commit(one, 2, outputs=[output("a", LARGE, inline=False)], cached=[first])])

    await storage.append(
        [
            commit(one, 3, outputs=[output("a", b"2")], cached=[cache_entry(KEY)]),
            commit(two, 2, outputs=[output("b", b"3")], cached=[cache_entry(KEY, "b")]),
        ]
    )

    found = await storage.load_cached(KEY, now_us=NOW_US + 10)
    assert found == CachedResult(text=b"3", sha256=sha256(b"3"), source="two-1:b", stored_at_us=NOW_US)


async def test_a_later_output_of_the_task_leaves_the_cached_one(storage: Storage) -> None:
    """What equal tasks may use is the output of that commit, whatever becomes of the task."""
    lease = await created(storage)
    outputs = [output("a", b"0"), output("b", b"9"), output("a", b"1")]
    await storage.append([commit(lease, 2, outputs=outputs, cached=[cache_entry(KEY)])])

    await storage.append([commit(lease, 3, outputs=[output("a", b"2")])])

    found = await storage.load_cached(KEY, now_us=NOW_US)
    assert found is not None
    assert found.text == b"1"
    assert await storage.load_outputs("report-1", ["a"]) == {"a": b"2"}


async def test_nothing_is_cached_by_a_refused_batch(storage: Storage) -> None:
    """An entry is stored with the completion it stands for or not at all."""
    lease = await created(storage)

    with pytest.raises(StaleFencingTokenError):
        await storage.append(
            [
                commit(lease, 2, outputs=[output("a", b"1")], cached=[cache_entry(KEY)]),
                commit(replace(lease, token=9), 3),
            ]
        )

    assert await storage.load_cached(KEY, now_us=NOW_US) is None


async def test_caching_an_output_the_commit_does_not_have_is_refused(storage: Storage) -> None:
    """A bug of the caller, and nothing is stored."""
    lease = await created(storage)

    with pytest.raises(ValueError, match="A commit of 'report-1' caches the output of 'b', which it does"):
        await storage.append([commit(lease, 2, outputs=[output("a", b"1")], cached=[cache_entry(KEY, "b")])])

    assert (await storage.load_orchestration("report-1")).last_seq == 1


# --- Results of an earlier orchestration ---


async def test_a_new_orchestration_takes_over_earlier_outputs(storage: Storage) -> None:
    """Small and large, under other task ids too, from several orchestrations; the earlier ones keep theirs."""
    one, two = await created(storage, "one"), await created(storage, "two")
    await storage.append(
        [
            commit(one, 2, outputs=[output("a", LARGE, inline=False), output("b", b"2")]),
            commit(two, 2, outputs=[output("b", b"3")]),
        ]
    )
    tasks = [row(name, place, TaskStatus.COMPLETED) for place, name in enumerate("xyz")]
    reused = [
        ReusedOutput(task_id="x", from_orchestration="one-1", from_task="a"),
        ReusedOutput(task_id="y", from_orchestration="two-1", from_task="b"),
    ]

    await storage.create_orchestration(new_orchestration("new", tasks=tasks, reused=reused))

    assert await storage.load_outputs("new-1", ["x", "y", "z"]) == {"x": LARGE, "y": b"3"}
    assert await storage.load_outputs("one-1", ["a", "b"]) == {"a": LARGE, "b": b"2"}


async def test_an_output_that_was_taken_over_is_the_new_tasks_own(storage: Storage) -> None:
    """What becomes of the earlier task's no longer concerns it."""
    earlier = await created(storage, "one")
    await storage.append([commit(earlier, 2, outputs=[output("a", LARGE, inline=False)])])
    reused = [ReusedOutput(task_id="a", from_orchestration="one-1", from_task="a")]
    await storage.create_orchestration(new_orchestration("new", reused=reused))

    await storage.append([commit(earlier, 3, outputs=[output("a", b"other")])])

    assert await storage.load_outputs("new-1", ["a"]) == {"a": LARGE}


@pytest.mark.parametrize(
    ("orchestration_id", "task_id"), [("one-1", "b"), ("one-1", "nope"), ("gone-1", "a")]
)
async def test_an_earlier_output_that_is_missing_refuses_the_new_orchestration(
    storage: Storage, orchestration_id: str, task_id: str
) -> None:
    """The error names it, and no id was used up."""
    earlier = await created(storage, "one")
    await storage.append([commit(earlier, 2, outputs=[output("a", b"1")])])
    reused = [
        ReusedOutput(task_id="a", from_orchestration="one-1", from_task="a"),
        ReusedOutput(task_id="b", from_orchestration=orchestration_id, from_task=task_id),
    ]

    with pytest.raises(TaskNotFoundError, match=f"'{orchestration_id}' has no task '{task_id}'"):
        await storage.create_orchestration(new_orchestration("new", reused=reused))

    assert [record.orchestration_id for record in await storage.list_orchestrations()] == ["one-1"]
    assert (await created(storage, "new")).orchestration_id == "new-1"


async def test_an_output_for_a_task_that_is_not_there_is_refused(storage: Storage) -> None:
    """A bug of the caller, and nothing is stored."""
    earlier = await created(storage, "one")
    await storage.append([commit(earlier, 2, outputs=[output("a", b"1")])])
    reused = [ReusedOutput(task_id="ghost", from_orchestration="one-1", from_task="a")]

    with pytest.raises(ValueError, match="takes over an output for 'ghost', which it does not have"):
        await storage.create_orchestration(new_orchestration("new", reused=reused))

    assert len(await storage.list_orchestrations()) == 1


async def test_a_repeated_creation_asks_for_no_earlier_output(storage: Storage) -> None:
    """What the key made the first time stands, even if its sources are gone."""
    first = await storage.create_orchestration(new_orchestration("new", key="k", request_sha256="r"))
    reused = [ReusedOutput(task_id="a", from_orchestration="gone-1", from_task="a")]

    again = await storage.create_orchestration(
        new_orchestration("new", key="k", request_sha256="r", reused=reused)
    )

    assert (again.record, again.lease) == (first.record, None)


async def test_what_an_orchestration_needs_is_kept(storage: Storage) -> None:
    """System, tool and fingerprint; nothing where it needs nothing; the caller's dictionaries are its own."""
    tools = {"noop": "f1", "": "f2"}
    needs = {"python": tools, "ü": {}}
    await storage.create_orchestration(new_orchestration("some", needs=needs))
    await created(storage, "none")

    tools.clear()

    some = await storage.load_orchestration("some-1")
    assert some.needs == {"python": {"noop": "f1", "": "f2"}, "ü": {}}
    assert (await storage.load_orchestration("none-1")).needs == {}
    assert [record.needs for record in await storage.list_unfinished()] == [some.needs, {}]
