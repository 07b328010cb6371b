"""One connection to an MCP server, from its start to its end; never used again once it is lost.

May import: orchestration.{errors, logs, ports}, orchestration.systems.{base, mcp_call, mcp_spec}, mcp (late),
anyio, stdlib.

`run` is the owner task: it alone enters and leaves the client, whose cancel scopes allow nothing else. Calls
are made from any other task through `call`. The connection is lost when the server closes its side (a process
that died is noticed at once, also while idle), when a call runs into a transport error, or when it is told to
close. What a server process writes to stderr goes to the log at DEBUG; its last lines explain a failed start.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import anyio

from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.ports import ToolInfo
from orchestration.systems.base import bounded
from orchestration.systems.mcp_call import Call, note_request, note_response
from orchestration.systems.mcp_spec import McpServerSpec

if TYPE_CHECKING:
    from mcp import Client

MAX_TOOL_PAGES = 100
"""A server that never ends its list of tools must not hold the connection up for ever."""

STDERR_LINES = 5
"""How many last lines of a server's stderr a failed start shows."""

HTTP_TIMEOUT_SECONDS = 30.0
"""Longest wait to connect to an HTTP server, and to send to it."""

MAX_LINE_BYTES = 16 * 1024
"""A longer line on stderr is logged in pieces."""


