"""What can be read, and how those who read it learn that it changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import INVALID_PARAMS, ResourceUpdatedNotification

from orchestration.dag_file import parse_document
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server import resources
from server.app import OrchestrationServer, build_server
from server.updates import Updates
from server.uris import graph_uri, is_ours, orchestration_uri, output_uri
from storage import SqliteStorage
from tests.server.conftest import DIAMOND, WAITING, Connect, Functions, lend

pytestmark = pytest.mark.anyio

OLDER = pytest.mark.filterwarnings("ignore:resources/:mcp.MCPDeprecationWarning")
"""The SDK's client warns of the methods that only the older protocol has."""


async def _run(client: Any, dag: dict[str, Any] = DIAMOND) -> None:
    with anyio.fail_after(10):
        await client.call_tool("execute_dag", {"dag": dag, "wait_seconds": 10})


async def _read(client: Any, uri: str) -> tuple[str, str]:
    (content,) = (await client.read_resource(uri)).contents
    return content.mime_type, content.text


async def test_the_list_is_listed_and_the_rest_are_templates(connect: Connect) -> None:
    """Thousands of orchestrations would not be a list anyone reads."""
    async with connect() as client:
        listed = await client.list_resources()
        templates = await client.list_resource_templates()

    assert [resource.uri for resource in listed.resources] == ["orchestration://list"]
    assert [template.uri_template for template in templates.resource_templates] == [
        "orchestration://{orchestration_id}",
        "orchestration://{orchestration_id}/graph",
        "orchestration://{orchestration_id}/plan",
        "orchestration://{orchestration_id}/tasks/{task_id}/output",
    ]


async def test_the_list_has_the_standing_of_each_orchestration(connect: Connect) -> None:
    """JSON, the latest first."""
    async with connect() as client:
        await _run(client)
        await _run(client)
        kind, text = await _read(client, "orchestration://list")

    assert kind == "application/json"
    found = json.loads(text)["orchestrations"]
    assert [status["orchestration_id"] for status in found] == ["diamond-2", "diamond-1"]
    assert {status["state"] for status in found} == {"completed"}


async def test_an_orchestration_is_its_status(connect: Connect) -> None:
    """The document the library's load_status returns."""
    async with connect() as client:
        await _run(client)
        kind, text = await _read(client, "orchestration://diamond-1")

    assert kind == "application/json"
    status = json.loads(text)
    assert (status["state"], status["counts"], status["goal"]) == (
        "completed",
        {"completed": 4},
        "Add things up",
    )


async def test_a_graph_is_mermaid(connect: Connect) -> None:
    """With the statuses of its tasks."""
    async with connect() as client:
        await _run(client)
        kind, text = await _read(client, "orchestration://diamond-1/graph")

    assert kind == "text/vnd.mermaid"
    assert text.startswith("flowchart TD\n")


@pytest.mark.parametrize(
    ("task", "arguments", "text"),
    [
        ("text", {"lines": 3}, "line 0 of the text\nline 1 of the text\nline 2 of the text"),
        ("add", {"a": 1, "b": 2}, "3.0"),
    ],
)
async def test_an_output_is_a_text_as_it_is_or_json(
    connect: Connect, task: str, arguments: dict[str, Any], text: str
) -> None:
    """A report is not wrapped in quotes and escapes."""
    dag = {"dag_id": "out", "tasks": [{"task_id": task, "arguments": arguments}]}

    async with connect() as client:
        await _run(client, dag)
        found = await _read(client, f"orchestration://out-1/tasks/{task}/output")

    assert found == ("text/plain", text)


