"""Sequential Thinking processes started ahead, so that a plan does not wait for one to start.

May import: orchestration.{clock, logs, ports}, orchestration.planning.{sequential_thinking, thinking_client}, anyio,
stdlib.

A process serves one plan, for its history is that plan's: the pool hands one out and starts the next in the
background. Inside `async with` it keeps some ready; outside, each plan starts its own, and nothing runs between plans.

- *Idle:* what nobody took for `idle_seconds` is ended. The pool then rests: the next plan waits for a process once,
  and wakes it.
- *Broken:* a process that can't be started, or ends on its own, is followed by a pause that doubles each time. Until it
  is over nothing is started, and plans get the server inside this process at once. A plan served to its end means that
  all is well.
- *End:* leaving `async with` ends every process and waits for that. Should this process be killed, the input of its
  children ends, and with it they do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from orchestration.clock import Clock, SystemClock
from orchestration.logs import get_logger
from orchestration.planning.sequential_thinking import DEFAULT_COMMAND, PlanServer, owners
from orchestration.planning.thinking_client import (
    CALL_TIMEOUT_SECONDS,
    STARTUP_TIMEOUT_SECONDS,
    ThinkingClient,
)
from orchestration.ports import ThinkingServer

IDLE_SECONDS = 900.0
"""A Node process takes some 60 MB; who has planned nothing for a quarter of an hour may wait a second."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
"""Between two tries of a command that does not work; whoever repairs it need not restart the server."""

_log = get_logger()


