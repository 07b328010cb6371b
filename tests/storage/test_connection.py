"""What `Connection` relies on in aiosqlite, and what it adds: one hop a call, quiet ends, cancellation seen through."""

from __future__ import annotations

import gc
import sqlite3
import threading
import warnings
from pathlib import Path
from typing import Any

import anyio
import pytest

from storage import SqliteStorage
from storage.connection import Connection
from tests.storage.records import commit, created, output, row

pytestmark = pytest.mark.anyio


async def connect(path: Path) -> Connection:
    """Open a connection to a file in `path`."""
    return await Connection.open(path / "x.db", busy_timeout_seconds=1.0)


async def test_work_is_done_on_the_connections_own_thread_in_order(tmp_path: Path) -> None:
    """One thread, not the event loop's, and first come first served."""
    connection = await connect(tmp_path)
    seen: list[tuple[int, int]] = []

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(
                connection.call, lambda _, number=number: seen.append((number, threading.get_ident()))
            )
    await connection.close()

    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in seen} - {threading.get_ident()}) == 1


async def test_a_batch_is_one_hop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commits, rows and outputs: the event loop waits for the thread once."""
    storage = SqliteStorage(tmp_path / "x.db")
    leases = [await created(storage) for _ in range(3)]
    hops: list[object] = []
    original: Any = Connection.call

    async def counted(self: Connection, *args: Any, **kwargs: Any) -> Any:
        hops.append(args)
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(Connection, "call", counted)
    await storage.append(
        [commit(lease, 2, tasks=[row("a", 0)], outputs=[output("a", b"1", inline=False)]) for lease in leases]
    )
    monkeypatch.undo()
    await storage.aclose()

    assert len(hops) == 1


async def test_a_fault_in_the_work_reaches_the_caller(tmp_path: Path) -> None:
    """And the connection goes on."""
    connection = await connect(tmp_path)

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await connection.call(lambda database: database.execute("SELECT * FROM missing"))
    answer = await connection.call(lambda database: database.execute("SELECT 7").fetchone())
    await connection.close()

    assert answer == (7,)


async def test_the_thread_is_a_daemon_and_ends_with_the_connection(tmp_path: Path) -> None:
    """It never keeps the interpreter alive, and closing twice is fine."""
    connection = await connect(tmp_path)
    thread = connection._thread

    was_daemon, was_alive = thread.daemon, thread.is_alive()
    await connection.close()
    await connection.close()
    thread.join(5)

    assert (was_daemon, was_alive, thread.is_alive()) == (True, True, False)


async def test_a_connection_that_is_dropped_open_closes_quietly(tmp_path: Path) -> None:
    """No warning, and its thread ends."""
    connection = await connect(tmp_path)
    thread = connection._thread

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del connection
        gc.collect()
        thread.join(5)

    assert not thread.is_alive()
    assert [str(warning.message) for warning in caught] == []


async def test_a_connection_that_can_not_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    """The fault is sqlite3's, and its thread has ended when it is raised."""
    before = set(threading.enumerate())

    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        await Connection.open(tmp_path / "no" / "such" / "folder", busy_timeout_seconds=1.0)

    assert {thread for thread in threading.enumerate() if "connection_worker" in thread.name} <= before


async def test_a_cancelled_call_is_seen_to_its_end(tmp_path: Path) -> None:
    """The caller goes on only when the work is done, so no transaction is under way behind its back."""
    connection = await connect(tmp_path)
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        begun.set()
        may_end.wait(5)
        ended.set()

    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.call, work)
            await anyio.to_thread.run_sync(begun.wait, 5)
            scope.cancel()
            threading.Timer(0.05, may_end.set).start()
    has_ended = ended.is_set()
    await connection.close()

    assert has_ended
