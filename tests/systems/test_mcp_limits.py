"""What an MCP system takes upon itself: turns, idle time, changing tools, progress, values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio
import pytest

from orchestration.dag import TaskDAG
from orchestration.models import TaskNode
from orchestration.ports import Progress
from orchestration.systems.content_blocks import without_data
from orchestration.systems.mcp import McpSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import route
from tests.systems.support import a_request, failure_of, http_server, lines_of, running, stdio_server, until
from tests.systems.test_mcp_bad_servers import raw_server

pytestmark = pytest.mark.anyio

HELLO = hashlib.sha256(b"hello").hexdigest()


async def test_calls_over_the_limit_wait_for_their_turn(tmp_path: Path) -> None:
    """Two at once; the third begins when one has ended, and its time limit does not count the wait."""
    started = tmp_path / "started"
    spec = raw_server(max_concurrent=2, timeout_seconds=30.0, env={"STARTED_FILE": str(started)})
    system = McpSystem(spec)
    values: list[object] = []

    async def say() -> None:
        values.append(await system.execute(a_request("say", {"text": "third"})))

    async with running(system), anyio.create_task_group() as others:
        async with anyio.create_task_group() as holding:
            for _ in range(2):
                holding.start_soon(system.execute, a_request("wait"))
            await until(lambda: lines_of(started).count("wait") == 2)
            others.start_soon(say)
            await anyio.wait_all_tasks_blocked()
            assert values == []
            holding.cancel_scope.cancel()
        await until(lambda: values)

    assert values == ["third"]


async def test_an_idle_server_is_let_go_and_its_tools_are_remembered(tmp_path: Path) -> None:
    """Asking for its tools does not start it again; a call does."""
    connected = tmp_path / "connected"
    system = McpSystem(raw_server(idle_seconds=0.05, env={"CONNECTED_FILE": str(connected)}))
    async with running(system):
        await system.execute(a_request("say", {"text": "hi"}))
        await until(lambda: system._connection is None or system._connection.ended.is_set())

        names = {tool.name for tool in await system.list_tools()}
        tool = await system.choose_tool(TaskNode("t", tool="say"))
        assert len(lines_of(connected)) == 1
        again = await system.execute(a_request("say", {"text": "again"}))

    assert ("say" in names, tool, again) == (True, "say", "again")
    assert len(lines_of(connected)) == 2


async def test_a_server_that_is_called_is_not_idle(tmp_path: Path) -> None:
    """However long the call takes."""
    started = tmp_path / "started"
    system = McpSystem(raw_server(idle_seconds=0.02, env={"STARTED_FILE": str(started)}))
    async with running(system), anyio.create_task_group() as calls:
        calls.start_soon(system.execute, a_request("wait"))
        await until(lambda: "wait" in lines_of(started))
        await anyio.sleep(0.1)  # what must not happen announces nothing

        assert system._connection is not None
        assert not system._connection.is_lost
        calls.cancel_scope.cancel()


async def test_tools_that_change_are_asked_for_again_when_needed() -> None:
    """The server says so in a notification, as older ones do; the count tells an index."""
    system = McpSystem(raw_server())
    async with running(system):
        before = {tool.name for tool in await system.list_tools()}
        version = system.tools_version
        await system.execute(a_request("learn", {"name": "paint"}))
        await until(lambda: system.tools_version > version)

        after = {tool.name for tool in await system.list_tools()}
        value = await system.execute(a_request("paint"))

    assert after - before == {"paint"}
    assert value == "called paint"
    assert system.generation == 1


@pytest.mark.parametrize("transport", ["stdio", pytest.param("http", marks=pytest.mark.slow)])
async def test_tools_that_change_are_heard_of_on_the_newer_protocol(transport: str) -> None:
    """There the client must ask for a stream of its own."""
    with http_server() as server:
        if transport == "http":
            await server.start()
        system = McpSystem(server.spec if transport == "http" else stdio_server())
        async with running(system):
            before = {tool.name for tool in await system.list_tools()}
            version = system.tools_version
            await until(lambda: system._connection is not None and system._connection.is_listening)
            await system.execute(a_request("learn", {"name": "paint"}))
            await until(lambda: system.tools_version > version)

            after = {tool.name for tool in await system.list_tools()}

    assert after - before == {"paint"}


@pytest.mark.parametrize("plain_json", ["", pytest.param("1", marks=pytest.mark.slow)])
async def test_an_answer_over_the_limit_fails_its_call_alone_over_http(plain_json: str) -> None:
    """As an event of a stream or as a whole body; one within the limit arrives, however long."""
    with http_server(PLAIN_JSON=plain_json) as server:
        await server.start()
        system = McpSystem(server.spec.model_copy(update={"max_answer_bytes": 3 * 1024 * 1024}))
        async with running(system):
            fits = await system.execute(a_request("long", {"size": 2 * 1024 * 1024}))
            error = await failure_of(system, a_request("long", {"size": 4 * 1024 * 1024}))
            after = await system.execute(a_request("say", {"text": "hi"}))

    assert len(str(fits)) == 2 * 1024 * 1024
    assert (error.code, error.retryable, error.effect_open) == ("output_too_large", False, True)
    assert (after, system.generation) == ("hi", 1)


async def test_progress_is_passed_on_with_its_words() -> None:
    """Bounded, for they are a stranger's; each is a sign of life, too."""
    found: list[Progress] = []
    beats: list[int] = []
    request = a_request("progress", heartbeat=lambda: beats.append(1))
    object.__setattr__(request, "progress", found.append)
    async with running(McpSystem(raw_server())) as system:
        await system.execute(request)
        await until(lambda: len(found) == 2)

    assert [(each.done, each.total) for each in found] == [(0.5, 2), (1, 2)]
    assert len(found[0].message) == 500
    assert len(beats) == 2


