"""Servers and command lines on one database: any of them may die or stand still, and the work goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from mcp import Client

from tests.acceptance.serving import ROOT, Place, http_server, running, text_on

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NAME = "interrupted-1"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def served(place: Place) -> AsyncIterator[tuple[Any, anyio.abc.Process]]:
    """Give a client of a server, and the server's process."""
    async with http_server(place) as (url, process), Client(url) as client:
        yield client, process


async def status(client: Any, **arguments: Any) -> Any:
    result = await client.call_tool("get_orchestration_status", {"orchestration_id": NAME, **arguments})
    return result.structured_content


def told(found: Any) -> tuple[Any, Any, Any]:
    """Return what every process must tell alike."""
    return found["state"], found["counts"], found["last_seq"]


async def test_a_server_goes_on_with_a_run_that_is_killed(place: Place) -> None:
    """kill -9 of `run`: one of two servers takes over at once, and every process tells the same of it."""
    with anyio.fail_after(60):
        async with served(place) as (one, _), served(place) as (two, _):
            async with running(place, "run", place.write(place.interrupted_dag())) as run:
                await place.wait_for_line("second")
                seen = [await status(one), await status(two), await place.ask("status", NAME)]
                run.send_signal(signal.SIGKILL)
                await run.wait()
            waiting = await status(one, wait_seconds=0.5)
            place.let_go()
            ended = [
                await status(one, wait_seconds=20),
                await status(two, wait_seconds=20),
                await place.ask("status", NAME),
            ]

    assert len({str(told(each)) for each in seen}) == 1
    assert seen[2]["driven_by"].startswith(f"process {run.pid} on ")
    assert waiting["state"] == "running"
    assert len({str(told(each)) for each in ended}) == 1
    assert ended[0]["counts"] == {"completed": 3}
    assert place.lines() == ["first", "second", "second", "third"]


async def test_another_server_goes_on_with_what_a_killed_one_drove(place: Place) -> None:
    """kill -9 of a server: the other one, which was there all the time, takes over; `run` on the same file goes on."""
    other = {**place.interrupted_dag(), "dag_id": "undisturbed"}
    with anyio.fail_after(60):
        async with (
            served(place) as (two, _),
            running(place, "run", place.write(other), "--json") as run,
        ):
            await place.wait_for_line("second")
            async with http_server(place) as (url, process):
                with pytest.raises(BaseException):  # noqa: B017, PT011, PT012  however the broken stream shows
                    async with Client(url) as one:
                        await one.call_tool("execute_dag", {"dag": place.interrupted_dag()})
                        await place.wait_for_line("second", times=2)
                        process.send_signal(signal.SIGKILL)
                        await process.wait()
                        await status(one)
            place.let_go()
            ended = await status(two, wait_seconds=20)
            code = await run.wait()

    assert (ended["state"], code) == ("completed", 0)
    assert sorted(place.lines()) == ["first"] * 2 + ["second"] * 3 + ["third"] * 2


async def test_a_servers_work_is_controlled_from_the_command_line(place: Place) -> None:
    """Pause, resume and cancel are carried out by the server that drives."""
    with anyio.fail_after(60):
        async with served(place) as (client, process):
            await client.call_tool("execute_dag", {"dag": place.interrupted_dag()})
            await place.wait_for_line("second")
            paused = await place.ask("pause", NAME, "--reason", "lunch")
            seen = await status(client)
            async with running(place, "resume", NAME, "--json") as resume:
                await place.wait_for_status(NAME, lambda found: found["state"] == "running")
                cancelled = await place.ask("cancel", NAME, "--reason", "wrong day")
                place.let_go()  # a thread nobody can interrupt: the attempt would be abandoned in the end
                code = await resume.wait()
            ended = await status(client)

    assert paused["status"]["state"] == "paused"
    assert paused["status"]["driven_by"].startswith(f"process {process.pid} on ")
    assert seen["state"] == "paused"
    assert cancelled["status"]["state"] in {"cancelling", "cancelled"}
    assert (ended["state"], ended["reason"], code) == ("cancelled", "wrong day", 1)


