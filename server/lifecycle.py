"""How a serving process begins and ends: signals, closing in time, leaving without waiting for stuck threads.

May import: orchestration.orchestrator, anyio, stdlib.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import anyio
import anyio.abc

from orchestration.clock import SystemClock
from orchestration.logs import get_logger
from orchestration.orchestrator import AdvancedTaskOrchestrator

OrchestratorFactory: TypeAlias = Callable[[], AbstractAsyncContextManager[AdvancedTaskOrchestrator]]
"""Opens an orchestrator, and closes it at the end."""

CLOSING_SECONDS = 1.2
"""What closing may take: a client over stdio ends the process 2 s after it closed our input."""
LINGER_SECONDS = 0.2
"""What threads that are about to end are given."""

log = get_logger()


async def set_on_signal(stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Set `stop` when the process is told to end; a second time, end at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                _end(128 + number)
            stop.set()


class Keeper:
    """Holds an orchestrator open in a task of its own, so that it closes in order even when its user is cancelled.

    Closing gets `CLOSING_SECONDS`; what has not ended by then is cancelled. Either way what is stored is a state from
    which another process goes on.

    Args:
        factory: Opens the orchestrator.
    """

    orchestrator: AdvancedTaskOrchestrator

    def __init__(self, factory: OrchestratorFactory) -> None:
        self.closed = anyio.Event()
        self._factory = factory
        self._wanted = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)

    async def keep(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Open the orchestrator, hold it until `close`, and close it."""
        try:
            with self._scope:
                async with self._factory() as self.orchestrator:
                    task_status.started()
                    await self._wanted.wait()
        finally:
            self.closed.set()

    def close(self) -> None:
        """Ask for closing, and begin to count its time."""
        if not self._wanted.is_set():
            self._wanted.set()
            self._scope.deadline = anyio.current_time() + CLOSING_SECONDS


@asynccontextmanager
async def kept(factory: OrchestratorFactory) -> AsyncIterator[Keeper]:
    """Keep an orchestrator open for as long as the context lasts."""
    keeper = Keeper(factory)
    async with anyio.create_task_group() as owner:
        await owner.start(keeper.keep)
        try:
            yield keeper
        finally:
            keeper.close()


async def end_on(stop: anyio.Event, keeper: Keeper) -> None:
    """Close the orchestrator and end the process once `stop` is set.

    For a server over stdio: a thread of it waits for the client's next line, and nothing can wake it.
    """
    await stop.wait()
    give_up_after(CLOSING_SECONDS)
    keeper.close()
    await keeper.closed.wait()
    _end(0)


def give_up_after(seconds: float) -> None:
    """End the process if it still lives then: a system may shield its closing from every cancellation."""

    def end() -> None:
        log.warning("Did not close in time; ends now", operation="CLOSING_CUT_SHORT", seconds=seconds)
        _end(0)

    watchdog = threading.Timer(seconds, end)
    watchdog.daemon = True
    watchdog.start()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in a group of groups: whoever called is told what happened, not how it was run."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def leave() -> None:
    """End the process if threads would keep it: a callable that runs on, a read of an input that stays open.

    Everything durable is stored by now, and an attempt that was cut off is run again. Where nothing lingers, or an
    error is on its way up, this returns.
    """
    if sys.exc_info()[0] is not None:
        return
    clock = SystemClock()
    until = clock.monotonic() + LINGER_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - clock.monotonic()))
            if thread.is_alive():
                _end(0)


def _end(code: int) -> None:
    """End the process at once, with the logs written."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
