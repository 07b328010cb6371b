"""One connection to an MCP server, from its start to its end; never used again once it is lost.

May import: orchestration.{errors, logs, ports}, orchestration.systems.{base, mcp_call, mcp_http, mcp_spec, mcp_stdio,
mcp_tools, mcp_turns}, mcp (late), anyio, pydantic, stdlib.

`run` is the owner task: it alone enters and leaves the client, whose cancel scopes allow nothing else. Calls
are made from any other task through `call`. The connection is lost when the server closes its side (a process
that died is noticed at once, also while idle), when a call runs into a transport error, or when it is told to
close, and after a while without a call. What a server process writes to stderr goes to the log at DEBUG; its last lines
explain a failed start.

Servers say that their tools have changed in two ways: with a notification (the older protocol), or on a stream that the
client must ask for (the newer one). Either makes the list stale; whoever needs it next asks for it again.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import anyio
import anyio.abc
from pydantic import ValidationError

from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.ports import ToolInfo
from orchestration.systems.base import bounded
from orchestration.systems.mcp_call import Call
from orchestration.systems.mcp_http import http_client
from orchestration.systems.mcp_spec import McpServerSpec
from orchestration.systems.mcp_stdio import stdio_transport
from orchestration.systems.mcp_tools import list_tools
from orchestration.systems.mcp_turns import StartTurn

if TYPE_CHECKING:
    from mcp import Client

STDERR_LINES = 5
"""How many last lines of a server's stderr a failed start shows."""

LISTEN_AGAIN_SECONDS = 5.0
"""Wait before listening for changes again after the stream was lost; doubled each time, up to a minute."""

MAX_LISTEN_WAIT_SECONDS = 60.0

MAX_LINE_BYTES = 16 * 1024
"""A longer line on stderr is logged in pieces."""


