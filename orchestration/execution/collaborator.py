"""One of the caller's own objects that is told and asked beside the work: whatever it does, no task notices.

May import: orchestration.{clock, logs}, orchestration.systems.{base, calls, controller, threads}, anyio, stdlib.

Its methods are found by name when they are called: any may be missing, plain or async. Plain ones run on daemon
threads, for they may block. A call has a time limit; what it raises, or that it takes longer, is counted and the first
such fault of a method is logged. After `FAULTS_BEFORE_REST` in a row the object is left alone for a while that doubles:
something that is broken must not cost its time limit again and again.

Async methods run on the event loop, where their connections live. One that blocks the loop, or will not be cancelled,
can't be kept from doing so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel

from orchestration.clock import Clock, SystemClock
from orchestration.logs import get_logger
from orchestration.systems.base import bounded, words_of
from orchestration.systems.calls import call_user
from orchestration.systems.controller import accepted
from orchestration.systems.threads import DaemonThreads

log = get_logger()

TELL_SECONDS = 2.0
"""Longest wait for one call nobody waits for."""

FAULTS_BEFORE_REST = 5
"""Faults in a row after which a collaborator is left alone."""

FIRST_REST_SECONDS = 30.0
LONGEST_REST_SECONDS = 600.0

THREADS = 8
"""Blocking calls of one collaborator at once."""

MAX_TOLD_CHARS = 300
"""Longest text of a collaborator that is kept or logged."""

MAX_TOLD_ITEMS = 50
"""Most entries of one list or object of a collaborator that are kept."""

MAX_TOLD_NUMBER = 2**63
"""Largest whole number of a collaborator that is kept: text of a longer one is refused by JSON readers."""

MAX_TOLD_DEPTH = 4
"""How deep the lists and objects of a collaborator that are kept may lie inside each other."""


class Unheard:
    """In place of an answer: the method is missing, the collaborator is left alone, or the call went wrong."""


UNHEARD = Unheard()


class Collaborator:
    """Calls methods of an object by name; nothing these do is raised, but for the cancellation of the caller.

    Args:
        role: What the object is called in logs and in the metrics.
        target: The object.
        clock: Where time comes from.
    """

    def __init__(self, role: str, target: object, clock: Clock | None = None) -> None:
        self.role = role
        self.calls = 0
        """Calls that were answered."""
        self.faults = 0
        """Calls that raised, took too long or answered with something of a wrong type."""
        self.dropped = 0
        """Calls that were not even made: it was left alone, or too many waited already."""
        self.last_fault: str | None = None
        self._target = target
        self._clock = clock or SystemClock()
        self._in_a_row: dict[str, int] = {}
        """Faults since the last answer, by method: one that works does not make up for one that does not."""
        self._rests_until = -math.inf
        self._rest_seconds = FIRST_REST_SECONDS
        self._rested_for: str | None = None
        self._logged: set[str] = set()
        self._threads: dict[str, DaemonThreads] = {}
        self._loop: object = None
        """The event loop the threads report to."""

    @property
    def is_resting(self) -> bool:
        """Whether it is left alone because of its faults."""
        return self._clock.monotonic() < self._rests_until

    def method(self, path: str) -> Callable[..., Any] | None:
        """Return a method, as `name` or `part.name`; None where there is none, or it can't even be looked at."""
        found: Any = self._target
        try:
            for name in path.split("."):
                found = getattr(found, name, None)
            return found if callable(found) else None
        except Exception as exc:  # noqa: BLE001  (a property is anybody's code)
            self.fault(path, in_words(exc))
            return None

    async def call(
        self,
        path: str,
        *positional: Any,
        named: Mapping[str, Any] | None = None,
        seconds: float = TELL_SECONDS,
        even_resting: bool = False,
    ) -> object:
        """Return what a method answers, or `UNHEARD`.

        Args:
            path: The method, as `method` finds it.
            positional: What it is always given.
            named: What it is given where its signature takes it.
            seconds: Longest wait.
            even_resting: Whether it is called although it is being left alone.
        """
        if self.is_resting and not even_resting:
            self.dropped += 1
            return UNHEARD
        answer: object = UNHEARD
        reason = f"no answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            try:
                answer = await self.ask(path, *positional, named=named)
                reason = ""
            except Exception as exc:  # noqa: BLE001  (a collaborator's fault never fails an orchestration)
                reason = in_words(exc)
        if reason:
            self.fault(path, reason)
        elif answer is not UNHEARD:
            self.heard(path)
        return answer

    async def ask(
        self, path: str, *positional: Any, named: Mapping[str, Any] | None = None, pool: str = "calls"
    ) -> object:
        """Return what a method answers, however long that takes, or raise what it raises; nothing is counted."""
        method = self.method(path)
        if method is None:
            return UNHEARD
        call = functools.partial(method, *positional, **accepted(method, len(positional), named or {}))
        return await call_user(path, call, method, self._pool(pool))

    def heard(self, path: str) -> None:
        """Count a call that went well."""
        self.calls += 1
        self._in_a_row.pop(path, None)
        if path == self._rested_for:
            self._rested_for, self._rest_seconds = None, FIRST_REST_SECONDS

    def fault(self, path: str, reason: str) -> None:
        """Count a fault, log the first of its method, and leave the collaborator alone when there are too many."""
        self.faults += 1
        self.last_fault = f"{path}: {reason}"
        if path not in self._logged:
            self._logged.add(path)
            log.warning(
                "A collaborator did not take part; tasks go on without it",
                operation="COLLABORATOR_FAILED",
                collaborator=self.role,
                method=path,
                reason=reason,
            )
        self._in_a_row[path] = self._in_a_row.get(path, 0) + 1
        if self._in_a_row[path] >= FAULTS_BEFORE_REST and not self.is_resting:
            seconds = self._rest_seconds
            self._rest_seconds = min(LONGEST_REST_SECONDS, seconds * 2)
            self._rested_for = path
            self._rests_until = self._clock.monotonic() + seconds
            log.info(
                "A collaborator is left alone for a while",
                operation="COLLABORATOR_RESTS",
                collaborator=self.role,
                seconds=seconds,
                faults=self.faults,
            )

    def told(self) -> dict[str, Any]:
        """Return how its calls went, for the metrics."""
        return {
            "calls": self.calls,
            "faults": self.faults,
            "dropped": self.dropped,
            "last_fault": self.last_fault,
            "is_resting": self.is_resting,
        }

    def close(self) -> None:
        """Let idle threads end; a later call starts new ones."""
        for threads in self._threads.values():
            threads.close()

    def _pool(self, name: str) -> DaemonThreads:
        """Return the threads of the present event loop for one purpose: what hangs must not hold up another."""
        loop = anyio.lowlevel.current_token().native_token
        if loop is not self._loop:
            self.close()
            self._threads, self._loop = {}, loop
        if name not in self._threads:
            self._threads[name] = DaemonThreads(THREADS, self.role)
        return self._threads[name]


def member(answer: object, name: str) -> object:
    """Return an entry of a mapping or an attribute of an object; None where there is none, or it can't be read."""
    try:
        return answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
    except Exception:  # noqa: BLE001  (a property is anybody's code)
        return None


def plain(value: object, depth: int = MAX_TOLD_DEPTH) -> Any:
    """Return a bounded copy of what a collaborator answered as plain values; what is none is told by its type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_TOLD_NUMBER else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return bounded(str(value), MAX_TOLD_CHARS)
    if depth and isinstance(value, Mapping):
        entries = list(value.items())[:MAX_TOLD_ITEMS]
        return {bounded(str(key), MAX_TOLD_CHARS): plain(item, depth - 1) for key, item in entries}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value[:MAX_TOLD_ITEMS]]
    return f"<{type(value).__name__}>"


def in_words(exc: BaseException) -> str:
    """Return an exception as bounded text."""
    return bounded(f"{type(exc).__name__}: {words_of(exc)}", MAX_TOLD_CHARS)
