"""When a driver has lost its leases: its process is gone, or its heartbeats have stood still for too long.

May import: orchestration.{clock, models, ports}, orchestration.execution.identity, stdlib.

Clocks of machines differ, so a heartbeat is a count, and its age is measured by whoever watches it, from when it saw
the count for the first time. Martin Kleppmann, "How to do distributed locking", 2016, says why a lease needs a fencing
token besides: the driver that was only slow learns from its next write that it was replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.clock import Clock
from orchestration.execution.identity import is_gone
from orchestration.models import OrchestrationId
from orchestration.ports import DriverIdentity, DriverView

DEFAULT_LEASE_SECONDS = 15.0
"""Of a driver that never gave a heartbeat."""

_KEPT = 100_000
"""Leases that are watched at most."""


@dataclass(frozen=True, slots=True)
class _Seen:
    beats: int
    since: float
    """When this count was seen for the first time, by the watcher's monotonic clock."""


class LeaseObserver:
    """Watches other drivers' heartbeats.

    Args:
        clock: Measures how long a count has stood still.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, OrchestrationId, int], _Seen] = {}
        """By instance, orchestration and token."""

    def is_over(
        self, holder: DriverIdentity, view: DriverView | None, orchestration_id: OrchestrationId, token: int
    ) -> bool:
        """Whether a lease may be taken over.

        True at once for a process of this host that is gone; for any other only when this very lease has been asked
        about before, at least one lease length ago, and its driver's count is still the same. An earlier lease of the
        same driver says nothing: it counts only while it drives something.
        """
        if is_gone(holder):
            return True
        beats = -1 if view is None else view.beats
        now = self._clock.monotonic()
        lease = (holder.instance, orchestration_id, token)
        seen = self._seen.get(lease)
        if seen is None or seen.beats != beats:
            if len(self._seen) >= _KEPT:
                self._seen.clear()
            self._seen[lease] = _Seen(beats, now)
            return False
        return now - seen.since >= (DEFAULT_LEASE_SECONDS if view is None else view.lease_seconds)
