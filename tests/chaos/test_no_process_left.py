"""A command that spreads over groups, sessions and parents leaves no process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from orchestration.errors import AttemptTimeoutError
from orchestration.systems.command import CommandSystem
from orchestration.systems.leftovers import end_leftovers
from orchestration.systems.marked_processes import carries_driver, environment_of, find_processes
from tests.chaos.left_command import CHILDREN
from tests.chaos.left_parent import spawning
from tests.systems.support import a_request, failure_of, is_alive, pids_in, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PARENT = Path(__file__).with_name("left_parent.py")

GRACE_SECONDS = 0.5
"""Long enough for what ends on SIGTERM."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[str]:
    """The name of a driver; whatever a failing test leaves of it is killed."""
    name = f"left-{os.getpid()}-{tmp_path.name}"
    yield name
    for pid in anyio.run(find_processes, carries_driver(name)):
        os.kill(pid, signal.SIGKILL)


def a_system(pids: Path, timeout_seconds: float | None = None) -> CommandSystem:
    """Return a system of the spreading command."""
    return CommandSystem({"c": spawning(str(pids), timeout_seconds)}, kill_grace_seconds=GRACE_SECONDS)


def spread(pids: Path, instance: str) -> bool:
    """Whether the command has started all its processes, each of which has left where it came from."""
    found = pids_in(pids)
    if not found:
        return False
    command, in_group, in_session, daemon = found
    assert len(found) == CHILDREN + 1
    assert os.getpgid(in_group) == os.getpgid(command)
    assert {os.getsid(in_session), os.getsid(daemon)}.isdisjoint({os.getsid(command)})
    assert all(carries_driver(instance)(environment_of(pid)) for pid in found)
    return True


async def living(pids: Path, instance: str) -> list[int]:
    """Return the command's processes that are still there, by their ids and by what their environment says."""
    by_mark = await find_processes(carries_driver(instance))
    return sorted({pid for pid in pids_in(pids) if is_alive(pid)} | set(by_mark))


async def nothing_is_left(pids: Path, instance: str) -> bool:
    """Whether all of them have gone; one that has just been killed may take a moment, 5 s at the most."""
    with anyio.fail_after(5):
        while await living(pids, instance):  # noqa: ASYNC110  (nothing announces what other processes do)
            await anyio.sleep(0.01)
    return True


@pytest.mark.timeout(30)
async def test_cancelling_a_command_leaves_none_of_its_processes(tmp_path: Path, instance: str) -> None:
    """Group, session and daemon have gone when the cancellation leaves the attempt."""
    pids = tmp_path / "pids"
    async with anyio.create_task_group() as attempts:
        attempts.start_soon(a_system(pids).execute, a_request("c", driver=instance))
        await until(lambda: spread(pids, instance))

        attempts.cancel_scope.cancel()

    assert await nothing_is_left(pids, instance)


@pytest.mark.timeout(30)
async def test_a_command_that_runs_out_of_time_leaves_none_of_its_processes(
    tmp_path: Path, instance: str
) -> None:
    """Its time limit ends them all before the attempt is reported."""
    pids = tmp_path / "pids"
    failures: list[BaseException] = []

    async def attempt() -> None:
        failures.append(await failure_of(a_system(pids, 2.0), a_request("c", driver=instance)))

    async with anyio.create_task_group() as attempts:
        attempts.start_soon(attempt)
        await until(lambda: spread(pids, instance))

    assert isinstance(failures[0], AttemptTimeoutError)
    assert await nothing_is_left(pids, instance)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_command_that_is_killed_leaves_none_of_its_processes(
    tmp_path: Path, instance: str, number: signal.Signals
) -> None:
    """Somebody else ends the program itself; what it has started does not outlive the attempt."""
    pids = tmp_path / "pids"
    failures = []

    async def attempt() -> None:
        failures.append(await failure_of(a_system(pids), a_request("c", driver=instance)))

    async with anyio.create_task_group() as attempts:
        attempts.start_soon(attempt)
        await until(lambda: spread(pids, instance))
        os.kill(pids_in(pids)[0], number)

    assert (failures[0].code, failures[0].effect_open) == ("command_failed", True)
    assert await nothing_is_left(pids, instance)


@pytest.mark.timeout(30)
async def test_what_a_killed_driver_left_is_ended_by_whoever_takes_over(
    tmp_path: Path, instance: str
) -> None:
    """kill -9 leaves all four running; they are found by the driver's name and ended."""
    pids = tmp_path / "pids"
    driver = subprocess.Popen(  # noqa: ASYNC220  (it outlives this call)
        [sys.executable, str(PARENT), instance, str(pids)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        await until(lambda: spread(pids, instance))
        driver.send_signal(signal.SIGKILL)
        driver.wait(5)
        left = await living(pids, instance)

        ended = await end_leftovers(instance, grace_seconds=GRACE_SECONDS)
    finally:
        driver.kill()
        driver.wait(5)

    assert left == sorted(pids_in(pids))
    assert ended == CHILDREN + 1
    assert await nothing_is_left(pids, instance)


async def test_two_heirs_of_one_driver_do_not_hinder_each_other(tmp_path: Path, instance: str) -> None:
    """Whichever comes first; between them everything is ended, and a third finds nothing."""
    pids = tmp_path / "pids"
    driver = subprocess.Popen(  # noqa: ASYNC220  (it outlives this call)
        [sys.executable, str(PARENT), instance, str(pids)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    await until(lambda: spread(pids, instance))
    driver.kill()
    driver.wait(5)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as heirs:
            for _ in range(2):
                heirs.start_soon(end_leftovers, instance)

    assert await nothing_is_left(pids, instance)
    assert await end_leftovers(instance) == 0