class McpConnection:
    """A connection that is being made, stands, or is lost.

    Args:
        spec: How the server is reached.
        system: Name of the system, for errors and the log.
        generation: Number of the connection, counted from 1.
        delay_seconds: How long to wait before connecting: the back-off after failures.
        on_change: Called when the server says that its tools have changed.
    """

    def __init__(
        self,
        spec: McpServerSpec,
        system: str,
        generation: int,
        delay_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.generation = generation
        self.settled = anyio.Event()
        """The connection stands, or could not be made."""
        self.ended = anyio.Event()
        self.is_lost = False
        self.was_ready = False
        self.tools: dict[str, ToolInfo] = {}
        self.tools_are_stale = False
        """Whether the server has said since they were listed that they have changed."""
        self.is_listening = False
        """Whether a stream stands on which the server tells of changes."""
        self._on_change = on_change
        self._used_at = 0.0
        self._spec = spec
        self._system = system
        self._delay_seconds = delay_seconds
        self._client: Client | None = None
        self._closing = anyio.Event()
        self._calls = 0
        self._is_retired = False
        self._reason = "the connection was closed"
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._strays: deque[str] = deque(maxlen=STDERR_LINES)
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
            self.touch()
            if self._is_retired and not self._calls:
                self.lose("the connection was replaced")

    def touch(self) -> None:
        """Count the time without a call from now on."""
        self._used_at = anyio.current_time()

    async def refresh(self, client: Client) -> None:
        """Ask for the tools again."""
        self.tools_are_stale = False  # before asking: what changes meanwhile makes them stale again
        try:
            self.tools = await list_tools(client, self._log)
        except BaseException:
            self.tools_are_stale = True
            raise

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

        async with anyio.create_task_group() as own:
            turn = StartTurn()
            await turn.begin()
            own.start_soon(turn.end_soon)
            try:
                with anyio.fail_after(self._spec.connect_timeout_seconds) as limit:
                    async with (
                        self._transport() as transport,
                        Client(_Noticing(transport, self), message_handler=self._noticed) as client,
                    ):
                        await self.refresh(client)
                        self._client = client
                        limit.deadline = math.inf
                        turn.end()
                        self._stands(client)
                        async with anyio.create_task_group() as listening:
                            listening.start_soon(self._listen, client)
                            await self._until_closed()
                            listening.cancel_scope.cancel()
            finally:
                turn.end()
                own.cancel_scope.cancel()

    def _stands(self, client: Client) -> None:
        """Let those who wait for the connection know that it stands."""
        self.was_ready = True
        self.touch()
        self.settled.set()
        self._log.debug(
            "MCP server connected",
            operation="MCP_CONNECTED",
            generation=self.generation,
            protocol=client.protocol_version,
            tools=len(self.tools),
        )

    async def _until_closed(self) -> None:
        """Wait until the connection is to end, which it also is when nobody has called for long."""
        while not self._closing.is_set():
            idle = anyio.current_time() - self._used_at
            if not self._calls and idle >= self._spec.idle_seconds:
                self.lose(f"it was not used for {self._spec.idle_seconds:g} s")
                return
            with anyio.move_on_after(
                self._spec.idle_seconds if self._calls else self._spec.idle_seconds - idle
            ):
                await self._closing.wait()

    async def _noticed(self, message: Any) -> None:
        """Take a notification of the server; only that its tools have changed concerns anybody."""
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            self._tools_changed()

    async def _listen(self, client: Client) -> None:
        """Hear of changes where the server tells them on a stream of their own; a lost one is asked for again."""
        from mcp import MCPError
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

        tools = client.server_capabilities.tools
        if tools is None or not tools.list_changed:
            return
        wait = LISTEN_AGAIN_SECONDS
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    self.is_listening = True
                    async for _ in changes:
                        self._tools_changed()
                return  # the server has closed it in order
            except (ListenNotSupportedError, MCPError, ValidationError):
                return  # it tells by notification, or not at all
            except (SubscriptionLost, TimeoutError, OSError):
                self.is_listening = False
                self.tools_are_stale = True  # nobody knows what was said meanwhile
            await anyio.sleep(wait)
            wait = min(wait * 2, MAX_LISTEN_WAIT_SECONDS)

    def _tools_changed(self) -> None:
        self.tools_are_stale = True
        self._on_change()

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        """Yield the transport the client enters."""
        spec = self._spec
        if spec.url is not None:
            from mcp.client.streamable_http import streamable_http_client

            async with http_client(spec) as client:
                yield streamable_http_client(
                    spec.url, http_client=client, max_sse_event_size=spec.max_answer_bytes
                )
            return
        assert spec.command is not None
        cwd = spec.cwd.expanduser() if spec.cwd is not None else None
        async with self._stderr_logged() as errlog:
            yield stdio_transport(
                [spec.command, *spec.args],
                env=spec.env,
                cwd=cwd,
                errlog=errlog,
                max_message_bytes=spec.max_answer_bytes,
                on_stray=self._stray,
                on_hopeless=self.lose,
            )

    def _stray(self, line: str) -> None:
        """Note what a server wrote to stdout that is no message."""
        line = self._spec.without_secrets(line)
        self._strays.append(line)
        self._log.debug("MCP server wrote no message", operation="MCP_STRAY_OUTPUT", line=line)

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
        for line in self._spec.without_secrets(chunk.decode("utf-8", "replace")).splitlines():
            if line.strip():
                self._stderr.append(bounded(line, 300))
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
            within = f"{target!r} did not answer within {self._spec.connect_timeout_seconds:g} s"
            return bounded(f"{within}.{self._said()}" if self._said() else within, 900)
        words = self._spec.without_secrets(str(exc) or type(exc).__name__)
        return bounded(f"{target!r}: {bounded(words, 300)}.{self._said()}", 900)

    def _said(self) -> str:
        """Return what the server wrote that helps to understand why it does not work."""
        said = f" It wrote: {' | '.join(self._stderr)}" if self._stderr else ""
        if self._strays:
            said += f" To stdout, where only messages belong, it wrote: {' | '.join(self._strays)}"
        return said


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
