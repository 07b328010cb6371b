"""One client of a Sequential Thinking server, from the server's start to its end.

May import: orchestration.{errors, logs, planning.thinking_server}, anyio, mcp (late), stdlib.

The client is entered and left by the one anyio task that runs `own`: its scopes must not straddle those of whoever
thinks. Everything else may be called from any task. The end of a process is seen where its output ends, so that
one that dies while nobody uses it is known as dead before somebody does.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

import anyio

from orchestration.errors import SystemUnavailableError
from orchestration.logs import get_logger
from orchestration.planning.thinking_server import TOOL_NAME, make_thinking_server

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

STARTUP_TIMEOUT_SECONDS = 20.0
"""A cold npm cache needs several seconds; whoever waits longer for a plan thinks it hangs."""

CALL_TIMEOUT_SECONDS = 10.0
"""A thought takes under a millisecond; a server that needs this long is stuck."""

_FOR_NPX = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS")
"""Without these npx reaches no registry behind a proxy; names that begin with `npm_config_` go along too."""

_log = get_logger()


class ThinkingClient:
    """A server with an empty history, and the client that sends it thoughts.

    Make one with `of_process` or `in_process`, start `own` in a task, and wait for `ready`.

    Args:
        connect: Makes the client, given what to call when its server is lost and where the server's words for people
            go.
        name: The program, for messages.
        startup_timeout_seconds: How long the start may take.
        call_timeout_seconds: How long one thought may take.
    """

    def __init__(
        self,
        connect: Callable[[Callable[[], None], TextIO], Client],
        name: str,
        *,
        startup_timeout_seconds: float = STARTUP_TIMEOUT_SECONDS,
        call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        self.ready = anyio.Event()
        """Set once it can be used, or can't: then `failure` says why."""
        self.ended = anyio.Event()
        """Set once the client was left and the server is gone."""
        self.failure: str | None = None
        """Why it could not be started."""
        self.is_lost = False
        """Whether the server ended on its own after it was started."""
        self.is_lent = False
        """Whether somebody uses it; while nobody does, a lost one ends by itself."""
        self.was_closed = False
        """Whether `close` was called."""
        self._connect = connect
        self._name = name
        self._startup_timeout_seconds = startup_timeout_seconds
        self._call_timeout_seconds = call_timeout_seconds
        self._closing = anyio.Event()
        self._starting = anyio.CancelScope()
        self._client: Client | None = None
        self._last_words = ""
        """The last line the server wrote for people before it failed."""

    @classmethod
    def of_process(
        cls,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        startup_timeout_seconds: float = STARTUP_TIMEOUT_SECONDS,
        call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> ThinkingClient:
        """Return a client whose server is a process of its own, spoken to over stdio."""

        def connect(lost: Callable[[], None], stderr: TextIO) -> Client:
            from mcp import Client, StdioServerParameters
            from mcp.client.stdio import stdio_client

            parameters = StdioServerParameters(
                command=command[0],
                args=list(command[1:]),
                env={**_inherited(), "DISABLE_THOUGHT_LOGGING": "true", **env},
            )
            return Client(_watched(stdio_client(parameters, errlog=stderr), lost))

        return cls(
            connect,
            command[0],
            startup_timeout_seconds=startup_timeout_seconds,
            call_timeout_seconds=call_timeout_seconds,
        )

    @classmethod
    def in_process(cls) -> ThinkingClient:
        """Return a client whose server is inside this process."""

        def connect(_lost: Callable[[], None], _stderr: TextIO) -> Client:
            from mcp import Client

            return Client(make_thinking_server())

        return cls(connect, "the server inside this process")

    async def own(self) -> None:
        """Start the server, keep the client until it is closed or lost, and end both; faults end up in `failure`."""
        with (
            self._told(),
            cast("TextIO", tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")) as stderr,
            self._starting as scope,
        ):
            scope.deadline = anyio.current_time() + self._startup_timeout_seconds
            try:
                async with self._connect(self._lose, stderr) as client:
                    tools = (await client.list_tools()).tools
                    if TOOL_NAME not in [tool.name for tool in tools]:
                        raise SystemUnavailableError("sequential_thinking", f"it has no tool {TOOL_NAME!r}")
                    scope.deadline = math.inf
                    self._client = client
                    self.ready.set()
                    await self._closing.wait()
            except Exception:
                self._last_words = _last_line(stderr)
                raise

    def close(self) -> None:
        """End the server; one that is only starting is given up at once."""
        self.was_closed = True
        self._closing.set()
        if self._client is None:
            self._starting.cancel()

    async def call(self, arguments: dict[str, Any]) -> None:
        """Send one thought, as the tool's arguments.

        Raises:
            SystemUnavailableError: The server is gone, is stuck, or refuses the thought.
        """
        from mcp import MCPError

        if self._client is None:
            raise SystemUnavailableError("sequential_thinking", "it is not running")
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

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever ends a client into what is said of it."""
        try:
            yield
        except FileNotFoundError:
            self.failure = f"`{self._name}` is not installed"
        except Exception as exc:  # noqa: BLE001  # whatever keeps a foreign program from starting, or from ending well
            if self._client is None:
                self.failure = f"`{self._name}` could not start it ({self._last_words or _cause(exc)})"
            else:
                _log.debug(
                    "Sequential Thinking server did not end cleanly",
                    operation="THINKING_SERVER_CLOSED",
                    reason=_cause(exc),
                )
        finally:
            if self._client is None and self.failure is None:
                limit = f"{self._startup_timeout_seconds:g} s"
                late = f"`{self._name}` did not start it within {limit}"
                self.failure = "it was closed before it was ready" if self.was_closed else late
            self._client = None
            self.ready.set()
            self.ended.set()

    def _lose(self) -> None:
        """Note that the server's output has ended."""
        self.is_lost = self._client is not None and not self._closing.is_set()
        if self.is_lost and not self.is_lent:
            self._closing.set()


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager[TransportStreams], lost: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Open a transport, and call `lost` when nothing comes from the other side any more."""
    async with transport as (incoming, outgoing):
        yield _Incoming(incoming, lost), outgoing


class _Incoming:
    """A stream that says when it ends."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], lost: Callable[[], None]) -> None:
        self._stream = stream
        self._lost = lost

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            self._lost()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc, traceback)


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
