"""Where tasks can run, how each place does, and which tools fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mcp import Client

from orchestration.factory import create_advanced_task_orchestrator
from orchestration.models import ErrorRecord
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import System, ToolInfo
from orchestration.systems.function import FunctionSystem
from server.answers import SHORT
from server.app import build_server
from tests.server.conftest import lend, text_of

pytestmark = pytest.mark.anyio


class Many(FunctionSystem):
    """A server with very many tools that say very much."""

    def __init__(self, count: int) -> None:
        super().__init__({})
        self._count = count

    async def list_tools(self) -> list[ToolInfo]:
        properties = {f"argument_{number}": {"type": "string"} for number in range(30)}
        schema = {"type": "object", "properties": properties, "required": ["argument_7"]}
        about = "Read a file \x1b[31mred\u202e. " * 50
        return [
            ToolInfo(name=f"read_file_{number}", description=about, input_schema=schema)
            for number in range(self._count)
        ]


class Unreachable(FunctionSystem):
    """Can't be asked."""

    async def list_tools(self) -> list[ToolInfo]:
        raise OSError("no route to host")


def read_file(path: str, lines: int = 10) -> str:
    """Read a file as text."""
    return path * lines


def send(to: str) -> None:
    """Send a message."""


def an_orchestrator(more: Mapping[str, System] | None = None) -> AdvancedTaskOrchestrator:
    own = {"files": FunctionSystem({"read_file": read_file}), "mail": FunctionSystem({"send": send})}
    return create_advanced_task_orchestrator(systems={**own, **(more or {})})


async def ask(orchestrator: AdvancedTaskOrchestrator, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """Return the text and the structured content of an answer."""
    async with Client(build_server(lambda: lend(orchestrator))) as client:
        result = await client.call_tool("list_systems", arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return text_of(result), result.structured_content


async def test_every_system_is_told_with_its_health() -> None:
    """One line each; one that can't be asked says why, the others are as they are."""
    text, answer = await ask(an_orchestrator({"gone": Unreachable({})}))

    assert {each["system"]: (each["kind"], each["tools"], each["health"]) for each in answer["systems"]} == {
        "files": ("function", 1, "ok"),
        "mail": ("function", 1, "ok"),
        "gone": ("function", 0, "unreachable"),
        "agent": ("agent", 0, "ok"),
    }
    assert text.splitlines() == [
        "4 systems, 1 not well; query finds the tools that fit.",
        "- files: function, 1 tool · ok",
        "- mail: function, 1 tool · ok",
        "- gone: function, any task · unreachable: can't be asked for its tools: no route to host",
        "- agent: agent, any task · ok",
    ]


async def test_a_query_finds_the_tools_that_fit_with_their_arguments() -> None:
    """Those that may be left out have a question mark."""
    text, answer = await ask(an_orchestrator({"gone": Unreachable({})}), query="Read the file notes.txt")

    assert answer["tools"] == [
        {
            "system": "files",
            "tool": "read_file",
            "does": "Read a file as text.",
            "arguments": {"path": "string", "lines?": "integer"},
        }
    ]
    assert text.splitlines() == [
        "1 tool that fits best, best first.",
        "- files · read_file(path: string, lines?: integer): Read a file as text.",
        "Any task, by its description: agent",
        "Could not be asked for tools: gone",
    ]


async def test_a_query_nothing_fits_says_so() -> None:
    """And names who takes any task."""
    text, answer = await ask(an_orchestrator(), query="Knit a scarf")

    assert answer["tools"] == []
    assert text.splitlines() == [
        "No tool shares a word with that.",
        "Any task, by its description: agent",
    ]


async def test_answers_stay_short_and_go_on_at_a_cursor() -> None:
    """However many systems and tools there are, and whatever they say of themselves."""
    orchestrator = an_orchestrator({f"many_{number:02}": Many(20) for number in range(15)})
    cursors: dict[str, str] = {}
    for query in ("", "read a file", "many_03"):
        text, answer = await ask(orchestrator, query=query)
        assert len(text) <= SHORT
        assert not {"\x1b", "\u202e"} & set(text)
        cursors[query] = answer["next_cursor"]

    _, systems = await ask(orchestrator, cursor=cursors[""])
    _, found = await ask(orchestrator, query="read a file", cursor=cursors["read a file"])
    _, tools = await ask(orchestrator, query="many_03", cursor=cursors["many_03"])

    assert [each["system"] for each in systems["systems"]][:3] == ["many_08", "many_09", "many_10"]
    assert len(found["tools"]) == 5
    assert tools["tools"][0]["tool"] == "read_file_12"
    assert tools["tools"][0]["more_arguments"] == 22
    assert list(tools["tools"][0]["arguments"])[:2] == ["argument_7", "argument_0?"]


async def test_the_breakers_story_is_told() -> None:
    """Why a system is not asked, when it is tried again, and what led there."""
    orchestrator = an_orchestrator()
    error = ErrorRecord(
        code="system_unavailable", message="connection refused", retryable=True, attempt=1, system="mail"
    )
    for _ in range(50):
        if orchestrator.systems.resilience.is_open("mail", None):
            break
        orchestrator.systems.resilience.admit("mail", "function", None).ended(error, 0.1)

    text, answer = await ask(orchestrator)
    alone, _ = await ask(orchestrator, query="mail")

    mail = next(each for each in answer["systems"] if each["system"] == "mail")
    assert mail["health"] == "not_asked"
    assert "connection refused" in mail["detail"]
    assert mail["success_rate"] == 0
    assert mail["story"]
    assert "- mail: function, 1 tool · not_asked · 0% of the latest attempts went well" in text
    assert "next try in" in text
    assert mail["story"][-1] in alone
    assert "- mail · send(to: string): Send a message." in alone


async def test_a_cursor_of_somebody_else_is_refused() -> None:
    """With the way to begin anew."""
    async with Client(build_server(lambda: lend(an_orchestrator()))) as client:
        result = await client.call_tool("list_systems", {"cursor": "-1"})

    assert result.is_error
    assert "next_cursor" in text_of(result)
    assert "Omit it" in text_of(result)
