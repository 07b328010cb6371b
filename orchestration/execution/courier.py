"""Makes the calls of a collaborator nobody waits for, one after the other, beside a session's work.

May import: orchestration.execution.collaborator, anyio, stdlib.

What waits is bounded. When the session closes, what is under way, and then what still waits, has `CLOSING_SECONDS`, but
only the first of the two where that is not enough: a collaborator that hangs holds up the end no longer than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc

from orchestration.execution.collaborator import UNHEARD, Collaborator

MAX_WAITING = 2_000
"""Calls that may wait; further ones are dropped and counted."""

CLOSING_SECONDS = 0.5
"""Longest wait for a collaborator when a session closes."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that waits for its turn."""

    path: str
    positional: tuple[Any, ...]
    named: dict[str, Any]
    is_owed: bool
    take: Callable[[object], None] | None


class Courier:
    """Carries calls to a collaborator; one for each session.

    Args:
        collaborator: Who is told.
    """

    def __init__(self, collaborator: Collaborator) -> None:
        self.collaborator = collaborator
        self._waiting: deque[_Call] = deque()
        self._called: anyio.Event | None = None
        """Set when there is something to do again."""
        self._under_way: anyio.CancelScope | None = None
        self._closes_at: float | None = None
        self._was_cut_off = False
        """Whether a call was cut off because the session closes."""

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, group: anyio.abc.TaskGroup) -> None:
        """Begin to carry, in a task group that ends it, too."""
        group.start_soon(self._work)

    def tell(
        self,
        path: str,
        *positional: Any,
        named: dict[str, Any] | None = None,
        is_owed: bool = False,
        take: Callable[[object], None] | None = None,
    ) -> None:
        """Have a method called some time soon; neither waits nor raises.

        Args:
            path: The method.
            positional: What it is always given.
            named: What it is given where its signature takes it.
            is_owed: Whether the call belongs to an earlier one: it is neither dropped for others nor left out while the
                collaborator is left alone.
            take: Takes the answer, if there is one.
        """
        if not is_owed and len(self._waiting) >= MAX_WAITING:
            self.collaborator.dropped += 1
            return
        self._waiting.append(_Call(path, positional, named or {}, is_owed, take))
        if self._called is not None:
            self._called.set()

    def hurry(self) -> None:
        """Note that the session is closing: from now on little time is left."""
        if self._closes_at is None:
            self._closes_at = anyio.current_time() + CLOSING_SECONDS
        if self._under_way is not None:
            self._under_way.deadline = min(self._under_way.deadline, self._closes_at)

    async def finish(self) -> None:
        """Make, once nothing else runs any more, the calls that still wait, as far as the time allows."""
        self.hurry()
        if not self._was_cut_off:  # the attempts that had to end first may have used the time up
            self._closes_at = anyio.current_time() + CLOSING_SECONDS
        while self._waiting and not self._is_late():
            await self._carry_out(self._waiting.popleft())
        self.collaborator.dropped += len(self._waiting)
        self._waiting.clear()
        self.collaborator.close()

    def _is_late(self) -> bool:
        return self._closes_at is not None and anyio.current_time() >= self._closes_at

    async def _work(self) -> None:
        """Make calls, one after the other, until the session closes."""
        while self._closes_at is None:
            if self._waiting:
                await self._carry_out(self._waiting.popleft())
                continue
            self._called = anyio.Event()
            await self._called.wait()

    async def _carry_out(self, call: _Call) -> None:
        """Make one call. The session's end does not cut it off in the middle, but leaves it little time."""
        with anyio.CancelScope(shield=True) as scope:
            if self._closes_at is not None:
                scope.deadline = self._closes_at
            self._under_way = scope
            answer = await self.collaborator.call(
                call.path, *call.positional, named=call.named, even_resting=call.is_owed
            )
            if call.take is not None and answer is not UNHEARD:
                try:
                    call.take(answer)
                except Exception as exc:  # noqa: BLE001  (an answer's own methods are anybody's code)
                    self.collaborator.fault(call.path, f"the answer can't be read: {type(exc).__name__}")
        self._under_way = None
        if scope.cancelled_caught:
            self._was_cut_off = True
            self.collaborator.fault(call.path, "no answer before the session had to close")
