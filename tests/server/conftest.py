"""A real server with a real orchestrator, and a client of each era of the protocol in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.systems.function import FunctionSystem
from server.app import OrchestrationServer, build_server


class Functions:
    """What the tasks of the tests call; `gate` holds one back until the test opens it."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.reached = anyio.Event()
        self.calls: list[str] = []

    def add(self, a: float, b: float) -> float:
        """Add two numbers."""
        self.calls.append("add")
        return a + b

    def fail(self) -> None:
        """Fail for good."""
        raise NotImplementedError("this never works")

    def text(self, lines: int) -> str:
        """Return a text of that many lines."""
        return "\n".join(f"line {number} of the text" for number in range(lines))

    async def wait(self) -> str:
        """Wait for the gate."""
        self.reached.set()
        await self.gate.wait()
        return "through"

    def system(self) -> FunctionSystem:
        """Return them as a system."""
        return FunctionSystem({"add": self.add, "fail": self.fail, "text": self.text, "wait": self.wait})


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def orchestrator(functions: Functions) -> AdvancedTaskOrchestrator:
    """An orchestrator with its state in memory."""
    return create_advanced_task_orchestrator(systems={"python": functions.system()})


@pytest.fixture
def server(orchestrator: AdvancedTaskOrchestrator) -> OrchestrationServer:
    return build_server(lambda: lend(orchestrator))


@asynccontextmanager
async def lend(orchestrator: AdvancedTaskOrchestrator) -> AsyncIterator[AdvancedTaskOrchestrator]:
    async with orchestrator:
        yield orchestrator


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """The 2026 protocol, and the one before it."""
    mode: str = request.param
    return mode


Connect = Callable[..., Any]


@pytest.fixture
def connect(server: OrchestrationServer, era: str) -> Connect:
    """Make clients; entered by the test itself, because a cancel scope must not cross from a fixture into it."""

    def client(**options: Any) -> Client:
        return Client(server, mode=era, **options)

    return client


def text_of(result: CallToolResult) -> str:
    """Return the one text a tool answered with."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


DIAMOND: dict[str, Any] = {
    "dag_id": "diamond",
    "goal": "Add things up",
    "tasks": [
        {"task_id": "one", "tool": "add", "arguments": {"a": 1, "b": 0}},
        {"task_id": "left", "tool": "add", "arguments": {"a": "${one}", "b": 10}, "depends_on": ["one"]},
        {"task_id": "right", "tool": "add", "arguments": {"a": "${one}", "b": 100}, "depends_on": ["one"]},
        {
            "task_id": "sum",
            "description": "Sum of both",
            "tool": "add",
            "arguments": {"a": "${left}", "b": "${right}"},
            "depends_on": ["left", "right"],
        },
    ],
}
"""Four tasks, two of them side by side."""

WAITING: dict[str, Any] = {
    "dag_id": "waiting",
    "tasks": [
        {"task_id": "hold", "tool": "wait"},
        {"task_id": "after", "tool": "add", "arguments": {"a": 1, "b": 1}, "depends_on": ["hold"]},
    ],
}
"""A task that runs until the gate is opened, and one after it."""
