"""Servers that misbehave: each fails in a way that says what is wrong, alone, and within bounds."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import anyio
import pytest

from orchestration.errors import AttemptTimeoutError
from orchestration.models import TaskNode
from orchestration.systems import mcp_stdio
from orchestration.systems.mcp import McpServerSpec, McpSystem
from orchestration.systems.mcp_tools import MAX_TOOLS
from orchestration.systems.registry import SystemRegistry
from tests.systems.support import a_request, failure_of, is_alive, lines_of, pids_in, running, until

pytestmark = pytest.mark.anyio

RAW_SERVER = Path(__file__).with_name("mcp_raw_server.py")
MIB = 1024 * 1024


def raw_server(mode: str = "", **limits: object) -> McpServerSpec:
    """Return how the server that misbehaves is started."""
    env = limits.pop("env", {})
    fields = {
        "command": sys.executable,
        "args": ["-I", "-S", str(RAW_SERVER), mode],
        "env": env,
        "connect_timeout_seconds": 5.0,
        **limits,
    }
    return McpServerSpec.model_validate(fields)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are given a tenth of the time to end by themselves."""
    monkeypatch.setattr(mcp_stdio, "LEAVE_SECONDS", 0.2)
    monkeypatch.setattr(mcp_stdio, "TERM_SECONDS", 0.2)


async def test_lines_that_are_no_messages_are_passed_over() -> None:
    """Many a server greets on stdout."""
    async with running(McpSystem(raw_server("banner"))) as system:
        assert await system.execute(a_request("say", {"text": "hi"})) == "hi"


async def test_a_program_that_speaks_something_else_is_told_by_what_it_wrote() -> None:
    """In the failure and in the health, after its time."""
    system = McpSystem(raw_server("garbage", connect_timeout_seconds=0.4))
    async with running(system):
        error = await failure_of(system, a_request("say"))
        health = await system.check()

    wrote = "To stdout, where only messages belong, it wrote: I am a shell, not a server"
    assert wrote in str(error)
    assert not error.effect_open
    assert (health.ok, wrote in health.detail) == (False, True)


async def test_garbage_without_end_is_cut_off(impatient: None) -> None:
    """A program that writes for ever is ended long before it fills anything."""
    spec = McpServerSpec(command="yes", args=["no message"], connect_timeout_seconds=5.0)
    system = McpSystem(spec)
    with anyio.fail_after(5):
        async with running(system):
            error = await failure_of(system, a_request("say"))

    assert error.code == "system_unavailable"
    assert "no message" in str(error)


