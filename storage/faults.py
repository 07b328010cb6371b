"""What went wrong in SQLite, told as this program's storage errors with a fix.

May import: orchestration.errors, storage.codec, stdlib.

A mistake of the program itself (bad SQL, a broken constraint) is passed on as it is: it is not the
database's fault.
"""

from __future__ import annotations

import sqlite3

from orchestration.errors import CorruptRecordError, StorageError, StorageUnavailableError
from storage.codec import UnreadableError

_FULL = ("the disk is full", "free some space and repeat; nothing of this request was stored.")
_UNAVAILABLE: dict[str, tuple[str, str]] = {
    "SQLITE_READONLY": (
        "it can't be written",
        "make the file and its folder writable for you, or choose another file with --database.",
    ),
    "SQLITE_PERM": (
        "its file may not be used",
        "give yourself the right to read and write it, or choose another file with --database.",
    ),
    "SQLITE_FULL": _FULL,
    "SQLITE_CANTOPEN": (
        "its file can't be opened",
        "check that the path names a file in a folder you may write to, or choose another with --database.",
    ),
    "SQLITE_IOERR": (
        "reading or writing its file failed",
        "check the disk (full, failing, unmounted, or a network drive?) and repeat.",
    ),
    "SQLITE_NOMEM": ("there is not enough memory", "free some memory and repeat."),
}
CANT_OPEN_FIX = _UNAVAILABLE["SQLITE_CANTOPEN"][1]
FOREIGN_FIX = "choose another file with --database; this one was left as it is."
DAMAGED_FIX = (
    "restore a backup, or move the file away to start afresh; `advanced-orchestration doctor` says more."
)


class FileGoneError(Exception):
    """The database's file was deleted or replaced while it was open."""


def translate(database: str, error: Exception, *, busy_timeout_seconds: float) -> StorageError | None:
    """Return the storage error that `error` amounts to; None when it is no fault of the database.

    Args:
        database: Where the database is, for people.
        error: What was raised while working with it.
        busy_timeout_seconds: How long a locked database was waited for.
    """
    match error:
        case UnreadableError():
            return CorruptRecordError(database, f"{error}.", DAMAGED_FIX)
        case FileGoneError():
            return StorageUnavailableError(
                database,
                "its file was deleted or replaced while it was in use.",
                "put the file back where it was, then start this program again.",
            )
        case sqlite3.Error() if getattr(error, "sqlite_errorname", None):
            return _translate_code(database, error, busy_timeout_seconds)
    return None


def _translate_code(database: str, error: sqlite3.Error, busy_timeout_seconds: float) -> StorageError | None:
    name = error.sqlite_errorname
    primary = "_".join(name.split("_")[:2])
    if primary in ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"):
        return StorageUnavailableError(
            database,
            f"it was locked by another process for more than {busy_timeout_seconds:g} seconds.",
            "wait until that process has finished, or end it, and repeat.",
        )
    if primary == "SQLITE_NOTADB":
        return CorruptRecordError(database, "the file is not a SQLite database.", FOREIGN_FIX)
    if primary == "SQLITE_CORRUPT":
        return CorruptRecordError(database, f"the file is damaged ({error}).", DAMAGED_FIX)
    if primary == "SQLITE_ERROR" and str(error).startswith(("no such table", "no such column")):
        return CorruptRecordError(database, f"a part of it is missing ({error}).", DAMAGED_FIX)
    if primary in _UNAVAILABLE:
        # What the processes that use a file share can't grow: there is no room for it.
        reason, fix = _FULL if name == "SQLITE_IOERR_SHMSIZE" else _UNAVAILABLE[primary]
        return StorageUnavailableError(database, f"{reason} ({name}: {error}).", fix)
    return None
