"""Runs tasks as tools of an MCP server, over stdio or Streamable HTTP.

May import: orchestration.{errors, models, ports}, orchestration.systems.{base, mcp_connection, mcp_spec}, mcp
(late), anyio, stdlib.

The server is connected when it is first needed and again after a loss, with a growing wait between attempts
that fail. A lost connection fails the calls under way as `system_unavailable`, which is retried: the server
may have done the work, so this is at-least-once, and the idempotency key in `_meta` lets a server that cares
tell repetitions.

What a failure means:

* a transport error, or the server's process gone: `system_unavailable`, retried;
* the tool's own error (`isError`): `tool_error`, retried; but `invalid_arguments`, not retried, where the
  text says that the arguments don't fit, and `unknown_tool`, not retried, where the server has no such tool;
* a protocol error (JSON-RPC): invalid parameters, unknown methods and missing capabilities are not retried;
* a result that breaks the protocol or the tool's own schema: `invalid_output`, not retried.

A result's structured content is the output. Without it, text alone is the output as a string; other content
is told by kind, type and size in `{"text": …, "content": […]}`.
"""

from __future__ import annotations

import re
from typing import Any

import anyio
import anyio.abc
from pydantic import ValidationError

from orchestration.errors import AttemptFailedError, InvalidArgumentError, SystemUnavailableError
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, ToolInfo
from orchestration.systems.base import bounded, pick_tool
from orchestration.systems.mcp_connection import McpConnection, list_tools
from orchestration.systems.mcp_spec import McpServerSpec

__all__ = ["IDEMPOTENCY_META_KEY", "McpServerSpec", "McpSystem"]

IDEMPOTENCY_META_KEY = "advanced-orchestration/idempotency-key"
"""Where a call's `_meta` holds the idempotency key."""

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0
"""Longest wait before connecting again; attempts that arrive meanwhile wait for it too."""

CLOSE_SECONDS = 8.0
"""Longest wait for a server process to end; the client itself kills it after about 6 s."""

_CONNECTION_CLOSED, _REQUEST_TIMEOUT = -32000, -32001
_PARSE_ERROR, _INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_MISSING_CAPABILITY, _UNSUPPORTED_VERSION = -32021, -32022
_HTTP_TROUBLE = ("Session terminated", "Server returned an error response", "Unexpected content type")
"""How the client words answers that came from HTTP, not from the server's own protocol."""

_BAD_ARGUMENTS = re.compile(
    r"MCP error -32602|validation errors? for|input validation error|invalid arguments", re.IGNORECASE
)
_UNKNOWN_TOOL = re.compile(r"\bunknown tool\b|\btool \S+ not found\b", re.IGNORECASE)


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

    async def check(self) -> Health:
        """Connect, unless connected, and ask for the tools."""
        try:
            connection = await self._connected()
            with connection.call() as client:
                connection.tools = await list_tools(client)
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
        with connection.call() as client:
            meta: Any = {IDEMPOTENCY_META_KEY: request.idempotency_key}
            result = await self._calling(
                connection, client.call_tool(tool, dict(request.arguments), meta=meta)
            )
        if result.is_error:
            raise _tool_error(tool, _joined_text(result.content))
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
            with connection.call() as client:
                connection.tools = await self._calling(connection, list_tools(client))
            return pick_tool(self.name, tool, task_id, connection.tools)

    async def _calling(self, connection: McpConnection, answer: Any) -> Any:
        """Await a request to the server, with its failures told apart.

        Raises:
            AttemptFailedError: The server refused it, or its answer can't be used.
            SystemUnavailableError: The connection is lost.
        """
        from mcp import MCPError

        try:
            return await answer
        except MCPError as exc:
            if _is_transport(exc.code, exc.message):
                raise self._lost(connection, exc) from exc
            raise _protocol_error(exc.code, exc.message) from exc
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            raise self._lost(connection, exc) from exc
        except (ValidationError, RuntimeError) as exc:
            text = f"The server's answer can't be used: {bounded(str(exc), 500)}"
            raise AttemptFailedError(text, "invalid_output", retryable=False) from exc

    def _lost(self, connection: McpConnection, exc: Exception) -> SystemUnavailableError:
        """Give a connection up after a transport error; other calls on it may still end well (over HTTP they do)."""
        if self._connection is connection:
            self._connection = None
        connection.retire()
        if connection.is_lost:
            return connection.unavailable
        reason = f"the connection to {self._spec.target!r} was lost: {str(exc) or type(exc).__name__}"
        return SystemUnavailableError(self.name, reason)


def _is_transport(code: int, message: str) -> bool:
    """Whether an error came from the way to the server rather than from the server."""
    return code in (_CONNECTION_CLOSED, _REQUEST_TIMEOUT, _PARSE_ERROR) or message.startswith(_HTTP_TROUBLE)


def _protocol_error(code: int, message: str) -> AttemptFailedError:
    """Return the failure for a JSON-RPC error of the server."""
    text = f"The server refused the call: {bounded(message)} ({code})"
    if code == _INVALID_PARAMS:
        kind = "unknown_tool" if _UNKNOWN_TOOL.search(message) else "invalid_arguments"
        return AttemptFailedError(text, kind, retryable=False)
    if code in (_MISSING_CAPABILITY, _UNSUPPORTED_VERSION, _INVALID_REQUEST, _UNKNOWN_METHOD):
        return AttemptFailedError(text, "not_supported", retryable=False)
    return AttemptFailedError(text, "mcp_error")


def _tool_error(tool: str, text: str) -> AttemptFailedError:
    """Return the failure for a result that says it is an error."""
    message = bounded(text) or f"Tool {tool!r} answered with an error and no text."
    if _UNKNOWN_TOOL.search(text):
        return AttemptFailedError(message, "unknown_tool", retryable=False)
    if _BAD_ARGUMENTS.search(text):
        return AttemptFailedError(message, "invalid_arguments", retryable=False)
    return AttemptFailedError(message, "tool_error")


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
