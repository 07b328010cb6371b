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
from orchestration.orchestrator import AdvancedTaskOrchestrator

OrchestratorFactory: TypeAlias = Callable[[], AbstractAsyncContextManager[AdvancedTaskOrchestrator]]
"""Opens an orchestrator, and closes it at the end."""

CLOSING_SECONDS = 1.2
"""What closing may take: a client over stdio ends the process 2 s after it closed our input."""
LINGER_SECONDS = 0.2
"""What threads that are about to end are given."""


async def set_on_signal(stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Set `stop` when the process is told to end; a second time, end at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()


@asynccontextmanager
async def kept(factory: OrchestratorFactory) -> AsyncIterator[AdvancedTaskOrchestrator]:
    """Keep an orchestrator open in a task of its own, so that it closes in order even when its user is cancelled.

    Closing gets `CLOSING_SECONDS`; what has not ended by then is cancelled. Either way what is stored is a state from
    which another process goes on.
    """
    done = anyio.Event()
    closing = anyio.CancelScope(shield=True)

    async def keep(*, task_status: anyio.abc.TaskStatus[AdvancedTaskOrchestrator]) -> None:
        with closing:
            async with factory() as orchestrator:
                task_status.started(orchestrator)
                await done.wait()

    async with anyio.create_task_group() as owner:
        orchestrator = await owner.start(keep)
        try:
            yield orchestrator
        finally:
            done.set()
            closing.deadline = anyio.current_time() + CLOSING_SECONDS


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
                logging.shutdown()
                sys.stderr.flush()
                os._exit(0)
