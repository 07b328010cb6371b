"""Where an index of tools is kept: one SQLite database, in memory or in a file of its own.

May import: orchestration.{logs}, orchestration.systems.tool_text, sqlite3, stdlib.

The file is a cache: whatever is wrong with it, the index works. One that another program made is left as it is; one of
ours that is damaged or of another version is made anew; one that can't be opened, or is locked for longer than
`BUSY_SECONDS`, is done without. A log line says which.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.logs import get_logger
from orchestration.models import JsonObject
from orchestration.systems import tool_index_ranking as ranking
from orchestration.systems.tool_text import MAX_FIELD_CHARS, parameter_text, words

APPLICATION_ID = 0x41544F49
"""Marks the file as ours; reads ATOI."""
VERSION = 1
"""Of the tables and of how texts are split: a file of another version is made anew."""
BUSY_SECONDS = 0.5
MAX_VECTORS = 50_000
"""Kept in the file, those of tools that have gone included: servers come back."""

_log = get_logger()

_TABLES = """
CREATE TABLE servers (server TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tools (id INTEGER PRIMARY KEY, server TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL,
    input_schema TEXT NOT NULL);
CREATE INDEX tools_of_server ON tools(server);
CREATE VIRTUAL TABLE texts USING fts5(name, server, description, parameters, tokenize='porter unicode61');
CREATE VIRTUAL TABLE terms USING fts5vocab(texts, 'row');
CREATE TABLE vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL);
"""
_MATCH = f"""
SELECT rowid FROM texts WHERE texts MATCH ?
ORDER BY bm25(texts, {ranking.NAME}, {ranking.SERVER}, {ranking.DESCRIPTION}, {ranking.PARAMETERS}), rowid LIMIT ?
"""  # noqa: S608  (numbers of ours)


class FullTextMissingError(RuntimeError):
    """This Python's SQLite has no full-text search."""

    def __str__(self) -> str:
        return (
            f"SQLite {sqlite3.sqlite_version} of this Python was built without FTS5, which finding tools needs. "
            "Fix: use a Python whose sqlite3 has it (python.org's, Debian's and Homebrew's do)."
        )


@dataclass(frozen=True, slots=True)
class StoredTool:
    """A tool as it was told."""

    server: str
    name: str
    description: str
    input_schema: JsonObject | None


@dataclass(frozen=True, slots=True)
class Texts:
    """A tool's fields, split into words that a space divides."""

    name: str
    server: str
    description: str
    parameters: str


