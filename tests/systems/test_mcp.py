"""Tools of real MCP servers, in processes that can be killed."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import anyio
import pytest
from pydantic import ValidationError

from orchestration.errors import SystemUnavailableError
from orchestration.models import TaskNode
from orchestration.systems import mcp_stdio
from orchestration.systems.base import error_record
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.mcp_errors import is_transport, protocol_error, tool_error
from orchestration.systems.registry import SystemRegistry
from tests.systems.support import (
    IDEMPOTENCY_KEY,
    a_request,
    failure_of,
    http_server,
    is_alive,
    running,
    stdio_server,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def system() -> AsyncIterator[McpSystem]:
    """A system over stdio, in a running registry."""
    made = McpSystem(stdio_server())
    async with running(made):
        yield made


async def process_id(system: McpSystem) -> int:
    """Return the id of the server's process."""
    return int(str(await system.execute(a_request("process_id"))))


async def test_answers_become_values(system: McpSystem) -> None:
    """Structured content is the value, text stays text, other content is a value with its size and hash."""
    assert await system.execute(a_request("add", {"a": "3"})) == {"total": 5, "kind": "int"}
    assert await system.execute(a_request("say", {"text": '{"a": 1}'})) == '{"a": 1}'
    assert await system.execute(a_request("picture")) == {
        "text": "a picture",
        "content": [{"type": "image", "mimeType": "image/png", "size": 5, "sha256": ANY, "data": "aGVsbG8="}],
    }
    assert await system.execute(a_request("idempotency_key")) == IDEMPOTENCY_KEY


async def test_errors_of_a_tool_say_whether_repeating_can_help(system: McpSystem) -> None:
    """The tool's own failure may be retried; arguments that don't fit may not."""
    own = await failure_of(system, a_request("fail", {"message": "no luck"}))
    missing = await failure_of(system, a_request("add", {"b": 1}))

    assert (own.code, own.retryable, str(own)) == ("tool_error", True, "Error executing tool fail: no luck")
    assert not own.effect_open
    assert (missing.code, missing.retryable) == ("invalid_arguments", False)
    assert str(missing) == (
        "The arguments do not fit the tool 'add': 'a' is a required property. Expected a (integer, required), "
        "b (integer). Fix: correct the task's `arguments`."
    )


@pytest.mark.parametrize(
    ("text", "code", "retryable"),
    [
        ("MCP error -32602: Invalid arguments for tool x", "invalid_arguments", False),
        ("Input validation error: 'a' is required", "invalid_arguments", False),
        ("Unknown tool: x", "unknown_tool", False),
        ("MCP error -32602: Tool x not found", "unknown_tool", False),
        ("rate limit", "tool_error", True),
        ("", "tool_error", True),
    ],
)
def test_the_wording_of_a_tool_error_is_understood(text: str, code: str, retryable: bool) -> None:
    """Servers tell bad arguments and unknown tools only in words."""
    error = tool_error("x", text)

    assert (error.code, error.retryable) == (code, retryable)
    assert str(error) == (text or "Tool 'x' answered with an error and no text.")


@pytest.mark.parametrize(
    ("number", "message", "is_transport_error", "is_answer"),
    [
        (-32000, "Connection closed", True, False),
        (-32001, "Request 'tools/call' timed out", True, False),
        (-32603, "Server returned an error response", True, False),
        (-32600, "server answered a request with 202 Accepted", False, False),
        (-32600, "redirected to https://x/", False, True),
        (-32603, "oops", False, True),
    ],
)
def test_what_was_never_answered_is_told_from_what_was(
    number: int, message: str, is_transport_error: bool, is_answer: bool
) -> None:
    """The client gives errors of its own the look of the server's."""
    assert is_transport(number, message) is is_transport_error
    if not is_transport_error:
        assert protocol_error(number, message).effect_open is not is_answer


@pytest.mark.parametrize(
    ("number", "message", "code", "retryable"),
    [
        (-32602, "bad", "invalid_arguments", False),
        (-32602, "Unknown tool: x", "unknown_tool", False),
        (-32601, "no", "not_supported", False),
        (-32021, "needs elicitation", "not_supported", False),
        (-32603, "oops", "mcp_error", True),
    ],
)
def test_a_protocol_error_is_understood_by_its_number(
    number: int, message: str, code: str, retryable: bool
) -> None:
    """JSON-RPC errors are the server's refusals."""
    error = protocol_error(number, message)

    assert (error.code, error.retryable) == (code, retryable)
    assert str(error) == f"The server refused the call: {message} ({number})"


