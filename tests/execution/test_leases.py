"""Who has lost a lease, and what happens to a driver that was silent for too long; on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestration import AdvancedTaskOrchestrator, OrchestratorOptions, TaskDAG, TaskNode
from orchestration.errors import LeaseLostError, OrchestrationNotFoundError
from orchestration.execution.identity import this_process
from orchestration.execution.leases import LeaseObserver
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.execution.orphans import OrphanWatch
from orchestration.ports import ControlAction, ControlRequest, DriverIdentity, DriverView

pytestmark = pytest.mark.anyio

Make = Callable[..., AdvancedTaskOrchestrator]


class Shared(MemoryStorage):
    """Memory that acts as if other processes saw it."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.listed = 0

    @property
    def is_durable(self) -> bool:
        return True

    async def change_count(self) -> int:
        return self.changes

    async def list_unfinished(self) -> Any:
        self.listed += 1
        return await super().list_unfinished()


class ManualClock:
    """Time that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_us(self) -> int:
        return round(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def elsewhere(instance: str = "x") -> DriverIdentity:
    """Return a driver on another machine, of which nothing is certain."""
    return DriverIdentity(host="elsewhere", boot_id="b", pid=1, process_start=1, instance=instance)


def seen(beats: int, lease_seconds: float = 15.0) -> DriverView:
    return DriverView(identity=elsewhere(), beats=beats, lease_seconds=lease_seconds, beat_at_us=0)


def test_a_process_of_this_host_that_is_gone_has_lost_its_leases_at_once() -> None:
    """Nobody has to wait."""
    me = this_process("gone")
    gone = DriverIdentity(
        host=me.host, boot_id=me.boot_id, pid=me.pid, process_start=me.process_start + 1, instance="gone"
    )

    assert LeaseObserver(ManualClock()).is_over(gone, None, "o-1", 1)


def test_a_driver_elsewhere_has_lost_its_leases_when_its_count_stood_still_for_a_lease_length() -> None:
    """By the observer's own clock, from the first look."""
    clock = ManualClock()
    observer = LeaseObserver(clock)

    assert not observer.is_over(elsewhere(), seen(7), "o-1", 1)
    clock.seconds += 14.9
    assert not observer.is_over(elsewhere(), seen(7), "o-1", 1)
    clock.seconds += 0.2
    assert observer.is_over(elsewhere(), seen(7), "o-1", 1)


def test_a_heartbeat_begins_the_wait_anew() -> None:
    """However late it came."""
    clock = ManualClock()
    observer = LeaseObserver(clock)
    observer.is_over(elsewhere(), seen(7), "o-1", 1)

    clock.seconds += 100
    assert not observer.is_over(elsewhere(), seen(8), "o-1", 1)
    clock.seconds += 14.9
    assert not observer.is_over(elsewhere(), seen(8), "o-1", 1)


def test_a_driver_is_given_the_lease_it_asked_for() -> None:
    """Its own setting counts, not the observer's."""
    clock = ManualClock()
    observer = LeaseObserver(clock)
    observer.is_over(elsewhere(), seen(1, lease_seconds=60.0), "o-1", 1)

    clock.seconds += 59
    assert not observer.is_over(elsewhere(), seen(1, lease_seconds=60.0), "o-1", 1)
    clock.seconds += 1
    assert observer.is_over(elsewhere(), seen(1, lease_seconds=60.0), "o-1", 1)


def test_a_driver_that_never_gave_a_heartbeat_is_given_the_default() -> None:
    """It may be about to."""
    clock = ManualClock()
    observer = LeaseObserver(clock)
    assert not observer.is_over(elsewhere(), None, "o-1", 1)

    clock.seconds += 15
    assert observer.is_over(elsewhere(), None, "o-1", 1)


def test_an_earlier_lease_says_nothing_of_a_later_one() -> None:
    """A driver that drives nothing counts nothing: its count may have stood still for an hour, and mean nothing."""
    clock = ManualClock()
    observer = LeaseObserver(clock)
    observer.is_over(elsewhere(), seen(1), "o-1", 1)
    clock.seconds += 3600

    assert not observer.is_over(elsewhere(), seen(1), "o-2", 1)
    assert not observer.is_over(elsewhere(), seen(1), "o-1", 2)


def task(name: str = "g") -> TaskDAG:
    dag = TaskDAG(name)
    dag.add_task(TaskNode("a", tool="work"))
    return dag


async def test_a_driver_gives_heartbeats_while_it_drives(make: Make) -> None:
    """Three a lease; none once it has nothing to drive, and none stays behind when it closes."""
    storage = Shared()

    async def work() -> None:
        await anyio.sleep(30)

    orchestrator = make({"work": work}, state_manager=storage)
    async with orchestrator:
        name = await orchestrator.submit(task())
        await anyio.sleep(29)
        driver = (await storage.load_orchestration(name)).driver
        await orchestrator.wait(name)
        await anyio.sleep(100)
        stored = list(storage._drivers.values())

    assert driver is not None
    assert 5 <= driver.beats <= 7
    assert [view.beats <= driver.beats + 1 for view in stored] == [True]
    assert list(storage._drivers.values()) == []


