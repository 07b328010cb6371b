"""The frame of every change: one transaction, on the file that was opened, as durable as it needs to be.

May import: storage.faults, stdlib. Runs on a connection's thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from storage.faults import FileGoneError

T = TypeVar("T")


class WriteTransaction:
    """Runs functions as write transactions on the file at `path`, which must stay the one that was opened."""

    def __init__(self, path: Path, *, synchronous: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._file = self._identity()

    def run(
        self, database: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], *, full: bool = False
    ) -> T:
        """Return what `work` does in a transaction; after an exception nothing of it is stored.

        Args:
            database: The connection to write with.
            work: What to do between BEGIN IMMEDIATE and COMMIT.
            full: Commit with synchronous=FULL, so that even a power cut can't undo what is acknowledged next.
        """
        raise_level = full and self._synchronous != "FULL"
        if raise_level:
            database.execute("PRAGMA synchronous = FULL")
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                result = work(database)
                # SQLite goes on writing to a deleted file; what is acknowledged then would be lost.
                if self._identity() != self._file:
                    raise FileGoneError
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        finally:
            if raise_level:
                database.execute(f"PRAGMA synchronous = {self._synchronous}")
        return result

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)  # noqa: PTH116  (half the time of Path.stat, once per commit)
        except OSError:
            raise FileGoneError from None
        return found.st_dev, found.st_ino
