"""The only place that reads time: wall time for records, monotonic time for measuring waits.

May import: anyio, stdlib.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's monotonic clock stands still while the machine sleeps; macOS's does not."""


class Clock(Protocol):
    """Where execution gets its time from."""

    def now_us(self) -> int:
        """Return the wall time in whole microseconds since the epoch; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever grow, from an arbitrary start."""
        ...

    def elapsed(self) -> float:
        """Return seconds like `monotonic`, but time in which the machine slept counts, where that can be known."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` (at once when not positive)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Return the wall time in whole microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds that only ever grow, from an arbitrary start."""
        return time.monotonic()

    def elapsed(self) -> float:
        """Return seconds that only ever grow, sleep of the machine included."""
        return time.clock_gettime(_BOOT_CLOCK)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await anyio.sleep(max(0.0, seconds))


def to_datetime(at_us: int) -> datetime:
    """Return microseconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)


def to_iso(at_us: int | None) -> str | None:
    """Return microseconds since the epoch as ISO 8601 in UTC with milliseconds and a `Z`; None stays None."""
    if at_us is None:
        return None
    return to_datetime(at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
