"""The index in a file of its own: whatever becomes of the file, tools are found."""

from __future__ import annotations

import logging
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from orchestration.systems import tool_index_store
from orchestration.systems.tool_index import ToolIndex
from tests.systems.test_tool_index import TOOLS


def finds(index: ToolIndex) -> bool:
    return [hit.name for hit in index.search("read a text file", limit=1)] == ["read_text_file"]


def test_a_file_is_read_again(tmp_path: Path) -> None:
    """What was indexed yesterday is found today, and costs no write."""
    path = tmp_path / "cache" / "tools.db"
    ToolIndex(path).build(TOOLS).close()

    index = ToolIndex(path)

    assert finds(index)
    assert index.path == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    index.close()


def test_two_processes_may_use_one_file(tmp_path: Path) -> None:
    """Each sees what the other indexed."""
    path = tmp_path / "tools.db"
    one, other = ToolIndex(path), ToolIndex(path)

    one.build(TOOLS)

    assert finds(other)
    one.close()
    other.close()


@pytest.mark.parametrize("damage", ["middle", "cut", "version"])
def test_a_damaged_file_of_ours_is_made_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a cache: nothing of it is missed."""
    path = tmp_path / "tools.db"
    ToolIndex(path).build(TOOLS).close()
    content = bytearray(path.read_bytes())
    match damage:
        case "middle":
            content[100:] = b"\xff" * (len(content) - 100)
        case "cut":
            del content[4096:]
        case _:
            content[60:64] = (99).to_bytes(4, "big")
    path.write_bytes(content)

    with caplog.at_level(logging.WARNING, "advanced_task_orchestration"):
        index = ToolIndex(path).build(TOOLS)

    assert finds(index)
    assert index.path == path
    assert "was damaged and is made anew" in caplog.text
    index.close()


@pytest.mark.parametrize("what", ["text", "database", "folder", "under a file"])
def test_what_is_not_ours_is_left_as_it_is(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong path must not cost anybody a file."""
    path = tmp_path / "precious"
    if what == "text":
        path.write_text("my diary " * 1000)
    elif what == "database":
        with closing(sqlite3.connect(path)) as precious, precious:
            precious.execute("CREATE TABLE journal (entry)")
    elif what == "folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "tools.db"
    before = path.read_bytes() if path.is_file() else None

    with caplog.at_level(logging.WARNING, "advanced_task_orchestration"):
        index = ToolIndex(path).build(TOOLS)

    assert finds(index)
    assert index.path is None
    assert "is kept in memory only" in caplog.text
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_locked_file_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was told so far is found in memory from then on."""
    monkeypatch.setattr(tool_index_store, "BUSY_SECONDS", 0.01)
    path = tmp_path / "tools.db"
    index = ToolIndex(path).build(TOOLS[:4])

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with caplog.at_level(logging.WARNING, "advanced_task_orchestration"):
            index.update("mail", TOOLS[4:5])

        assert finds(index)
        assert [hit.name for hit in index.search("send a message", limit=1)] == ["send"]
    assert index.path is None
    assert "is kept in memory only" in caplog.text


def test_a_file_that_breaks_later_is_done_without(tmp_path: Path) -> None:
    """Even in the middle of a search."""
    path = tmp_path / "tools.db"
    index = ToolIndex(path).build(TOOLS)
    index._store._db.execute("DROP TABLE texts")

    assert finds(index)
    assert index.path is None


def test_without_full_text_search_the_reason_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be helped from here, so it says what would."""
    monkeypatch.setattr(
        tool_index_store, "_TABLES", tool_index_store._TABLES.replace("fts5(", "no_such_fts5(")
    )

    with pytest.raises(tool_index_store.FullTextMissingError, match=r"without FTS5.*Fix: use a Python"):
        ToolIndex()