class McpConnection:
    """A connection that is being made, stands, or is lost.

    Args:
        spec: How the server is reached.
        system: Name of the system, for errors and the log.
        generation: Number of the connection, counted from 1.
        delay_seconds: How long to wait before connecting: the back-off after failures.
    """

    def __init__(self, spec: McpServerSpec, system: str, generation: int, delay_seconds: float) -> None:
        self.generation = generation
        self.settled = anyio.Event()
        """The connection stands, or could not be made."""
        self.ended = anyio.Event()
        self.is_lost = False
        self.was_ready = False
        self.tools: dict[str, ToolInfo] = {}
        self._spec = spec
        self._system = system
        self._delay_seconds = delay_seconds
        self._client: Client | None = None
        self._closing = anyio.Event()
        self._calls = 0
        self._is_retired = False
        self._reason = "the connection was closed"
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._log = get_logger(system=system)

    @property
    def reason(self) -> str:
        """Return why the connection is lost."""
        return self._reason

    @property
    def unavailable(self) -> SystemUnavailableError:
        """Return why no call can be made; none was, so nothing is left open."""
        return SystemUnavailableError(self._system, self._reason)

    @contextlib.contextmanager
    def call(self) -> Iterator[Call]:
        """Lend the client for one call, which is followed on its way; a retired connection ends after its last one.

        Raises:
            SystemUnavailableError: The connection is lost.
        """
        if self._client is None or self.is_lost:
            raise self.unavailable
        self._calls += 1
        call = Call(self._client)
        try:
            with call.followed():
                yield call
        finally:
            self._calls -= 1
            if self._is_retired and not self._calls:
                self.lose("the connection was replaced")

    def lose(self, reason: str) -> None:
        """Use the connection no more and let the owner end it."""
        if not self.is_lost:
            self.is_lost = True
            self._reason = reason
        self._closing.set()

    def retire(self) -> None:
        """End the connection as soon as no call is under way."""
        self._is_retired = True
        if not self._calls:
            self.lose("the connection was replaced")

    async def run(self) -> None:
        """Own the connection: make it, keep it until it is lost, end it. Raises nothing but a cancellation."""
        try:
            await anyio.sleep(self._delay_seconds)
            await self._connect_and_serve()
        except Exception as exc:  # noqa: BLE001  (a server's faults are many; each is the reason given to callers)
            if not self.is_lost or not self.was_ready:
                self._reason = self._explained(exc)
            self._log.debug(
                "MCP connection failed",
                operation="MCP_CONNECTION_FAILED",
                reason=self._reason,
                generation=self.generation,
            )
        finally:
            self.is_lost = True
            self._client = None
            self.settled.set()
            self.ended.set()

    async def _connect_and_serve(self) -> None:
        from mcp import Client

        with anyio.fail_after(self._spec.connect_timeout_seconds) as limit:
            async with self._transport() as transport, Client(_Noticing(transport, self)) as client:
                self.tools = await list_tools(client)
                self._client = client
                limit.deadline = math.inf
                self.was_ready = True
                self.settled.set()
                self._log.debug(
                    "MCP server connected",
                    operation="MCP_CONNECTED",
                    generation=self.generation,
                    tools=len(self.tools),
                )
                await self._closing.wait()

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        """Yield the transport the client enters."""
        import httpx2
        from mcp.client.stdio import StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        spec = self._spec
        if spec.url is not None:
            # No limit on reading: a tool may be silent for long, and the attempt has its own time limit.
            timeout = httpx2.Timeout(HTTP_TIMEOUT_SECONDS, read=None)
            hooks: dict[str, list[Any]] = {"request": [note_request], "response": [note_response]}
            async with httpx2.AsyncClient(
                headers=dict(spec.headers), timeout=timeout, event_hooks=hooks
            ) as http_client:
                yield streamable_http_client(spec.url, http_client=http_client)
            return
        assert spec.command is not None
        cwd = spec.cwd.expanduser() if spec.cwd is not None else None
        parameters = StdioServerParameters(
            command=spec.command, args=list(spec.args), env=dict(spec.env), cwd=cwd
        )
        async with self._stderr_logged() as errlog:
            yield stdio_client(parameters, errlog=errlog)

    @contextlib.asynccontextmanager
    async def _stderr_logged(self) -> AsyncIterator[TextIO]:
        """Yield a file whose lines, also those a child process writes, go to the log."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            async with anyio.create_task_group() as task_group:
                with os.fdopen(writing, "w") as errlog:
                    task_group.start_soon(self._log_lines, reading)
                    try:
                        yield errlog
                    finally:
                        errlog.close()
                        with anyio.move_on_after(
                            0.1, shield=True
                        ):  # the last words of a server that just died
                            await self._read_out(reading)
                        task_group.cancel_scope.cancel()
        finally:
            os.close(reading)

    async def _log_lines(self, reading: int) -> None:
        while True:
            await anyio.wait_readable(reading)
            if not self._log_chunk(reading):
                return

    async def _read_out(self, reading: int) -> None:
        """Log what is left in the pipe."""
        while self._log_chunk(reading):
            await anyio.lowlevel.checkpoint()

    def _log_chunk(self, reading: int) -> bool:
        """Log what can be read now; return whether there may be more."""
        try:
            chunk = os.read(reading, MAX_LINE_BYTES)
        except BlockingIOError:
            return False
        for line in chunk.decode("utf-8", "replace").splitlines():
            if line.strip():
                self._stderr.append(line)
                self._log.debug("MCP server wrote", operation="MCP_STDERR", line=line)
        return bool(chunk)

    def _explained(self, exc: BaseException) -> str:
        """Return in a sentence why the connection could not be made or was lost."""
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        target = self._spec.target
        if isinstance(exc, FileNotFoundError):
            if self._spec.cwd is not None and not self._spec.cwd.expanduser().is_dir():
                return f"there is no folder {str(self._spec.cwd)!r} to start {target!r} in"
            return f"there is no program {target!r} on the PATH"
        if isinstance(exc, TimeoutError):
            return f"{target!r} did not answer within {self._spec.connect_timeout_seconds:g} s"
        said = f" It wrote: {' | '.join(self._stderr)}" if self._stderr else ""
        return bounded(f"{target!r}: {str(exc) or type(exc).__name__}.{said}", 600)


class _Noticing:
    """A transport that tells its connection when the server has closed its side."""

    def __init__(self, transport: Any, connection: McpConnection) -> None:
        self._transport = transport
        self._connection = connection

    async def __aenter__(self) -> tuple[Any, Any]:
        read_stream, write_stream = await self._transport.__aenter__()
        return _NoticingStream(read_stream, self._connection), write_stream

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        result: bool | None = await self._transport.__aexit__(*exc_info)
        return result


class _NoticingStream:
    """A read stream that tells its connection when it ends."""

    def __init__(self, stream: Any, connection: McpConnection) -> None:
        self._stream = stream
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> _NoticingStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        result: bool | None = await self._stream.__aexit__(*exc_info)
        return result

    def __aiter__(self) -> _NoticingStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._connection.lose("the server closed the connection")
            raise


async def list_tools(client: Client) -> dict[str, ToolInfo]:
    """Return every tool the server lists, by name."""
    found: dict[str, ToolInfo] = {}
    cursor: str | None = None
    for _ in range(MAX_TOOL_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        for tool in page.tools:
            info = ToolInfo(
                name=tool.name, description=tool.description or "", input_schema=tool.input_schema
            )
            found[tool.name] = info
        cursor = page.next_cursor
        if cursor is None:
            break
    return found
