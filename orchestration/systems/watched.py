"""One system as its attempts show it: its breakers, its limit, its rests, and the story of them.

May import: orchestration.{clock, errors, logs, models}, orchestration.engine.inputs, orchestration.systems.{base,
breaker, health, limiter, verdicts}, stdlib.

`resilience.py`, which has one of these per system, says what each part is for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from orchestration.clock import Clock
from orchestration.engine.inputs import Gate
from orchestration.errors import AttemptFailedError
from orchestration.logs import get_logger
from orchestration.models import ErrorRecord
from orchestration.systems.base import bounded
from orchestration.systems.breaker import BEFORE_ANY, BreakerOptions, BreakerState, CircuitBreaker, Pass
from orchestration.systems.health import Change, SystemHealth, SystemPolicy, Tally
from orchestration.systems.limiter import AdaptiveLimit
from orchestration.systems.verdicts import (
    CIRCUIT_OPEN,
    TOO_MANY_REQUESTS,
    Verdict,
    asks_for_rest,
    is_own,
    verdict_on,
)

ADAPTIVE_KINDS = frozenset({"mcp", "http", "alita", "kgot"})
"""Kinds of systems whose limit is found out: other people's. What runs here is limited by what it is."""

START_CONCURRENT = 20
"""The limit a system begins with: a connection pool's usual size. What is slower than that shows within a round."""

MOST_CONCURRENT = 200
"""The highest limit that is found out without a declared one."""

KEPT_CHANGES = 20
"""Lines of a system's story that are kept, the latest."""

KEPT_RESULTS = 100
"""Results of a system and of a tool that its success rate and mean go by, the latest."""

MAX_TOOLS = 1_000
"""Tools of one system that are told apart; further ones are counted with the system alone."""

SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 3_600.0
"""Rest after "too many requests": doubled from the shortest while nobody says how long, never beyond the longest."""

log = get_logger()


