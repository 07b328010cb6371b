"""Runs tasks as tools of an MCP server, over stdio or Streamable HTTP.

May import: orchestration.{errors, models, ports}, orchestration.systems.{base, mcp_arguments, mcp_call,
mcp_connection, mcp_errors, mcp_results, mcp_spec}, mcp (late), anyio, stdlib.

The server is connected when it is first needed and again after a loss, with a growing wait between attempts
that fail. A lost connection fails the calls under way as `system_unavailable`, which is retried: the server
may have done the work, so this is at-least-once, and the idempotency key in `_meta` lets a server that cares
tell repetitions. A server nobody has called for a while is let go until it is needed again; what it said of its
tools is remembered meanwhile.

What a failure means is in `mcp_errors.py`, what an answer becomes in `mcp_results.py`. A connection lost during a call
leaves open whether the tool ran, unless it is known that the call never reached the server (`mcp_call.py`). Progress
that a tool reports is passed on, and is a sign of life of its attempt.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from pydantic import ValidationError

from orchestration.errors import (
    AttemptFailedError,
    AttemptTimeoutError,
    InvalidArgumentError,
    SystemUnavailableError,
)
from orchestration.models import TaskNode
from orchestration.ports import AttemptRequest, Health, Progress, ToolInfo
from orchestration.systems.base import bounded, pick_tool, short_hash
from orchestration.systems.mcp_arguments import refusal
from orchestration.systems.mcp_call import Call
from orchestration.systems.mcp_connection import McpConnection
from orchestration.systems.mcp_errors import (
    answer_too_large,
    is_session_gone,
    is_too_large,
    is_transport,
    protocol_error,
    tool_error,
    unusable,
)
from orchestration.systems.mcp_results import joined_text, output_of
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
"""Longest wait for a server process to end; it is killed after about 6 s."""

REMEMBERED_SECONDS = 3600.0
"""How long the tools of a server that was let go are remembered: it can't say any more that they have changed."""

