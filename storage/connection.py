"""A SQLite connection on a thread of its own: a whole transaction is one function there and costs one hop.

May import: aiosqlite, anyio, asyncio, stdlib.

aiosqlite's public calls make one hop a statement. `Connection.call` puts a function on the thread's private queue,
and three more details of its thread are set right here and nowhere else; the
dependency's version is bounded and `tests/storage/test_connection.py` pins each of them:

- the thread is a daemon, so a forgotten `aclose` never keeps the interpreter alive;
- a connection that is dropped open closes quietly on its own thread instead of warning;
- a cancelled call is seen to its end first, so no transaction is under way after it and no result is
  delivered to an event loop that was closed meanwhile.

While an answer is overdue the event loop gives way to the thread; see `_Relief`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  (aiosqlite is asyncio's; its cancellation must be seen here)
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import anyio.to_thread
from aiosqlite.core import _STOP_RUNNING_SENTINEL

T = TypeVar("T")
R = TypeVar("R")

_OVERDUE_SECONDS = 0.005
"""A commit takes a fraction of it, unless its thread gets no turn."""
_TURN_SECONDS = 0.0002
_BETWEEN_TURNS_SECONDS = 0.002
"""A tenth of the loop's time goes to a thread that is late, however long its work really is."""
_JOIN_SECONDS = 5.0
"""How long a thread whose connection could not be opened is waited for; it has nothing left to do."""


class Connection(aiosqlite.Connection):
    """One SQLite connection in autocommit mode, on its own thread."""

    def __init__(self, path: Path, *, busy_timeout_seconds: float) -> None:
        super().__init__(
            lambda: sqlite3.connect(
                path, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
            ),
            iter_chunk_size=64,
        )
        self._thread.daemon = True

    @classmethod
    async def open(cls, path: Path, *, busy_timeout_seconds: float) -> Connection:
        """Connect to the file at `path`; raises what sqlite3 does."""
        connection = cls(path, busy_timeout_seconds=busy_timeout_seconds)
        try:
            await connection
        except BaseException:
            # Its thread still answers to this event loop, which may be closed next.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(connection._thread.join, _JOIN_SECONDS)
            raise
        return connection

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the connection's thread and return what it does.

        Calls are carried out one after the other, in the order they were made. When the caller is
        cancelled, by anyio or by asyncio, once or again, `work` is carried out all the same, and the cancellation
        goes on after it.
        """
        answer = self._put(partial(work, self._conn))
        relief = _Relief(asyncio.get_running_loop(), answer)
        try:
            return await answer
        except asyncio.CancelledError:
            done = self._put(_nothing)  # answered only after everything before it
            with anyio.CancelScope(shield=True):
                while not done.done():
                    with suppress(
                        asyncio.CancelledError
                    ):  # asyncio may cancel again, as it does at the loop's end
                        await asyncio.wait([done])
            raise
        finally:
            relief.end()

    def _put(self, work: Callable[[], R]) -> asyncio.Future[R]:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((answer, work))
        return answer

    async def close(self) -> None:
        """Carry out what was called before, close, and end the thread; idempotent."""
        with anyio.CancelScope(shield=True):
            await super().close()

    def __del__(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection is None:
            return

        def close() -> object:
            connection.close()
            return _STOP_RUNNING_SENTINEL

        self._tx.put_nowait((None, close))


class _Relief:
    """Gives the connection's thread its turns while its answer is overdue.

    An event loop that never idles takes the interpreter's lock back before a waiting thread wakes up, and the thread
    needs it again after every statement: a commit could take minutes. Sleeping for a moment hands the lock over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]) -> None:
        self._loop = loop
        self._answer = answer
        self._handle = loop.call_later(_OVERDUE_SECONDS, self._give_way)

    def _give_way(self) -> None:
        if not self._answer.done():
            time.sleep(_TURN_SECONDS)
            self._handle = self._loop.call_later(_BETWEEN_TURNS_SECONDS, self._give_way)

    def end(self) -> None:
        """Stop giving way."""
        self._handle.cancel()


def _nothing() -> None:
    """Do nothing, in its turn."""
