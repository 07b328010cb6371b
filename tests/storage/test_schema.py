"""A file becomes a database of this program, is brought up to date, or is refused and left alone."""

# ruff: noqa: ASYNC240  (small files of a test; nothing else runs meanwhile)
from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from orchestration.errors import CorruptRecordError, SchemaVersionError, StorageUnavailableError
from storage import SqliteStorage, schema
from tests.storage.records import created

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be put."""
    return tmp_path / "deep" / "er" / "state.db"


def ask(path: Path, query: str) -> object:
    """Return the first value of a query, over a connection of its own."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchone()[0]


async def opened(path: Path) -> None:
    """Open a storage there and close it again."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.aclose()


async def test_a_new_file_is_made_with_its_folder_for_its_owner_alone(path: Path) -> None:
    """Nobody else on the machine can read goals and outputs; the log beside it neither."""
    storage = SqliteStorage(path)
    await created(storage)

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    folder = stat.S_IMODE(path.parent.stat().st_mode)
    await storage.aclose()

    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert folder == 0o700


async def test_closing_leaves_one_file(path: Path) -> None:
    """Everything is in the database itself then, so it can be copied."""
    storage = SqliteStorage(path)
    await created(storage)

    await storage.aclose()

    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


async def test_the_file_says_whose_it_is_and_which_version(path: Path) -> None:
    """application_id, user_version and WAL mode stand in the header."""
    await opened(path)

    assert ask(path, "PRAGMA application_id") == schema.APPLICATION_ID == int.from_bytes(b"ATO1")
    assert ask(path, "PRAGMA user_version") == len(schema.migrations()) == 4
    assert ask(path, "PRAGMA journal_mode") == "wal"


async def test_an_empty_file_is_taken(path: Path) -> None:
    """What mktemp made is as good as nothing."""
    path.parent.mkdir(parents=True)
    path.touch()

    await opened(path)

    assert ask(path, "PRAGMA application_id") == schema.APPLICATION_ID


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """A slip of the finger must not cost a file."""
    path.parent.mkdir(parents=True)
    path.write_text("Dear diary, " * 100)
    before = path.read_bytes()

    with pytest.raises(CorruptRecordError) as caught:
        await opened(path)

    assert str(caught.value) == (
        f"Database {path}: the file is not a SQLite database. "
        "Fix: choose another file with --database; this one was left as it is."
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "script",
    ["CREATE TABLE cookies (a)", "PRAGMA application_id = 77", "PRAGMA user_version = 1"],
    ids=["tables", "application_id", "user_version"],
)
async def test_a_database_of_another_program_is_left_alone(path: Path, script: str) -> None:
    """Whether it shows by its tables, its application id or its version."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute(script)
    before = path.read_bytes()

    with pytest.raises(CorruptRecordError, match=r"a database of another program\. Fix: choose another file"):
        await opened(path)

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


async def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    """The error says both versions and to upgrade."""
    await opened(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(SchemaVersionError) as caught:
        await opened(path)

    assert str(caught.value) == (
        f"Database {path}: it has schema version 99, and this program knows versions up to 4. "
        "Fix: upgrade advanced-task-orchestration, or choose another file with --database."
    )
    assert path.read_bytes() == before


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """A path that names a folder can't be a database."""
    with pytest.raises(
        StorageUnavailableError, match=r"its file can't be used \(it is not a file\)\. Fix: check that"
    ):
        await opened(tmp_path)


async def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A folder that can't be made is told like a file that can't be used."""
    (tmp_path / "occupied").touch()

    with pytest.raises(
        StorageUnavailableError, match=r"its file can't be used \((Not a directory|File exists)\)"
    ):
        await opened(tmp_path / "occupied" / "state.db")


async def test_many_storages_may_create_one_database_at_once(path: Path) -> None:
    """One makes the tables, the others find them."""
    storages = [SqliteStorage(path) for _ in range(8)]
    ids: list[str] = []

    async def create(storage: SqliteStorage) -> None:
        ids.append((await created(storage)).orchestration_id)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for storage in storages:
                group.start_soon(create, storage)
    for storage in storages:
        await storage.aclose()

    assert sorted(ids) == [f"report-{number}" for number in range(1, 9)]
    assert await SqliteStorage(path).check() == []


async def test_a_migration_that_fails_leaves_the_version_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and version number change together or not at all; the next start tries again."""
    await opened(path)
    good = schema.migrations()
    bad = (*good, "CREATE TABLE extra (a);\nINSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr(schema, "migrations", lambda: bad)

    with pytest.raises(CorruptRecordError, match="a part of it is missing"):
        await opened(path)
    after_failure = (
        ask(path, "PRAGMA user_version"),
        ask(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'"),
    )
    monkeypatch.setattr(schema, "migrations", lambda: (*good, "CREATE TABLE extra (a);\n"))
    await opened(path)

    assert after_failure == (4, 0)
    assert ask(path, "PRAGMA user_version") == 5
    assert ask(path, "SELECT count(*) FROM extra") == 0


def test_a_script_is_split_into_its_statements() -> None:
    """Semicolons inside text and triggers end nothing; a forgotten one is an error."""
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\n  SELECT 2;\nEND;"
    script = f"-- first; really\nSELECT ';';\n\n{trigger}\n-- the end\n"

    assert schema.split_statements(script) == ["-- first; really\nSELECT ';';", f"\n{trigger}"]
    with pytest.raises(ValueError, match="no semicolon"):
        schema.split_statements("SELECT 1")
