"""How much each system takes: attempts at once, a declared rate, a time in which nothing starts; and fair shares.

May import: orchestration.engine.inputs, stdlib. Pure: instants come in, whole microseconds since the epoch.

A task whose system takes no more waits without a slot, so that a slow system, or one that said "later", holds nothing
up but its own tasks. Beyond that the slots are shared (a *bulkhead*): where several systems have work, one that is
slower than others gives way to them once it holds its share of the slots. Only a slower one: among equals the ranking
alone decides, and the harm of passing a higher rank by is bounded by the shorter tasks of those that go first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from orchestration.engine.inputs import Gate

__all__ = ["Gate", "Gates"]

_OPEN = Gate()
_SLOWER = 2.0
"""A system is slow whose attempts take this many times those of the quickest other one that has work."""

_NEWEST = 0.2
"""Weight of the latest duration in a system's mean."""


@dataclass(slots=True)
class _Load:
    """What one system has to do."""

    gate: Gate = _OPEN
    running: int = 0
    mean_us: float | None = None
    """How long its attempts take; None before the first has ended."""
    tokens: float = 0.0
    """Starts that the declared rate still allows."""
    counted_at_us: int = 0


@dataclass(slots=True)
class Gates:
    """The gates of all systems that ever had work; shared by the engines of one orchestrator, as the slots are."""

    loads: dict[str, _Load] = field(default_factory=dict)
    _limited: set[str] = field(default_factory=set)
    """Systems that don't take just anything; only ever asked whether there are any."""

    def _of(self, system: str) -> _Load:
        load = self.loads.get(system)
        if load is None:
            load = self.loads[system] = _Load()
        return load

    def change(self, gates: Mapping[str, Gate], now_us: int) -> None:
        """Take in what systems take from now on; the others stay as they are."""
        for system, gate in gates.items():
            load = self._of(system)
            if gate.rate != load.gate.rate and gate.rate is not None:
                load.tokens, load.counted_at_us = float(gate.rate[0]), now_us
            load.gate = _OPEN if gate == _OPEN else gate
            self._limited = {name for name, each in self.loads.items() if each.gate is not _OPEN}

    @property
    def are_open(self) -> bool:
        """Whether every system takes whatever comes."""
        return not self._limited

    def admits(self, system: str, now_us: int) -> bool:
        """Whether an attempt may start on a system."""
        load = self.loads.get(system)
        if load is None or load.gate is _OPEN:
            return True
        gate = load.gate
        if gate.limit is not None and load.running >= gate.limit:
            return False
        return self._opens_at(load, now_us) <= now_us

    def opens_at_us(self, system: str, now_us: int) -> int | None:
        """Return when a system that takes nothing now for a time takes something again; None when it is not that."""
        load = self.loads.get(system)
        if load is None or load.gate is _OPEN:
            return None
        opens_us = self._opens_at(load, now_us)
        return opens_us if opens_us > now_us else None

    def _opens_at(self, load: _Load, now_us: int) -> int:
        gate = load.gate
        opens_us = gate.closed_until_us or 0
        if gate.rate is not None:
            self._refill(load, gate.rate, now_us)
            if load.tokens < 1.0:
                count, per_us = gate.rate
                opens_us = max(opens_us, now_us + max(1, round((1.0 - load.tokens) * per_us / count)))
        return opens_us

    def _refill(self, load: _Load, rate: tuple[int, int], now_us: int) -> None:
        """Give back the starts that time allows: a token bucket."""
        count, per_us = rate
        since = max(0, now_us - load.counted_at_us)
        # A hair more than is due: a start must not wait for ever over the last bit of a fraction.
        load.tokens = min(float(count), load.tokens + since * count / per_us + 1e-9)
        load.counted_at_us = max(load.counted_at_us, now_us)

    def started(self, system: str, now_us: int) -> None:
        """Count an attempt in."""
        load = self._of(system)
        load.running += 1
        if load.gate.rate is not None:
            self._refill(load, load.gate.rate, now_us)
            load.tokens -= 1.0

    def ended(self, system: str) -> None:
        """Count an attempt out."""
        load = self._of(system)
        load.running = max(0, load.running - 1)

    def took(self, system: str, duration_us: int) -> None:
        """Learn how long an attempt took."""
        load = self._of(system)
        load.mean_us = (
            float(duration_us)
            if load.mean_us is None
            else load.mean_us + _NEWEST * (duration_us - load.mean_us)
        )

    def running_on(self, system: str) -> int:
        """Return how many attempts run on a system."""
        load = self.loads.get(system)
        return 0 if load is None else load.running

    def gives_way(self, system: str, busy: Collection[str], slots: int) -> bool:
        """Whether a system holds its share of the slots and is slower than another one that has work.

        Args:
            system: The system.
            busy: Systems with ready or running tasks, itself included.
            slots: How many slots there are.
        """
        load = self.loads.get(system)
        if load is None or len(busy) < 2 or load.running < -(-slots // len(busy)):
            return False
        others = [
            other.mean_us
            for name in busy
            if name != system and (other := self.loads.get(name)) is not None and other.mean_us is not None
        ]
        return load.mean_us is None or not others or load.mean_us > _SLOWER * min(others)
