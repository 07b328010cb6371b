"""Sends a plan's thoughts to a Sequential Thinking MCP server: a process per plan, or one inside this one.

May import: orchestration.{errors, logs, ports, planning.thinking_server}, anyio, mcp (late), stdlib.

Where the process can't be started, is slow to start, or dies on the way, the server inside this process takes
its place and is sent every thought again, so that one server always has the whole history; `replaced_because`
says why.

Each client is entered and left by one anyio task of its own: its scopes must not straddle those of whoever
thinks, and an error of the plan must not come back wrapped in a group.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus

from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.planning.thinking_server import TOOL_NAME, make_thinking_server
from orchestration.ports import ThinkingServer, Thought

if TYPE_CHECKING:
    from mcp import Client

OpenThinking: TypeAlias = Callable[[], AbstractAsyncContextManager[ThinkingServer]]
"""Opens a thinking server for one plan."""

DEFAULT_COMMAND = ("npx", "-y", "@modelcontextprotocol/server-sequential-thinking")

STARTUP_TIMEOUT_SECONDS = 20.0
"""A cold npm cache needs several seconds; whoever waits longer for a plan thinks it hangs."""

CALL_TIMEOUT_SECONDS = 10.0
"""A thought takes under a millisecond; a server that needs this long is stuck."""

_FOR_NPX = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS")
"""Without these npx reaches no registry behind a proxy; names that begin with `npm_config_` go along too."""

_log = get_logger()


@asynccontextmanager
async def thinking_process(
    command: Sequence[str] = DEFAULT_COMMAND,
    *,
    env: Mapping[str, str] | None = None,
    startup_timeout_seconds: float = STARTUP_TIMEOUT_SECONDS,
    call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
) -> AsyncIterator[ThinkingServer]:
    """Start a Sequential Thinking server for one plan; its process and all its children are gone afterwards.

    Args:
        command: What to start, as argv. Pin a version where plans must not change with a release.
        env: Variables for the process, beside the few it inherits.
        startup_timeout_seconds: How long the start may take before the server inside this process takes over.
        call_timeout_seconds: How long one thought may take.

    Yields:
        A server that takes thoughts whatever happens to the process.
    """
    async with _owned() as tasks:
        server = _Server(tasks, call_timeout_seconds)
        await server.start_process(command, env or {}, startup_timeout_seconds)
        yield server


@asynccontextmanager
async def in_process_thinking() -> AsyncIterator[ThinkingServer]:
    """Open a Sequential Thinking server inside this process, for one plan."""
    async with _owned() as tasks:
        server = _Server(tasks, CALL_TIMEOUT_SECONDS)
        await server.start_in_process()
        yield server


@asynccontextmanager
async def _owned() -> AsyncIterator[_Tasks]:
    """Run the tasks that own clients; hand an exception of the body on as it is."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        closing = anyio.Event()
        try:
            yield _Tasks(group, closing)
        except Exception as exc:  # noqa: BLE001  # raised again below; a task group would wrap it in a group
            failure = exc
        finally:
            closing.set()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class _Tasks:
    group: TaskGroup
    closing: anyio.Event


