"""Agents at work: one server submits, the client of another claims and reports, and a command line waits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from tests.acceptance.serving import ROOT, Place, http_server, running, text_on

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def articles(place: Place, count: int, **fields: Any) -> dict[str, Any]:
    """Return a DAG of tasks for agents, and one after them that notes what they delivered."""
    notes = str(place.folder / "notes")
    return {
        "dag_id": "articles",
        "tasks": [
            *(
                {"task_id": f"write{number}", "system_preference": "agent", "description": "Write.", **fields}
                for number in range(count)
            ),
            {
                "task_id": "print",
                "tool": "note",
                "arguments": {"path": notes, "line": "${write0.title}"},
                "depends_on": [f"write{number}" for number in range(count)],
            },
        ],
    }


async def call(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def until_counted(client: Any, status: str, count: int) -> None:
    """Wait until so many tasks have a status: whoever drives hears of a claim a little later than the worker."""
    arguments = {"orchestration_id": "articles-1", "view": "tasks"}
    while True:
        found = await call(client, "get_orchestration_status", **arguments)
        if found["counts"].get(status, 0) == count:
            return
        await anyio.sleep(0.01)


async def test_one_server_submits_and_the_client_of_another_does_the_work(place: Place) -> None:
    """Two processes, one database: the claim, the report and its check meet in the middle."""
    dag = articles(place, 1, acceptance={"condition": "size(output.title) > 3"}, max_retries=2)
    with anyio.fail_after(60):
        async with Client(place.stdio) as one, Client(place.stdio, mode="legacy") as other:
            started = await call(one, "execute_dag", dag=dag, wait_seconds=20)
            first = await call(other, "claim_task", worker="ada", wait_seconds=20)
            await until_counted(one, "claimed", 1)
            seen = await call(one, "get_orchestration_status", orchestration_id="articles-1")
            refused = await call(
                other, "report_task", claim=first["claim"], status="done", output={"title": "No"}
            )
            again = await call(other, "claim_task", worker="ada", wait_seconds=40)
            done = await call(
                other, "report_task", claim=again["claim"], status="done", output={"title": "Knitting"}
            )
            ended = await call(
                one, "get_orchestration_status", orchestration_id="articles-1", wait_seconds=20
            )
            metrics = await call(one, "get_metrics")

    assert started["your_tasks"] == {"write0": "Write."}
    assert seen["claimed"] == {"write0": "ada"}
    assert (refused["outcome"], refused["verified"]) == ("accepted", False)
    assert (again["task"], again["attempt"]) == ("write0", 2)
    assert done["outcome"] == "accepted"
    assert ended["state"] == "completed"
    assert place.lines() == ["Knitting"]
    assert metrics["metrics"]["workers"] == {"ada": {"claims": 2, "reported_done": 2, "accepted": 1}}


async def test_what_is_reported_while_nobody_drives_counts_once_somebody_does(place: Place) -> None:
    """kill -9 of the server that drove: the report is durable, and the next driver goes on from it."""
    with anyio.fail_after(60):
        async with Client(place.stdio) as worker:
            async with http_server(place) as (url, process):
                with pytest.raises(BaseException):  # noqa: B017, PT011, PT012  however the broken stream shows
                    async with Client(url) as one:
                        await call(one, "execute_dag", dag=articles(place, 1), wait_seconds=20)
                        claimed = await call(worker, "claim_task", worker="ada")
                        process.send_signal(signal.SIGKILL)
                        await process.wait()
                        await one.list_tools()
            reported = await call(
                worker, "report_task", claim=claimed["claim"], status="done", output={"title": "Sewing"}
            )
            ended = await call(
                worker, "get_orchestration_status", orchestration_id="articles-1", wait_seconds=40
            )

    assert reported["outcome"] == "accepted"
    assert ended["state"] == "completed"
    assert place.lines() == ["Sewing"]


async def test_a_run_in_a_terminal_waits_for_a_worker_and_says_so(place: Place) -> None:
    """The command line drives; whoever is connected to a server on the same database does the task."""
    with anyio.fail_after(60):
        async with (
            Client(place.stdio) as client,
            running(place, "run", place.write(articles(place, 1))) as run,
        ):
            claimed = await call(client, "claim_task", worker="ada", wait_seconds=40)
            status = await place.ask("status", claimed["orchestration_id"])
            await call(
                client, "report_task", claim=claimed["claim"], status="done", output={"title": "Weaving"}
            )
            code = await run.wait()
            told = await text_on(run.stderr)

    assert status["claimed"] == {"write0": "ada"}
    assert code == 0
    lines = [line.partition(": ")[2] for line in told.splitlines() if line.startswith("write0")]
    assert lines[0] == "offered; it waits for a worker: claim_task over MCP"
    assert "claimed by ada" in lines
    assert place.lines() == ["Weaving"]


async def test_many_workers_of_three_processes_share_no_task(place: Place) -> None:
    """Sixty tasks, each done once; a worker ends when nothing is left."""
    done: list[str] = []

    async def work(client: Any, name: str) -> None:
        while True:
            claimed = await call(client, "claim_task", worker=name, orchestration_id="articles-1")
            if "claim" not in claimed:
                return
            done.append(claimed["task"])
            title = json.dumps({"title": claimed["task"]})
            report = await call(client, "report_task", claim=claimed["claim"], status="done", output=title)
            assert report["outcome"] == "accepted"

    with anyio.fail_after(120):
        async with Client(place.stdio) as one, Client(place.stdio) as two, Client(place.stdio) as three:
            await call(one, "execute_dag", dag=articles(place, 60))
            await until_counted(one, "offered", 60)
            async with anyio.create_task_group() as workers:
                for number in range(12):
                    client = (one, two, three)[number % 3]
                    workers.start_soon(work, client, f"worker-{number}")
            ended = await call(
                one, "get_orchestration_status", orchestration_id="articles-1", wait_seconds=40
            )

    assert sorted(done) == sorted(f"write{number}" for number in range(60))
    assert ended["state"] == "completed"


async def test_a_workers_server_has_a_workers_tools_only(place: Place) -> None:
    """It gives out and takes in what another server drives, and can start nothing."""
    words = place.words("serve", "--profile", "worker")
    worker = StdioServerParameters(command=words[0], args=words[1:], cwd=ROOT)
    with anyio.fail_after(60):
        async with Client(place.stdio) as one, Client(worker) as other:
            listed = await other.list_tools()
            await call(one, "execute_dag", dag=articles(place, 1), wait_seconds=20)
            claimed = await call(other, "claim_task", worker="ada", wait_seconds=20)
            done = await call(
                other, "report_task", claim=claimed["claim"], status="done", output={"title": "Felting"}
            )

    assert sorted(tool.name for tool in listed.tools) == [
        *("claim_task", "get_orchestration_status", "read_output", "report_task")
    ]
    assert done["outcome"] == "accepted"
