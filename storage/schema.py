"""Makes a file a database of this program: refuses foreign ones, creates tables, brings old ones up to date.

May import: orchestration.errors, storage.{codec, faults}, stdlib. Runs on a connection's thread.

`PRAGMA application_id` says that a file is ours, `PRAGMA user_version` how many of the numbered files in
`migrations/` it has seen. Each is applied in a transaction of its own together with its number. What a migration can't
say in SQL is a function here: `archived_revisions(first_seq, last_seq, events)` looks into a compressed journal.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from contextlib import closing
from functools import cache
from importlib import resources
from pathlib import Path

from orchestration.errors import CorruptRecordError, SchemaVersionError, StorageUnavailableError
from storage import codec
from storage.faults import CANT_OPEN_FIX, FOREIGN_FIX

APPLICATION_ID = 0x41544F31
"""`ATO1`, in the header of every database of this program; `file` and SQLite show it."""

_WAL_RETRY_SECONDS = 0.01
"""Pause between tries to switch to WAL: SQLite does not wait for the lock that takes."""


@cache
def migrations() -> tuple[str, ...]:
    """Return the migrations' SQL in order; the first leads to version 1."""
    folder = resources.files("storage") / "migrations"
    found = sorted(
        (entry.name, entry) for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name)
    )
    numbers = [int(name[:4]) for name, _ in found]
    if numbers != list(range(1, len(found) + 1)):
        raise RuntimeError(f"The migrations must be numbered 1, 2, … without gaps; found {numbers}.")
    return tuple(entry.read_text(encoding="utf-8") for _, entry in found)


def _create_file(path: Path) -> None:
    """Create an empty file, readable by its owner alone, and its folder; what exists stays as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise IsADirectoryError(21, "it is not a file", str(path)) from None


def look(path: Path, location: str) -> None:
    """Create the file if there is none; otherwise check that it is ours without changing anything.

    The check opens it for reading only: closing an ordinary connection would tidy up after the file's real
    owner.
    """
    try:
        _create_file(path)
    except OSError as error:
        reason = f"its file can't be used ({error.strerror or error})."
        raise StorageUnavailableError(location, reason, CANT_OPEN_FIX) from error
    if path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            inspect(database, location)
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith("SQLITE_CANTOPEN"):
            raise
        # A database in WAL mode can't always be opened this way; the ordinary connection will say what is wrong.


def inspect(database: sqlite3.Connection, location: str) -> int:
    """Return how many migrations the database has seen, having checked that it is one of ours or empty.

    Raises:
        CorruptRecordError: It is some other program's.
        SchemaVersionError: A newer version of this program made it.
    """
    # The application id comes last: another process may be making the tables, and commits them together with it.
    version = schema_version(database)
    (objects,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID and (application_id or version or objects):
        raise CorruptRecordError(location, "the file is a database of another program.", FOREIGN_FIX)
    if version > len(migrations()):
        raise SchemaVersionError(
            location,
            f"it has schema version {version}, and this program knows versions up to {len(migrations())}.",
            "upgrade advanced-task-orchestration, or choose another file with --database.",
        )
    return version


def schema_version(database: sqlite3.Connection) -> int:
    """Return how many migrations the database has seen."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def prepare(database: sqlite3.Connection, location: str, *, busy_timeout_seconds: float) -> None:
    """Check the database, switch it to WAL and apply the migrations it lacks."""
    version = inspect(database, location)
    _switch_to_wal(database, location, busy_timeout_seconds)
    if version < len(migrations()):
        database.create_function("archived_revisions", 3, _archived_revisions, deterministic=True)
    while version < len(migrations()):
        version = _migrate(database, location)


def _switch_to_wal(database: sqlite3.Connection, location: str, busy_timeout_seconds: float) -> None:
    tries = max(1, round(busy_timeout_seconds / _WAL_RETRY_SECONDS))
    for last in [False] * (tries - 1) + [True]:
        try:
            (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if last or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            time.sleep(_WAL_RETRY_SECONDS)
            continue
        if mode != "wal":
            raise StorageUnavailableError(
                location,
                f"its file system does not support write-ahead logging (journal mode stayed {mode!r}).",
                "put the database on a local disk.",
            )
        return


def _migrate(database: sqlite3.Connection, location: str) -> int:
    """Apply the next migration, unless another process was faster; return the version reached."""
    database.execute("BEGIN IMMEDIATE")
    try:
        version = inspect(database, location)
        if version < len(migrations()):
            for statement in split_statements(migrations()[version]):
                database.execute(statement)
            version += 1
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return version


def _archived_revisions(first_seq: int, last_seq: int, events: bytes) -> str:
    """Return the revisions of a plan in a compressed part of a journal, as a JSON list of [seq, at_us, event].

    A part that can't be read has none here: that is told when it is read, and by `doctor`, and must not keep the rest
    from being brought forward.
    """
    try:
        rows = codec.decode_entries("", first_seq, last_seq, events)
    except (codec.UnreadableError, TypeError):
        return "[]"
    return json.dumps([row for row in rows if '"plan_revised"' in row[2]])


def split_statements(script: str) -> list[str]:
    """Return the statements of an SQL script, comments kept; each ends at the end of a line."""
    statements: list[str] = []
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        statement = "\n".join(lines)
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            lines = []
    if any(line.strip() and not line.lstrip().startswith("--") for line in lines):
        raise ValueError("The last statement of a migration has no semicolon.")
    return statements
