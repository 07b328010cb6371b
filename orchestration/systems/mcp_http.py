"""The HTTP client through which an MCP server is reached: with its headers, its hooks, and a bound on what comes back.

May import: orchestration.systems.{mcp_call, mcp_errors, mcp_spec}, httpx2 (late), stdlib.

The MCP client bounds each event of a stream itself. A plain JSON answer it reads whole, so the body is counted here and
cut off where it is over the limit; the client then tells the call that its answer can't be read. Compressed answers are
not asked for, and refused: a few bytes of them can stand for any number.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from orchestration.systems.mcp_call import note_request, note_response
from orchestration.systems.mcp_errors import too_large
from orchestration.systems.mcp_spec import McpServerSpec

if TYPE_CHECKING:
    import httpx2

HTTP_TIMEOUT_SECONDS = 30.0
"""Longest wait to connect to an HTTP server, and to send to it."""


def http_client(spec: McpServerSpec) -> httpx2.AsyncClient:
    """Return a client for one connection, not yet open."""
    import httpx2

    # No limit on reading: a tool may be silent for long, and the attempt has its own time limit.
    timeout = httpx2.Timeout(HTTP_TIMEOUT_SECONDS, read=None)

    class Bounded(httpx2.AsyncByteStream):
        """A body that breaks off where it is over the limit, or at once where it is compressed."""

        def __init__(self, body: Any, encoding: str, limit: float) -> None:
            self._body = body
            self._encoding = encoding
            self._limit = limit

        async def __aiter__(self) -> AsyncIterator[bytes]:
            if self._encoding not in ("", "identity"):
                raise httpx2.StreamError(f"the answer is {self._encoding}-encoded, which was not asked for")
            size = 0
            chunks = aiter(self._body)
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._limit:
                        raise httpx2.StreamError(too_large(None, spec.max_answer_bytes))
                    yield chunk
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

        async def aclose(self) -> None:
            await self._body.aclose()

    async def bound(response: Any) -> None:
        is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        encoding = response.headers.get("content-encoding", "").strip().lower()
        response.stream = Bounded(response.stream, encoding, math.inf if is_stream else spec.max_answer_bytes)

    hooks: dict[str, list[Any]] = {"request": [note_request], "response": [note_response, bound]}
    headers = {"accept-encoding": "identity", **spec.headers}
    return httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks=hooks)
