"""One timer for all deadlines of an engine: sleeps until the soonest and says that it has come.

May import: orchestration.clock, anyio, stdlib.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from orchestration.clock import Clock


class DeadlineTimer:
    """Sleeps until the soonest deadline.

    Args:
        clock: Where time comes from.
        next_us: Returns the instant of the soonest deadline, None for never.
        due: Called when it has come; `rearm` must follow once that was dealt with.
    """

    def __init__(self, clock: Clock, next_us: Callable[[], int | None], due: Callable[[], None]) -> None:
        self._clock = clock
        self._next_us = next_us
        self._due = due
        self._armed_us = math.inf
        self._scope: anyio.CancelScope | None = None
        self._rest: anyio.Event | None = None

    async def run(self) -> None:
        """Keep time until cancelled."""
        while True:
            due_us = self._next_us()
            self._armed_us = math.inf if due_us is None else due_us
            with anyio.CancelScope() as self._scope:
                if due_us is None:
                    await anyio.sleep_forever()
                else:
                    await self._clock.sleep((due_us - self._clock.now_us()) / 1_000_000)
            self._scope = None
            if due_us is not None and self._clock.now_us() >= due_us:
                self._rest = anyio.Event()
                self._due()
                await self._rest.wait()

    def rearm(self) -> None:
        """Wake up when a deadline has come up that is earlier than the one slept for."""
        if self._rest is not None:
            self._rest.set()
            self._rest = None
        due_us = self._next_us()
        if due_us is not None and due_us < self._armed_us and self._scope is not None:
            self._scope.cancel()
