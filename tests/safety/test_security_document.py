"""The document about security names tests, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "security.md"


def test_every_test_the_document_names_is_there() -> None:
    """A promise without its test would be one nobody keeps."""
    text = DOCUMENT.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+/test_[a-z_]+\.py)`", text))

    assert len(named) > 20
    assert sorted(name for name in named if not (TESTS / name).is_file()) == []


def test_every_promise_of_the_document_has_a_test() -> None:
    """Each row of its tables after the first, which says whom it is about."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## What is defended")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]

    assert rows
    assert [row for row in rows if "test_" not in row] == []