@pytest.mark.parametrize("shape", ["head", "tail"])
async def test_an_answer_over_the_limit_fails_its_call_alone(shape: str) -> None:
    """It is read past without being kept; others on the connection go on, and it is not tried again."""
    system = McpSystem(raw_server(max_answer_bytes=MIB))
    async with running(system):
        await system.execute(a_request("say", {"text": "warm"}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        error = await failure_of(system, a_request("flood", {"size": 100 * MIB, "shape": shape}))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        after = await system.execute(a_request("say", {"text": "hi"}))

    assert (error.code, error.retryable, error.effect_open) == ("output_too_large", False, True)
    assert str(error) == (
        "The server's answer is over 1,048,576 bytes. "
        "Fix: ask for less, or raise `max_answer_bytes` of the system."
    )
    assert (after, system.generation) == ("hi", 1)
    assert grown < 30 * 1024  # KiB


async def test_a_flood_nobody_asked_for_ends_the_connection() -> None:
    """Whose answer it is can't be told, so nobody would get one."""
    system = McpSystem(raw_server(max_answer_bytes=MIB))
    async with running(system):
        error = await failure_of(system, a_request("flood", {"size": 2 * MIB, "shape": "none"}))
        after = await system.execute(a_request("say", {"text": "hi"}))

    assert (error.code, error.effect_open) == ("system_unavailable", True)
    assert "a message of 2,097,152 bytes; at most 1,048,576 are allowed" in str(error)
    assert (after, system.generation) == ("hi", 2)


@pytest.mark.parametrize("tool", ["half", "die"])
async def test_a_server_that_goes_in_the_middle_of_an_answer_leaves_its_effect_open(tool: str) -> None:
    """The call fails at once, is retried, and the next one finds a new process."""
    system = McpSystem(raw_server())
    async with running(system):
        error = await failure_of(system, a_request(tool))
        after = await system.execute(a_request("say", {"text": "hi"}))

    assert (error.code, error.retryable, error.effect_open) == ("system_unavailable", True, True)
    assert (after, system.generation) == ("hi", 2)


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(tmp_path: Path) -> None:
    """The server is told; what it answers then is nobody's, and the connection goes on."""
    cancelled = tmp_path / "cancelled"
    system = McpSystem(raw_server(timeout_seconds=0.2, env={"CANCELLED_FILE": str(cancelled)}))
    async with running(system):
        error = await failure_of(system, a_request("late"))
        await until(lambda: lines_of(cancelled))
        after = await system.execute(a_request("say", {"text": "hi"}))

    assert isinstance(error, AttemptTimeoutError)
    assert str(error) == "Tool 'late' did not answer within 0.2 s (timeout_seconds)."
    assert error.effect_open
    assert len(lines_of(cancelled)) == 1
    assert (after, system.generation) == ("hi", 1)


async def test_names_and_descriptions_are_a_strangers_data() -> None:
    """Of two tools with one name the first counts, an endless name none, a long description in part."""
    async with running(McpSystem(raw_server("odd-names"))) as system:
        tools = await system.list_tools()

    assert [tool.name for tool in tools] == ["say", "bell\x07\x1b[31m"]
    assert tools[0].description == "first"
    assert len(tools[1].description) == 8_000


@pytest.mark.slow
async def test_a_list_of_tools_is_taken_up_to_a_limit() -> None:
    """Beyond it nobody finds anything."""
    async with running(McpSystem(raw_server("many"))) as system:
        tools = await system.list_tools()

    assert len(tools) == MAX_TOOLS


async def test_a_schema_that_is_none_makes_the_server_unusable_and_says_so() -> None:
    """Its own answer breaks the protocol."""
    system = McpSystem(raw_server("bad-schema"))
    async with running(system):
        error = await failure_of(system, a_request("say", {"text": "hi"}))

    assert error.code == "system_unavailable"
    assert "inputSchema" in str(error)


async def test_a_schema_nested_too_deeply_to_be_read_makes_the_server_unusable_and_says_so() -> None:
    """At once, not after the time in which it might have answered."""
    system = McpSystem(raw_server("deep-schema", connect_timeout_seconds=60.0))
    with anyio.fail_after(10):
        async with running(system):
            error = await failure_of(system, a_request("say", {"text": "hi"}))
            health = await system.check()

    assert (error.code, error.effect_open) == ("system_unavailable", False)
    assert "the server's answer could not be read: Invalid JSON: recursion limit exceeded" in str(error)
    assert "could not be read" in health.detail


@pytest.mark.parametrize(
    ("tool", "why"), [("deep", "Invalid JSON: recursion limit exceeded"), ("no-result", "")]
)
async def test_an_answer_that_is_no_message_fails_its_call_alone(tool: str, why: str) -> None:
    """The tool has run; a line of a log with the same id is none."""
    system = McpSystem(raw_server())
    with anyio.fail_after(10):
        async with running(system):
            error = await failure_of(system, a_request(tool))
            after = await system.execute(a_request("say", {"text": "hi"}))

    assert (error.code, error.retryable, error.effect_open) == ("invalid_output", False, True)
    assert f"the server's answer could not be read: {why}" in str(error)
    assert (after, system.generation) == ("hi", 1)


async def test_a_bad_server_hinders_no_other() -> None:
    """They are asked together, and each is told by its own name."""
    systems = {
        "good": McpSystem(raw_server(), "good"),
        "dead": McpSystem(McpServerSpec(command="no-such-program"), "dead"),
        "dumb": McpSystem(raw_server("garbage", connect_timeout_seconds=0.3), "dumb"),
    }
    async with SystemRegistry(systems) as registry:
        health = await registry.check_all()
        value = await systems["good"].execute(a_request("say", {"text": "hi"}))

    assert {name: found.ok for name, found in health.items()} == {"good": True, "dead": False, "dumb": False}
    assert value == "hi"


async def test_what_a_server_says_is_told_without_its_secrets() -> None:
    """It may repeat the token it was given."""
    system = McpSystem(raw_server(env={"API_TOKEN": "hush-hush-1"}))
    async with running(system):
        error = await failure_of(system, a_request("secret"))

    assert str(error) == "could not sign in with [secret]"


async def test_a_server_that_will_not_go_is_ended_with_all_it_started(
    tmp_path: Path, impatient: None
) -> None:
    """Also a child in a session of its own that ignores SIGTERM."""
    spread = tmp_path / "spread"
    system = McpSystem(raw_server("stubborn", env={"SPREAD_FILE": str(spread)}))
    async with running(system):
        await system.execute(a_request("spread"))
        pids = pids_in(spread)
        assert all(is_alive(pid) for pid in pids)

    assert len(pids) == 2
    await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_a_tool_that_is_gone_is_refused_with_those_there_are() -> None:
    """The server is asked once more before."""
    async with running(McpSystem(raw_server("odd-names"))) as system:
        error = await failure_of(system, a_request("sya"))
        tool = await system.choose_tool(TaskNode("t", tool="say"))

    assert (error.code, tool) == ("unknown_tool", "say")
    assert "did you mean 'say'?" in str(error)