async def test_an_output_over_the_limit_is_cut_and_says_so(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line names the command that prints all."""
    monkeypatch.setattr(resources, "MAX_CHARS", 20)
    dag = {"dag_id": "out", "tasks": [{"task_id": "text", "arguments": {"lines": 3}}]}

    async with connect() as client:
        await _run(client, dag)
        _, text = await _read(client, "orchestration://out-1/tasks/text/output")

    assert text.splitlines() == [
        "line 0 of the text",
        "l",
        "… cut after 20 of 56 characters; `advanced-orchestration output out-1 text` prints all",
    ]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("orchestration://none-1", "There is no orchestration 'none-1'."),
        ("orchestration://diamond-1/tasks/sun/output", "Orchestration 'diamond-1' has no task 'sun'."),
        ("orchestration://diamond-1/else", "Unknown resource"),
        ("file:///etc/passwd", "Unknown resource"),
    ],
)
async def test_what_is_not_there_is_a_protocol_error(connect: Connect, uri: str, told: str) -> None:
    """-32602 with the reason."""
    async with connect() as client:
        await _run(client)
        with pytest.raises(MCPError, match=told) as caught:
            await client.read_resource(uri)

    assert caught.value.code == INVALID_PARAMS


async def test_an_output_that_is_not_there_yet_is_told_apart(connect: Connect, functions: Functions) -> None:
    """The task exists; it has only not been completed."""
    async with connect() as client:
        await client.call_tool("execute_dag", {"dag": WAITING})
        with pytest.raises(MCPError, match="Task 'after' is pending, so it can't be read"):
            await client.read_resource("orchestration://waiting-1/tasks/after/output")
        functions.gate.set()


async def test_listeners_of_2026_are_told_of_changes(
    server: OrchestrationServer, functions: Functions
) -> None:
    """The stream has the output that came, and the orchestration that changed."""
    wanted = {"orchestration://waiting-1", "orchestration://waiting-1/tasks/hold/output"}
    told: set[str] = set()

    async with Client(server) as client, client.listen(resource_subscriptions=sorted(wanted)) as changes:
        await client.call_tool("execute_dag", {"dag": WAITING})
        functions.gate.set()
        with anyio.fail_after(10):
            async for change in changes:
                assert isinstance(change, ResourceUpdated)
                told.add(change.uri)
                if told == wanted:
                    break

    assert told == wanted


@OLDER
async def test_subscribers_of_the_older_protocol_are_told_of_changes(
    server: OrchestrationServer, functions: Functions
) -> None:
    """`resources/subscribe`, until `resources/unsubscribe`."""
    uri = "orchestration://waiting-1/tasks/hold/output"
    told = anyio.Event()
    uris: list[str] = []

    async def on_message(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            uris.append(str(message.params.uri))
            told.set()

    async with Client(server, mode="legacy", message_handler=on_message) as client:
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe is True
        await client.subscribe_resource(uri)
        await client.subscribe_resource("orchestration://list")
        await client.unsubscribe_resource("orchestration://list")
        await client.call_tool("execute_dag", {"dag": WAITING})
        functions.gate.set()
        with anyio.fail_after(10):
            await told.wait()

    assert uris == [uri]


async def test_what_was_taken_over_is_announced_too(functions: Functions, tmp_path: Path) -> None:
    """A server that goes on with what another one left tells its listeners of it."""
    storage = SqliteStorage(tmp_path / "o.db")
    first = create_advanced_task_orchestrator(systems={"python": functions.system()}, state_manager=storage)
    async with first:
        await first.submit(parse_document(WAITING))
        with anyio.fail_after(5):
            await functions.reached.wait()
    second = create_advanced_task_orchestrator(systems={"python": functions.system()}, state_manager=storage)
    server = build_server(lambda: lend(second), keeps_house=True)

    async with Client(server) as client:
        with anyio.fail_after(10):
            async with client.listen(resource_subscriptions=["orchestration://list"]) as changes:
                functions.gate.set()
                async for change in changes:
                    assert change == ResourceUpdated(uri="orchestration://list")
                    break
            result = await client.call_tool("get_orchestration_status", {"orchestration_id": "waiting-1"})

    assert result.structured_content is not None
    assert result.structured_content["state"] == "completed"


async def test_what_ended_before_it_could_be_followed_is_announced(
    orchestrator: AdvancedTaskOrchestrator,
) -> None:
    """What was taken over may be quick; its end is news all the same."""
    updates = Updates()
    told: list[object] = []
    updates.bus.subscribe(told.append)
    async with orchestrator, anyio.create_task_group() as background:
        orchestration_id = await orchestrator.submit(parse_document(DIAMOND))
        await orchestrator.wait(orchestration_id)
        await updates.follow(orchestrator, orchestration_id)
        background.start_soon(updates.announce_forever)
        with anyio.fail_after(5):
            while len(told) < 3:
                await anyio.lowlevel.checkpoint()
        background.cancel_scope.cancel()

    assert ResourceUpdated(uri="orchestration://list") in told
    assert ResourceUpdated(uri=f"orchestration://{orchestration_id}") in told


@OLDER
async def test_a_subscription_to_something_else_is_refused(server: OrchestrationServer) -> None:
    """It would never fire."""
    async with Client(server, mode="legacy") as client:
        with pytest.raises(MCPError, match="Unknown resource: file:///etc/passwd"):
            await client.subscribe_resource("file:///etc/passwd")


def test_addresses_are_made_and_recognised_in_one_place() -> None:
    """Ids of alternative plans keep their `~`; anything else is escaped."""
    assert orchestration_uri("x-1") == "orchestration://x-1"
    assert graph_uri("x-1") == "orchestration://x-1/graph"
    assert output_uri("x-1", "load~1") == "orchestration://x-1/tasks/load~1/output"
    assert orchestration_uri("a/b") == "orchestration://a%2Fb"
    assert [is_ours(uri) for uri in (output_uri("x-1", "load~1"), "orchestration://x/y", "other://x")] == [
        True,
        False,
        False,
    ]
