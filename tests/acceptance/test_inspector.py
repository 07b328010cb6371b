"""The MCP Inspector, somebody else's client in another language, lists the tools and calls each.

Runs where `MCP_INSPECTOR` names its command, for example `npx -y @modelcontextprotocol/inspector@2` (it needs
Node 22); nothing is installed here.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.acceptance.serving import ROOT, Place, http_server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif("MCP_INSPECTOR" not in os.environ, reason="MCP_INSPECTOR names no command"),
]

DAG = {"dag_id": "inspected", "tasks": [{"task_id": "pid"}]}

Target = Sequence[str]
"""What the Inspector is told of the server: a command, or an address."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def target_over(transport: str, place: Place) -> AsyncIterator[Target]:
    """Give a server over stdio, started anew for each call, or one over HTTP for all."""
    if transport == "stdio":
        script = place.folder / "serve.sh"
        lines = ["#!/bin/sh", f"cd {shlex.quote(str(ROOT))}", f"exec {shlex.join(place.command)}", ""]
        script.write_text("\n".join(lines), encoding="utf-8")
        script.chmod(0o700)
        yield [str(script)]
    else:
        async with http_server(place) as (url, _):
            yield [url, "--transport", "http"]


async def inspect(target: Target, era: str, method: str, *options: str) -> Any:
    """Run the Inspector once and return the result it printed."""
    command = [*shlex.split(os.environ["MCP_INSPECTOR"]), "--cli", *target, "--protocol-era", era]
    done = await anyio.run_process([*command, "--method", method, *options, "--format", "json"], check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["result"]


async def call(server: Target, era: str, tool: str, **arguments: object) -> Any:
    """Call a tool and return its structured answer."""
    options = [
        word
        for name, value in arguments.items()
        for word in ("--tool-arg", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]
    result = await inspect(server, era, "tools/call", "--tool-name", tool, *options)
    assert result["isError"] is False
    return result["structuredContent"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_inspector_lists_the_tools_and_calls_each(place: Place, transport: str, era: str) -> None:
    """Ten tools, each called, two resources; over both transports and in both eras."""
    with anyio.fail_after(230):
        async with target_over(transport, place) as target:
            listed = await inspect(target, era, "tools/list", "--strict")
            planned = await call(
                target, era, "decompose_goal", goal="Ask for the process id", tasks=DAG["tasks"]
            )
            looked = await call(target, era, "edit_dag", target=planned["plan_id"], dry_run=True)
            run = await call(target, era, "execute_dag", dag=DAG, wait_seconds=10)
            status = await call(
                target, era, "get_orchestration_status", orchestration_id="inspected-1", view="tasks"
            )
            text = await call(target, era, "read_output", reference="inspected-1/pid", part="head")
            await call(target, era, "execute_dag", dag=place.interrupted_dag())
            cancelled = await call(
                *(target, era, "control_orchestration"), orchestration_id="interrupted-1", action="cancel"
            )
            place.let_go()
            metrics = await call(target, era, "get_metrics", scope="orchestration", id="inspected-1")
            found = await call(target, era, "list_systems", query="the process id")
            offered = {"dag_id": "offered", "tasks": [{"task_id": "judge", "system_preference": "agent"}]}
            await call(target, era, "execute_dag", dag=offered)
            claimed = await call(target, era, "claim_task", worker="inspector", wait_seconds=10)
            reported = await call(
                target, era, "report_task", claim=claimed["claim"], status="done", output={"fine": True}
            )
            output = await inspect(
                target, era, "resources/read", "--uri", "orchestration://inspected-1/tasks/pid/output"
            )
            resources = await inspect(target, era, "resources/list")

    assert [tool["name"] for tool in listed["tools"]] == [
        "decompose_goal",
        "execute_dag",
        "get_orchestration_status",
        "edit_dag",
        "control_orchestration",
        "read_output",
        "get_metrics",
        "list_systems",
        "claim_task",
        "report_task",
    ]
    assert planned["state"] == "planned"
    assert looked["revision"] == 1
    assert run["message"] == "inspected-1 is completed: 1 of 1 task completed."
    assert [task["status"] for task in status["tasks"]] == ["completed"]
    assert text["text"].isdecimal()
    assert [outcome["outcome"] for outcome in cancelled["outcomes"]] == ["done"]
    assert metrics["metrics"]["tasks_completed"] == 1
    assert [tool["tool"] for tool in found["tools"]][:1] == ["pid"]
    assert claimed["task"] == "judge"
    assert (reported["outcome"], reported["verified"]) == ("accepted", True)
    assert output["contents"][0]["text"].isdecimal()
    assert [resource["uri"] for resource in resources["resources"]] == ["orchestration://list"]
