"""What has ended is kept as long as was asked for, in every storage, and then it is as if it had never been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.errors import OrchestrationNotFoundError, PlanNotFoundError
from orchestration.models import OrchestrationStatus
from orchestration.ports import Retained, Retention, ReusedOutput, Storage
from tests.storage.records import (
    DAY_US,
    EVERY_EVENT,
    HOLDER,
    NOW_US,
    SECOND_US,
    STRANGER,
    answer,
    answers_alone,
    cache_entry,
    commit,
    created,
    ended,
    keep,
    new_orchestration,
    new_plan,
    nobody_is_gone,
    output,
    over,
    request,
    summary,
)

pytestmark = pytest.mark.anyio

COMPLETED = OrchestrationStatus.COMPLETED
LARGE = b'"' + b"x" * 5_000 + b'"'


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


async def retained(storage: Storage, retention: Retention, *, now_us: int = NOW_US) -> Retained:
    """Do rounds until nothing is left to do, and add up what they did."""
    total = Retained()
    for _ in range(100):
        done = await storage.retain(retention, now_us=now_us)
        total = Retained(
            compacted=total.compacted + done.compacted,
            removed=total.removed + done.removed,
            plans_removed=total.plans_removed + done.plans_removed,
            cache_entries_removed=total.cache_entries_removed + done.cache_entries_removed,
        )
        if done.is_finished:
            return total
    raise AssertionError("housekeeping never came to an end")


async def ids(storage: Storage) -> list[str]:
    """Return what is there, the latest created first."""
    return [record.orchestration_id for record in await storage.list_orchestrations()]


# --- By age and by count ---


async def test_what_ended_long_enough_ago_is_removed(storage: Storage) -> None:
    """To the microsecond; what has not ended stays, however old."""
    await created(storage, "running")
    for base, age in (("older", 61), ("just", 60), ("younger", 59)):
        await ended(storage, base, at_us=NOW_US - age * SECOND_US)

    done = await retained(storage, keep(remove_after_seconds=60.0))

    assert done == Retained(removed=2)
    assert await ids(storage) == ["younger-1", "running-1"]


async def test_nothing_is_removed_without_a_limit(storage: Storage) -> None:
    """None means for ever."""
    await ended(storage, at_us=1)
    await storage.save_plan(new_plan(created_at_us=1))

    assert await retained(storage, keep()) == Retained()
    assert await ids(storage) == ["report-1"]
    assert (await storage.load_plan("plan-1")).plan_id == "plan-1"


async def test_of_too_many_those_that_ended_first_go(storage: Storage) -> None:
    """By their end, not by their creation; what has not ended does not count."""
    for base, at_us in (("late", 9), ("first", 1), ("second", 2), ("third", 3)):
        await ended(storage, base, at_us=NOW_US + at_us)
        await created(storage, "running")

    done = await retained(storage, keep(keep_finished=2))

    assert done.removed == 2
    assert [name for name in await ids(storage) if "running" not in name] == ["third-1", "late-1"]
    assert len(await ids(storage)) == 6


async def test_age_and_count_hold_together(storage: Storage) -> None:
    """Whichever is reached first; none is kept when none is to be."""
    for age in (90, 80, 30, 20, 10):
        await ended(storage, at_us=NOW_US - age * SECOND_US)

    by_both = await retained(storage, keep(remove_after_seconds=60.0, keep_finished=2))
    left = await ids(storage)
    all_of_them = await retained(storage, keep(keep_finished=0))

    assert (by_both.removed, left) == (3, ["report-5", "report-4"])
    assert (all_of_them.removed, await ids(storage)) == (2, [])


async def test_what_somebody_holds_is_left_alone(storage: Storage) -> None:
    """It counts as kept, and goes when its lease is given back."""
    lease = await ended(storage, "held", at_us=NOW_US - 9, held=True)
    await ended(storage, "free", at_us=NOW_US - 8)
    await ended(storage, "last", at_us=NOW_US - 7)

    first = await retained(storage, keep(keep_finished=1))
    left = await ids(storage)
    await storage.release_lease(lease)
    second = await retained(storage, keep(keep_finished=1))

    assert (first.removed, left) == (2, ["held-1"])
    assert (second.removed, await ids(storage)) == (0, ["held-1"])
    assert (await retained(storage, keep(remove_after_seconds=0.0))).removed == 1


async def test_a_lease_whose_driver_was_silent_for_a_day_counts_as_nobodys(storage: Storage) -> None:
    """Who was killed right after an end never gives it back; who beats, or has only just taken it, has it."""
    leases = {
        name: await ended(storage, name, held=True, holder=replace(HOLDER, instance=name))
        for name in ("silent", "alive", "new")
    }
    for name, at_us in (("silent", NOW_US), ("alive", NOW_US + 1)):
        await storage.renew_leases(leases[name].holder, [leases[name]], lease_seconds=15.0, now_us=at_us)

    done = await retained(storage, keep(remove_after_seconds=0.0), now_us=NOW_US + DAY_US)

    assert done.removed == 1
    assert await ids(storage) == ["new-1", "alive-1"]


async def test_what_was_reopened_has_not_ended(storage: Storage) -> None:
    """A retry takes it out of reach; its age counts from its new end."""
    await ended(storage, at_us=NOW_US - 100 * SECOND_US)
    lease = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)
    await storage.append([commit(lease, 3)])
    await storage.release_lease(lease)

    done = await retained(storage, keep(remove_after_seconds=0.0, keep_finished=0))

    assert (done.removed, await ids(storage)) == (0, ["report-1"])


async def test_what_ended_as_it_was_created_is_kept_no_longer(storage: Storage) -> None:
    """Every result may have been there already; then its age counts from its creation."""
    await storage.release_lease(await created(storage, summary=summary({}, state=COMPLETED)))

    kept = await retained(storage, keep(remove_after_seconds=1.0), now_us=NOW_US + SECOND_US - 1)
    gone = await retained(storage, keep(remove_after_seconds=1.0), now_us=NOW_US + SECOND_US)

    assert (kept.removed, gone.removed) == (0, 1)


async def test_a_compressed_journal_reads_as_before_and_can_go_on(storage: Storage) -> None:
    """In pages from any place; what a retry adds follows with the next seq, and nothing else changed."""
    lease = await created(storage)
    await storage.append([commit(lease, 2, *EVERY_EVENT, summary=over())])
    await storage.release_lease(lease)
    before = await storage.read_events("report-1"), await storage.load_orchestration("report-1")

    await retained(storage, keep(compact_after_seconds=0.0))
    after = await storage.read_events("report-1"), await storage.load_orchestration("report-1")
    page = await storage.read_events("report-1", after_seq=5, limit=3)
    again = await storage.acquire_lease("report-1", HOLDER, nobody_is_gone)
    last = len(EVERY_EVENT) + 1
    await storage.append([commit(again, last + 1, *EVERY_EVENT)])
    whole = await storage.read_events("report-1")
    across = await storage.read_events("report-1", after_seq=last - 1, limit=2)

    assert after == before
    assert page == before[0][5:8]
    assert whole[:last] == before[0]
    assert [entry.event for entry in whole[last:]] == list(EVERY_EVENT)
    assert [entry.seq for entry in across] == [last, last + 1]


# --- As if it had never been ---


async def test_what_was_removed_is_gone_whole(storage: Storage) -> None:
    """Record, DAG, journal, rows, outputs, requests; others are as before."""
    await ended(storage, "gone", outputs=[output("a", LARGE, inline=False)])
    await ended(storage, "kept", at_us=NOW_US + DAY_US, outputs=[output("a", LARGE, inline=False)])
    await storage.send_control("gone-1", request(), sent_at_us=NOW_US)
    asked = await storage.send_control("kept-1", request(), sent_at_us=NOW_US)

    await retained(storage, keep(remove_after_seconds=0.0))

    with pytest.raises(OrchestrationNotFoundError):
        await storage.load_orchestration("gone-1")
    with pytest.raises(OrchestrationNotFoundError):
        await storage.load_dag("gone-1")
    assert await storage.read_events("gone-1") == []
    assert await storage.load_tasks("gone-1") == []
    assert await storage.load_outputs("gone-1", ["a"]) == {}
    assert [each.control_id for each in await storage.pending_controls()] == [asked]
    assert await storage.load_outputs("kept-1", ["a"]) == {"a": LARGE}
    assert len(await storage.read_events("kept-1")) == 2
    assert (await storage.load_totals()).by_state == {"completed": 1}


async def test_its_id_is_not_given_again_but_its_key_is_free(storage: Storage) -> None:
    """Whoever remembers the id finds nothing, never another orchestration."""
    await ended(storage, key="k", request_sha256="r")
    await ended(storage)

    await retained(storage, keep(remove_after_seconds=0.0))
    again = await storage.create_orchestration(new_orchestration(key="k", request_sha256="other"))

    assert again.lease is not None
    assert again.record.orchestration_id == "report-3"


async def test_an_id_chosen_by_hand_is_not_given_again_either(storage: Storage) -> None:
    """Counting up passes it over, even after it was removed; who chooses it again may have it."""
    await ended(storage, orchestration_id="report-2")
    await ended(storage, orchestration_id="report-x")
    await ended(storage, orchestration_id="nightly-20261231")

    await retained(storage, keep(remove_after_seconds=0.0))
    counted = [(await created(storage, base)).orchestration_id for base in ("report", "report", "nightly")]
    chosen = await created(storage, orchestration_id="report-2")

    assert counted == ["report-1", "report-3", "nightly-1"]
    assert chosen.orchestration_id == "report-2"


async def test_outputs_that_others_use_outlive_their_source(storage: Storage) -> None:
    """The cache's, and those a later orchestration has taken over; they go with their last user."""
    texts = [b'"cached %s"' % (b"c" * 5_000), b'"reused %s"' % (b"r" * 5_000)]
    lease = await created(storage, "source")
    outputs = [output(name, text, inline=False) for name, text in zip("ab", texts, strict=True)]
    await storage.append([commit(lease, 2, outputs=outputs, cached=[cache_entry("k")])])
    reused = [ReusedOutput(task_id="b", from_orchestration="source-1", from_task="b")]
    await storage.create_orchestration(new_orchestration("user", reused=reused))
    await storage.append([commit(lease, 3, summary=over())])
    await storage.release_lease(lease)

    removed = await retained(storage, keep(remove_after_seconds=0.0))

    cached = await storage.load_cached("k", now_us=NOW_US)
    assert removed.removed == 1
    assert cached is not None
    assert (cached.text, cached.source) == (texts[0], "source-1:a")
    assert await storage.load_outputs("user-1", ["b"]) == {"b": texts[1]}