async def test_a_driver_that_lost_its_lease_ends_its_attempts_and_says_so(make: Make) -> None:
    """With its next heartbeat, though it had nothing to commit."""
    storage = Shared()
    stopped = []

    async def work() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            stopped.append(anyio.current_time())

    orchestrator = make({"work": work}, state_manager=storage)

    async def run() -> None:
        with pytest.raises(LeaseLostError, match="Another process took over 'g-1' while this one was silent"):
            await orchestrator.execute_dag(task())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(2)
        began = anyio.current_time()
        await storage.acquire_lease("g-1", elsewhere(), lambda *_: True)

    assert len(stopped) == 1
    assert stopped[0] - began <= 5.5


async def test_after_a_gap_the_leases_are_renewed_before_anything_is_committed(make: Make) -> None:
    """A report that comes in when a suspended process wakes up is discarded, not stored."""
    storage = Shared()
    clock = ManualClock()
    reported = anyio.Event()

    async def work() -> str:
        await reported.wait()
        return "too late"

    class Frozen(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await anyio.sleep_forever()  # the watch sleeps: only the commit can notice

    frozen = Frozen()
    orchestrator = make({"work": work}, state_manager=storage, clock=frozen)

    async def run() -> None:
        with pytest.raises(LeaseLostError):
            await orchestrator.execute_dag(task())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(1)
        await storage.acquire_lease("g-1", elsewhere(), lambda *_: True)
        frozen.seconds += 60
        reported.set()

    events = await storage.read_events("g-1")
    assert [recorded.event.type for recorded in events] == ["orchestration_submitted", "attempt_started"]
    assert clock.seconds == 1_000.0


async def test_a_server_takes_over_what_a_driver_elsewhere_has_left(make: Make) -> None:
    """Once its lease has run out, and what it can run."""
    storage = Shared()
    taken: list[str] = []

    async def work() -> str:
        return "done"

    settings = OrchestratorOptions(lease_seconds=6.0)
    first = make({"work": work}, state_manager=storage)
    name = await first.submit(task())
    other = await make({"another": work, "work": work}, state_manager=storage).submit(task("h"))
    lease = await storage.acquire_lease(name, elsewhere(), lambda *_: True)
    await storage.renew_leases(elsewhere(), [lease], lease_seconds=30.0, now_us=0)
    server = make({"work": work}, state_manager=storage, settings=settings)
    async with server, anyio.create_task_group() as group:
        group.start_soon(server.take_over_orphans, taken.append)
        await anyio.sleep(25)
        early = list(taken)
        await anyio.sleep(20)
        result = await server.wait(name)
        group.cancel_scope.cancel()

    assert early == [other]
    assert taken == [other, name]
    assert result["results"]["a"] == "done"


async def test_a_server_leaves_alone_what_it_can_not_run_and_what_is_paused(make: Make) -> None:
    """The status names what is missing."""
    storage = Shared()

    async def work() -> str:
        return "done"

    elsewhere_only = make({"special": work}, state_manager=storage)
    dag = TaskDAG("special")
    dag.add_task(TaskNode("a", tool="special"))
    foreign = await elsewhere_only.submit(dag)
    paused = await make({"work": work}, state_manager=storage).submit(task("paused"))
    await elsewhere_only.pause(paused)
    server = make({"work": work}, state_manager=storage)
    taken: list[str] = []
    async with server, anyio.create_task_group() as group:
        group.start_soon(server.take_over_orphans, taken.append)
        await anyio.sleep(100)
        status = await server.load_status(foreign)
        group.cancel_scope.cancel()

    assert taken == []
    assert status["missing_systems"] == ["System 'python' has no special here."]
    assert (await server.load_status(paused))["state"] == "paused"


async def test_orphans_are_listed_only_when_the_state_has_changed(make: Make) -> None:
    """Nothing polls: a look at the change count, and a list every five seconds at the most."""
    storage = Shared()
    clock = ManualClock()
    watch = OrphanWatch(storage, LeaseObserver(clock), clock, lambda _: False, this_process("me"))

    for _ in range(100):
        await watch.find()
        clock.seconds += 0.2
    quiet = storage.listed
    for _ in range(100):
        storage.changes += 1
        await watch.find()
        clock.seconds += 0.2

    assert quiet == 4
    assert storage.listed - quiet <= 21


async def test_what_could_not_be_taken_over_is_left_in_peace_for_a_while(make: Make) -> None:
    """Each attempt raises the token, so the token is no reason to try again."""
    storage = Shared()
    clock = ManualClock()
    name = await make({"work": anyio.sleep_forever}, state_manager=storage).submit(task())
    watch = OrphanWatch(storage, LeaseObserver(clock), clock, lambda _: False, this_process("me"))
    (record,) = await watch.find()

    watch.rest(record)
    clock.seconds += 29
    assert await watch.find() == []
    clock.seconds += 2
    assert [found.orchestration_id for found in await watch.find()] == [name]


async def test_a_request_of_what_was_removed_meanwhile_stops_nothing(make: Make) -> None:
    """Housekeeping may be faster than the look for forgotten requests."""

    class Removed(Shared):
        async def load_orchestration(self, orchestration_id: str) -> Any:
            raise OrchestrationNotFoundError(orchestration_id)

    storage = Removed()
    clock = ManualClock()
    name = await make({"work": anyio.sleep_forever}, state_manager=storage).submit(task())
    await storage.send_control(name, ControlRequest(action=ControlAction.CANCEL), sent_at_us=0)
    watch = OrphanWatch(storage, LeaseObserver(clock), clock, lambda _: False, this_process("me"))

    assert await watch.find_requests(older_than_us=1) == []
