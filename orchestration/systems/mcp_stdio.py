"""A server process on the other end of stdin and stdout: the transport of an MCP client.

May import: orchestration.systems.{base, guardian, marked_processes, mcp_errors, processes}, mcp (late), anyio,
pydantic, stdlib.

The client library has a transport of its own; this one is stricter about what a stranger's process may do to us:

* A message has a largest size. A longer line takes no memory: it is read past, and if it was the answer to a call, that
  call alone gets an error instead. One that never ends closes the connection.
* A line that is no message (a banner, a stray `print`) is passed over and remembered, so that a server that never
  speaks the protocol can be told by what it wrote; too many of them close the connection.
* An answer to a call that is no message after all (its data nest too deeply, say) fails that call at once, with why.
* The process and everything it starts carry a mark in their environment, and are ended with the connection, wherever
  they went. The guardian ends them where we can't (`guardian.py`).
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import anyio
import anyio.abc
from pydantic import ValidationError

from orchestration.systems.base import bounded
from orchestration.systems.guardian import guardian
from orchestration.systems.marked_processes import (
    MARK_VARIABLE,
    carries_any_part,
    end_processes,
    find_processes,
    new_mark,
)
from orchestration.systems.mcp_errors import too_large, unreadable
from orchestration.systems.processes import release, signal_group

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

CHUNK_BYTES = 64 * 1024

EDGE_BYTES = 512
"""How much of both ends of a message that is too long is kept, to find the call it answers."""

MAX_SKIPPED_BYTES = 4 * 1024 * 1024 * 1024
"""A longer message never ends: the connection is closed."""

MAX_STRAY_LINES = 10_000
"""More lines that are no messages than any banner has."""

LEAVE_SECONDS = 2.0
"""How long a server may take to end once its input is closed, as the protocol asks of it."""

TERM_SECONDS = 2.0
"""How long it may take after SIGTERM."""

REAP_SECONDS = 2.0
"""Longest wait for a killed process; only one stuck in the kernel takes it."""

POLL_SECONDS = 0.01

_ID = rb'"id"\s*:\s*(?P<id>\d+|"[^"\\]{1,100}")'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
_ANSWERS_AT_HEAD = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb'\s*,(?!\s*"method")')
_ANSWERS_AT_TAIL = re.compile(
    rb"[\]\}]\s*,\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*$"
)
"""Where the common servers write the id of the call that a message answers."""


@contextlib.asynccontextmanager
async def stdio_transport(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    errlog: TextIO,
    max_message_bytes: int,
    on_stray: Callable[[str], None],
    on_hopeless: Callable[[str], None],
) -> AsyncIterator[tuple[Any, Any]]:
    """Start a server and yield the streams its client reads and writes; ends the server, whatever happens.

    Args:
        argv: The program and its arguments.
        env: Variables besides the usual few.
        cwd: Folder it runs in.
        errlog: Where its stderr goes.
        max_message_bytes: Largest message it may send.
        on_stray: Called with each line that is no message.
        on_hopeless: Called with why nothing more will be read; the connection ends then.

    Raises:
        OSError: It could not be started.
        ValueError: An argument holds a NUL.
    """
    from mcp.client.stdio import get_default_environment

    mark = new_mark()
    with anyio.CancelScope(shield=True):  # a cancellation between fork and here would lose the child
        process = await anyio.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errlog,
            cwd=cwd,
            env={**get_default_environment(), **env, MARK_VARIABLE: mark},
            start_new_session=True,
        )
    with guardian.watching(mark, process.pid):
        try:
            async with _pumped(process, _Messages(max_message_bytes, on_stray, on_hopeless)) as streams:
                yield streams
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process, mark)


@contextlib.asynccontextmanager
async def _pumped(process: anyio.abc.Process, messages: _Messages) -> AsyncIterator[tuple[Any, Any]]:
    """Carry messages between the process and two streams; its input is closed at the end."""
    to_client: MemoryObjectSendStream[SessionMessage | Exception]
    from_server: MemoryObjectReceiveStream[SessionMessage | Exception]
    to_server: MemoryObjectSendStream[SessionMessage]
    from_client: MemoryObjectReceiveStream[SessionMessage]
    to_client, from_server = anyio.create_memory_object_stream(0)
    to_server, from_client = anyio.create_memory_object_stream(0)

    async def read() -> None:
        async with to_client:
            stdout = process.stdout
            assert stdout is not None
            with contextlib.suppress(
                anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError
            ):
                while not messages.is_hopeless:
                    for message in messages.take(await stdout.receive(CHUNK_BYTES)):
                        await to_client.send(message)

    async def write() -> None:
        async with from_client:
            stdin = process.stdin
            assert stdin is not None
            try:
                async for each in from_client:
                    text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await stdin.send(text.encode() + b"\n")
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
                await to_client.aclose()  # it may live on without reading: the client must not wait for ever

    try:
        async with anyio.create_task_group() as pumps:
            pumps.start_soon(read)
            pumps.start_soon(write)
            try:
                yield from_server, to_server
            finally:
                pumps.cancel_scope.cancel()
    finally:
        for stream in (to_client, from_server, to_server, from_client):
            stream.close()


class _Messages:
    """Cuts what a server writes into messages, none of them over the limit."""

    def __init__(
        self, max_bytes: int, on_stray: Callable[[str], None], on_hopeless: Callable[[str], None]
    ) -> None:
        self.is_hopeless = False
        """Whether what it writes will never be read again: the connection is to be closed."""
        self._max_bytes = max_bytes
        self._on_stray = on_stray
        self._on_hopeless = on_hopeless
        self._line = bytearray()
        self._skipped = 0
        """Bytes read past of a line that is too long; its head is in `_line`, its end in `_tail`."""
        self._tail = b""
        self._strays = 0

    def take(self, chunk: bytes) -> list[Any]:
        """Take what was written and return the messages that are complete now."""
        found: list[Any] = []
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            found += self._message()
        self._add(rest)
        return found

    def _add(self, part: bytes) -> None:
        if not self._skipped and len(self._line) + len(part) <= self._max_bytes:
            self._line += part
            return
        if not self._skipped:
            self._skipped = len(self._line)
            self._tail = bytes(self._line[-EDGE_BYTES:])
            del self._line[EDGE_BYTES:]
        self._skipped += len(part)
        self._tail = (self._tail + part)[-EDGE_BYTES:]
        if self._skipped > MAX_SKIPPED_BYTES:
            self._give_up(f"a message of over {self._skipped:,} bytes that does not end")

    def _message(self) -> list[Any]:
        """Return the line that has just ended as a message; none where it is none."""
        line, skipped, tail = bytes(self._line), self._skipped, self._tail
        self._line, self._skipped, self._tail = bytearray(), 0, b""
        if skipped:
            return self._instead(line, tail, skipped)
        if not line.strip():
            return []
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        try:
            return [SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))]
        except ValueError as exc:
            if (identity := _answered_by(line)) is not None:
                return [_error(identity, unreadable(_why(exc)))]
            self._stray(line[:EDGE_BYTES].decode("utf-8", "replace"))
            return []

    def _instead(self, head: bytes, tail: bytes, size: int) -> list[Any]:
        """Return the error a call gets in place of its answer; when nobody can say whose it was, give up."""
        identity = _id_at_an_edge(head, tail)
        if identity is None:
            self._give_up(f"a message of {size:,} bytes; at most {self._max_bytes:,} are allowed")
            return []
        return [_error(identity, too_large(size, self._max_bytes))]

    def _stray(self, line: str) -> None:
        self._strays += 1
        self._on_stray(bounded(line.strip(), 300))
        if self._strays > MAX_STRAY_LINES:
            self._give_up(f"{self._strays:,} lines that are no messages")

    def _give_up(self, what: str) -> None:
        if not self.is_hopeless:
            self.is_hopeless = True
            self._on_hopeless(f"the server wrote {what}")


def _answered_by(line: bytes) -> int | str | None:
    """Return the id of the call that a line answers although it is no message; None where it is something else.

    A line of a log may have an id, too: only one that says which protocol it speaks is taken for an answer.
    """
    try:
        found = json.loads(line)
    except RecursionError:
        pass  # the very line that can't be read
    except ValueError:
        return None
    else:
        if not isinstance(found, dict) or found.get("jsonrpc") != "2.0" or "method" in found:
            return None
        identity = found.get("id")
        return identity if type(identity) in (int, str) else None
    head, tail = line[:EDGE_BYTES], line[-EDGE_BYTES:]
    if not any(re.search(_VERSION, edge) for edge in (head, tail)) or b'"method"' in head:
        return None
    return _id_at_an_edge(head, tail)


def _id_at_an_edge(head: bytes, tail: bytes) -> int | str | None:
    """Return the id of the call a message answers by its beginning or its end; None where it can't be told."""
    answered = _ANSWERS_AT_HEAD.match(head) or _ANSWERS_AT_TAIL.search(tail)
    if answered is None:
        return None
    text = answered["id"].decode("utf-8", "replace")
    return int(text) if text.isdigit() else text.strip('"')


