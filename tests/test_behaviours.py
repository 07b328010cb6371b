"""Promises, document and tests belong together; none of the three changes alone."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.behaviours import COMPLETE_SECTIONS, PROMISES
from tests.promise import Promise

TESTS = Path(__file__).parent
SEMANTICS = TESTS.parent / "docs" / "semantics.md"


def flat(text: str) -> str:
    """Return a text on one line."""
    return re.sub(r"\s+", " ", text).strip()


@cache
def sections() -> dict[str, str]:
    """Return the document by heading."""
    parts = re.split(r"^## (.+)$", SEMANTICS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rules(section: str) -> list[str]:
    """Return a section's rules: its list items and paragraphs, each on one line."""
    return [
        flat(part)
        for part in re.split(r"^(?:- |\d\. )|\n\n", sections()[section], flags=re.MULTILINE)
        if part.strip()
    ]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.sentence[:50])
def test_a_promise_stands_in_the_document_as_it_is_told_here(promise: Promise) -> None:
    """A sentence that changed there concerns the tests named here."""
    assert flat(promise.sentence) in flat(sections()[promise.section])


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.sentence[:50])
def test_a_promise_is_held_by_tests_that_are_there(promise: Promise) -> None:
    """A test that was renamed or removed leaves a promise without proof."""
    missing = [
        name for name in promise.tests if name.partition("::")[2] not in names_in(name.partition("::")[0])
    ]

    assert promise.tests
    assert missing == []


@pytest.mark.parametrize("section", COMPLETE_SECTIONS)
def test_every_rule_of_a_complete_section_is_promised(section: str) -> None:
    """A rule that is added there needs a promise and a test."""
    told = [flat(promise.sentence) for promise in PROMISES if promise.section == section]

    unproved = [rule for rule in rules(section) if not any(sentence in rule for sentence in told)]

    assert unproved == []


def test_no_promise_is_told_twice() -> None:
    """One sentence, one list of tests."""
    sentences = [promise.sentence for promise in PROMISES]

    assert len(sentences) == len(set(sentences))