async def test_a_server_killed_in_the_middle_of_a_call_is_started_again_for_the_next(
    system: McpSystem,
) -> None:
    """The call fails as unavailable, which is retried; the next attempt finds a new process."""
    before = await process_id(system)

    with pytest.raises(
        SystemUnavailableError, match="System 'mcp' can't be reached: the server closed the connection"
    ):
        await system.execute(a_request("die"))
    after = await process_id(system)

    assert after != before
    assert system.generation == 2


async def test_every_call_under_way_on_a_killed_server_fails_soon(tmp_path: Path) -> None:
    """None waits for ever, and each is retried."""
    system = McpSystem(stdio_server(STARTED_FILE=str(tmp_path / "started")))
    codes: list[Any] = []

    async def attempt() -> None:
        codes.append(error_record(await failure_of(system, a_request("wait")), "mcp", 1))

    async with running(system):
        pid = await process_id(system)
        async with anyio.create_task_group() as attempts:
            for _ in range(3):
                attempts.start_soon(attempt)
            await until(
                lambda: (
                    (tmp_path / "started").exists() and (tmp_path / "started").read_text().count("\n") == 3
                )
            )

            os.kill(pid, signal.SIGKILL)

    assert [(record.code, record.retryable) for record in codes] == [("system_unavailable", True)] * 3
    assert all(record.effect_open for record in codes)


async def test_a_server_that_died_while_idle_costs_no_attempt(system: McpSystem) -> None:
    """Its end is noticed at once, so the next call starts it again without failing."""
    pid = await process_id(system)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: system._connection is None or system._connection.is_lost)

    value = await system.execute(a_request("add", {"a": 1}))

    assert value == {"total": 3, "kind": "int"}


async def test_an_http_server_that_was_restarted_is_found_again() -> None:
    """While it is away attempts fail as unavailable; then they work, without a new system."""
    with http_server() as server:
        await server.start()
        system = McpSystem(server.spec)
        async with running(system):
            await system.execute(a_request("add", {"a": 1}))

            dead = await failure_of(system, a_request("die"))
            away = await failure_of(system, a_request("add", {"a": 1}))
            server.kill()
            await server.start()
            value = await system.execute(a_request("add", {"a": 1}))

    assert (dead.code, dead.retryable, dead.effect_open) == ("system_unavailable", True, True)
    assert (away.code, away.retryable, away.effect_open) == ("system_unavailable", True, False)
    assert value == {"total": 3, "kind": "int"}


@pytest.mark.parametrize(
    ("status", "effect_open"),
    [
        (429, False),
        pytest.param(401, False, marks=pytest.mark.slow),
        pytest.param(408, True, marks=pytest.mark.slow),
        (502, True),
    ],
)
async def test_a_status_that_refuses_a_call_leaves_nothing_open(
    tmp_path: Path, status: int, effect_open: bool
) -> None:
    """4xx is said before anything is done; a gateway that gave up knows nothing of what goes on behind it."""
    wanted = tmp_path / "status"
    with http_server(STATUS_FILE=str(wanted)) as server:
        await server.start()
        system = McpSystem(server.spec)
        async with running(system):
            await system.execute(a_request("add", {"a": 1}))
            wanted.write_text(str(status))

            error = await failure_of(system, a_request("add", {"a": 1}))
            wanted.unlink()

    assert (error.code, error.retryable, error.effect_open) == ("system_unavailable", True, effect_open)


async def test_a_call_that_found_no_server_any_more_leaves_nothing_open() -> None:
    """The connection was there, and is gone when it is needed: the call was never sent."""
    with http_server() as server:
        await server.start()
        system = McpSystem(server.spec)
        async with running(system):
            await system.execute(a_request("add", {"a": 1}))
            server.kill()

            error = await failure_of(system, a_request("add", {"a": 1}))

    assert (error.code, error.effect_open) == ("system_unavailable", False)


async def test_an_answer_that_breaks_the_tools_schema_leaves_its_effect_open(system: McpSystem) -> None:
    """The tool has run; only its result can't be used."""
    error = await failure_of(system, a_request("lie"))

    assert (error.code, error.retryable, error.effect_open) == ("invalid_output", False, True)


