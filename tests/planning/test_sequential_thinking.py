"""A plan's thoughts reach a server, whatever happens to the process behind it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import anyio
import pytest

from orchestration.planning.sequential_thinking import in_process_thinking, thinking_process
from orchestration.ports import Thought

pytestmark = pytest.mark.anyio

PUBLISHED = ("npx", "-y", "@modelcontextprotocol/server-sequential-thinking@2026.8.31")

SERVER = """
import anyio, os, pathlib, sys
from mcp.server.stdio import stdio_server
from orchestration.planning.thinking_server import ThoughtHistory, make_thinking_server

folder = pathlib.Path(sys.argv[1])
dies_after = int(sys.argv[2])

class Written(ThoughtHistory):
    def take(self, thought):
        with (folder / "thoughts").open("a") as file:
            print(thought.thought, thought.revises_thought, thought.next_thought_needed, file=file)
        if len(self.thoughts) + 1 == dies_after:
            os._exit(1)
        return super().take(thought)

async def main():
    (folder / "pid").write_text(str(os.getpid()))
    server = make_thinking_server(Written())
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())

anyio.run(main)
"""


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    """A Sequential Thinking server as a process that writes down its pid and its thoughts."""
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    return (sys.executable, str(program), str(tmp_path))


def environment() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(path for path in (str(Path.cwd()), *sys.path) if path)}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_thoughts_go_to_the_process_in_order(command: tuple[str, ...], tmp_path: Path) -> None:
    """Each thought reaches the process once, with what it revises, and the last says that it is the last."""
    with anyio.fail_after(20):
        async with thinking_process((*command, "0"), env=environment()) as server:
            await server.think(Thought(number=1, text="one"), total=2, more=True)
            await server.think(Thought(number=2, text="two", revises=1), total=2, more=False)

    assert (server.kind, server.replaced_because) == ("process", None)
    assert (tmp_path / "thoughts").read_text() == "one None True\ntwo 1 False\n"


async def test_the_process_is_gone_after_an_error_of_the_plan(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """An exception comes out as it was raised, and the child is dead."""
    with anyio.fail_after(20), pytest.raises(KeyError, match="lost"):
        async with thinking_process((*command, "0"), env=environment()):
            raise KeyError("lost")

    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_the_process_is_gone_after_a_cancellation(command: tuple[str, ...], tmp_path: Path) -> None:
    """Whoever gives up on a plan leaves no process behind."""
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async with thinking_process((*command, "0"), env=environment()):
            scope.cancel()
            await anyio.sleep_forever()

    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_a_process_that_dies_mid_plan_is_replaced(command: tuple[str, ...]) -> None:
    """The server inside this process takes every thought again, and says why it stands in."""
    with anyio.fail_after(20):
        async with thinking_process((*command, "2"), env=environment()) as server:
            await server.think(Thought(number=1, text="one"), total=3, more=True)
            assert server.kind == "process"
            await server.think(Thought(number=2, text="two"), total=3, more=True)
            await server.think(Thought(number=3, text="three"), total=3, more=False)

    assert server.kind == "in-process"
    assert server.replaced_because == "it stopped answering (Connection closed)"


async def test_a_missing_program_is_replaced() -> None:
    """Where npx is not installed, the plan is made all the same."""
    async with thinking_process(("no-such-program-anywhere",)) as server:
        await server.think(Thought(number=1, text="one"), total=1, more=False)

    assert (server.kind, server.replaced_because) == (
        "in-process",
        "`no-such-program-anywhere` is not installed",
    )


async def test_a_program_that_fails_at_once_is_replaced_with_its_last_words() -> None:
    """What the program said on stderr is the reason given."""
    code = "import sys; sys.exit('first\\nE404 no such package')"

    with anyio.fail_after(20):
        async with thinking_process((sys.executable, "-c", code)) as server:
            await server.think(Thought(number=1, text="one"), total=1, more=False)

    assert server.kind == "in-process"
    assert server.replaced_because == f"`{sys.executable}` could not start it (E404 no such package)"


async def test_a_slow_start_is_not_waited_for(tmp_path: Path) -> None:
    """A server that does not start in time is given up, and its process with it."""
    code = (
        "import os, pathlib, time;"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(60)"
    )

    with anyio.fail_after(20):
        async with thinking_process((sys.executable, "-c", code), startup_timeout_seconds=0.5) as server:
            await server.think(Thought(number=1, text="one"), total=1, more=False)

    assert server.kind == "in-process"
    assert server.replaced_because == f"`{sys.executable}` did not start it within 0.5 s"
    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_a_server_without_the_tool_is_replaced() -> None:
    """Another MCP server under the configured command is noticed at the start."""
    code = "from mcp.server.mcpserver import MCPServer; MCPServer('x').run()"

    with anyio.fail_after(20):
        async with thinking_process((sys.executable, "-c", code), env=environment()) as server:
            pass

    assert server.kind == "in-process"
    assert server.replaced_because is not None
    assert "it has no tool 'sequentialthinking'" in server.replaced_because


async def test_the_server_inside_this_process_takes_thoughts() -> None:
    """The library's default needs no process."""
    async with in_process_thinking() as server:
        await server.think(
            Thought(number=1, text="one", revises=None, branch="b", branch_from=1), total=1, more=False
        )

    assert (server.kind, server.replaced_because) == ("in-process", None)


@pytest.mark.anyio
async def test_an_error_of_the_plan_passes_the_server_inside_this_process_unwrapped() -> None:
    """No exception group reaches whoever asked for the plan."""
    with pytest.raises(KeyError, match="lost"):
        async with in_process_thinking():
            raise KeyError("lost")


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
async def test_the_published_server_takes_a_plan() -> None:
    """The published server, fetched by npx, is started and takes thoughts."""
    with anyio.fail_after(100):
        async with thinking_process(PUBLISHED, startup_timeout_seconds=90) as server:
            await server.think(Thought(number=1, text="one"), total=2, more=True)
            await server.think(Thought(number=2, text="two", revises=1), total=2, more=False)

    assert (server.kind, server.replaced_because) == ("process", None)
