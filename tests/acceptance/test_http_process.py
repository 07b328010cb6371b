"""A server over Streamable HTTP in a process of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import pytest
from mcp import Client

from tests.acceptance.serving import ROOT, Place, http_server
from tests.server.conftest import text_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_clients_of_both_eras_share_one_server(place: Place) -> None:
    """The era is a matter of each request."""
    with anyio.fail_after(40):
        async with http_server(place) as (url, _), Client(url, mode="legacy") as older, Client(url) as newer:
            await older.call_tool("execute_dag", {"dag": place.interrupted_dag()})
            await place.wait_for_line("second")
            place.let_go()
            result = await newer.call_tool(
                "get_orchestration_status", {"orchestration_id": "interrupted-1", "wait_seconds": 20}
            )

    assert text_of(result).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_it_is_told_to_although_a_client_listens(
    place: Place, number: signal.Signals
) -> None:
    """An open stream would keep it for ever; the run that was cut off goes on with the next server."""
    with anyio.fail_after(40):
        async with http_server(place) as (url, process):
            with pytest.raises(BaseException):  # noqa: B017, PT011, PT012  however the broken stream shows
                async with (
                    Client(url) as client,
                    client.listen(resource_subscriptions=["orchestration://list"]) as seen,
                ):
                    await client.call_tool("execute_dag", {"dag": place.interrupted_dag()})
                    await place.wait_for_line("second")
                    process.send_signal(number)
                    asked_at = anyio.current_time()
                    code = await process.wait()
                    took = anyio.current_time() - asked_at
                    async for _ in seen:
                        pass
                    raise EOFError
        place.let_go()
        async with http_server(place) as (url, _), Client(url) as client:
            result = await client.call_tool(
                "get_orchestration_status", {"orchestration_id": "interrupted-1", "wait_seconds": 20}
            )

    assert code == 0
    assert took < 4
    assert text_of(result).startswith("interrupted-1 is completed: 3 of 3 tasks completed.")
    assert place.lines() == ["first", "second", "second", "third"]


async def test_another_host_is_refused_before_anything_is_opened(place: Place) -> None:
    """Exit code 2, the reason on stderr, no database."""
    with anyio.fail_after(20):
        command = [*place.command, "--transport", "http", "--host", "0.0.0.0"]
        found = await anyio.run_process(command, cwd=ROOT, check=False)

    assert found.returncode == 2
    assert "host is '0.0.0.0'; expected a loopback address, because there is no authentication yet." in (
        found.stderr.decode()
    )
    assert not (place.folder / "o.db").exists()
