"""One suite over both Sequential Thinking servers: the one inside this process and the published one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from orchestration.planning.thinking_server import TOOL_NAME, make_thinking_server

pytestmark = pytest.mark.anyio

PUBLISHED = "@modelcontextprotocol/server-sequential-thinking@2026.8.31"

THOUGHT: dict[str, Any] = {"thought": "t", "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 3}


@pytest.fixture(scope="session")
def published_program() -> str:
    """Where npx puts the published server; starting it directly saves half a second in each test."""
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed")
    asked = ["npx", "-y", "-p", PUBLISHED, "-c", "command -v mcp-server-sequential-thinking"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=90, check=True).stdout.strip()


@pytest.fixture(params=["in-process", "published"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client of a server with an empty history."""
    if request.param == "in-process":
        async with Client(make_thinking_server()) as connected:
            yield connected
        return
    program: str = request.getfixturevalue("published_program")
    parameters = StdioServerParameters(command=program, env={"DISABLE_THOUGHT_LOGGING": "true"})
    async with Client(stdio_client(parameters)) as connected:
        yield connected


async def call(client: Client, **changes: Any) -> dict[str, Any]:
    with anyio.fail_after(5):
        answer = await client.call_tool(TOOL_NAME, THOUGHT | changes)
    assert not answer.is_error, answer.content
    assert isinstance(answer.structured_content, dict)
    return answer.structured_content


async def refusal(client: Client, arguments: dict[str, Any], tool: str = TOOL_NAME) -> str:
    with anyio.fail_after(5):
        answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    return str(getattr(answer.content[0], "text", ""))


async def test_there_is_one_tool_with_the_known_parameters(client: Client) -> None:
    """Both servers offer `sequentialthinking` with the same parameters, required ones and answer."""
    tools = (await client.list_tools()).tools

    assert [tool.name for tool in tools] == ["sequentialthinking"]
    assert set(tools[0].input_schema["properties"]) == {
        "thought",
        "nextThoughtNeeded",
        "thoughtNumber",
        "totalThoughts",
        "isRevision",
        "revisesThought",
        "branchFromThought",
        "branchId",
        "needsMoreThoughts",
    }
    assert set(tools[0].input_schema["required"]) == set(THOUGHT)
    assert tools[0].output_schema is not None
    assert set(tools[0].output_schema["required"]) == {
        "thoughtNumber",
        "totalThoughts",
        "nextThoughtNeeded",
        "branches",
        "thoughtHistoryLength",
    }


async def test_a_thought_is_counted_and_told_back(client: Client) -> None:
    """The answer repeats the numbers and counts the history."""
    first = await call(client)
    second = await call(client, thoughtNumber=2, nextThoughtNeeded=False)

    assert first == {
        "thoughtNumber": 1,
        "totalThoughts": 3,
        "nextThoughtNeeded": True,
        "branches": [],
        "thoughtHistoryLength": 1,
    }
    assert second == {
        "thoughtNumber": 2,
        "totalThoughts": 3,
        "nextThoughtNeeded": False,
        "branches": [],
        "thoughtHistoryLength": 2,
    }


async def test_the_answer_is_also_json_text(client: Client) -> None:
    """A client that reads no structured content finds the same in the text."""
    import json

    answer = await client.call_tool(TOOL_NAME, THOUGHT)

    assert json.loads(getattr(answer.content[0], "text", "")) == answer.structured_content


async def test_a_number_past_the_total_raises_the_total(client: Client) -> None:
    """A plan may need more thoughts than it guessed."""
    assert (await call(client, thoughtNumber=5))["totalThoughts"] == 5


async def test_a_branch_needs_its_name_and_its_start(client: Client) -> None:
    """A branch is recorded once, and only with both of its fields."""
    nameless = await call(client, branchFromThought=1)
    rootless = await call(client, branchId="b")
    whole = await call(client, branchId="b", branchFromThought=1)
    again = await call(client, branchId="b", branchFromThought=2)
    other = await call(client, branchId="a", branchFromThought=2)

    assert [answer["branches"] for answer in (nameless, rootless, whole, again, other)] == [
        [],
        [],
        ["b"],
        ["b"],
        ["b", "a"],
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"isRevision": True, "revisesThought": 77},  # revising what was never said is accepted
        {"thought": ""},
        {"unheardOf": 1},
        {"nextThoughtNeeded": "TRUE", "isRevision": "false"},
        {"needsMoreThoughts": True},
    ],
)
async def test_lenient_input_is_taken(client: Client, changes: dict[str, Any]) -> None:
    """Both servers accept what real clients send."""
    assert (await call(client, **changes))["nextThoughtNeeded"] is True


async def test_numbers_and_booleans_may_be_strings(client: Client) -> None:
    """Strings that read as numbers and booleans are converted."""
    answer = await call(client, thoughtNumber="2", totalThoughts="4", nextThoughtNeeded="false")

    assert (answer["thoughtNumber"], answer["totalThoughts"], answer["nextThoughtNeeded"]) == (2, 4, False)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"thoughtNumber": 0}, "thoughtNumber"),
        ({"totalThoughts": -1}, "totalThoughts"),
        ({"thoughtNumber": 1.5}, "thoughtNumber"),
        ({"thoughtNumber": "abc"}, "thoughtNumber"),
        ({"nextThoughtNeeded": "maybe"}, "nextThoughtNeeded"),
        ({"nextThoughtNeeded": 1}, "nextThoughtNeeded"),
        ({"thought": 3}, "thought"),
        ({"revisesThought": 0}, "revisesThought"),
        ({"branchId": 7}, "branchId"),
    ],
)
async def test_bad_input_is_refused_by_name_and_not_counted(
    client: Client, changes: dict[str, Any], named: str
) -> None:
    """A refusal names the parameter, is no protocol error and leaves the history as it was."""
    said = await refusal(client, THOUGHT | changes)
    after = await call(client)

    assert said.startswith("MCP error -32602: Input validation error: Invalid arguments for tool")
    assert named in said
    assert after["thoughtHistoryLength"] == 1


async def test_missing_parameters_are_all_named(client: Client) -> None:
    """A refusal names every missing parameter."""
    said = await refusal(client, {"thought": "t"})

    assert all(name in said for name in ("nextThoughtNeeded", "thoughtNumber", "totalThoughts"))


async def test_an_unknown_tool_is_refused(client: Client) -> None:
    """Another tool's name is answered with an error the caller can read."""
    assert await refusal(client, {}, tool="nope") == "MCP error -32602: Tool nope not found"


async def test_each_server_starts_with_an_empty_history(client: Client) -> None:
    """One server per plan: nothing of another plan is in its history."""
    assert (await call(client))["thoughtHistoryLength"] == 1
