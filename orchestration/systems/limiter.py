"""Finds out how many attempts a system does well with at once, from how long its answers take.

May import: stdlib. Pure: time is passed in, as seconds of any clock that only grows.

As long as answers take as long as usual, more may be asked at once; when they take longer, work is queueing over
there and fewer are. One step per round of answers:

    gradient = usual time / time now, between 0.5 and 1; answers up to `tolerance` times as slow as usual count as usual
    limit    = limit · (1 − smoothing) + (gradient · limit + √limit) · smoothing

√limit is the queue that is allowed to build up: without one nothing could ever be learned about a higher limit. A
system that is not asked to capacity is not given more. What is usual is a slow average per tool, for the tools of one
system differ by orders of magnitude; it follows a system that becomes faster for good at once.

Failures that say that a system is overloaded or gone (a timeout, a lost connection) halve the limit, once per round:
what was under way at the last halving does not halve it again, as in TCP.

Prior art: Netflix concurrency-limits, `Gradient2Limit` (https://github.com/Netflix/concurrency-limits, described in
"Performance Under Load", 2018), which takes the idea from TCP Vegas (Brakmo and Peterson, 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERANCE = 1.5
"""How much slower than usual is still usual: work differs from call to call."""

SMOOTHING = 0.5
"""How much of a step is taken."""

USUAL_SAMPLES = 1_000
"""Answers, one at a time, after which what was usual before has faded. Of answers that came while more was running,
each counts for less: they tell how a loaded system answers, and a lasting overload must not become the usual thing."""

WARM_UP_SAMPLES = 10
"""Answers whose plain mean is usual to begin with."""

SMALLEST_ROUND = 5
"""Answers without which a step would follow chance."""

QUICK_FALL = 0.5
"""Share of the usual time below which a whole round means that the system has become faster for good."""

MAX_TOOLS = 500
"""Tools whose usual time is kept; those beyond share one."""


@dataclass(slots=True)
class _Usual:
    """How long answers of one tool usually take."""

    seconds: float = 0.0
    count: int = 0

    def learn(self, seconds: float, running: int) -> None:
        """Take one more answer into account."""
        self.count += 1
        slow = 2 / USUAL_SAMPLES / max(1, running)
        weight = 1 / self.count if self.count <= WARM_UP_SAMPLES else slow
        self.seconds += (seconds - self.seconds) * weight


class AdaptiveLimit:
    """How many attempts may run at once on one system.

    Args:
        start: The limit to begin with.
        maximum: The limit is never higher; at least 1.
    """

    def __init__(self, *, start: int, maximum: int) -> None:
        self._maximum = float(max(1, maximum))
        self._limit = min(float(max(1, start)), self._maximum)
        self._usual: dict[str | None, _Usual] = {}
        self._ratios = 0.0
        self._count = 0
        self._most_running = 0
        self._halved_at = -math.inf

    @property
    def limit(self) -> int:
        """Return how many attempts may run at once, 1 or more."""
        return int(self._limit)

    def answered(self, tool: str | None, seconds: float, running: int) -> None:
        """Learn from an answer.

        Args:
            tool: The tool that answered.
            seconds: How long it took.
            running: How many attempts ran on the system when it came, itself included.
        """
        seconds = max(seconds, 1e-6)
        key = tool if tool in self._usual or len(self._usual) < MAX_TOOLS else None
        usual = self._usual.setdefault(key, _Usual())
        usual.learn(seconds, running)
        self._ratios += seconds / usual.seconds
        self._count += 1
        self._most_running = max(self._most_running, running)
        if self._count >= max(SMALLEST_ROUND, self.limit):
            self._step()

    def failed(self, began: float, now: float) -> None:
        """Learn from a failure that says that the system could not cope.

        Args:
            began: When the attempt began.
            now: When it failed.
        """
        if began > self._halved_at:
            self._halved_at = now
            self._limit = max(1.0, self._limit / 2)
            self._forget_round()

    def _step(self) -> None:
        ratio = self._ratios / self._count
        if ratio < QUICK_FALL:
            for usual in self._usual.values():
                usual.seconds *= 0.9
        if self._most_running >= self._limit / 2 or ratio > TOLERANCE:
            gradient = max(0.5, min(1.0, TOLERANCE / ratio))
            target = gradient * self._limit + math.sqrt(self._limit)
            step = self._limit + (target - self._limit) * SMOOTHING
            self._limit = max(1.0, min(self._maximum, step))
        self._forget_round()

    def _forget_round(self) -> None:
        self._ratios, self._count, self._most_running = 0.0, 0, 0