MAX_PROGRESS_CHARS = 500


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
        self._turns = anyio.Semaphore(server.max_concurrent) if server.max_concurrent is not None else None
        self._remembered: Mapping[str, ToolInfo] = {}
        self._remembered_at = -math.inf
        self._tools_version = 0

    @property
    def tools_version(self) -> int:
        """Return a number that differs from the one before whenever the tools have changed, or may have.

        Cheap: an index of tools reads it to see whether it must ask for them again.
        """
        return self._tools_version

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
        """Return the server's tools as far as they are known, connecting if they are not.

        Raises:
            AttemptFailedError: It has said that they have changed, and its answer can't be used.
            SystemUnavailableError: The server can't be reached.
        """
        return list((await self._known_tools()).values())

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what the server was given and nobody else is to see."""
        return self._spec.secrets

    async def choose_tool(self, task: TaskNode) -> str:
        """Return the tool the task names, else the one called like the task, else the only one.

        Raises:
            InvalidArgumentError: There is none to choose; lists the tools there are.
            SystemUnavailableError: The server can't be reached.
        """
        with contextlib.suppress(InvalidArgumentError):
            return pick_tool(self.name, task.tool, task.task_id, await self._known_tools())
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
                await self._asking(connection, call)
        except SystemUnavailableError as exc:
            return Health(ok=False, detail=exc.reason)
        except Exception as exc:  # noqa: BLE001  (whatever a broken server answers makes it unhealthy)
            words = self._spec.without_secrets(str(exc) or type(exc).__name__)
            return Health(ok=False, detail=bounded(words, 300))
        return Health(ok=True, detail=f"{len(connection.tools)} tools at {self._spec.target}")

    async def execute(self, request: AttemptRequest) -> object:
        """Call the tool and return its output; waits for its turn where the system has a limit.

        Raises:
            AttemptFailedError: The arguments don't fit, the tool answered with an error, or its answer can't be used.
            AttemptTimeoutError: It did not answer in time.
            SystemUnavailableError: The server can't be reached, or was lost during the call.
        """
        async with self._turns or contextlib.nullcontext():
            connection = await self._connected()
            tool = await self._tool_of(connection, request)
            if (refused := refusal(tool, connection.tools[tool].input_schema, request.arguments)) is not None:
                raise refused
            with connection.call() as call:
                result = await self._in_time(self._called(connection, call, tool, request), tool)
        if result.is_error:
            raise tool_error(tool, self._spec.without_secrets(joined_text(result.content)))
        return output_of(result)

    async def _tool_of(self, connection: McpConnection, request: AttemptRequest) -> str:
        try:
            return await self._pick(connection, request.tool or request.task.tool, request.task.task_id)
        except InvalidArgumentError as exc:
            raise AttemptFailedError(str(exc), "unknown_tool", retryable=False) from None

    async def _called(self, connection: McpConnection, call: Call, tool: str, request: AttemptRequest) -> Any:
        meta: Any = {IDEMPOTENCY_META_KEY: request.idempotency_key}
        answer = call.client.call_tool(
            tool, dict(request.arguments), meta=meta, progress_callback=_progress(request)
        )
        return await self._calling(connection, call, answer)

    async def _in_time(self, answer: Any, tool: str) -> Any:
        """Await a call for as long as it may take; one that is given up is cancelled at the server, too.

        Raises:
            AttemptTimeoutError: It took longer.
        """
        limit = self._spec.timeout_seconds
        with anyio.move_on_after(limit):
            return await answer
        raise AttemptTimeoutError(f"Tool {tool!r} did not answer within {limit:g} s (timeout_seconds).")

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
            self._remember(connection)
        connection.touch()
        return connection

    async def _known_tools(self) -> Mapping[str, ToolInfo]:
        """Return the tools as they are known; the server is asked only where they are not, or have changed."""
        connection = self._connection
        is_let_go = connection is None or connection.is_lost
        if is_let_go and anyio.current_time() - self._remembered_at < REMEMBERED_SECONDS:
            return self._remembered
        connection = await self._connected()
        if connection.tools_are_stale:
            with connection.call() as call:
                await self._asking(connection, call)
        return connection.tools

    def _remember(self, connection: McpConnection) -> None:
        """Keep what the server says of its tools."""
        if connection.tools != self._remembered:
            self._tools_version += 1
        self._remembered = connection.tools
        self._remembered_at = anyio.current_time()

    def _changed(self) -> None:
        self._tools_version += 1

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
        connection = McpConnection(self._spec, self.name, self._generation, delay, self._changed)
        self._connection = connection
        self._task_group.start_soon(connection.run, name=f"MCP server {self.name}")
        return connection

    async def _pick(self, connection: McpConnection, tool: str | None, task_id: str) -> str:
        """Choose a tool; where the known ones don't fit, or have changed, the server is asked once more."""
        if not connection.tools_are_stale:
            with contextlib.suppress(InvalidArgumentError):
                return pick_tool(self.name, tool, task_id, connection.tools)
        with connection.call() as call:
            await self._asking(connection, call)
        return pick_tool(self.name, tool, task_id, connection.tools)

    async def _asking(self, connection: McpConnection, call: Call) -> None:
        """Ask for the tools; whatever goes wrong, no tool has run."""
        limit = self._spec.connect_timeout_seconds
        try:
            with anyio.fail_after(limit):
                await self._calling(connection, call, connection.refresh(call.client))
        except TimeoutError:
            reason = f"{self._spec.target!r} did not list its tools within {limit:g} s"
            raise SystemUnavailableError(self.name, reason) from None
        except SystemUnavailableError as exc:
            raise SystemUnavailableError(exc.system, exc.reason) from exc
        except AttemptFailedError as exc:
            raise AttemptFailedError(exc.message, exc.code, exc.retryable) from exc
        self._remember(connection)

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
            if is_too_large(exc.message):
                raise answer_too_large(self._spec.max_answer_bytes) from exc
            if is_transport(exc.code, exc.message):
                raise self._lost(connection, call, exc) from exc
            raise protocol_error(exc.code, self._spec.without_secrets(exc.message)) from exc
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            raise self._lost(connection, call, exc) from exc
        except (ValidationError, RuntimeError) as exc:
            raise unusable(self._spec.without_secrets(str(exc))) from exc

    def _lost(self, connection: McpConnection, call: Call, exc: Exception) -> SystemUnavailableError:
        """Give a connection up after a transport error; other calls on it may still end well (over HTTP they do)."""
        if self._connection is connection:
            self._connection = None
        connection.retire()
        words = self._spec.without_secrets(str(exc) or type(exc).__name__)
        reason = f"the connection to {self._spec.target!r} was lost: {bounded(words, 300)}"
        return SystemUnavailableError(
            self.name,
            connection.reason if connection.is_lost else reason,
            effect_open=not (call.did_nothing or is_session_gone(str(exc))),
        )


def _progress(request: AttemptRequest) -> ProgressFnT:
    """Return what the client calls when the tool reports progress."""

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        request.heartbeat()
        said = Progress(
            done=progress if math.isfinite(progress) else None,
            total=total if total is not None and math.isfinite(total) else None,
            message=bounded(message or "", MAX_PROGRESS_CHARS),
        )
        request.progress(said)

    return progressed