# --- What else goes ---


async def test_plans_that_nobody_used_go_with_age(storage: Storage) -> None:
    """One that an orchestration names stays as long as that does."""
    for _ in range(3):
        await storage.save_plan(new_plan(created_at_us=NOW_US - 60 * SECOND_US))
    await storage.save_plan(new_plan(created_at_us=NOW_US - 59 * SECOND_US))
    await created(storage, plan_id="plan-1")
    await ended(storage, plan_id="plan-2", at_us=NOW_US)

    first = await retained(storage, keep(remove_after_seconds=60.0))
    with pytest.raises(PlanNotFoundError):
        await storage.load_plan("plan-3")
    second = await retained(storage, keep(remove_after_seconds=60.0), now_us=NOW_US + 60 * SECOND_US)

    assert (first.plans_removed, second.plans_removed, second.removed) == (1, 2, 1)
    assert (await storage.load_plan("plan-1")).dag_json == new_plan().dag_json
    assert (await storage.save_plan(new_plan())).plan_id == "plan-5"


async def test_expired_cache_entries_go(storage: Storage) -> None:
    """Whatever the limits for orchestrations are."""
    lease = await created(storage)
    entries = [cache_entry(str(number), expires_at_us=NOW_US + number) for number in range(4)]
    await storage.append([commit(lease, 2, outputs=[output("a", LARGE, inline=False)], cached=entries)])

    done = await retained(storage, keep(), now_us=NOW_US + 2)

    found = [await storage.load_cached(str(number), now_us=NOW_US) for number in range(4)]
    assert done == Retained(cache_entries_removed=3)
    assert [each is not None for each in found] == [False, False, False, True]


