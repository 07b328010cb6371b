"""A server over stdio, as a desktop client starts it: real pipes, real signals, a real database."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError

from tests.acceptance.serving import Place, pid_of, running, text_on, wait_until_gone
from tests.server.conftest import text_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

IN_TIME = 1.5
"""Seconds a server may take to end: clients kill it after two."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


async def test_a_run_over_stdio_completes_and_prints_disturb_nothing(
    place: Place, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The tasks print to stdout, which belongs to the protocol; the client sees nothing it can't parse."""
    place.let_go()

    with anyio.fail_after(30), caplog.at_level(logging.WARNING):
        async with Client(place.stdio, mode=era) as client:
            tools = await client.list_tools()
            result = await client.call_tool(
                "execute_dag", {"dag": place.interrupted_dag(), "wait_seconds": 20}
            )

    assert len(tools.tools) == 10
    assert text_of(result).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")
    assert place.lines() == ["first", "second", "third"]
    assert caplog.messages == []


async def test_a_server_that_is_told_to_end_leaves_its_run_to_the_next_one(place: Place, era: str) -> None:
    """SIGTERM in the middle: it ends in time, the next server goes on, and what was completed is not run again."""
    with anyio.fail_after(30):
        with pytest.raises((MCPError, BaseExceptionGroup)):  # noqa: PT012  the connection breaks in the middle
            async with Client(place.stdio, mode=era) as client:
                pid = await pid_of(client)
                await client.call_tool("execute_dag", {"dag": place.interrupted_dag()})
                await place.wait_for_line("second")
                os.kill(pid, signal.SIGTERM)
                asked_at = anyio.current_time()
                await wait_until_gone(pid)
                took = anyio.current_time() - asked_at
                await client.call_tool("get_orchestration_status", {})
        place.let_go()
        async with Client(place.stdio, mode=era) as client:
            result = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": "interrupted-1", "wait_seconds": 20}
            )

    assert took < IN_TIME
    assert text_of(result).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")
    assert place.lines() == ["first", "second", "second", "third"]


async def test_a_server_that_is_killed_leaves_its_run_to_the_next_one(place: Place) -> None:
    """kill -9 gives no chance to close anything; what is stored is enough."""
    with anyio.fail_after(30):
        with pytest.raises((MCPError, BaseExceptionGroup)):  # noqa: PT012  the connection breaks in the middle
            async with Client(place.stdio) as client:
                pid = await pid_of(client)
                await client.call_tool("execute_dag", {"dag": place.interrupted_dag()})
                await place.wait_for_line("second")
                os.kill(pid, signal.SIGKILL)
                await wait_until_gone(pid)
                await client.call_tool("get_orchestration_status", {})
        place.let_go()
        async with Client(place.stdio) as client:
            result = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": "interrupted-1", "wait_seconds": 20}
            )

    assert text_of(result).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")
    assert place.lines() == ["first", "second", "second", "third"]


async def test_a_client_that_leaves_does_not_have_to_kill_the_server(place: Place, era: str) -> None:
    """It closes our input, and the process ends in time although a thread of it runs on."""
    with anyio.fail_after(30):
        async with Client(place.stdio, mode=era) as client:
            pid = await pid_of(client)
            await client.call_tool("execute_dag", {"dag": place.interrupted_dag()})
            await place.wait_for_line("second")
            left_at = anyio.current_time()
        took = anyio.current_time() - left_at
        await wait_until_gone(pid)

    assert took < IN_TIME


async def test_two_servers_on_one_database_see_each_others_runs(place: Place) -> None:
    """Each desktop client starts a server of its own."""
    with anyio.fail_after(30):
        async with Client(place.stdio) as one, Client(place.stdio, mode="legacy") as other:
            await one.call_tool("execute_dag", {"dag": place.interrupted_dag()})
            await place.wait_for_line("second")
            running = await other.call_tool("get_orchestration_status", {"orchestration_id": "interrupted-1"})
            place.let_go()
            ended = await other.call_tool(
                "get_orchestration_status", {"orchestration_id": "interrupted-1", "wait_seconds": 20}
            )

    assert text_of(running).startswith("interrupted-1 is running: 1 of 3 tasks completed, 1 running.")
    assert text_of(ended).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")
    assert place.lines() == ["first", "second", "third"]


async def test_a_server_whose_client_was_killed_ends_in_order(place: Place) -> None:
    """Answers that nobody reads any more are no fault of the server's."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mortal", "version": "1"},
    }
    requests = [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}]
    requests += [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(2, 6)]

    with anyio.fail_after(30):
        async with running(place, "serve") as server:
            assert server.stdin is not None
            assert server.stdout is not None
            await server.stdout.aclose()
            for request in requests:
                await server.stdin.send(json.dumps(request).encode() + b"\n")
            await server.stdin.aclose()
            told = await text_on(server.stderr)
            code = await server.wait()

    assert code == 0, told
    assert "bug" not in told
