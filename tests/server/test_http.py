"""Streamable HTTP on loopback: both eras, one orchestrator for all clients, a stop that does not hang."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from mcp import Client

from orchestration.errors import InvalidArgumentError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.app import build_server
from server.http import PATH, check_host, serve_http
from tests.server.conftest import DIAMOND, WAITING, Functions, lend, text_of

pytestmark = pytest.mark.anyio


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@asynccontextmanager
async def serving(
    orchestrator: AdvancedTaskOrchestrator, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Serve in a task of its own; gives the address, and what asks it to stop."""
    port, stop = free_port(), anyio.Event()
    server = build_server(lambda: lend(orchestrator))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_http, server, host, port, stop)
        with anyio.fail_after(10):
            while True:
                try:
                    await (await anyio.connect_tcp(host, port)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.01)
        yield f"http://{host}:{port}{PATH}", stop.set
        stop.set()


async def test_a_run_over_http_is_seen_by_a_second_client(
    orchestrator: AdvancedTaskOrchestrator, era: str
) -> None:
    """Connections come and go; the orchestrator is one."""
    async with serving(orchestrator) as (url, _):
        with anyio.fail_after(20):
            async with Client(url, mode=era) as client:
                tools = await client.list_tools()
                started = await client.call_tool("execute_dag", {"dag": DIAMOND, "wait_seconds": 10})
            async with Client(url, mode=era) as client:
                status = await client.call_tool("get_orchestration_status", {"orchestration_id": "diamond-1"})

    assert len(tools.tools) == 10
    assert text_of(started).startswith("diamond-1 is completed: 4 of 4 tasks completed.")
    assert text_of(status).startswith("diamond-1 is completed: 4 of 4 tasks completed.")


async def test_progress_flows_over_http(
    orchestrator: AdvancedTaskOrchestrator, functions: Functions, era: str
) -> None:
    """A waiting call tells that it lives."""
    told = anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.set()
        functions.gate.set()

    async with serving(orchestrator) as (url, _):
        with anyio.fail_after(20):
            async with Client(url, mode=era) as client:
                await client.call_tool(
                    "execute_dag", {"dag": WAITING, "wait_seconds": 10}, progress_callback=on_progress
                )
                await told.wait()


async def test_a_stop_is_not_held_up_by_a_call_that_waits(
    orchestrator: AdvancedTaskOrchestrator, functions: Functions
) -> None:
    """A client that listens for ever would keep the process alive for ever."""
    with anyio.fail_after(20):
        async with serving(orchestrator) as (url, stop):
            with pytest.raises(BaseExceptionGroup):  # noqa: PT012  the broken connection is the client's to see
                async with (
                    Client(url) as client,
                    client.listen(resource_subscriptions=["orchestration://list"]) as seen,
                ):
                    stop()
                    async for _ in seen:
                        pass
                    raise BaseExceptionGroup("the stream ended", [EOFError()])


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403)],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_web_pages_are_kept_out(
    orchestrator: AdvancedTaskOrchestrator, headers: dict[str, str], status: int, host: str
) -> None:
    """A page the user visits must not reach the server through the browser, on whichever loopback address."""
    async with serving(orchestrator, host) as (url, _), httpx2.AsyncClient() as http:
        answer = await http.post(url, json={}, headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_addresses_are_served(host: str) -> None:
    """All of them."""
    check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_any_other_host_is_refused_until_there_is_authentication(host: str) -> None:
    """Whoever can reach the port can run the configured systems."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_host(host)

    assert str(caught.value) == (
        f"host is {host!r}; expected a loopback address, because there is no authentication yet. Fix: Use 127.0.0.1, "
        "::1 or localhost; from elsewhere, come through an SSH tunnel."
    )


async def test_a_port_in_use_is_an_error_of_ours(orchestrator: AdvancedTaskOrchestrator) -> None:
    """The process is told why, instead of being ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidArgumentError, match=rf"port is {port}; expected a port that is free on 127.0.0.1"
        ):
            await serve_http(build_server(lambda: lend(orchestrator)), "127.0.0.1", port, anyio.Event())
