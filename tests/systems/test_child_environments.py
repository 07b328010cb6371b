"""A secret in the environment of the server reaches no child that was not given it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration.systems.command import CommandLimits, CommandSpec, CommandSystem
from orchestration.systems.function import FunctionSystem
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.process_pool import ProcessOptions
from tests.systems import worker_functions as functions
from tests.systems.support import a_request, running

pytestmark = pytest.mark.anyio

SECRET = "planted-4f1d"

SERVER = """
import os
from pathlib import Path
from mcp.server.mcpserver import MCPServer

server = MCPServer("environment")

@server.tool()
def environment() -> dict[str, str]:
    return dict(os.environ)

server.run("stdio")
"""


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a secret where a server's own would be."""
    for name in ("OPENAI_API_KEY", "LD_PRELOAD_TOKEN", "PYTHONSECRET"):
        monkeypatch.setenv(name, SECRET)


@pytest.mark.parametrize("limits", [None, CommandLimits(open_files=50)])
async def test_a_command_sees_no_secret(limits: CommandLimits | None) -> None:
    """Only what it was given, also when something sets its limits first."""
    spec = CommandSpec(argv=["env"], env={"GIVEN": "yes"}, limits=limits)

    output: Any = await CommandSystem({"c": spec}).execute(a_request("c"))

    assert SECRET not in output["text"]
    assert "GIVEN=yes" in output["text"]


async def test_a_worker_process_sees_no_secret() -> None:
    """Only what its options give."""
    async with running(
        FunctionSystem(
            {"environment": functions.environment},
            engine="process",
            processes=ProcessOptions(workers=1, env={"GIVEN": "yes"}),
        )
    ) as system:
        variables: Any = await system.execute(a_request("environment"))

    assert SECRET not in variables.values()
    assert variables["GIVEN"] == "yes"
    assert "yes" not in repr(ProcessOptions(env={"GIVEN": "yes"}))


@pytest.mark.slow
async def test_an_mcp_server_sees_no_secret(tmp_path: Path) -> None:
    """Only what its entry gives; here a server takes a second to start."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    spec = McpServerSpec(command=sys.executable, args=[str(script)], env={"GIVEN": "yes"})
    async with running(McpSystem(spec)) as system:
        output: Any = await system.execute(a_request("environment"))

    assert SECRET not in repr(output)
    assert "'GIVEN': 'yes'" in repr(output)