class Results:
    """The latest results of something."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: deque[float | None] = deque(maxlen=KEPT_RESULTS)
        """Seconds of each answer; None: a failure."""

    def add(self, seconds: float | None) -> None:
        """Add how long an answer took; None: a failure."""
        self._latest.append(seconds)

    def tally(self) -> Tally:
        """Return them summed up."""
        answered = [seconds for seconds in self._latest if seconds is not None]
        mean = sum(answered) / len(answered) if answered else None
        return Tally(answered=len(answered), failed=len(self._latest) - len(answered), mean_seconds=mean)


class Guard:
    """A breaker with what it guards and why it opened."""

    __slots__ = ("because", "breaker", "subject")

    def __init__(self, subject: str, options: BreakerOptions) -> None:
        self.breaker = CircuitBreaker(options)
        self.subject = subject
        self.because: str | None = None


class Watched:
    """One system, from what its attempts tell of it.

    Args:
        name: Its name.
        kind: Its kind.
        policy: What is declared about it.
        clock: Where time comes from.
        tell: Called with each change of its gate.
    """

    def __init__(
        self, name: str, kind: str, policy: SystemPolicy, clock: Clock, tell: Callable[[str, Gate], None]
    ) -> None:
        self._name = name
        self._is_own = is_own(kind)
        self._policy = policy
        self._clock = clock
        self._tell = tell
        self._guard = Guard(f"System {name!r}", policy.breaker)
        self._guards: dict[str, Guard] = {}
        """Of tools that have failed at least once."""
        self._results = Results()
        self._by_tool: dict[str, Results] = {}
        self._running = 0
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._limit = _limit_of(kind, policy)
        self._rests = 0
        """Rests in a row."""
        self._rested = -math.inf
        """When the last of them began."""
        rate = policy.rate
        self.gate = Gate(
            limit=policy.max_concurrent if self._limit is None else self._limit.limit,
            rate=None if rate is None else (rate.requests, round(rate.per_seconds * 1_000_000)),
        )

    # An attempt

    def begin(self, tool: str | None) -> list[tuple[Guard, Pass]]:
        """Let an attempt through its breakers, or raise."""
        now = self._clock.monotonic()
        guard = self._guards.get(tool) if tool is not None else None
        leaves: list[tuple[Guard, Pass]] = []
        for each in (self._guard,) if guard is None else (self._guard, guard):
            leave = each.breaker.admit(now)
            if leave is None:
                for before, given in leaves:
                    before.breaker.dropped(given)
                raise _refusal(each, each.breaker.wait_seconds(now))
            leaves.append((each, leave))
        self._running += 1
        return leaves

    def end(
        self,
        tool: str | None,
        leaves: list[tuple[Guard, Pass]],
        error: ErrorRecord | None,
        began: float,
        now: float,
    ) -> None:
        """Learn from the end of an attempt."""
        running = self._running
        self._running -= 1
        verdict = Verdict.ANSWERED if error is None else verdict_on(error, is_own=self._is_own)
        if verdict is Verdict.NEUTRAL:
            self._drop(leaves)
            return
        self._count(tool, None if error is not None else now - began)
        if error is not None and verdict is not Verdict.ANSWERED:
            self._fault(tool, leaves, error, verdict, now)
            is_overload = verdict is Verdict.TOOL_FAULT or error.effect_open
            if (
                self._limit is not None and is_overload
            ):  # who can't be reached is not asked too much, but gone
                self._limit.failed(began, now)
        else:
            self._answered(leaves, now)
            if error is None and self._limit is not None:
                self._limit.answered(tool, now - began, running)
        self._learn_rest(error, began, now)
        self._open_gate()

    def drop(self, leaves: list[tuple[Guard, Pass]]) -> None:
        """Forget an attempt that was stopped from outside."""
        self._running -= 1
        self._drop(leaves)

    def _drop(self, leaves: Iterable[tuple[Guard, Pass]]) -> None:
        for guard, leave in leaves:
            guard.breaker.dropped(leave)

    def _count(self, tool: str | None, seconds: float | None) -> None:
        self._results.add(seconds)
        if tool is None:
            return
        results = self._by_tool.get(tool)
        if results is None and len(self._by_tool) < MAX_TOOLS:
            results = self._by_tool[tool] = Results()
        if results is not None:
            results.add(seconds)

    # The breakers

    def _answered(self, leaves: list[tuple[Guard, Pass]], now: float) -> None:
        for guard, leave in leaves:
            if guard.breaker.succeeded(leave, now):
                guard.because = None
                self._note(f"{guard.subject} answers again: it is asked as before", "CIRCUIT_CLOSED")

    def _fault(
        self,
        tool: str | None,
        leaves: list[tuple[Guard, Pass]],
        error: ErrorRecord,
        verdict: Verdict,
        now: float,
    ) -> None:
        """Count a failure against the tool or the system, whichever it speaks of."""
        (system, leave), *others = leaves
        if verdict is Verdict.SYSTEM_FAULT or tool is None or leave.is_probe:
            self._failed(system, leave, error, now)
            self._drop(others)
            return
        # A tool that hangs says nothing about the others: only what reaches nobody counts against the system.
        system.breaker.dropped(leave)
        if others:
            self._failed(*others[0], error, now)
            return
        # Let through before the tool had a breaker; another attempt may have given it one meanwhile.
        guard = self._guards.get(tool)
        if guard is None:
            if len(self._guards) >= MAX_TOOLS:
                return
            guard = Guard(f"Tool {tool!r} of system {self._name!r}", self._policy.breaker)
            self._guards[tool] = guard
        self._failed(guard, BEFORE_ANY, error, now)

    def _failed(self, guard: Guard, leave: Pass, error: ErrorRecord, now: float) -> None:
        why = guard.breaker.failed(leave, now)
        if why is None:
            return
        guard.because = f"{why}, the last with {error.code}: {_in_one_line(error.message)}"
        wait = guard.breaker.wait_seconds(now)
        self._note(
            f"{guard.subject} is not asked for {_told_seconds(wait)}: {guard.because}", "CIRCUIT_OPENED"
        )

    # The gate

    def _learn_rest(self, error: ErrorRecord | None, began: float, now: float) -> None:
        """Leave a system alone for as long as it asked for, or a while that doubles.

        What was under way when the last rest began is answered "too many requests", too: that doubles nothing.
        """
        if error is None or not asks_for_rest(error):
            if error is None:
                self._rests = 0
            return
        asked = error.retry_after_seconds
        is_new = began > self._rested
        if asked is None and not is_new:
            return
        seconds = SHORTEST_REST_SECONDS * 2.0 ** min(self._rests, 20) if asked is None else asked
        seconds = max(0.0, min(seconds, LONGEST_REST_SECONDS))
        if is_new:
            self._rests += 1
            self._rested = now
        until = self._clock.now_us() + round(seconds * 1_000_000)
        before = self.gate.closed_until_us
        if before is None or until > before:
            self._set_gate(replace(self.gate, closed_until_us=until))
            why = "too many requests" if error.code in TOO_MANY_REQUESTS else "it is not available"
            whose = "it asked for that" if asked is not None else "it did not say for how long"
            self._note(
                f"System {self._name!r} gets nothing for {_told_seconds(seconds)}: {why}; {whose}",
                "RATE_LEARNED",
            )

    def _open_gate(self) -> None:
        """Bring the gate up to date: the limit as it is now, and no rest that is over."""
        gate = self.gate
        limit = gate.limit if self._limit is None else self._limit.limit
        until = gate.closed_until_us
        if until is not None and until <= self._clock.now_us():
            until = None
        if limit == gate.limit and until == gate.closed_until_us:
            return
        if limit is not None and gate.limit is not None and limit < gate.limit:
            why = "it answers more slowly, or not in time"
            self._note(f"At most {limit} at once on system {self._name!r}, after {gate.limit}: {why}", None)
        self._set_gate(replace(gate, limit=limit, closed_until_us=until))

    def _set_gate(self, gate: Gate) -> None:
        self.gate = gate
        self._tell(self._name, gate)

    # The story

    def health(self) -> SystemHealth:
        """Return how it does now."""
        now = self._clock.monotonic()
        tally = self._results.tally()
        state = self._guard.breaker.state(now)
        is_closed = state is BreakerState.CLOSED
        until = self.gate.closed_until_us
        rest = None if until is None else (until - self._clock.now_us()) / 1_000_000
        return SystemHealth(
            state=state,
            limit=self.gate.limit,
            running=self._running,
            success_rate=tally.success_rate,
            mean_seconds=tally.mean_seconds,
            opened_because=self._guard.because,
            next_probe_seconds=None if is_closed else self._guard.breaker.wait_seconds(now),
            rest_seconds=rest if rest is not None and rest > 0 else None,
            rate=self._policy.rate,
            open_tools={
                tool: guard.because
                for tool, guard in sorted(self._guards.items())
                if guard.because is not None
            },
            last_changes=tuple(self._changes),
        )

    def tally(self, tool: str | None) -> Tally:
        """Return how the latest attempts went."""
        results = self._results if tool is None else self._by_tool.get(tool)
        return Tally() if results is None else results.tally()

    def is_open(self, tool: str | None) -> bool:
        """Whether an attempt would be refused now."""
        now = self._clock.monotonic()
        guards = [self._guard, *([self._guards[tool]] if tool in self._guards else [])]
        return any(guard.breaker.wait_seconds(now) > 0 for guard in guards)

    def _note(self, told: str, operation: str | None) -> None:
        self._changes.append(Change(at_us=self._clock.now_us(), told=told))
        if operation is not None:
            log.warning(told, operation=operation, system=self._name)


def _limit_of(kind: str, policy: SystemPolicy) -> AdaptiveLimit | None:
    """Return what finds out a system's limit; None where it is as declared."""
    if kind not in ADAPTIVE_KINDS:
        return None
    return AdaptiveLimit(start=START_CONCURRENT, maximum=policy.max_concurrent or MOST_CONCURRENT)


def _refusal(guard: Guard, wait: float) -> AttemptFailedError:
    """Return the failure of an attempt that is not made."""
    when = f"in {_told_seconds(wait)}"
    return AttemptFailedError(
        f"{guard.subject} is not asked now: {guard.because}. It is tried again {when}.",
        CIRCUIT_OPEN,
        retryable=True,
        retry_after_seconds=wait,
    )


def _told_seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"


def _in_one_line(message: str) -> str:
    """Return another side's words as part of a line: short, and nothing in them that a terminal would obey."""
    plain = "".join(each if each.isprintable() else " " for each in message)
    return bounded(" ".join(plain.split()), 200).rstrip(".")