async def test_answers_go_a_day_after_they_were_given(storage: Storage) -> None:
    """Nobody waits that long; what is unanswered stays for whoever takes over."""
    lease = await created(storage)
    sent = [await storage.send_control("report-1", request(), sent_at_us=NOW_US + 10) for _ in range(3)]
    await storage.append([answers_alone(lease, answer(sent[0]))])
    await storage.append([commit(lease, 2), commit(lease, 3, answers=[answer(sent[1])])])
    answers = []

    for now_us in (NOW_US + DAY_US + 9, NOW_US + DAY_US + 10):
        await retained(storage, keep(), now_us=now_us)
        answers.append([await storage.load_control_answer(number) is not None for number in sent])

    assert answers == [[True, True, False], [False, False, False]]
    assert [each.control_id for each in await storage.pending_controls()] == [sent[2]]


async def test_drivers_that_fell_silent_are_forgotten(storage: Storage) -> None:
    """After a day, unless an orchestration still names them."""
    await created(storage)
    later = NOW_US + DAY_US
    for holder in (HOLDER, STRANGER):
        await storage.renew_leases(holder, [], lease_seconds=15.0, now_us=NOW_US)

    await retained(storage, keep(), now_us=later)
    await storage.acquire_lease((await created(storage)).orchestration_id, STRANGER, lambda _, __: True)

    drivers = {record.orchestration_id: record.driver for record in await storage.list_unfinished()}
    assert drivers["report-1"] is not None
    assert drivers["report-2"] is None