@pytest.mark.parametrize("is_json", [False, True], ids=["words", "json"])
async def test_a_stopped_run_finds_itself_replaced_and_says_so(tmp_path: Path, is_json: bool) -> None:
    """SIGSTOP past the lease: a server takes over and finishes. SIGCONT: the run ends its attempts, exit code 3."""
    place = Place(tmp_path, "storage: {lease_seconds: 1}\n")
    words = ("--json",) if is_json else ()
    with anyio.fail_after(60):
        async with served(place) as (client, _):
            async with running(place, "run", place.write(place.interrupted_dag()), *words) as run:
                await place.wait_for_line("second")
                run.send_signal(signal.SIGSTOP)
                await place.wait_for_line("second", times=2)
                taken = await place.ask("status", NAME)
                run.send_signal(signal.SIGCONT)
                out, err = await text_on(run.stdout), await text_on(run.stderr)
                code = await run.wait()
            place.let_go()
            ended = await status(client, wait_seconds=20)

    gone_on = f"Another process goes on with {NAME}; the attempts that ran here were ended."
    look = f"advanced-orchestration status {NAME} --config "
    assert taken["state"] == "running"
    assert not taken["driven_by"].startswith(f"process {run.pid} on ")
    assert code == 3
    if is_json:
        document = json.loads(out)
        assert document["error"]["code"] in {"lease_lost", "stale_fencing_token"}
        assert (document["orchestration_id"], document["message"]) == (NAME, gone_on)
        assert document["look_with"].startswith(look)
    else:
        assert out.startswith(f"{gone_on} Where it stands: {look}")
        assert "error: Another process took over" in err or "another process took over." in err
    assert ended["state"] == "completed"
    assert place.lines() == ["first", "second", "second", "third"]


async def test_a_silent_driver_is_replaced_by_hand_once_its_lease_has_run_out(tmp_path: Path) -> None:
    """`resume` before that is refused, and `status` says for how long the driver has been silent."""
    place = Place(tmp_path, "storage: {lease_seconds: 1}\n")
    with anyio.fail_after(30):
        async with running(place, "run", place.write(place.interrupted_dag())) as run:
            await place.wait_for_line("second")
            run.send_signal(signal.SIGSTOP)
            early = await anyio.run_process(place.words("resume", NAME), cwd=ROOT, check=False)
            silent = await place.wait_for_status(NAME, lambda found: found["driver_silent_seconds"])
            async with running(place, "resume", NAME, "--json") as resume:
                await place.wait_for_line("second", times=2)
                run.send_signal(signal.SIGCONT)
                code = await run.wait()
                place.let_go()
                resumed = await resume.wait()

    assert early.returncode == 2
    assert "is driven by process" in early.stderr.decode()
    assert silent["driver_silent_seconds"] > 1
    assert (code, resumed) == (3, 0)
    assert place.lines() == ["first", "second", "second", "third"]


@pytest.mark.parametrize("is_killed", [False, True], ids=["run cancels", "run was killed"])
async def test_a_cancel_leaves_no_process_behind(place: Place, is_killed: bool) -> None:
    """A command with children in other groups and sessions: all of them end, whoever carries the cancel out."""
    seconds = f"3{id(place) % 100_000:05}"
    dag = {
        "dag_id": "interrupted",
        "tasks": [
            {
                "task_id": "breed",
                "system_preference": "local",
                "tool": "breed",
                "arguments": {"seconds": seconds, "started": str(place.folder / "started")},
            }
        ],
    }
    with anyio.fail_after(60):
        async with running(place, "run", place.write(dag)) as run:
            await place.wait_for_file("started")
            born = sleepers(seconds)
            if is_killed:
                run.send_signal(signal.SIGKILL)
                await run.wait()
            await place.ask("cancel", NAME)
            code = await run.wait()
        ended = await place.ask("status", NAME)

    assert len(born) == 3
    assert ended["state"] == "cancelled"
    assert code == (-signal.SIGKILL if is_killed else 1)
    assert sleepers(seconds) == []


def sleepers(seconds: str) -> list[str]:
    """Return the processes that sleep for that long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(path.parent.name)
    return found