async def test_progress_of_a_call_is_a_sign_of_life(system: McpSystem) -> None:
    """Each notification is one; the idempotency key still reaches the tool."""
    beats: list[int] = []

    value = await system.execute(a_request("report", {"times": 3}, heartbeat=lambda: beats.append(1)))

    assert value == f"done {IDEMPOTENCY_KEY}"
    await until(lambda: len(beats) == 3)


def test_the_fingerprint_follows_what_is_started_or_reached() -> None:
    """Another command, argument, folder or address is another server; secrets may change."""
    base = McpServerSpec(command="files", args=["--root", "/a"], env={"TOKEN": "one"})
    same = base.model_copy(update={"env": {"TOKEN": "two"}, "connect_timeout_seconds": 5.0})
    others = [
        base.model_copy(update={"command": "other"}),
        base.model_copy(update={"args": ["--root", "/b"]}),
        base.model_copy(update={"cwd": Path("/a")}),
        McpServerSpec(url="http://x/mcp"),
        McpServerSpec(url="http://y/mcp"),
    ]

    found = {McpSystem(spec).fingerprint("read") for spec in (base, same)}

    assert len(found) == 1
    assert len(found | {McpSystem(spec).fingerprint("read") for spec in others}) == 6
    assert McpSystem(base).fingerprint(None) in found


async def test_leaving_the_registry_ends_the_server_process() -> None:
    """No child outlives its orchestrator."""
    system = McpSystem(stdio_server())
    async with running(system):
        pid = await process_id(system)

    assert not is_alive(pid)


async def test_a_call_under_way_when_the_system_closes_fails_as_unavailable(tmp_path: Path) -> None:
    """It does not hang."""
    system = McpSystem(stdio_server(STARTED_FILE=str(tmp_path / "started")))
    found: list[Any] = []

    async def attempt() -> None:
        found.append(await failure_of(system, a_request("wait")))

    async with running(system), anyio.create_task_group() as attempts:
        attempts.start_soon(attempt)
        await until((tmp_path / "started").exists)
        await system.aclose()

    assert str(found[0]) == "System 'mcp' can't be reached: the system was closed"
    assert found[0].effect_open


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (McpServerSpec(command="no-such-program"), "there is no program 'no-such-program' on the PATH"),
        (McpServerSpec(command="ls", cwd=Path("/no/such")), "there is no folder '/no/such' to start 'ls' in"),
        (McpServerSpec(command="sh", args=["-c", "echo no token >&2; exit 3"]), "It wrote: no token"),
        (
            McpServerSpec(url="http://127.0.0.1:9/mcp"),
            "'http://127.0.0.1:9/mcp': All connection attempts failed.",
        ),
    ],
)
async def test_a_server_that_can_not_be_reached_says_why(spec: McpServerSpec, reason: str) -> None:
    """In the failure, in the health, and again after the back-off."""
    system = McpSystem(spec, "files")
    async with running(system):
        first = await failure_of(system, a_request("x"))
        second = await failure_of(system, a_request("x"))
        health = await system.check()

    assert reason in str(first)
    assert str(first).startswith("System 'files' can't be reached: ")
    assert str(second) == str(first)
    assert not first.effect_open
    assert (health.ok, reason in health.detail) == (False, True)
    assert system.generation == 3


async def test_a_server_that_does_not_answer_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time limit; the process does not stay."""
    monkeypatch.setattr(mcp_stdio, "LEAVE_SECONDS", 0.1)
    system = McpSystem(McpServerSpec(command="sleep", args=["60"], connect_timeout_seconds=0.2))
    async with running(system):
        error = await failure_of(system, a_request("x"))

    assert str(error) == "System 'mcp' can't be reached: 'sleep' did not answer within 0.2 s"


async def test_attempts_that_arrive_together_share_one_connection() -> None:
    """Also while it is being made."""
    system = McpSystem(stdio_server())
    async with running(system), anyio.create_task_group() as attempts:
        for number in range(10):
            attempts.start_soon(system.execute, a_request("add", {"a": number}))

    assert system.generation == 1


async def test_a_cancelled_wait_for_the_connection_leaves_it_to_others() -> None:
    """Who gives up does not take the server away."""
    system = McpSystem(stdio_server())
    async with running(system):
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request("add", {"a": 1}))
            await until(lambda: system.generation == 1)
            attempts.cancel_scope.cancel()

        await system.execute(a_request("add", {"a": 1}))

    assert system.generation == 1


async def test_stderr_of_a_server_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, line by line, with the system's name; never to our own stdout or stderr."""
    caplog.set_level(logging.DEBUG, "advanced_task_orchestration")
    system = McpSystem(stdio_server(), "files")
    async with running(system):
        await system.execute(a_request("add", {"a": 1}))
        await until(lambda: any("fixture server on stdio" in str(vars(record)) for record in caplog.records))

    found = [record for record in caplog.records if "fixture server on stdio" in str(vars(record))]
    assert found[0].levelno == logging.DEBUG
    assert vars(found[0])["system"] == "files"