class ToolStore:
    """The tables. Not safe from several threads at once; whoever holds one sees to that.

    Args:
        connection: A database with the tables.
        path: Where it is; None in memory.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._db = connection
        self.path = path

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # What there is

    def count(self) -> int:
        """Return how many tools there are."""
        return int(self._db.execute("SELECT count(*) FROM tools").fetchone()[0])

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each server's tools."""
        return dict(self._db.execute("SELECT server, fingerprint FROM servers"))

    def having(self, stem: str) -> int:
        """Return how many tools have a stem in their texts."""
        row = self._db.execute("SELECT doc FROM terms WHERE term = ?", (stem,)).fetchone()
        return int(row[0]) if row else 0

    def words_in_all(self) -> int:
        """Return how many words all texts have together."""
        return int(self._db.execute("SELECT coalesce(sum(cnt), 0) FROM terms").fetchone()[0])

    def match(self, these: Sequence[str], limit: int) -> list[int]:
        """Return the tools that have any of these words, by the rank of the full-text index."""
        # Words are letters and digits only; quoted, none of them is an operator.
        question = " OR ".join(f'"{word}"' for word in these)
        return [row[0] for row in self._db.execute(_MATCH, (question, limit))]

    def texts(self, keys: Iterable[int]) -> dict[int, Texts]:
        """Return the split texts of tools."""
        rows = self._rows(
            "SELECT rowid, name, server, description, parameters FROM texts WHERE rowid IN", keys
        )
        return {row[0]: Texts(*row[1:]) for row in rows}

    def names(self) -> list[tuple[int, str, str]]:
        """Return every tool's key, and its own and its server's name, split."""
        return list(self._db.execute("SELECT rowid, name, server FROM texts"))

    def tools(self, keys: Iterable[int]) -> dict[int, StoredTool]:
        """Return tools by key."""
        rows = self._rows("SELECT id, server, name, description, input_schema FROM tools WHERE id IN", keys)
        return {row[0]: StoredTool(row[1], row[2], row[3], json.loads(row[4])) for row in rows}

    def places(self, keys: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Return the server and the name of tools."""
        rows = self._rows("SELECT id, server, name FROM tools WHERE id IN", keys)
        return {row[0]: (row[1], row[2]) for row in rows}

    def every(self) -> list[tuple[int, str, str]]:
        """Return every tool's key, name and description, in order."""
        return list(self._db.execute("SELECT id, name, description FROM tools ORDER BY id"))

    def _rows(self, select: str, keys: Iterable[int]) -> list[tuple[Any, ...]]:
        listed = ", ".join(map(str, keys))
        return list(self._db.execute(f"{select} ({listed})"))

    # Changes

    def replace(self, changes: Sequence[tuple[str, str, Sequence[StoredTool]]], gone: Iterable[str]) -> None:
        """Replace the tools of servers, each with its fingerprint, and forget servers; all of it or nothing."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for server in [*gone, *(change[0] for change in changes)]:
                self._forget(server)
            key = int(self._db.execute("SELECT coalesce(max(id), 0) FROM tools").fetchone()[0])
            rows: list[tuple[int, str, str, str, str]] = []
            texts: list[tuple[int, str, str, str, str]] = []
            for server, _, tools in changes:
                server_words = " ".join(words(server))
                for tool in tools:
                    key += 1
                    schema = json.dumps(tool.input_schema, ensure_ascii=False)
                    rows.append((key, server, tool.name, tool.description, schema))
                    texts.append((key, *_split(tool, server_words)))
            self._db.executemany("INSERT INTO tools VALUES (?, ?, ?, ?, ?)", rows)
            insert = "INSERT INTO texts(rowid, name, server, description, parameters) VALUES (?, ?, ?, ?, ?)"
            self._db.executemany(insert, texts)
            self._db.executemany("INSERT INTO servers VALUES (?, ?)", [change[:2] for change in changes])

    def _forget(self, server: str) -> None:
        known = self._db.execute("DELETE FROM servers WHERE server = ?", (server,))
        if known.rowcount:
            self._db.execute(
                "DELETE FROM texts WHERE rowid IN (SELECT id FROM tools WHERE server = ?)", (server,)
            )
            self._db.execute("DELETE FROM tools WHERE server = ?", (server,))

    # Vectors

    def vectors(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those vectors that are kept."""
        found: dict[str, bytes] = {}
        for begin in range(0, len(keys), 500):
            part = keys[begin : begin + 500]
            marks = ", ".join("?" * len(part))
            query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"  # noqa: S608  (question marks only)
            found.update(self._db.execute(query, part))
        return found

    def keep_vectors(self, these: Iterable[tuple[str, bytes]]) -> None:
        """Keep vectors, and let go of the oldest where there are too many."""
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", these)
            self._db.execute(
                "DELETE FROM vectors WHERE rowid <= (SELECT max(rowid) FROM vectors) - ?", (MAX_VECTORS,)
            )


def _split(tool: StoredTool, server_words: str) -> tuple[str, str, str, str]:
    return (
        " ".join(words(tool.name)),
        server_words,
        " ".join(words(tool.description[:MAX_FIELD_CHARS])),
        " ".join(words(parameter_text(tool.input_schema))),
    )


# --- Opening ----------------------------------------------------------------------------------------------------------


def open_store(path: Path | None) -> ToolStore:
    """Open the store in a file, or in memory where there is none or it can't be used.

    Raises:
        FullTextMissingError: This SQLite has no full-text search.
    """
    if path is None:
        return in_memory()
    try:
        return _open_file(path)
    except _ForeignFileError:
        _warn(path, "it was not made by this program and is left as it is")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) or not _is_ours(path):
            _warn(path, str(error))
            return in_memory()
        try:
            _remove(path)
            store = _open_file(path)
        except (OSError, sqlite3.Error, _ForeignFileError) as again:
            _warn(path, str(again))
        else:
            _log.warning(
                "The index of tools was damaged and is made anew",
                operation="TOOL_INDEX_REBUILT",
                path=str(path),
                reason=str(error),
            )
            return store
    except OSError as error:
        _warn(path, str(error))
    return in_memory()


def in_memory() -> ToolStore:
    """Open an empty store in memory.

    Raises:
        FullTextMissingError: This SQLite has no full-text search.
    """
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    try:
        connection.executescript(_TABLES)
    except sqlite3.OperationalError as error:
        connection.close()
        if "fts5" in str(error):
            raise FullTextMissingError from error
        raise
    return ToolStore(connection, None)


class _ForeignFileError(Exception):
    """The file is a database of something else."""


def _open_file(path: Path) -> ToolStore:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # What tools say of themselves is nobody else's business; SQLite's own files take the mode over.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return ToolStore(connection, path)


def _prepare(connection: sqlite3.Connection) -> None:
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if mark != APPLICATION_ID and not is_empty:
        raise _ForeignFileError
    connection.execute("PRAGMA synchronous = OFF")  # a cache: a power cut costs making it anew
    if mark == APPLICATION_ID and version == VERSION and not is_empty:
        # The index is asked once, so that damage shows here and not in a search.
        connection.execute("SELECT count(*) FROM terms").fetchone()
        connection.execute("SELECT count(*) FROM tools JOIN servers USING (server)").fetchone()
        return
    if not is_empty:
        raise sqlite3.DatabaseError(f"it is of version {version}, and this program's is {VERSION}")
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _is_ours(path: Path) -> bool:
    """Whether a file begins as a database of ours does, whatever became of the rest."""
    try:
        with closing(path.open("rb")) as file:
            head = file.read(72)
    except OSError:
        return False
    return head[:16] == b"SQLite format 3\x00" and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _warn(path: Path, reason: str) -> None:
    _log.warning(
        "The index of tools is kept in memory only",
        operation="TOOL_INDEX_IN_MEMORY",
        path=str(path),
        reason=reason,
    )