def _error(identity: int | str, message: str) -> SessionMessage:
    """Return the error a call gets in place of its answer."""
    from mcp.shared.message import SessionMessage
    from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError

    error = ErrorData(code=INTERNAL_ERROR, message=message)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=identity, error=error))


def _why(exc: ValueError) -> str:
    """Return what is wrong with a line, without the line."""
    if isinstance(exc, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, each['loc'][:4]))}: {each['msg']}" if each["loc"] else each["msg"]
            for each in exc.errors(include_input=False, include_url=False)[:2]
        )
    return str(exc)


async def _end(process: anyio.abc.Process, mark: str) -> None:
    """End the server as the protocol says (close its input, wait, ask, kill), and whatever it has started."""
    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        if process.stdin is not None:
            await process.stdin.aclose()
    async with anyio.create_task_group() as draining:
        draining.start_soon(_drain, process)  # one that is stuck writing can't read that its input is closed
        if not await _has_ended(process, LEAVE_SECONDS):
            signal_group(process.pid, signal.SIGTERM)
            await _has_ended(process, TERM_SECONDS)
        draining.cancel_scope.cancel()
    signal_group(process.pid, signal.SIGKILL)
    everywhere = carries_any_part([mark])
    if await find_processes(everywhere):
        await end_processes(everywhere, grace_seconds=0)
    await _has_ended(process, REAP_SECONDS)
    await release(process, POLL_SECONDS * 20)


async def _drain(process: anyio.abc.Process) -> None:
    with contextlib.suppress(
        anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError
    ):
        while process.stdout is not None:
            await process.stdout.receive(CHUNK_BYTES)


async def _has_ended(process: anyio.abc.Process, seconds: float) -> bool:
    """Wait until the process itself has exited; `wait()` would also wait for whoever holds its pipes."""
    with anyio.move_on_after(seconds):
        while process.returncode is None:  # noqa: ASYNC110  (nothing announces it)
            await anyio.sleep(POLL_SECONDS)
    return process.returncode is not None
