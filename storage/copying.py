"""A consistent copy of a database that is in use, made whole or not at all.

May import: orchestration.errors, storage.{database, faults, soundness}, stdlib. Runs on a thread that may be kept busy.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from orchestration.errors import CorruptRecordError, StorageUnavailableError
from storage.database import Database
from storage.faults import DAMAGED_FIX
from storage.soundness import damage

_NAME_TAKEN_FIX = "choose a name that is not taken; a backup never overwrites anything."
_PLACE_FIX = "choose a file in a folder you may write to, on a disk with enough space."


def back_up(database: Database, path: Path) -> int:
    """Write a copy into a new file and return its size; see `Storage.backup`.

    It grows under another name beside its own and gets its name when it is complete, checked and on the disk: a backup
    that was interrupted is never mistaken for one.
    """
    path = path.expanduser().absolute()
    location = str(path)
    if os.path.lexists(path):
        raise StorageUnavailableError(location, "the file exists already.", _NAME_TAKEN_FIX)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise _unwritable(location, error) from error
    os.close(handle)
    part = Path(name)
    try:
        _copy(database, part, location)
        _put_in_place(part, path)
        return path.stat().st_size
    except OSError as error:
        raise _unwritable(location, error) from error
    finally:
        part.unlink(missing_ok=True)


def _copy(database: Database, part: Path, location: str) -> None:
    with database.faults_told(), closing(database.connect_to_read()) as source:
        # One read transaction: the copy is of this moment, and writers don't make it begin anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with (
            database.faults_told(of_file=location),
            closing(sqlite3.connect(part, isolation_level=None)) as target,
        ):
            target.execute("PRAGMA synchronous = OFF")  # the file is flushed once, at its end
            source.backup(target)
            wrong = damage(target)
            # The copy says it has a write-ahead log, as the original has; this makes it one self-contained file.
            if not wrong:
                target.execute("PRAGMA journal_mode = DELETE").fetchone()
    if wrong:
        raise CorruptRecordError(database.location, f"its copy is damaged ({wrong[0]}).", DAMAGED_FIX)


def _put_in_place(part: Path, path: Path) -> None:
    _flush(part)
    try:
        os.link(part, path)  # unlike renaming, refuses a name that was taken meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        part.replace(path)
    with suppress(OSError):  # not every file system can flush a folder
        _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(location: str, error: OSError) -> StorageUnavailableError:
    if isinstance(error, FileExistsError):
        return StorageUnavailableError(location, "the file exists already.", _NAME_TAKEN_FIX)
    return StorageUnavailableError(location, f"it can't be written ({error.strerror or error}).", _PLACE_FIX)
