"""The heartbeats that the storage in memory keeps.

May import: orchestration.{ports, execution.storage_rules}, stdlib.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestration.execution.storage_rules import ABANDONED_AFTER_US
from orchestration.ports import DriverIdentity, DriverView


class MemoryDrivers(dict[str, DriverView]):
    """Drivers by their instances, as others see them."""

    def beat(self, holder: DriverIdentity, lease_seconds: float, now_us: int) -> None:
        """Count a heartbeat."""
        known = self.get(holder.instance)
        self[holder.instance] = DriverView(
            identity=holder,
            beats=1 if known is None else known.beats + 1,
            lease_seconds=lease_seconds,
            beat_at_us=now_us,
        )

    def retire(self, holder: DriverIdentity) -> None:
        """Forget a driver."""
        self.pop(holder.instance, None)

    def view_of(self, holder: DriverIdentity | None) -> DriverView | None:
        """Return the heartbeats of who holds a lease; None when nobody does, or that one never gave any."""
        return None if holder is None else self.get(holder.instance)

    def holds(self, holder: DriverIdentity | None, now_us: int) -> bool:
        """Whether somebody holds the lease of what has ended; see `ABANDONED_AFTER_US`."""
        view = self.view_of(holder)
        is_silent = view is not None and view.beat_at_us <= now_us - ABANDONED_AFTER_US
        return holder is not None and not is_silent

    def forget_silent(self, named: Collection[str], now_us: int) -> None:
        """Remove those that have been silent for long and whose instance nothing names."""
        silent = [
            instance
            for instance, view in self.items()
            if instance not in named and view.beat_at_us <= now_us - ABANDONED_AFTER_US
        ]
        for instance in silent:
            del self[instance]
