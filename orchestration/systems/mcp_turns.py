"""How many MCP servers start at once, in one event loop.

May import: anyio, stdlib.

Fifty interpreters that start at the same time are all slow, and so is everything beside them. A few at a time are not;
and a server that takes long gives its place away, so that it holds nobody up.
"""

from __future__ import annotations

import anyio
from anyio.lowlevel import RunVar

STARTING_AT_ONCE = 8

START_TURN_SECONDS = 2.0
"""After this long a server that is still starting lets the next one begin."""

_limiters: RunVar[anyio.CapacityLimiter] = RunVar("mcp_starting")


class StartTurn:
    """A place among the servers that are starting; given back once it has started, or is taking long."""

    def __init__(self) -> None:
        self._limiter = _limiter()
        self._is_held = False

    async def begin(self) -> None:
        """Wait for the place."""
        await self._limiter.acquire_on_behalf_of(self)
        self._is_held = True

    async def end_soon(self) -> None:
        """Give the place back after a while."""
        await anyio.sleep(START_TURN_SECONDS)
        self.end()

    def end(self) -> None:
        """Give the place back, if it is still held."""
        if self._is_held:
            self._is_held = False
            self._limiter.release_on_behalf_of(self)


def _limiter() -> anyio.CapacityLimiter:
    """Return the limiter of this event loop."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(STARTING_AT_ONCE)
        _limiters.set(limiter)
        return limiter
