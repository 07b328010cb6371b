"""No server outlives the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.systems.guardian import Guardian
from tests.systems.support import is_alive, pids_in, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

OWNER = """
import sys, anyio
from orchestration.systems.mcp import McpSystem
from orchestration.systems.registry import SystemRegistry
from tests.systems.support import a_request
from tests.systems.test_mcp_bad_servers import raw_server

async def main() -> None:
    system = McpSystem(raw_server("stubborn", env={"SPREAD_FILE": sys.argv[1]}))
    async with SystemRegistry({"mcp": system}):
        await system.execute(a_request("spread"))
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_a_server_does_not_outlive_a_process_that_was_killed(tmp_path: Path, number: int) -> None:
    """Neither it nor what it put into a session of its own, although both ignore SIGTERM and a closed input."""
    spread = tmp_path / "spread"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(spread)], env=env)  # noqa: ASYNC220
    try:
        await until(lambda: len(pids_in(spread)) == 2)
        pids = pids_in(spread)
        assert all(is_alive(pid) for pid in pids)
        owner.send_signal(number)
        owner.wait(5)

        await until(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        owner.kill()
        owner.wait(5)
        for pid in pids_in(spread):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_the_guardian_lives_as_long_as_there_is_something_to_watch() -> None:
    """One for all; the last to leave ends it."""
    guardian = Guardian()
    pids = [guardian.pid]

    with guardian.watching("a", 1):
        pids.append(guardian.pid)
        with guardian.watching("b", 2):
            pids.append(guardian.pid)
        first = pids[1]
        assert first is not None
        assert is_alive(first)
    pids.append(guardian.pid)

    assert pids == [None, first, first, None]
    assert not is_alive(first)


def test_a_guardian_that_was_killed_is_replaced_for_the_next() -> None:
    """It is told of everything that is watched; nothing fails."""
    guardian = Guardian()
    with guardian.watching("a", 1):
        first = guardian.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

        with guardian.watching("b", 2):
            assert guardian.pid != first