@dataclass(slots=True)
class _Server:
    """A `ThinkingServer` that outlives the process behind it."""

    _tasks: _Tasks
    _call_timeout_seconds: float
    kind: str = "in-process"
    replaced_because: str | None = None
    _client: Client | None = None
    _sent: list[dict[str, Any]] = field(default_factory=list)

    async def start_process(
        self, command: Sequence[str], env: Mapping[str, str], timeout_seconds: float
    ) -> None:
        with cast("TextIO", tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")) as stderr:
            try:
                with anyio.fail_after(timeout_seconds):
                    self._client = await self._tasks.group.start(self._own_process, command, env, stderr)
            except TimeoutError:
                await self._replace(f"`{command[0]}` did not start it within {timeout_seconds:g} s")
            except FileNotFoundError:
                await self._replace(f"`{command[0]}` is not installed")
            except Exception as exc:  # noqa: BLE001  # whatever keeps a foreign program from starting
                await self._replace(
                    f"`{command[0]}` could not start it ({_last_line(stderr) or _cause(exc)})"
                )
            else:
                self.kind = "process"

    async def start_in_process(self) -> None:
        self._client = await self._tasks.group.start(self._own_in_process)
        self.kind = "in-process"

    async def think(self, thought: Thought, *, total: int, more: bool) -> None:
        """Send one thought; when the process is gone, send all of them to the server that takes its place."""
        arguments = _arguments(thought, total=total, more=more)
        self._sent.append(arguments)
        try:
            await self._call(arguments)
        except SystemUnavailableError as exc:
            if self.kind != "process":
                raise
            await self._replace(exc.reason)
            for again in self._sent:
                await self._call(again)

    async def _replace(self, reason: str) -> None:
        _log.warning(
            "Sequential Thinking server replaced by the one inside this process",
            operation="THINKING_SERVER_REPLACED",
            reason=reason,
        )
        self.replaced_because = reason
        await self.start_in_process()

    async def _call(self, arguments: dict[str, Any]) -> None:
        from mcp import MCPError

        if self._client is None:
            raise SystemUnavailableError("sequential_thinking", "it was never started")
        try:
            answer = await self._client.call_tool(
                TOOL_NAME, arguments, read_timeout_seconds=self._call_timeout_seconds
            )
        except (MCPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, ValueError) as exc:
            raise SystemUnavailableError(
                "sequential_thinking", f"it stopped answering ({_cause(exc)})"
            ) from exc
        if answer.is_error:
            said = " ".join(getattr(block, "text", "") for block in answer.content)
            raise SystemUnavailableError("sequential_thinking", f"it refused a thought ({said[:200]})")

    async def _own_process(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stderr: TextIO,
        *,
        task_status: TaskStatus[Client],
    ) -> None:
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=command[0],
            args=list(command[1:]),
            env={**_inherited(), "DISABLE_THOUGHT_LOGGING": "true", **env},
        )
        await self._own(Client(stdio_client(parameters, errlog=stderr)), task_status)

    async def _own_in_process(self, *, task_status: TaskStatus[Client]) -> None:
        from mcp import Client

        await self._own(Client(make_thinking_server()), task_status)

    async def _own(self, client: Client, task_status: TaskStatus[Client]) -> None:
        """Enter a client, hand it out, and leave it when the plan is made."""
        is_ready = False
        try:
            async with client:
                tools = (await client.list_tools()).tools
                if TOOL_NAME not in [tool.name for tool in tools]:
                    raise SystemUnavailableError("sequential_thinking", f"it has no tool {TOOL_NAME!r}")
                is_ready = True
                task_status.started(client)
                await self._tasks.closing.wait()
        except Exception as exc:
            if not is_ready:
                raise
            _log.debug(
                "Sequential Thinking server did not end cleanly",
                operation="THINKING_SERVER_CLOSED",
                reason=_cause(exc),
            )


def _arguments(thought: Thought, *, total: int, more: bool) -> dict[str, Any]:
    """Return a thought as the tool's arguments."""
    arguments: dict[str, Any] = {
        "thought": thought.text,
        "thoughtNumber": thought.number,
        "totalThoughts": max(total, thought.number),
        "nextThoughtNeeded": more,
    }
    if thought.revises is not None:
        arguments |= {"isRevision": True, "revisesThought": thought.revises}
    if thought.branch is not None:
        arguments["branchId"] = thought.branch
    if thought.branch_from is not None:
        arguments["branchFromThought"] = thought.branch_from
    return arguments


def _inherited() -> dict[str, str]:
    """Return the variables npx needs beside those every MCP server gets."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _FOR_NPX or name.lower().startswith("npm_config_")
    }


def _cause(exc: BaseException) -> str:
    """Return the first plain error inside groups of errors, in one line."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    reason = exc.reason if isinstance(exc, SystemUnavailableError) else str(exc)
    return " ".join(reason.split()) or type(exc).__name__


def _last_line(stderr: TextIO) -> str:
    """Return the last line a process wrote before it failed, or an empty string."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr if line.strip()]
    return lines[-1][:300] if lines else ""