async def test_a_system_outside_a_registry_says_how_to_use_it() -> None:
    """Its connection needs an owner."""
    with pytest.raises(RuntimeError, match="'mcp' is used outside a running SystemRegistry"):
        await McpSystem(stdio_server()).execute(a_request("add"))


async def test_environment_and_arguments_reach_the_server() -> None:
    """Declared variables come in; the rest of ours stays out."""
    os.environ["FIXTURE_SECRET"] = "x"
    try:
        async with running(McpSystem(stdio_server(DECLARED="yes"))) as system:
            declared = await system.execute(a_request("environment", {"name": "DECLARED"}))
            secret = await system.execute(a_request("environment", {"name": "FIXTURE_SECRET"}))
    finally:
        del os.environ["FIXTURE_SECRET"]

    assert (declared, secret) == ("yes", "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected exactly one of `command` .* and `url`"),
        ({"command": "x", "url": "http://x"}, "expected exactly one of `command`"),
        ({"url": "ftp://x/mcp"}, "url is 'ftp://x/mcp'; expected http"),
        ({"url": "http://x", "args": ["y"]}, "`args`, `env` and `cwd` go with `command`, not with `url`"),
        ({"command": "x", "headers": {"A": "b"}}, "`headers` go with `url`, not with `command`"),
        ({"command": "x", "shell": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, Any], message: str) -> None:
    """When it is made, not when it is used."""
    with pytest.raises(ValidationError, match=message):
        McpServerSpec(**fields)


def test_secrets_are_not_shown() -> None:
    """Neither headers nor environment are part of what is printed or logged."""
    spec = McpServerSpec(url="http://x/mcp", headers={"Authorization": "Bearer hush"})

    assert "hush" not in repr(spec)
    assert "hush" not in spec.target


def test_importing_the_system_does_not_import_mcp() -> None:
    """It costs a third of a second, which only users of an MCP server should pay."""
    import subprocess

    code = "import sys, orchestration.systems.mcp; sys.exit('mcp' in sys.modules or 'httpx2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_connections_move_to_another_caller_when_their_owner_leaves() -> None:
    """Two callers use one registry; the one that came first leaves first, and the other goes on."""
    system = McpSystem(stdio_server())
    registry = SystemRegistry({"mcp": system})
    first_is_in, first_may_leave, first_has_left = anyio.Event(), anyio.Event(), anyio.Event()

    async def first() -> None:
        async with registry:
            await (await registry.ready("mcp")).execute(a_request("add", {"a": 1}))
            first_is_in.set()
            await first_may_leave.wait()
        first_has_left.set()

    async with anyio.create_task_group() as callers:
        callers.start_soon(first)
        await first_is_in.wait()
        async with registry:
            first_may_leave.set()
            with anyio.fail_after(10):
                await first_has_left.wait()

            value = await (await registry.ready("mcp")).execute(a_request("add", {"a": 2}))
            pid = await process_id(system)

    assert value == {"total": 4, "kind": "int"}
    assert system.generation == 2
    assert not is_alive(pid)


async def test_a_task_may_name_a_tool_that_came_later(system: McpSystem) -> None:
    """A tool that is not known is looked for once more before it is refused."""
    await system.execute(a_request("add", {"a": 1}))
    connection = system._connection
    assert connection is not None
    connection.tools = {}
    system._remembered = {}

    assert await system.choose_tool(TaskNode("t", tool="say")) == "say"
