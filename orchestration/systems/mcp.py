"""Runs tasks as tools of an MCP server, over stdio or Streamable HTTP.

May import: orchestration.{errors, models, ports}, orchestration.systems.{base, mcp_call, mcp_connection,
mcp_errors, mcp_spec}, mcp (late), anyio, stdlib.

The server is connected when it is first needed and again after a loss, with a growing wait between attempts
that fail. A lost connection fails the calls under way as `system_unavailable`, which is retried: the server
may have done the work, so this is at-least-once, and the idempotency key in `_meta` lets a server that cares
tell repetitions.

What a failure means is in `mcp_errors.py`. A connection lost during a call leaves open whether the tool ran,
unless it is known that the call never reached the server (`mcp_call.py`). Progress that a tool reports is a sign
of life of its attempt.

A result's structured content is the output. Without it, text alone is the output as a string; other content
is told by kind, type and size in `{"text": …, "content": […]}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from pydantic import ValidationError

from orchestration.errors import AttemptFailedError, InvalidArgumentError, SystemUnavailableError
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.base import bounded, pick_tool, short_hash
from orchestration.systems.mcp_call import Call
from orchestration.systems.mcp_connection import McpConnection, list_tools
from orchestration.systems.mcp_errors import (
    is_session_gone,
    is_transport,
    protocol_error,
    tool_error,
    unusable,
)
from orchestration.systems.mcp_spec import McpServerSpec

if TYPE_CHECKING:
    from mcp.shared.dispatcher import ProgressFnT

__all__ = ["IDEMPOTENCY_META_KEY", "McpServerSpec", "McpSystem"]

IDEMPOTENCY_META_KEY = "advanced-orchestration/idempotency-key"
"""Where a call's `_meta` holds the idempotency key."""

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0
"""Longest wait before connecting again; attempts that arrive meanwhile wait for it too."""

CLOSE_SECONDS = 8.0
"""Longest wait for a server process to end; the client itself kills it after about 6 s."""


