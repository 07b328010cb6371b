"""A circuit breaker: stops asking what does not answer, and finds out by single probes when it answers again.

May import: stdlib. Pure: time is passed in, as seconds of any clock that only grows.

Closed, it lets everything through and counts. It opens after `failures_in_a_row`, or when of at least
`smallest_sample` results within `window_seconds` the share that failed reaches `failure_share`. Open, it lets nothing
through until its cool-down is over; then it is half-open: one probe at a time may go. A probe that is answered closes
it, one that fails opens it again for twice as long. What opens again soon after it closed goes on with the longer
cool-downs: something that flaps is asked ever less often.

Results of what began before the last change of state say nothing about the new state and are passed over: fifty calls
that were under way when a server died open its breaker once.

Prior art: M. Nygard, "Release It!" (2007), which has the three states; the growing cool-down is the back-off of
retries.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    """All go through."""
    OPEN = "open"
    """None does."""
    HALF_OPEN = "half_open"
    """One at a time does, to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When a breaker opens, and for how long."""

    failures_in_a_row: int = 5
    """More than the four attempts an ordinary task makes: one unlucky task does not open it alone."""
    failure_share: float = 0.5
    smallest_sample: int = 10
    """Results below which a share means nothing."""
    window_seconds: float = 60.0
    """Age at which a result is forgotten; and how long a closed breaker must hold for its cool-down to be forgotten."""
    largest_sample: int = 100
    """Results that are kept: of something fast, the latest count."""
    first_cool_down_seconds: float = 1.0
    longest_cool_down_seconds: float = 60.0
    probe_seconds: float = 60.0
    """How long one probe may keep others from trying: it may be a long task, or one that never ends."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call."""

    era: int
    """Counts the breaker's changes of state before it was given."""
    is_probe: bool = False


BEFORE_ANY = Pass(era=0)
"""Leave of a call that began before there was a breaker: it counts until that changes its state for the first time."""


class CircuitBreaker:
    """Decides which calls go through.

    Args:
        options: When it opens, and for how long.
    """

    __slots__ = (
        "_era",
        "_held",
        "_in_a_row",
        "_level",
        "_options",
        "_probe_began",
        "_results",
        "_state",
        "_until",
    )

    def __init__(self, options: BreakerOptions | None = None) -> None:
        self._options = options or BreakerOptions()
        self._state = BreakerState.CLOSED
        self._era = 0
        self._results: deque[tuple[float, bool]] = deque(maxlen=self._options.largest_sample)
        """When, and whether it failed; oldest first."""
        self._in_a_row = 0
        self._level = 0
        """How often in a row it opened."""
        self._until = 0.0
        """OPEN: end of the cool-down."""
        self._held = 0.0
        """CLOSED: since when."""
        self._probe_began: float | None = None

    def state(self, now: float) -> BreakerState:
        """Return the state; an open breaker is half-open once its cool-down is over."""
        if self._state is BreakerState.OPEN and now >= self._until:
            return BreakerState.HALF_OPEN
        return self._state

    def wait_seconds(self, now: float) -> float:
        """Return how long nothing goes through; 0 when something would now."""
        match self.state(now):
            case BreakerState.CLOSED:
                return 0.0
            case BreakerState.OPEN:
                return self._until - now
            case BreakerState.HALF_OPEN:
                if self._probe_began is None:
                    return 0.0
                # The probe may end at any time: ask again after the shortest cool-down, not only when it is given up.
                left = self._probe_began + self._options.probe_seconds - now
                return max(0.0, min(left, self._options.first_cool_down_seconds))

    def admit(self, now: float) -> Pass | None:
        """Return leave to make a call; None when none is given now."""
        if self._state is BreakerState.CLOSED:
            return Pass(self._era)
        if self.wait_seconds(now) > 0:
            return None
        if self._state is BreakerState.OPEN or self._probe_began is not None:
            self._change(BreakerState.HALF_OPEN)
        self._probe_began = now
        return Pass(self._era, is_probe=True)

    def succeeded(self, leave: Pass, now: float) -> bool:
        """Note that a call was answered; returns whether that closed the breaker."""
        if leave.era != self._era:
            return False
        if self._state is BreakerState.CLOSED:
            self._in_a_row = 0
            self._results.append((now, False))
            return False
        self._change(BreakerState.CLOSED)
        self._held = now
        return True

    def failed(self, leave: Pass, now: float) -> str | None:
        """Note that a call failed; returns why that opened the breaker, None when it did not."""
        if leave.era != self._era:
            return None
        if self._state is not BreakerState.CLOSED:
            self._open(now)
            return "the probe failed"
        self._in_a_row += 1
        self._results.append((now, True))
        reason = self._reason_to_open(now)
        if reason is not None:
            if self._level and now - self._held >= self._options.window_seconds:
                self._level = 0
            self._open(now)
        return reason

    def dropped(self, leave: Pass) -> None:
        """Note that a call ended without saying anything: another one may probe."""
        if leave.is_probe and leave.era == self._era:
            self._probe_began = None

    def _reason_to_open(self, now: float) -> str | None:
        options = self._options
        if self._in_a_row >= options.failures_in_a_row:
            return f"{self._in_a_row} failures in a row"
        while self._results and now - self._results[0][0] > options.window_seconds:
            self._results.popleft()
        count = len(self._results)
        failures = sum(failed for _, failed in self._results)
        if count >= options.smallest_sample and failures >= options.failure_share * count:
            return f"{failures} of the last {count} failed"
        return None

    def _open(self, now: float) -> None:
        options = self._options
        growth = 2.0 ** min(self._level, 30)  # beyond any cap, and far from an overflow
        self._level += 1
        self._until = now + min(options.longest_cool_down_seconds, options.first_cool_down_seconds * growth)
        self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._in_a_row = 0
        self._results.clear()
        self._probe_began = None
