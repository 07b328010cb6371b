"""What is shown of a text that would steer a terminal or hide something from its reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.plain_text import printable_json, printable_line, printable_text

HOSTILE = {
    "colour": "\x1b[31m",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "link": "\x1b]8;;http://evil.test\x1b\\",
    "eight bits": "\x9b2J",
    "return": "\r",
    "backspace": "\b",
    "nul": "\0",
    "turned round": "\u202e",
    "isolated": "\u2066",
    "line separator": "\u2028",
    "unseen letters": "\U000e0041",
    "half a pair": "\ud83d",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_would_do_something_is_told_as_an_escape(hostile: str) -> None:
    """The rest stays as it is."""
    told = printable_text(f"a{hostile}b\tü\n")

    assert told.isascii() or "ü" in told
    assert hostile not in told
    assert told.startswith("a\\")
    assert told.endswith("b\tü\n")


def test_a_line_is_one_line() -> None:
    """A text may have several."""
    assert printable_line("a\nb") == "a\\nb"
    assert printable_text("a\nb") == "a\nb"


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    """Its strings may hold anything."""
    told = printable_json(json.dumps([text], ensure_ascii=False))

    assert json.loads(told) == [text]
    assert printable_text(told) == told