async def test_content_that_is_no_text_is_kept_as_values() -> None:
    """With what it is, its size and its hash; what is not readable is told, links as they are."""
    async with running(McpSystem(raw_server())) as system:
        value = await system.execute(a_request("blocks"))
        both = await system.execute(a_request("both"))

    assert value == {
        "text": "see",
        "content": [
            {"type": "image", "mimeType": "image/png", "size": 5, "sha256": HELLO, "data": "aGVsbG8="},
            {
                "type": "audio",
                "mimeType": "audio/wav",
                "size": 11,
                "problem": "its data is not base64, and was left out",
            },
            {
                "type": "resource",
                "mimeType": "text/plain",
                "uri": "file:///a.txt",
                "size": 3,
                "sha256": hashlib.sha256("hé".encode()).hexdigest(),
                "text": "hé",
            },
            {"type": "resource", "uri": "file:///a.bin", "size": 5, "sha256": HELLO, "data": "aGVsbG8="},
            {"type": "resource_link", "uri": "file:///b.txt", "name": "b"},
        ],
    }
    assert without_data(both) == {  # type: ignore[arg-type]
        "structured": {"n": 1},
        "content": ["[image image/png, 5 bytes, sha256 2cf24dba5fb0]"],
    }


async def test_fifty_servers_cost_nothing_until_one_is_needed(tmp_path: Path) -> None:
    """Routing tasks that name their system starts none, and a call starts its own alone."""
    connected = tmp_path / "connected"
    env = {"STARTED_FILE": str(connected)}
    systems = {f"s{number}": McpSystem(raw_server(env=env), f"s{number}") for number in range(50)}
    dag = TaskDAG("d")
    dag.add_task(TaskNode("t", system_preference="s7", tool="say", arguments={"text": "hi"}))
    async with SystemRegistry(systems) as registry:
        assert not connected.exists()
        routing = await route(dag, registry)
        assert lines_of(connected) == ["process"]

        await (await registry.ready("s7")).execute(a_request("say", {"text": "hi"}))

    assert routing.routes == {"t": "s7"}
    assert lines_of(connected) == ["process"]


@pytest.mark.slow
async def test_fifty_servers_are_asked_at_once_and_a_slow_one_holds_nobody_up() -> None:
    """A few start at a time; the dumb ones give their place away."""
    systems = {
        f"s{number}": McpSystem(raw_server("garbage" if number < 10 else ""), f"s{number}")
        for number in range(50)
    }
    async with SystemRegistry(systems) as registry:
        with anyio.fail_after(20):
            found = await registry.survey(timeout_seconds=10)

    assert sum(survey.error is None for survey in found.values()) == 40
