"""Heartbeats: how drivers tell others, through any storage, that they are there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.errors import LeaseHeldError
from orchestration.models import OrchestrationStatus
from orchestration.ports import DriverIdentity, DriverView, Storage
from tests.storage.records import (
    HOLDER,
    NOW_US,
    SECOND_US,
    STRANGER,
    commit,
    created,
    ended,
    everybody_is_gone,
    nobody_is_gone,
    summary,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop of the backend."""
    return backend.split("-")[1]


async def beat(storage: Storage, holder: DriverIdentity = HOLDER, *, at_us: int = NOW_US) -> None:
    """Count a heartbeat of a driver that names no lease."""
    assert await storage.renew_leases(holder, [], lease_seconds=15.0, now_us=at_us) == []


async def test_every_renewal_counts_one_heartbeat(storage: Storage) -> None:
    """Readers see who the driver is, how often it beat, when last, and how long its leases last."""
    lease = await created(storage)
    silent = await storage.load_orchestration("report-1")

    await beat(storage)
    lost = await storage.renew_leases(HOLDER, [lease], lease_seconds=0.5, now_us=NOW_US + SECOND_US)

    record = await storage.load_orchestration("report-1")
    assert silent.driver is None
    assert lost == []
    assert record.driver == DriverView(
        identity=HOLDER, beats=2, lease_seconds=0.5, beat_at_us=NOW_US + SECOND_US
    )


async def test_each_record_shows_the_heartbeats_of_its_own_driver(storage: Storage) -> None:
    """Lists as well; who drives nothing shows nowhere, and what nobody drives shows nobody."""
    await created(storage, "mine")
    await created(storage, "theirs", holder=STRANGER)
    await storage.release_lease(await created(storage, "free"))
    for holder in (HOLDER, STRANGER, replace(HOLDER, instance="idle")):
        await beat(storage, holder)
    await beat(storage, STRANGER)

    listed = await storage.list_orchestrations()
    unfinished = await storage.list_unfinished()

    shown = [(each.orchestration_id, each.driver and each.driver.beats) for each in listed]
    assert shown == [("free-1", None), ("theirs-1", 2), ("mine-1", 1)]
    assert unfinished == listed[::-1]
    assert (await storage.load_orchestration("mine-1")).driver == listed[2].driver


async def test_a_renewal_names_the_leases_that_were_lost(storage: Storage) -> None:
    """Those whose token another acquisition has outgrown, and those of what is not there."""
    kept, lost, anew = [await created(storage, base) for base in ("kept", "lost", "anew")]
    await storage.acquire_lease("lost-1", STRANGER, everybody_is_gone)
    await storage.acquire_lease("anew-1", HOLDER, nobody_is_gone)
    ghost = replace(kept, orchestration_id="ghost-1")

    named = await storage.renew_leases(HOLDER, [anew, ghost, kept, lost], lease_seconds=15.0, now_us=NOW_US)

    assert named == ["anew-1", "ghost-1", "lost-1"]


async def test_a_lease_that_was_given_back_is_not_lost(storage: Storage) -> None:
    """Its token is current until somebody else takes it."""
    lease = await created(storage)
    await storage.release_lease(lease)

    assert await storage.renew_leases(HOLDER, [lease], lease_seconds=15.0, now_us=NOW_US) == []


async def test_a_contender_is_shown_the_holders_heartbeats(storage: Storage) -> None:
    """Nothing before the first one; then their count, by which it judges."""
    await created(storage)
    seen: list[tuple[DriverIdentity, int | None]] = []

    def is_gone(holder: DriverIdentity, view: DriverView | None) -> bool:
        seen.append((holder, None if view is None else view.beats))
        return len(seen) == 3

    for _ in range(2):
        with pytest.raises(LeaseHeldError):
            await storage.acquire_lease("report-1", STRANGER, is_gone)
        await beat(storage)
    lease = await storage.acquire_lease("report-1", STRANGER, is_gone)

    assert seen == [(HOLDER, None), (HOLDER, 1), (HOLDER, 2)]
    assert (lease.holder, lease.token) == (STRANGER, 2)


async def test_a_driver_that_retires_is_forgotten(storage: Storage) -> None:
    """Its leases stay its own; a later heartbeat begins to count anew."""
    await created(storage)
    await beat(storage)
    await beat(storage)

    await storage.retire_driver(HOLDER)
    await storage.retire_driver(HOLDER)
    retired = await storage.load_orchestration("report-1")
    await beat(storage)
    back = await storage.load_orchestration("report-1")

    assert (retired.driver, retired.holder) == (None, HOLDER)
    assert back.driver is not None
    assert back.driver.beats == 1


async def test_what_has_not_ended_is_listed_oldest_first(storage: Storage) -> None:
    """Paused and cancelling included; what was reopened is back in its old place."""
    for base, state in (("a", "running"), ("b", "paused"), ("d", "cancelling")):
        lease = await created(storage, base)
        await storage.append([commit(lease, 2, summary=summary(state=OrchestrationStatus(state)))])
    for base in ("e", "f"):
        await ended(storage, base)
    reopened = await storage.acquire_lease("e-1", HOLDER, nobody_is_gone)
    await storage.append([commit(reopened, 3)])

    unfinished = await storage.list_unfinished()

    assert [record.orchestration_id for record in unfinished] == ["a-1", "b-1", "d-1", "e-1"]


async def test_the_change_count_stands_still_while_nobody_else_writes(storage: Storage) -> None:
    """What one does oneself is no news."""
    lease = await created(storage)
    before = await storage.change_count()

    await storage.append([commit(lease, 2)])
    await beat(storage)

    assert await storage.change_count() == before