class McpSystem:
    """A system made of one MCP server.

    It needs a `SystemRegistry`, which lends it the task group its connection lives in.

    Args:
        server: How the server is reached.
        name: The system's name.
    """

    kind = "mcp"

    def __init__(self, server: McpServerSpec, name: str = "mcp") -> None:
        self.name = name
        self._spec = server
        self._task_group: anyio.abc.TaskGroup | None = None
        self._connection: McpConnection | None = None
        self._generation = 0
        self._failures = 0

    @property
    def generation(self) -> int:
        """Return how many connections have been begun."""
        return self._generation

    def attach(self, task_group: anyio.abc.TaskGroup | None) -> None:
        """Take the task group that connections live in from now on; one in another group ends after its calls."""
        if task_group is self._task_group:
            return
        self._task_group = task_group
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.retire()

    async def open(self) -> None:
        """Nothing yet: the server is connected when it is first needed."""

    async def aclose(self) -> None:
        """End the connection, and with it a server process; calls under way fail as unavailable."""
        connection, self._connection = self._connection, None
        self._failures = 0
        if connection is not None:
            connection.lose("the system was closed")
            with anyio.move_on_after(CLOSE_SECONDS):
                await connection.ended.wait()

    async def list_tools(self) -> list[ToolInfo]:
        """Return the server's tools, connecting if need be.

        Raises:
            SystemUnavailableError: The server can't be reached.
        """
        return list((await self._connected()).tools.values())

    async def choose_tool(self, task: TaskNode) -> str:
        """Return the tool the task names, else the one called like the task, else the only one.

        Raises:
            InvalidArgumentError: There is none to choose; lists the tools there are.
            SystemUnavailableError: The server can't be reached.
        """
        return await self._pick(await self._connected(), task.tool, task.task_id)

    def takes_inputs(self, tool: str | None) -> bool:  # noqa: ARG002  (the port's signature)
        """Tools take only their arguments; `${…}` puts upstream values there."""
        return False

    def fingerprint(self, tool: str | None) -> str:  # noqa: ARG002  (only the server itself knows its tools)
        """Return what changes when another server is started or reached; its environment and headers don't count."""
        spec = self._spec
        cwd = str(spec.cwd) if spec.cwd is not None else None
        return short_hash([spec.command, *spec.args, cwd] if spec.url is None else [spec.url])

    async def check(self) -> Health:
        """Connect, unless connected, and ask for the tools."""
        try:
            connection = await self._connected()
            with connection.call() as call:
                connection.tools = await list_tools(call.client)
        except SystemUnavailableError as exc:
            return Health(ok=False, detail=exc.reason)
        except Exception as exc:  # noqa: BLE001  (whatever a broken server answers makes it unhealthy)
            return Health(ok=False, detail=bounded(str(exc) or type(exc).__name__, 300))
        return Health(ok=True, detail=f"{len(connection.tools)} tools at {self._spec.target}")

    async def execute(self, request: AttemptRequest) -> object:
        """Call the tool and return its output.

        Raises:
            AttemptFailedError: The tool answered with an error, or its answer can't be used.
            SystemUnavailableError: The server can't be reached, or was lost during the call.
        """
        connection = await self._connected()
        try:
            tool = await self._pick(connection, request.tool or request.task.tool, request.task.task_id)
        except InvalidArgumentError as exc:
            raise AttemptFailedError(str(exc), "unknown_tool", retryable=False) from None
        with connection.call() as call:
            meta: Any = {IDEMPOTENCY_META_KEY: request.idempotency_key}
            answer = call.client.call_tool(
                tool, dict(request.arguments), meta=meta, progress_callback=_progress(request.heartbeat)
            )
            result = await self._calling(connection, call, answer)
        if result.is_error:
            raise tool_error(tool, _joined_text(result.content))
        return _output(result)

    async def _connected(self) -> McpConnection:
        """Return a connection that stands, making one if need be.

        Raises:
            SystemUnavailableError: None could be made.
        """
        connection = self._connection
        if connection is None or connection.is_lost:
            connection = self._connect_again(connection)
        if not connection.was_ready or connection.is_lost:
            await connection.settled.wait()
            if connection.is_lost:
                raise connection.unavailable
        return connection

    def _connect_again(self, previous: McpConnection | None) -> McpConnection:
        """Begin a new connection in place of a lost one."""
        if self._task_group is None:
            raise RuntimeError(
                f"McpSystem {self.name!r} is used outside a running SystemRegistry, which owns its connection. "
                "Fix: `async with SystemRegistry({...}) as registry: …`"
            )
        self._failures = self._failures + 1 if previous is not None and not previous.was_ready else 0
        delay = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures) if self._failures else 0.0
        self._generation += 1
        connection = McpConnection(self._spec, self.name, self._generation, delay)
        self._connection = connection
        self._task_group.start_soon(connection.run, name=f"MCP server {self.name}")
        return connection

    async def _pick(self, connection: McpConnection, tool: str | None, task_id: str) -> str:
        """Choose a tool; where the known ones don't fit, the server is asked once more."""
        try:
            return pick_tool(self.name, tool, task_id, connection.tools)
        except InvalidArgumentError:
            with connection.call() as call:
                connection.tools = await self._asking(connection, call)
            return pick_tool(self.name, tool, task_id, connection.tools)

    async def _asking(self, connection: McpConnection, call: Call) -> dict[str, ToolInfo]:
        """Ask for the tools; whatever goes wrong, no tool has run."""
        try:
            tools: dict[str, ToolInfo] = await self._calling(connection, call, list_tools(call.client))
        except SystemUnavailableError as exc:
            raise SystemUnavailableError(exc.system, exc.reason) from exc
        except AttemptFailedError as exc:
            raise AttemptFailedError(exc.message, exc.code, exc.retryable) from exc
        return tools

    async def _calling(self, connection: McpConnection, call: Call, answer: Any) -> Any:
        """Await a request to the server, with its failures told apart.

        Raises:
            AttemptFailedError: The server refused it, or its answer can't be used.
            SystemUnavailableError: The connection is lost.
        """
        from mcp import MCPError

        try:
            return await answer
        except MCPError as exc:
            if is_transport(exc.code, exc.message):
                raise self._lost(connection, call, exc) from exc
            raise protocol_error(exc.code, exc.message) from exc
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            raise self._lost(connection, call, exc) from exc
        except (ValidationError, RuntimeError) as exc:
            raise unusable(str(exc)) from exc

    def _lost(self, connection: McpConnection, call: Call, exc: Exception) -> SystemUnavailableError:
        """Give a connection up after a transport error; other calls on it may still end well (over HTTP they do)."""
        if self._connection is connection:
            self._connection = None
        connection.retire()
        reason = f"the connection to {self._spec.target!r} was lost: {str(exc) or type(exc).__name__}"
        return SystemUnavailableError(
            self.name,
            connection.reason if connection.is_lost else reason,
            effect_open=not (call.did_nothing or is_session_gone(str(exc))),
        )


def _progress(heartbeat: Callable[[], None]) -> ProgressFnT:
    """Return what the client calls when the tool reports progress."""

    async def progressed(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        heartbeat()

    return progressed


def _joined_text(content: list[Any]) -> str:
    return "\n".join(block.text for block in content if block.type == "text")


def _output(result: Any) -> object:
    """Return a tool result's value."""
    if result.structured_content is not None:
        return result.structured_content
    text = _joined_text(result.content)
    others = [_summary(block) for block in result.content if block.type != "text"]
    return {"text": text, "content": others} if others else text


def _summary(block: Any) -> dict[str, Any]:
    """Return what a block of other content is, without the content itself."""
    summary: dict[str, Any] = {"type": block.type}
    resource = getattr(block, "resource", None)  # of an embedded resource
    source = block if resource is None else resource
    if (mime_type := getattr(source, "mime_type", None)) is not None:
        summary["mimeType"] = mime_type
    if (uri := getattr(source, "uri", None)) is not None:
        summary["uri"] = str(uri)
    encoded = getattr(source, "data", None) or getattr(source, "blob", None)
    if isinstance(encoded, str):
        summary["size"] = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    elif isinstance(text := getattr(source, "text", None), str):
        summary["size"] = len(text.encode())
    elif (size := getattr(source, "size", None)) is not None:
        summary["size"] = size
    return summary