class ThinkingPool:
    """Opens the Sequential Thinking server of each plan: an `OpenThinking`.

    One pool belongs to one event loop.

    Args:
        command: What to start, as argv.
        env: Variables for the processes, beside the few they inherit.
        warm: Processes to keep ready inside `async with`; 0 starts each with its plan.
        idle_seconds: How long one is kept that no plan takes.
        startup_timeout_seconds: How long a start may take.
        call_timeout_seconds: How long one thought may take.
        clock: Measures idleness and pauses.
    """

    def __init__(
        self,
        command: Sequence[str] = DEFAULT_COMMAND,
        *,
        env: Mapping[str, str] | None = None,
        warm: int = 1,
        idle_seconds: float = IDLE_SECONDS,
        startup_timeout_seconds: float = STARTUP_TIMEOUT_SECONDS,
        call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._command = tuple(command)
        self._env = dict(env or {})
        self._warm = warm
        self._idle_seconds = idle_seconds
        self._startup_timeout_seconds = startup_timeout_seconds
        self._call_timeout_seconds = call_timeout_seconds
        self._clock = clock or SystemClock()
        self._group: TaskGroup | None = None
        """Runs the processes and the timers while the pool is open."""
        self._opened: AbstractAsyncContextManager[None] | None = None
        self._spares: deque[ThinkingClient] = deque()
        """Ready or starting, oldest first, and nobody's."""
        self._lent: list[ThinkingClient] = []
        self._timers: list[anyio.CancelScope] = []
        self._used_at = 0.0
        self._woken = anyio.Event()
        self._is_resting = False
        """Whether nobody has planned for so long that no process is kept."""
        self._is_retrying = False
        """Whether a timer waits for the end of the pause."""
        self._failures = 0
        """In a row."""
        self._fault = ""
        """The latest of them."""
        self._paused_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether processes are kept ready."""
        return self._group is not None

    @property
    def spares(self) -> int:
        """Processes that could be handed to a plan at once."""
        return sum(client.ready.is_set() for client in self._spares)

    async def __aenter__(self) -> Self:
        self._opened = self._open()
        await self._opened.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        opened, self._opened = self._opened, None
        return None if opened is None else await opened.__aexit__(exc_type, exc, traceback)

    def __call__(self) -> AbstractAsyncContextManager[ThinkingServer]:
        """Open the server of one plan."""
        return self._lend()

    # Lending

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[ThinkingServer]:
        async with owners() as group, PlanServer(group) as server:
            client = self._take(group)
            try:
                if client is None:
                    await server.replace(self._why_not())
                else:
                    await server.use(client)
                yield server
            finally:
                if client is not None:
                    self._take_back(client, server)

    def _take(self, group: TaskGroup) -> ThinkingClient | None:
        """Return a process that is nobody's, or start one; None while the command is given a rest."""
        self._used_at = self._clock.monotonic()
        self._is_resting = False
        self._woken.set()
        client = next((spare for spare in self._spares if spare.failure is None and not spare.is_lost), None)
        if client is not None:
            self._spares.remove(client)
        elif self._pause() <= 0:
            client = self._start(self._group or group)
        if client is not None:
            client.is_lent = True
            self._lent.append(client)
        self._refill()
        return client

    def _take_back(self, client: ThinkingClient, server: PlanServer) -> None:
        """End a plan's process, and learn from how it went."""
        self._lent.remove(client)
        if client.failure is not None or not client.ready.is_set():
            client.close()  # counted by its owner, or given up by the plan
            return
        reason = server.replaced_because or (self._ended_on_its_own() if client.is_lost else None)
        client.close()
        if reason is None:
            self._failures = 0
        else:
            self._count_failure(reason)

    # Processes

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with owners() as group:
            self._group = group
            self._used_at = self._clock.monotonic()
            self._is_resting = self._is_retrying = False
            group.start_soon(self._timed, self._rest_when_idle)
            self._refill()
            try:
                yield
            finally:
                self._group = None
                for client in (*self._spares, *self._lent):
                    client.close()
                self._spares.clear()
                for timer in self._timers:
                    timer.cancel()

    def _start(self, group: TaskGroup) -> ThinkingClient:
        client = ThinkingClient.of_process(
            self._command,
            self._env,
            startup_timeout_seconds=self._startup_timeout_seconds,
            call_timeout_seconds=self._call_timeout_seconds,
        )
        group.start_soon(self._own, client)
        return client

    async def _own(self, client: ThinkingClient) -> None:
        """Run a process to its end; one that fails while it is nobody's is followed by another, after a pause."""
        await client.own()
        if client.failure is not None and not client.was_closed:
            self._count_failure(client.failure)
        elif client.is_lost and not client.is_lent:
            self._count_failure(self._ended_on_its_own())
        if client in self._spares:
            self._spares.remove(client)
        self._refill()

    def _refill(self) -> None:
        """Start what is missing, now or when the pause is over."""
        if self._group is None or self._is_resting:
            return
        while len(self._spares) < self._warm:
            if self._pause() > 0:
                if not self._is_retrying:
                    self._group.start_soon(self._timed, self._retry)
                    self._is_retrying = True
                return
            self._spares.append(self._start(self._group))

    # Idleness and pauses

    async def _rest_when_idle(self) -> None:
        """End the processes that no plan took for long; none is started before the next plan."""
        while True:
            left = self._used_at + self._idle_seconds - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
                continue
            self._is_resting = True
            self._woken = anyio.Event()
            while self._spares:
                self._spares.popleft().close()
            _log.debug("Sequential Thinking servers ended, unused", operation="THINKING_SERVER_IDLE")
            await self._woken.wait()

    async def _retry(self) -> None:
        try:
            await self._clock.sleep(self._pause())
        finally:
            self._is_retrying = False
        self._refill()

    async def _timed(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Run something that waits, until the pool is closed."""
        with anyio.CancelScope() as scope:
            self._timers.append(scope)
            try:
                if self._group is not None:
                    await wait()
            finally:
                self._timers.remove(scope)

    def _pause(self) -> float:
        """Return the seconds until something may be started."""
        return max(0.0, self._paused_until - self._clock.monotonic()) if self._failures else 0.0

    def _count_failure(self, reason: str) -> None:
        self._failures += 1
        self._fault = reason
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 30), LONGEST_PAUSE_SECONDS)
        self._paused_until = self._clock.monotonic() + pause
        _log.info(
            "Sequential Thinking server failed; it is given a rest",
            operation="THINKING_SERVER_PAUSED",
            reason=reason,
            failures=self._failures,
            seconds=pause,
        )

    def _why_not(self) -> str:
        return f"{self._fault}; it is tried again in {math.ceil(self._pause())} s"

    def _ended_on_its_own(self) -> str:
        return f"`{self._command[0]}` ended on its own"
