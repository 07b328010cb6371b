"""How each system does: whether to ask it at all, how much at once, how fast; and the story of all that.

May import: orchestration.{clock, models}, orchestration.engine.inputs, orchestration.systems.{breaker, health,
watched}, stdlib. The loop's thread alone may use it.

Every attempt goes through `admit` and tells its ticket how it ended. From that come

* the circuit breakers: one per system, opened by what says that the system can't be reached, and one per tool, opened
  by what says that this tool of it does not answer (`verdicts.py` tells them apart). An attempt at an open one is
  refused at once, as `circuit_open`;
* the concurrency limit of systems of other people, from the times of their answers (`limiter.py`);
* how long a system that answered "too many requests", or when it will be there again, is left alone.

Limit, rate and rest are a `Gate`, which the engine's scheduler keeps: what a system can't take now waits there and
holds no slot. A breaker is no gate: what it refuses is to go on elsewhere at once, where it can.

All of it is about this process and gone with it: another one finds out for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from orchestration.clock import Clock
from orchestration.engine.inputs import Gate
from orchestration.models import ErrorRecord
from orchestration.systems.breaker import Pass
from orchestration.systems.health import Rate, SystemHealth, SystemPolicy, Tally
from orchestration.systems.watched import Guard, Watched

__all__ = ["Rate", "Resilience", "SystemHealth", "SystemPolicy", "Tally", "Ticket"]

TIMEOUT_SHARE = 0.9
"""An attempt that was stopped after this share of its time limit or later is taken to have run out of it: the engine
counts from a little earlier."""


class Ticket:
    """One attempt that was let through. `with` it: an end that is not told is a cancellation.

    Args:
        watched: Its system.
        tool: Its tool.
        leaves: The breakers that let it through.
        clock: Measures it.
    """

    __slots__ = ("_began", "_clock", "_has_ended", "_leaves", "_tool", "_watched", "limit_seconds")

    def __init__(
        self, watched: Watched, tool: str | None, leaves: list[tuple[Guard, Pass]], clock: Clock
    ) -> None:
        self._watched = watched
        self._tool = tool
        self._leaves = leaves
        self._clock = clock
        self._began = clock.monotonic()
        self._has_ended = False
        self.limit_seconds: float | None = None
        """The attempt's time limit, once it is known: a cancellation after that long is a timeout."""

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancelled()

    def ended(self, error: ErrorRecord | None, seconds: float | None = None) -> None:
        """Tell how it ended.

        Args:
            error: Why it failed; None: it was answered.
            seconds: How long it took, if not since it was let through.
        """
        if not self._has_ended:
            self._has_ended = True
            now = self._clock.monotonic()
            began = self._began if seconds is None else now - seconds
            self._watched.end(self._tool, self._leaves, error, began, now)

    def cancelled(self) -> None:
        """Tell that it was stopped from outside, which says nothing; unless its time was over."""
        if self._has_ended:
            return
        limit, seconds = self.limit_seconds, self._clock.monotonic() - self._began
        if limit is not None and seconds >= limit * TIMEOUT_SHARE:
            message = f"no answer within its {limit:g} s"
            self.ended(ErrorRecord(code="timeout", message=message, retryable=True, effect_open=True))
            return
        self._has_ended = True
        self._watched.drop(self._leaves)


class Resilience:
    """Watches the systems of one registry.

    Args:
        clock: Where time comes from.
        declared: What is declared about systems, by name.
    """

    def __init__(self, clock: Clock, declared: Mapping[str, SystemPolicy] | None = None) -> None:
        self._clock = clock
        self._declared = dict(declared or {})
        self._watched: dict[str, Watched] = {}
        self._listeners: list[Callable[[str, Gate], None]] = []

    def watch(self, system: str, kind: str) -> None:
        """Begin to watch a system, so that what is declared about it holds before its first attempt."""
        self._of(system, kind)

    def admit(self, system: str, kind: str, tool: str | None) -> Ticket:
        """Let an attempt through.

        Raises:
            AttemptFailedError: `circuit_open`: the system, or this tool of it, does not answer; says why it is taken
                to be so and when it is tried again. Nothing was asked.
        """
        watched = self._watched.get(system) or self._of(system, kind)
        return Ticket(watched, tool, watched.begin(tool), self._clock)

    def gates(self) -> dict[str, Gate]:
        """Return what the scheduler must keep to, of the systems of which there is anything to keep to."""
        return {name: watched.gate for name, watched in self._watched.items() if watched.gate != Gate()}

    def subscribe(self, listener: Callable[[str, Gate], None]) -> Callable[[], None]:
        """Have a function called with each system whose gate changes; returns what ends that.

        It is called on the loop's thread, in the middle of an attempt's end: it must be quick and must not raise.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def story(self, system: str) -> SystemHealth:
        """Return how a system does; of one that was never asked, that all is well."""
        watched = self._watched.get(system)
        if watched is None:
            policy = self._declared.get(system, SystemPolicy())
            return SystemHealth(limit=policy.max_concurrent, rate=policy.rate)
        return watched.health()

    def tally(self, system: str, tool: str | None) -> Tally:
        """Return how the latest attempts with a tool went; of a system that needs none, all of its attempts."""
        watched = self._watched.get(system)
        return Tally() if watched is None else watched.tally(tool)

    def is_open(self, system: str, tool: str | None) -> bool:
        """Whether an attempt would be refused now."""
        watched = self._watched.get(system)
        return watched is not None and watched.is_open(tool)

    def _of(self, system: str, kind: str) -> Watched:
        watched = self._watched.get(system)
        if watched is None:
            policy = self._declared.get(system, SystemPolicy())
            watched = self._watched[system] = Watched(system, kind, policy, self._clock, self._tell)
            if watched.gate != Gate():
                self._tell(system, watched.gate)
        return watched

    def _tell(self, system: str, gate: Gate) -> None:
        for listener in list(self._listeners):
            listener(system, gate)
